//! What can go wrong between server and daemon.

use rclaude_types::Problem;

/// Result of a call to the daemon.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why a call to the daemon did not succeed.
#[derive(Debug, Clone, thiserror::Error)]
pub enum Error {
    /// The connection broke before the answer was whole. What the daemon did is unknown; making
    /// the same call on a new connection is safe.
    #[error("the link to the sandbox's daemon was lost: {0}")]
    Lost(String),
    /// The daemon understood and said no.
    #[error("the sandbox's daemon refused: {0}")]
    Refused(Box<Problem>),
    /// A write to a process left a gap: go on from here.
    #[error("standard input goes on at byte {expected}")]
    StdinGap {
        /// Bytes the process has taken.
        expected: u64,
    },
    /// What came back is not what the protocol allows. The sandbox is not to be trusted.
    #[error("the sandbox's daemon answered against the protocol: {0}")]
    Malformed(String),
    /// What was asked for cannot be said in a request.
    #[error("not a request that can be made: {0}")]
    Unsayable(String),
}

impl Error {
    /// The problem the daemon answered with, if it answered with one.
    pub fn problem(&self) -> Option<&Problem> {
        match self {
            Self::Refused(problem) => Some(problem),
            _ => None,
        }
    }

    /// Whether the same call on a new connection can help.
    pub fn is_lost(&self) -> bool {
        matches!(self, Self::Lost(_))
    }
}

impl From<hyper::Error> for Error {
    fn from(error: hyper::Error) -> Self {
        Self::Lost(chain(&error))
    }
}

/// An error with its causes on one line: hyper's own text leaves them out.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}
