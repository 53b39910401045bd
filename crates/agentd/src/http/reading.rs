//! Requests for a file's bytes.

use std::os::unix::fs::FileExt;

use bytes::Bytes;
use hyper::{
    HeaderMap, Response, StatusCode,
    header::{
        ACCEPT_RANGES, CONTENT_LENGTH, CONTENT_RANGE, ETAG, HeaderName, HeaderValue, IF_RANGE,
        RANGE,
    },
};
use rclaude_types::{
    ErrorCode,
    agentd::{FILE_MODE_HEADER, FILE_MODIFIED_HEADER},
};
use tokio::{sync::mpsc, task::spawn_local};

use super::{Body, input::Query};
use crate::{
    daemon::Daemon,
    files::{self, Opened},
    refusal::{Refusal, Result},
};

/// Read at once.
const PIECE: usize = 64 * 1024;

/// The most of a file whose size the kernel does not know (`/proc`) that is read.
const MAX_UNSIZED: u64 = 4 * 1024 * 1024;

pub(super) async fn read(
    daemon: &Daemon,
    query: &Query,
    headers: &HeaderMap,
) -> Result<Response<Body>> {
    let (path, rights) = (query.path()?, daemon.rights(query.user()?)?);
    let doing = format!("read {}", path.display());
    let opened = files::job(rights, doing, move || files::open_file(&path)).await?;
    let size = opened.size;
    let part = match wanted(headers, &opened.etag) {
        Some(range) => Some(range.within(size).ok_or_else(|| {
            let detail = format!("the file has {size} bytes, and the range begins after them");
            Refusal::new(ErrorCode::RangeNotSatisfiable, detail)
        })?),
        None => None,
    };
    let (start, end) = part.unwrap_or((0, size));
    let mut response = Response::new(Body::Whole(None));
    describe(&mut response, &opened);
    // What the kernel makes up has no size and content all the same.
    let end = if size == 0 {
        MAX_UNSIZED
    } else {
        response.headers_mut().insert(CONTENT_LENGTH, HeaderValue::from(end - start));
        end
    };
    if part.is_some() {
        let shown = format!("bytes {start}-{}/{size}", end - 1);
        put(&mut response, CONTENT_RANGE, shown);
        *response.status_mut() = StatusCode::PARTIAL_CONTENT;
    }
    *response.body_mut() = Body::Pieces(content(opened, start, end));
    Ok(response)
}

/// The bytes of a file. Once it is open no more rights are needed, and reading what the kernel has
/// at hand is quick.
fn content(opened: Opened, start: u64, end: u64) -> mpsc::Receiver<std::io::Result<Bytes>> {
    let (pieces, content) = mpsc::channel(1);
    spawn_local(async move {
        let mut at = start;
        while at < end {
            let length = usize::try_from(end - at).unwrap_or(PIECE).min(PIECE);
            let mut piece = vec![0; length];
            let read = if opened.size == 0 {
                opened.file.read_at(&mut piece, at)
            } else {
                opened.file.read_exact_at(&mut piece, at).map(|()| length)
            };
            let read = read.map(|count| {
                piece.truncate(count);
                Bytes::from(piece)
            });
            let ended = match &read {
                Ok(bytes) => bytes.is_empty(),
                Err(_) => true,
            };
            at += length as u64;
            if opened.size == 0
                && let Ok(bytes) = &read
            {
                at = at - length as u64 + bytes.len() as u64;
                if ended {
                    return;
                }
            }
            if pieces.send(read).await.is_err() || ended {
                return;
            }
        }
    });
    content
}

fn describe(response: &mut Response<Body>, opened: &Opened) {
    let headers = response.headers_mut();
    headers.insert(ACCEPT_RANGES, HeaderValue::from_static("bytes"));
    let octets = HeaderValue::from_static("application/octet-stream");
    headers.insert(hyper::header::CONTENT_TYPE, octets);
    put(response, ETAG, format!("\"{}\"", opened.etag));
    put(response, HeaderName::from_static(FILE_MODE_HEADER), format!("{:o}", opened.mode));
    let (seconds, nanos) = opened.modified;
    let modified = format!("{seconds}.{nanos:09}");
    put(response, HeaderName::from_static(FILE_MODIFIED_HEADER), modified);
}

fn put(response: &mut Response<Body>, name: HeaderName, value: String) {
    // Digits and letters of our own: there is none that a header cannot say.
    if let Ok(value) = HeaderValue::try_from(value) {
        response.headers_mut().insert(name, value);
    }
}

/// One range of bytes (RFC 9110, section 14.1.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Range {
    /// From the first offset to before the second.
    From { start: u64, end: u64 },
    /// So many at the end.
    Last(u64),
}

/// The range that is asked for. Several ranges, other units and what is malformed may be ignored,
/// and are; so is a range of another state of the file than this one (section 13.1.5). Then the
/// whole file is the answer.
fn wanted(headers: &HeaderMap, etag: &str) -> Option<Range> {
    if let Some(only) = headers.get(IF_RANGE)
        && only.as_bytes() != format!("\"{etag}\"").as_bytes()
    {
        return None;
    }
    Range::parse(headers.get(RANGE)?.to_str().ok()?)
}

impl Range {
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

    /// Start and end in a file of `size`; `None` if none of it is in there.
    fn within(self, size: u64) -> Option<(u64, u64)> {
        let (start, end) = match self {
            Self::From { start, end } => (start, end.min(size)),
            Self::Last(count) => (size.saturating_sub(count), size),
        };
        (start < end).then_some((start, end))
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
    fn one_range_of_bytes_is_understood_and_cut_to_what_there_is() {
        for (text, within) in [
            ("bytes=0-4", Some((0, 5))),
            ("Bytes=5-", Some((5, 10))),
            ("bytes=-3", Some((7, 10))),
            ("bytes=-99", Some((0, 10))),
            ("bytes=8-99", Some((8, 10))),
            ("bytes=10-", None),
            ("bytes=99-100", None),
            ("bytes=-0", None),
        ] {
            assert_eq!(Range::parse(text).unwrap().within(10), within, "{text}");
        }
    }

    #[test]
    fn anything_else_is_ignored() {
        for text in [
            "",
            "bytes",
            "bytes=",
            "bytes=-",
            "bytes=5-2",
            "bytes=0-1,4-5",
            "lines=1-2",
            "bytes=+1-+2",
            "bytes=99999999999999999999-",
        ] {
            assert_eq!(Range::parse(text), None, "{text}");
        }
    }

    #[test]
    fn a_range_of_another_state_of_the_file_is_ignored() {
        let headers = |only: &'static str| {
            HeaderMap::from_iter([
                (RANGE, HeaderValue::from_static("bytes=1-2")),
                (IF_RANGE, HeaderValue::from_static(only)),
            ])
        };
        assert_eq!(wanted(&headers("\"a\""), "a"), Some(Range::From { start: 1, end: 3 }));
        assert_eq!(wanted(&headers("\"b\""), "a"), None);
        assert_eq!(wanted(&headers("Sat, 21 Nov 2026 00:00:00 GMT"), "a"), None);
    }
}
