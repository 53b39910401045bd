//! `rclaude attach`: being there.

use clap::Args;

use super::{Context, Done};
use crate::{
    conversation::{self, End, Plan},
    exit::{Exit, Failure},
};

/// Entries of the log that are shown of what was before.
const HISTORY: i64 = 300;

/// Follow a session from now on, with what was last, and talk to it
///
/// What you type is sent as a prompt; /steer TEXT says it to the turn under way, /interrupt stops
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
