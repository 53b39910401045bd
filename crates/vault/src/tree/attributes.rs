//! Extended attributes of a file in a directory.
//!
//! The system calls for them take no directory, so the file is named through the directory's
//! descriptor in `/proc`. The last step of such a path is not followed.

use std::{
    ffi::{OsStr, OsString},
    io,
    os::{
        fd::{AsRawFd as _, BorrowedFd},
        unix::ffi::{OsStrExt as _, OsStringExt as _},
    },
};

use rustix::{
    fs::{XattrFlags, lgetxattr, llistxattr, lsetxattr},
    io::Errno,
};

/// The kernel's limits (`XATTR_LIST_MAX`, `XATTR_SIZE_MAX`).
const LIMIT: usize = 65536;

/// Labels of security modules belong to the host, which gives them to each new file itself.
const OF_THE_HOST: [&[u8]; 5] = [
    b"security.selinux",
    b"security.apparmor",
    b"security.SMACK64",
    b"security.ima",
    b"security.evm",
];

fn through(dir: BorrowedFd<'_>, name: &OsStr) -> OsString {
    let mut path = format!("/proc/self/fd/{}/", dir.as_raw_fd()).into_bytes();
    path.extend(name.as_bytes());
    OsString::from_vec(path)
}

/// All attributes of a file but the host's own, by name.
pub(super) fn all(dir: BorrowedFd<'_>, name: &OsStr) -> io::Result<Vec<(Vec<u8>, Vec<u8>)>> {
    let path = through(dir, name);
    let mut small = [0; 1024];
    let names = match llistxattr(&path, &mut small) {
        Ok(length) => small[..length].to_vec(),
        Err(Errno::RANGE) => {
            let mut large = vec![0; LIMIT];
            let length = llistxattr(&path, &mut large)?;
            large.truncate(length);
            large
        }
        Err(Errno::NOTSUP) => return Ok(Vec::new()),
        Err(error) => return Err(error.into()),
    };
    let mut found = Vec::new();
    for name in names.split(|byte| *byte == 0).filter(|name| !name.is_empty()) {
        if OF_THE_HOST.iter().any(|label| name.starts_with(label)) {
            continue;
        }
        let mut value = vec![0; LIMIT];
        match lgetxattr(&path, OsStr::from_bytes(name), &mut value) {
            Ok(length) => value.truncate(length),
            // Gone since it was listed.
            Err(Errno::NODATA) => continue,
            Err(error) => return Err(error.into()),
        }
        found.push((name.to_vec(), value));
    }
    found.sort();
    Ok(found)
}

/// Gives a file an attribute.
pub(crate) fn set(
    dir: BorrowedFd<'_>,
    name: &OsStr,
    attribute: &[u8],
    value: &[u8],
) -> io::Result<()> {
    let attribute = OsStr::from_bytes(attribute);
    Ok(lsetxattr(through(dir, name), attribute, value, XattrFlags::empty())?)
}
