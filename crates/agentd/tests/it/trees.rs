//! What the daemon does with files beyond their bytes.

use std::{
    ffi::OsStr,
    fs,
    os::unix::{
        ffi::OsStrExt,
        fs::{MetadataExt, PermissionsExt, symlink},
    },
    path::Path,
};

use base64::{Engine, prelude::BASE64_STANDARD};
use rclaude_sandbox::agentd::{Client, Condition, Listing, Part, Search, WriteOptions};
use rclaude_types::{ChangeFile, ErrorCode, FileKind, SearchStop, Timestamp};

use crate::{
    files::{binary, code, read},
    harness::{Daemon, pieces},
};

async fn put(client: &Client, path: impl AsRef<Path>, text: &'static str) {
    client.write(path, text.into(), &WriteOptions::default()).await.unwrap();
}

/// Every path of a listing, over as many pages as it takes.
async fn paths(client: &Client, path: &Path, listing: Listing) -> Vec<String> {
    let (mut found, mut cursor) = (Vec::new(), None);
    loop {
        let page = client.list(path, &Listing { cursor, ..listing.clone() }).await.unwrap();
        let shown = path.to_str().unwrap();
        found.extend(page.data.iter().map(|entry| {
            entry.path.strip_prefix(shown).unwrap().trim_start_matches('/').to_owned()
        }));
        cursor = page.next_cursor;
        if cursor.is_none() {
            return found;
        }
    }
}

#[tokio::test]
async fn a_tree_is_listed_in_one_order_whatever_the_pages() {
    let daemon = Daemon::start();
    let client = daemon.client().await;
    let tree = daemon.path("tree");
    for path in ["b/c.txt", "b/c/d.rs", "b-a", "a.rs", "b/.hidden", "z"] {
        put(&client, tree.join(path), "x").await;
    }
    let listing = |depth, limit| Listing { depth, limit, ..Listing::default() };
    let whole = ["a.rs", "b", "b/.hidden", "b/c", "b/c/d.rs", "b/c.txt", "b-a", "z"];
    for limit in [0, 1, 2, 3, 100] {
        assert_eq!(paths(&client, &tree, listing(9, limit)).await, whole, "{limit} a page");
    }
    assert_eq!(paths(&client, &tree, listing(1, 1)).await, ["a.rs", "b", "b-a", "z"]);
    let globbed = async |glob: &str| {
        let glob = Some(glob.to_owned());
        paths(&client, &tree, Listing { depth: 9, limit: 1, glob, cursor: None }).await
    };
    assert_eq!(globbed("*.rs").await, ["a.rs", "b/c/d.rs"]);
    assert_eq!(globbed("b/*").await, ["b/.hidden", "b/c", "b/c.txt"]);
    assert_eq!(globbed("**/d.*").await, ["b/c/d.rs"]);
    let broken = Listing { glob: Some("a[".to_owned()), ..Listing::default() };
    assert_eq!(code(client.list(&tree, &broken).await), ErrorCode::InvalidRequest);
    let strange = Listing { cursor: Some("%%".to_owned()), ..Listing::default() };
    assert_eq!(code(client.list(&tree, &strange).await), ErrorCode::InvalidRequest);
}

#[tokio::test]
async fn names_that_are_not_text_are_carried_exactly() {
    let daemon = Daemon::start();
    let client = daemon.client().await;
    let tree = daemon.path("tree");
    let name = OsStr::from_bytes(b"\xff new\nline");
    let path = tree.join(name);
    put(&client, &path, "x").await;
    client.link(tree.join("link"), name).await.unwrap();
    let page = client.list(&tree, &Listing::default()).await.unwrap();
    let [link, file] = page.data.as_slice() else { panic!("{page:?}") };
    let exact = BASE64_STANDARD.encode(path.as_os_str().as_bytes());
    assert_eq!(file.path_base64.as_deref(), Some(&*exact));
    assert_eq!(file.path, path.to_string_lossy());
    assert_eq!(link.target_base64.as_deref(), Some(&*BASE64_STANDARD.encode(name.as_bytes())));
    assert_eq!(link.path_base64, None);
    assert_eq!(read(&client, &tree.join("link")).await, "x");
    let to = tree.join(OsStr::from_bytes(b"\xfe"));
    client.rename(&path, &to, &Condition::None).await.unwrap();
    assert!(to.exists() && !path.exists());
    // Page by page: the cursor carries the name as well.
    let listing = Listing { limit: 1, ..Listing::default() };
    let first = client.list(&tree, &listing).await.unwrap();
    let second = Listing { cursor: first.next_cursor, ..listing };
    let second = client.list(&tree, &second).await.unwrap();
    assert_eq!(second.data.len(), 1);
}

#[tokio::test]
async fn paths_that_cannot_be_are_refused_clearly() {
    let daemon = Daemon::start();
    let client = daemon.client().await;
    let directory = daemon.path("d");
    client.make_directory(&directory, true, None).await.unwrap();
    let long = directory.join("a/".repeat(2100));
    assert_eq!(code(client.stat(&long).await), ErrorCode::InvalidRequest);
    let long = directory.join("n".repeat(256));
    assert_eq!(code(client.stat(&long).await), ErrorCode::InvalidRequest);
    assert_eq!(code(client.stat("/a\0b").await), ErrorCode::InvalidRequest);
    for path in ["/", "/tmp/..", "/tmp/a/.."] {
        assert_eq!(code(client.remove(path, true).await), ErrorCode::InvalidRequest, "{path}");
        let write = client.write(path, "x".into(), &WriteOptions::default()).await;
        assert_eq!(code(write), ErrorCode::InvalidRequest, "{path}");
    }
    assert_eq!(code(client.stat(directory.join("none")).await), ErrorCode::FileNotFound);
    assert_eq!(code(client.read(&directory, Part::default()).await), ErrorCode::Conflict);
    // A link in a circle.
    symlink("loop", directory.join("loop")).unwrap();
    let circle = client.read(directory.join("loop"), Part::default()).await;
    assert_eq!(code(circle), ErrorCode::InvalidRequest);
}

#[tokio::test]
async fn a_condition_decides_whether_a_file_is_replaced() {
    let daemon = Daemon::start();
    let client = daemon.client().await;
    let path = daemon.path("file");
    let write = async |text: &'static str, condition| {
        let options = WriteOptions { condition, ..WriteOptions::default() };
        client.write(&path, text.into(), &options).await
    };
    let any = || Condition::Match("*".to_owned());
    assert_eq!(code(write("x", any()).await), ErrorCode::PreconditionFailed);
    let first = write("one", Condition::Absent).await.unwrap();
    assert_eq!(code(write("x", Condition::Absent).await), ErrorCode::PreconditionFailed);
    let second = write("two", Condition::Match(first.etag.clone())).await.unwrap();
    assert_ne!(first.etag, second.etag);
    let stale = Condition::Match(first.etag);
    assert_eq!(code(write("x", stale.clone()).await), ErrorCode::PreconditionFailed);
    assert_eq!(read(&client, &path).await, "two");
    assert_eq!(write("three", any()).await.unwrap().size, 5);
    let other = daemon.path("other");
    put(&client, &other, "other").await;
    let absent = Condition::Absent;
    let moved = client.rename(&other, &path, &absent).await;
    assert_eq!(code(moved), ErrorCode::PreconditionFailed);
    let moved = client.rename(&other, &path, &stale).await;
    assert_eq!(code(moved), ErrorCode::PreconditionFailed);
    let copied = client.copy(&other, &path, false, &absent).await;
    assert_eq!(code(copied), ErrorCode::PreconditionFailed);
    assert_eq!(read(&client, &path).await, "three");
    let names = paths(&client, path.parent().unwrap(), Listing::default()).await;
    assert_eq!(names, ["file", "other"], "nothing is left of what was refused");
}

#[tokio::test]
async fn of_many_who_replace_the_same_state_one_does() {
    let daemon = Daemon::start();
    let client = daemon.client().await;
    let path = daemon.path("file");
    put(&client, &path, "before").await;
    let before = client.stat(&path).await.unwrap().etag;
    let tries = (0..16).map(|n: u32| {
        let (client, path, before) = (client.clone(), path.clone(), before.clone());
        async move {
            let condition = Condition::Match(before);
            let options = WriteOptions { condition, ..WriteOptions::default() };
            client.write(&path, n.to_string().into(), &options).await
        }
    });
    let done = futures::future::join_all(tries).await;
    let (done, refused): (Vec<_>, Vec<_>) = done.into_iter().partition(Result::is_ok);
    assert_eq!(done.len(), 1, "{done:?}");
    for refused in refused {
        assert_eq!(code(refused), ErrorCode::PreconditionFailed);
    }
}

#[tokio::test]
async fn bytes_are_added_at_the_end_or_from_where_they_broke_off() {
    let daemon = Daemon::start();
    let client = daemon.client().await;
    let path = daemon.path("log");
    let data = binary(500_000);
    let append = async |bytes: &[u8], offset| {
        client.append(&path, pieces(bytes), offset, Some(0o600), false).await
    };
    assert_eq!(append(&data[..200_000], None).await.unwrap().size, 200_000);
    assert_eq!(append(&data[200_000..300_000], None).await.unwrap().size, 300_000);
    // The last part again, and more.
    let whole = append(&data[250_000..], Some(250_000)).await.unwrap();
    assert_eq!((whole.size, whole.mode), (500_000, 0o600));
    assert!(read(&client, &path).await == data);
    assert_eq!(code(append(b"x", Some(500_001)).await), ErrorCode::PreconditionFailed);
    let broken = futures::stream::iter([
        Ok(bytes::Bytes::from_static(b"half")),
        Err(std::io::Error::other("the source broke")),
    ]);
    client.append(&path, broken, None, None, false).await.unwrap_err();
    assert!(read(&client, &path).await.len() <= 500_004);
    symlink(&path, daemon.path("link")).unwrap();
    let link = client.append(daemon.path("link"), pieces(b"x"), None, None, false).await;
    assert_eq!(code(link), ErrorCode::InvalidRequest, "a link is not written through");
}

#[tokio::test]
async fn modes_times_links_and_directories_are_made_as_asked() {
    let daemon = Daemon::start();
    let client = daemon.client().await;
    let path = daemon.path("file");
    put(&client, &path, "x").await;
    let at = Timestamp::from_micros(1_600_000_000_123_456);
    let change = ChangeFile { mode: Some(0o751), modified_at: Some(at), modified_nanos: 789 };
    let entry = client.change(&path, &change).await.unwrap();
    assert_eq!((entry.mode, entry.modified_at, entry.modified_nanos), (0o751, at, 789));
    let there = fs::metadata(&path).unwrap();
    assert_eq!((there.mtime(), there.mtime_nsec()), (1_600_000_000, 123_456_789));
    let long_ago =
        ChangeFile { modified_at: Some(Timestamp::from_micros(-1)), ..ChangeFile::default() };
    let entry = client.change(&path, &long_ago).await.unwrap();
    assert_eq!((entry.mode, entry.modified_at), (0o751, Timestamp::from_micros(-1)));
    let link = daemon.path("link");
    let made = client.link(&link, "file").await.unwrap();
    assert_eq!((made.kind, made.target.as_deref()), (FileKind::Symlink, Some("file")));
    assert_eq!(code(client.link(&link, "other").await), ErrorCode::Conflict);
    assert_eq!(client.followed(&link).await.unwrap().path, path.to_str().unwrap());
    client.change(&link, &ChangeFile { mode: Some(0o600), ..ChangeFile::default() }).await.unwrap();
    assert_eq!(client.stat(&path).await.unwrap().mode, 0o600, "through the link");
    let deep = daemon.path("a/b/c");
    assert_eq!(code(client.make_directory(&deep, false, None).await), ErrorCode::FileNotFound);
    let made = client.make_directory(&deep, true, Some(0o700)).await.unwrap();
    assert_eq!((made.kind, made.mode), (FileKind::Directory, 0o700));
    assert_eq!(code(client.make_directory(&deep, false, None).await), ErrorCode::Conflict);
    assert_eq!(client.make_directory(&deep, true, None).await.unwrap().mode, 0o700);
    assert_eq!(code(client.make_directory(&path, true, None).await), ErrorCode::Conflict);
}

#[tokio::test]
async fn a_copy_is_the_same_and_is_there_whole() {
    let daemon = Daemon::start();
    let client = daemon.client().await;
    let (from, to) = (daemon.path("from"), daemon.path("to"));
    let data = binary(1_500_000);
    let private = WriteOptions { mode: Some(0o750), ..WriteOptions::default() };
    client.write(from.join("bin/tool"), data.clone().into(), &private).await.unwrap();
    symlink("../elsewhere", from.join("bin/out")).unwrap();
    // Sparse: a gigabyte of nothing, a little, and nothing again.
    let sparse = from.join("sparse");
    let file = fs::File::create(&sparse).unwrap();
    file.set_len(1 << 30).unwrap();
    std::os::unix::fs::FileExt::write_all_at(&file, b"middle", 1 << 29).unwrap();
    drop(file);
    fs::set_permissions(&sparse, fs::Permissions::from_mode(0o666)).unwrap();
    assert_eq!(
        code(client.copy(&from, &to, false, &Condition::None).await),
        ErrorCode::Conflict,
        "a directory is only copied if that is asked for"
    );
    client.copy(&from, &to, true, &Condition::None).await.unwrap();
    assert!(read(&client, &to.join("bin/tool")).await == data);
    let (old, new) = (client.stat(from.join("bin/tool")).await.unwrap(), to.join("bin/tool"));
    let new = client.stat(new).await.unwrap();
    assert_eq!((new.mode, new.modified_at), (old.mode, old.modified_at));
    let link = client.stat(to.join("bin/out")).await.unwrap();
    assert_eq!(link.target.as_deref(), Some("../elsewhere"));
    let copied = fs::metadata(to.join("sparse")).unwrap();
    assert_eq!(copied.len(), 1 << 30);
    assert!(copied.blocks() * 512 < 1 << 20, "{} blocks", copied.blocks());
    let middle = client.read(to.join("sparse"), Part::of(1 << 29..(1 << 29) + 6)).await.unwrap();
    assert_eq!(middle.bytes(6).await.unwrap(), "middle");
    // Into itself, which must end.
    client.copy(&from, from.join("copy"), true, &Condition::None).await.unwrap();
    let names = paths(&client, &from, Listing { depth: 9, ..Listing::default() }).await;
    let wanted = [
        "bin",
        "bin/out",
        "bin/tool",
        "copy",
        "copy/bin",
        "copy/bin/out",
        "copy/bin/tool",
        "copy/sparse",
        "sparse",
    ];
    assert_eq!(names, wanted);
    let onto = client.copy(from.join("sparse"), &to, false, &Condition::None).await;
    assert_eq!(code(onto), ErrorCode::Conflict, "a directory is not replaced by a file");
    client.copy(from.join("bin/tool"), to.join("sparse"), false, &Condition::None).await.unwrap();
    assert!(read(&client, &to.join("sparse")).await == data);
}

#[tokio::test]
async fn a_search_finds_lines_and_keeps_away_from_what_is_ignored() {
    let daemon = Daemon::start();
    let client = daemon.client().await;
    let tree = daemon.path("tree");
    client.make_directory(tree.join(".git"), true, None).await.unwrap();
    put(&client, tree.join("src/main.rs"), "fn main() {\n    needle();\n}\n").await;
    put(&client, tree.join("src/.env"), "needle\n").await;
    put(&client, tree.join("target/out.rs"), "needle\n").await;
    put(&client, tree.join("src/gen/kept.rs"), "Needle\r\n").await;
    put(&client, tree.join("src/gen/dropped.rs"), "needle\n").await;
    put(&client, tree.join("binary"), "needle\0needle\n").await;
    put(&client, tree.join(".gitignore"), "/target\n**/gen/*\n").await;
    put(&client, tree.join("src/.ignore"), "!gen/kept.rs\n").await;
    let look = async |search: Search| {
        let found = client.search(&tree, &search).await.unwrap();
        let shown = tree.to_str().unwrap();
        found
            .data
            .iter()
            .map(|it| {
                let path = it.path.strip_prefix(shown).unwrap();
                format!("{path}:{}:{}: {}", it.line, it.column, it.text)
            })
            .collect::<Vec<_>>()
    };
    let search = |pattern: &str| Search { pattern: pattern.to_owned(), ..Search::default() };
    assert_eq!(look(search("needle")).await, ["/src/main.rs:2:5:     needle();"]);
    let any_case = Search { ignore_case: true, ..search("NEEDLE") };
    let wanted = ["/src/gen/kept.rs:1:1: Needle", "/src/main.rs:2:5:     needle();"];
    assert_eq!(look(any_case).await, wanted);
    let hidden = Search { hidden: true, glob: Some(".env".to_owned()), ..search("needle") };
    assert_eq!(look(hidden).await, ["/src/.env:1:1: needle"]);
    let everything = Search { ignored: true, ..search("needle") };
    assert_eq!(look(everything).await.len(), 3);
    assert_eq!(look(search("needle()")).await.len(), 1, "an expression");
    let literal = Search { literal: true, ..search("needle()") };
    assert_eq!(look(literal).await.len(), 1);
    let literal = Search { literal: true, ..search("need.e") };
    assert_eq!(look(literal).await.len(), 0);
    // Below a directory the rules from above hold as well.
    let below = client.search(tree.join("src"), &search("needle")).await.unwrap();
    assert_eq!((below.data.len(), below.stopped), (1, None));
    let below = client.search(tree.join("src/gen"), &search("needle")).await.unwrap();
    assert_eq!(below.data, []);
    let file = client.search(tree.join("target/out.rs"), &search("needle")).await.unwrap();
    assert_eq!((file.data.len(), file.files), (1, 1), "a file that is named is looked into");
    assert_eq!(code(client.search(&tree, &search("(")).await), ErrorCode::InvalidRequest);

    let lines = "x".repeat(2000) + "\n";
    let many = daemon.path("many");
    client.write(&many, lines.repeat(50).into(), &WriteOptions::default()).await.unwrap();
    let few = Search { limit: 10, ..search("x") };
    let few = client.search(&many, &few).await.unwrap();
    assert_eq!((few.data.len(), few.stopped), (10, Some(SearchStop::Limit)));
    assert!(few.data.iter().all(|line| line.text.len() == 500 && line.cut));
}
