//! Why a request is not done, and how that is said.

use std::io;

use rclaude_types::{ErrorCode, Problem};

use crate::files::CHANGED;

/// Result of a request.
pub(crate) type Result<T, E = Refusal> = std::result::Result<T, E>;

/// A request that is not done.
#[derive(Debug)]
pub(crate) enum Refusal {
    /// With a problem as answer.
    Problem(Problem),
    /// A write to standard input that would leave a gap; the process has this many bytes.
    Gap(u64),
}

impl Refusal {
    pub(crate) fn new(code: ErrorCode, detail: impl Into<String>) -> Self {
        Self::Problem(Problem::new(code, detail))
    }

    pub(crate) fn invalid(detail: impl Into<String>) -> Self {
        Self::new(ErrorCode::InvalidRequest, detail)
    }

    pub(crate) fn internal(detail: impl Into<String>) -> Self {
        Self::new(ErrorCode::Internal, detail)
    }

    /// What the kernel said while something was done.
    pub(crate) fn from_io(doing: &str, error: &io::Error) -> Self {
        let code = match error.raw_os_error() {
            Some(libc::ENOENT) => ErrorCode::FileNotFound,
            Some(libc::EACCES | libc::EPERM | libc::EROFS) => ErrorCode::Forbidden,
            Some(libc::ENOSPC | libc::EDQUOT) => ErrorCode::DiskFull,
            Some(
                libc::EEXIST
                | libc::EISDIR
                | libc::ENOTDIR
                | libc::ENOTEMPTY
                | libc::EBUSY
                | libc::ETXTBSY,
            ) => ErrorCode::Conflict,
            Some(libc::EFBIG | libc::E2BIG) => ErrorCode::TooLarge,
            Some(libc::ELOOP | libc::ENAMETOOLONG | libc::EINVAL | libc::EXDEV) => {
                ErrorCode::InvalidRequest
            }
            Some(libc::EAGAIN | libc::ENOMEM | libc::EMFILE | libc::ENFILE) => {
                ErrorCode::SandboxUnavailable
            }
            // What we ourselves say of a condition that does not hold.
            Some(CHANGED) => {
                let detail = format!("cannot {doing}: what is there is not what was expected");
                return Self::new(ErrorCode::PreconditionFailed, detail);
            }
            None if error.kind() == io::ErrorKind::QuotaExceeded => ErrorCode::QuotaExceeded,
            // Not the kernel's, but ours about what we were given.
            None if error.kind() == io::ErrorKind::InvalidInput => ErrorCode::InvalidRequest,
            _ => ErrorCode::Internal,
        };
        Self::new(code, format!("cannot {doing}: {error}"))
    }
}

/// Adds what was being done to an error of the kernel.
pub(crate) trait Doing<T> {
    /// `doing` completes the sentence "cannot …".
    fn doing(self, doing: impl FnOnce() -> String) -> Result<T>;
}

impl<T, E: Into<io::Error>> Doing<T> for std::result::Result<T, E> {
    fn doing(self, doing: impl FnOnce() -> String) -> Result<T> {
        self.map_err(|error| Refusal::from_io(&doing(), &error.into()))
    }
}
