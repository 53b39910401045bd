//! The daemon in the sandbox: PID 1 there, and the only way in.
//!
//! It answers HTTP on a socket it inherits, starts processes and keeps what they print on disk,
//! and moves files. It understands none of it. The server may come and go: whatever happens
//! meanwhile is in the journal, addressed by byte offsets.
//!
//! One thread runs everything that never waits; a few short-lived ones do file work under the
//! rights of the user it is for. The whole is built to be small: every sandbox pays for it.

mod clock;
mod daemon;
mod files;
mod http;
mod metrics;
mod options;
mod ports;
mod process;
mod refusal;
mod sys;
mod terminal;

use std::{process::ExitCode, time::Duration};

use tokio::{runtime, task::LocalSet};

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            sys::say(&format!("agentd: {error}\n"));
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<(), String> {
    let options = options::Options::read()?;
    let signals = sys::startup::prepare().map_err(|error| format!("cannot start: {error}"))?;
    let runtime = runtime::Builder::new_current_thread()
        .enable_io()
        .enable_time()
        .max_blocking_threads(16)
        .thread_stack_size(256 * 1024)
        .thread_keep_alive(Duration::from_secs(1))
        .build()
        .map_err(|error| format!("cannot start: {error}"))?;
    let local = LocalSet::new();
    let outcome = local.block_on(&runtime, daemon::run(options, signals));
    // A file operation that hangs on a broken disk is no reason to stay.
    runtime.shutdown_background();
    outcome
}
