//! The frame around every message of a stream: one byte of flags, four of length, big endian.

use bytes::{Buf, BufMut, Bytes, BytesMut};
use serde::Serialize;

use super::{Error, MAX_MESSAGE, Result};

const HEADER: usize = 5;
const COMPRESSED: u8 = 1;
const END: u8 = 2;

/// A message in its envelope.
pub(super) fn message(value: &impl Serialize) -> Bytes {
    wrap(0, value)
}

/// The last envelope of a stream: how it ended.
pub(super) fn end(error: Option<&Error>) -> Bytes {
    #[derive(Serialize)]
    struct End<'a> {
        #[serde(skip_serializing_if = "Option::is_none")]
        error: Option<&'a Error>,
    }
    wrap(END, &End { error })
}

fn wrap(flags: u8, value: &impl Serialize) -> Bytes {
    let mut envelope = BytesMut::zeroed(HEADER).writer();
    serde_json::to_writer(&mut envelope, value).expect("our messages have string keys");
    let mut envelope = envelope.into_inner();
    let length = u32::try_from(envelope.len() - HEADER).expect("messages are far below 4 GiB");
    envelope[0] = flags;
    envelope[1..HEADER].copy_from_slice(&length.to_be_bytes());
    envelope.freeze()
}

/// What an envelope held.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Opened {
    Message(Bytes),
    /// The client's stream is over.
    End,
}

/// Takes the next whole envelope out of what arrived; `None` if it is not whole yet.
pub(super) fn open(buffer: &mut BytesMut) -> Result<Option<Opened>> {
    let Some(&[flags, a, b, c, d]) = buffer.first_chunk::<HEADER>() else { return Ok(None) };
    let length = u32::from_be_bytes([a, b, c, d]) as usize;
    if flags & COMPRESSED != 0 {
        return Err(Error::invalid("a compressed message; send `identity`"));
    }
    if length > MAX_MESSAGE {
        return Err(Error::invalid(format!("a message of more than {MAX_MESSAGE} bytes")));
    }
    if buffer.len() < HEADER + length {
        return Ok(None);
    }
    buffer.advance(HEADER);
    let content = buffer.split_to(length).freeze();
    Ok(Some(if flags & END == 0 { Opened::Message(content) } else { Opened::End }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::e2b::connect::Code;

    #[test]
    fn an_envelope_is_opened_once_it_is_whole() {
        let whole = message(&serde_json::json!({ "a": 1 }));
        assert_eq!(&whole[..], b"\0\0\0\0\x07{\"a\":1}");
        let mut buffer = BytesMut::new();
        for byte in &whole[..whole.len() - 1] {
            buffer.put_u8(*byte);
            assert_eq!(open(&mut buffer).unwrap(), None);
        }
        buffer.extend_from_slice(&whole[whole.len() - 1..]);
        buffer.extend_from_slice(&end(None));
        let content = Bytes::from_static(b"{\"a\":1}");
        assert_eq!(open(&mut buffer).unwrap(), Some(Opened::Message(content)));
        assert_eq!(open(&mut buffer).unwrap(), Some(Opened::End));
        assert_eq!(open(&mut buffer).unwrap(), None);
    }

    #[test]
    fn the_last_envelope_says_how_it_ended() {
        assert_eq!(&end(None)[..], b"\x02\0\0\0\x02{}");
        let error = Error::new(Code::NotFound, "no");
        let wanted = br#"{"error":{"code":"not_found","message":"no"}}"#;
        assert_eq!(&end(Some(&error))[5..], wanted);
    }

    #[test]
    fn an_envelope_that_announces_too_much_is_refused_before_it_comes() {
        let mut huge = BytesMut::from(&[0, 255, 255, 255, 255][..]);
        assert_eq!(open(&mut huge).unwrap_err().code(), Code::InvalidArgument);
        let mut packed = BytesMut::from(&[1, 0, 0, 0, 0][..]);
        assert_eq!(open(&mut packed).unwrap_err().code(), Code::InvalidArgument);
    }
}
