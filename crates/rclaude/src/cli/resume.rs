//! `rclaude resume`: bringing a session back.

use clap::Args;

use super::{
    Context, Done,
    rungs::{self, Rung},
};

/// Bring sessions back that were set aside
///
/// Returns once they run. With --json: one session a line.
#[derive(Debug, Args)]
pub(crate) struct ResumeArgs {
    /// The sessions: id, unique start of an id, or name
    #[arg(required = true, value_name = "SESSION")]
    sessions: Vec<String>,
}

pub(crate) async fn run(args: ResumeArgs, cx: &mut Context) -> Done {
    rungs::each(cx, &args.sessions, Rung::Awake).await
}
