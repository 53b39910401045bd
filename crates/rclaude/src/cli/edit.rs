//! `rclaude edit`: a session's file in the editor of this host.

use std::{
    ffi::OsString,
    fs::{self, OpenOptions},
    io::Write,
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
    process::Command,
};

use clap::Args;
use rclaude_types::{ErrorCode, FileEntry, FileKind, Problem};
use reqwest::Body;

use super::{Context, Done, cp, place::Place};
use crate::{
    client::{Client, Replace, real_path},
    exit::{Exit, Failure},
};

/// Edit a file of a session with $VISUAL or $EDITOR
///
/// On a copy here, which is written back whole if it was changed; not if the file was changed in
/// the session meanwhile: then the copy stays here, and it is said where. A file that is not there
/// is made. With --json: the file as it is then.
#[derive(Debug, Args)]
pub(crate) struct EditArgs {
    /// The file
    #[arg(value_name = "SESSION:PATH")]
    file: OsString,
}

pub(crate) async fn run(args: EditArgs, cx: &mut Context) -> Done {
    let file = Place::remote(&args.file, "edit")?;
    let client = cx.client().await?;
    let file = file.settled(&client, cx).await?;
    let found = match client.stat(&file.session, file.path(), true).await {
        Ok(entry) => Some(entry.value),
        Err(Failure::Problem(problem)) if problem.code == ErrorCode::FileNotFound => None,
        Err(failure) => return Err(failure),
    };
    if let Some(entry) = found.as_ref().filter(|entry| entry.kind != FileKind::File) {
        let what = if entry.kind == FileKind::Directory { "a directory" } else { "no file" };
        return Err(Failure::Usage(format!("{file} is {what}")));
    }
    // Through links: it is the file they lead to that is replaced.
    let real = found.as_ref().map_or_else(|| file.path().to_owned(), real_path);
    let (before, replace) = match &found {
        Some(_) => {
            let reading = cp::whole(&client, &file);
            let (bytes, etag) = cx.ui.wait(&format!("reading {file}"), reading).await?;
            (bytes, Replace::Same(etag))
        }
        None => (Vec::new(), Replace::Nothing),
    };
    let directory = tempfile::Builder::new().prefix("rclaude-edit-").tempdir()?;
    let copy = directory.path().join(real.file_name().unwrap_or_else(|| "file".as_ref()));
    OpenOptions::new().create_new(true).write(true).mode(0o600).open(&copy)?.write_all(&before)?;
    let edited = edit(&copy, cx);
    let after = fs::read(&copy).map_err(|error| {
        Failure::Failed(format!("the editor left no {}: {error}", copy.display()))
    });
    let is_changed = after.as_ref().is_ok_and(|after| *after != before);
    if !is_changed {
        edited?;
        after?;
        if !cx.json {
            cx.ui.say(&format!("{file} is unchanged"));
        } else if let Some(entry) = &found {
            cx.ui.json(entry)?;
        }
        return Ok(Exit::OK);
    }
    let written = match (edited, after) {
        (Ok(()), Ok(after)) => {
            let writing = write_back(&client, &file.session, &real, &replace, after);
            cx.ui.wait(&format!("writing {file}"), writing).await
        }
        (Err(failure), _) | (_, Err(failure)) => Err(failure),
    };
    match written {
        Ok(entry) => {
            if cx.json {
                cx.ui.json(&entry)?;
            } else {
                cx.ui.say(&format!("wrote {file}"));
            }
            Ok(Exit::OK)
        }
        Err(failure) => Err(kept(failure, &file.to_string(), &keep(directory, &copy))),
    }
}

async fn write_back(
    client: &Client,
    session: &str,
    path: &Path,
    replace: &Replace,
    bytes: Vec<u8>,
) -> Result<FileEntry, Failure> {
    client.store(session, path, None, replace, Body::from(bytes)).await
}

/// Lets the user edit, in the way other programs do: the variable is a command for the shell.
fn edit(copy: &Path, cx: &Context) -> Result<(), Failure> {
    let variable = |name| cx.settings.environment.get(name).filter(|text| !text.trim().is_empty());
    let editor = variable("VISUAL").or_else(|| variable("EDITOR")).unwrap_or("vi");
    let status = Command::new("/bin/sh")
        .args(["-c", &format!("{editor} \"$@\""), editor])
        .arg(copy)
        .status()
        .map_err(|error| Failure::Failed(format!("cannot start {editor}: {error}")))?;
    if status.success() {
        return Ok(());
    }
    let hint = if status.code() == Some(127) { "; set $VISUAL or $EDITOR" } else { "" };
    Err(Failure::Failed(format!("{editor} ended with {status}{hint}")))
}

/// Leaves the copy where it is.
fn keep(directory: tempfile::TempDir, copy: &Path) -> PathBuf {
    let _kept = directory.keep();
    copy.to_owned()
}

/// The failure, with where the work is.
fn kept(failure: Failure, file: &str, copy: &Path) -> Failure {
    let copy = copy.display();
    match failure {
        Failure::Problem(problem) if problem.code == ErrorCode::PreconditionFailed => {
            let detail = format!(
                "{file} was changed in the session meanwhile and is as it was left there; your \
                 version is kept in {copy}"
            );
            Failure::Problem(Problem::new(problem.code, detail))
        }
        Failure::Problem(problem) => {
            let detail = format!("{}; your version is kept in {copy}", problem.detail);
            Failure::Problem(Problem { detail, ..problem })
        }
        Failure::Unreachable { url, reason } => {
            let reason = format!("{reason}; your version is kept in {copy}");
            Failure::Unreachable { url, reason }
        }
        other => Failure::Failed(format!("{other}; your version is kept in {copy}")),
    }
}
