//! Saving and restoring trees.

use std::{
    fs,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
};

use rclaude_vault::digest;

use crate::support::{Rig, everything, is_root, noise, write};

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
    let mut content = noise(2, 24_000_000);
    write(&tree.join("large"), &content);
    let vault = rig.vault().await;
    let first = vault.save(&tree, "layer").await.unwrap();
    let again = vault.save(&tree, "layer").await.unwrap();
    assert_eq!(again.added_bytes, 0);
    assert_eq!((again.files, again.total_bytes), (first.files, first.total_bytes));
    // Four bytes in the middle of a file that makes many chunks.
    content[12_000_000..12_000_004].copy_from_slice(b"edit");
    write(&tree.join("large"), &content);
    let edited = vault.save(&tree, "layer").await.unwrap();
    assert!(
        edited.added_bytes > 0 && edited.added_bytes < first.added_bytes / 2,
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
