//! What a user's `ssh` reads that is ours: a key to open sessions with, and servers' own keys.

use std::{
    fs::{self, DirBuilder, OpenOptions},
    io::{self, Write},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

use rclaude_types::SshDoor;

use crate::{exit::Failure, platform};

/// The directory, in the user's settings.
pub(crate) struct Files {
    directory: PathBuf,
}

/// A key pair of the user's.
pub(crate) struct Identity {
    /// The private file.
    pub(crate) path: PathBuf,
    /// The public line.
    pub(crate) public: String,
    /// Made just now.
    pub(crate) is_new: bool,
}

impl Files {
    pub(crate) fn new(directory: PathBuf) -> Self {
        Self { directory }
    }

    /// The user's key for sessions; made where there is none.
    pub(crate) fn identity(&self) -> Result<Identity, Failure> {
        let path = self.directory.join("id_ed25519");
        let beside = self.directory.join("id_ed25519.pub");
        let read = |path: &Path| match fs::read_to_string(path) {
            Ok(text) => Ok(Some(text)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(failed("read", path, &error)),
        };
        if let (Some(_), Some(public)) = (read(&path)?, read(&beside)?) {
            return Ok(Identity { path, public: public.trim().to_owned(), is_new: false });
        }
        let made = platform::new_ssh_identity()?;
        // The public half last: with both there, they belong together.
        fs::remove_file(&beside)
            .or_else(absent)
            .map_err(|error| failed("write", &beside, &error))?;
        self.write(&path, &made.0)?;
        self.write(&beside, &format!("{}\n", made.1))?;
        Ok(Identity { path, public: made.1, is_new: true })
    }

    /// Notes a server's key; the file it is in.
    pub(crate) fn pin(&self, door: &SshDoor) -> Result<PathBuf, Failure> {
        let path = self.directory.join("known_hosts");
        let line = format!("{} {}", host_alias(door), door.host_key.trim());
        if line.contains('\n') {
            return Err(Failure::Failed("the server's SSH key is no key".to_owned()));
        }
        let known = match fs::read_to_string(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => String::new(),
            other => other.map_err(|error| failed("read", &path, &error))?,
        };
        if !known.lines().any(|it| it == line) {
            self.write(&path, &format!("{known}{line}\n"))?;
        }
        Ok(path)
    }

    /// Writes a file whole or not at all, for its owner alone.
    fn write(&self, path: &Path, text: &str) -> Result<(), Failure> {
        let write = || -> io::Result<()> {
            DirBuilder::new().recursive(true).mode(0o700).create(&self.directory)?;
            let temporary = self.directory.join(format!(".new-{}", std::process::id()));
            fs::remove_file(&temporary).or_else(absent)?;
            let mut file =
                OpenOptions::new().create_new(true).write(true).mode(0o600).open(&temporary)?;
            file.write_all(text.as_bytes())?;
            file.sync_all()?;
            fs::rename(&temporary, path)
        };
        write().map_err(|error| failed("write", path, &error))
    }
}

/// The name under which a server's key is known: of the key, so that it may move.
pub(crate) fn host_alias(door: &SshDoor) -> String {
    let digest = door.fingerprint.trim_start_matches("SHA256:");
    let short: String = digest.chars().filter(char::is_ascii_alphanumeric).take(16).collect();
    format!("rclaude-{}", short.to_ascii_lowercase())
}

fn absent(error: io::Error) -> io::Result<()> {
    if error.kind() == io::ErrorKind::NotFound { Ok(()) } else { Err(error) }
}

fn failed(doing: &str, path: &Path, error: &io::Error) -> Failure {
    Failure::Failed(format!("cannot {doing} {}: {error}", path.display()))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn a_key_is_made_once_for_its_owner_alone_and_a_host_is_known_once() {
        let home = tempfile::tempdir().unwrap();
        let files = Files::new(home.path().join("rclaude/ssh"));
        let made = files.identity().unwrap();
        let again = files.identity().unwrap();
        assert!(made.is_new && !again.is_new && made.public == again.public);
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode(&made.path), mode(&home.path().join("rclaude/ssh"))), (0o600, 0o700));

        let door = SshDoor {
            address: "127.0.0.1:1".to_owned(),
            host_key: "ssh-ed25519 AAAA".to_owned(),
            fingerprint: "SHA256:Ab+c/1".to_owned(),
        };
        let path = files.pin(&door).unwrap();
        files.pin(&door).unwrap();
        assert_eq!(fs::read_to_string(path).unwrap(), "rclaude-abc1 ssh-ed25519 AAAA\n");
    }
}
