//! `rclaude pause`: setting a session aside with its memory.

use clap::Args;
use rclaude_types::Depth;

use super::{
    Context, Done,
    rungs::{self, Rung},
};

/// Set sessions aside: their processes stand still and go on where they were
///
/// Where this is not possible on the server's host their processes end, as with --hibernate.
/// `resume` brings sessions back, and so does a prompt. Returns once they are there. With --json:
/// one session a line.
#[derive(Debug, Args)]
pub(crate) struct PauseArgs {
    /// The sessions: id, unique start of an id, or name
    #[arg(required = true, value_name = "SESSION")]
    sessions: Vec<String>,
    /// End their processes and keep files, conversation and environment
    #[arg(long)]
    hibernate: bool,
    /// Move all of them into the snapshot store, and nothing stays on the machine's disk
    #[arg(long, conflicts_with = "hibernate")]
    archive: bool,
}

pub(crate) async fn run(args: PauseArgs, cx: &mut Context) -> Done {
    let depth = match (args.hibernate, args.archive) {
        (true, _) => Depth::Hibernate,
        (_, true) => Depth::Archive,
        _ => Depth::Freeze,
    };
    rungs::each(cx, &args.sessions, Rung::Aside(depth)).await
}
