//! Files: any name, any bytes, and never more than the user could reach.

use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};

use bytes::Bytes;
use http::HeaderValue;
use rclaude_sandbox::agentd::{Client, Condition, Error, Listing, Part, Untar, WriteOptions};
use rclaude_types::{ErrorCode, FileEntry, FileKind, agentd::User};

use crate::harness::{Daemon, command, pieces, run};

pub(crate) fn code<T: std::fmt::Debug>(result: Result<T, Error>) -> ErrorCode {
    let error = result.unwrap_err();
    error.problem().unwrap_or_else(|| panic!("{error:?}")).code
}

pub(crate) async fn read(client: &Client, path: &std::path::Path) -> Bytes {
    client.read(path, Part::default()).await.unwrap().bytes(100_000_000).await.unwrap()
}

async fn all(client: &Client, path: &std::path::Path) -> Vec<FileEntry> {
    client.list(path, &Listing::default()).await.unwrap().data
}

/// Bytes of every value in no simple order.
pub(crate) fn binary(length: usize) -> Vec<u8> {
    let mut state = 1_u32;
    let mut next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        state.to_be_bytes()[0]
    };
    (0..length).map(|_| next()).collect()
}

#[tokio::test]
async fn a_file_reads_back_whole_and_in_parts() {
    let daemon = Daemon::start();
    let client = daemon.client().await;
    let path = daemon.path("a/b c/é%?.bin");
    let data = binary(3_000_000);
    let options = WriteOptions { mode: Some(0o640), sync: true, ..WriteOptions::default() };
    let entry = client.write_stream(&path, pieces(&data), &options).await.unwrap();
    assert_eq!((entry.kind, entry.size, entry.mode), (FileKind::File, 3_000_000, 0o640));
    assert_eq!(entry.path, path.to_str().unwrap());
    assert_eq!(client.stat(&path).await.unwrap(), entry);
    assert!(read(&client, &path).await == data);
    let part = client.read(&path, Part::of(1_000_000..1_000_010)).await.unwrap();
    assert_eq!(
        (part.length, &part.headers["content-range"]),
        (Some(10), &HeaderValue::from_static("bytes 1000000-1000009/3000000"),)
    );
    assert_eq!(part.bytes(10).await.unwrap(), &data[1_000_000..1_000_010]);
    let beyond = client.read(&path, Part::of(4_000_000..4_000_010)).await;
    assert_eq!(code(beyond), ErrorCode::RangeNotSatisfiable);
    let only_of = |tag: &str| Part { only_of: HeaderValue::try_from(tag).ok(), ..Part::of(0..10) };
    let same = client.read(&path, only_of(&format!("\"{}\"", entry.etag))).await.unwrap();
    assert_eq!(same.length, Some(10));
    let other = client.read(&path, only_of("\"another\"")).await.unwrap();
    assert_eq!(other.length, Some(3_000_000), "a range of another state is the whole");
    let parent = path.parent().unwrap();
    assert_eq!(all(&client, parent).await, [entry]);
}

#[tokio::test]
async fn a_write_that_breaks_off_leaves_the_file_as_it_was() {
    let daemon = Daemon::start();
    let client = daemon.client().await;
    let path = daemon.path("file");
    let options = WriteOptions::default();
    let write = |text: &'static str| client.write(&path, text.into(), &options);
    write("before").await.unwrap();
    let broken = futures::stream::iter([
        Ok(Bytes::from_static(b"half")),
        Err(std::io::Error::other("the source broke")),
    ]);
    client.write_stream(&path, broken, &WriteOptions::default()).await.unwrap_err();
    assert_eq!(read(&client, &path).await, "before");
    let directory = path.parent().unwrap();
    for _ in 0..2000 {
        if all(&client, directory).await.len() == 1 {
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
            assert_eq!(write("after").await.unwrap().mode, 0o755);
            return;
        }
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
    panic!("the temporary file stays");
}

#[tokio::test]
async fn trees_are_made_moved_and_removed_without_following_links() {
    let daemon = Daemon::start();
    let client = daemon.client().await;
    let (tree, outside) = (daemon.path("tree"), daemon.path("outside"));
    client.write(outside.join("kept"), "x".into(), &WriteOptions::default()).await.unwrap();
    client.make_directory(tree.join("a/b"), true, None).await.unwrap();
    client.make_directory(tree.join("a/b"), true, None).await.unwrap();
    symlink(&outside, tree.join("a/link")).unwrap();
    assert_eq!(client.stat(tree.join("a/link")).await.unwrap().kind, FileKind::Symlink);
    assert_eq!(code(client.remove(&tree, false).await), ErrorCode::Conflict);
    let moved = daemon.path("moved");
    client.rename(&tree, &moved, &Condition::None).await.unwrap();
    client.remove(&moved, true).await.unwrap();
    assert_eq!(code(client.stat(&moved).await), ErrorCode::FileNotFound);
    assert_eq!(read(&client, &outside.join("kept")).await, "x");
}

#[tokio::test]
async fn nothing_is_reached_that_the_agent_could_not_reach() {
    let daemon = Daemon::start();
    let client = daemon.client().await;
    let state = daemon.directory.path().join("state/processes");
    assert_eq!(code(client.files_as(User::Root).stat("/").await), ErrorCode::Forbidden);
    // Magic links lead into the daemon itself, whoever asks.
    for path in ["/proc/self/fd/0", "/proc/self/root/etc/passwd", "/proc/thread-self/cwd/etc"] {
        assert!(client.read(path, Part::default()).await.is_err(), "{path}");
    }
    for path in ["relative", "", "/nul\0"] {
        assert_eq!(code(client.stat(path).await), ErrorCode::InvalidRequest, "{path:?}");
    }
    if std::fs::metadata("/proc/self").unwrap().uid() == 0 {
        run(&client, &command(&["echo", "something to journal"])).await;
        assert_eq!(code(client.list(&state, &Listing::default()).await), ErrorCode::Forbidden);
        let link = daemon.path("link");
        symlink("/etc/shadow", &link).unwrap();
        assert_eq!(code(client.read(&link, Part::default()).await), ErrorCode::Forbidden);
        let entry =
            client.write(daemon.path("mine"), "x".into(), &WriteOptions::default()).await.unwrap();
        assert_eq!((entry.uid, entry.gid), (1000, 1000));
    }
}

#[tokio::test]
async fn an_archive_carries_a_tree_over_byte_for_byte() {
    let daemon = Daemon::start();
    let client = daemon.client().await;
    let (from, to) = (daemon.path("from"), daemon.path("to"));
    let data = binary(2_000_000);
    let long = format!("{}/{}", "d".repeat(120), "f".repeat(120));
    let executable = WriteOptions { mode: Some(0o755), ..WriteOptions::default() };
    client.write(from.join("bin/tool"), data.clone().into(), &executable).await.unwrap();
    client.write(from.join(&long), "".into(), &WriteOptions::default()).await.unwrap();
    client.make_directory(from.join("empty"), true, None).await.unwrap();
    symlink("bin/tool", from.join("link")).unwrap();
    let archive = client.tar(&from, false).await.unwrap().bytes(10_000_000).await.unwrap();
    client.untar(&to, pieces(&archive), Untar::default()).await.unwrap();
    assert!(read(&client, &to.join("bin/tool")).await == data);
    assert_eq!(client.stat(to.join("bin/tool")).await.unwrap().mode, 0o755);
    assert_eq!(read(&client, &to.join(&long)).await, "");
    assert_eq!(all(&client, &to.join("empty")).await, []);
    let link = client.stat(to.join("link")).await.unwrap();
    assert_eq!(link.target.as_deref(), Some("bin/tool"));
    let again = client.tar(&to, false).await.unwrap().bytes(10_000_000).await.unwrap();
    assert_eq!(again.len(), archive.len());
    assert_eq!(code(client.tar(daemon.path("nothing"), false).await), ErrorCode::FileNotFound);
}

#[tokio::test]
async fn a_hostile_archive_is_refused_and_writes_nothing_outside() {
    use tar::{EntryType, Header};
    let daemon = Daemon::start();
    let client = daemon.client().await;
    let outside = daemon.path("outside");
    client.make_directory(&outside, true, None).await.unwrap();
    let one = |name: &str, kind: EntryType, target: &str, archive: &mut Vec<u8>| {
        let mut header = Header::new_gnu();
        // Past the checks of the writer, which an attacker does not use.
        header.as_gnu_mut().unwrap().name[..name.len()].copy_from_slice(name.as_bytes());
        header.as_gnu_mut().unwrap().linkname[..target.len()].copy_from_slice(target.as_bytes());
        header.set_entry_type(kind);
        header.set_mode(0o644);
        header.set_size(0);
        header.set_mtime(0);
        header.set_uid(0);
        header.set_gid(0);
        header.set_cksum();
        archive.extend_from_slice(header.as_bytes());
    };
    let absolute = outside.join("absolute");
    let cases: &[&[(&str, EntryType, &str)]] = &[
        &[("../outside/x", EntryType::Regular, "")],
        &[("a/../../outside/x", EntryType::Regular, "")],
        &[(absolute.to_str().unwrap(), EntryType::Regular, "")],
        &[("link", EntryType::Symlink, "../outside")],
        &[("link", EntryType::Symlink, outside.to_str().unwrap())],
        &[("a/link", EntryType::Symlink, "../../outside"), ("a/link/x", EntryType::Regular, "")],
        &[("hard", EntryType::Link, "../secret")],
        &[("hard", EntryType::Link, "/etc/passwd")],
        &[("device", EntryType::Char, "")],
        &[("device", EntryType::Block, "")],
        &[("pipe", EntryType::Fifo, "")],
    ];
    for (n, case) in cases.iter().enumerate() {
        let mut archive = Vec::new();
        for (name, kind, target) in *case {
            one(name, *kind, target, &mut archive);
        }
        archive.extend_from_slice(&[0; 1024]);
        let into = daemon.path(&format!("into-{n}"));
        assert_eq!(
            code(client.untar(&into, pieces(&archive), Untar::default()).await),
            ErrorCode::InvalidRequest
        );
        assert_eq!(all(&client, &outside).await, [], "{case:?}");
    }
    // A link that was there before is no way out either.
    let into = daemon.path("into");
    client.make_directory(&into, true, None).await.unwrap();
    symlink(&outside, into.join("out")).unwrap();
    let mut archive = Vec::new();
    one("out/x", EntryType::Regular, "", &mut archive);
    archive.extend_from_slice(&[0; 1024]);
    assert_eq!(
        code(client.untar(&into, pieces(&archive), Untar::default()).await),
        ErrorCode::InvalidRequest
    );
    assert_eq!(all(&client, &outside).await, []);
    client.untar(&into, pieces(b"this is no archive at all"), Untar::default()).await.unwrap_err();
    assert!(client.health().await.is_ok());
}
