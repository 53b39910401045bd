//! `rclaude du`: what sessions take up.

use clap::Args;
use rclaude_types::DiskUse;

use super::{Context, Done};
use crate::{
    exit::Exit,
    ui::{Paint, bytes, clean_line, table},
};

/// Show what sessions take up on disk
///
/// Checkpoints are counted where no other session shares them. With --json: the API's answer.
#[derive(Debug, Args)]
pub(crate) struct DuArgs {}

pub(crate) async fn run(_: DuArgs, cx: &mut Context) -> Done {
    let client = cx.client().await?;
    let used = cx.ui.wait("adding up", client.disk_use()).await?;
    if cx.json {
        cx.ui.json(&used.raw)?;
        return Ok(Exit::OK);
    }
    let text = render(cx.ui.out(), &used);
    cx.ui.print(&text)?;
    Ok(Exit::OK)
}

fn render(paint: Paint, used: &DiskUse) -> String {
    let rows: Vec<_> = used
        .sessions
        .iter()
        .map(|session| {
            [
                clean_line(&session.name),
                bytes(session.disk),
                bytes(session.checkpoints),
                session.checkpoint_count.to_string(),
            ]
        })
        .collect();
    let sessions = table(paint, ["SESSION", "DISK", "CHECKPOINTS", "COUNT"], &rows);
    let totals = [
        ("layers", used.layers),
        ("repositories", used.repositories),
        ("snapshots", used.snapshots),
        ("database", used.database),
        ("free", used.free),
    ]
    .map(|(name, count)| format!("{name:<14}{}", bytes(count)))
    .join("\n");
    format!("{sessions}\n\n{totals}")
}
