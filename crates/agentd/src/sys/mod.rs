//! What must be asked of the kernel directly. All of the daemon's unsafe code is here.

use std::io::Write;

pub(crate) mod inherit;
pub(crate) mod rights;
pub(crate) mod spawn;
pub(crate) mod startup;
pub(crate) mod watch;

/// Writes a line to standard error, the daemon's only log.
pub(crate) fn say(text: &str) {
    // Nobody may be listening, and then there is nobody to tell.
    let _unheard = std::io::stderr().write_all(text.as_bytes());
}
