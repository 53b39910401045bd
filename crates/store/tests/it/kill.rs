//! The process that writes is killed; what it was told is on the disk is there.

use std::{
    collections::BTreeMap,
    ffi::OsString,
    hash::{BuildHasher, RandomState},
    io::{BufRead, BufReader, Write},
    process::Stdio,
};

use rclaude_store::{Store, event};
use rclaude_types::{Event, Seq, SessionId};
use tokio::task::JoinSet;

use crate::support::{add_session, at, notice, said, this_test_again};

const ROUNDS: usize = 6;
const WRITERS: usize = 8;
const DATABASE: &str = "RCLAUDE_STORE_TEST_KILL_DATABASE";

#[tokio::test(flavor = "multi_thread")]
async fn every_acknowledged_entry_survives_a_kill_9_at_any_moment() {
    if let Some(database) = std::env::var_os(DATABASE) {
        return append_until_killed(database).await;
    }
    let dir = tempfile::tempdir().unwrap();
    let database = dir.path().join("rclaude.db");
    let mut acknowledged = BTreeMap::<SessionId, Vec<(Seq, String)>>::new();
    for round in 0..ROUNDS {
        let test = "kill::every_acknowledged_entry_survives_a_kill_9_at_any_moment";
        let told = (DATABASE, database.to_str().unwrap());
        let mut child = this_test_again(&[], test, told).stdout(Stdio::piped()).spawn().unwrap();
        let patience = 20 + RandomState::new().hash_one(round) % 400;
        let mut heard = 0;
        for line in BufReader::new(child.stdout.take().unwrap()).lines() {
            // The test harness speaks on the same pipe, and a kill cuts the last line short.
            let line = line.unwrap();
            let words: Vec<_> = line.split(' ').collect();
            if let ["ack", session, seq, text, "."] = words[..] {
                let entry = (seq.parse().unwrap(), text.to_owned());
                acknowledged.entry(session.parse().unwrap()).or_default().push(entry);
                heard += 1;
                if heard == patience {
                    child.kill().unwrap();
                }
            }
        }
        child.wait().unwrap();
        assert!(heard >= patience, "the writer ended by itself after {heard} entries");

        let store = Store::open(&database).await.unwrap();
        for (session, told) in &acknowledged {
            let log = whole_log(&store, session).await;
            assert!(log.iter().map(|event| event.seq).eq(1..=i64::try_from(log.len()).unwrap()));
            for (seq, text) in told {
                let kept =
                    log.get(usize::try_from(seq - 1).unwrap()).map(|event| said(&event.body));
                assert_eq!(kept, Some(text.as_str()), "entry {seq} in round {round}");
            }
        }
        store.close().await;
    }
}

async fn append_until_killed(database: OsString) {
    let store = Store::open(database).await.unwrap();
    let session = add_session(&store).await;
    let mut writers = JoinSet::new();
    for writer in 0..WRITERS {
        let (store, session) = (store.clone(), session.clone());
        writers.spawn(async move {
            for round in 0_u64.. {
                let text = format!("{writer}/{round}");
                let (id, entry) = (session.clone(), [(None, notice(text.as_str()))]);
                let append = async move |tx: &mut _| event::append(tx, &id, at(1), &entry).await;
                let (seq, _) = store.write(append).await.unwrap();
                // One write for one line, so that lines of several writers do not mix.
                let line = format!("ack {session} {seq} {text} .\n");
                std::io::stdout().lock().write_all(line.as_bytes()).unwrap();
            }
        });
    }
    writers.join_all().await;
}

async fn whole_log(store: &Store, session: &SessionId) -> Vec<Event> {
    let mut conn = store.read().await.unwrap();
    let mut log = Vec::new();
    loop {
        let cursor = log.last().map_or(0, |event: &Event| event.seq);
        let page = event::after(&mut conn, session, cursor, 500).await.unwrap();
        if page.is_empty() {
            return log;
        }
        log.extend(page);
    }
}
