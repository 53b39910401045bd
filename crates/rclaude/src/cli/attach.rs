//! `rclaude attach`: being there.

use clap::Args;
use rclaude_types::{Desired, ErrorCode, Session};

use super::{Context, Done};
use crate::{
    client::Client,
    conversation::{self, End, Plan},
    exit::{Exit, Failure},
    ui::clean_line,
};

/// Entries of the log that are shown of what was before.
const HISTORY: i64 = 300;

/// Follow a session from now on, with what was last, and talk to it
///
/// A session that was set aside is brought back. What you type is sent as a prompt; /steer TEXT says it to the turn under way, /interrupt stops
/// that turn, /quit (or Ctrl-D) leaves the session running. Ctrl-C interrupts the turn, a second
/// one leaves. With --json: events, one JSON object a line.
#[derive(Debug, Args)]
pub(crate) struct AttachArgs {
    /// The session: id, unique start of an id, or name
    session: String,
    /// Show everything from the beginning
    #[arg(long)]
    all: bool,
}

pub(crate) async fn run(args: AttachArgs, cx: &mut Context) -> Done {
    let client = cx.client().await?;
    let session = cx.session(&client, &args.session).await?;
    wake(cx, &client, &session).await?;
    let after = if args.all { 0 } else { (session.last_seq - HISTORY).max(0) };
    if after > 0 && !cx.json {
        cx.ui.note(&format!("… earlier: rclaude logs {}", session.name));
    }
    let plan =
        Plan { after, history: session.last_seq, until: None, prompts: true, own_prompt: None };
    match Box::pin(conversation::run(cx, &client, &session, plan)).await? {
        End::Deleted => Err(Failure::Failed(format!("{} was deleted", session.name))),
        End::Left | End::Turn(_) => {
            conversation::say_left(cx, &session.name);
            Ok(Exit::OK)
        }
    }
}

/// Brings a session back that was set aside. One that has used up an allowance stays where it is,
/// and can be read.
async fn wake(cx: &mut Context, client: &Client, session: &Session) -> Result<(), Failure> {
    let rung = match session.desired {
        Desired::Paused => "paused",
        Desired::Hibernated => "hibernated",
        Desired::Archived => "archived",
        Desired::Running | Desired::Deleted => return Ok(()),
    };
    let name = &session.name;
    let waking = client.session_verb(session.id.as_str(), "resume");
    match cx.ui.wait(&format!("waking {name}"), waking).await {
        Ok(_) if cx.json => {}
        Ok(_) => {
            let why =
                session.desired_reason.as_deref().map(|why| format!(" ({})", clean_line(why)));
            cx.ui.note(&format!("{name} was {rung}{}; waking it", why.unwrap_or_default()));
        }
        Err(failure @ Failure::Problem(_)) if is_spent(&failure) => {
            cx.ui.failure(&failure, cx.json);
        }
        Err(failure) => return Err(failure),
    }
    Ok(())
}

fn is_spent(failure: &Failure) -> bool {
    matches!(failure, Failure::Problem(problem) if problem.code == ErrorCode::AllowanceExhausted)
}
