//! Requests and their answers.

use std::{
    collections::HashMap,
    os::unix::ffi::{OsStrExt, OsStringExt},
    path::PathBuf,
};

use bytes::Bytes;
use rclaude_sandbox::agentd::{Client, Condition, Listing, WriteOptions};
use rclaude_types::{FileEntry, FileKind, SessionId};

use super::{
    MAX_PACKET,
    attributes::{self, Attributes, path_of, put, put_none, target_of},
    file::File,
    paths::{absolute, expanded, place, real, there},
    status::{Result, Status},
    wire::{self, Fields, Packet},
};
use crate::session::manager::SessionManager;

/// Files and directories that a client may have open.
const MAX_OPEN: usize = 256;

/// Bytes of a file in one packet: OpenSSH leaves so much for what is around them.
const MAX_DATA: usize = MAX_PACKET - 1024;

/// Entries of a directory in one packet: with names as long as they can be, a quarter of one.
const PAGE: u32 = 100;

/// What OpenSSH's clients know beyond the protocol, as of which version.
const EXTENSIONS: &[(&str, &str)] = &[
    ("posix-rename@openssh.com", "1"),
    ("limits@openssh.com", "1"),
    ("expand-path@openssh.com", "1"),
];

/// How a file is opened (section 6.3).
const FOR_READING: u32 = 0x1;
const FOR_WRITING: u32 = 0x2;
const APPENDING: u32 = 0x4;
const CREATE: u32 = 0x8;
const TRUNCATE: u32 = 0x10;
const EXCLUSIVE: u32 = 0x20;

/// What a client has open.
enum Open {
    File(File),
    Directory(Directory),
}

/// A directory, as far as it was listed.
struct Directory {
    path: PathBuf,
    cursor: Option<String>,
    ended: bool,
}

/// One client's files.
pub(super) struct Server {
    sessions: SessionManager,
    session: SessionId,
    open: HashMap<u32, Open>,
    next: u32,
}

impl Server {
    pub(super) fn new(sessions: SessionManager, session: SessionId) -> Self {
        Self { sessions, session, open: HashMap::new(), next: 0 }
    }

    /// Answers a packet; `None` to what is none of the protocol.
    pub(super) async fn answer(&mut self, packet: Bytes) -> Option<Bytes> {
        let mut fields = Fields(packet);
        let kind = fields.byte().ok()?;
        if kind == wire::INIT {
            return Some(Packet::version(EXTENSIONS).finish());
        }
        let id = fields.number().ok()?;
        let answer = self.perform(kind, id, fields).await;
        let packet = answer.unwrap_or_else(|status| Packet::status(id, &status));
        Some(packet.finish())
    }

    async fn perform(&mut self, kind: u8, id: u32, mut fields: Fields) -> Result<Packet> {
        // With every request, as the session may have been set aside since the last.
        let daemon = self.sessions.files(&self.session).await?;
        let done = match kind {
            wire::OPEN => {
                let file = open(&daemon, &mut fields).await?;
                return self.keep(id, Open::File(file));
            }
            wire::OPENDIR => {
                let path = absolute(&fields.bytes()?);
                let entry = daemon.followed(&path).await?;
                if entry.kind != FileKind::Directory {
                    return Err(Status::failure(format!("{} is no directory", path.display())));
                }
                let directory = Directory { path, cursor: None, ended: false };
                return self.keep(id, Open::Directory(directory));
            }
            wire::CLOSE => match self.open.remove(&handle(&mut fields)?) {
                Some(Open::File(mut file)) => file.finish_writing().await,
                Some(Open::Directory(_)) => Ok(()),
                None => Err(unknown()),
            },
            wire::READ => {
                let file = self.file(&mut fields)?;
                let (offset, length) = (fields.long()?, fields.number()? as usize);
                if !file.may_read {
                    return Err(Status::denied("the file was not opened for reading"));
                }
                let data = file.read(&daemon, offset, length.min(MAX_DATA)).await?;
                return Ok(Packet::data(id, &data));
            }
            wire::WRITE => {
                let file = self.file(&mut fields)?;
                let (offset, data) = (fields.long()?, fields.bytes()?);
                if !file.may_write {
                    return Err(Status::denied("the file was not opened for writing"));
                }
                file.write(&daemon, offset, data).await
            }
            wire::LSTAT => {
                let entry = daemon.stat(absolute(&fields.bytes()?)).await?;
                return Ok(put(Packet::attributes(id), &entry));
            }
            wire::STAT => {
                let entry = daemon.followed(absolute(&fields.bytes()?)).await?;
                return Ok(put(Packet::attributes(id), &entry));
            }
            wire::FSTAT => {
                let path = self.path(&mut fields).await?;
                return Ok(put(Packet::attributes(id), &daemon.followed(path).await?));
            }
            wire::SETSTAT => {
                let path = absolute(&fields.bytes()?);
                change(&daemon, path, Attributes::read(&mut fields)?).await
            }
            wire::FSETSTAT => {
                let path = self.path(&mut fields).await?;
                change(&daemon, path, Attributes::read(&mut fields)?).await
            }
            wire::READDIR => match self.open.get_mut(&handle(&mut fields)?) {
                Some(Open::Directory(directory)) => return directory.page(&daemon, id).await,
                _ => Err(unknown()),
            },
            wire::REMOVE => remove(&daemon, absolute(&fields.bytes()?), false).await,
            wire::RMDIR => remove(&daemon, absolute(&fields.bytes()?), true).await,
            wire::MKDIR => {
                let path = absolute(&fields.bytes()?);
                let mode = Attributes::read(&mut fields)?.mode.map(masked);
                Ok(daemon.make_directory(path, false, mode).await.map(drop)?)
            }
            wire::REALPATH => {
                let path = real(&daemon, &absolute(&fields.bytes()?)).await?;
                return Ok(name(id, &path.into_os_string().into_vec()));
            }
            wire::RENAME => {
                let (from, to) = (absolute(&fields.bytes()?), absolute(&fields.bytes()?));
                Ok(daemon.rename(from, to, &Condition::Absent).await.map(drop)?)
            }
            wire::READLINK => {
                let path = absolute(&fields.bytes()?);
                let target = target_of(&daemon.stat(&path).await?);
                let no_link = || Status::failure(format!("{} is no link", path.display()));
                return Ok(name(id, target.ok_or_else(no_link)?.as_bytes()));
            }
            wire::SYMLINK => {
                // In the order in which OpenSSH has them, which is not the draft's.
                let (target, path) = (fields.bytes()?, absolute(&fields.bytes()?));
                let target = std::ffi::OsStr::from_bytes(&target);
                Ok(daemon.link(path, target).await.map(drop)?)
            }
            wire::EXTENDED => return extended(&daemon, id, &mut fields).await,
            _ => Err(Status::unsupported()),
        };
        done.map(|()| Packet::status(id, &Status::done()))
    }

    fn keep(&mut self, id: u32, open: Open) -> Result<Packet> {
        if self.open.len() >= MAX_OPEN {
            return Err(Status::failure(format!("{MAX_OPEN} files are open already")));
        }
        while self.open.contains_key(&self.next) {
            self.next = self.next.wrapping_add(1);
        }
        let handle = self.next;
        self.next = self.next.wrapping_add(1);
        self.open.insert(handle, open);
        Ok(Packet::handle(id, handle))
    }

    /// The open file that a request names.
    fn file(&mut self, fields: &mut Fields) -> Result<&mut File> {
        match self.open.get_mut(&handle(fields)?) {
            Some(Open::File(file)) => Ok(file),
            _ => Err(unknown()),
        }
    }

    /// The path of what a request names as open, with all that was written in place.
    async fn path(&mut self, fields: &mut Fields) -> Result<PathBuf> {
        match self.open.get_mut(&handle(fields)?) {
            Some(Open::File(file)) => {
                file.finish_writing().await?;
                Ok(file.path.clone())
            }
            Some(Open::Directory(directory)) => Ok(directory.path.clone()),
            None => Err(unknown()),
        }
    }
}

impl Directory {
    /// The next entries; an end behind the last.
    async fn page(&mut self, daemon: &Client, id: u32) -> Result<Packet> {
        if self.ended {
            return Err(Status::end());
        }
        let (cursor, limit) = (self.cursor.take(), PAGE);
        let page =
            daemon.list(&self.path, &Listing { depth: 1, glob: None, cursor, limit }).await?;
        self.ended = page.next_cursor.is_none();
        self.cursor = page.next_cursor;
        // From a sandbox: no more than what was asked for is passed on.
        let entries = &page.data[..page.data.len().min(PAGE as usize)];
        if entries.is_empty() {
            self.ended = true;
            return Err(Status::end());
        }
        Ok(entries.iter().fold(Packet::names(id, entries.len()), |packet, entry| {
            let path = PathBuf::from(path_of(entry));
            let name = path.file_name().unwrap_or_default().as_bytes();
            let line = [attributes::line(entry).as_bytes(), name].concat();
            put(packet.bytes(name).bytes(&line), entry)
        }))
    }
}

async fn open(daemon: &Client, fields: &mut Fields) -> Result<File> {
    let path = absolute(&fields.bytes()?);
    let (flags, attributes) = (fields.number()?, Attributes::read(fields)?);
    let has = |flag| flags & flag != 0;
    let found = there(daemon, &path).await?;
    if let Some(FileEntry { kind, .. }) = &found
        && *kind != FileKind::File
    {
        return Err(Status::failure(format!("{} is no regular file", path.display())));
    }
    if has(CREATE) && has(EXCLUSIVE) && found.is_some() {
        return Err(Status::failure(format!("{} exists already", path.display())));
    }
    let (place, is_new) = match &found {
        Some(entry) => (path_of(entry).into(), false),
        None if has(FOR_WRITING) && has(CREATE) => (place(daemon, &path).await?, true),
        None => return Err(Status::missing(format!("{} is not there", path.display()))),
    };
    if has(FOR_WRITING) && (is_new || has(TRUNCATE)) {
        // A file that is replaced keeps its mode.
        let mode = attributes.mode.filter(|_| is_new).map(masked);
        let condition = if is_new { Condition::Absent } else { Condition::None };
        let options = WriteOptions { mode, sync: false, condition };
        daemon.write(&place, Bytes::new(), &options).await?;
    }
    let mut file = File::new(place, has(FOR_READING), has(FOR_WRITING), has(APPENDING));
    if file.may_read && !file.may_write {
        file.begin_reading(daemon).await?;
    }
    Ok(file)
}

async fn change(daemon: &Client, path: PathBuf, attributes: Attributes) -> Result<()> {
    let entry = daemon.followed(&path).await?;
    if attributes.owners.is_some_and(|owners| owners != (entry.uid, entry.gid)) {
        return Err(Status::denied("all files of a session are its user's"));
    }
    match attributes.size {
        None => {}
        Some(size) if size == entry.size => {}
        Some(0) => {
            let place: PathBuf = path_of(&entry).into();
            daemon.write(place, Bytes::new(), &WriteOptions::default()).await?;
        }
        Some(_) => return Err(Status::failure("a file is cut to nothing, or not at all")),
    }
    let change = attributes.change();
    if change.mode.is_some() || change.modified_at.is_some() {
        daemon.change(path, &change).await?;
    }
    Ok(())
}

async fn remove(daemon: &Client, path: PathBuf, directory: bool) -> Result<()> {
    let entry = daemon.stat(&path).await?;
    if (entry.kind == FileKind::Directory) != directory {
        let what = if directory { "no directory" } else { "a directory" };
        return Err(Status::failure(format!("{} is {what}", path.display())));
    }
    Ok(daemon.remove(path, false).await?)
}

async fn extended(daemon: &Client, id: u32, fields: &mut Fields) -> Result<Packet> {
    match fields.bytes()?.as_ref() {
        b"posix-rename@openssh.com" => {
            let (from, to) = (absolute(&fields.bytes()?), absolute(&fields.bytes()?));
            daemon.rename(from, to, &Condition::None).await?;
            Ok(Packet::status(id, &Status::done()))
        }
        b"limits@openssh.com" => Ok(Packet::extended(id)
            .long(MAX_PACKET as u64)
            .long(MAX_DATA as u64)
            .long(MAX_DATA as u64)
            .long(MAX_OPEN as u64)),
        b"expand-path@openssh.com" => {
            let path = real(daemon, &expanded(&fields.bytes()?)).await?;
            Ok(name(id, path.as_os_str().as_bytes()))
        }
        _ => Err(Status::unsupported()),
    }
}

/// The mode of what is new: nobody else's to write, as OpenSSH's server has it by its user's mask.
/// A client that wants to keep modes sets them at the end.
fn masked(mode: u32) -> u32 {
    mode & !0o022
}

/// One name, as an answer.
fn name(id: u32, name: &[u8]) -> Packet {
    put_none(Packet::names(id, 1).bytes(name).bytes(name))
}

fn handle(fields: &mut Fields) -> Result<u32> {
    let bytes = fields.bytes()?;
    bytes.as_ref().try_into().map(u32::from_be_bytes).map_err(|_| unknown())
}

fn unknown() -> Status {
    Status::failure("there is no such open file")
}
