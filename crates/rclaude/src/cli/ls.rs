//! `rclaude ls`: the sessions there are, or the files in one.

use std::ffi::OsString;

use clap::Args;
use rclaude_types::{Session, SessionStatus, Timestamp, TurnState};

use super::{Context, Done, ls_files, place::Place};
use crate::{
    client,
    exit::{Exit, Failure},
    ui::{self, Paint, age, clean_line, table},
    values,
};

/// Sessions shown without --all.
const SOME: u32 = 30;
/// Sessions the API gives at a time.
const PAGE: u32 = 200;

/// List sessions, newest first; or the files in a directory of one
///
/// With --json: one session, or one file, a line.
#[derive(Debug, Args)]
pub(crate) struct LsArgs {
    /// All of them, however many
    #[arg(long, short)]
    all: bool,
    /// Those with this label; several must all be there
    #[arg(long, value_name = "KEY=VALUE", value_parser = values::pair)]
    label: Vec<(String, String)>,
    /// A directory or file of a session; the session's workspace with nothing after the colon
    #[arg(value_name = "SESSION:PATH", conflicts_with_all = ["all", "label"])]
    file: Option<OsString>,
    /// Of files: with mode, size and age
    #[arg(long, short, requires = "file")]
    long: bool,
    /// Of files: with all that is in the directories
    #[arg(long, short = 'R', requires = "file")]
    recursive: bool,
}

pub(crate) async fn run(args: LsArgs, cx: &mut Context) -> Done {
    if let Some(file) = &args.file {
        let text = file.to_string_lossy();
        let remote = Place::remote(file, "ls").map_err(|_| {
            let text = clean_line(&text);
            Failure::Usage(format!(
                "`rclaude ls` lists the sessions, and `rclaude ls {text}:` the files of {text}"
            ))
        })?;
        let client = cx.client().await?;
        let how = ls_files::How { long: args.long, recursive: args.recursive };
        return ls_files::run(&client, &remote, how, cx).await;
    }
    let server = cx.client().await?;
    let limit = if args.all { PAGE } else { SOME };
    let mut sessions = Vec::new();
    let mut cursor: Option<String> = None;
    loop {
        let listing = server.sessions(&args.label, limit, cursor.as_deref());
        let page = cx.ui.wait("listing the sessions", listing).await?;
        cursor.clone_from(&page.next_cursor);
        if cx.json {
            for session in &page.data {
                cx.ui.json(session)?;
            }
        } else {
            for raw in &page.data {
                sessions.push(client::read::<Session>(raw)?);
            }
        }
        if cursor.is_none() || !args.all {
            break;
        }
    }
    if cx.json {
        return Ok(Exit::OK);
    }
    if sessions.is_empty() {
        cx.ui.note("no sessions; `rclaude run --repo . 'PROMPT'` makes one");
        return Ok(Exit::OK);
    }
    let text = render(cx.ui.out(), &sessions, ui::now());
    cx.ui.print(&text)?;
    if cursor.is_some() {
        cx.ui.note("there are more: --all shows them");
    }
    Ok(Exit::OK)
}

fn render(paint: Paint, sessions: &[Session], now: Timestamp) -> String {
    let rows: Vec<_> = sessions
        .iter()
        .map(|session| {
            [
                session.name.clone(),
                rung(session),
                repository(session),
                turn(session),
                session.cost.to_string(),
                age(session.created_at, now),
            ]
        })
        .collect();
    table(paint, ["NAME", "STATUS", "REPOSITORY", "TURN", "COST", "AGE"], &rows)
}

/// A status in words.
const fn status(status: SessionStatus) -> &'static str {
    match status {
        SessionStatus::Starting => "starting",
        SessionStatus::Idle => "idle",
        SessionStatus::Working => "working",
        SessionStatus::AwaitingInput => "awaiting input",
        SessionStatus::Paused => "paused",
        SessionStatus::Hibernated => "hibernated",
        SessionStatus::Archived => "archived",
        SessionStatus::Failed => "failed",
        SessionStatus::Deleted => "deleted",
    }
}

/// The status, and why it was set aside where its owner did not.
pub(super) fn rung(session: &Session) -> String {
    let word = status(session.status);
    let aside = matches!(
        session.status,
        SessionStatus::Paused | SessionStatus::Hibernated | SessionStatus::Archived
    );
    match &session.desired_reason {
        Some(why) if aside => format!("{word} ({})", clean_line(why)),
        _ => word.to_owned(),
    }
}

/// The repository's last two names: enough to know it by.
fn repository(session: &Session) -> String {
    let Some(source) = &session.repository else { return "-".to_owned() };
    let url = source.url.trim_end_matches('/').trim_end_matches(".git");
    let mut names: Vec<_> = url.rsplit(['/', ':']).take(2).collect();
    names.reverse();
    let name = names.join("/");
    clean_line(name.trim_start_matches('/'))
}

fn turn(session: &Session) -> String {
    match &session.current_turn {
        Some(turn) if turn.state == TurnState::Queued => format!("{} queued", turn.number),
        Some(turn) => turn.number.to_string(),
        None => "-".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::tests::session;

    #[test]
    fn a_line_says_what_a_session_is_doing() {
        let now = Timestamp::from_micros(1_795_246_156_000_000);
        let aside = Session {
            status: SessionStatus::Hibernated,
            desired_reason: Some("idle".to_owned()),
            current_turn: None,
            ..session()
        };
        insta::assert_snapshot!(render(Paint::new(false), &[session(), aside], now));
    }
}
