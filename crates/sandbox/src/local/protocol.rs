//! What server and supervisor say to each other: one request and one reply per connection, each
//! one message of JSON on a sequenced-packet socket; descriptors travel beside the reply.

use std::{
    io::{self, IoSlice, IoSliceMut},
    mem::MaybeUninit,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
};

use rclaude_types::SandboxId;
use rustix::{
    io::retry_on_intr,
    net::{
        RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
        SendAncillaryMessage, SendFlags,
    },
};
use serde::{Deserialize, Serialize, de::DeserializeOwned};

/// Raised when a message changes its meaning. A server that finds a supervisor of another number
/// ends it and starts its own; sandboxes live on meanwhile.
pub(super) const PROTOCOL: u32 = 1;

/// No message is larger.
const LARGEST: usize = 16 * 1024;
/// No reply carries more descriptors.
pub(super) const MOST_DESCRIPTORS: usize = 24;

/// What the server asks.
#[derive(Debug, Serialize, Deserialize)]
#[serde(tag = "request", rename_all = "snake_case")]
pub(super) enum Request {
    /// Who is there? Its shape never changes.
    Hello,
    /// Start the sandbox from its `spec.json`, unless it runs.
    Start { id: SandboxId },
    /// Ask its daemon to end.
    Terminate { id: SandboxId },
    /// End all its processes; answers once its first process is gone, or after a moment if it
    /// is not.
    Kill { id: SandboxId },
    /// Remove its cgroups and forget it; it must not run.
    Forget { id: SandboxId },
    /// Hand over the host's ends of its network.
    Sockets { id: SandboxId },
    /// Leave; sandboxes live on. Its shape never changes.
    Leave,
}

/// What the supervisor answers.
#[derive(Debug, Serialize, Deserialize)]
#[serde(tag = "reply", rename_all = "snake_case")]
pub(super) enum Reply {
    /// To `Hello`.
    Here { protocol: u32, pid: u32 },
    /// Done; `running` says whether the sandbox runs now.
    Done { running: bool },
    /// Here they are, in this order: TCP listeners, UDP sockets.
    Sockets { id: SandboxId, tcp: usize, udp: usize },
    /// It could not be done.
    Failed(Failure),
}

/// Why the supervisor could not do it.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Failure {
    pub class: FailureClass,
    pub message: String,
}

/// Which class of failure, as the provider reports it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum FailureClass {
    Unsupported,
    Rejected,
    Exhausted,
    Unavailable,
    Unexpected,
}

impl Failure {
    pub(super) fn new(class: FailureClass, message: impl Into<String>) -> Self {
        Self { class, message: message.into() }
    }

    /// An input or output error while doing `what`.
    pub(super) fn io(what: &str, error: &io::Error) -> Self {
        let full = matches!(
            error.raw_os_error(),
            Some(libc::ENOSPC | libc::EDQUOT | libc::EMFILE | libc::ENFILE | libc::ENOMEM)
        );
        let class = if full { FailureClass::Exhausted } else { FailureClass::Unexpected };
        Self::new(class, format!("{what}: {error}"))
    }
}

/// Adds what was being done to an error.
pub(super) trait While<T> {
    fn during(self, what: &str) -> Result<T, Failure>;
}

impl<T, E: Into<io::Error>> While<T> for Result<T, E> {
    fn during(self, what: &str) -> Result<T, Failure> {
        self.map_err(|error| Failure::io(what, &error.into()))
    }
}

/// Sends one message.
pub(super) fn send<T: Serialize>(
    socket: impl AsFd,
    message: &T,
    descriptors: &[BorrowedFd<'_>],
) -> io::Result<()> {
    let bytes = serde_json::to_vec(message)?;
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MOST_DESCRIPTORS))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if !descriptors.is_empty() && !control.push(SendAncillaryMessage::ScmRights(descriptors)) {
        return Err(io::Error::other("too many descriptors for one message"));
    }
    let socket = socket.as_fd();
    retry_on_intr(|| {
        rustix::net::sendmsg(socket, &[IoSlice::new(&bytes)], &mut control, SendFlags::NOSIGNAL)
    })?;
    Ok(())
}

/// Receives one message. A peer that has gone is `UnexpectedEof`.
pub(super) fn receive<T: DeserializeOwned>(socket: impl AsFd) -> io::Result<(T, Vec<OwnedFd>)> {
    let mut bytes = vec![0; LARGEST];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MOST_DESCRIPTORS))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let socket = socket.as_fd();
    // A process that is stopped and goes on (a laptop's lid, a debugger) is interrupted here.
    let length = retry_on_intr(|| {
        let mut pieces = [IoSliceMut::new(&mut bytes)];
        rustix::net::recvmsg(socket, &mut pieces, &mut control, RecvFlags::CMSG_CLOEXEC)
    })?
    .bytes;
    let mut descriptors = Vec::new();
    for message in control.drain() {
        if let RecvAncillaryMessage::ScmRights(received) = message {
            descriptors.extend(received);
        }
    }
    if length == 0 {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    Ok((serde_json::from_slice(&bytes[..length])?, descriptors))
}
