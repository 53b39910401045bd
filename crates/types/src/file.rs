//! Files in a session, as the API shows them.

use serde::{Deserialize, Serialize};

use crate::Timestamp;

/// What sort of file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub enum FileKind {
    /// A regular file.
    File,
    /// A directory.
    Directory,
    /// A symbolic link, not followed.
    Symlink,
    /// A socket, pipe or device.
    Other,
}

/// A file or directory. A path that is not UTF-8 is shown with what is not replaced, and told
/// exactly in base64 beside it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct FileEntry {
    /// Its absolute path in the sandbox, with bytes that are not UTF-8 replaced.
    pub path: String,
    /// The path's bytes in base64, where it is not UTF-8.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path_base64: Option<String>,
    /// What it is.
    pub kind: FileKind,
    /// Bytes.
    pub size: u64,
    /// Permission bits.
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// When its content last changed.
    pub modified_at: Timestamp,
    /// Nanoseconds that this was after `modified_at`, 0 to 999.
    #[serde(default)]
    pub modified_nanos: u16,
    /// Names its content as it is now: made of inode, time and size, it changes when they do.
    /// `if-match` and `if-range` take it, in quotes.
    #[serde(default)]
    pub etag: String,
    /// Where a link leads.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target: Option<String>,
    /// The same in base64, where it is not UTF-8.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target_base64: Option<String>,
}

/// Answer of `GET …/files/list`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct FileList {
    /// Entries in the order of their paths' components: a directory, then what is in it.
    pub data: Vec<FileEntry>,
    /// Pass as `cursor` for the next page; absent on the last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_cursor: Option<String>,
}

/// Body of `PATCH …/files`: what to change; the rest stays.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct ChangeFile {
    /// Permission bits, 0 to 4095 (`0o7777`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(minimum = 0, maximum = 4095))]
    pub mode: Option<u32>,
    /// When its content is to have changed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub modified_at: Option<Timestamp>,
    /// Nanoseconds after `modified_at`, 0 to 999.
    #[serde(default)]
    #[cfg_attr(feature = "openapi", schema(minimum = 0, maximum = 999))]
    pub modified_nanos: u16,
}

/// A line that a search found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct FileMatch {
    /// The file's absolute path, with bytes that are not UTF-8 replaced.
    pub path: String,
    /// The path's bytes in base64, where it is not UTF-8.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path_base64: Option<String>,
    /// The line's number, from 1.
    pub line: u64,
    /// Where in the line the match begins, in bytes from 1.
    pub column: u64,
    /// The line without its end, with bytes that are not UTF-8 replaced; cut if it is long.
    pub text: String,
    /// The line was longer.
    #[serde(default)]
    pub cut: bool,
}

/// Why a search ended before it had seen everything.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub enum SearchStop {
    /// It found as many lines as it was to find.
    Limit,
    /// It took too long.
    Time,
}

/// Answer of `GET …/files/search`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct FileSearch {
    /// Lines that match, by path and line.
    pub data: Vec<FileMatch>,
    /// Files that were looked into.
    pub files: u64,
    /// Why it ended early; absent if it saw everything.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stopped: Option<SearchStop>,
}

/// What a watch tells, one JSON object each. Changes of one moment come together and once.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub enum FileEvent {
    /// Always first: whatever changes from now on is told.
    Ready,
    /// Something is there that was not, or another file stands in its place. A move is told as
    /// `removed` and `created`.
    Created(FileChange),
    /// A file's content, or a mode or time, changed.
    Modified(FileChange),
    /// It is there no more.
    Removed(FileChange),
    /// More changed than could be told, or a new directory could not be watched: list again what
    /// you follow.
    Overflow,
}

/// What changed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct FileChange {
    /// The absolute path, with bytes that are not UTF-8 replaced.
    pub path: String,
    /// The path's bytes in base64, where it is not UTF-8.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path_base64: Option<String>,
    /// It is, or was, a directory.
    pub directory: bool,
}
