//! Making an archive.

use std::{
    fs::{self, File},
    io::{self, Write},
    path::{Path, PathBuf},
};

use sha2::{Digest as _, Sha256};

use super::{FORMAT, LONGEST_HEADER, MAGIC, body_length, is_expected, shown};
use crate::{Result, VaultError};

/// Writes a vault's directory and a header, which says what is in it and is readable by everybody,
/// as one file. Nobody may write to the vault meanwhile. How many bytes the file has.
///
/// # Errors
///
/// [`VaultError::NotAVault`] if the directory holds none; [`VaultError::Invalid`] for a header of
/// more than 1 MiB; [`VaultError::Tree`] if something cannot be read or written.
pub fn pack(vault: &Path, header: &serde_json::Value, into: impl Write) -> Result<u64> {
    let header = serde_json::to_vec(header).map_err(|e| VaultError::Internal(e.to_string()))?;
    let header_length = u32::try_from(header.len()).unwrap_or(u32::MAX);
    if header_length > LONGEST_HEADER {
        return Err(VaultError::Invalid(format!(
            "an archive's header has {header_length} bytes, at most {LONGEST_HEADER} are allowed"
        )));
    }
    let files = files(vault)?;
    if !files.iter().any(|(name, _)| name == "config") {
        return Err(VaultError::NotAVault { location: shown(vault) });
    }
    let body = body_length(files.iter().map(|(_, length)| *length));
    let mut out = Counted { into, hash: Sha256::new(), length: 0 };
    let written = || VaultError::tree("write", "the archive");
    for part in [
        MAGIC as &[u8],
        &FORMAT.to_le_bytes(),
        &header_length.to_le_bytes(),
        &body.to_le_bytes(),
        &header,
    ] {
        out.write_all(part).map_err(written())?;
    }
    let mut tar = tar::Builder::new(&mut out);
    for (name, length) in &files {
        let path = vault.join(name);
        let file = File::open(&path).map_err(VaultError::tree("open", &path))?;
        let mut entry = tar::Header::new_ustar();
        entry.set_entry_type(tar::EntryType::Regular);
        entry.set_size(*length);
        entry.set_mode(0o600);
        entry.set_mtime(0);
        entry.set_uid(0);
        entry.set_gid(0);
        tar.append_data(&mut entry, name, Exactly { file, left: *length })
            .map_err(VaultError::tree("pack", &path))?;
    }
    tar.into_inner().map_err(written())?;
    let hash = out.hash.clone().finalize();
    out.write_all(&hash).map_err(written())?;
    out.flush().map_err(written())?;
    Ok(out.length)
}

/// A vault's files by name, and their lengths.
fn files(vault: &Path) -> Result<Vec<(String, u64)>> {
    let mut found = Vec::new();
    let mut todo = vec![PathBuf::new()];
    while let Some(folder) = todo.pop() {
        let path = vault.join(&folder);
        for entry in fs::read_dir(&path).map_err(VaultError::tree("list", &path))? {
            let entry = entry.map_err(VaultError::tree("list", &path))?;
            let kind = entry.file_type().map_err(VaultError::tree("look at", entry.path()))?;
            let name = folder.join(entry.file_name());
            if kind.is_dir() {
                todo.push(name);
            } else if let Some(name) = name.to_str()
                && kind.is_file()
                && is_expected(name)
            {
                let found_there = entry.metadata();
                let metadata = found_there.map_err(VaultError::tree("look at", entry.path()))?;
                found.push((name.to_owned(), metadata.len()));
            }
        }
    }
    found.sort();
    Ok(found)
}

/// A file of which just so much is there to be read: the tar's header has said so already.
struct Exactly {
    file: File,
    left: u64,
}

impl io::Read for Exactly {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let most = usize::try_from(self.left).unwrap_or(usize::MAX).min(buffer.len());
        if most == 0 {
            return Ok(0);
        }
        let read = self.file.read(&mut buffer[..most])?;
        if read == 0 {
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "it became shorter"));
        }
        self.left -= read as u64;
        Ok(read)
    }
}

struct Counted<W> {
    into: W,
    hash: Sha256,
    length: u64,
}

impl<W: Write> Write for Counted<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.into.write(bytes)?;
        self.hash.update(&bytes[..written]);
        self.length += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.into.flush()
    }
}
