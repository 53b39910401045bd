//! `rclaude checkpoints`: a session's earlier states; and how one is named.

use std::collections::HashMap;

use clap::Args;
use rclaude_types::{Checkpoint, CheckpointId, ErrorCode, Problem, Timestamp, TurnId};
use serde_json::value::RawValue;

use super::{Context, Done};
use crate::{
    client::{self, Client},
    exit::{Exit, Failure},
    ui::{self, Paint, age, bytes, clean_line, short_id, table},
};

/// Checkpoints shown without --all.
const SOME: u32 = 30;
/// Entries the API gives at a time.
const PAGE: u32 = 200;

/// List a session's checkpoints, newest first
///
/// Each is the whole state at one moment: files, conversation, environment. `rewind` takes the
/// session back to one, `fork` makes another session of it. An id may be shortened as long as it
/// is the only one that begins so. With --json: one checkpoint a line.
#[derive(Debug, Args)]
pub(crate) struct CheckpointsArgs {
    /// The session: id, unique start of an id, or name
    session: String,
    /// All of them, however many
    #[arg(long, short)]
    all: bool,
}

pub(crate) async fn run(args: CheckpointsArgs, cx: &mut Context) -> Done {
    let client = cx.client().await?;
    let limit = if args.all { PAGE } else { SOME };
    let (mut checkpoints, mut cursor) = (Vec::new(), None::<String>);
    loop {
        let listing = client.checkpoints(&args.session, limit, cursor.as_deref());
        let page = cx.ui.wait("listing the checkpoints", listing).await?;
        cursor.clone_from(&page.next_cursor);
        for raw in &page.data {
            if cx.json {
                cx.ui.json(raw)?;
            } else {
                checkpoints.push(read(raw)?);
            }
        }
        if cursor.is_none() || !args.all {
            break;
        }
    }
    if cx.json {
        return Ok(Exit::OK);
    }
    if checkpoints.is_empty() {
        cx.ui.note(&format!(
            "no checkpoints; one is made when a turn ends, and by `rclaude checkpoint {}`",
            args.session
        ));
        return Ok(Exit::OK);
    }
    let turns = if checkpoints.iter().any(|checkpoint| checkpoint.turn.is_some()) {
        cx.ui.wait("asking the server", numbers(&client, &args.session)).await?
    } else {
        HashMap::new()
    };
    let text = render(cx.ui.out(), &checkpoints, &turns, ui::now());
    cx.ui.print(&text)?;
    if cursor.is_some() {
        cx.ui.note("there are more: --all shows them");
    }
    Ok(Exit::OK)
}

/// The checkpoint that is meant: by its id, or by a beginning of it that no other has.
pub(super) async fn resolve(
    client: &Client,
    session: &str,
    reference: &str,
) -> Result<CheckpointId, Failure> {
    if let Ok(id) = reference.parse() {
        return Ok(id);
    }
    let wanted = match reference.strip_prefix(CheckpointId::PREFIX) {
        Some(_) => reference.to_owned(),
        None => format!("{}_{reference}", CheckpointId::PREFIX),
    };
    let (mut found, mut cursor) = (Vec::new(), None::<String>);
    loop {
        let page = client.checkpoints(session, PAGE, cursor.as_deref()).await?;
        for raw in &page.data {
            let id = read(raw)?.id;
            if id.as_str().starts_with(&wanted) {
                found.push(id);
            }
        }
        cursor.clone_from(&page.next_cursor);
        if cursor.is_none() {
            break;
        }
    }
    let problem = |code, detail| Err(Failure::Problem(Problem::new(code, detail)));
    match (found.pop(), found.len()) {
        (Some(id), 0) => Ok(id),
        (Some(_), more) => problem(
            ErrorCode::Conflict,
            format!("{} checkpoints begin with `{wanted}`; give more of the id", more + 1),
        ),
        (None, _) => problem(
            ErrorCode::CheckpointNotFound,
            format!(
                "the session has no checkpoint that begins with `{wanted}`; `rclaude checkpoints \
                 {session}` lists those it has"
            ),
        ),
    }
}

/// The numbers of a session's turns.
async fn numbers(client: &Client, session: &str) -> Result<HashMap<TurnId, i64>, Failure> {
    let (mut numbers, mut cursor) = (HashMap::new(), None::<String>);
    loop {
        let page = client.turns(session, PAGE, cursor.as_deref()).await?.value;
        numbers.extend(page.data.into_iter().map(|turn| (turn.id, turn.number)));
        cursor = page.next_cursor;
        if cursor.is_none() {
            return Ok(numbers);
        }
    }
}

fn read(raw: &RawValue) -> Result<Checkpoint, Failure> {
    client::read(raw)
}

fn render(
    paint: Paint,
    checkpoints: &[Checkpoint],
    turns: &HashMap<TurnId, i64>,
    now: Timestamp,
) -> String {
    let rows: Vec<_> = checkpoints
        .iter()
        .map(|checkpoint| {
            [
                short_id(&checkpoint.id),
                age(checkpoint.created_at, now),
                kind(checkpoint),
                what(checkpoint, turns),
                bytes(checkpoint.bytes),
                format!("{} ms", checkpoint.frozen_micros.div_ceil(1_000)),
                if checkpoint.stored { "yes" } else { "no" }.to_owned(),
            ]
        })
        .collect();
    table(paint, ["CHECKPOINT", "AGE", "KIND", "OF", "SIZE", "FROZEN", "STORED"], &rows)
}

fn kind(checkpoint: &Checkpoint) -> String {
    match serde_json::to_value(checkpoint.kind) {
        Ok(serde_json::Value::String(word)) => word,
        _ => String::new(),
    }
}

/// The turn it was made at, and its maker's words.
fn what(checkpoint: &Checkpoint, turns: &HashMap<TurnId, i64>) -> String {
    let turn = checkpoint.turn.as_ref().and_then(|turn| turns.get(turn));
    let turn = turn.map(|number| format!("turn {number}"));
    let note = checkpoint.note.as_deref().map(clean_line);
    match (turn, note) {
        (Some(turn), Some(note)) => format!("{turn}: {note}"),
        (Some(text), None) | (None, Some(text)) => text,
        (None, None) => "-".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use rclaude_types::{CheckpointKind, SealMethod};

    use super::*;

    #[test]
    fn a_line_says_of_what_a_checkpoint_is() {
        let turn: TurnId = "trn_019a0000000070008000000000000003".parse().unwrap();
        let checkpoint = Checkpoint {
            id: "ckp_019a0000000070008000000000000009".parse().unwrap(),
            session: "ses_019a0000000070008000000000000001".parse().unwrap(),
            seq: 12,
            kind: CheckpointKind::Turn,
            note: None,
            turn: Some(turn.clone()),
            method: SealMethod::Copy,
            bytes: 4_096,
            frozen_micros: 1_200,
            stored: false,
            created_at: Timestamp::from_micros(1_795_246_000_000_000),
        };
        let by_hand = Checkpoint {
            id: "ckp_019a0000001070008000000000000009".parse().unwrap(),
            kind: CheckpointKind::Manual,
            note: Some("before\nthe move".to_owned()),
            stored: true,
            ..checkpoint.clone()
        };
        let began = Checkpoint { turn: None, ..checkpoint.clone() };
        let now = Timestamp::from_micros(1_795_246_156_000_000);
        let turns = HashMap::from([(turn, 3)]);
        let all = [by_hand, checkpoint, began];
        insta::assert_snapshot!(render(Paint::new(false), &all, &turns, now));
    }
}
