//! `rclaude diff`: how a session's files differ from where they began.

use clap::Args;

use super::{Context, Done};
use crate::{
    exit::Exit,
    ui::{Ui, clean_line, diff_stat, printable},
};

/// Show what changed in a session
///
/// On a terminal: the files with their counts, then the patch. Into a pipe: the patch, byte for
/// byte as `git apply` takes it. With --json: counts and patch as the API has them.
#[derive(Debug, Args)]
pub(crate) struct DiffArgs {
    /// The session: id, unique start of an id, or name
    session: String,
    /// Files with their counts alone
    #[arg(long, conflicts_with = "patch")]
    stat: bool,
    /// The patch alone
    #[arg(long, short)]
    patch: bool,
}

pub(crate) async fn run(args: DiffArgs, cx: &mut Context) -> Done {
    let client = cx.client().await?;
    let waiting = format!("comparing the files of {}", clean_line(&args.session));
    let with_patch = !args.stat && (args.patch || cx.json || !cx.ui.out_is_terminal());
    if cx.json {
        let format = if with_patch { "full" } else { "stat" };
        let diff = cx.ui.wait(&waiting, client.diff(&args.session, format)).await?;
        cx.ui.json(&diff.raw)?;
        return Ok(Exit::OK);
    }
    if !with_patch {
        let diff = cx.ui.wait(&waiting, client.diff(&args.session, "stat")).await?;
        let stat = diff_stat(cx.ui.out(), &diff.stat, Ui::width());
        if diff.stat.files.is_empty() {
            say_why_empty(cx, diff.base_commit.is_some());
            return Ok(Exit::OK);
        }
        cx.ui.print(&stat)?;
        if args.stat {
            return Ok(Exit::OK);
        }
        cx.ui.print("")?;
    }
    let patch = cx.ui.wait(&waiting, client.patch(&args.session)).await?;
    if patch.is_empty() {
        let session = cx.session(&client, &args.session).await?;
        say_why_empty(cx, session.repository.is_some());
    }
    if cx.ui.out_is_terminal() {
        let paint = cx.ui.out();
        for line in printable(&patch).lines() {
            cx.ui.print(&paint.diff_line(line))?;
        }
    } else {
        cx.ui.data(&patch)?;
    }
    Ok(Exit::OK)
}

/// Nothing is a patch as well, so it is said beside the data.
fn say_why_empty(cx: &mut Context, has_repository: bool) {
    cx.ui.note(if has_repository {
        "no changes"
    } else {
        "the session has no repository to compare its files with"
    });
}
