//! The lifecycle of a session's sandbox, as pure functions over plain values.
//!
//! Three things are kept apart: what the owner wants ([`Desired`]), where the sandbox is
//! ([`Phase`]), and what API callers are shown ([`SessionStatus`]). The session's actor is the
//! only writer of the phase. It asks [`next_step`] what to do, does it, and writes the new phase
//! with a compare-and-set on the row's generation. Starting, restarting after a crash and
//! recovering at boot all take this one path.

use rclaude_sandbox::provider::{Kept, Observed};
use rclaude_types::{Desired, FailureReason, Phase, SessionStatus, TurnState};

/// One thing for the actor to do. Each is idempotent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// Ask the provider for the sandbox (adopts one already made).
    Create,
    /// Dial the daemon and shake hands.
    Connect,
    /// Ask the provider to let its processes stand still.
    Freeze,
    /// Ask the provider to end its processes.
    Hibernate,
    /// Bring all of it into the snapshot store.
    Archive,
    /// Ask the provider to remove the disk of one that lies in the snapshot store.
    Clear,
    /// Ask the provider to bring it back.
    Resume,
    /// Ask the provider to end it.
    Destroy,
    /// Add a `Pending` row under a new sandbox id that begins with the newest state there is, and
    /// mark this one for destruction.
    Reincarnate,
    /// Nothing: desired and actual agree.
    Settled,
}

/// What the host lets a session's sandbox be: the rungs of the ladder that exist.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ladder {
    /// What a pause can keep; `None` where there is none.
    pub pause: Option<Kept>,
    /// Whether there is a snapshot store and states can be kept in it.
    pub archive: bool,
}

impl Ladder {
    /// The nearest thing to a wish that exists here.
    const fn nearest(self, desired: Desired) -> Desired {
        match (desired, self.pause) {
            (Desired::Paused | Desired::Hibernated | Desired::Archived, None) => Desired::Running,
            (Desired::Paused, Some(Kept::Disk)) => Desired::Hibernated,
            (Desired::Archived, _) if !self.archive => Desired::Hibernated,
            (as_it_is, _) => as_it_is,
        }
    }
}

/// The one decision: given what is wanted, where it is and what the host can do, what comes next.
///
/// A deeper rung is reached over the ones above it; what is deeper than asked stays there until it
/// is wanted running.
pub const fn next_step(desired: Desired, phase: Phase, can: Ladder) -> Step {
    match (can.nearest(desired), phase) {
        (_, Phase::Destroyed) => Step::Settled,
        (Desired::Deleted, _) | (_, Phase::Destroying) => Step::Destroy,
        (_, Phase::Pending) => Step::Create,
        (_, Phase::Starting) => Step::Connect,
        (_, Phase::Pausing) | (Desired::Paused, Phase::Running) => Step::Freeze,
        (_, Phase::Hibernating)
        | (Desired::Hibernated | Desired::Archived, Phase::Running | Phase::Paused) => {
            Step::Hibernate
        }
        (_, Phase::Archiving) => Step::Clear,
        (Desired::Archived, Phase::Hibernated) => Step::Archive,
        (_, Phase::Resuming) | (Desired::Running, Phase::Paused | Phase::Hibernated) => {
            Step::Resume
        }
        (Desired::Running, Phase::Archived) => Step::Reincarnate,
        (Desired::Running, Phase::Failed(reason)) if reason.is_worth_another() => Step::Reincarnate,
        (Desired::Running | Desired::Paused | Desired::Hibernated | Desired::Archived, _) => {
            Step::Settled
        }
    }
}

/// What a fresh look at the provider means for a phase.
///
/// A running sandbox found stopped (its daemon was killed, the host rebooted) is `Hibernated`
/// where it can be resumed and lost where it cannot; one found frozen is `Paused` (a crash came
/// between its freeze and what was to follow).
#[must_use]
pub const fn observe(phase: Phase, seen: Observed, can: Ladder) -> Phase {
    match (phase, seen) {
        (Phase::Destroying, Observed::Absent) => Phase::Destroyed,
        (
            Phase::Starting
            | Phase::Running
            | Phase::Pausing
            | Phase::Paused
            | Phase::Hibernating
            | Phase::Hibernated
            | Phase::Resuming,
            Observed::Absent,
        ) => Phase::Failed(FailureReason::Vanished),
        (Phase::Starting | Phase::Running | Phase::Pausing | Phase::Resuming, Observed::Paused)
            if can.pause.is_some() =>
        {
            Phase::Paused
        }
        (
            Phase::Starting
            | Phase::Running
            | Phase::Pausing
            | Phase::Paused
            | Phase::Hibernating
            | Phase::Resuming,
            Observed::Stopped,
        ) => {
            if can.pause.is_some() {
                Phase::Hibernated
            } else {
                Phase::Failed(FailureReason::Vanished)
            }
        }
        (unchanged, _) => unchanged,
    }
}

/// The status shown for a session: the only place that computes it.
pub const fn status(desired: Desired, phase: Phase, turn: Option<TurnState>) -> SessionStatus {
    match (desired, phase, turn) {
        (Desired::Deleted, ..) | (_, Phase::Destroying | Phase::Destroyed, _) => {
            SessionStatus::Deleted
        }
        (_, Phase::Failed(_), _) => SessionStatus::Failed,
        // On its way up, though it has not left where it was.
        (Desired::Running, Phase::Paused | Phase::Hibernated | Phase::Archived, Some(_)) => {
            SessionStatus::Starting
        }
        (_, Phase::Pausing | Phase::Paused, _) => SessionStatus::Paused,
        (_, Phase::Hibernating | Phase::Hibernated, _) => SessionStatus::Hibernated,
        (_, Phase::Archiving | Phase::Archived, _) => SessionStatus::Archived,
        (_, Phase::Pending | Phase::Starting | Phase::Resuming, _) => SessionStatus::Starting,
        (_, Phase::Running, Some(TurnState::AwaitingInput)) => SessionStatus::AwaitingInput,
        (_, Phase::Running, Some(TurnState::Queued | TurnState::Running)) => SessionStatus::Working,
        (_, Phase::Running, Some(TurnState::Ended) | None) => SessionStatus::Idle,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DESIRED: [Desired; 5] = [
        Desired::Running,
        Desired::Paused,
        Desired::Hibernated,
        Desired::Archived,
        Desired::Deleted,
    ];
    const SEEN: [Observed; 5] = [
        Observed::Starting,
        Observed::Running,
        Observed::Paused,
        Observed::Stopped,
        Observed::Absent,
    ];
    const WHOLE: Ladder = Ladder { pause: Some(Kept::Memory), archive: true };
    const WITHOUT_FREEZER: Ladder = Ladder { pause: Some(Kept::Disk), archive: true };
    const WITHOUT_STORE: Ladder = Ladder { pause: Some(Kept::Memory), archive: false };
    const NONE: Ladder = Ladder { pause: None, archive: false };
    const LADDERS: [Ladder; 4] = [WHOLE, WITHOUT_FREEZER, WITHOUT_STORE, NONE];

    /// The phases a step passes through when it succeeds, as the actor writes them.
    fn perform(phase: Phase, step: Step) -> Vec<Phase> {
        let path: &[Phase] = match step {
            Step::Create => &[Phase::Starting],
            Step::Connect => &[Phase::Running],
            Step::Freeze => &[Phase::Pausing, Phase::Paused],
            Step::Hibernate => &[Phase::Hibernating, Phase::Hibernated],
            Step::Archive => &[Phase::Archiving],
            Step::Clear => &[Phase::Archived],
            Step::Resume => &[Phase::Resuming, Phase::Running],
            Step::Destroy => &[Phase::Destroying, Phase::Destroyed],
            Step::Reincarnate => &[Phase::Pending],
            Step::Settled => &[],
        };
        path.iter().copied().filter(|p| *p != phase).collect()
    }

    fn settle(desired: Desired, mut phase: Phase, can: Ladder) -> (Phase, usize) {
        for steps in 0..8 {
            let step = next_step(desired, phase, can);
            if step == Step::Settled {
                return (phase, steps);
            }
            for next in perform(phase, step) {
                let new_incarnation = step == Step::Reincarnate;
                assert!(
                    new_incarnation || phase.can_become(next),
                    "{step:?} moves {phase:?} to {next:?}, which the table forbids"
                );
                phase = next;
            }
        }
        panic!("{desired:?} from {phase:?} never settles");
    }

    /// How deep a session in this phase is set aside.
    fn depth(phase: Phase) -> Option<u8> {
        match phase {
            Phase::Running => Some(0),
            Phase::Paused => Some(1),
            Phase::Hibernated => Some(2),
            Phase::Archived => Some(3),
            _ => None,
        }
    }

    #[test]
    fn every_start_settles_on_the_wanted_rung_or_the_deeper_one_it_is_on() {
        for (desired, start) in DESIRED.into_iter().flat_map(|d| Phase::ALL.map(|p| (d, p))) {
            let (end, steps) = settle(desired, start, WHOLE);
            assert!(steps <= 5, "{desired:?} from {start:?} took {steps} steps");
            let wanted = match desired {
                Desired::Running => 0,
                Desired::Paused => 1,
                Desired::Hibernated => 2,
                Desired::Archived => 3,
                Desired::Deleted => {
                    assert_eq!(end, Phase::Destroyed, "from {start:?}");
                    continue;
                }
            };
            match start {
                Phase::Destroyed | Phase::Destroying => assert_eq!(end, Phase::Destroyed),
                Phase::Failed(reason) => {
                    let revived = desired == Desired::Running && reason.is_worth_another();
                    assert_eq!(end, if revived { Phase::Running } else { start });
                }
                _ if wanted == 0 => assert_eq!(end, Phase::Running, "from {start:?}"),
                _ => {
                    let end = depth(end).expect("one of the ladder's rungs");
                    assert!(end >= wanted, "{desired:?} from {start:?} ended at {end}");
                    let deeper = matches!(
                        start,
                        Phase::Hibernating | Phase::Hibernated | Phase::Archiving | Phase::Archived
                    );
                    assert!(end == wanted || deeper, "{desired:?} from {start:?} went too deep");
                }
            }
        }
    }

    #[test]
    fn a_rung_that_the_host_does_not_have_gives_way_to_the_nearest_it_has() {
        let end = |desired, can| settle(desired, Phase::Running, can).0;
        assert_eq!(end(Desired::Paused, WITHOUT_FREEZER), Phase::Hibernated);
        assert_eq!(end(Desired::Archived, WITHOUT_FREEZER), Phase::Archived);
        assert_eq!(end(Desired::Archived, WITHOUT_STORE), Phase::Hibernated);
        for desired in [Desired::Paused, Desired::Hibernated, Desired::Archived] {
            assert_eq!(end(desired, NONE), Phase::Running);
        }
    }

    #[test]
    fn every_step_on_every_host_is_a_move_the_table_allows() {
        for can in LADDERS {
            for (desired, start) in DESIRED.into_iter().flat_map(|d| Phase::ALL.map(|p| (d, p))) {
                settle(desired, start, can);
            }
        }
    }

    #[test]
    fn a_sandbox_stopped_behind_our_back_is_resumed_or_replaced() {
        for phase in [Phase::Running, Phase::Starting, Phase::Resuming, Phase::Paused] {
            let resumable = observe(phase, Observed::Stopped, WHOLE);
            assert_eq!(next_step(Desired::Running, resumable, WHOLE), Step::Resume);
            let lost = observe(phase, Observed::Stopped, NONE);
            assert_eq!(next_step(Desired::Running, lost, NONE), Step::Reincarnate);
        }
    }

    #[test]
    fn a_crash_while_a_state_was_kept_leaves_a_frozen_sandbox_that_goes_on() {
        let found = observe(Phase::Running, Observed::Paused, WHOLE);
        assert_eq!(next_step(Desired::Running, found, WHOLE), Step::Resume);
    }

    #[test]
    fn what_is_observed_is_a_move_the_table_allows() {
        for can in LADDERS {
            for phase in Phase::ALL {
                for seen in SEEN {
                    let next = observe(phase, seen, can);
                    assert!(next == phase || phase.can_become(next), "{phase:?} saw {seen:?}");
                }
            }
        }
    }

    #[test]
    fn a_disk_in_the_snapshot_store_is_not_missed() {
        for phase in [Phase::Archiving, Phase::Archived] {
            assert_eq!(observe(phase, Observed::Absent, WHOLE), phase);
        }
    }

    #[test]
    fn a_session_woken_by_a_prompt_shows_that_it_starts() {
        for rung in [Phase::Paused, Phase::Hibernated, Phase::Archived] {
            let woken = status(Desired::Running, rung, Some(TurnState::Queued));
            assert_eq!(woken, SessionStatus::Starting);
        }
    }
}
