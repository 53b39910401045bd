//! `rclaude checkpoint`: keeping a session's state.

use clap::Args;
use rclaude_types::CreateCheckpoint;

use super::{Context, Done};
use crate::{exit::Exit, ui::bytes};

/// Keep a session's whole state as it is now: files, conversation, environment
///
/// Prints the checkpoint's id; `rewind` and `fork` go back to it. What somebody asked for by hand
/// is kept until the session is removed. With --json: the checkpoint.
#[derive(Debug, Args)]
pub(crate) struct CheckpointArgs {
    /// The session: id, unique start of an id, or name
    session: String,
    /// Words to find it by
    #[arg(long, short = 'm', visible_alias = "message", value_name = "TEXT")]
    note: Option<String>,
}

pub(crate) async fn run(args: CheckpointArgs, cx: &mut Context) -> Done {
    let client = cx.client().await?;
    let request = CreateCheckpoint { note: args.note };
    let making = client.create_checkpoint(&args.session, &request);
    let made = cx.ui.wait(&format!("keeping {}", args.session), making).await?;
    if cx.json {
        cx.ui.json(&made.raw)?;
        return Ok(Exit::OK);
    }
    cx.ui.print(made.id.as_str())?;
    let still = made.frozen_micros.div_ceil(1_000);
    cx.ui.note(&format!("{} kept; processes stood still for {still} ms", bytes(made.bytes)));
    Ok(Exit::OK)
}
