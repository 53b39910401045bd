//! `rclaude rm`: ending a session for good.

use clap::Args;

use super::{Context, Done};
use crate::exit::{Exit, Failure};

/// End sessions and remove their files
///
/// There is no way back, so it asks first; without a terminal it wants --force. With --json
/// nothing is printed.
#[derive(Debug, Args)]
pub(crate) struct RmArgs {
    /// Do not ask
    #[arg(long, short)]
    force: bool,
    /// The sessions: id, unique start of an id, or name
    #[arg(required = true, value_name = "SESSION")]
    sessions: Vec<String>,
}

pub(crate) async fn run(args: RmArgs, cx: &mut Context) -> Done {
    if !args.force && !cx.ui.can_ask() {
        return Err(Failure::Usage("nobody can be asked here: say --force to mean it".to_owned()));
    }
    let client = cx.client().await?;
    for reference in &args.sessions {
        // What is asked about is what is removed, even where a name changes hands meanwhile.
        let session = cx.session(&client, reference).await?;
        let name = &session.name;
        let question = format!("Remove {name} with its files and its conversation?");
        if !args.force && !cx.ui.confirm(&question, false).await {
            cx.ui.say(&format!("kept {name}"));
            continue;
        }
        let removing = client.delete_session(session.id.as_str());
        cx.ui.wait(&format!("removing {name}"), removing).await?;
        if !cx.json {
            cx.ui.say(&format!("removed {name}"));
        }
    }
    Ok(Exit::OK)
}
