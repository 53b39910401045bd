//! `rclaude resume`: bringing a session back.

use clap::Args;
use rclaude_types::Desired;

use super::{Context, Done, stop};

/// Bring sessions back that were set aside
///
/// With --json: one session a line.
#[derive(Debug, Args)]
pub(crate) struct ResumeArgs {
    /// The sessions: id, unique start of an id, or name
    #[arg(required = true, value_name = "SESSION")]
    sessions: Vec<String>,
}

pub(crate) async fn run(args: ResumeArgs, cx: &mut Context) -> Done {
    stop::each(cx, &args.sessions, Desired::Running).await
}
