//! The rungs of a session's ladder: running, paused, hibernated, archived; and how `pause`, `stop`
//! and `resume` wait until a session is where its owner wants it.

use std::time::Duration;

use rclaude_types::{Depth, Desired, PauseSession, Phase, Session, SessionStatus};

use super::{Context, Done};
use crate::{
    client::{Answer, Client},
    exit::{Exit, Failure},
};

/// How often it is looked whether a session is there yet: most ways take a few milliseconds.
const LOOK_AGAIN: Duration = Duration::from_millis(20);

/// Where sessions are wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Rung {
    /// Up.
    Awake,
    /// So far aside.
    Aside(Depth),
}

impl Rung {
    const fn desired(self) -> Desired {
        match self {
            Self::Awake => Desired::Running,
            Self::Aside(Depth::Freeze) => Desired::Paused,
            Self::Aside(Depth::Hibernate) => Desired::Hibernated,
            Self::Aside(Depth::Archive) => Desired::Archived,
        }
    }

    /// Whether a sandbox is there. What lies deeper than asked stays where it is, and where the
    /// host cannot freeze processes a pause leads one rung further.
    const fn is_reached(self, phase: Phase) -> bool {
        match self {
            Self::Awake => matches!(phase, Phase::Running),
            Self::Aside(Depth::Freeze) => {
                matches!(phase, Phase::Paused | Phase::Hibernated | Phase::Archived)
            }
            Self::Aside(Depth::Hibernate) => matches!(phase, Phase::Hibernated | Phase::Archived),
            Self::Aside(Depth::Archive) => matches!(phase, Phase::Archived),
        }
    }

    const fn doing(self) -> &'static str {
        match self {
            Self::Awake => "resuming",
            Self::Aside(Depth::Freeze) => "pausing",
            Self::Aside(Depth::Hibernate) => "stopping",
            Self::Aside(Depth::Archive) => "archiving",
        }
    }
}

/// A session that went where it was wanted.
struct Brought {
    session: Answer<Session>,
    /// It was there before.
    at_once: bool,
}

/// Brings sessions where their owner wants them, one after another, and waits until they are.
pub(super) async fn each(cx: &mut Context, sessions: &[String], rung: Rung) -> Done {
    let client = cx.client().await?;
    for reference in sessions {
        let bringing = bring(&client, reference, rung);
        let brought = cx.ui.wait(&format!("{} {reference}", rung.doing()), bringing).await?;
        let session = &brought.session;
        if is_stuck(session) {
            let why = session.failure.as_deref().unwrap_or("no reason was given");
            return Err(Failure::Failed(format!("{} failed: {why}", session.name)));
        }
        if cx.json {
            cx.ui.json(&session.raw)?;
        } else {
            cx.ui.say(&outcome(session, rung, brought.at_once));
        }
    }
    Ok(Exit::OK)
}

/// The session once it is there, or as it is when that is no longer to be expected: it failed, or
/// somebody wants something else of it.
async fn bring(client: &Client, reference: &str, rung: Rung) -> Result<Brought, Failure> {
    let mut session = match rung {
        Rung::Awake => client.session_verb(reference, "resume").await?,
        Rung::Aside(depth) => client.pause(reference, PauseSession { depth }).await?,
    };
    let at_once = rung.is_reached(session.phase);
    while session.desired == rung.desired()
        && !rung.is_reached(session.phase)
        && !is_stuck(&session)
    {
        tokio::time::sleep(LOOK_AGAIN).await;
        session = client.session(session.id.as_str()).await?;
    }
    Ok(Brought { session, at_once })
}

/// It failed for good: a machine that was lost is replaced by another.
fn is_stuck(session: &Session) -> bool {
    let replaced = matches!(session.phase, Phase::Failed(reason) if reason.is_worth_another())
        && session.desired == Desired::Running
        && session.failure.is_none();
    session.status == SessionStatus::Failed && !replaced
}

fn outcome(session: &Session, rung: Rung, at_once: bool) -> String {
    let name = &session.name;
    if session.desired != rung.desired() {
        return format!("{name} is wanted otherwise meanwhile");
    }
    match (rung, session.phase) {
        (Rung::Awake, _) => format!("resumed {name}"),
        (Rung::Aside(Depth::Freeze), Phase::Paused) => format!("paused {name}"),
        (Rung::Aside(Depth::Freeze), Phase::Archived) => format!("{name} is archived already"),
        (Rung::Aside(Depth::Freeze), _) if at_once => format!("{name} is hibernated already"),
        (Rung::Aside(Depth::Freeze), _) => format!(
            "hibernated {name}: its processes ended, as this host cannot freeze them (`rclaude \
             doctor` says why)"
        ),
        (Rung::Aside(Depth::Hibernate), Phase::Archived) => format!("{name} is archived already"),
        (Rung::Aside(Depth::Hibernate), _) => format!("stopped {name}"),
        (Rung::Aside(Depth::Archive), _) => format!("archived {name}"),
    }
}

#[cfg(test)]
mod tests {
    use rclaude_types::FailureReason;

    use super::*;
    use crate::cli::tests::session;

    #[test]
    fn a_lost_machine_is_waited_for_and_one_that_cannot_be_made_is_not() {
        let failed = |reason| Session {
            status: SessionStatus::Failed,
            phase: Phase::Failed(reason),
            ..session()
        };
        assert!(!is_stuck(&failed(FailureReason::Vanished)));
        assert!(is_stuck(&failed(FailureReason::Rejected)));
        let told =
            Session { failure: Some("no room".to_owned()), ..failed(FailureReason::Vanished) };
        assert!(is_stuck(&told) && !is_stuck(&session()));
    }

    #[test]
    fn a_pause_on_a_host_that_cannot_freeze_is_over_one_rung_further_and_says_so() {
        let freeze = Rung::Aside(Depth::Freeze);
        let at = |phase| Session { desired: Desired::Paused, phase, ..session() };
        assert!(!freeze.is_reached(Phase::Pausing) && !freeze.is_reached(Phase::Hibernating));
        assert!(freeze.is_reached(Phase::Paused) && freeze.is_reached(Phase::Hibernated));
        assert_eq!(outcome(&at(Phase::Paused), freeze, false), "paused brave-otter");
        let deeper = outcome(&at(Phase::Hibernated), freeze, false);
        assert!(deeper.contains("cannot freeze"), "{deeper}");
        let already = outcome(&at(Phase::Hibernated), freeze, true);
        assert_eq!(already, "brave-otter is hibernated already");
        let woken = Session { desired: Desired::Running, ..at(Phase::Running) };
        assert!(outcome(&woken, freeze, false).contains("otherwise"));
    }
}
