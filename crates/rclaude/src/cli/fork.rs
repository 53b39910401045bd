//! `rclaude fork`: other sessions of one session's state.

use clap::Args;
use rclaude_types::{CreateTurn, Fork, Session};

use super::{Context, Done, checkpoints, run};
use crate::{
    client::{Answer, read},
    conversation::Plan,
    exit::Exit,
    ui::short_id,
    values,
};

/// Make sessions of a session's state: each has its files, conversation and environment
///
/// Prints their names; with --prompt and a single fork, follows it until the turn is over, as
/// `run` does. With --json: the sessions, one a line, then what is followed.
#[derive(Debug, Args)]
pub(crate) struct ForkArgs {
    /// The session: id, unique start of an id, or name
    session: String,
    /// Of this checkpoint: its id, or the unique start of it [default: the present state]
    #[arg(long, value_name = "CHECKPOINT")]
    at: Option<String>,
    /// How many
    #[arg(long, short = 'n', value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=100))]
    count: u32,
    /// The first prompt of each; `-` reads it from standard input
    #[arg(long, value_name = "PROMPT")]
    prompt: Option<String>,
    /// Another model, in the agent's words
    #[arg(long, visible_alias = "agent-model", value_name = "MODEL")]
    model: Option<String>,
    /// What to call it; several get `-1`, `-2`, … behind it [default: made up]
    #[arg(long, value_parser = values::session_name)]
    name: Option<String>,
    /// Do not wait for the prompt's turn
    #[arg(long, short, requires = "prompt")]
    detach: bool,
}

pub(crate) async fn run(args: ForkArgs, cx: &mut Context) -> Done {
    let prompt = match &args.prompt {
        Some(text) => Some(cx.text(text).await?),
        None => None,
    };
    let client = cx.client().await?;
    let at = match &args.at {
        Some(at) => {
            let asking = checkpoints::resolve(&client, &args.session, at);
            Some(cx.ui.wait("looking for the checkpoint", asking).await?)
        }
        None => None,
    };
    let request = Fork {
        at,
        count: Some(args.count),
        prompt: prompt.clone().map(|text| CreateTurn { text, steer: false }),
        model: args.model,
        name: args.name,
    };
    let forking = client.fork(&args.session, &request);
    let page = cx.ui.wait(&format!("forking {}", args.session), forking).await?.value;
    let mut sessions = Vec::new();
    for raw in page.data {
        sessions.push(Answer { value: read::<Session>(&raw)?, raw });
    }
    let follow = prompt.filter(|_| args.count == 1 && !args.detach);
    for session in &sessions {
        if cx.json {
            cx.ui.json(&session.raw)?;
        } else if follow.is_none() {
            cx.ui.print(&session.name)?;
        }
    }
    let Some((prompt, session)) = follow.zip(sessions.first()) else {
        if !cx.json
            && let Some(first) = sessions.first()
        {
            cx.ui.note(&format!("next: {}", next(&first.name)));
        }
        return Ok(Exit::OK);
    };
    if !cx.json {
        let from = session.origin.as_ref().map(|origin| short_id(&origin.checkpoint));
        let from = from.map(|from| format!(" at {from}")).unwrap_or_default();
        let (name, id) = (&session.name, &session.id);
        cx.ui.note(&format!("session {name} ({id}), forked from {}{from}", args.session));
    }
    let turn = run::first_turn(cx, &client, session).await?;
    let plan = Plan {
        after: i64::from(!cx.json),
        history: 0,
        until: Some(turn),
        prompts: false,
        own_prompt: Some(prompt),
    };
    Box::pin(run::follow_turn(cx, &client, session, plan)).await
}

fn next(name: &str) -> String {
    format!("rclaude send {name} '…' · rclaude attach {name}")
}
