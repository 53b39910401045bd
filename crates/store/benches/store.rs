//! How fast the store is, beside the disk it is on. `cargo bench -p rclaude-store`.
//!
//! The raw loop writes 4 KiB into a file that has its size already and waits for the disk: what
//! a commit cannot do without. Group commit lets sixteen writers together pass it.
#![expect(clippy::unwrap_used, clippy::print_stdout, reason = "a bench reports and may fail")]

use std::{
    os::unix::fs::FileExt,
    path::Path,
    time::{Duration, Instant},
};

use rclaude_store::{Store, event, session};
use rclaude_types::{EventBody, Role, SessionId, Timestamp};
use tokio::task::JoinSet;

const WRITERS: usize = 16;
const READERS: usize = 16;
const SPAN: Duration = Duration::from_secs(3);

#[tokio::main]
async fn main() {
    let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let path = dir.path().join("rclaude.db");

    let begun = Instant::now();
    let store = Store::open(&path).await.unwrap();
    println!("open, new database        {:>10.2?}", begun.elapsed());
    store.close().await;
    let begun = Instant::now();
    let store = Store::open(&path).await.unwrap();
    println!("open, existing database   {:>10.2?}", begun.elapsed());

    let raw = raw_fsyncs(dir.path());
    println!("raw 4 KiB write + fsync   {raw:>10.0} /s");
    for (writers, entries) in [(1, 1), (WRITERS, 1), (1, 64), (WRITERS, 64)] {
        let rate = appends(&store, writers, entries).await;
        let (all, beside) = (rate * f64::from(entries), rate / raw);
        println!(
            "{writers:>2} writing {entries:>2} entries     {rate:>10.0} /s   \
             {beside:.2} of raw, {all:.0} entries/s"
        );
    }
    let reads = point_reads(&store).await;
    println!("point reads, {READERS} readers   {reads:>10.0} /s");
    let pages = page_reads(&store).await;
    println!("log pages of 100 entries  {pages:>10.0} /s");
    store.close().await;
}

fn raw_fsyncs(dir: &Path) -> f64 {
    let file = std::fs::File::create(dir.join("raw")).unwrap();
    let page = [7; 4096];
    for place in 0..256 {
        file.write_all_at(&page, place * 4096).unwrap();
    }
    file.sync_all().unwrap();
    let begun = Instant::now();
    let mut count = 0_u32;
    while begun.elapsed() < SPAN {
        file.write_all_at(&page, u64::from(count % 256) * 4096).unwrap();
        file.sync_data().unwrap();
        count += 1;
    }
    f64::from(count) / begun.elapsed().as_secs_f64()
}

/// Each writer appends so many entries of some 300 bytes at a time to a session of its own, and
/// waits for them.
async fn appends(store: &Store, writers: usize, entries: u32) -> f64 {
    let mut sessions = Vec::new();
    for _ in 0..writers {
        sessions.push(add_session(store).await);
    }
    rate(sessions, |id| {
        let store = store.clone();
        async move {
            let entries: Vec<_> = (0..entries).map(|_| (None, message())).collect();
            let append = async move |tx: &mut rclaude_store::Tx| {
                event::append(tx, &id, Timestamp::from_micros(1), &entries).await
            };
            store.write(append).await.unwrap();
        }
    })
    .await
}

async fn point_reads(store: &Store) -> f64 {
    let id = add_session(store).await;
    rate(vec![id; READERS], |id| {
        let store = store.clone();
        async move {
            session::get(&mut store.read().await.unwrap(), &id).await.unwrap();
        }
    })
    .await
}

async fn page_reads(store: &Store) -> f64 {
    let id = add_session(store).await;
    let log = id.clone();
    let entries: Vec<_> = (0..1000).map(|_| (None, message())).collect();
    let fill = async move |tx: &mut rclaude_store::Tx| {
        event::append(tx, &log, Timestamp::from_micros(1), &entries).await
    };
    store.write(fill).await.unwrap();
    rate(vec![id; READERS], |id| {
        let store = store.clone();
        async move {
            let page = event::after(&mut store.read().await.unwrap(), &id, 400, 100).await;
            assert_eq!(page.unwrap().len(), 100);
        }
    })
    .await
}

/// Runs one loop per session and counts how often they went round together, per second.
async fn rate<F>(sessions: Vec<SessionId>, step: impl Fn(SessionId) -> F) -> f64
where
    F: Future<Output = ()> + Send + 'static,
{
    let begun = Instant::now();
    let mut under_way = JoinSet::new();
    for id in &sessions {
        let (id, step) = (id.clone(), step(id.clone()));
        under_way.spawn(async move {
            step.await;
            id
        });
    }
    let mut count = 0_u32;
    while let Some(id) = under_way.join_next().await {
        count += 1;
        let id = id.unwrap();
        if begun.elapsed() < SPAN {
            let step = step(id.clone());
            under_way.spawn(async move {
                step.await;
                id
            });
        }
    }
    f64::from(count) / begun.elapsed().as_secs_f64()
}

fn message() -> EventBody {
    EventBody::Message {
        id: "msg_01".to_owned(),
        role: Role::Assistant,
        text: "All tests pass; the change is in one function and its callers. ".repeat(4),
        parent: None,
    }
}

async fn add_session(store: &Store) -> SessionId {
    let id = SessionId::generate();
    let new = session::NewSession {
        id: id.clone(),
        name: id.as_str().replace('_', "-"),
        settings: session::SessionSettings::default(),
        origin: None,
        at: Timestamp::from_micros(0),
    };
    store.write(async move |tx| session::insert(tx, &new).await).await.unwrap();
    id
}
