//! The header `range` (RFC 9110, section 14.2): one range of bytes. Several ranges, other units and
//! conditions on them may be ignored, and are: then the whole file is the answer.

use axum::http::{HeaderMap, header};

/// Which part of a file is wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Wanted {
    /// The whole.
    All,
    /// From the first offset to before the second.
    From { start: u64, end: u64 },
    /// So many at the end.
    Last(u64),
}

impl Wanted {
    /// What the request asks for.
    pub(super) fn of(headers: &HeaderMap) -> Self {
        // There is nothing a condition could be about: files have no validators here.
        if headers.contains_key(header::IF_RANGE) {
            return Self::All;
        }
        let range = headers.get(header::RANGE).and_then(|value| value.to_str().ok());
        range.and_then(Self::parse).unwrap_or(Self::All)
    }

    fn parse(text: &str) -> Option<Self> {
        let (unit, range) = text.split_once('=')?;
        if !unit.trim().eq_ignore_ascii_case("bytes") {
            return None;
        }
        match range.trim().split_once('-')? {
            ("", count) => Some(Self::Last(number(count)?)),
            (start, "") => Some(Self::From { start: number(start)?, end: u64::MAX }),
            (start, last) => {
                let (start, last) = (number(start)?, number(last)?);
                (start <= last).then(|| Self::From { start, end: last.saturating_add(1) })
            }
        }
    }
}

fn number(digits: &str) -> Option<u64> {
    let digits = digits.trim();
    digits.bytes().all(|b| b.is_ascii_digit()).then(|| digits.parse().ok())?
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_range_of_bytes_is_understood() {
        assert_eq!(Wanted::parse("bytes=0-499"), Some(Wanted::From { start: 0, end: 500 }));
        assert_eq!(Wanted::parse("Bytes=500-"), Some(Wanted::From { start: 500, end: u64::MAX }));
        assert_eq!(Wanted::parse("bytes=-7"), Some(Wanted::Last(7)));
    }

    #[test]
    fn anything_else_is_ignored() {
        for text in ["", "bytes", "bytes=", "bytes=-", "bytes=5-2", "bytes=0-1,4-5", "lines=1-2"] {
            assert_eq!(Wanted::parse(text), None, "{text}");
        }
        assert_eq!(Wanted::parse("bytes=+1-+2"), None);
        assert_eq!(Wanted::parse("bytes=99999999999999999999-"), None);
    }
}
