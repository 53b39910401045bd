//! Where a file is: here, in a session, or at standard input and output.

use std::{
    ffi::{OsStr, OsString},
    fmt,
    os::unix::ffi::OsStrExt,
    path::{Path, PathBuf},
};

use super::Context;
use crate::{client::Client, exit::Failure, ui::clean_line};

/// What an argument names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Place {
    /// A file of this host.
    Here(PathBuf),
    /// A file in a session.
    There(Remote),
    /// Standard input or output.
    Standard,
}

/// A path in a session, as it was typed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Remote {
    /// Id, unique start of an id, or name.
    pub(super) session: String,
    /// Relative to the workspace, or absolute; the workspace if empty.
    pub(super) path: PathBuf,
}

impl Place {
    /// Reads an argument. `NAME:path` is in a session: its colon comes before any slash, and no
    /// session's name has a colon. A file here with one is `./a:b`.
    pub(super) fn read(argument: &OsStr) -> Self {
        let bytes = argument.as_bytes();
        if bytes == b"-" {
            return Self::Standard;
        }
        let colon = bytes.iter().position(|byte| matches!(byte, b':' | b'/'));
        match colon {
            Some(at) if at > 0 && bytes[at] == b':' => match str::from_utf8(&bytes[..at]) {
                Ok(session) => Self::There(Remote {
                    session: session.to_owned(),
                    path: PathBuf::from(OsStr::from_bytes(&bytes[at + 1..])),
                }),
                Err(_) => Self::Here(argument.into()),
            },
            _ => Self::Here(argument.into()),
        }
    }

    /// The same for a verb that is about sessions' files alone.
    pub(super) fn remote(argument: &OsStr, verb: &str) -> Result<Remote, Failure> {
        match Self::read(argument) {
            Self::There(remote) => Ok(remote),
            _ => Err(Failure::Usage(format!(
                "`{}` names no file in a session; `rclaude {verb}` wants SESSION:path",
                clean_line(&argument.to_string_lossy())
            ))),
        }
    }
}

impl Remote {
    /// The path as the API takes it.
    pub(super) fn path(&self) -> &Path {
        if self.path.as_os_str().is_empty() { Path::new(".") } else { &self.path }
    }

    /// The same session, by the id it has now: a name that changes hands meanwhile must not send
    /// a part of the work to another.
    pub(super) async fn settled(&self, client: &Client, cx: &mut Context) -> Result<Self, Failure> {
        let session = cx.session(client, &self.session).await?.id.to_string();
        Ok(Self { session, path: self.path.clone() })
    }

    /// Whether it was typed as a directory.
    pub(super) fn is_directory(&self) -> bool {
        let bytes = self.path.as_os_str().as_bytes();
        bytes.is_empty() || bytes.ends_with(b"/") || bytes.ends_with(b"/.") || bytes == b"."
    }

    /// Whether it is the workspace itself, or the root.
    pub(super) fn is_everything(&self) -> bool {
        let path: PathBuf = self.path.components().collect();
        [".", "", "/", "/workspace"].iter().any(|all| path == Path::new(all))
            || self.path.file_name().is_none()
    }

    /// Something in this directory.
    pub(super) fn join(&self, name: &OsStr) -> Self {
        let session = self.session.clone();
        let path = if self.path.as_os_str().is_empty() {
            PathBuf::from(name)
        } else {
            self.path.join(name)
        };
        Self { session, path }
    }

    /// Something beside it.
    pub(super) fn beside(&self, name: &str) -> PathBuf {
        self.path.with_file_name(name)
    }

    /// The name that a copy of it has; `None` for what has none of its own (`.`, `..`, `/`).
    pub(super) fn name(&self) -> Option<OsString> {
        if self.path.as_os_str().as_bytes().ends_with(b"/.") {
            return None;
        }
        self.path.file_name().map(OsStr::to_owned)
    }
}

impl fmt::Display for Remote {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = format!("{}:{}", self.session, self.path.display());
        f.write_str(&clean_line(&text))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn there(session: &str, path: &str) -> Place {
        Place::There(Remote { session: session.to_owned(), path: path.into() })
    }

    #[test]
    fn the_colon_before_any_slash_makes_it_a_sessions() {
        let read = |text: &str| Place::read(OsStr::new(text));
        assert_eq!(read("shop:notes.txt"), there("shop", "notes.txt"));
        assert_eq!(read("shop:/etc/hosts"), there("shop", "/etc/hosts"));
        assert_eq!(read("shop:a:b"), there("shop", "a:b"));
        assert_eq!(read("shop:"), there("shop", ""));
        for here in ["shop", "./a:b", "/tmp/a:b", "dir/a:b", ":a", "", "."] {
            assert_eq!(read(here), Place::Here(here.into()), "{here}");
        }
        assert_eq!(read("-"), Place::Standard);
        assert_eq!(read("./-"), Place::Here("./-".into()));
    }

    #[test]
    fn a_name_in_a_session_need_not_be_text() {
        let Place::There(remote) = Place::read(OsStr::from_bytes(b"shop:\xff")) else { panic!() };
        assert_eq!(remote.path.as_os_str().as_bytes(), b"\xff");
        let strange = OsStr::from_bytes(b"\xff:a");
        assert_eq!(Place::read(strange), Place::Here(strange.into()));
    }

    #[test]
    fn the_whole_workspace_is_known_however_it_is_said() {
        let everything =
            |path: &str| Remote { session: "s".into(), path: path.into() }.is_everything();
        for all in ["", ".", "/", "./", "/workspace", "/workspace/", "//workspace/.", "..", "a/.."]
        {
            assert!(everything(all), "{all}");
        }
        for some in ["a", "/workspace/a", "/work", "./a"] {
            assert!(!everything(some), "{some}");
        }
    }
}
