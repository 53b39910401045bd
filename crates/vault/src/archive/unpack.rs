//! Taking an archive apart. It may come from anybody: nothing in it is believed.

use std::{
    collections::HashSet,
    fs::{self, OpenOptions},
    io::{self, Read},
    os::unix::fs::OpenOptionsExt as _,
    path::Path,
};

use sha2::{Digest as _, Sha256};

use super::{BLOCK, FORMAT, LONGEST_HEADER, MAGIC, is_expected};
use crate::{Result, VaultError};

/// The header of an archive, which anybody can have written. Reads no further.
///
/// # Errors
///
/// As [`unpack`].
pub fn header(from: impl Read) -> Result<serde_json::Value> {
    Ok(Source::new(from).front()?.0)
}

/// Unpacks an archive's vault into a directory that is empty or does not exist, and gives its
/// header. Reads to the end of `from`, in which there may be at most `limit` bytes of a vault.
/// An error leaves the directory empty.
///
/// # Errors
///
/// [`VaultError::Truncated`] if the file ends too soon, [`VaultError::NewerFormat`] if a newer
/// program made it, [`VaultError::BadArchive`] if it is none or was changed.
pub fn unpack(from: impl Read, into: &Path, limit: u64) -> Result<serde_json::Value> {
    fs::create_dir_all(into).map_err(VaultError::tree("make the directory", into))?;
    let mut entries = fs::read_dir(into).map_err(VaultError::tree("list", into))?;
    if entries.next().is_some() {
        return Err(VaultError::Invalid(format!(
            "{} is not empty: no archive is unpacked over what is there",
            into.display()
        )));
    }
    let result = Source::new(from).unpack(into, limit);
    if result.is_err() {
        empty(into);
    }
    result
}

fn empty(dir: &Path) {
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        let path = entry.path();
        let removed = match entry.file_type() {
            Ok(kind) if kind.is_dir() => fs::remove_dir_all(&path),
            _ => fs::remove_file(&path),
        };
        if let Err(error) = removed {
            tracing::warn!(path = %path.display(), %error, "part of an archive was left behind");
        }
    }
}

/// An archive's bytes, counted and hashed as they go by.
struct Source<R> {
    from: R,
    hash: Sha256,
    at: u64,
    /// Whether more was asked for than there is.
    ended: bool,
    /// What else went wrong with reading.
    failed: bool,
}

impl<R: Read> Read for Source<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.from.read(buffer).inspect_err(|error| {
            self.failed |= error.kind() != io::ErrorKind::Interrupted;
        })?;
        self.ended |= read == 0 && !buffer.is_empty();
        self.hash.update(&buffer[..read]);
        self.at += read as u64;
        Ok(read)
    }
}

impl<R: Read> Source<R> {
    fn new(from: R) -> Self {
        Self { from, hash: Sha256::new(), at: 0, ended: false, failed: false }
    }

    /// What an error while reading means.
    fn wrong(&self, error: io::Error) -> VaultError {
        if self.failed {
            VaultError::tree("read", "the archive")(error)
        } else if self.ended {
            VaultError::Truncated { at: self.at }
        } else {
            VaultError::BadArchive(format!(
                "the archive is damaged before byte {}: {error}",
                self.at
            ))
        }
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N]> {
        let mut bytes = [0; N];
        self.read_exact(&mut bytes).map_err(|error| self.wrong(error))?;
        Ok(bytes)
    }

    /// The header, and the body's length.
    fn front(&mut self) -> Result<(serde_json::Value, u64)> {
        let mut magic = Vec::new();
        let read = self.by_ref().take(MAGIC.len() as u64).read_to_end(&mut magic);
        read.map_err(|error| self.wrong(error))?;
        if magic.is_empty() || !MAGIC.starts_with(&magic) {
            let text = "this is not an archive of ours: it does not begin as one";
            return Err(VaultError::BadArchive(text.to_owned()));
        }
        if magic.len() < MAGIC.len() {
            return Err(VaultError::Truncated { at: self.at });
        }
        let format = u32::from_le_bytes(self.array()?);
        if format > FORMAT {
            let what = "the archive".to_owned();
            return Err(VaultError::NewerFormat { what, found: format, known: FORMAT });
        }
        let header_length = u32::from_le_bytes(self.array()?);
        let body = u64::from_le_bytes(self.array()?);
        if format == 0 || header_length > LONGEST_HEADER {
            let text = "the archive is damaged: its beginning makes no sense";
            return Err(VaultError::BadArchive(text.to_owned()));
        }
        let mut header = Vec::new();
        let length = u64::from(header_length);
        let read = self.by_ref().take(length).read_to_end(&mut header);
        read.map_err(|error| self.wrong(error))?;
        if header.len() as u64 != length {
            return Err(VaultError::Truncated { at: self.at });
        }
        let header = serde_json::from_slice(&header).map_err(|error| {
            VaultError::BadArchive(format!(
                "the archive is damaged: its header is no JSON: {error}"
            ))
        })?;
        Ok((header, body))
    }

    fn unpack(mut self, into: &Path, limit: u64) -> Result<serde_json::Value> {
        let (header, body) = self.front()?;
        if body > limit {
            return Err(VaultError::Invalid(format!(
                "the archive holds {body} bytes, at most {limit} are allowed here"
            )));
        }
        let mut tar = tar::Archive::new(self.by_ref().take(body));
        let result = files(&mut tar, into);
        let mut rest = tar.into_inner();
        let drained = match &result {
            Ok(()) => io::copy(&mut rest, &mut io::sink()).map(|_| rest.limit()),
            Err(_) => Ok(0),
        };
        match result {
            Ok(()) => {}
            Err(Refusal::Archive(error)) => return Err(self.wrong(error)),
            Err(Refusal::Name(text)) => return Err(VaultError::BadArchive(text)),
            Err(Refusal::Disk(error)) => return Err(error),
        }
        match drained {
            Ok(0) => {}
            Ok(_) => return Err(VaultError::Truncated { at: self.at }),
            Err(error) => return Err(self.wrong(error)),
        }
        let hash: [u8; 32] = self.hash.clone().finalize().into();
        if self.array::<32>()? != hash {
            let text = "the archive is damaged or was tampered with: its checksum is another";
            return Err(VaultError::BadArchive(text.to_owned()));
        }
        match self.read(&mut [0]) {
            Ok(0) => Ok(header),
            Ok(_) => Err(VaultError::BadArchive("the archive is followed by more".to_owned())),
            Err(error) => Err(self.wrong(error)),
        }
    }
}

/// Why files could not be taken out.
enum Refusal {
    Archive(io::Error),
    Name(String),
    Disk(VaultError),
}

fn files<R: Read>(tar: &mut tar::Archive<R>, into: &Path) -> Result<(), Refusal> {
    let mut seen = HashSet::new();
    // Just the blocks as they are: no extension is known here, so none can change a name.
    for entry in tar.entries().map_err(Refusal::Archive)?.raw(true) {
        let mut entry = entry.map_err(Refusal::Archive)?;
        let name = entry.path_bytes().into_owned();
        let name = match str::from_utf8(&name) {
            Ok(name) if is_expected(name) => name.to_owned(),
            _ => {
                let name = String::from_utf8_lossy(&name).into_owned();
                let text = format!("the archive is not sound: {name:?} is no file of a vault");
                return Err(Refusal::Name(text));
            }
        };
        if entry.header().entry_type() != tar::EntryType::Regular || !seen.insert(name.clone()) {
            return Err(Refusal::Name(format!(
                "the archive is not sound: {name} is no plain file"
            )));
        }
        let path = into.join(&name);
        let write = |doing| {
            let path = path.clone();
            move |error| Refusal::Disk(VaultError::tree(doing, path)(error))
        };
        fs::create_dir_all(path.parent().unwrap_or(into))
            .map_err(write("make the directory of"))?;
        let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path);
        copy(&mut entry, file.map_err(write("create"))?, write)?;
    }
    Ok(())
}

fn copy<F: FnOnce(io::Error) -> Refusal>(
    entry: &mut tar::Entry<'_, impl Read>,
    mut file: fs::File,
    write: impl Fn(&'static str) -> F,
) -> Result<(), Refusal> {
    use std::io::Write as _;
    let mut left = entry.size();
    let mut buffer = vec![0; 128 * usize::try_from(BLOCK).unwrap_or(512)];
    while left > 0 {
        let read = entry.read(&mut buffer).map_err(Refusal::Archive)?;
        if read == 0 {
            return Err(Refusal::Archive(io::ErrorKind::UnexpectedEof.into()));
        }
        file.write_all(&buffer[..read]).map_err(write("write"))?;
        left -= read as u64;
    }
    file.sync_all().map_err(write("write"))
}
