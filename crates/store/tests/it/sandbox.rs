//! Sandboxes.

use rclaude_store::{StoreError, sandbox, session};
use rclaude_types::{Desired, FailureReason, Generation, Phase, SandboxId};

use crate::support::{Home, at};

/// Moves a sandbox along from the generation it is at.
async fn go(home: &Home, id: &SandboxId, phases: &[Phase]) {
    let (id, phases) = (id.clone(), phases.to_vec());
    home.write(async move |tx| {
        for next in phases {
            let generation = sandbox::get(tx, &id).await?.generation;
            sandbox::set_phase(tx, &id, generation, next, None, at(9)).await?;
        }
        Ok(())
    })
    .await;
}

#[tokio::test]
async fn a_phase_moves_by_the_table_and_from_the_generation_that_was_read() {
    let home = Home::new().await;
    let session = home.session().await;
    let id = home.sandbox(&session).await;
    let step = |generation: i64, next: Phase, provider_ref: Option<&'static str>| {
        let (store, id, generation) = (home.store.clone(), id.clone(), Generation(generation));
        async move {
            let step = async move |tx: &mut _| {
                sandbox::set_phase(tx, &id, generation, next, provider_ref, at(1)).await
            };
            store.write(step).await
        }
    };
    let error = step(1, Phase::Running, None).await.unwrap_err();
    assert!(
        matches!(error, StoreError::Impossible { from: Phase::Pending, to: Phase::Running }),
        "{error:?}"
    );
    let row = step(1, Phase::Starting, Some("machine-7")).await.unwrap();
    assert_eq!((row.phase, row.generation), (Phase::Starting, Generation(2)));
    let error = step(1, Phase::Running, None).await.unwrap_err();
    assert!(matches!(error, StoreError::Stale { .. }), "{error:?}");
    let row = step(2, Phase::Running, None).await.unwrap();
    assert_eq!(row.provider_ref.as_deref(), Some("machine-7"), "a name once learnt stays");
    let failed = Phase::Failed(FailureReason::AgentUnreachable);
    assert_eq!(step(3, failed, None).await.unwrap().phase, failed);
    let read = sandbox::get(&mut home.store.read().await.unwrap(), &id).await.unwrap();
    assert_eq!((read.phase, read.token.as_str()), (failed, "s3cret"));
    assert!(!format!("{read:?}").contains("s3cret"));
}

#[tokio::test]
async fn the_newest_sandbox_is_the_current_one() {
    let home = Home::new().await;
    let session = home.session().await;
    let first = home.sandbox(&session).await;
    let second = home.sandbox(&session).await;
    let mut conn = home.store.read().await.unwrap();
    assert_eq!(sandbox::current(&mut conn, &session).await.unwrap().id, second);
    let all = sandbox::list(&mut conn, &session).await.unwrap();
    assert!(all.into_iter().map(|row| row.id).eq([second, first]));
}

#[tokio::test]
async fn what_is_to_be_destroyed_is_replaced_unwanted_or_under_way() {
    let home = Home::new().await;
    let (kept, moved, unwanted) =
        (home.session().await, home.session().await, home.session().await);
    let (_kept, replaced) = (home.sandbox(&kept).await, home.sandbox(&moved).await);
    let (_newer, of_unwanted) = (home.sandbox(&moved).await, home.sandbox(&unwanted).await);
    let destroying = home.sandbox(&home.session().await).await;
    let destroyed = home.sandbox(&unwanted).await;
    go(&home, &destroying, &[Phase::Destroying]).await;
    go(&home, &destroyed, &[Phase::Destroying, Phase::Destroyed]).await;
    home.write(async move |tx| {
        session::set_desired(tx, &unwanted, Desired::Deleted, None, at(1)).await
    })
    .await;

    let mut conn = home.store.read().await.unwrap();
    let found = sandbox::to_destroy(&mut conn).await.unwrap();
    assert!(found.into_iter().map(|row| row.id).eq([replaced, of_unwanted, destroying]));
}
