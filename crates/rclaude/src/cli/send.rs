//! `rclaude send`: another prompt for a session.

use clap::Args;
use rclaude_types::CreateTurn;

use super::{Context, Done, run};
use crate::{
    conversation::{self, Plan},
    exit::Exit,
};

/// Send a prompt to a session and follow it until it is done
///
/// It waits for the turns before it; a paused session wakes for it. Prints as `run` does; with
/// --json the turn, then the session's events, one JSON object a line.
#[derive(Debug, Args)]
pub(crate) struct SendArgs {
    /// The session: id, unique start of an id, or name
    session: String,
    /// Say it to the turn under way rather than after it
    #[arg(long)]
    steer: bool,
    /// Do not wait for it
    #[arg(long, short)]
    detach: bool,
    /// What to do; `-` reads it from standard input
    text: String,
}

pub(crate) async fn run(args: SendArgs, cx: &mut Context) -> Done {
    let text = cx.text(&args.text).await?;
    let client = cx.client().await?;
    // Before the prompt is sent, so that nothing that comes of it is missed.
    let session = cx.session(&client, &args.session).await?;
    let prompt = CreateTurn { text: text.clone(), steer: args.steer };
    let sending = client.create_turn(session.id.as_str(), &prompt);
    let turn = cx.ui.wait("sending the prompt", sending).await?;
    if cx.json {
        cx.ui.json(&turn.raw)?;
    }
    if args.detach {
        if !cx.json {
            conversation::say_left(cx, &session.name);
        }
        return Ok(Exit::OK);
    }
    if let Some(current) = &session.current_turn
        && current.id != turn.id
        && !cx.json
    {
        cx.ui.note(&if args.steer {
            format!("said to turn {}, which is under way", current.number)
        } else {
            format!("turn {} waits for turn {}", turn.number, current.number)
        });
    }
    let plan = Plan {
        after: session.last_seq,
        history: session.last_seq,
        until: Some(turn.id.clone()),
        prompts: false,
        own_prompt: Some(text),
    };
    Box::pin(run::follow_turn(cx, &client, &session, plan)).await
}
