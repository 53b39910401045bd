//! Done once.

use rclaude_store::{
    StoreError,
    idempotency::{self, Claim},
    meta,
};
use serde_json::{Value, json};
use tokio::task::JoinSet;

use crate::support::{Home, at};

const DAY: i64 = 24 * 60 * 60;

#[tokio::test(flavor = "multi_thread")]
async fn of_many_equal_requests_one_is_done_and_all_get_its_answer() {
    let home = Home::new().await;
    let mut requests = JoinSet::new();
    for number in 0..16 {
        let store = home.store.clone();
        requests.spawn(async move {
            let work =
                async move |tx: &mut _| match idempotency::claim(tx, "k", &[1; 32], at(0)).await? {
                    Claim::New => {
                        let response = json!({ "made": number });
                        idempotency::answer(tx, "k", &response).await?;
                        Ok((true, response))
                    }
                    Claim::Same(response) => Ok((false, response)),
                    Claim::Mismatch => Err(StoreError::Conflict("another request".to_owned())),
                };
            store.write(work).await.unwrap()
        });
    }
    let answers = requests.join_all().await;
    assert_eq!(answers.iter().filter(|(new, _)| *new).count(), 1);
    assert!(answers.iter().all(|(_, response)| response == &answers[0].1), "{answers:?}");
}

#[tokio::test]
async fn a_claim_goes_when_its_effect_fails() {
    let home = Home::new().await;
    home.refused(async |tx| {
        idempotency::claim(tx, "k", &[1; 32], at(0)).await?;
        meta::set(tx, "effect", "half").await?;
        Err::<(), _>(StoreError::Conflict("failed".to_owned()))
    })
    .await;
    let claim = home.write(async |tx| idempotency::claim(tx, "k", &[2; 32], at(0)).await).await;
    assert_eq!(claim, Claim::New);
}

#[tokio::test]
async fn another_request_under_the_same_key_is_told_apart() {
    let home = Home::new().await;
    let claims = home
        .write(async |tx| {
            Ok([
                idempotency::claim(tx, "k", &[1; 32], at(0)).await?,
                idempotency::claim(tx, "k", &[1; 32], at(1)).await?,
                idempotency::claim(tx, "k", &[2; 32], at(1)).await?,
                idempotency::claim(tx, "other", &[2; 32], at(1)).await?,
            ])
        })
        .await;
    assert_eq!(claims, [Claim::New, Claim::Same(Value::Null), Claim::Mismatch, Claim::New]);
}

#[tokio::test]
async fn a_key_is_forgotten_after_a_day_but_for_the_newest() {
    let home = Home::new().await;
    home.write(async |tx| {
        for number in 0..idempotency::KEPT_KEYS {
            idempotency::claim(tx, &format!("new{number}"), &[1; 32], at(20)).await?;
        }
        Ok(())
    })
    .await;
    let found = home
        .write(async |tx| {
            idempotency::claim(tx, "old", &[1; 32], at(0)).await?;
            idempotency::claim(tx, "young", &[1; 32], at(10)).await?;
            let in_time = idempotency::claim(tx, "old", &[2; 32], at(DAY)).await?;
            let expired = idempotency::expire(tx, at(DAY + 5)).await?;
            let late = idempotency::claim(tx, "young", &[2; 32], at(DAY + 11)).await?;
            Ok((in_time, expired, late))
        })
        .await;
    assert_eq!(found, (Claim::Mismatch, 1, Claim::New));

    // However far the clock is set: what was claimed last is not done again.
    let later = home
        .write(async |tx| {
            let expired = idempotency::expire(tx, at(900 * DAY)).await?;
            let claim = idempotency::claim(tx, "new7", &[1; 32], at(900 * DAY)).await?;
            Ok((expired, claim))
        })
        .await;
    assert_eq!(later, (0, Claim::Same(Value::Null)));
}
