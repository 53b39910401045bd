//! The `sftp` subsystem: version 3 of the protocol (draft-ietf-secsh-filexfer-02), with what
//! OpenSSH's clients know beyond it, over the files of the session's daemon.
//!
//! Requests are done one after another, as they come; a client that sends many ahead is slowed by
//! its channel's window. A file that is read, or written, front to back is one stream from or to
//! the daemon, so a transfer costs the same memory at any size. Paths are bytes; relative ones
//! are relative to the workspace, as everywhere in a session.

mod attributes;
mod file;
mod paths;
mod server;
mod status;
mod wire;

use bytes::{Bytes, BytesMut};

use super::{
    channel::{Target, Work},
    outlet::Ending,
};
use server::Server;

/// The longest packet either side may send, its length included: what OpenSSH takes.
const MAX_PACKET: usize = 256 * 1024;

/// Serves files until the client is done or has gone.
pub(super) async fn run(target: Target, work: Work) {
    let Target { sessions, session, .. } = target;
    let Work { out, mut input, gone, .. } = work;
    let mut server = Server::new(sessions, session);
    let served = async {
        let mut buffer = BytesMut::new();
        loop {
            let Some(packet) = take(&mut buffer) else {
                match input.next().await {
                    Some(data) => buffer.extend_from_slice(&data),
                    // What is left is less than a request.
                    None => return out.end(Ending::Code(0)).await,
                }
                continue;
            };
            let answer = match packet {
                Ok(packet) => server.answer(packet).await,
                Err(Malformed) => None,
            };
            let Some(answer) = answer else {
                out.say("the client's sftp cannot be understood").await;
                return out.end(Ending::Lost).await;
            };
            if out.send(answer).await.is_err() {
                return;
            }
        }
    };
    gone.run_until_cancelled(served).await;
}

/// The other side does not speak the protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Malformed;

/// Takes the next whole packet out of a buffer, without its length.
fn take(buffer: &mut BytesMut) -> Option<Result<Bytes, Malformed>> {
    let length = u32::from_be_bytes(*buffer.first_chunk()?) as usize;
    if length == 0 || length > MAX_PACKET - 4 {
        return Some(Err(Malformed));
    }
    if buffer.len() < 4 + length {
        return None;
    }
    let mut packet = buffer.split_to(4 + length).freeze();
    Some(Ok(packet.split_off(4)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packets_are_taken_whole_and_none_that_is_too_long() {
        let mut buffer = BytesMut::from(&b"\0\0\0\x02ab\0\0\0\x01c\0\0"[..]);
        assert_eq!(take(&mut buffer).unwrap().unwrap(), "ab");
        assert_eq!(take(&mut buffer).unwrap().unwrap(), "c");
        assert_eq!(take(&mut buffer), None);
        for length in [0, u32::try_from(MAX_PACKET).unwrap() - 3, u32::MAX] {
            let mut buffer = BytesMut::from(&length.to_be_bytes()[..]);
            assert_eq!(take(&mut buffer), Some(Err(Malformed)));
        }
    }
}
