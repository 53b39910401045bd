//! What is kept on disk of processes: one log of their starts and ends, and a file for each
//! stream that has something in it.
//!
//! Making and removing files is what costs on most disks, so a command that prints nothing makes
//! none: its start and its end are two lines of the log. A line is written by one call after all
//! that came before, so a daemon killed at any instant leaves whole lines; what a power cut tore
//! off is dropped when the log is read again. Lines that no longer matter are left behind by
//! writing the log anew, beside the old one, which it then replaces at once.

use std::{
    cell::{Cell, RefCell},
    collections::BTreeMap,
    fs::{self, DirBuilder, File, OpenOptions},
    io::{self, Write},
    os::unix::fs::{DirBuilderExt, FileExt, OpenOptionsExt},
    path::PathBuf,
};

use rclaude_types::{ExecId, agentd::ProcessInfo};
use serde::{Deserialize, Serialize};

use super::Stream;
use crate::sys;

/// The log's name, beside the streams.
const LOG: &str = "log";

/// Lines that the log may have beyond two for each process before it is written anew.
const SLACK: usize = 4096;

/// A line of the log.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Line<'a> {
    /// About to be started. The process is lost unless its end follows.
    Started(Told<'a>),
    /// Over, and how.
    Ended(Told<'a>),
    /// Its streams are gone.
    Forgotten(ExecId),
}

/// A process as it is told: borrowed to be written, owned once read.
type Told<'a> = std::borrow::Cow<'a, ProcessInfo>;

/// What the log says of one process.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Logged {
    pub(super) info: ProcessInfo,
    /// Whether `info` is of its end.
    pub(super) has_ended: bool,
}

/// Where the output and fate of all processes are kept.
pub(super) struct Journal {
    directory: PathBuf,
    /// Opened when the first line is written.
    log: RefCell<Option<File>>,
    /// How far the log's whole lines reach.
    length: Cell<u64>,
    lines: Cell<usize>,
}

impl Journal {
    /// Opens the journal in `directory`, which need not exist, and tells what it says.
    pub(super) fn open(directory: PathBuf) -> io::Result<(Self, BTreeMap<ExecId, Logged>)> {
        let bytes = match fs::read(directory.join(LOG)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
            other => other?,
        };
        let (processes, length, lines) = replay(&bytes);
        let journal = Self {
            directory,
            log: RefCell::default(),
            length: Cell::new(length),
            lines: Cell::new(lines),
        };
        Ok((journal, processes))
    }

    /// Writes down what is about to be started.
    pub(super) fn started(&self, info: &ProcessInfo) -> io::Result<()> {
        self.append(&Line::Started(Told::Borrowed(info)))
    }

    /// Writes down how a process ended.
    pub(super) fn ended(&self, info: &ProcessInfo) -> io::Result<()> {
        self.append(&Line::Ended(Told::Borrowed(info)))
    }

    /// Removes what a process printed and forgets the process.
    pub(super) fn forget(&self, id: &ExecId) -> io::Result<()> {
        // In this order a crash in between leaves a process that printed nothing, not files that
        // nobody knows of.
        for stream in [Stream::Stdout, Stream::Stderr] {
            match fs::remove_file(self.stream(id, stream)) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
        if let Err(error) = self.append(&Line::Forgotten(id.clone())) {
            // Room can be made on a full disk. The next daemon knows its name again, no more.
            sys::say(&format!("agentd: forgetting {id}: {error}\n"));
        }
        Ok(())
    }

    /// Whether the log has grown far beyond what it has to say of `count` processes.
    pub(super) fn is_long(&self, count: usize) -> bool {
        self.lines.get() > 2 * count + SLACK
    }

    /// Writes the log anew with only what still matters. Fails without harm.
    pub(super) fn rewrite(&self, processes: impl Iterator<Item = Logged>) -> io::Result<()> {
        let mut bytes = Vec::new();
        let mut lines = 0;
        for Logged { info, has_ended } in processes {
            let told = Told::Owned(info);
            put(&mut bytes, &if has_ended { Line::Ended(told) } else { Line::Started(told) })?;
            lines += 1;
        }
        let new = self.directory.join("log.new");
        let mut file = options().truncate(true).open(&new)?;
        file.write_all(&bytes)?;
        fs::rename(new, self.directory.join(LOG))?;
        *self.log.borrow_mut() = Some(file);
        self.length.set(bytes.len() as u64);
        self.lines.set(lines);
        Ok(())
    }

    /// A file for a stream, to be written.
    pub(super) fn new_stream(&self, id: &ExecId, stream: Stream) -> io::Result<File> {
        options().truncate(true).open(self.stream(id, stream))
    }

    /// A stream's file, to be read.
    pub(super) fn open_stream(&self, id: &ExecId, stream: Stream) -> io::Result<File> {
        File::open(self.stream(id, stream))
    }

    /// How much of a stream there is.
    pub(super) fn stream_bytes(&self, id: &ExecId, stream: Stream) -> u64 {
        fs::metadata(self.stream(id, stream)).map_or(0, |meta| meta.len())
    }

    fn stream(&self, id: &ExecId, stream: Stream) -> PathBuf {
        let kind = match stream {
            Stream::Stdout => "stdout",
            Stream::Stderr => "stderr",
        };
        self.directory.join(format!("{id}.{kind}"))
    }

    fn append(&self, line: &Line<'_>) -> io::Result<()> {
        let mut bytes = Vec::new();
        put(&mut bytes, line)?;
        let mut log = self.log.borrow_mut();
        let log = match &mut *log {
            Some(log) => log,
            none => none.insert(self.open_log()?),
        };
        if let Err(error) = log.write_all_at(&bytes, self.length.get()) {
            // What did go to a full disk is no line.
            let _longer = log.set_len(self.length.get());
            return Err(error);
        }
        self.length.set(self.length.get() + bytes.len() as u64);
        self.lines.set(self.lines.get() + 1);
        Ok(())
    }

    fn open_log(&self) -> io::Result<File> {
        let path = self.directory.join(LOG);
        let log = match options().open(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                DirBuilder::new().recursive(true).mode(0o700).create(&self.directory)?;
                options().open(&path)?
            }
            other => other?,
        };
        // Torn off, or else of a daemon whose lines could not be read.
        log.set_len(self.length.get())?;
        Ok(log)
    }
}

/// How all files here are opened for writing.
fn options() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.write(true).create(true).truncate(false).mode(0o600);
    options
}

fn put(bytes: &mut Vec<u8>, line: &Line<'_>) -> io::Result<()> {
    serde_json::to_writer(&mut *bytes, line)?;
    bytes.push(b'\n');
    Ok(())
}

/// What a log says, how far its whole lines reach, and how many they are.
fn replay(bytes: &[u8]) -> (BTreeMap<ExecId, Logged>, u64, usize) {
    let mut processes = BTreeMap::new();
    let (mut length, mut lines) = (0, 0);
    for text in bytes.split_inclusive(|byte| *byte == b'\n') {
        let Some(text) = text.strip_suffix(b"\n") else { break };
        let Ok(line) = serde_json::from_slice(text) else { break };
        length += text.len() as u64 + 1;
        lines += 1;
        match line {
            Line::Started(info) => {
                let info = info.into_owned();
                processes.insert(info.id.clone(), Logged { info, has_ended: false });
            }
            Line::Ended(info) => {
                let info = info.into_owned();
                processes.insert(info.id.clone(), Logged { info, has_ended: true });
            }
            Line::Forgotten(id) => drop(processes.remove(&id)),
        }
    }
    (processes, length, lines)
}

#[cfg(test)]
mod tests {
    use rclaude_types::{Timestamp, agentd::ProcessState};

    use super::*;

    fn info(state: ProcessState) -> ProcessInfo {
        ProcessInfo {
            id: ExecId::generate(),
            argv: vec!["true".to_owned()],
            state,
            started_at: Timestamp::from_micros(7),
            stdout_bytes: 0,
            stderr_bytes: 0,
            stdin_accepted: 3,
            journal_full: false,
            keep: false,
        }
    }

    fn over() -> ProcessState {
        ProcessState::Exited {
            code: Some(0),
            signal: None,
            at: Timestamp::from_micros(8),
            timed_out: false,
            out_of_memory: false,
        }
    }

    #[test]
    fn what_was_written_is_read_again_and_what_was_forgotten_is_not() {
        let dir = tempfile::tempdir().unwrap();
        let at = dir.path().join("not/yet");
        let (journal, none) = Journal::open(at.clone()).unwrap();
        assert!(none.is_empty() && !at.exists());
        let (running, ended, gone) =
            (info(ProcessState::Lost), info(ProcessState::Lost), info(ProcessState::Lost));
        for it in [&running, &ended, &gone] {
            journal.started(it).unwrap();
        }
        let ended = ProcessInfo { state: over(), ..ended };
        journal.ended(&ended).unwrap();
        journal.new_stream(&gone.id, Stream::Stdout).unwrap();
        journal.forget(&gone.id).unwrap();
        assert_eq!(fs::read_dir(&at).unwrap().count(), 1, "only the log");

        let (journal, mut read) = Journal::open(at).unwrap();
        assert_eq!(
            read.remove(&running.id),
            Some(Logged { info: running.clone(), has_ended: false })
        );
        let ended = Logged { info: ended, has_ended: true };
        assert_eq!(read.remove(&ended.info.id), Some(ended.clone()));
        assert!(read.is_empty());
        journal.rewrite([ended].into_iter()).unwrap();
        journal.started(&running).unwrap();
        assert_eq!(Journal::open(journal.directory).unwrap().1.len(), 2);
    }

    #[test]
    fn a_torn_line_is_dropped_and_written_over() {
        let dir = tempfile::tempdir().unwrap();
        let (journal, _) = Journal::open(dir.path().to_owned()).unwrap();
        let (first, second) = (info(ProcessState::Lost), info(ProcessState::Lost));
        journal.started(&first).unwrap();
        let log = dir.path().join(LOG);
        let whole = fs::read(&log).unwrap();
        fs::write(&log, [whole.as_slice(), br#"{"ended":{"id":"exe_"#].concat()).unwrap();
        let (journal, read) = Journal::open(dir.path().to_owned()).unwrap();
        assert_eq!(read.keys().collect::<Vec<_>>(), [&first.id]);
        journal.started(&second).unwrap();
        let (_, read) = Journal::open(dir.path().to_owned()).unwrap();
        assert_eq!(read.len(), 2);
    }
}
