//! The process that saves is killed; what it was told is saved is saved.

use std::{
    env,
    io::{BufRead as _, BufReader, Write as _},
    path::PathBuf,
    process::{Command, Stdio},
    time::Duration,
};

use rclaude_vault::{SnapshotId, TreeDigest, Vault, digest};

use crate::support::{KEY, Rig, noise, write};

const CHILD: &str = "RCLAUDE_TEST_VAULT_TO_SAVE_IN";

#[tokio::test]
async fn every_acknowledged_snapshot_survives_a_kill_9_at_any_moment() {
    if let Some(dir) = env::var_os(CHILD) {
        return save_until_killed(dir.into()).await;
    }
    let rig = Rig::new();
    rig.vault().await;
    let mut acknowledged: Vec<(SnapshotId, TreeDigest)> = Vec::new();
    for round in 0..6_usize {
        let test = "kill::every_acknowledged_snapshot_survives_a_kill_9_at_any_moment";
        let mut child = Command::new(env::current_exe().unwrap())
            .args(["--exact", test, "--nocapture"])
            .env(CHILD, rig.dir.path())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let mut heard = 0;
        for line in lines {
            // The harness speaks on the same pipe, and a kill cuts the last line short.
            let line = line.unwrap_or_default();
            let mut words = line.split_whitespace();
            match (words.next(), words.next(), words.next(), words.next()) {
                (Some("saved"), Some(id), Some(digest), Some(".")) => {
                    acknowledged.push((id.parse().unwrap(), digest.parse().unwrap()));
                    heard += 1;
                }
                (Some("forgets"), Some(id), Some("."), None) => {
                    let id: SnapshotId = id.parse().unwrap();
                    acknowledged.retain(|(other, _)| *other != id);
                }
                _ => {}
            }
            // The next save is under way by now, or the prune after it.
            if heard == 1 + round {
                child.kill().unwrap();
            }
        }
        child.wait().unwrap();

        let vault = Vault::open(&rig.location(), &KEY).await.unwrap();
        let verified = vault.verify(true).await.unwrap();
        assert!(verified.is_sound(), "{verified:?}");
        for (id, digest) in &acknowledged {
            assert_eq!(vault.digest(id).await.unwrap(), *digest);
        }
    }
    let vault = rig.vault().await;
    let (last, as_it_was) = acknowledged.last().unwrap();
    vault.restore(last, &rig.path("back")).await.unwrap();
    assert_eq!(digest(&rig.path("back")).unwrap(), *as_it_was);
    // What those that were killed left behind goes away.
    vault.forget(&acknowledged.iter().map(|(id, _)| *id).collect::<Vec<_>>()).await.unwrap();
    let rest: Vec<_> = vault.list().await.unwrap().iter().map(|snapshot| snapshot.id).collect();
    vault.forget(&rest).await.unwrap();
    for _ in 0..3 {
        vault.prune(Duration::ZERO).await.unwrap();
    }
    assert_eq!(rig.files("data").iter().filter(|path| is_pack(path)).count(), 0);
}

fn is_pack(path: &std::path::Path) -> bool {
    path.file_name().unwrap().len() == 64
}

/// Saves, forgets and prunes, and says so.
async fn save_until_killed(dir: PathBuf) {
    let rig = dir.join("vault");
    let vault = Vault::open(&rclaude_vault::Location::Dir(rig), &KEY).await.unwrap();
    let tree = tempfile::tempdir_in(&dir).unwrap();
    let mut kept = Vec::new();
    let say = |line: String| {
        let mut out = std::io::stdout().lock();
        out.write_all(line.as_bytes()).unwrap();
        out.flush().unwrap();
    };
    for number in 0.. {
        // Some of it changes each time, and some of it comes back.
        write(&tree.path().join("dir/changing"), noise(number % 3, 300_000));
        write(&tree.path().join("growing"), noise(7, 10_000 * usize::try_from(number).unwrap()));
        let saved = vault.save(tree.path(), "tree").await.unwrap();
        say(format!("saved {} {} .\n", saved.id, digest(tree.path()).unwrap()));
        kept.push(saved.id);
        if kept.len() > 2 {
            let oldest = kept.remove(0);
            say(format!("forgets {oldest} .\n"));
            vault.forget(&[oldest]).await.unwrap();
            vault.prune(Duration::ZERO).await.unwrap();
        }
    }
}
