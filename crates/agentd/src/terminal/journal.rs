//! What a terminal printed, the last of it, on disk.
//!
//! A row of files, each named by the offset of its first byte; the oldest is dropped when there is
//! enough without it. A name and a length are all there is to know, so a daemon that was killed at
//! any instant leaves nothing that the next could misread. A full disk costs history, never the
//! shell: the oldest files give way, and if that is not enough the journal begins anew behind what
//! could not be kept, which viewers bridge with the screen.

use std::{
    collections::VecDeque,
    fs::{self, DirBuilder, File, OpenOptions},
    io::{self, Write},
    os::unix::fs::{DirBuilderExt, FileExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

use rclaude_types::agentd::TerminalInfo;

/// The least that is kept once there is as much.
pub(super) const KEPT: u64 = 8 * 1024 * 1024;

/// Bytes after which another file is begun: what is dropped at once.
const FILE_BYTES: u64 = 1024 * 1024;

/// The record beside the files.
const INFO: &str = "info";

/// The last bytes of one terminal.
pub(super) struct Journal {
    directory: PathBuf,
    /// Where each file begins.
    starts: VecDeque<u64>,
    /// The last of them, once it is written to.
    file: Option<File>,
    end: u64,
}

impl Journal {
    /// A journal that begins in `directory`.
    pub(super) fn create(directory: &Path) -> io::Result<Self> {
        DirBuilder::new().recursive(true).mode(0o700).create(directory)?;
        Ok(Self::at(directory, VecDeque::new(), 0))
    }

    /// What an earlier daemon left in `directory`.
    pub(super) fn open(directory: &Path) -> io::Result<Self> {
        let mut files: Vec<(u64, u64)> = fs::read_dir(directory)?
            .flatten()
            .filter_map(|entry| {
                let start = u64::from_str_radix(entry.file_name().to_str()?, 16).ok()?;
                Some((start, entry.metadata().ok()?.len()))
            })
            .collect();
        files.sort_unstable();
        let end = files.last().map_or(0, |(start, length)| start + length);
        let (mut starts, mut next) = (VecDeque::new(), end);
        // Only what joins on is of use.
        for (start, length) in files.into_iter().rev() {
            if start + length != next {
                break;
            }
            starts.push_front(start);
            next = start;
        }
        Ok(Self::at(directory, starts, end))
    }

    fn at(directory: &Path, starts: VecDeque<u64>, end: u64) -> Self {
        Self { directory: directory.to_owned(), starts, file: None, end }
    }

    /// Offset of the first byte that is kept.
    pub(super) fn first(&self) -> u64 {
        self.starts.front().copied().unwrap_or(self.end)
    }

    /// Offset of the next byte.
    pub(super) fn end(&self) -> u64 {
        self.end
    }

    /// Keeps `bytes`, if need be at the cost of older ones.
    pub(super) fn append(&mut self, bytes: &[u8]) {
        while self.write(bytes).is_err() {
            if self.starts.is_empty() {
                break;
            }
            self.drop_oldest();
        }
        self.end += bytes.len() as u64;
        while self.starts.get(1).is_some_and(|second| self.end - second >= KEPT) {
            self.drop_oldest();
        }
    }

    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        let current = self.starts.back().copied();
        let start = match current {
            Some(start) if self.end - start < FILE_BYTES && self.file.is_some() => start,
            _ => {
                let file = options().open(self.path(self.end))?;
                self.starts.push_back(self.end);
                self.file = Some(file);
                self.end
            }
        };
        let Some(file) = &self.file else { return Err(io::ErrorKind::NotFound.into()) };
        file.write_all_at(bytes, self.end - start).inspect_err(|_| {
            // Half a piece would make the file longer than it is said to be.
            let _longer = file.set_len(self.end - start);
        })
    }

    fn drop_oldest(&mut self) {
        if let Some(start) = self.starts.pop_front() {
            let _gone = fs::remove_file(self.path(start));
        }
        if self.starts.is_empty() {
            self.file = None;
        }
    }

    /// Reads some of what is kept from `offset` on: as much as there is in one file, up to all of
    /// `buffer`. `reader` remembers the file from one call to the next.
    pub(super) fn read(
        &self,
        reader: &mut Option<(u64, File)>,
        offset: u64,
        buffer: &mut [u8],
    ) -> io::Result<usize> {
        let after = self.starts.partition_point(|start| *start <= offset);
        let Some(&start) = after.checked_sub(1).and_then(|index| self.starts.get(index)) else {
            return Err(io::ErrorKind::NotFound.into());
        };
        let stop = self.starts.get(after).copied().unwrap_or(self.end);
        let file = match reader {
            Some((of, file)) if *of == start => file,
            other => &mut other.insert((start, File::open(self.path(start))?)).1,
        };
        let length = usize::try_from(stop - offset).unwrap_or(usize::MAX).min(buffer.len());
        file.read_exact_at(&mut buffer[..length], offset - start)?;
        Ok(length)
    }

    fn path(&self, start: u64) -> PathBuf {
        self.directory.join(format!("{start:016x}"))
    }
}

/// Replaces the record in `directory`, at once or not at all.
pub(super) fn write_info(directory: &Path, info: &TerminalInfo) -> io::Result<()> {
    let new = directory.join("info.new");
    let mut file = options().open(&new)?;
    file.write_all(&serde_json::to_vec(info)?)?;
    fs::rename(new, directory.join(INFO))
}

/// Reads the record in `directory`.
pub(super) fn read_info(directory: &Path) -> io::Result<TerminalInfo> {
    Ok(serde_json::from_slice(&fs::read(directory.join(INFO))?)?)
}

fn options() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.write(true).create(true).truncate(true).mode(0o600);
    options
}

#[cfg(test)]
mod tests {
    use super::*;

    fn byte(offset: u64) -> u8 {
        u8::try_from(offset.wrapping_mul(31) >> 3 & 0xff).unwrap()
    }

    fn piece(from: u64, length: u64) -> Vec<u8> {
        (from..from + length).map(byte).collect()
    }

    fn all(journal: &Journal, from: u64) -> Vec<u8> {
        let (mut read, mut reader, mut buffer) = (Vec::new(), None, vec![0; 50_000]);
        while from + (read.len() as u64) < journal.end() {
            let at = from + read.len() as u64;
            let count = journal.read(&mut reader, at, &mut buffer).unwrap();
            read.extend_from_slice(&buffer[..count]);
        }
        read
    }

    #[test]
    fn the_last_megabytes_are_kept_under_their_offsets_and_found_again() {
        let dir = tempfile::tempdir().unwrap();
        let mut journal = Journal::create(dir.path()).unwrap();
        let total = 3 * KEPT + 12_345;
        let mut at = 0;
        while at < total {
            let length = (total - at).min(30_000);
            journal.append(&piece(at, length));
            at += length;
        }
        let first = journal.first();
        assert!(total - first >= KEPT && total - first < KEPT + 2 * FILE_BYTES, "{first}");
        assert!(all(&journal, first) == piece(first, total - first));
        assert!(all(&journal, total - 77_777) == piece(total - 77_777, 77_777));
        let mut none = None;
        assert!(journal.read(&mut none, first - 1, &mut [0; 8]).is_err());
        let on_disk: u64 =
            fs::read_dir(dir.path()).unwrap().map(|it| it.unwrap().metadata().unwrap().len()).sum();
        assert_eq!(on_disk, total - first, "what is dropped is gone");

        let mut again = Journal::open(dir.path()).unwrap();
        assert_eq!((again.first(), again.end()), (first, total));
        again.append(&piece(total, 10));
        assert!(all(&again, first) == piece(first, total + 10 - first));
    }

    #[test]
    fn what_does_not_join_on_is_not_taken_for_history() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("0000000000000000"), "lost").unwrap();
        fs::write(dir.path().join("0000000000000010"), "0123456789abcdef").unwrap();
        fs::write(dir.path().join("0000000000000020"), "end").unwrap();
        fs::write(dir.path().join("info"), "{}").unwrap();
        let journal = Journal::open(dir.path()).unwrap();
        assert_eq!((journal.first(), journal.end()), (16, 35));
        assert_eq!(all(&journal, 16), b"0123456789abcdefend");
    }

    #[test]
    fn what_cannot_be_written_costs_history_and_nothing_else() {
        let dir = tempfile::tempdir().unwrap();
        let at = dir.path().join("journal");
        let mut journal = Journal::create(&at).unwrap();
        journal.append(b"before");
        fs::remove_dir_all(&at).unwrap();
        journal.file = None;
        journal.append(b"while there is no room");
        assert_eq!((journal.first(), journal.end()), (28, 28));
        fs::create_dir(&at).unwrap();
        journal.append(b"after");
        assert_eq!((journal.first(), journal.end()), (28, 33));
        assert_eq!(all(&journal, 28), b"after");
    }
}
