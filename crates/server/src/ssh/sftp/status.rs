//! What a request came to, where that is no more than a word.

use rclaude_sandbox::agentd;
use rclaude_types::{ErrorCode, Problem};

use super::Malformed;

/// The protocol's codes (section 7).
pub(super) const OK: u32 = 0;
pub(super) const EOF: u32 = 1;
const NO_SUCH_FILE: u32 = 2;
const PERMISSION_DENIED: u32 = 3;
const FAILURE: u32 = 4;
const BAD_MESSAGE: u32 = 5;
const UNSUPPORTED: u32 = 8;

/// The longest explanation that is passed on.
const MAX_TEXT: usize = 1000;

/// A code with its explanation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Status {
    pub(super) code: u32,
    pub(super) text: String,
}

/// Result of what may end in a status.
pub(super) type Result<T, E = Status> = std::result::Result<T, E>;

impl Status {
    fn new(code: u32, text: impl Into<String>) -> Self {
        Self { code, text: text.into() }
    }

    /// It was done.
    pub(super) fn done() -> Self {
        Self::new(OK, "")
    }

    /// There is no more.
    pub(super) fn end() -> Self {
        Self::new(EOF, "end of file")
    }

    /// It could not be done.
    pub(super) fn failure(text: impl Into<String>) -> Self {
        Self::new(FAILURE, text)
    }

    /// It is not allowed.
    pub(super) fn denied(text: impl Into<String>) -> Self {
        Self::new(PERMISSION_DENIED, text)
    }

    /// There is no such file.
    pub(super) fn missing(text: impl Into<String>) -> Self {
        Self::new(NO_SUCH_FILE, text)
    }

    /// It is not known here.
    pub(super) fn unsupported() -> Self {
        Self::new(UNSUPPORTED, "this server does not know that request")
    }

    /// Whether it says that there is no such file.
    pub(super) fn is_missing(&self) -> bool {
        self.code == NO_SUCH_FILE
    }
}

impl From<Problem> for Status {
    fn from(problem: Problem) -> Self {
        let code = match problem.code {
            ErrorCode::FileNotFound => NO_SUCH_FILE,
            ErrorCode::Forbidden => PERMISSION_DENIED,
            ErrorCode::RangeNotSatisfiable => EOF,
            _ => FAILURE,
        };
        let mut text = problem.detail;
        text.truncate(text.floor_char_boundary(MAX_TEXT));
        Self::new(code, text)
    }
}

impl From<agentd::Error> for Status {
    fn from(error: agentd::Error) -> Self {
        match error {
            agentd::Error::Refused(problem) => (*problem).into(),
            error => Self::failure(error.to_string()),
        }
    }
}

impl From<Malformed> for Status {
    fn from(Malformed: Malformed) -> Self {
        Self::new(BAD_MESSAGE, "the request is not well-formed")
    }
}
