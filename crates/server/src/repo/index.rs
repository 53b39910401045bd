//! Makes a git index agree with files that were given another time.
//!
//! Git believes an index entry without reading the file if size and modification time agree, and
//! distrusts ("racy") entries that are not older than the index itself. In a prepared checkout
//! all files get one time in the past, so that a change made by a session a moment later always
//! differs; here that time is written into the index, instead of having git read every file
//! again. The rest of what git remembers of a file (inode, owner, change time) is different under
//! every mount and is ignored by `core.checkStat=minimal`.
//!
//! Format: gitformat-index(5), versions 2 and 3.

use std::io;

use aws_lc_rs::digest;

use super::git;

/// Bytes of an entry before its object id: ten 32-bit numbers.
const STAT: usize = 40;
/// Type bits of a submodule's mode.
const GITLINK: u32 = 0o160_000;

/// Sets every entry's modification time to `seconds` and returns the paths of submodules.
pub(super) fn set_times(index: &mut [u8], seconds: u32, id_len: usize) -> io::Result<Vec<String>> {
    let hash = match id_len {
        20 => &digest::SHA1_FOR_LEGACY_USE_ONLY,
        _ => &digest::SHA256,
    };
    let end = index.len().checked_sub(id_len).ok_or_else(malformed)?;
    let (body, checksum) = index.split_at_mut(end);
    if body.get(..4) != Some(b"DIRC") || !matches!(number(body, 4)?, 2 | 3) {
        return Err(malformed());
    }
    let mut submodules = Vec::new();
    let mut at = 12;
    for _ in 0..number(body, 8)? {
        let mode = number(body, at + 24)?;
        // Change time, modification time: seconds and nanoseconds each; then device and inode.
        let [zero, when] = [0_u32.to_be_bytes(), seconds.to_be_bytes()];
        let stat = body.get_mut(at..at + 24).ok_or_else(malformed)?;
        stat.copy_from_slice(&[zero, zero, when, zero, zero, zero].concat());
        let flags_at = at + STAT + id_len;
        let flags = number(body, flags_at)? >> 16;
        let name_at = flags_at + if flags & 0x4000 == 0 { 2 } else { 4 };
        let rest = body.get(name_at..).ok_or_else(malformed)?;
        let length = rest.iter().position(|byte| *byte == 0).ok_or_else(malformed)?;
        if mode & 0o170_000 == GITLINK {
            submodules.push(git::path(&rest[..length]).display().to_string());
        }
        // One to eight NULs, so that an entry's length is a multiple of eight.
        at += (name_at - at + length + 8) & !7;
    }
    checksum.copy_from_slice(digest::digest(hash, body).as_ref());
    Ok(submodules)
}

fn number(bytes: &[u8], at: usize) -> io::Result<u32> {
    let four = bytes.get(at..at + 4).and_then(|four| four.first_chunk());
    four.map(|four| u32::from_be_bytes(*four)).ok_or_else(malformed)
}

fn malformed() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "git wrote an index of an unknown form")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn bytes_that_are_no_index_are_an_error(mut bytes: Vec<u8>, count in 0_u32..9) {
            let _ = set_times(&mut bytes, 1, 20);
            let mut framed = b"DIRC\0\0\0\x02".to_vec();
            framed.extend(count.to_be_bytes());
            framed.extend(bytes);
            let _ = set_times(&mut framed, 1, 20);
        }
    }
}
