//! Opening vaults, and not opening them.

use std::fs;

use rclaude_vault::{Key, Location, Secret, Vault, VaultError};

use crate::support::{KEY, Rig, write};

fn passphrase(text: &str) -> Key {
    Key::Passphrase(Secret::new(text))
}

#[tokio::test]
async fn a_vault_opens_with_the_key_it_was_made_with_and_no_other() {
    let rig = Rig::new();
    let vault = rig.vault().await;
    vault.put("greeting", "hello").await.unwrap();
    let again = Vault::open(&rig.location(), &KEY).await.unwrap();
    assert_eq!(again.get("greeting").await.unwrap().unwrap(), b"hello");
    for wrong in [Key::Random([8; 32]), passphrase("guess")] {
        for refused in [
            Vault::open(&rig.location(), &wrong).await.unwrap_err(),
            Vault::open_or_create(&rig.location(), &wrong).await.unwrap_err(),
        ] {
            assert!(matches!(refused, VaultError::WrongKey { .. }), "{refused}");
        }
    }
    assert!(rig.files("keys").is_empty(), "nothing of a random key is in the vault");
}

#[tokio::test]
async fn a_passphrase_opens_its_vault_whatever_other_key_files_lie_there() {
    let rig = Rig::new();
    let vault = Vault::open_or_create(&rig.location(), &passphrase("correct")).await.unwrap();
    vault.put("greeting", "hello").await.unwrap();
    // What a maker leaves behind that was killed before there was a vault: a key file of the same
    // passphrase, for another.
    let other = Location::Dir(rig.path("other"));
    Vault::open_or_create(&other, &passphrase("correct")).await.unwrap();
    for entry in fs::read_dir(rig.path("other/keys")).unwrap() {
        let entry = entry.unwrap();
        fs::copy(entry.path(), rig.path("vault/keys").join(entry.file_name())).unwrap();
    }
    let again = Vault::open(&rig.location(), &passphrase("correct")).await.unwrap();
    assert_eq!(again.get("greeting").await.unwrap().unwrap(), b"hello");
    let refused = Vault::open(&rig.location(), &passphrase("Correct")).await.unwrap_err();
    assert!(matches!(refused, VaultError::WrongKey { .. }), "{refused}");
}

#[tokio::test]
async fn many_who_make_a_vault_at_once_make_one() {
    let rig = Rig::new();
    for key in [KEY, passphrase("one for all")] {
        let location = Location::Dir(rig.path(&format!("{key:?}")));
        let makers = (0..3).map(|number| {
            let (location, key) = (location.clone(), key.clone());
            async move {
                let vault = Vault::open_or_create(&location, &key).await.unwrap();
                vault.put(&format!("maker {number}"), "was here").await.unwrap();
            }
        });
        futures::future::join_all(makers).await;
        let vault = Vault::open(&location, &key).await.unwrap();
        assert_eq!(vault.documents("maker ").await.unwrap().len(), 3);
    }
}

#[tokio::test]
async fn what_is_no_vault_is_not_opened_and_nothing_foreign_is_made_one() {
    let rig = Rig::new();
    let absent = Vault::open(&rig.location(), &KEY).await.unwrap_err();
    assert!(matches!(absent, VaultError::NotAVault { .. }), "{absent}");
    assert!(!rig.path("vault").exists());
    write(&rig.path("vault/letter.txt"), "dear");
    let foreign = Vault::open_or_create(&rig.location(), &KEY).await.unwrap_err();
    assert!(foreign.to_string().contains("letter.txt"), "{foreign}");
    assert_eq!(fs::read_dir(rig.path("vault")).unwrap().count(), 1);
}

#[tokio::test]
async fn a_newer_vault_is_told_from_a_damaged_one_and_from_a_wrong_key() {
    let rig = Rig::new();
    rig.vault().await;
    let open = async || Vault::open(&rig.location(), &KEY).await.unwrap_err();

    let header = rig.path("vault/vault.json");
    let sound = fs::read_to_string(&header).unwrap();
    fs::write(&header, sound.replace("\"format\":1", "\"format\":7")).unwrap();
    let newer = open().await;
    assert!(matches!(newer, VaultError::NewerFormat { found: 7, known: 1, .. }), "{newer}");
    fs::write(&header, "{").unwrap();
    let damaged = open().await;
    assert!(matches!(damaged, VaultError::Damaged { .. }), "{damaged}");
    fs::write(&header, &sound).unwrap();

    let config = rig.path("vault/config");
    let bytes = fs::read(&config).unwrap();
    let mut flipped = bytes.clone();
    flipped[20] ^= 1;
    fs::write(&config, flipped).unwrap();
    let damaged = open().await;
    assert!(matches!(damaged, VaultError::Damaged { .. }), "{damaged}");
    fs::remove_file(&config).unwrap();
    let damaged = open().await;
    assert!(matches!(damaged, VaultError::Damaged { .. }), "{damaged}");
    let refused = Vault::open_or_create(&rig.location(), &KEY).await.unwrap_err();
    assert!(matches!(refused, VaultError::Damaged { .. }), "{refused}");
    fs::write(&config, &bytes).unwrap();

    // Without the file in the clear it is a vault still, and gets the file back.
    fs::remove_file(&header).unwrap();
    Vault::open(&rig.location(), &KEY).await.unwrap();
    assert_eq!(fs::read_to_string(&header).unwrap(), sound);
}

#[tokio::test]
async fn a_damaged_key_file_is_told_from_a_wrong_passphrase() {
    let rig = Rig::new();
    Vault::open_or_create(&rig.location(), &passphrase("correct")).await.unwrap();
    let [key] = &rig.files("keys")[..] else { panic!("one key file") };
    let mut bytes = fs::read(key).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(key, bytes).unwrap();
    let damaged = Vault::open(&rig.location(), &passphrase("correct")).await.unwrap_err();
    assert!(matches!(damaged, VaultError::Damaged { .. }), "{damaged}");
}
