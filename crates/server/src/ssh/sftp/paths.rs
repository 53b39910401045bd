//! What a client's paths stand for.

use std::{
    ffi::OsStr,
    os::unix::ffi::OsStrExt,
    path::{Path, PathBuf},
};

use rclaude_sandbox::agentd::Client;
use rclaude_types::FileEntry;

use super::{
    attributes::path_of,
    status::{Result, Status},
};
use crate::session::inside::WORKSPACE;

/// The home of who works in a session.
const HOME: &str = "/home/agent";

/// A path from the root, its `.` taken out.
pub(super) fn absolute(path: &[u8]) -> PathBuf {
    let path = Path::new(WORKSPACE).join(OsStr::from_bytes(path));
    path.components().collect()
}

/// A path in which `~` stands for the home.
pub(super) fn expanded(path: &[u8]) -> PathBuf {
    match path.strip_prefix(b"~") {
        Some(b"") => PathBuf::from(HOME),
        Some([b'/', rest @ ..]) => {
            absolute(Path::new(HOME).join(OsStr::from_bytes(rest)).as_os_str().as_bytes())
        }
        _ => absolute(path),
    }
}

/// Where a path leads, through links; of one that is not there, where it would be.
pub(super) async fn real(daemon: &Client, path: &Path) -> Result<PathBuf> {
    match there(daemon, path).await? {
        Some(entry) => Ok(path_of(&entry).into()),
        None => place(daemon, path).await,
    }
}

/// What is at the end of a path, through links.
pub(super) async fn there(daemon: &Client, path: &Path) -> Result<Option<FileEntry>> {
    match daemon.followed(path).await.map_err(Status::from) {
        Ok(entry) => Ok(Some(entry)),
        Err(status) if status.is_missing() => Ok(None),
        Err(status) => Err(status),
    }
}

/// The place of a file that is not there, in a directory that is.
pub(super) async fn place(daemon: &Client, path: &Path) -> Result<PathBuf> {
    let (Some(above), Some(name)) = (path.parent(), path.file_name()) else {
        return Err(Status::missing(format!("{} is not there", path.display())));
    };
    Ok(PathBuf::from(path_of(&daemon.followed(above).await?)).join(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_begin_in_the_workspace_at_the_root_or_at_home() {
        let cases: [(&[u8], &str); 6] = [
            (b"", "/workspace"),
            (b".", "/workspace"),
            (b"a/./b/", "/workspace/a/b"),
            (b"/etc/hosts", "/etc/hosts"),
            (b"~", "/workspace/~"),
            (b"../x", "/workspace/../x"),
        ];
        for (path, wanted) in cases {
            assert_eq!(absolute(path), Path::new(wanted));
        }
        assert_eq!(expanded(b"~/x"), Path::new("/home/agent/x"));
        assert_eq!(expanded(b"~"), Path::new("/home/agent"));
        assert_eq!(expanded(b"~other"), Path::new("/workspace/~other"));
    }
}
