//! `rclaude stop`: setting a session aside.

use clap::Args;

use super::{Context, Done};
use crate::exit::Exit;

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
    each(cx, &args.sessions, "pause", "stopping", "stopped").await
}

/// Does a verb to sessions, one after another.
pub(super) async fn each(
    cx: &mut Context,
    sessions: &[String],
    verb: &str,
    doing: &str,
    done: &str,
) -> Done {
    let client = cx.client().await?;
    for reference in sessions {
        let asking = client.session_verb(reference, verb);
        let session = cx.ui.wait(&format!("{doing} {reference}"), asking).await?;
        if cx.json {
            cx.ui.json(&session.raw)?;
        } else {
            cx.ui.say(&format!("{done} {}", session.name));
        }
    }
    Ok(Exit::OK)
}
