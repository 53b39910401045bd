//! `rclaude start`: a session that waits for a prompt.

use clap::Args;

use super::{Context, Done, options::SessionOptions};
use crate::exit::Exit;

/// Make a session without a prompt
///
/// Prints its name; with --json the session.
#[derive(Debug, Args)]
pub(crate) struct StartArgs {
    #[command(flatten)]
    options: SessionOptions,
}

pub(crate) async fn run(args: StartArgs, cx: &mut Context) -> Done {
    let client = cx.client().await?;
    let request = args.options.request(cx, None).await?;
    let making = client.create_session(&request);
    let session = cx.ui.wait("making the session", making).await?;
    if cx.json {
        cx.ui.json(&session.raw)?;
    } else {
        cx.ui.print(&session.name)?;
        let name = &session.name;
        cx.ui.note(&format!(
            "next: rclaude send {name} '…' · rclaude exec {name} -- ls · rclaude attach {name}"
        ));
    }
    Ok(Exit::OK)
}
