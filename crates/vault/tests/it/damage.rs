//! What is damaged is found, named and never taken for sound.

use std::{fs, path::Path};

use rclaude_vault::{Saved, Vault, VaultError};

use crate::support::{Rig, noise, write};

/// Two snapshots that share nothing, each with its packs, index and snapshot file.
async fn two(rig: &Rig) -> (Vault, [Saved; 2]) {
    let vault = rig.vault().await;
    let mut saved = Vec::new();
    for (seed, name) in [(1, "one"), (2, "two")] {
        write(&rig.path(name).join("dir/file"), noise(seed, 200_000));
        write(&rig.path(name).join("small"), name);
        saved.push(vault.save(&rig.path(name), name).await.unwrap());
    }
    (vault, saved.try_into().unwrap())
}

fn flip(path: &Path, at: usize) {
    let mut bytes = fs::read(path).unwrap();
    bytes[at] ^= 1;
    fs::write(path, bytes).unwrap();
}

fn largest(files: Vec<std::path::PathBuf>) -> std::path::PathBuf {
    files.into_iter().max_by_key(|path| fs::metadata(path).unwrap().len()).unwrap()
}

fn name(rig: &Rig, path: &Path) -> String {
    path.strip_prefix(rig.path("vault")).unwrap().to_str().unwrap().to_owned()
}

#[tokio::test]
async fn a_flipped_byte_in_a_pack_is_named_with_the_file_it_costs() {
    let rig = Rig::new();
    let (vault, [_, two]) = two(&rig).await;
    let verified = vault.verify(true).await.unwrap();
    assert!(verified.is_sound() && verified.snapshots == 2 && verified.read_bytes > 400_000);

    // Both packs of data are of one size: look which of them the second snapshot needs.
    let pack = largest(rig.files("data"));
    flip(&pack, 1000);
    let quick = vault.verify(false).await.unwrap();
    assert!(quick.is_sound(), "nothing is missing, and nothing was read: {quick:?}");
    let found = vault.verify(true).await.unwrap();
    assert_eq!(found.damaged.len(), 1, "{found:?}");
    assert_eq!(found.damaged[0].path, name(&rig, &pack));
    let [lost] = &found.lost[..] else { panic!("one snapshot: {found:?}") };
    assert_eq!(lost.count, 1);
    assert!(["dir/file", "small"].contains(&lost.entries[0].to_str().unwrap()));

    let refused = vault.restore(&lost.id, &rig.path("back")).await.unwrap_err();
    assert!(matches!(refused, VaultError::Damaged { .. }), "{refused}");
    let refused = vault.digest(&lost.id).await.unwrap_err();
    assert!(matches!(refused, VaultError::Damaged { .. }), "{refused}");
    let other = vault.list().await.unwrap().into_iter().find(|other| other.id != lost.id).unwrap();
    vault.restore(&other.id, &rig.path("other")).await.unwrap();
    let _ = two;
}

#[tokio::test]
async fn a_missing_pack_and_a_short_one_are_named_with_what_they_cost() {
    let rig = Rig::new();
    let (vault, _) = two(&rig).await;
    let pack = largest(rig.files("data"));
    let whole = fs::read(&pack).unwrap();
    for (problem, content) in [("missing", None), ("instead of", Some(&whole[..whole.len() / 2]))] {
        match content {
            None => fs::remove_file(&pack).unwrap(),
            Some(content) => fs::write(&pack, content).unwrap(),
        }
        let found = vault.verify(false).await.unwrap();
        assert!(found.damaged[0].problem.contains(problem), "{found:?}");
        assert_eq!(found.damaged[0].path, name(&rig, &pack));
        let [lost] = &found.lost[..] else { panic!("one snapshot: {found:?}") };
        assert!(lost.count >= 1 && !lost.label.is_empty());
        let back = rig.path(&format!("back from {problem}"));
        let refused = vault.restore(&lost.id, &back).await.unwrap_err();
        assert!(matches!(refused, VaultError::Damaged { .. }), "{refused}");
        assert!(refused.to_string().contains(&name(&rig, &pack)), "{refused}");
    }
    // The tree is still there: saved under another label it is read, and what is missing written
    // again. A prune in between would refuse, and keep what there is.
    fs::remove_file(&pack).unwrap();
    let refused = vault.prune(std::time::Duration::ZERO).await.unwrap_err();
    assert!(matches!(refused, VaultError::Damaged { .. }), "{refused}");
}

#[tokio::test]
async fn a_damaged_index_or_snapshot_is_named_with_what_it_costs() {
    let rig = Rig::new();
    let (vault, _) = two(&rig).await;
    for kind in ["index", "snapshots"] {
        let file = rig.files(kind).remove(0);
        let sound = fs::read(&file).unwrap();
        flip(&file, 40);
        let found = vault.verify(false).await.unwrap();
        assert_eq!(found.damaged.len(), 1, "{found:?}");
        assert_eq!(found.damaged[0].path, name(&rig, &file));
        assert_eq!(found.lost.len(), 1, "{found:?}");
        fs::write(&file, sound).unwrap();
        assert!(vault.verify(true).await.unwrap().is_sound());
    }
}
