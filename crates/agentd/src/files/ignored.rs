//! What a repository does not want looked at: `.gitignore` and `.ignore`, as git and ripgrep read
//! them.

use std::{
    ffi::OsStr,
    fs::File,
    io::{self, Read},
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    path::Path,
};

use ignore::{
    Match,
    gitignore::{Gitignore, GitignoreBuilder},
};
use rclaude_tree::{open, open_at};
use rustix::fs::{OFlags, ResolveFlags};

/// The files, the later stronger.
const NAMES: [&str; 2] = [".gitignore", ".ignore"];

/// Of each file so much is read.
const MAX_BYTES: u64 = 1024 * 1024;

/// The rules that hold where a walk is, outermost first. Paths are absolute.
pub(super) struct Ignored {
    levels: Vec<Gitignore>,
}

impl Ignored {
    /// The rules from above `path`, up to the repository it is in.
    pub(super) fn above(path: &Path) -> Self {
        let mut levels = Vec::new();
        let mut directory = path;
        while !is_top(directory)
            && let Some(above) = directory.parent()
        {
            directory = above;
            levels.extend(open_directory(directory).and_then(|fd| rules(fd.as_fd(), directory)));
            if directory.parent().is_none() && !is_top(directory) {
                // No repository: nothing above counts.
                levels.clear();
            }
        }
        levels.reverse();
        Self { levels }
    }

    /// Goes into a directory.
    pub(super) fn enter(&mut self, directory: BorrowedFd<'_>, path: &Path) {
        self.levels.push(rules(directory, path).unwrap_or_else(Gitignore::empty));
    }

    /// Comes back out.
    pub(super) fn leave(&mut self) {
        self.levels.pop();
    }

    pub(super) fn is_ignored(&self, path: &Path, is_directory: bool) -> bool {
        for rules in self.levels.iter().rev() {
            match rules.matched(path, is_directory) {
                Match::None => {}
                Match::Ignore(_) => return true,
                Match::Whitelist(_) => return false,
            }
        }
        false
    }
}

/// Whether a repository begins here.
fn is_top(directory: &Path) -> bool {
    open(&directory.join(".git"), OFlags::PATH).is_ok()
}

fn open_directory(path: &Path) -> Option<OwnedFd> {
    open(path, OFlags::PATH | OFlags::DIRECTORY).ok()
}

fn rules(directory: BorrowedFd<'_>, path: &Path) -> Option<Gitignore> {
    let mut builder = GitignoreBuilder::new(path);
    let mut any = false;
    for name in NAMES {
        let Ok(text) = read(directory, name) else { continue };
        any = true;
        for line in text.lines() {
            // A line that is no pattern is passed by, as git does.
            let _bad = builder.add_line(None, line);
        }
    }
    if any { builder.build().ok() } else { None }
}

fn read(directory: BorrowedFd<'_>, name: &str) -> io::Result<String> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK;
    let file = open_at(directory, Path::new(OsStr::new(name)), flags, ResolveFlags::BENEATH)?;
    let mut text = Vec::new();
    File::from(file).take(MAX_BYTES).read_to_end(&mut text)?;
    Ok(String::from_utf8_lossy(&text).into_owned())
}
