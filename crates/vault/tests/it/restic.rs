//! The second implementation of the format: what the vault wrote, restic reads.

use std::{fs, process::Command};

use rclaude_vault::{Key, Secret, Vault, digest};

use crate::support::{Rig, noise, write};

#[tokio::test]
async fn restic_checks_and_restores_what_the_vault_wrote_under_a_passphrase() {
    if Command::new("restic").arg("version").output().is_err() {
        eprintln!("restic is not installed: nothing was tried");
        return;
    }
    let rig = Rig::new();
    let tree = rig.path("tree");
    write(&tree.join("dir/file"), noise(1, 2_000_000));
    write(&tree.join("small"), "small");
    fs::hard_link(tree.join("small"), tree.join("dir/linked")).unwrap();
    std::os::unix::fs::symlink("small", tree.join("link")).unwrap();
    let key = Key::Passphrase(Secret::new("correct"));
    let vault = Vault::open_or_create(&rig.location(), &key).await.unwrap();
    vault.save(&tree, "layer").await.unwrap();
    for arguments in
        [&["check", "--read-data"][..], &["restore", "latest", "--no-lock", "--target", "back"]]
    {
        let run = Command::new("restic")
            .args(["--no-cache", "--repo", "vault"])
            .args(arguments)
            .env("RESTIC_PASSWORD", "correct")
            .current_dir(rig.dir.path())
            .output()
            .unwrap();
        assert!(run.status.success(), "{}", String::from_utf8_lossy(&run.stderr));
    }
    assert_eq!(digest(&rig.path("back/tree")).unwrap(), digest(&tree).unwrap());
}
