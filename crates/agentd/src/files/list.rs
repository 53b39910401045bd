//! Listing directories, page by page.

use std::{
    ffi::OsString,
    io,
    ops::ControlFlow,
    os::{
        fd::AsFd,
        unix::ffi::{OsStrExt, OsStringExt},
    },
    path::{Path, PathBuf},
};

use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use globset::{GlobBuilder, GlobMatcher};
use rclaude_tree::open;
use rclaude_types::{FileEntry, FileList};
use rustix::fs::OFlags;

use super::{
    entry,
    walk::{Found, Visitor, Walk},
};

/// Entries that are looked at for one page, wanted or not, before it ends where it is.
const MAX_SEEN: usize = 200_000;

/// What to list.
pub(crate) struct Listing {
    /// Levels, 1 for a directory's own entries.
    pub(crate) depth: usize,
    /// What entries must match.
    pub(crate) glob: Option<String>,
    /// Where the page before ended.
    pub(crate) cursor: Option<String>,
    /// Entries of a page.
    pub(crate) limit: usize,
}

/// A pattern for paths. One without a slash is for names at any level; `*` is within a name, `**`
/// across.
pub(super) struct Glob {
    matcher: GlobMatcher,
    whole: bool,
}

impl Glob {
    pub(super) fn new(pattern: &str) -> io::Result<Self> {
        let glob = GlobBuilder::new(pattern).literal_separator(true).build();
        let glob = glob.map_err(|error| {
            io::Error::new(io::ErrorKind::InvalidInput, format!("the glob is not one: {error}"))
        })?;
        Ok(Self { matcher: glob.compile_matcher(), whole: pattern.contains('/') })
    }

    pub(super) fn matches(&self, path: &Path) -> bool {
        let text = if self.whole { Some(path.as_os_str()) } else { path.file_name() };
        text.is_some_and(|text| self.matcher.is_match(Path::new(text)))
    }
}

/// A page of what is in the directory at `path`.
pub(crate) fn list(path: &Path, listing: &Listing) -> io::Result<FileList> {
    let directory = open(path, OFlags::RDONLY | OFlags::DIRECTORY)?;
    let glob = listing.glob.as_deref().map(Glob::new).transpose()?;
    let after = listing.cursor.as_deref().map(place).transpose()?;
    let limit = listing.limit;
    let mut page =
        Page { shown: path, glob, limit, seen: 0, last: PathBuf::new(), data: Vec::new() };
    let walk = Walk { depth: listing.depth, after };
    let more = walk.through(directory.as_fd(), &mut page)?.is_break();
    let next_cursor = more.then(|| BASE64_URL_SAFE_NO_PAD.encode(page.last.as_os_str().as_bytes()));
    Ok(FileList { data: page.data, next_cursor })
}

/// The path that a cursor stands for.
fn place(cursor: &str) -> io::Result<PathBuf> {
    let bytes = BASE64_URL_SAFE_NO_PAD.decode(cursor).map_err(|_| {
        io::Error::new(io::ErrorKind::InvalidInput, "the cursor is none of this list's")
    })?;
    Ok(PathBuf::from(OsString::from_vec(bytes)))
}

struct Page<'a> {
    shown: &'a Path,
    glob: Option<Glob>,
    limit: usize,
    seen: usize,
    /// The last entry that was looked at.
    last: PathBuf,
    data: Vec<FileEntry>,
}

impl Visitor for Page<'_> {
    fn visit(&mut self, found: &Found<'_>) -> io::Result<ControlFlow<()>> {
        if self.data.len() == self.limit || self.seen == MAX_SEEN {
            return Ok(ControlFlow::Break(()));
        }
        self.seen += 1;
        found.path.clone_into(&mut self.last);
        if self.glob.as_ref().is_none_or(|glob| glob.matches(found.path)) {
            let shown = self.shown.join(found.path);
            self.data.push(entry::entry(found.directory, found.name, &shown)?);
        }
        Ok(ControlFlow::Continue(()))
    }
}

#[cfg(test)]
mod tests {
    use std::ffi::OsStr;

    use super::*;

    #[test]
    fn a_pattern_without_a_slash_is_for_names_and_one_with_is_for_paths() {
        let matches =
            |pattern: &str, path: &str| Glob::new(pattern).unwrap().matches(Path::new(path));
        assert!(matches("*.rs", "src/main.rs"));
        assert!(!matches("*.rs", "src/main.rs.bak"));
        assert!(matches("src/*.rs", "src/main.rs"));
        assert!(!matches("src/*.rs", "src/bin/main.rs"));
        assert!(matches("src/**/*.rs", "src/bin/main.rs"));
        assert!(matches("*.{md,txt}", "notes.txt"));
        assert!(Glob::new("a[").is_err());
        assert!(Glob::new("*").unwrap().matches(Path::new(OsStr::from_bytes(b"\xff"))));
    }
}
