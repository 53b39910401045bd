//! Connections to ports in the session: `ssh -L`, `-D` and `-W`.

use std::io;

use bytes::Bytes;
use futures::{Stream, stream};
use rclaude_types::Problem;
use russh::{ChannelOpenFailure, server::ChannelOpenHandle};
use tokio_util::sync::{CancellationToken, DropGuard};

use super::{
    channel::{Target, Work},
    input,
};

/// `SSH_OPEN_ADMINISTRATIVELY_PROHIBITED` and `SSH_OPEN_CONNECT_FAILED` (RFC 4254, section 5.1).
const PROHIBITED: u32 = 1;
const CONNECT_FAILED: u32 = 2;

/// The port of the session that a client means; an error, in words, where it means none.
pub(super) fn port(host: &str, port: u32) -> Result<u16, ChannelOpenFailure> {
    let refuse = |reason: String| ChannelOpenFailure::Other { code: PROHIBITED, reason };
    let bare = host.trim_matches(['[', ']']);
    let is_here = bare == "localhost"
        || bare.parse::<std::net::IpAddr>().is_ok_and(|ip| ip.is_loopback() || ip.is_unspecified());
    if !is_here {
        return Err(refuse(
            "only localhost, which is the session, is reached from here".to_owned(),
        ));
    }
    match u16::try_from(port) {
        Ok(port @ 1..) => Ok(port),
        _ => Err(refuse(format!("there is no port {port}"))),
    }
}

/// Why a channel is not opened, in a problem's words.
pub(super) fn failed(problem: &Problem) -> ChannelOpenFailure {
    ChannelOpenFailure::Other { code: CONNECT_FAILED, reason: problem.detail.clone() }
}

/// Connects, opens the channel, and passes bytes both ways until both sides have ended.
pub(super) async fn run(target: Target, work: Work, port: u16, reply: ChannelOpenHandle) {
    let Target { sessions, session, .. } = target;
    let Work { out, input, gone, .. } = work;
    let sent = CancellationToken::new();
    let outgoing = outgoing(input, gone.clone(), sent.clone().drop_guard());
    let connecting = sessions.connect_port(&session, port, outgoing);
    let mut connected = match gone.run_until_cancelled(connecting).await {
        Some(Ok(connected)) => connected,
        Some(Err(problem)) => return reply.reject(failed(&problem)).await,
        None => return,
    };
    reply.accept().await;
    let passing = async {
        while let Some(arrived) = connected.next().await {
            // A connection that breaks ends as one that was closed: SSH knows no other end.
            let Ok(bytes) = arrived else { return out.close().await };
            if !bytes.is_empty() && out.send(bytes).await.is_err() {
                return;
            }
        }
        out.end_output().await;
        sent.cancelled().await;
        out.close().await;
    };
    gone.run_until_cancelled(passing).await;
}

/// What the client sends: it ends as the client's side does, and breaks where the client is gone.
/// However it ends, `sent` is told.
fn outgoing(
    input: input::Receiver,
    gone: CancellationToken,
    sent: DropGuard,
) -> impl Stream<Item = io::Result<Bytes>> + Send + 'static {
    stream::unfold(Some((input, gone, sent)), async |state| {
        let (mut input, gone, sent) = state?;
        tokio::select! {
            biased;
            () = gone.cancelled() => Some((Err(io::ErrorKind::ConnectionReset.into()), None)),
            data = input.next() => Some((Ok(data?), Some((input, gone, sent)))),
        }
    })
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_session_is_reached_and_nothing_else() {
        for host in ["localhost", "127.0.0.1", "127.9.9.9", "::1", "[::1]", "0.0.0.0"] {
            assert_eq!(super::port(host, 3000), Ok(3000), "{host}");
        }
        for (host, port) in
            [("example.com", 80), ("10.0.0.1", 80), ("localhost", 0), ("::1", 65_536)]
        {
            assert!(super::port(host, port).is_err(), "{host}:{port}");
        }
    }
}
