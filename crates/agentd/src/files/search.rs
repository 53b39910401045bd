//! Searching the lines of files.

use std::{
    fs::File,
    io,
    ops::ControlFlow,
    os::fd::{AsFd, BorrowedFd},
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use grep_matcher::Matcher;
use grep_regex::{RegexMatcher, RegexMatcherBuilder};
use grep_searcher::{BinaryDetection, Searcher, SearcherBuilder, Sink, SinkMatch};
use rclaude_tree::{MAX_DEPTH, open, open_at};
use rclaude_types::{FileMatch, FileSearch, SearchStop};
use rustix::fs::{OFlags, ResolveFlags};

use super::{
    entry::told,
    ignored::Ignored,
    list::Glob,
    walk::{Found, Visitor, Walk},
};

/// How long a search may take.
const PATIENCE: Duration = Duration::from_secs(20);

/// The most of a line that is told.
const MAX_LINE: usize = 500;

/// Longest line that is looked at: it has to be in memory. A file with a longer one is left at it.
const LINE_BUFFER: usize = 4 * 1024 * 1024;

/// Memory for what a pattern is compiled to.
const PATTERN_MEMORY: usize = 8 * 1024 * 1024;

/// What to look for.
#[expect(clippy::struct_excessive_bools, reason = "each is a choice of its own")]
pub(crate) struct Search {
    /// A regular expression, or a text that is meant as it is.
    pub(crate) pattern: String,
    pub(crate) literal: bool,
    pub(crate) ignore_case: bool,
    /// Which files, by path or name.
    pub(crate) glob: Option<String>,
    /// Also look into hidden files and directories.
    pub(crate) hidden: bool,
    /// Also look into what ignore files name.
    pub(crate) ignored: bool,
    /// Lines to find at most.
    pub(crate) limit: usize,
}

/// Searches the file, or the tree, at `path`.
pub(crate) fn search(path: &Path, wanted: &Search) -> io::Result<FileSearch> {
    let matcher = RegexMatcherBuilder::new()
        .case_insensitive(wanted.ignore_case)
        .fixed_strings(wanted.literal)
        .line_terminator(Some(b'\n'))
        .size_limit(PATTERN_MEMORY)
        .dfa_size_limit(PATTERN_MEMORY)
        .build(&wanted.pattern)
        .map_err(|error| {
            let text = format!("the pattern cannot be used: {error}");
            io::Error::new(io::ErrorKind::InvalidInput, text)
        })?;
    let searcher = SearcherBuilder::new()
        .binary_detection(BinaryDetection::quit(0))
        .heap_limit(Some(LINE_BUFFER))
        .line_number(true)
        .build();
    let mut looking = Looking {
        base: path,
        glob: wanted.glob.as_deref().map(Glob::new).transpose()?,
        ignored: (!wanted.ignored).then(|| Ignored::above(path)),
        hidden: wanted.hidden,
        limit: wanted.limit,
        until: Instant::now() + PATIENCE,
        matcher,
        searcher,
        result: FileSearch { data: Vec::new(), files: 0, stopped: None },
    };
    match open(path, OFlags::RDONLY | OFlags::DIRECTORY) {
        Ok(directory) => {
            let walk = Walk { depth: MAX_DEPTH, after: None };
            let _stopped = walk.through(directory.as_fd(), &mut looking)?;
        }
        Err(error) if error.kind() == io::ErrorKind::NotADirectory => {
            looking.file(super::open_file(path)?.file, path)?;
        }
        Err(error) => return Err(error),
    }
    Ok(looking.result)
}

struct Looking<'a> {
    base: &'a Path,
    glob: Option<Glob>,
    ignored: Option<Ignored>,
    hidden: bool,
    limit: usize,
    until: Instant,
    matcher: RegexMatcher,
    searcher: Searcher,
    result: FileSearch,
}

impl Looking<'_> {
    fn file(&mut self, file: File, shown: &Path) -> io::Result<()> {
        self.result.files += 1;
        let mut lines = Lines {
            shown,
            matcher: &self.matcher,
            limit: self.limit,
            until: self.until,
            result: &mut self.result,
        };
        match self.searcher.search_file(&self.matcher, &file, &mut lines) {
            // A line beyond the buffer, or a file that cannot be read on: the others can.
            Err(error) if error.raw_os_error().is_none() => Ok(()),
            done => done,
        }
    }
}

impl Visitor for Looking<'_> {
    fn enter(&mut self, directory: BorrowedFd<'_>, path: &Path) -> io::Result<()> {
        if let Some(ignored) = &mut self.ignored {
            ignored.enter(directory, &joined(self.base, path));
        }
        Ok(())
    }

    fn leave(&mut self) {
        if let Some(ignored) = &mut self.ignored {
            ignored.leave();
        }
    }

    fn skip(&mut self, path: &Path, is_directory: bool) -> bool {
        let dotted = path.file_name().is_some_and(|name| name.as_encoded_bytes()[0] == b'.');
        if dotted && !self.hidden {
            return true;
        }
        let ignored = self.ignored.as_ref();
        ignored.is_some_and(|it| it.is_ignored(&joined(self.base, path), is_directory))
    }

    fn visit(&mut self, found: &Found<'_>) -> io::Result<ControlFlow<()>> {
        if self.result.stopped.is_none() && Instant::now() > self.until {
            self.result.stopped = Some(SearchStop::Time);
        }
        let wanted = self.glob.as_ref().is_none_or(|glob| glob.matches(found.path));
        if self.result.stopped.is_none() && found.is_file && wanted {
            let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK;
            let file = open_at(found.directory, found.name, flags, ResolveFlags::BENEATH)?;
            self.file(File::from(file), &joined(self.base, found.path))?;
        }
        Ok(match self.result.stopped {
            Some(_) => ControlFlow::Break(()),
            None => ControlFlow::Continue(()),
        })
    }
}

/// `Path::join` leaves a slash at the end where there is nothing to join.
fn joined(base: &Path, path: &Path) -> PathBuf {
    if path.as_os_str().is_empty() { base.to_owned() } else { base.join(path) }
}

struct Lines<'a> {
    shown: &'a Path,
    matcher: &'a RegexMatcher,
    limit: usize,
    until: Instant,
    result: &'a mut FileSearch,
}

impl Sink for Lines<'_> {
    type Error = io::Error;

    fn matched(&mut self, _: &Searcher, found: &SinkMatch<'_>) -> io::Result<bool> {
        if self.result.data.len() == self.limit {
            self.result.stopped = Some(SearchStop::Limit);
            return Ok(false);
        }
        if Instant::now() > self.until {
            self.result.stopped = Some(SearchStop::Time);
            return Ok(false);
        }
        let line = found.bytes();
        let line = line.strip_suffix(b"\n").unwrap_or(line);
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        let first = self.matcher.find(line).map_err(io::Error::other)?;
        let (path, path_base64) = told(self.shown.as_os_str());
        let told = line.get(..MAX_LINE).unwrap_or(line);
        self.result.data.push(FileMatch {
            path,
            path_base64,
            line: found.line_number().unwrap_or(0),
            column: first.map_or(1, |first| first.start() as u64 + 1),
            text: String::from_utf8_lossy(told).into_owned(),
            cut: told.len() < line.len(),
        });
        Ok(true)
    }
}
