//! `rclaude mv`: moving files within a session.

use std::ffi::OsString;

use clap::Args;
use rclaude_types::{ErrorCode, FileKind};

use super::{Context, Done, place::Place};
use crate::exit::{Exit, Failure};

/// Move or rename a file or directory in a session
///
/// Into a directory that is there it moves under its own name; a file that is there is replaced.
/// With --json: it in its new place.
#[derive(Debug, Args)]
pub(crate) struct MvArgs {
    /// What to move
    #[arg(value_name = "SESSION:FROM")]
    from: OsString,
    /// Where to, in the same session
    #[arg(value_name = "SESSION:TO")]
    to: OsString,
}

pub(crate) async fn run(args: MvArgs, cx: &mut Context) -> Done {
    let (from, mut to) = (Place::remote(&args.from, "mv")?, Place::remote(&args.to, "mv")?);
    if from.is_everything() {
        return Err(Failure::Usage(format!("{from} cannot be moved")));
    }
    let client = cx.client().await?;
    let session = cx.session(&client, &from.session).await?.id;
    if to.session != from.session && cx.session(&client, &to.session).await?.id != session {
        return Err(Failure::Usage(
            "a move stays within a session; `rclaude cp` copies to another".to_owned(),
        ));
    }
    let session = session.as_str();
    let there = match client.stat(session, to.path(), true).await {
        Ok(entry) => Some(entry.kind),
        Err(Failure::Problem(problem)) if problem.code == ErrorCode::FileNotFound => None,
        Err(failure) => return Err(failure),
    };
    match (there, from.name()) {
        (Some(FileKind::Directory), Some(name)) => to = to.join(&name),
        (_, _) if to.is_directory() => {
            return Err(Failure::Usage(format!("{to} is no directory")));
        }
        _ => {}
    }
    let moving = client.relocate(session, "move", (from.path(), to.path()), false);
    let moved = cx.ui.wait(&format!("moving {from}"), moving).await?;
    if cx.json {
        cx.ui.json(&moved.raw)?;
    }
    Ok(Exit::OK)
}
