//! The description of a whole writable tree at one moment, by which the next seal sees what has
//! changed since.
//!
//! A file of records in the order of a walk that visits names by their bytes, each directory
//! before what is in it: depth (the root has 0), name, and [`Mark`]. Numbers are written in as
//! many bytes as they need (LEB128) but for times, which need all eight. Written and read from
//! front to back; one that was cut short is no index.

use std::{fs, io, path::Path};

use super::meta::Mark;

/// Raised when the format changes; an index of another version counts as absent, and the next
/// seal copies everything.
const MAGIC: &[u8; 16] = b"rclaude index 1\n";

/// Which tree is described. A directory made later has another inode or another time of birth.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct TreeIdentity {
    pub ino: u64,
    /// In nanoseconds.
    pub born: i64,
}

/// An index being written.
#[derive(Debug)]
pub(super) struct IndexWriter {
    bytes: Vec<u8>,
    count: u64,
}

impl IndexWriter {
    pub(super) fn new(tree: TreeIdentity) -> Self {
        let mut bytes = Vec::with_capacity(1 << 20);
        bytes.extend(MAGIC);
        bytes.extend(tree.ino.to_le_bytes());
        bytes.extend(tree.born.to_le_bytes());
        Self { bytes, count: 0 }
    }

    pub(super) fn push(&mut self, depth: u32, name: &[u8], mark: &Mark) {
        self.count += 1;
        // A depth of zero, as written, is the end.
        self.number(u64::from(depth) + 1);
        self.number(name.len() as u64);
        self.bytes.extend(name);
        self.number(mark.ino);
        self.bytes.extend(mark.ctime.to_le_bytes());
        self.bytes.extend(mark.mtime.to_le_bytes());
        self.number(mark.size);
        self.number(u64::from(mark.mode));
        self.bytes.push(u8::from(mark.opaque));
    }

    fn number(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.bytes.push(value.to_le_bytes()[0] | 0x80);
            value >>= 7;
        }
        self.bytes.push(value.to_le_bytes()[0]);
    }

    /// The whole file.
    pub(super) fn finish(mut self) -> Vec<u8> {
        let count = self.count;
        self.number(0);
        self.bytes.extend(count.to_le_bytes());
        self.bytes
    }
}

/// An index that was written.
#[derive(Debug)]
pub(super) struct Index {
    bytes: Vec<u8>,
    tree: TreeIdentity,
}

/// One record.
#[derive(Debug, Clone, Copy)]
pub(super) struct Known<'a> {
    pub depth: u32,
    pub name: &'a [u8],
    pub mark: Mark,
}

impl Index {
    /// Reads an index. One that is absent, damaged or of another version is `None`.
    pub(super) fn read(path: &Path) -> io::Result<Option<Self>> {
        match fs::read(path) {
            Ok(bytes) => Ok(Self::parse(bytes)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    pub(super) fn parse(bytes: Vec<u8>) -> Option<Self> {
        let mut rest = bytes.strip_prefix(MAGIC)?;
        let ino = u64::from_le_bytes(take(&mut rest)?);
        let born = i64::from_le_bytes(take(&mut rest)?);
        // Read once to the end, so that a reader later need not think of damage.
        let mut records = Records { rest };
        let mut count = 0_u64;
        while let Read::Record(_) = records.next()? {
            count += 1;
        }
        let whole = records.rest == count.to_le_bytes();
        whole.then_some(Self { bytes, tree: TreeIdentity { ino, born } })
    }

    pub(super) fn tree(&self) -> TreeIdentity {
        self.tree
    }

    pub(super) fn cursor(&self) -> Cursor<'_> {
        let mut cursor =
            Cursor { records: Records { rest: &self.bytes[MAGIC.len() + 16..] }, next: None };
        cursor.advance();
        cursor
    }
}

/// Reads an index record by record.
#[derive(Debug, Default)]
pub(super) struct Cursor<'a> {
    records: Records<'a>,
    next: Option<Known<'a>>,
}

impl<'a> Cursor<'a> {
    /// The next record, if it stands at `depth`.
    pub(super) fn at(&self, depth: u32) -> Option<Known<'a>> {
        self.next.filter(|known| known.depth == depth)
    }

    /// Goes on to the record after it, which may be of something in it.
    pub(super) fn advance(&mut self) {
        self.next = match self.records.next() {
            Some(Read::Record(known)) => Some(known),
            Some(Read::End) | None => None,
        };
    }

    /// Goes on past everything deeper than `depth`.
    pub(super) fn skip_below(&mut self, depth: u32) {
        while self.next.is_some_and(|known| known.depth > depth) {
            self.advance();
        }
    }
}

#[derive(Debug, Default)]
struct Records<'a> {
    rest: &'a [u8],
}

enum Read<'a> {
    Record(Known<'a>),
    End,
}

impl<'a> Records<'a> {
    /// What comes next; `None` if the bytes make no sense.
    fn next(&mut self) -> Option<Read<'a>> {
        let depth = self.number()?;
        if depth == 0 {
            return Some(Read::End);
        }
        let length = usize::try_from(self.number()?).ok()?;
        let (name, rest) = self.rest.split_at_checked(length)?;
        self.rest = rest;
        let mark = Mark {
            ino: self.number()?,
            ctime: i64::from_le_bytes(take(&mut self.rest)?),
            mtime: i64::from_le_bytes(take(&mut self.rest)?),
            size: self.number()?,
            mode: u32::try_from(self.number()?).ok()?,
            opaque: take::<1>(&mut self.rest)? == [1],
        };
        Some(Read::Record(Known { depth: u32::try_from(depth - 1).ok()?, name, mark }))
    }

    fn number(&mut self) -> Option<u64> {
        let mut value = 0;
        for shift in (0..64).step_by(7) {
            let [byte] = take(&mut self.rest)?;
            value |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return Some(value);
            }
        }
        None
    }
}

fn take<const N: usize>(rest: &mut &[u8]) -> Option<[u8; N]> {
    let (taken, left) = rest.split_first_chunk()?;
    *rest = left;
    Some(*taken)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> Vec<u8> {
        let mut writer = IndexWriter::new(TreeIdentity { ino: 7, born: -3 });
        let mark =
            Mark { ino: 300, ctime: 5, mtime: -5, size: 1 << 40, mode: 0o40755, opaque: true };
        writer.push(0, b"", &mark);
        writer.push(1, b"a\n\xff", &Mark { mode: 0o100_644, opaque: false, ..mark });
        writer.push(1, b"b", &mark);
        writer.push(2, b"c", &mark);
        writer.push(1, b"d", &mark);
        writer.finish()
    }

    #[test]
    fn an_index_reads_as_it_was_written() {
        let index = Index::parse(sample()).unwrap();
        assert_eq!(index.tree(), TreeIdentity { ino: 7, born: -3 });
        let mut cursor = index.cursor();
        assert_eq!(cursor.at(0).unwrap().mark.size, 1 << 40);
        cursor.advance();
        assert_eq!(cursor.at(1).unwrap().name, b"a\n\xff");
        assert!(cursor.at(2).is_none());
        cursor.advance();
        assert_eq!(cursor.at(1).unwrap().name, b"b");
        cursor.advance();
        cursor.skip_below(1);
        assert_eq!(cursor.at(1).unwrap().name, b"d");
        cursor.advance();
        assert!(cursor.at(1).is_none());
    }

    #[test]
    fn one_that_was_cut_short_anywhere_is_none() {
        let whole = sample();
        for length in 0..whole.len() {
            assert!(Index::parse(whole[..length].to_vec()).is_none(), "{length}");
        }
        let mut longer = whole.clone();
        longer.push(0);
        assert!(Index::parse(longer).is_none());
    }
}
