//! `rclaude`: the whole of Remote Claude in one program.
//!
//! `rclaude serve` is the platform; every other verb is a client that speaks to it over HTTP.
//! The rooms: `cli` has one file per verb, `client` speaks the API, `conversation` follows a
//! session and answers for its user, `ui` is the only place that prints but for `screen`, which has
//! the user's terminal while it shows another, `config` the only place that reads the environment,
//! `platform` the only place that reaches into the server's crates.

mod cli;
mod client;
mod config;
mod conversation;
mod exit;
mod local_repository;
mod local_server;
mod platform;
mod screen;
mod ssh_files;
mod ui;
mod values;

use std::process::ExitCode;

fn main() -> ExitCode {
    cli::main()
}
