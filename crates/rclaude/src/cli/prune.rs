//! `rclaude prune`: giving room back.

use std::time::Duration;

use clap::Args;
use rclaude_types::Prune;

use super::{Context, Done};
use crate::{exit::Exit, ui::bytes, values};

/// Drop old automatic checkpoints, and what nothing needs any more
///
/// A session's newest checkpoint stays, and so does what somebody asked for by hand. What is in
/// the snapshot store gives its room back within a day or two. With --json: what was dropped.
#[derive(Debug, Args)]
pub(crate) struct PruneArgs {
    /// Automatic checkpoints older than this go [default: 30d]
    #[arg(long, value_name = "TIME", value_parser = values::duration)]
    older_than: Option<Duration>,
    /// Say what would go, and drop nothing
    #[arg(long)]
    dry_run: bool,
}

pub(crate) async fn run(args: PruneArgs, cx: &mut Context) -> Done {
    let client = cx.client().await?;
    let request = Prune {
        older_than_seconds: args.older_than.map(|age| age.as_secs()),
        dry_run: args.dry_run,
    };
    let pruned = cx.ui.wait("pruning", client.prune(&request)).await?;
    if cx.json {
        cx.ui.json(&pruned.raw)?;
        return Ok(Exit::OK);
    }
    let verb = if pruned.dry_run { "would drop" } else { "dropped" };
    cx.ui.print(&format!(
        "{verb} {} checkpoints; {} layers, {} on this disk; {} in the snapshot store",
        pruned.checkpoints,
        pruned.layers,
        bytes(pruned.bytes),
        bytes(pruned.snapshot_bytes)
    ))?;
    Ok(Exit::OK)
}
