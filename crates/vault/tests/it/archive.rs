//! A vault in one file.

use std::{fs, io::Cursor, path::Path};

use rclaude_vault::{Key, Location, Secret, Vault, VaultError, archive, digest};
use serde_json::json;

use crate::support::{Rig, everything, noise, write};

const LIMIT: u64 = 1 << 30;

/// An archive of a small vault with one snapshot.
async fn packed(rig: &Rig) -> Vec<u8> {
    let tree = rig.path("tree");
    write(&tree.join("dir/file"), noise(1, 30_000));
    let vault = rig.vault().await;
    vault.save(&tree, "session").await.unwrap();
    vault.put("manifest.json", "{\"session\":7}").await.unwrap();
    let mut file = Vec::new();
    let length = archive::pack(&rig.path("vault"), &json!({ "made by": "a test" }), &mut file);
    assert_eq!(length.unwrap(), file.len() as u64);
    file
}

fn unpack(file: &[u8], into: &Path) -> Result<serde_json::Value, VaultError> {
    archive::unpack(Cursor::new(file), into, LIMIT)
}

fn entries(dir: &Path) -> usize {
    fs::read_dir(dir).map_or(0, Iterator::count)
}

#[tokio::test]
async fn an_archive_is_the_vault_it_was_made_of() {
    let rig = Rig::new();
    everything(&rig.path("tree"));
    let key = Key::Passphrase(Secret::new("for the way"));
    Vault::open_or_create(&rig.location(), &key).await.unwrap();
    let vault = Vault::open(&rig.location(), &key).await.unwrap();
    vault.save(&rig.path("tree"), "session").await.unwrap();
    vault.put("manifest.json", "{\"session\":7}").await.unwrap();
    let mut file = Vec::new();
    archive::pack(&rig.path("vault"), &json!({ "made by": "a test" }), &mut file).unwrap();
    let elsewhere = rig.path("elsewhere");
    assert_eq!(archive::header(Cursor::new(&file)).unwrap(), json!({ "made by": "a test" }));
    assert_eq!(unpack(&file, &elsewhere).unwrap(), json!({ "made by": "a test" }));
    let place = Location::Dir(elsewhere);
    let refused = Vault::open(&place, &Key::Passphrase(Secret::new("guess"))).await.unwrap_err();
    assert!(matches!(refused, VaultError::WrongKey { .. }), "{refused}");
    let vault = Vault::open(&place, &key).await.unwrap();
    assert!(vault.verify(true).await.unwrap().is_sound());
    assert_eq!(vault.get("manifest.json").await.unwrap().unwrap(), b"{\"session\":7}");
    let snapshot = vault.list().await.unwrap().remove(0);
    assert_eq!(snapshot.label, "session");
    vault.restore(&snapshot.id, &rig.path("back")).await.unwrap();
    assert_eq!(digest(&rig.path("back")).unwrap(), digest(&rig.path("tree")).unwrap());
}

#[tokio::test]
async fn a_truncated_archive_says_where_it_ends_and_leaves_nothing() {
    let rig = Rig::new();
    let file = packed(&rig).await;
    let into = rig.path("into");
    let ends = (1..80).chain((80..file.len()).step_by(file.len() / 97)).chain([file.len() - 1]);
    for end in ends {
        match unpack(&file[..end], &into).unwrap_err() {
            VaultError::Truncated { at } => assert_eq!(at, end as u64),
            other => panic!("at {end}: {other}"),
        }
        assert_eq!(entries(&into), 0);
    }
}

#[tokio::test]
async fn a_changed_archive_is_refused_wherever_it_was_changed() {
    let rig = Rig::new();
    let file = packed(&rig).await;
    let into = rig.path("into");
    for at in (0..200).chain((200..file.len()).step_by(file.len() / 97)).chain([file.len() - 1]) {
        let mut changed = file.clone();
        changed[at] ^= 0x10;
        let refused = unpack(&changed, &into).unwrap_err();
        let told = matches!(
            refused,
            VaultError::BadArchive(_)
                | VaultError::NewerFormat { .. }
                // Lengths that are changed make more or less of the rest.
                | VaultError::Truncated { .. }
                | VaultError::Invalid(_)
        );
        assert!(told, "at {at}: {refused:?}");
        assert_eq!(entries(&into), 0, "at {at}");
    }
    let mut longer = file.clone();
    longer.push(0);
    let refused = unpack(&longer, &into).unwrap_err();
    assert!(matches!(refused, VaultError::BadArchive(_)), "{refused}");
}

#[tokio::test]
async fn what_is_no_archive_or_a_newer_one_is_told_apart() {
    let rig = Rig::new();
    let into = rig.path("into");
    for other in [&b""[..], b"PK\x03\x04", b"hello, this is a letter and no archive at all"] {
        let refused = unpack(other, &into).unwrap_err();
        assert!(refused.to_string().contains("not an archive of ours"), "{refused}");
    }
    let mut newer = packed(&rig).await;
    newer[16] = 7;
    let refused = unpack(&newer, &into).unwrap_err();
    assert_eq!(
        refused.to_string(),
        "the archive has format 7, this program reads up to 1: use the newer program"
    );
    newer[16] = 1;
    let refused = archive::unpack(Cursor::new(&newer), &into, 1000).unwrap_err();
    assert!(matches!(refused, VaultError::Invalid(_)), "{refused}");
    assert_eq!(entries(&into), 0);
}

/// An archive with this tar for a body, and a checksum that fits.
fn forged(tar: &[u8]) -> Vec<u8> {
    use sha2::{Digest as _, Sha256};
    let mut file = b"rclaude-archive\n".to_vec();
    file.extend(1_u32.to_le_bytes());
    file.extend(2_u32.to_le_bytes());
    file.extend((tar.len() as u64).to_le_bytes());
    file.extend(b"{}");
    file.extend(tar);
    let hash = Sha256::digest(&file);
    file.extend(hash);
    file
}

#[test]
fn nothing_in_a_forged_archive_leads_out_of_the_directory() {
    let rig = Rig::new();
    let into = rig.path("into");
    let id = "ab".repeat(32);
    let plain = tar::EntryType::Regular;
    let forgeries = [
        ("../escaped".to_owned(), plain),
        ("/tmp/escaped".to_owned(), plain),
        ("data/../../escaped".to_owned(), plain),
        ("notes.txt".to_owned(), plain),
        (format!("data/cd/{id}"), plain),
        ("config".to_owned(), tar::EntryType::Symlink),
        ("config".to_owned(), tar::EntryType::Link),
        (format!("keys/{id}"), tar::EntryType::Char),
        ("config".to_owned(), tar::EntryType::Directory),
        ("config".to_owned(), tar::EntryType::GNULongName),
        ("config".to_owned(), tar::EntryType::XHeader),
    ];
    for (name, kind) in forgeries {
        let mut header = tar::Header::new_ustar();
        header.as_old_mut().name[..name.len()].copy_from_slice(name.as_bytes());
        header.set_entry_type(kind);
        header.as_old_mut().linkname[..9].copy_from_slice(b"/tmp/evil");
        header.set_size(0);
        header.set_mode(0o777);
        header.set_cksum();
        let mut tar = header.as_bytes().to_vec();
        tar.extend([0; 1024]);
        let refused = unpack(&forged(&tar), &into).unwrap_err();
        assert!(matches!(refused, VaultError::BadArchive(_)), "{name} {kind:?}: {refused}");
        assert_eq!(entries(&into), 0);
    }
    let mut one = tar::Header::new_ustar();
    one.set_path("config").unwrap();
    one.set_entry_type(plain);
    one.set_size(0);
    one.set_cksum();
    let twice = [one.as_bytes().to_vec(), one.as_bytes().to_vec(), vec![0; 1024]].concat();
    assert!(matches!(unpack(&forged(&twice), &into), Err(VaultError::BadArchive(_))));
    // One that holds a great deal less than it says.
    one.set_size(1 << 40);
    one.set_cksum();
    let short = [one.as_bytes().to_vec(), vec![0; 1024]].concat();
    assert!(matches!(unpack(&forged(&short), &into), Err(VaultError::BadArchive(_))));
    assert_eq!(entries(&into), 0);
    assert!(!rig.path("escaped").exists());
}
