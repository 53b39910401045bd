//! A process's directory on disk: `stdout`, `stderr`, `spec.json`, `status.json`.

use std::{
    fs::{self, DirBuilder, File, OpenOptions},
    io,
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

use rclaude_types::agentd::ProcessInfo;

use super::Stream;

/// Where one process's output and fate are kept.
pub(super) struct Journal {
    directory: PathBuf,
}

impl Journal {
    /// Makes the directory of a new process, which none may have had before.
    pub(super) fn create(directory: PathBuf) -> io::Result<Self> {
        DirBuilder::new().mode(0o700).create(&directory)?;
        Ok(Self { directory })
    }

    /// The journal that is in `directory`.
    pub(super) fn at(directory: PathBuf) -> Self {
        Self { directory }
    }

    /// A new file for a stream, to be written.
    pub(super) fn new_stream(&self, stream: Stream) -> io::Result<File> {
        let path = self.directory.join(name(stream));
        OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)
    }

    /// A stream's file, to be read.
    pub(super) fn open_stream(&self, stream: Stream) -> io::Result<File> {
        File::open(self.directory.join(name(stream)))
    }

    /// How much of a stream is in the journal.
    pub(super) fn stream_bytes(&self, stream: Stream) -> u64 {
        fs::metadata(self.directory.join(name(stream))).map_or(0, |meta| meta.len())
    }

    /// Writes down what was started, before it is.
    pub(super) fn write_spec(&self, info: &ProcessInfo) -> io::Result<()> {
        put(&self.directory.join("spec.json"), info)
    }

    /// Writes down how it ended: wholly, or not at all.
    pub(super) fn write_status(&self, info: &ProcessInfo) -> io::Result<()> {
        let new = self.directory.join("status.json.new");
        put(&new, info)?;
        fs::rename(new, self.directory.join("status.json"))
    }

    /// What was last written down of it: its end, or else its start.
    pub(super) fn read(&self) -> io::Result<(ProcessInfo, bool)> {
        let read = |name| -> io::Result<ProcessInfo> {
            Ok(serde_json::from_slice(&fs::read(self.directory.join(name))?)?)
        };
        match read("status.json") {
            Ok(info) => Ok((info, true)),
            Err(_) => read("spec.json").map(|info| (info, false)),
        }
    }

    /// Removes all of it.
    pub(super) fn remove(&self) -> io::Result<()> {
        match fs::remove_dir_all(&self.directory) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }
}

fn put(path: &Path, info: &ProcessInfo) -> io::Result<()> {
    fs::write(path, serde_json::to_vec(info)?)
}

fn name(stream: Stream) -> &'static str {
    match stream {
        Stream::Stdout => "stdout",
        Stream::Stderr => "stderr",
    }
}
