//! The owner's token: whoever can read the data directory owns the server.

use std::{
    fs,
    io::{self, Write},
    os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt},
    path::Path,
};

use super::Secret;

const FILE: &str = "token";
const PREFIX: &str = "rct_";
/// What we take for a token; less is a truncated or emptied file, not a choice.
const MIN_LENGTH: usize = 32;

/// Reads the owner's token from a data directory, making it (mode 0600) on first use.
///
/// # Errors
/// If the file cannot be read or made, or holds no token.
pub fn owner_token(dir: &Path) -> io::Result<Secret> {
    let path = dir.join(FILE);
    match fs::read_to_string(&path) {
        Ok(text) => read(&path, text.trim()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => make(dir, &path),
        Err(error) => Err(error),
    }
}

fn read(path: &Path, text: &str) -> io::Result<Secret> {
    if text.len() < MIN_LENGTH || !text.bytes().all(|b| b.is_ascii_graphic()) {
        return Err(io::Error::new(
            io::ErrorKind::InvalidData,
            format!("{} holds no token; remove it, and the next start makes one", path.display()),
        ));
    }
    // A backup or a copy may have opened it to others.
    let mode = fs::metadata(path)?.mode();
    if mode & 0o077 != 0 {
        fs::set_permissions(path, fs::Permissions::from_mode(0o600))?;
    }
    Ok(Secret::from_text(text))
}

/// Written aside, synced, then linked into place: the file is there whole or not at all, and of
/// two processes that both make one, both end with the first's.
fn make(dir: &Path, path: &Path) -> io::Result<Secret> {
    let token = Secret::generate(PREFIX)?;
    let mut file = tempfile::Builder::new()
        .prefix(".token-")
        .permissions(fs::Permissions::from_mode(0o600))
        .tempfile_in(dir)?;
    writeln!(file, "{}", token.expose())?;
    file.as_file().sync_all()?;
    match file.persist_noclobber(path) {
        Ok(_) => {
            fs::File::options().read(true).custom_flags(libc::O_DIRECTORY).open(dir)?.sync_all()?;
            Ok(token)
        }
        Err(refused) if refused.error.kind() == io::ErrorKind::AlreadyExists => owner_token(dir),
        Err(refused) => Err(refused.error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_token_is_made_once_for_its_owner_alone() {
        let dir = tempfile::tempdir().unwrap();
        let made = owner_token(dir.path()).unwrap();
        assert_eq!(owner_token(dir.path()).unwrap().expose(), made.expose());
        assert_eq!(fs::metadata(dir.path().join(FILE)).unwrap().mode() & 0o777, 0o600);
    }

    #[test]
    fn a_token_that_others_could_read_is_closed_again() {
        let dir = tempfile::tempdir().unwrap();
        owner_token(dir.path()).unwrap();
        let path = dir.path().join(FILE);
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
        owner_token(dir.path()).unwrap();
        assert_eq!(fs::metadata(path).unwrap().mode() & 0o777, 0o600);
    }

    #[test]
    fn an_emptied_token_file_is_an_error_and_not_an_open_door() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join(FILE), "\n").unwrap();
        assert_eq!(owner_token(dir.path()).unwrap_err().kind(), io::ErrorKind::InvalidData);
    }
}
