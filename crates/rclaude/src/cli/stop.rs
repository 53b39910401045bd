//! `rclaude stop`: setting a session aside.

use std::time::Duration;

use clap::Args;
use rclaude_types::{Desired, Phase, Session, SessionStatus};

use super::{Context, Done};
use crate::{
    client::{Answer, Client},
    exit::{Exit, Failure},
};

/// How often it is looked whether a session is there yet: both ways take a few milliseconds.
const LOOK_AGAIN: Duration = Duration::from_millis(20);

/// Set sessions aside: their processes end, everything else stays
///
/// `resume` brings them back, and so does a prompt. With --json: one session a line.
#[derive(Debug, Args)]
pub(crate) struct StopArgs {
    /// The sessions: id, unique start of an id, or name
    #[arg(required = true, value_name = "SESSION")]
    sessions: Vec<String>,
}

pub(crate) async fn run(args: StopArgs, cx: &mut Context) -> Done {
    each(cx, &args.sessions, Desired::Hibernated).await
}

/// Brings sessions where their owner wants them, one after another, and waits until they are.
pub(super) async fn each(cx: &mut Context, sessions: &[String], desired: Desired) -> Done {
    let (verb, doing, done) = match desired {
        Desired::Hibernated => ("pause", "stopping", "stopped"),
        _ => ("resume", "resuming", "resumed"),
    };
    let client = cx.client().await?;
    for reference in sessions {
        let bringing = bring(&client, reference, verb, desired);
        let session = cx.ui.wait(&format!("{doing} {reference}"), bringing).await?;
        if session.status == SessionStatus::Failed {
            let why = session.failure.as_deref().unwrap_or("no reason was given");
            return Err(Failure::Failed(format!("{} failed: {why}", session.name)));
        }
        if cx.json {
            cx.ui.json(&session.raw)?;
        } else {
            cx.ui.say(&format!("{done} {}", session.name));
        }
    }
    Ok(Exit::OK)
}

/// The session once it is there, or as it is when that is no longer to be expected: it failed, or
/// somebody wants something else of it.
async fn bring(
    client: &Client,
    reference: &str,
    verb: &str,
    desired: Desired,
) -> Result<Answer<Session>, Failure> {
    let mut session = client.session_verb(reference, verb).await?;
    while session.desired == desired && under_way(&session) {
        tokio::time::sleep(LOOK_AGAIN).await;
        session = client.session(session.id.as_str()).await?;
    }
    Ok(session)
}

fn under_way(session: &Session) -> bool {
    let there = match session.desired {
        Desired::Hibernated => Phase::Hibernated,
        _ => Phase::Running,
    };
    session.phase != there && session.status != SessionStatus::Failed
}
