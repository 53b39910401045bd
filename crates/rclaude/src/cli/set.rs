//! `rclaude set`: changing a session.

use clap::Args;
use rclaude_types::{PermissionMode, UpdateSession};

use super::{
    Context, Done,
    life::{self, LifeOptions},
};
use crate::{
    exit::{Exit, Failure},
    values,
};

/// Change a session: its name, model, permission mode, and when it is set aside
///
/// What is not named stays as it is. A --keep-alive begins anew with every change of a rule. With
/// --json: the session.
#[derive(Debug, Args)]
pub(crate) struct SetArgs {
    /// The session: id, unique start of an id, or name
    session: String,
    /// Call it so
    #[arg(long, value_parser = values::session_name)]
    name: Option<String>,
    /// The model, in the agent's words, from the next request on
    #[arg(long)]
    model: Option<String>,
    /// What the agent may do without asking, at once: default, acceptEdits, bypassPermissions,
    /// plan or dontAsk
    #[arg(long, value_name = "MODE", value_parser = values::permission_mode)]
    permission_mode: Option<PermissionMode>,
    #[command(flatten)]
    life: LifeOptions,
}

pub(crate) async fn run(args: SetArgs, cx: &mut Context) -> Done {
    let SetArgs { session: reference, name, model, permission_mode, life: said } = args;
    if name.is_none() && model.is_none() && permission_mode.is_none() && said.is_empty() {
        let why = "there is nothing to change; `rclaude set --help` lists what can be";
        return Err(Failure::Usage(why.to_owned()));
    }
    let client = cx.client().await?;
    // The API replaces a policy as a whole.
    let before = cx.session(&client, &reference).await?;
    let life = (!said.is_empty()).then(|| said.over(before.life));
    let change = UpdateSession { name, model, permission_mode, life };
    let changing = client.update_session(before.id.as_str(), &change);
    let session = cx.ui.wait("changing the session", changing).await?;
    if cx.json {
        cx.ui.json(&session.raw)?;
    } else {
        let rules = life::words(&session.life);
        let rules = if change.life.is_none() || rules.is_empty() {
            String::new()
        } else {
            format!(": {rules}")
        };
        cx.ui.say(&format!("{} is changed{rules}", session.name));
    }
    Ok(Exit::OK)
}
