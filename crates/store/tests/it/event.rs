//! The log.

use proptest::prelude::*;
use rclaude_store::{StoreError, event};
use rclaude_types::{EventBody, SessionId, TurnId};
use serde_json::json;

use crate::support::{Home, at, notice, said};

#[tokio::test]
async fn entries_read_back_as_they_were_written() {
    let home = Home::new().await;
    let id = home.session().await;
    let turn = TurnId::generate();
    let awkward = [
        String::new(),
        "nul \0 and \u{1b}[31m escape".to_owned(),
        "\u{feff}\u{200f}🦀 \u{d7ff}".to_owned(),
        "'; DROP TABLE event; --".to_owned(),
        "long ".repeat(200_000),
    ];
    let mut entries: Vec<_> = awkward.into_iter().map(|text| (None, notice(text))).collect();
    let line = json!({ "n": 0.1, "big": u64::MAX, "deep": [[[{ "\0": null }]]] });
    entries.push((Some(turn), EventBody::Raw { line }));
    let (log, sent) = (id.clone(), entries.clone());
    let numbers = home.write(async move |tx| event::append(tx, &log, at(7), &sent).await).await;
    assert_eq!(numbers, (1, 6));

    let mut conn = home.store.read().await.unwrap();
    let mut read = Vec::new();
    while read.len() < entries.len() {
        let cursor = i64::try_from(read.len()).unwrap();
        read.extend(event::after(&mut conn, &id, cursor, 100).await.unwrap());
    }
    for (number, (event, (turn, body))) in (1..).zip(read.into_iter().zip(entries)) {
        assert_eq!((event.seq, event.at), (number, at(7)));
        assert_eq!((event.turn, event.body), (turn, body));
    }
}

#[tokio::test]
async fn a_page_is_bounded_by_entries_and_by_bytes_but_never_empty() {
    let home = Home::new().await;
    let id = home.session().await;
    let log = id.clone();
    let sizes = [400_000, 400_000, 400_000, 3_000_000, 10, 10];
    let entries: Vec<_> = sizes.map(|size| (None, notice("x".repeat(size)))).into();
    home.write(async move |tx| event::append(tx, &log, at(1), &entries).await).await;

    let mut conn = home.store.read().await.unwrap();
    let mut pages = Vec::new();
    let mut cursor = 0;
    loop {
        let page = event::after(&mut conn, &id, cursor, 10).await.unwrap();
        let Some(last) = page.last() else { break };
        cursor = last.seq;
        pages.push(page.iter().map(|event| event.seq).collect::<Vec<_>>());
    }
    // An entry is let in while what stands before it is within the bound.
    assert_eq!(pages, [vec![1, 2, 3], vec![4], vec![5, 6]]);
    let two = event::after(&mut conn, &id, 0, 2).await.unwrap();
    assert_eq!(two.len(), 2);
    assert_eq!(event::after(&mut conn, &id, 6, 10).await.unwrap(), []);
    assert_eq!(event::last_seq(&mut conn, &id).await.unwrap(), 6);
}

#[tokio::test]
async fn a_log_of_no_session_can_be_neither_written_nor_asked_for_its_end() {
    let home = Home::new().await;
    let id = SessionId::generate();
    let nobody = id.clone();
    let error = home
        .refused(async move |tx| event::append(tx, &id, at(1), &[(None, notice("hello"))]).await)
        .await;
    assert!(matches!(error, StoreError::NotFound { .. }), "{error:?}");
    let mut conn = home.store.read().await.unwrap();
    assert!(event::last_seq(&mut conn, &nobody).await.is_err());
}

#[tokio::test]
async fn appending_nothing_takes_no_number() {
    let home = Home::new().await;
    let id = home.session().await;
    let mut next = Vec::new();
    for entries in [vec![], vec![(None, notice("one"))], vec![]] {
        let id = id.clone();
        next.push(home.write(async move |tx| event::append(tx, &id, at(1), &entries).await).await);
    }
    assert_eq!(next, [(1, 0), (1, 1), (2, 1)]);
}

/// What may happen to two logs.
#[derive(Debug, Clone)]
enum Act {
    Append { log: usize, texts: Vec<String> },
    AppendAndFail { log: usize, texts: Vec<String> },
    Read { log: usize, after: usize, limit: u32 },
}

fn act() -> impl Strategy<Value = Act> {
    let texts = || prop::collection::vec(any::<String>(), 0..6);
    prop_oneof![
        (0..2_usize, texts()).prop_map(|(log, texts)| Act::Append { log, texts }),
        (0..2_usize, texts()).prop_map(|(log, texts)| Act::AppendAndFail { log, texts }),
        (0..2_usize, 0..30_usize, 1..20_u32).prop_map(|(log, after, limit)| Act::Read {
            log,
            after,
            limit
        }),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, failure_persistence: None, ..<_>::default() })]

    /// Against a list in memory for each log.
    #[test]
    fn a_log_is_what_was_appended_in_order_and_without_a_gap(
        acts in prop::collection::vec(act(), 1..40)
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            let home = Home::new().await;
            let ids = [home.session().await, home.session().await];
            let mut model = [Vec::<String>::new(), Vec::new()];
            for act in acts {
                match act {
                    Act::Append { log, texts } => {
                        let id = ids[log].clone();
                        let entries: Vec<_> =
                            texts.iter().map(|text| (None, notice(text.as_str()))).collect();
                        let (first, last) = home
                            .write(async move |tx| event::append(tx, &id, at(1), &entries).await)
                            .await;
                        assert_eq!(usize::try_from(first).unwrap(), model[log].len() + 1);
                        model[log].extend(texts);
                        assert_eq!(usize::try_from(last).unwrap(), model[log].len());
                    }
                    Act::AppendAndFail { log, texts } => {
                        let id = ids[log].clone();
                        let entries: Vec<_> =
                            texts.into_iter().map(|text| (None, notice(text))).collect();
                        home.refused(async move |tx| {
                            event::append(tx, &id, at(1), &entries).await?;
                            Err::<(), _>(StoreError::Conflict("no".to_owned()))
                        })
                        .await;
                    }
                    Act::Read { log, after, limit } => {
                        let mut conn = home.store.read().await.unwrap();
                        let cursor = i64::try_from(after).unwrap();
                        let page = event::after(&mut conn, &ids[log], cursor, limit).await.unwrap();
                        let wanted: Vec<_> = (1..)
                            .zip(model[log].iter().map(String::as_str))
                            .skip(after)
                            .take(usize::try_from(limit).unwrap())
                            .collect();
                        let found: Vec<_> =
                            page.iter().map(|event| (event.seq, said(&event.body))).collect();
                        assert_eq!(found, wanted);
                    }
                }
            }
        });
    }
}
