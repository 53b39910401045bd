//! `rclaude logs`: what happened in a session.

use std::pin::pin;

use clap::Args;
use futures::StreamExt;
use rclaude_types::Seq;

use super::{Context, Done};
use crate::{
    client::{Client, Entry, Progress, follow},
    exit::{Exit, Failure},
    ui::Renderer,
};

/// Entries asked for at a time.
const PAGE: u32 = 1_000;

/// Show what happened in a session
///
/// With --raw or --json: every entry of the log as the API has it, one JSON object a line.
#[derive(Debug, Args)]
pub(crate) struct LogsArgs {
    /// The session: id, unique start of an id, or name
    session: String,
    /// Go on with what happens from now on
    #[arg(long, short)]
    follow: bool,
    /// Begin after this entry
    #[arg(long, value_name = "SEQ", default_value_t = 0, value_parser = clap::value_parser!(i64).range(0..))]
    after: Seq,
    /// Entries as they are, parts of messages included
    #[arg(long)]
    raw: bool,
}

pub(crate) async fn run(args: LogsArgs, cx: &mut Context) -> Done {
    let client = cx.client().await?;
    let session = cx.session(&client, &args.session).await?;
    let id = session.id.as_str();
    let raw = args.raw || cx.json;
    let mut renderer = cx.ui.renderer(cx.verbose);
    renderer.call(&session.name);
    renderer.replay();
    let last = history(cx, &client, id, args.after, raw, &mut renderer).await?;
    let pieces = renderer.caught_up();
    cx.ui.show(pieces)?;
    if args.follow {
        let mut events = pin!(follow(&client, id, last));
        while let Some(progress) = events.next().await {
            match progress? {
                Progress::Entry(entry) => show(cx, &entry, raw, &mut renderer)?,
                Progress::Lost { reason, attempt: 2, .. } => {
                    cx.ui.note(&format!("connection lost ({reason}); reconnecting"));
                }
                Progress::Lost { .. } | Progress::Restored => {}
            }
        }
    }
    let rest = renderer.close();
    cx.ui.show(rest)?;
    Ok(Exit::OK)
}

/// Shows what there is; answers with the last entry's position.
async fn history(
    cx: &mut Context,
    client: &Client,
    id: &str,
    mut after: Seq,
    raw: bool,
    renderer: &mut Renderer,
) -> Result<Seq, Failure> {
    loop {
        let reading = client.events(id, after, PAGE);
        let entries = cx.ui.wait("reading the log", reading).await?;
        let Some(last) = entries.last() else { return Ok(after) };
        after = last.seq;
        let more = entries.len() >= PAGE as usize;
        for entry in &entries {
            show(cx, entry, raw, renderer)?;
        }
        if !more {
            return Ok(after);
        }
    }
}

fn show(
    cx: &mut Context,
    entry: &Entry,
    raw: bool,
    renderer: &mut Renderer,
) -> Result<(), Failure> {
    if raw {
        return cx.ui.print(entry.raw.get());
    }
    match &entry.event {
        Some(event) => {
            let pieces = renderer.event(event);
            cx.ui.show(pieces)
        }
        None => Ok(()),
    }
}
