//! What the owner wants, where the sandbox is, and what callers see: three different things.

use serde::{Deserialize, Serialize};

/// What the owner asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub enum Desired {
    /// Keep it running.
    Running,
    /// Set it aside with its memory, where the host can.
    Paused,
    /// Set it aside with its files alone.
    Hibernated,
    /// Keep it in the snapshot store alone.
    Archived,
    /// End it.
    Deleted,
}

/// Where the sandbox is. Stored; labels are append-only.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub enum Phase {
    /// Named by us; the provider has not confirmed it.
    Pending,
    /// The provider is bringing it up.
    Starting,
    /// Up, and its daemon answered the handshake.
    Running,
    /// A pause was asked for.
    Pausing,
    /// Set aside with its memory: its processes stand still.
    Paused,
    /// The end of its processes was asked for.
    Hibernating,
    /// Set aside with its disk alone.
    Hibernated,
    /// All of it lies in the snapshot store; its disk is on its way out.
    Archiving,
    /// All of it lies in the snapshot store and nowhere else. Another incarnation follows when it
    /// is wanted.
    Archived,
    /// A resume was asked for.
    Resuming,
    /// A destroy was asked for.
    Destroying,
    /// Gone on purpose. Terminal.
    Destroyed,
    /// Gone or unusable, not on purpose. A new incarnation may follow.
    Failed(FailureReason),
}

/// Why a sandbox failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub enum FailureReason {
    /// The provider refused to make it.
    Rejected,
    /// It was there and is no longer.
    Vanished,
    /// It is up but its daemon does not answer.
    AgentUnreachable,
}

impl Phase {
    /// Every phase, and every way to fail.
    pub const ALL: [Self; 15] = [
        Self::Pending,
        Self::Starting,
        Self::Running,
        Self::Pausing,
        Self::Paused,
        Self::Hibernating,
        Self::Hibernated,
        Self::Archiving,
        Self::Archived,
        Self::Resuming,
        Self::Destroying,
        Self::Destroyed,
        Self::Failed(FailureReason::Rejected),
        Self::Failed(FailureReason::Vanished),
        Self::Failed(FailureReason::AgentUnreachable),
    ];

    /// No step leads out of a terminal phase.
    pub const fn is_terminal(self) -> bool {
        matches!(self, Self::Destroyed)
    }

    /// Whether the provider may be charging for it.
    pub const fn may_exist(self) -> bool {
        !matches!(self, Self::Destroyed)
    }

    /// The transition table. The store refuses a write that is not in it.
    pub const fn can_become(self, next: Self) -> bool {
        use Phase::{
            Archived, Archiving, Destroyed, Destroying, Failed, Hibernated, Hibernating, Paused,
            Pausing, Pending, Resuming, Running, Starting,
        };
        #[expect(clippy::unnested_or_patterns, reason = "one line for each phase left")]
        match (self, next) {
            (Destroyed, _) => false,
            (_, Destroying) => !matches!(self, Destroying),
            (Pending, Starting)
            | (Starting | Resuming, Running | Paused | Hibernated)
            | (Running, Pausing | Paused | Hibernating | Hibernated)
            | (Pausing, Paused | Running | Hibernated)
            | (Paused, Resuming | Hibernating | Hibernated)
            | (Hibernating, Hibernated)
            | (Hibernated, Resuming | Archiving)
            | (Archiving, Archived)
            | (Destroying, Destroyed)
            | (
                Pending | Starting | Running | Pausing | Paused | Hibernating | Hibernated
                | Resuming,
                Failed(_),
            ) => true,
            _ => false,
        }
    }
}

impl FailureReason {
    /// Whether a new incarnation may fare better; a refused request would be refused again.
    pub const fn is_worth_another(self) -> bool {
        !matches!(self, Self::Rejected)
    }
}

/// Counts writes to one row; a write names the generation it read.
#[derive(
    Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(transparent)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Generation(pub i64);

/// Where a turn is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub enum TurnState {
    /// Waiting for the sandbox, or for the turn before it.
    Queued,
    /// The agent is at work.
    Running,
    /// The agent asked something and waits for its user.
    AwaitingInput,
    /// Over; see the outcome.
    Ended,
}

/// What API callers see. Computed, never stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub enum SessionStatus {
    /// Being brought up.
    Starting,
    /// Up, nothing to do.
    Idle,
    /// A turn is under way.
    Working,
    /// The agent waits for its user.
    AwaitingInput,
    /// Set aside with its memory, or about to be.
    Paused,
    /// Set aside with its files alone, or about to be.
    Hibernated,
    /// In the snapshot store alone, or about to be.
    Archived,
    /// It broke; see the reason.
    Failed,
    /// Being ended, or ended.
    Deleted,
}

#[cfg(test)]
mod tests {
    use super::*;

    const PHASES: [Phase; 15] = Phase::ALL;

    #[test]
    fn the_transition_table_is_this_one() {
        use Phase::{
            Archived, Archiving, Destroyed, Destroying, Hibernated, Hibernating, Paused, Pausing,
            Pending, Resuming, Running, Starting,
        };
        let moves =
            |from: Phase| PHASES.into_iter().filter(|to| from.can_become(*to)).collect::<Vec<_>>();
        let failures = &PHASES[12..];
        let with_failures = |plain: &[Phase]| [plain, failures].concat();
        assert_eq!(moves(Pending), with_failures(&[Starting, Destroying]));
        let up = [Running, Paused, Hibernated, Destroying];
        assert_eq!(moves(Starting), with_failures(&up));
        assert_eq!(
            moves(Running),
            with_failures(&[Pausing, Paused, Hibernating, Hibernated, Destroying])
        );
        assert_eq!(moves(Pausing), with_failures(&[Running, Paused, Hibernated, Destroying]));
        assert_eq!(moves(Paused), with_failures(&[Hibernating, Hibernated, Resuming, Destroying]));
        assert_eq!(moves(Hibernating), with_failures(&[Hibernated, Destroying]));
        assert_eq!(moves(Hibernated), with_failures(&[Archiving, Resuming, Destroying]));
        assert_eq!(moves(Archiving), [Archived, Destroying]);
        assert_eq!(moves(Archived), [Destroying]);
        assert_eq!(moves(Resuming), with_failures(&up));
        assert_eq!(moves(Destroying), [Destroyed]);
        assert_eq!(moves(Destroyed), []);
        for failed in failures {
            assert_eq!(moves(*failed), [Destroying]);
        }
    }

    #[test]
    fn nothing_leaves_a_terminal_phase_and_all_else_can_be_destroyed() {
        for phase in PHASES {
            assert_eq!(phase.is_terminal(), PHASES.iter().all(|next| !phase.can_become(*next)));
            if phase.may_exist() && phase != Phase::Destroying {
                assert!(phase.can_become(Phase::Destroying), "{phase:?} cannot be destroyed");
            }
        }
    }
}
