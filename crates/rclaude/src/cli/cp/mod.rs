//! `rclaude cp`: files between this host and sessions.
//!
//! One file goes by itself and is taken up where a broken connection left it; a tree goes as one
//! tar stream, which is what makes many small files quick. What is replaced is replaced whole, at
//! either end.

mod across;
mod down;
mod link;
mod up;

use std::{
    ffi::{OsStr, OsString},
    fs,
    path::{Path, PathBuf},
};

use clap::{Args, ValueHint};
use rclaude_types::{ErrorCode, FileEntry, FileKind};

pub(super) use down::{standard_output as to_standard_output, whole};
use link::Patience;

use super::{
    Context, Done,
    place::{Place, Remote},
};
use crate::{
    client::Client,
    exit::{Exit, Failure},
    ui::{Counter, bytes, clean_line},
};

/// Copy files to, from and between sessions
///
/// `SESSION:path` is a file in a session, relative to its workspace; `-` is standard input or
/// output; `./a:b` is a file here with a colon in its name. Into a directory that is there, what
/// is copied keeps its name. Links among what is copied with -r stay links. With --json:
/// `{"from", "to", "bytes"}` for each.
#[derive(Debug, Args)]
pub(crate) struct CpArgs {
    /// Copy directories with all that is in them
    #[arg(long, short)]
    recursive: bool,
    /// Keep modes and times
    #[arg(long, short)]
    preserve: bool,
    /// What to copy, and last where to
    #[arg(
        required = true,
        num_args = 2..,
        value_names = ["FROM", "TO"],
        value_hint = ValueHint::AnyPath,
    )]
    paths: Vec<OsString>,
}

/// How to copy.
#[derive(Debug, Clone, Copy)]
pub(super) struct How {
    recursive: bool,
    preserve: bool,
}

pub(crate) async fn run(args: CpArgs, cx: &mut Context) -> Done {
    let how = How { recursive: args.recursive, preserve: args.preserve };
    let Some((to, from)) = args.paths.split_last() else {
        return Err(Failure::Usage("say what to copy, and where to".to_owned()));
    };
    let to = Place::read(to);
    let from: Vec<Place> = from.iter().map(|it| Place::read(it)).collect();
    let all_here = |place: &Place| !matches!(place, Place::There(_));
    if all_here(&to) && from.iter().any(all_here) {
        return Err(Failure::Usage(
            "neither is in a session: SESSION:path names a file in one".to_owned(),
        ));
    }
    let client = cx.client().await?;
    // By id from here on: a name that changes hands meanwhile is not followed.
    let to = settled(to, &client, cx).await?;
    let target = Target::of(to, from.len(), &client, cx).await?;
    for from in from {
        let from = settled(from, &client, cx).await?;
        let counter = Counter::default();
        let (shown_from, shown_to) = (shown(&from), shown(&target.place));
        let what = format!("copying {shown_from}");
        let copying = Box::pin(copy(&client, from, &target, how, &counter));
        let to = cx.ui.wait_counted(&what, &counter, copying).await?;
        if cx.json {
            let told = serde_json::json!({
                "from": shown_from, "to": to, "bytes": counter.done(),
            });
            if !matches!(target.place, Place::Standard) {
                cx.ui.json(&told)?;
            }
        } else if cx.verbose {
            cx.ui.note(&format!("{shown_from} → {shown_to} ({})", bytes(counter.done())));
        }
    }
    Ok(Exit::OK)
}

async fn settled(place: Place, client: &Client, cx: &mut Context) -> Result<Place, Failure> {
    Ok(match place {
        Place::There(remote) => Place::There(remote.settled(client, cx).await?),
        other => other,
    })
}

fn shown(place: &Place) -> String {
    match place {
        Place::Here(path) => clean_line(&path.to_string_lossy()),
        Place::There(remote) => remote.to_string(),
        Place::Standard => "-".to_owned(),
    }
}

/// Where copies go.
struct Target {
    place: Place,
    /// What is copied goes into it, under its own name.
    is_directory: bool,
}

impl Target {
    async fn of(
        place: Place,
        sources: usize,
        client: &Client,
        cx: &mut Context,
    ) -> Result<Self, Failure> {
        let (is_directory, typed) = match &place {
            Place::Standard => (false, false),
            Place::Here(path) => {
                (path.is_dir(), path.as_os_str().as_encoded_bytes().ends_with(b"/"))
            }
            Place::There(remote) => {
                let looking = stat(client, remote);
                let found = cx.ui.wait("looking where to copy to", looking).await?;
                let kind = found.map(|entry| entry.kind);
                (kind == Some(FileKind::Directory), remote.is_directory())
            }
        };
        if (typed || sources > 1) && !is_directory {
            let why = if typed { "is no directory" } else { "is no directory for several" };
            return Err(Failure::Usage(format!("{} {why}", shown(&place))));
        }
        Ok(Self { place, is_directory })
    }

    /// Where what is called `name` goes; what has no name of its own goes as content.
    fn place(&self, name: Option<&OsStr>) -> Place {
        match (&self.place, name) {
            (Place::Here(path), Some(name)) if self.is_directory => Place::Here(path.join(name)),
            (Place::There(remote), Some(name)) if self.is_directory => {
                Place::There(remote.join(name))
            }
            (place, _) => place.clone(),
        }
    }
}

/// What is there, through links.
async fn stat(client: &Client, remote: &Remote) -> Result<Option<FileEntry>, Failure> {
    match client.stat(&remote.session, remote.path(), true).await {
        Ok(entry) => Ok(Some(entry.value)),
        Err(Failure::Problem(problem)) if problem.code == ErrorCode::FileNotFound => Ok(None),
        Err(failure) => Err(failure),
    }
}

/// Copies one of what was named; where it went.
async fn copy(
    client: &Client,
    from: Place,
    target: &Target,
    how: How,
    counter: &Counter,
) -> Result<String, Failure> {
    let to = match &from {
        Place::Here(path) => target.place(own_name(path)),
        Place::There(remote) => target.place(remote.name().as_deref()),
        Place::Standard => target.place(None),
    };
    let told = shown(&to);
    match (from, to) {
        (Place::Standard, Place::There(_)) if target.is_directory => {
            return Err(Failure::Usage("standard input needs the name of a file".to_owned()));
        }
        (Place::Standard, Place::There(to)) => up::standard_input(client, &to, counter).await?,
        (Place::Here(from), Place::There(to)) => {
            let there = fs::metadata(&from).map_err(|error| about(&from, &error))?;
            if there.is_dir() {
                recursive(how, &from.display().to_string())?;
                up::tree(client, &from, &to, how, counter).await?;
            } else {
                up::file(client, &from, &there, &to, how, counter).await?;
            }
        }
        (Place::There(from), to) => {
            let entry = client.stat(&from.session, from.path(), true).await?.value;
            if entry.kind == FileKind::Directory {
                recursive(how, &from.to_string())?;
            } else {
                counter.expect(entry.size);
            }
            match to {
                Place::There(to) => across::copy(client, &from, &entry, &to, how, counter).await?,
                Place::Here(to) if entry.kind == FileKind::Directory => {
                    down::tree(client, &from, &entry, &to, how, counter).await?;
                }
                Place::Here(to) => down::file(client, &from, &to, how, counter).await?,
                Place::Standard if entry.kind == FileKind::Directory => {
                    return Err(Failure::Usage(format!("{from} is a directory")));
                }
                Place::Standard => down::standard_output(client, &from, counter).await?,
            }
        }
        (Place::Here(_) | Place::Standard, _) => {
            return Err(Failure::Usage("neither is in a session".to_owned()));
        }
    }
    Ok(told)
}

fn recursive(how: How, what: &str) -> Result<(), Failure> {
    if how.recursive {
        return Ok(());
    }
    Err(Failure::Usage(format!("{} is a directory: -r copies it", clean_line(what))))
}

/// The name that a copy of a file here has.
fn own_name(path: &Path) -> Option<&OsStr> {
    if path.as_os_str().as_encoded_bytes().ends_with(b"/.") {
        return None;
    }
    path.file_name()
}

/// A failure about a file here.
fn about(path: &Path, error: &std::io::Error) -> Failure {
    Failure::Failed(format!("{}: {error}", clean_line(&path.to_string_lossy())))
}

/// An absolute path here.
fn absolute(path: &Path) -> Result<PathBuf, Failure> {
    std::path::absolute(path).map_err(|error| about(path, &error))
}

/// The permission bits that new files here do not get.
fn umask() -> u32 {
    // There is no asking without setting, but in /proc.
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("Umask:"));
    line.and_then(|text| u32::from_str_radix(text.trim(), 8).ok()).unwrap_or(0o022)
}
