//! Splits an agent's output into lines, within bounded memory.
//!
//! `offset` is how far the output was consumed: the end of the last complete line, or, in a
//! line too long to keep, of the last byte thrown away. Reading on from there after a restart
//! finds the same lines, so nothing of an unfinished line is ever stored.

use serde::{Deserialize, Serialize};

/// The longest line that is understood, without its newline. The longest ones seen carry a
/// whole file before and after an edit, or an image.
pub const MAX_LINE_BYTES: usize = 8 * 1024 * 1024;

/// A line found.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Line<'a> {
    /// Without its newline.
    Whole(&'a [u8]),
    /// One above [`MAX_LINE_BYTES`], of so many bytes.
    TooLong(u64),
}

/// The splitter's state.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(super) struct Lines {
    offset: u64,
    /// In a line too long to keep: its bytes so far.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    skipping: Option<u64>,
    /// The unfinished line; read again after a restart.
    #[serde(skip)]
    partial: Vec<u8>,
}

impl Lines {
    /// How far the output was consumed.
    pub(super) fn offset(&self) -> u64 {
        self.offset
    }

    /// Takes the bytes that follow those given before.
    pub(super) fn feed(&mut self, mut bytes: &[u8], mut each: impl FnMut(Line<'_>)) {
        while let Some(end) = bytes.iter().position(|&byte| byte == b'\n') {
            self.push(&bytes[..end]);
            self.end_line(1, &mut each);
            bytes = &bytes[end + 1..];
        }
        self.push(bytes);
    }

    /// The output is over: an unfinished line is the last one.
    pub(super) fn finish(&mut self, mut each: impl FnMut(Line<'_>)) {
        if self.skipping.is_some() || !self.partial.is_empty() {
            self.end_line(0, &mut each);
        }
    }

    fn push(&mut self, part: &[u8]) {
        if self.skipping.is_none() && self.partial.len() + part.len() > MAX_LINE_BYTES {
            self.offset += self.partial.len() as u64;
            self.skipping = Some(self.partial.len() as u64);
            self.partial = Vec::new();
        }
        if let Some(skipped) = &mut self.skipping {
            self.offset += part.len() as u64;
            *skipped += part.len() as u64;
        } else {
            self.partial.extend_from_slice(part);
        }
    }

    fn end_line(&mut self, newline: u64, each: &mut impl FnMut(Line<'_>)) {
        self.offset += self.partial.len() as u64 + newline;
        if let Some(skipped) = self.skipping.take() {
            each(Line::TooLong(skipped));
        } else {
            each(Line::Whole(&self.partial));
            self.partial.clear();
            self.partial.shrink_to(64 * 1024);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines_of(state: &mut Lines, bytes: &[u8]) -> Vec<String> {
        let mut found = Vec::new();
        state.feed(bytes, |line| {
            found.push(match line {
                Line::Whole(line) => String::from_utf8_lossy(line).into_owned(),
                Line::TooLong(bytes) => format!("<{bytes}>"),
            });
        });
        found
    }

    #[test]
    fn the_offset_is_the_end_of_the_last_complete_line() {
        let mut lines = Lines::default();
        assert_eq!(lines_of(&mut lines, b"one\ntw"), ["one"]);
        assert_eq!(lines.offset(), 4);
        assert_eq!(lines_of(&mut lines, b"o\n\n"), ["two", ""]);
        assert_eq!(lines.offset(), 9);
    }

    #[test]
    fn a_line_too_long_is_counted_and_never_kept() {
        let mut lines = Lines::default();
        let part = vec![b'x'; 1024 * 1024];
        for _ in 0..100 {
            assert!(lines_of(&mut lines, &part).is_empty());
            assert!(lines.partial.capacity() <= 2 * MAX_LINE_BYTES);
        }
        // A restart in the middle of it goes on where it was.
        let stored = serde_json::to_string(&lines).unwrap();
        let mut lines: Lines = serde_json::from_str(&stored).unwrap();
        assert_eq!(lines.offset(), 100 * 1024 * 1024);
        assert_eq!(lines_of(&mut lines, b"x\nnext\n"), ["<104857601>", "next"]);
        assert_eq!(lines.offset(), 104_857_601 + 6);
    }

    #[test]
    fn the_bound_does_not_depend_on_how_the_bytes_arrive() {
        let mut longest = vec![b'x'; MAX_LINE_BYTES];
        longest.push(b'\n');
        assert_eq!(lines_of(&mut Lines::default(), &longest)[0].len(), MAX_LINE_BYTES);
        longest.insert(0, b'x');
        let whole = lines_of(&mut Lines::default(), &longest);
        let mut lines = Lines::default();
        let halves = longest.split_at(longest.len() / 2);
        let mut split = lines_of(&mut lines, halves.0);
        split.extend(lines_of(&mut lines, halves.1));
        assert_eq!((whole, split), (vec!["<8388609>".into()], vec!["<8388609>".to_owned()]));
    }
}
