//! `rclaude ls SESSION:path`: the files there are.

use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use rclaude_types::{FileEntry, FileKind, Timestamp};

use super::{Context, Done, place::Remote};
use crate::{
    client::{self, Client, real_path, real_target},
    exit::Exit,
    ui::{self, Paint, age, bytes, clean_line},
};

/// Levels that `-R` goes down: as many as the API does.
const DEEP: u32 = 256;

/// How to list.
#[derive(Debug, Clone, Copy)]
pub(super) struct How {
    /// With mode, size and age.
    pub(super) long: bool,
    /// All levels.
    pub(super) recursive: bool,
}

pub(super) async fn run(client: &Client, remote: &Remote, how: How, cx: &mut Context) -> Done {
    let session = &remote.session;
    let looking = client.stat(session, remote.path(), true);
    let found = cx.ui.wait(&format!("looking at {remote}"), looking).await?;
    if found.kind != FileKind::Directory {
        let base = real_path(&found).parent().map(Path::to_owned).unwrap_or_default();
        if cx.json {
            cx.ui.json(&found.raw)?;
        } else {
            print(cx, &base, &[found.value], how)?;
        }
        return Ok(Exit::OK);
    }
    // By its real path: entries tell theirs from there.
    let base = real_path(&found);
    let depth = if how.recursive { DEEP } else { 1 };
    let mut cursor: Option<String> = None;
    loop {
        let listing = client.list(session, &base, depth, cursor.as_deref());
        let page = cx.ui.wait(&format!("listing {remote}"), listing).await?;
        let mut entries = Vec::new();
        for raw in &page.data {
            if cx.json {
                cx.ui.json(raw)?;
            } else {
                entries.push(client::read::<FileEntry>(raw)?);
            }
        }
        print(cx, &base, &entries, how)?;
        cursor.clone_from(&page.next_cursor);
        if cursor.is_none() {
            return Ok(Exit::OK);
        }
    }
}

fn print(
    cx: &mut Context,
    base: &Path,
    entries: &[FileEntry],
    how: How,
) -> Result<(), crate::exit::Failure> {
    if entries.is_empty() {
        return Ok(());
    }
    let terminal = cx.ui.out_is_terminal();
    let text = render(cx.ui.out(), base, entries, how, terminal, ui::now());
    cx.ui.data(&text)
}

/// A line for each. A terminal gets no control characters from a name; a pipe gets the very bytes.
fn render(
    paint: Paint,
    base: &Path,
    entries: &[FileEntry],
    how: How,
    terminal: bool,
    now: Timestamp,
) -> Vec<u8> {
    let sizes: Vec<String> = entries.iter().map(|entry| bytes(entry.size)).collect();
    let ages: Vec<String> = entries.iter().map(|entry| age(entry.modified_at, now)).collect();
    let widest = |texts: &[String]| texts.iter().map(String::len).max().unwrap_or(0);
    let (size_width, age_width) = (widest(&sizes), widest(&ages));
    let mut out = Vec::new();
    for ((entry, size), age) in entries.iter().zip(&sizes).zip(&ages) {
        if how.long {
            let line = format!("{} {size:>size_width$} {age:>age_width$} ", mode(entry));
            out.extend_from_slice(paint.dim(&line).as_bytes());
        }
        let path = real_path(entry);
        let name = path.strip_prefix(base).unwrap_or(&path);
        let add = |out: &mut Vec<u8>, name: &std::ffi::OsStr| {
            if terminal {
                out.extend_from_slice(clean_line(&name.to_string_lossy()).as_bytes());
            } else {
                out.extend_from_slice(name.as_bytes());
            }
        };
        add(&mut out, name.as_os_str());
        if entry.kind == FileKind::Directory && terminal {
            out.push(b'/');
        }
        if let Some(target) = real_target(entry).filter(|_| how.long) {
            out.extend_from_slice(b" -> ");
            add(&mut out, &target);
        }
        out.push(b'\n');
    }
    out
}

/// Kind and permission bits, as `ls -l` has them.
fn mode(entry: &FileEntry) -> String {
    let kind = match entry.kind {
        FileKind::File => '-',
        FileKind::Directory => 'd',
        FileKind::Symlink => 'l',
        FileKind::Other => '?',
    };
    let bits = (0..9).map(|place| {
        let set = entry.mode & (0o400 >> place) != 0;
        if set { char::from(b"rwxrwxrwx"[place]) } else { '-' }
    });
    std::iter::once(kind).chain(bits).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_says_what_a_file_is() {
        let entry = |path: &str, kind, mode, target: Option<&str>| FileEntry {
            path: path.to_owned(),
            path_base64: None,
            kind,
            size: 1536,
            mode,
            uid: 1000,
            gid: 1000,
            modified_at: Timestamp::from_micros(1_795_246_156_000_000),
            modified_nanos: 0,
            etag: "1-2-3".to_owned(),
            target: target.map(str::to_owned),
            target_base64: None,
        };
        let entries = [
            entry("/w/bin", FileKind::Directory, 0o755, None),
            entry("/w/bin/a\u{1b}b", FileKind::File, 0o640, None),
            entry("/w/link", FileKind::Symlink, 0o777, Some("bin/tool")),
        ];
        let now = Timestamp::from_micros(1_795_246_216_000_000);
        let how = How { long: true, recursive: true };
        let text = |terminal| {
            let text = render(Paint::new(false), Path::new("/w"), &entries, how, terminal, now);
            String::from_utf8(text).unwrap()
        };
        insta::assert_snapshot!(text(true));
        assert!(text(false).contains("bin/a\u{1b}b\n"), "a pipe gets the name as it is");
    }
}
