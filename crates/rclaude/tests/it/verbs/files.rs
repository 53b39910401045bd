//! Files of sessions, from the command line and back.

use std::{
    collections::BTreeMap,
    ffi::{OsStr, OsString},
    fs,
    os::unix::{
        ffi::OsStrExt,
        fs::{MetadataExt, PermissionsExt, symlink},
    },
    path::{Path, PathBuf},
};

use rclaude_types::{FileEntry, FileKind};

use super::{lines, one};
use crate::platform::Platform;

/// All that is in a tree: mode, time, and content or target.
fn tree(path: &Path) -> BTreeMap<PathBuf, (u32, i64, i64, Vec<u8>)> {
    let mut found = BTreeMap::new();
    let mut left = vec![path.to_owned()];
    while let Some(directory) = left.pop() {
        for entry in fs::read_dir(directory).unwrap() {
            let at = entry.unwrap().path();
            let meta = fs::symlink_metadata(&at).unwrap();
            let content = if meta.is_symlink() {
                fs::read_link(&at).unwrap().into_os_string().into_encoded_bytes()
            } else if meta.is_dir() {
                left.push(at.clone());
                Vec::new()
            } else {
                fs::read(&at).unwrap()
            };
            let name = at.strip_prefix(path).unwrap().to_owned();
            found.insert(name, (meta.mode(), meta.mtime(), meta.mtime_nsec(), content));
        }
    }
    found
}

/// A tree of everything that is hard to carry.
fn plant(at: &Path) {
    fs::create_dir_all(at.join("deep/er")).unwrap();
    fs::create_dir(at.join("empty")).unwrap();
    fs::write(at.join("plain"), "text\n").unwrap();
    fs::write(at.join("none"), "").unwrap();
    fs::write(at.join("deep/er/binary"), (0..=255).cycle().take(100_000).collect::<Vec<u8>>())
        .unwrap();
    fs::write(at.join("tool"), "#!/bin/sh\n").unwrap();
    fs::write(at.join(OsStr::from_bytes(b"\xff not\ntext")), "x").unwrap();
    fs::write(at.join("n".repeat(200)), "long").unwrap();
    symlink("../plain", at.join("deep/up")).unwrap();
    symlink("/etc/nowhere", at.join("out")).unwrap();
    symlink(OsStr::from_bytes(b"\xfe"), at.join("dangling")).unwrap();
    for (name, mode) in [("tool", 0o755), ("plain", 0o600), ("deep/er/binary", 0o444)] {
        fs::set_permissions(at.join(name), fs::Permissions::from_mode(mode)).unwrap();
    }
    fs::set_permissions(at.join("empty"), fs::Permissions::from_mode(0o500)).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tree_goes_there_and_comes_back_the_same() {
    let platform = Platform::start().await;
    platform.done(&["start", "--name", "box"]).await;
    platform.done(&["start", "--name", "other"]).await;
    let here = platform.scratch().join("tree");
    plant(&here);
    let before = tree(&here);
    platform.done(&["cp", "-rp", "tree", "box:there"]).await;
    platform.done(&["cp", "-rp", "box:there", "back"]).await;
    assert_eq!(tree(&platform.scratch().join("back")), before);
    // Over what is there, into what is there, and to another session.
    platform.done(&["cp", "-rp", "box:there/.", "back"]).await;
    platform.done(&["cp", "-rp", "box:there", "other:"]).await;
    platform.done(&["cp", "-rp", "box:there", "box:copy"]).await;
    platform.done(&["cp", "-rp", "other:there", "back"]).await;
    platform.done(&["cp", "-rp", "box:copy", "copy"]).await;
    assert_eq!(tree(&platform.scratch().join("copy")), before);
    let back = platform.scratch().join("back");
    assert_eq!(tree(&back.join("there")), before);
    fs::remove_dir_all(back.join("there")).unwrap();
    let names = |tree: BTreeMap<PathBuf, _>| tree.into_keys().collect::<Vec<_>>();
    assert_eq!(names(tree(&back)), names(before.clone()));
    // Without -p: content, links and who may execute; times are now's.
    platform.done(&["cp", "-r", "tree", "box:plain"]).await;
    platform.done(&["cp", "-r", "box:plain", "plain"]).await;
    let plain = tree(&platform.scratch().join("plain"));
    let content = |tree: &BTreeMap<PathBuf, (u32, i64, i64, Vec<u8>)>| {
        tree.iter()
            .map(|(name, (mode, _, _, content))| (name.clone(), mode & 0o100, content.clone()))
            .collect::<Vec<_>>()
    };
    assert_eq!(content(&plain), content(&before));
    let refused = platform.run(&["cp", "tree", "box:no"]).await;
    assert_eq!(refused.code, Some(2));
    assert!(refused.stderr.contains("-r copies it"), "{refused:?}");
    platform.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn single_files_go_where_they_are_meant_to() {
    let platform = Platform::start().await;
    platform.done(&["start", "--name", "box"]).await;
    let scratch = platform.scratch().to_owned();
    fs::write(scratch.join("a:b"), "colon").unwrap();
    fs::write(scratch.join("run.sh"), "#!/bin/sh\necho ran\n").unwrap();
    fs::set_permissions(scratch.join("run.sh"), fs::Permissions::from_mode(0o755)).unwrap();
    platform.done(&["cp", "./a:b", "run.sh", "box:"]).await;
    assert_eq!(platform.done(&["cat", "box:a:b", "box:/workspace/a:b"]).await.stdout, "coloncolon");
    assert_eq!(platform.done(&["exec", "box", "--", "./run.sh"]).await.stdout, "ran\n");
    // A file that is there keeps its mode; with -p it gets the source's, and the time.
    fs::set_permissions(scratch.join("run.sh"), fs::Permissions::from_mode(0o640)).unwrap();
    platform.done(&["cp", "run.sh", "box:run.sh"]).await;
    let mode = async || one::<FileEntry>(&platform.done(&["ls", "box:run.sh", "--json"]).await);
    assert_eq!(mode().await.mode, 0o755);
    platform.done(&["cp", "-p", "run.sh", "box:run.sh"]).await;
    assert_eq!(mode().await.mode, 0o640);
    platform.done(&["cp", "-p", "box:run.sh", "back.sh"]).await;
    let times = |name: &str| {
        let meta = fs::metadata(scratch.join(name)).unwrap();
        (meta.mode(), meta.mtime(), meta.mtime_nsec())
    };
    assert_eq!(times("back.sh"), times("run.sh"));
    // Standard input and output, links, devices.
    let input = (0..=255).cycle().take(3_000_000).collect::<Vec<u8>>();
    let (code, _, stderr) = platform.feed(&["cp", "-", "box:dir/in"], input.clone()).await;
    assert_eq!(code, Some(0), "{stderr}");
    let (code, out, _) = platform.feed(&["cp", "box:dir/in", "-"], Vec::new()).await;
    assert!(code == Some(0) && out == input);
    platform.done(&["cp", "box:dir/in", "/dev/null"]).await;
    assert!(!fs::metadata("/dev/null").unwrap().is_file());
    symlink("target", scratch.join("link")).unwrap();
    fs::write(scratch.join("target"), "old").unwrap();
    platform.done(&["cp", "box:a:b", "link"]).await;
    assert_eq!(fs::read(scratch.join("target")).unwrap(), b"colon", "through the link");
    let cases: [(&[&str], i32, &str); 8] = [
        (&["cp", "a:b", "./a:b"], 4, "a"),
        (&["cp", "run.sh", "back.sh"], 2, "neither is in a session"),
        (&["cp", "nothing", "box:"], 1, "nothing"),
        (&["cp", "box:nothing", "."], 4, "/workspace/nothing"),
        (&["cp", "run.sh", "box:no/such/"], 2, "is no directory"),
        (&["cp", "run.sh", "back.sh", "box:new"], 2, "no directory for several"),
        (&["cat", "box"], 2, "SESSION:path"),
        (&["cat", "box:dir"], 2, "is a directory"),
    ];
    for (arguments, code, words) in cases {
        let ran = platform.run(arguments).await;
        assert_eq!(ran.code, Some(code), "{arguments:?}: {ran:?}");
        assert!(ran.stderr.contains(words), "{arguments:?}: {ran:?}");
    }
    platform.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_colon_keeps_a_session_and_its_files_apart() {
    let platform = Platform::start().await;
    platform.done(&["start", "--name", "box"]).await;
    platform.done(&["mkdir", "box:a/b", "box:c"]).await;
    let (code, ..) = platform.feed(&["cp", "-", "box:a/file"], b"x".to_vec()).await;
    assert_eq!(code, Some(0));
    platform.done(&["mv", "box:a/file", "box:c"]).await;
    platform.done(&["mv", "box:c/file", "box:c/moved"]).await;
    let listed = platform.done(&["ls", "-R", "box:"]).await.stdout;
    assert_eq!(listed, "a\na/b\nc\nc/moved\n");
    let long = platform.done(&["ls", "-l", "box:c"]).await.stdout;
    assert!(long.starts_with("-rw-r--r-- 1 B ") && long.ends_with(" moved\n"), "{long}");
    let entries: Vec<FileEntry> = lines(&platform.done(&["ls", "box:", "--json"]).await);
    assert!(entries.iter().all(|entry| entry.kind == FileKind::Directory), "{entries:?}");
    let sessions: Vec<rclaude_types::Session> = lines(&platform.done(&["ls", "--json"]).await);
    assert_eq!(sessions.len(), 1, "without a path it lists the sessions");

    // Nothing that could be meant for the one does the other.
    let cases: [(&[&str], i32, &str); 12] = [
        (&["rm", "box:a"], 6, "-r removes a directory"),
        (&["rm", "-r", "box:"], 2, "ends the session"),
        (&["rm", "-rf", "box:."], 2, "ends the session"),
        (&["rm", "-rf", "box:/workspace"], 2, "ends the session"),
        (&["rm", "-rf", "box:/"], 2, "ends the session"),
        (&["rm", "-rf", "box"], 2, "is for files"),
        (&["rm", "-f", "box/a"], 2, "no session's name"),
        (&["rm", "-f", "./box"], 2, "no session's name"),
        (&["rm", "-f", "box", "box:a"], 2, "one kind at a time"),
        (&["rm", "box"], 2, "--force"),
        (&["rm", "box:none"], 4, "/workspace/none"),
        (&["ls", "box"], 2, "rclaude ls box:"),
    ];
    for (arguments, code, words) in cases {
        let ran = platform.run(arguments).await;
        assert_eq!(ran.code, Some(code), "{arguments:?}: {ran:?}");
        assert!(ran.stderr.contains(words), "{arguments:?}: {ran:?}");
    }
    assert_eq!(platform.done(&["ls", "-R", "box:"]).await.stdout, listed, "all is as it was");
    platform.done(&["rm", "box:c/moved"]).await;
    platform.done(&["rm", "-r", "box:a"]).await;
    platform.done(&["rm", "-f", "box:none"]).await;
    assert_eq!(platform.done(&["ls", "-R", "box:"]).await.stdout, "c\n");
    platform.done(&["rm", "-f", "box"]).await;
    let gone = platform.run(&["ls", "box:"]).await;
    assert_eq!(gone.code, Some(4), "{gone:?}");
    platform.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_edit_is_written_back_unless_somebody_else_was_quicker() {
    let platform = Platform::start().await;
    platform.done(&["start", "--name", "box"]).await;
    let (code, ..) = platform.feed(&["cp", "-", "box:notes.txt"], b"one\n".to_vec()).await;
    assert_eq!(code, Some(0));
    platform.done(&["exec", "box", "--", "ln", "-s", "notes.txt", "link"]).await;
    let edit = async |path: &str, script: &str| {
        let editor = platform.scratch().join("editor");
        fs::write(&editor, format!("#!/bin/sh\nset -e\n{script}\n")).unwrap();
        fs::set_permissions(&editor, fs::Permissions::from_mode(0o755)).unwrap();
        let mut command = platform.cli(&["edit", path]);
        // With an argument of its own: the variable is a command.
        let editor = OsString::from(format!("{} --wait", editor.display()));
        command.env("EDITOR", editor).env("RCLAUDE", env!("CARGO_BIN_EXE_rclaude"));
        let output = tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap();
        crate::support::Ran::from(output)
    };
    let cat = async || platform.done(&["cat", "box:notes.txt"]).await.stdout;
    let done = edit("box:notes.txt", "test \"$1\" = --wait; echo two >> \"$2\"").await;
    assert_eq!(done.code, Some(0), "{done:?}");
    assert_eq!(cat().await, "one\ntwo\n");
    let same = edit("box:link", "case \"$2\" in */notes.txt) ;; *) exit 1 ;; esac").await;
    assert_eq!(same.code, Some(0), "{same:?}");
    assert!(same.stderr.contains("unchanged"), "{same:?}");
    let linked = edit("box:link", "echo three >> \"$2\"").await;
    assert_eq!(linked.code, Some(0), "{linked:?}");
    assert_eq!(cat().await, "one\ntwo\nthree\n");
    let is_link = platform.done(&["exec", "box", "--", "test", "-L", "link"]).await;
    assert_eq!(is_link.code, Some(0), "the link is still one");
    let made = edit("box:new/file", "echo new > \"$2\"").await;
    assert_eq!(made.code, Some(0), "{made:?}");
    assert_eq!(platform.done(&["cat", "box:new/file"]).await.stdout, "new\n");

    let meanwhile = "\"$RCLAUDE\" exec box -- sh -c 'echo theirs > notes.txt'; echo ours > \"$2\"";
    let conflict = edit("box:notes.txt", meanwhile).await;
    assert_eq!(conflict.code, Some(6), "{conflict:?}");
    assert_eq!(cat().await, "theirs\n");
    let kept = conflict.stderr.rsplit_once("kept in ").unwrap().1.trim();
    assert_eq!(fs::read_to_string(kept).unwrap(), "ours\n");
    fs::remove_dir_all(Path::new(kept).parent().unwrap()).unwrap();
    let failed = edit("box:notes.txt", "echo ours > \"$2\"; exit 3").await;
    assert_eq!(failed.code, Some(1), "{failed:?}");
    assert_eq!(cat().await, "theirs\n", "an editor that fails changes nothing");
    let kept = failed.stderr.rsplit_once("kept in ").unwrap().1.trim();
    fs::remove_dir_all(Path::new(kept).parent().unwrap()).unwrap();
    let directory = edit("box:new", "exit 0").await;
    assert_eq!(directory.code, Some(2), "{directory:?}");
    platform.end().await;
}
