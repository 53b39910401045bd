//! Files that processes have mapped for writing.
//!
//! The first store into a page of such a file moves the file's change time, further ones do not
//! until the page has been written to disk. So the time says nothing about what happens to the
//! file while it is mapped. They are few (databases' shared memory, linkers at work).

use std::{
    collections::HashSet,
    ffi::{CString, OsString},
    fs, io,
    os::{fd::OwnedFd, unix::ffi::OsStringExt as _, unix::fs::MetadataExt as _},
};

use rustix::fs::{Mode, OFlags, ResolveFlags};

/// Inodes in the tree at `upper` of the files that processes of the pid namespace `namespace`
/// have mapped for writing.
pub(super) fn inodes(upper: &OwnedFd, namespace: u64) -> io::Result<HashSet<u64>> {
    let mut found = HashSet::new();
    for entry in fs::read_dir("/proc")? {
        let name = entry?.file_name();
        let Some(pid) = name.to_str().filter(|name| name.parse::<u32>().is_ok()) else { continue };
        // Any of them may end, or may have been another user's all along.
        let same = fs::metadata(format!("/proc/{pid}/ns/pid"));
        if !same.is_ok_and(|found| found.ino() == namespace) {
            continue;
        }
        let Ok(maps) = fs::read(format!("/proc/{pid}/maps")) else { continue };
        for line in maps.split(|byte| *byte == b'\n') {
            if let Some(path) = shared_and_writable(line)
                && let Some(inode) = inode_of(upper, path)
            {
                found.insert(inode);
            }
        }
    }
    Ok(found)
}

/// The path in a line of `/proc/<pid>/maps` that tells of a file mapped so.
fn shared_and_writable(line: &[u8]) -> Option<Vec<u8>> {
    let mut fields = line.splitn(6, |byte| *byte == b' ');
    let rights = fields.nth(1)?;
    if rights.get(1) != Some(&b'w') || rights.get(3) != Some(&b's') {
        return None;
    }
    let path = fields.nth(3)?.trim_ascii_start();
    path.starts_with(b"/").then(|| unescape(path))
}

/// The kernel writes line feeds in octal, and nothing else.
fn unescape(path: &[u8]) -> Vec<u8> {
    let mut whole = Vec::with_capacity(path.len());
    let mut rest = path;
    while let Some((first, after)) = rest.split_first() {
        if let Some(after) = rest.strip_prefix(b"\\012") {
            whole.push(b'\n');
            rest = after;
        } else {
            whole.push(*first);
            rest = after;
        }
    }
    whole
}

/// Looked up in the tree, which the sandbox's root is made of, and nowhere else. What is not there
/// lies in a lower layer or in another of the sandbox's mounts, or has no name any more.
fn inode_of(upper: &OwnedFd, path: Vec<u8>) -> Option<u64> {
    let path = CString::new(OsString::from_vec(path).into_vec()).ok()?;
    let relative = path.to_bytes_with_nul().strip_prefix(b"/")?;
    let relative = std::ffi::CStr::from_bytes_with_nul(relative).ok()?;
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_XDEV;
    let file = rustix::fs::openat2(upper, relative, flags, Mode::empty(), resolve).ok()?;
    rustix::fs::fstat(file).ok().map(|found| found.st_ino)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_shared_writable_mappings_of_files_count() {
        let path = |line: &str| shared_and_writable(line.as_bytes());
        let line = "7f00-7f01 rw-s 00000000 fe:00 123                        /workspace/a b\\012c";
        assert_eq!(path(line), Some(b"/workspace/a b\nc".to_vec()));
        assert_eq!(path("7f00-7f01 r--s 00000000 fe:00 123    /workspace/a"), None);
        assert_eq!(path("7f00-7f01 rw-p 00000000 fe:00 123    /workspace/a"), None);
        assert_eq!(path("7f00-7f01 rw-s 00000000 00:00 0 "), None);
        assert_eq!(path(""), None);
    }

    #[test]
    fn a_file_this_process_maps_is_found() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("mapped"), [0; 4096]).unwrap();
        let namespace = fs::metadata("/proc/self/ns/pid").unwrap().ino();
        let upper = super::super::super::sys::open_own(std::path::Path::new("/")).unwrap();
        let path = dir.path().canonicalize().unwrap().join("mapped");
        let inode = fs::metadata(&path).unwrap().ino();
        let path = path.into_os_string().into_vec();
        // Finding it by its path is what this is about; mapping it takes unsafe code.
        assert_eq!(inode_of(&upper, path), Some(inode));
        assert!(!inodes(&upper, namespace).unwrap().contains(&inode));
    }
}
