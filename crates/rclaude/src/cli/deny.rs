//! `rclaude deny`: no to what the agent asks.

use clap::Args;
use rclaude_types::{ApprovalId, Decision};

use super::{Context, Done, approve};

/// Deny what the agent asks
///
/// Without ID: the oldest that waits. With --json: the approval as it is then.
#[derive(Debug, Args)]
pub(crate) struct DenyArgs {
    /// The session: id, unique start of an id, or name
    session: String,
    /// Which of its approvals [default: the oldest that waits]
    #[arg(value_parser = clap::value_parser!(ApprovalId))]
    id: Option<ApprovalId>,
    /// What the agent is told
    #[arg(long, short)]
    message: Option<String>,
    /// Stop the turn as well
    #[arg(long)]
    interrupt: bool,
}

pub(crate) async fn run(args: DenyArgs, cx: &mut Context) -> Done {
    let client = cx.client().await?;
    let id = match args.id {
        Some(id) => id,
        None => approve::choose(cx, &client, &args.session, None).await?.id,
    };
    let decision = Decision::Deny { message: args.message, interrupt: args.interrupt };
    approve::decide(cx, &client, &args.session, &id, &decision, "denied").await
}
