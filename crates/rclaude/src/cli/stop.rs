//! `rclaude stop`: setting a session aside without its processes.

use clap::Args;
use rclaude_types::Depth;

use super::{
    Context, Done,
    rungs::{self, Rung},
};

/// Set sessions aside: their processes end, everything else stays
///
/// The same as `pause --hibernate`. `resume` brings them back, and so does a prompt. With --json:
/// one session a line.
#[derive(Debug, Args)]
pub(crate) struct StopArgs {
    /// The sessions: id, unique start of an id, or name
    #[arg(required = true, value_name = "SESSION")]
    sessions: Vec<String>,
}

pub(crate) async fn run(args: StopArgs, cx: &mut Context) -> Done {
    rungs::each(cx, &args.sessions, Rung::Aside(Depth::Hibernate)).await
}
