//! What the server and the daemon in the sandbox say to each other.
//!
//! Plain HTTP with JSON bodies, but for what is bytes: what processes and terminals print
//! ([`OutputHeader`] and [`TerminalHeader`] frame it), what they read, and files. Errors are [`Problem`](crate::Problem)s.
//! The daemon stands in hostile territory: whoever reads its answers bounds them.

mod daemon;
mod output;
mod port;
mod process;
mod terminal;

pub use daemon::{Health, Metrics};
pub use output::{MAX_RECORD_BYTES, OutputHeader, OutputKind};
pub use port::PortList;
pub use process::{
    ProcessInfo, ProcessList, ProcessSpec, ProcessState, SendSignal, Stdin, StdinAccepted, User,
};
pub use terminal::{TerminalHeader, TerminalInfo, TerminalKind, TerminalList, TerminalSpec};

/// Number of the protocol described here. A change that an older peer cannot ignore raises it.
pub const PROTOCOL: u32 = 1;

/// Response header of a file that is read: its permission bits, in octal.
pub const FILE_MODE_HEADER: &str = "rclaude-file-mode";

/// Response header of a file that is read: when its content last changed, in seconds since 1970
/// with nine digits of fraction.
pub const FILE_MODIFIED_HEADER: &str = "rclaude-file-modified";

/// Response header of a refused `stdin` write: how many bytes the daemon has, in decimal.
pub const STDIN_ACCEPTED_HEADER: &str = "rclaude-stdin-accepted";
