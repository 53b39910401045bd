//! Saving and restoring trees.

use std::{
    collections::BTreeMap,
    fs,
    os::unix::{
        fs::{MetadataExt as _, PermissionsExt as _},
        process::CommandExt as _,
    },
    path::{Path, PathBuf},
    process::Command,
};

use rclaude_vault::{Location, Vault, VaultError, digest};
use rustix::fs::{FileType, Mode, OFlags};

use crate::support::{KEY, Rig, everything, is_root, noise, set_time, set_xattr, write};

/// All that is to be the same of every entry, in a form that reads well when it is not.
fn listing(root: &Path) -> Vec<String> {
    let mut lines = Vec::new();
    let mut todo = vec![PathBuf::new()];
    while let Some(path) = todo.pop() {
        let found = fs::symlink_metadata(root.join(&path)).unwrap();
        lines.push(format!(
            "{} {:o} {}:{} {} {}.{:09} {} {:x}",
            path.as_os_str().as_encoded_bytes().escape_ascii(),
            found.mode(),
            found.uid(),
            found.gid(),
            if found.is_dir() { 0 } else { found.size() },
            found.mtime(),
            found.mtime_nsec(),
            if found.is_dir() { 0 } else { found.nlink() },
            found.rdev(),
        ));
        if found.is_dir() {
            let entries = fs::read_dir(root.join(&path)).unwrap();
            todo.extend(entries.map(|entry| path.join(entry.unwrap().file_name())));
        }
    }
    lines.sort();
    lines
}

#[tokio::test]
async fn a_restored_tree_is_the_tree_that_was_saved() {
    let rig = Rig::new();
    let (tree, back) = (rig.path("tree"), rig.path("back"));
    everything(&tree);
    let vault = rig.vault().await;
    let saved = vault.save(&tree, "layer").await.unwrap();
    let restored = vault.restore(&saved.id, &back).await.unwrap();
    assert_eq!(listing(&back), listing(&tree));
    assert_eq!(digest(&back).unwrap(), digest(&tree).unwrap());
    assert_eq!(vault.digest(&saved.id).await.unwrap(), digest(&tree).unwrap());
    assert_eq!(restored.files, saved.files);
    assert_eq!(restored.total_bytes, saved.total_bytes);
    assert_eq!(restored.not_permitted, 0, "all of it is this user's own");
    let (before, after) = (fs::metadata(tree.join("sparse")), fs::metadata(back.join("sparse")));
    assert_eq!(after.unwrap().blocks(), before.unwrap().blocks(), "holes are holes again");
    let link = |name: &str| fs::metadata(back.join(name)).unwrap().ino();
    assert_eq!(link("plain"), link("dir/linked"));
    if !is_root() {
        eprintln!("not root: foreign owners, disks and capabilities were not tried");
    }
}

#[tokio::test]
async fn saving_again_adds_what_is_new_and_no_more() {
    let rig = Rig::new();
    let tree = rig.path("tree");
    everything(&tree);
    let mut content = noise(2, 20_000_000);
    write(&tree.join("large"), &content);
    let vault = rig.vault().await;
    let first = vault.save(&tree, "layer").await.unwrap();
    let again = vault.save(&tree, "layer").await.unwrap();
    assert_eq!(again.added_bytes, 0);
    assert_eq!((again.files, again.total_bytes), (first.files, first.total_bytes));
    // Four bytes in the middle of a file that makes many chunks.
    content[10_000_000..10_000_004].copy_from_slice(b"edit");
    write(&tree.join("large"), &content);
    let edited = vault.save(&tree, "layer").await.unwrap();
    assert!(
        edited.added_bytes > 0 && edited.added_bytes < first.added_bytes / 4 * 3,
        "{} bytes after {}",
        edited.added_bytes,
        first.added_bytes
    );
    // A copy elsewhere under another label: its content is known, its names and times are not.
    let copy = rig.path("copy");
    write(&copy.join("elsewhere"), &content);
    let copied = vault.save(&copy, "other").await.unwrap();
    assert!(copied.added_bytes < 4096, "{copied:?}");
    vault.restore(&edited.id, &rig.path("back")).await.unwrap();
    assert_eq!(digest(&rig.path("back")).unwrap(), digest(&tree).unwrap());
}

#[tokio::test]
async fn a_path_longer_than_the_kernel_takes_is_kept() {
    let rig = Rig::new();
    let (tree, back) = (rig.path("tree"), rig.path("back"));
    fs::create_dir(&tree).unwrap();
    let flags = OFlags::RDONLY | OFlags::DIRECTORY;
    let mut dir = rustix::fs::open(&tree, flags, Mode::empty()).unwrap();
    let name = "n".repeat(200);
    for _ in 0..40 {
        rustix::fs::mkdirat(&dir, &name, Mode::RWXU).unwrap();
        dir = rustix::fs::openat(&dir, &name, flags, Mode::empty()).unwrap();
    }
    rustix::fs::symlinkat("far away", &dir, "link").unwrap();
    let flags = OFlags::WRONLY | OFlags::CREATE;
    let file = rustix::fs::openat(&dir, "file", flags, Mode::RWXU).unwrap();
    rustix::io::write(&file, b"deep").unwrap();
    let vault = rig.vault().await;
    let saved = vault.save(&tree, "deep").await.unwrap();
    vault.restore(&saved.id, &back).await.unwrap();
    assert_eq!(digest(&back).unwrap(), digest(&tree).unwrap());
    assert_eq!((saved.files, saved.total_bytes), (2, 4));
}

#[tokio::test]
async fn a_file_that_is_not_as_long_as_it_said_is_not_kept() {
    let rig = Rig::new();
    let vault = rig.vault().await;
    // It says that it is empty, and is not.
    let refused = vault.save_file(Path::new("/proc/self/status"), "file").await.unwrap_err();
    assert!(matches!(refused, VaultError::Changed { .. }), "{refused}");
    let refused = vault.save(Path::new("/proc/sys/kernel/random"), "tree").await.unwrap_err();
    assert!(matches!(refused, VaultError::Changed { .. }), "{refused}");
    assert_eq!(vault.list().await.unwrap(), [], "there is no snapshot rather than half of one");
}

#[test]
fn a_digest_tells_trees_apart_by_all_but_times_and_holes() {
    type Change = (&'static str, fn(&Path));
    let mut changes: Vec<Change> = vec![
        ("content", |tree| write(&tree.join("plain"), "plaiN")),
        ("length", |tree| write(&tree.join("plain"), "plainer")),
        ("name", |tree| fs::rename(tree.join("fifo"), tree.join("fifo 2")).unwrap()),
        ("place", |tree| fs::rename(tree.join("fifo"), tree.join("dir/fifo")).unwrap()),
        ("absence", |tree| fs::remove_dir(tree.join("dir/empty")).unwrap()),
        ("mode", |tree| set_mode(&tree.join("plain"), 0o600)),
        ("mode of a directory", |tree| set_mode(&tree.join("dir"), 0o700)),
        ("mode of the root", |tree| set_mode(tree, 0o700)),
        ("high bits", |tree| set_mode(&tree.join("plain"), 0o2644)),
        ("target", |tree| {
            fs::remove_file(tree.join("link")).unwrap();
            std::os::unix::fs::symlink("../no/there", tree.join("link")).unwrap();
        }),
        ("kind", |tree| {
            fs::remove_file(tree.join("fifo")).unwrap();
            write(&tree.join("fifo"), "");
        }),
        ("a copy in place of a link", |tree| {
            fs::remove_file(tree.join("dir/linked")).unwrap();
            fs::copy(tree.join("plain"), tree.join("dir/linked")).unwrap();
            set_xattr(&tree.join("dir/linked"), "user.note", &[0, 1, 255]);
        }),
        ("attribute", |tree| set_xattr(&tree.join("plain"), "user.note", b"other")),
        ("attribute of the root", |tree| set_xattr(tree, "user.overlay.opaque", b"y")),
    ];
    if is_root() {
        changes.push(("owner", |tree| {
            std::os::unix::fs::lchown(tree.join("link"), Some(1), None).unwrap();
        }));
        changes.push(("device", |tree| {
            fs::remove_file(tree.join("disk")).unwrap();
            let (kind, mode) = (FileType::BlockDevice, Mode::from_raw_mode(0o640));
            let device = rustix::fs::makedev(250, 4);
            rustix::fs::mknodat(rustix::fs::CWD, tree.join("disk"), kind, mode, device).unwrap();
        }));
    } else {
        eprintln!("not root: changes of owner and device were not tried");
    }
    let rig = Rig::new();
    let mut seen = BTreeMap::new();
    for (number, (name, change)) in changes.into_iter().enumerate() {
        let tree = rig.path(&number.to_string());
        everything(&tree);
        let before = digest(&tree).unwrap();
        seen.insert(before.to_string(), "no change");
        set_time(&tree.join("plain"), 5, 6);
        assert_eq!(digest(&tree).unwrap(), before);
        change(&tree);
        let other = seen.insert(digest(&tree).unwrap().to_string(), name);
        assert_eq!(other, None, "{name}");
        fs::remove_dir_all(&tree).unwrap();
    }
}

const OTHER_USER: &str = "RCLAUDE_TEST_VAULT_TO_RESTORE_FROM";
const NOBODY: u32 = 65534;

#[tokio::test]
async fn another_user_restores_what_they_may_and_is_told_what_they_may_not() {
    if let Some(dir) = std::env::var_os(OTHER_USER) {
        let dir = PathBuf::from(dir);
        let vault = Vault::open(&Location::Dir(dir.join("vault")), &KEY).await.unwrap();
        let id = vault.list().await.unwrap()[0].id;
        let restored = vault.restore(&id, &dir.join("theirs/back")).await.unwrap();
        assert!(restored.not_permitted >= 5, "{restored:?}");
        return;
    }
    if !is_root() {
        eprintln!("not root: nobody else's files can be made, so nothing was tried");
        return;
    }
    let rig = Rig::new();
    let (tree, theirs) = (rig.path("tree"), rig.path("theirs"));
    everything(&tree);
    rig.vault().await.save(&tree, "layer").await.unwrap();
    fs::create_dir(&theirs).unwrap();
    // The tests may lie where nobody else gets to.
    fs::copy(std::env::current_exe().unwrap(), rig.path("test")).unwrap();
    set_mode(rig.dir.path(), 0o755);
    let mut chown = Command::new("chown");
    chown.arg("-R").arg(NOBODY.to_string()).args([rig.path("vault"), theirs.clone()]);
    assert!(chown.status().unwrap().success());
    let test = "trees::another_user_restores_what_they_may_and_is_told_what_they_may_not";
    let run = Command::new(rig.path("test"))
        .args(["--exact", test, "--nocapture"])
        .env(OTHER_USER, rig.dir.path())
        .current_dir("/")
        .uid(NOBODY)
        .gid(NOBODY)
        .output()
        .unwrap();
    assert!(run.status.success(), "{}", String::from_utf8_lossy(&run.stderr));
    let back = theirs.join("back");
    for name in ["plain", "large", "dir/below/file"] {
        assert!(fs::read(back.join(name)).unwrap() == fs::read(tree.join(name)).unwrap());
    }
    assert_eq!(fs::metadata(back.join("plain")).unwrap().uid(), NOBODY);
    assert_eq!(fs::symlink_metadata(back.join("dir/whiteout")).unwrap().rdev(), 0);
    assert!(!back.join("disk").exists());
}

fn set_mode(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}
