//! Many use one vault at once.

use std::time::Duration;

use futures::future::{join, join_all};
use rclaude_vault::{Vault, VaultError, digest};

use crate::support::{KEY, Rig, noise, write};

#[tokio::test]
async fn many_handles_save_restore_and_prune_side_by_side() {
    const SAVERS: u64 = 4;
    const ROUNDS: u64 = 5;
    let rig = Rig::new();
    rig.vault().await;
    let savers = (0..SAVERS).map(|saver| {
        let rig = &rig;
        async move {
            let vault = Vault::open(&rig.location(), &KEY).await.unwrap();
            let tree = rig.path(&format!("tree {saver}"));
            let mut kept = None;
            for round in 0..ROUNDS {
                // Contents that others have too, now and then, and that go and come back.
                write(&tree.join("shared"), noise(round % 2, 400_000));
                write(&tree.join("own"), noise(100 + saver * ROUNDS + round, 50_000));
                let saved = vault.save(&tree, &format!("saver {saver}")).await.unwrap();
                if let Some((id, _)) = kept.replace((saved.id, digest(&tree).unwrap())) {
                    vault.forget(&[id]).await.unwrap();
                }
                let back = rig.path(&format!("back {saver} {round}"));
                vault.restore(&saved.id, &back).await.unwrap();
                assert_eq!(digest(&back).unwrap(), digest(&tree).unwrap());
            }
            kept.unwrap()
        }
    });
    let pruner = async {
        let vault = Vault::open(&rig.location(), &KEY).await.unwrap();
        for _ in 0..2 * ROUNDS {
            vault.prune(Duration::from_hours(24)).await.unwrap();
        }
    };
    let (kept, ()) = join(join_all(savers), pruner).await;
    let vault = rig.vault().await;
    let verified = vault.verify(true).await.unwrap();
    assert!(verified.is_sound(), "{verified:?}");
    for (id, digest) in kept {
        assert_eq!(vault.digest(&id).await.unwrap(), digest);
    }
}

/// Without any grace a prune may find a snapshot that its saver is about to take back, and say
/// so; but what a save returned is whole.
#[tokio::test]
async fn what_a_save_returned_is_whole_even_if_prunes_give_no_grace() {
    let rig = Rig::new();
    rig.vault().await;
    let tree = rig.path("tree");
    write(&tree.join("file"), noise(1, 300_000));
    let as_it_is = digest(&tree).unwrap();
    let savers = (0..3).map(|saver| {
        let (rig, tree) = (&rig, &tree);
        async move {
            let vault = Vault::open(&rig.location(), &KEY).await.unwrap();
            let mut last = None;
            for _ in 0..6 {
                // Forgetting first makes all of it go to waste before it is saved again.
                if let Some(last) = last.take() {
                    vault.forget(&[last]).await.unwrap();
                }
                match vault.save(tree, &format!("saver {saver}")).await {
                    Ok(saved) => last = Some(saved.id),
                    Err(VaultError::Busy { .. }) => {}
                    Err(error) => panic!("{error}"),
                }
            }
            last
        }
    });
    let pruner = async {
        let vault = Vault::open(&rig.location(), &KEY).await.unwrap();
        for _ in 0..12 {
            match vault.prune(Duration::ZERO).await {
                Ok(_) | Err(VaultError::Damaged { .. }) => {}
                Err(error) => panic!("{error}"),
            }
        }
    };
    let (saved, ()) = join(join_all(savers), pruner).await;
    let vault = rig.vault().await;
    assert!(vault.verify(true).await.unwrap().is_sound());
    for id in saved.into_iter().flatten() {
        assert_eq!(vault.digest(&id).await.unwrap(), as_it_is);
    }
}
