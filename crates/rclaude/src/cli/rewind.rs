//! `rclaude rewind`: taking a session back.

use clap::Args;
use rclaude_types::{Rewind, RewindScope};

use super::{Context, Done, checkpoints};
use crate::{exit::Exit, ui::short_id};

/// Take a session back to an earlier state: files and conversation
///
/// A turn under way ends as interrupted. The state before is kept as a checkpoint, so that a
/// rewind can be undone. The log stays whole, and so does the bill. With --json: the checkpoint of
/// the state before.
#[derive(Debug, Args)]
pub(crate) struct RewindArgs {
    /// The session: id, unique start of an id, or name
    session: String,
    /// To this checkpoint: its id, or the unique start of it
    #[arg(long, value_name = "CHECKPOINT")]
    to: Option<String>,
    /// To before the last so many turns [default: 1]
    #[arg(long, value_name = "N", conflicts_with = "to", value_parser = clap::value_parser!(u32).range(1..=10_000))]
    turns: Option<u32>,
    /// Take back files alone: the agent remembers all that was said
    #[arg(long)]
    files: bool,
    /// Take back the conversation alone: files stay as they are
    #[arg(long, conflicts_with = "files")]
    conversation: bool,
}

pub(crate) async fn run(args: RewindArgs, cx: &mut Context) -> Done {
    let client = cx.client().await?;
    let reference = &args.session;
    let to = match &args.to {
        Some(to) => {
            let asking = checkpoints::resolve(&client, reference, to);
            Some(cx.ui.wait("looking for the checkpoint", asking).await?)
        }
        None => None,
    };
    let (scope, what, flag) = match (args.files, args.conversation) {
        (true, _) => (RewindScope::Files, "files", " --files"),
        (_, true) => (RewindScope::Conversation, "conversation", " --conversation"),
        _ => (RewindScope::All, "files and conversation", ""),
    };
    let back = match (&to, args.turns.unwrap_or(1)) {
        (Some(to), _) => format!("to {}", short_id(to)),
        (None, 1) => "to before the last turn".to_owned(),
        (None, turns) => format!("to before the last {turns} turns"),
    };
    let request = Rewind { to, turns: args.turns, scope };
    let rewinding = client.rewind(reference, &request);
    let before = cx.ui.wait(&format!("taking {reference} back"), rewinding).await?;
    if cx.json {
        cx.ui.json(&before.raw)?;
    } else {
        cx.ui.say(&format!("{what} of {reference} taken back {back}"));
        let before = short_id(&before.id);
        cx.ui.note(&format!("undo: rclaude rewind {reference} --to {before}{flag}"));
    }
    Ok(Exit::OK)
}
