//! Documents and single files.

use std::{fs, time::Duration};

use rclaude_vault::{Content, SnapshotId, Vault, VaultError};

use crate::support::{KEY, Rig, noise, write};

#[tokio::test]
async fn the_document_of_a_name_is_the_one_put_last() {
    let rig = Rig::new();
    let vault = rig.vault().await;
    assert_eq!(vault.get("manifest").await.unwrap(), None);
    let large = noise(3, 10 << 20);
    for content in [b"{}".to_vec(), large, Vec::new(), b"{\"last\":true}".to_vec()] {
        vault.put("manifest", content.clone()).await.unwrap();
        let elsewhere = Vault::open(&rig.location(), &KEY).await.unwrap();
        assert_eq!(elsewhere.get("manifest").await.unwrap().unwrap(), content);
    }
    vault.put("manifest of another", "x").await.unwrap();
    vault.put("session/7", "y").await.unwrap();
    let names = async |prefix: &str| -> Vec<_> {
        let found = vault.documents(prefix).await.unwrap();
        found.into_iter().map(|document| (document.name, document.bytes)).collect()
    };
    assert_eq!(
        names("manifest").await,
        [("manifest".to_owned(), 13), ("manifest of another".to_owned(), 1)]
    );
    assert_eq!(names("session/").await, [("session/7".to_owned(), 1)]);
    assert!(vault.remove("session/7").await.unwrap());
    assert!(!vault.remove("session/7").await.unwrap());
    assert_eq!(vault.get("session/7").await.unwrap(), None);
    assert_eq!(vault.list().await.unwrap(), [], "documents are no snapshots");
}

#[tokio::test]
async fn neither_names_nor_contents_are_to_be_seen_in_the_vault() {
    let rig = Rig::new();
    let vault = rig.vault().await;
    write(&rig.path("tree/secret-name"), "secret content ".repeat(1000));
    vault.save(&rig.path("tree"), "secret label").await.unwrap();
    vault.put("secret document", "secret content ".repeat(1000)).await.unwrap();
    let kinds = ["data", "index", "snapshots", "keys"];
    let files: Vec<_> = kinds.iter().flat_map(|kind| rig.files(kind)).collect();
    assert!(files.len() > 5);
    for file in files {
        let content = fs::read(&file).unwrap();
        let seen = content.windows(6).any(|window| window == b"secret");
        assert!(!seen && !file.to_string_lossy().contains("secret"), "{}", file.display());
    }
}

#[tokio::test]
async fn a_file_comes_back_as_it_was_and_only_where_nothing_is() {
    let rig = Rig::new();
    let vault = rig.vault().await;
    let (from, to) = (rig.path("database"), rig.path("back"));
    let mut content = noise(4, 20_000_000);
    write(&from, &content);
    let first = vault.save_file(&from, "database").await.unwrap();
    content[10_000_000] ^= 1;
    write(&from, &content);
    let second = vault.save_file(&from, "database").await.unwrap();
    assert!(second.added_bytes < first.added_bytes / 4 * 3, "{first:?} {second:?}");
    vault.restore_file(&second.id, &to).await.unwrap();
    assert!(fs::read(&to).unwrap() == content);
    let refused = vault.restore_file(&first.id, &to).await.unwrap_err();
    assert!(matches!(refused, VaultError::Tree { .. }), "{refused}");
    assert!(fs::read(&to).unwrap() == content, "what was there is untouched");
    let refused = vault.restore(&first.id, &rig.path("tree")).await.unwrap_err();
    assert!(refused.to_string().contains("holds a file, not a tree"), "{refused}");

    let listed = vault.list().await.unwrap();
    let seen: Vec<_> = listed.iter().map(|s| (s.id, s.label.as_str(), s.content)).collect();
    let (one, two) =
        ((first.id, "database", Content::File), (second.id, "database", Content::File));
    assert_eq!(seen, [one, two]);
    assert!(listed[0].saved_at < listed[1].saved_at);
}

#[tokio::test]
async fn what_was_forgotten_is_gone_and_the_rest_is_not() {
    let rig = Rig::new();
    let vault = rig.vault().await;
    let mut saved = Vec::new();
    for number in 0..3 {
        write(&rig.path("file"), noise(number, 500_000));
        saved.push(vault.save_file(&rig.path("file"), "file").await.unwrap());
    }
    let before = vault.size().await.unwrap();
    vault.forget(&[saved[0].id, saved[2].id]).await.unwrap();
    vault.forget(&[saved[0].id]).await.unwrap();
    for grace in [Duration::ZERO, Duration::ZERO] {
        vault.prune(grace).await.unwrap();
    }
    assert!(vault.size().await.unwrap() < before / 2);
    let gone = vault.restore_file(&saved[0].id, &rig.path("back")).await.unwrap_err();
    assert!(matches!(gone, VaultError::NoSuchSnapshot { .. }), "{gone}");
    vault.restore_file(&saved[1].id, &rig.path("back")).await.unwrap();
    assert!(fs::read(rig.path("back")).unwrap() == noise(1, 500_000));
    assert!(vault.verify(true).await.unwrap().is_sound());
}

#[tokio::test]
async fn what_cannot_be_asked_for_is_refused_in_words() {
    let rig = Rig::new();
    let vault = rig.vault().await;
    for name in ["", "two\nlines", &"x".repeat(257)] {
        let refused = vault.put(name, "x").await.unwrap_err();
        assert!(matches!(refused, VaultError::Invalid(_)), "{refused}");
    }
    assert!("12".parse::<SnapshotId>().is_err());
    let id: SnapshotId = "ab".repeat(32).parse().unwrap();
    let unknown = vault.restore(&id, &rig.path("back")).await.unwrap_err();
    assert!(matches!(unknown, VaultError::NoSuchSnapshot { .. }), "{unknown}");
    let absent = vault.save(&rig.path("absent"), "label").await.unwrap_err();
    assert!(matches!(absent, VaultError::Tree { .. }), "{absent}");
    assert_eq!(vault.list().await.unwrap(), []);
    write(&rig.path("full/file"), "x");
    write(&rig.path("tree/file"), "x");
    let saved = vault.save(&rig.path("tree"), "label").await.unwrap();
    let refused = vault.restore(&saved.id, &rig.path("full")).await.unwrap_err();
    assert!(refused.to_string().contains("not empty"), "{refused}");
}
