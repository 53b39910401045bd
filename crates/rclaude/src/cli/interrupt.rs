//! `rclaude interrupt`: stopping the turn under way.

use clap::Args;
use rclaude_types::TurnState;

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
    // Looked at before, to say what was stopped; the server decides whether there is anything.
    let before = cx.session(&client, &args.session).await?;
    let asking = client.session_verb(before.id.as_str(), "interrupt");
    let session = cx.ui.wait("interrupting the turn", asking).await?;
    if cx.json {
        cx.ui.json(&session.raw)?;
    } else if before.current_turn.is_some_and(|turn| turn.state != TurnState::Queued) {
        cx.ui.say(&format!("interrupted {}", session.name));
    } else {
        cx.ui.say(&format!("nothing is under way in {}", session.name));
    }
    Ok(Exit::OK)
}
