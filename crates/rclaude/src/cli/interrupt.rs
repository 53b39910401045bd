//! `rclaude interrupt`: stopping the turn under way.

use clap::Args;

use super::{Context, Done};
use crate::exit::Exit;

/// Stop the turn under way; nothing to stop is fine
///
/// With --json: the session.
#[derive(Debug, Args)]
pub(crate) struct InterruptArgs {
    /// The session: id, unique start of an id, or name
    session: String,
}

pub(crate) async fn run(args: InterruptArgs, cx: &mut Context) -> Done {
    let client = cx.client().await?;
    let asking = client.session_verb(&args.session, "interrupt");
    let session = cx.ui.wait("interrupting the turn", asking).await?;
    if cx.json {
        cx.ui.json(&session.raw)?;
    } else {
        cx.ui.say(&format!("interrupted {}", session.name));
    }
    Ok(Exit::OK)
}
