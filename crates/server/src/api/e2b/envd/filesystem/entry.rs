//! A file or directory, as the protocol shows it.

use std::path::Path;

use rclaude_types::{FileEntry, FileKind};
use serde::Serialize;

/// A file or directory.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(in crate::api::e2b::envd) struct Entry {
    name: String,
    r#type: &'static str,
    path: String,
    /// 64 bits are text in this codec.
    size: String,
    mode: u32,
    /// As `ls -l` shows it.
    permissions: String,
    owner: String,
    group: String,
    modified_time: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    symlink_target: Option<String>,
}

impl Entry {
    /// What was found at `path`; with what it leads to, if it is a link that leads somewhere.
    pub(super) fn of(found: FileEntry, behind: Option<FileEntry>, path: &Path) -> Self {
        let (kind, mode) = match (&behind, found.kind) {
            (Some(behind), _) => (behind.kind, behind.mode),
            (None, kind) => (kind, found.mode),
        };
        let leads = behind.map(|behind| behind.path).or(found.target);
        Self {
            name: path.file_name().unwrap_or_default().to_string_lossy().into_owned(),
            r#type: match kind {
                FileKind::File => "FILE_TYPE_FILE",
                FileKind::Directory => "FILE_TYPE_DIRECTORY",
                FileKind::Symlink => "FILE_TYPE_SYMLINK",
                FileKind::Other => "FILE_TYPE_UNSPECIFIED",
            },
            path: path.to_string_lossy().into_owned(),
            size: found.size.to_string(),
            mode: mode & 0o777,
            permissions: permissions(found.kind, found.mode),
            owner: name(found.uid),
            group: name(found.gid),
            modified_time: found.modified_at.to_string(),
            symlink_target: leads.filter(|_| found.kind == FileKind::Symlink),
        }
    }
}

/// The agent goes by the name that E2B gives its user.
fn name(id: u32) -> String {
    match id {
        0 => "root".to_owned(),
        1000 => "user".to_owned(),
        other => other.to_string(),
    }
}

fn permissions(kind: FileKind, mode: u32) -> String {
    let first = match kind {
        FileKind::File => '-',
        FileKind::Directory => 'd',
        FileKind::Symlink => 'L',
        FileKind::Other => '?',
    };
    let bits =
        (0..9).rev().map(|bit| if mode >> bit & 1 == 1 { ['x', 'w', 'r'][bit % 3] } else { '-' });
    std::iter::once(first).chain(bits).collect()
}

#[cfg(test)]
mod tests {
    use rclaude_types::Timestamp;

    use super::*;

    fn found(kind: FileKind) -> FileEntry {
        FileEntry {
            path: "/real".to_owned(),
            path_base64: None,
            kind,
            size: 5_000_000_000,
            mode: 0o4640,
            uid: 1000,
            gid: 7,
            modified_at: Timestamp::from_micros(1_500_000),
            modified_nanos: 0,
            etag: String::new(),
            target: (kind == FileKind::Symlink).then(|| "nowhere".to_owned()),
            target_base64: None,
        }
    }

    #[test]
    fn a_file_is_shown_in_the_codecs_terms() {
        let entry = Entry::of(found(FileKind::File), None, Path::new("/home/user/a"));
        let json = serde_json::to_value(entry).unwrap();
        let wanted = serde_json::json!({
            "name": "a", "type": "FILE_TYPE_FILE", "path": "/home/user/a", "size": "5000000000",
            "mode": 0o640, "permissions": "-rw-r-----", "owner": "user", "group": "7",
            "modifiedTime": "1970-01-01T00:00:01.5Z",
        });
        assert_eq!(json, wanted);
    }

    #[test]
    fn a_link_is_of_the_kind_of_what_it_leads_to_if_it_leads_somewhere() {
        let link = || found(FileKind::Symlink);
        let whole = Entry::of(link(), Some(found(FileKind::Directory)), Path::new("/l"));
        assert_eq!(whole.r#type, "FILE_TYPE_DIRECTORY");
        assert_eq!(whole.symlink_target.as_deref(), Some("/real"));
        let broken = Entry::of(link(), None, Path::new("/l"));
        assert_eq!(broken.r#type, "FILE_TYPE_SYMLINK");
        assert_eq!(broken.symlink_target.as_deref(), Some("nowhere"));
    }
}
