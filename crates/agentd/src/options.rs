//! How the daemon is told what to do: a few arguments, and two inherited descriptors.

use std::{ffi::OsString, fs, io::Read, os::unix::net::UnixListener, path::PathBuf};

use crate::sys;

/// The inherited listening socket.
const LISTENER_FD: i32 = 3;
/// The inherited pipe that holds the token.
const TOKEN_FD: i32 = 4;
/// The longest token.
const MAX_TOKEN_BYTES: u64 = 4096;

/// What the daemon is told at its start.
pub(crate) struct Options {
    /// Where requests come from.
    pub(crate) listener: UnixListener,
    /// What they must carry.
    pub(crate) token: Vec<u8>,
    /// Where journals are kept.
    pub(crate) state: PathBuf,
    /// Whether processes may be the sandbox's root.
    pub(crate) allow_root: bool,
    /// Uid and gid of the user `agent`.
    pub(crate) agent: (u32, u32),
}

impl Options {
    /// Reads arguments and inherited descriptors:
    /// `agentd [--allow-root] [--state DIR] [--agent UID:GID] [--listen PATH] [--token-file PATH]`.
    pub(crate) fn read() -> Result<Self, String> {
        let mut listen = None;
        let mut token_file = None;
        let mut state = PathBuf::from("/var/lib/agentd");
        let mut allow_root = false;
        let mut agent = (1000, 1000);
        let mut arguments = std::env::args_os().skip(1);
        while let Some(argument) = arguments.next() {
            let mut value =
                || arguments.next().ok_or_else(|| format!("{} needs a value", argument.display()));
            match argument.to_str() {
                Some("--allow-root") => allow_root = true,
                Some("--state") => state = value()?.into(),
                Some("--listen") => listen = Some(PathBuf::from(value()?)),
                Some("--token-file") => token_file = Some(PathBuf::from(value()?)),
                Some("--agent") => agent = ids(&value()?).ok_or("--agent takes UID:GID")?,
                _ => return Err(format!("unknown argument {}", argument.display())),
            }
        }
        let listener = match listen {
            Some(path) => UnixListener::bind(path),
            None => sys::inherit::listener(LISTENER_FD),
        };
        let mut token = Vec::new();
        match token_file {
            Some(path) => fs::File::open(path),
            None => sys::inherit::file(TOKEN_FD),
        }
        .and_then(|file| file.take(MAX_TOKEN_BYTES).read_to_end(&mut token))
        .map_err(|error| format!("cannot read the token: {error}"))?;
        let token = token.trim_ascii().to_vec();
        if token.is_empty() {
            return Err("the token is empty".to_owned());
        }
        let listener = listener.map_err(|error| format!("cannot listen: {error}"))?;
        Ok(Self { listener, token, state, allow_root, agent })
    }
}

fn ids(text: &OsString) -> Option<(u32, u32)> {
    let (uid, gid) = text.to_str()?.split_once(':')?;
    Some((uid.parse().ok()?, gid.parse().ok()?))
}
