//! `rclaude run`: a session, a prompt, and what comes of it.

use clap::Args;
use rclaude_types::{EventBody, Session, TurnId, TurnOutcome};

use super::{Context, Done, options::SessionOptions};
use crate::{
    client::Client,
    conversation::{self, End, Plan},
    exit::{Exit, Failure},
};

/// Make a session, give it a prompt and follow it until it is done
///
/// Standard output carries the assistant's words alone; tool calls, questions and the summary go
/// to standard error. With --json: the session, then its events, one JSON object a line.
///
/// Ctrl-C interrupts the turn; a second Ctrl-C leaves the session running without you.
#[derive(Debug, Args)]
pub(crate) struct RunArgs {
    #[command(flatten)]
    pub(crate) options: SessionOptions,
    /// Do not wait for it: print the session's name and leave
    #[arg(long, short)]
    pub(crate) detach: bool,
    /// What to do; `-` reads it from standard input
    pub(crate) prompt: String,
}

pub(crate) async fn run(args: RunArgs, cx: &mut Context) -> Done {
    let prompt = cx.text(&args.prompt).await?;
    let client = cx.client().await?;
    let request = args.options.request(cx, Some(prompt.clone())).await?;
    let making = client.create_session(&request);
    let session = cx.ui.wait("making the session", making).await?;
    if args.detach {
        if cx.json {
            cx.ui.json(&session.raw)?;
        } else {
            cx.ui.print(&session.name)?;
            conversation::say_left(cx, &session.name);
        }
        return Ok(Exit::OK);
    }
    if cx.json {
        cx.ui.json(&session.raw)?;
    } else {
        cx.ui.note(&format!("session {} ({})", session.name, session.id));
    }
    let turn = first_turn(cx, &client, &session).await?;
    let plan = Plan {
        // Its first entry says that it was made, as we just did.
        after: i64::from(!cx.json),
        history: 0,
        until: Some(turn),
        prompts: false,
        own_prompt: Some(prompt),
    };
    Box::pin(follow_turn(cx, &client, &session, plan)).await
}

/// Follows a session until a turn is over, then says what to type next.
pub(super) async fn follow_turn(
    cx: &mut Context,
    client: &Client,
    session: &Session,
    plan: Plan,
) -> Done {
    let end = Box::pin(conversation::run(cx, client, session, plan)).await?;
    let name = &session.name;
    match end {
        End::Left => {
            conversation::say_left(cx, name);
            return Ok(Exit::INTERRUPTED);
        }
        End::Deleted => return Err(Failure::Failed(format!("{name} was deleted"))),
        End::Turn(_) => {}
    }
    if !cx.json {
        cx.ui.say(&format!("  {name} ({})", session.id));
        let diff = match session.repository {
            Some(_) => format!("rclaude diff {name} · "),
            None => String::new(),
        };
        cx.ui.note(&format!("  next: {diff}rclaude send {name} '…' · rclaude attach {name}"));
    }
    Ok(match end {
        End::Turn(TurnOutcome::Completed) => Exit::OK,
        End::Turn(TurnOutcome::Interrupted | TurnOutcome::Cancelled) => Exit::INTERRUPTED,
        _ => Exit::FAILED,
    })
}

/// The turn that a new session's prompt became.
pub(super) async fn first_turn(
    cx: &mut Context,
    client: &Client,
    session: &Session,
) -> Result<TurnId, Failure> {
    if let Some(turn) = &session.current_turn {
        return Ok(turn.id.clone());
    }
    // It may be over already: then the log knows it.
    let reading = client.events(session.id.as_str(), 0, 10);
    let entries = cx.ui.wait("asking the server", reading).await?;
    let queued = entries.into_iter().filter_map(|entry| entry.event).find_map(|event| {
        matches!(event.body, EventBody::TurnQueued { .. }).then_some(event.turn).flatten()
    });
    queued.ok_or_else(|| Failure::Failed("the server did not take the prompt".to_owned()))
}
