//! The key of the server's stores: 32 random bytes in the data directory.

use std::{
    fs,
    io::{self, ErrorKind},
    path::Path,
};

use crate::config::write_private;

/// The file's name.
pub const KEYRING: &str = "keyring";

/// The key, made on first use.
pub(super) fn load_or_make(data_dir: &Path) -> io::Result<[u8; 32]> {
    let file = data_dir.join(KEYRING);
    match fs::read(&file) {
        Ok(bytes) => return parse(&bytes, &file),
        Err(error) if error.kind() == ErrorKind::NotFound => {}
        Err(error) => return Err(error),
    }
    let mut key = [0; 32];
    aws_lc_rs::rand::fill(&mut key).map_err(|_| io::Error::other("no randomness"))?;
    write_private(&file, &key)?;
    Ok(key)
}

/// Writes a key that was brought along.
pub(super) fn put(data_dir: &Path, key: &[u8; 32]) -> io::Result<()> {
    write_private(&data_dir.join(KEYRING), key)
}

/// A key from a file: its bytes, or 64 hexadecimal digits.
pub fn read_key_file(file: &Path) -> io::Result<[u8; 32]> {
    let explain = |error: io::Error| {
        io::Error::new(error.kind(), format!("cannot read {}: {error}", file.display()))
    };
    parse(&fs::read(file).map_err(explain)?, file)
}

fn parse(bytes: &[u8], file: &Path) -> io::Result<[u8; 32]> {
    let digits = || parse_hex(std::str::from_utf8(bytes).ok()?.trim());
    bytes.try_into().ok().or_else(digits).ok_or_else(|| {
        let text = format!("{} is no key: 32 bytes, or 64 hexadecimal digits", file.display());
        io::Error::new(ErrorKind::InvalidData, text)
    })
}

/// A key from 64 hexadecimal digits.
pub(super) fn parse_hex(text: &str) -> Option<[u8; 32]> {
    let mut key = [0; 32];
    if text.len() != 64 || !text.is_ascii() {
        return None;
    }
    for (byte, digits) in key.iter_mut().zip(text.as_bytes().chunks_exact(2)) {
        *byte = u8::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()?;
    }
    Some(key)
}

/// A key as 64 hexadecimal digits.
pub(super) fn to_hex(key: &[u8]) -> String {
    key.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn the_key_stays_the_same_and_is_for_its_owner_alone() {
        let dir = tempfile::tempdir().unwrap();
        let key = load_or_make(dir.path()).unwrap();
        assert_eq!(load_or_make(dir.path()).unwrap(), key);
        let mode = fs::metadata(dir.path().join(KEYRING)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        let written = dir.path().join("written");
        fs::write(&written, format!("{}\n", to_hex(&key))).unwrap();
        assert_eq!(read_key_file(&written).unwrap(), key, "as digits, too");
    }

    #[test]
    fn a_damaged_keyring_is_named_and_never_replaced() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join(KEYRING), "short").unwrap();
        let error = load_or_make(dir.path()).unwrap_err().to_string();
        assert!(error.contains("keyring is no key"), "{error}");
        assert_eq!(fs::read(dir.path().join(KEYRING)).unwrap(), b"short");
    }
}
