//! Secrets as people give them: in a file, in the environment, or typed.

use std::{
    fs,
    io::{self, BufRead, IsTerminal, Write},
    path::Path,
};

use rustix::termios::{LocalModes, OptionalActions, tcgetattr, tcsetattr};

use crate::exit::Failure;

/// The variable with the passphrase of an archive.
pub(super) const ARCHIVE: &str = "RCLAUDE_ARCHIVE_PASSPHRASE";

/// A secret from a file: its first line.
pub(super) fn read_file(file: &Path) -> Result<String, Failure> {
    let text = fs::read_to_string(file)
        .map_err(|error| Failure::Usage(format!("cannot read {}: {error}", file.display())))?;
    let secret = text.lines().next().unwrap_or_default().to_owned();
    if secret.is_empty() {
        return Err(Failure::Usage(format!("{} begins with an empty line", file.display())));
    }
    Ok(secret)
}

/// Asks for a secret on the terminal, without showing it.
pub(super) fn ask(what: &str) -> Result<String, Failure> {
    let terminal = io::stdin();
    if !terminal.is_terminal() {
        return Err(Failure::Usage(format!("nobody can be asked for the {what} here")));
    }
    let before = tcgetattr(&terminal).map_err(io::Error::from)?;
    let mut silent = before.clone();
    silent.local_modes.remove(LocalModes::ECHO);
    let mut err = io::stderr();
    write!(err, "{what}: ")?;
    err.flush()?;
    tcsetattr(&terminal, OptionalActions::Flush, &silent).map_err(io::Error::from)?;
    let mut line = String::new();
    let read = terminal.lock().read_line(&mut line);
    tcsetattr(&terminal, OptionalActions::Flush, &before).map_err(io::Error::from)?;
    writeln!(err)?;
    read?;
    let secret = line.trim_end_matches(['\r', '\n']).to_owned();
    if secret.is_empty() {
        return Err(Failure::Usage(format!("the {what} is empty")));
    }
    Ok(secret)
}
