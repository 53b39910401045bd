//! Places where a test has the server die.
//!
//! Work is stored before it is done, so that the server may be killed between any two lines. Each
//! place that matters for that (around what is asked of others, and around what is written) has a
//! name; `RCLAUDE_CRASH_AT` names the one at which this process aborts. A build without debug
//! assertions knows nothing of this. The crash tests of `rclaude` go through all of them.

/// The server dies here if it was told to.
#[inline]
pub(crate) fn point(name: &str) {
    #[cfg(debug_assertions)]
    armed::at(name);
    #[cfg(not(debug_assertions))]
    let _ = name;
}

/// The same for a sandbox's phase that is about to be written, or was.
#[inline]
pub(crate) fn phase(moment: &str, phase: rclaude_types::Phase) {
    #[cfg(debug_assertions)]
    armed::at(&format!("{moment} {phase:?} is written").to_lowercase());
    #[cfg(not(debug_assertions))]
    let _ = (moment, phase);
}

#[cfg(debug_assertions)]
mod armed {
    use std::sync::LazyLock;

    static ARMED: LazyLock<Option<String>> = LazyLock::new(|| {
        #[expect(clippy::disallowed_methods, reason = "for tests alone, and no setting")]
        std::env::var("RCLAUDE_CRASH_AT").ok()
    });

    pub(super) fn at(name: &str) {
        if ARMED.as_deref() == Some(name) {
            tracing::error!(name, "aborts, as it was told to");
            std::process::abort();
        }
    }
}
