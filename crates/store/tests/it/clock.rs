//! The usage clock: whatever happens to a sandbox and to the host's clock, no moment counts twice,
//! none is left out while a sandbox exists, and none counts as running that nobody saw.

use proptest::prelude::*;
use rclaude_store::{
    clock::{self, Rung},
    sandbox,
};
use rclaude_types::{FailureReason, Phase, SandboxId, SessionId, TimeUsage, Timestamp};

use crate::support::{Home, at};

/// The longest that a way down takes.
const MINUTE: i64 = 60_000_000;

#[derive(Debug, Clone, Copy)]
enum Act {
    /// Time passes.
    Pass(i64),
    /// The host's clock is set back.
    SetBack(i64),
    /// A heartbeat.
    Beat,
    /// The sandbox goes on to one of the phases it can: this one of them.
    Move(usize),
    /// It stores so many bytes now.
    Keep(u32),
    /// Another takes its place.
    Replace,
}

fn acts() -> impl Strategy<Value = Vec<Act>> {
    let act = prop_oneof![
        6 => (1..20_000_000_i64).prop_map(Act::Pass),
        1 => (1..40_000_000_000_i64).prop_map(Act::Pass),
        1 => (1..5_000_000_000_i64).prop_map(Act::SetBack),
        3 => Just(Act::Beat),
        8 => (0..15_usize).prop_map(Act::Move),
        1 => (0..1_u32 << 30).prop_map(Act::Keep),
        1 => Just(Act::Replace),
    ];
    prop::collection::vec(act, 1..60)
}

/// What is known of a session's time by its history alone: each moment belongs to the rung that
/// was observed at its end, and of moments of running only those count that were seen.
#[derive(Debug)]
struct Truth {
    phase: Phase,
    /// What the host's clock says.
    now: i64,
    /// The last moment that was spoken for; time never runs backwards.
    seen: i64,
    usage: [i64; 4],
    byte_micros: i128,
    bytes: u32,
}

impl Truth {
    fn rung(&self) -> Option<Rung> {
        Rung::of(self.phase)
    }

    /// Time up to `until` was spent on this rung.
    fn count(&mut self, rung: Rung, until: i64) {
        let passed = (until - self.seen).max(0);
        self.usage[rung as usize] += passed;
        self.byte_micros += i128::from(passed) * i128::from(self.bytes);
        self.seen += passed;
    }

    /// It is as it was.
    fn observe(&mut self) {
        if let Some(rung) = self.rung() {
            self.count(rung, self.now);
        }
    }

    fn goes(&mut self, next: Phase) {
        let asked = matches!(
            (self.phase, next),
            (Phase::Pausing, Phase::Paused) | (Phase::Hibernating, Phase::Hibernated)
        );
        match self.rung() {
            // Nothing is counted where there is no sandbox.
            None if Rung::of(next).is_none() => self.bytes = 0,
            None => {
                self.seen = self.seen.max(self.now);
                self.bytes = 0;
            }
            Some(Rung::Running) if Rung::of(next) == Some(Rung::Running) => self.observe(),
            Some(Rung::Running) if next == Phase::Destroying => self.observe(),
            // A crash may have come between: no more than a minute is taken on trust.
            Some(Rung::Running) if asked => {
                self.count(Rung::Running, self.now.min(self.seen + MINUTE));
            }
            // Found like that: what follows the last heartbeat belongs to what it was found as.
            Some(Rung::Running) => {}
            Some(_) => self.observe(),
        }
        self.phase = next;
    }

    /// What is to be answered now.
    fn told(&self) -> [i64; 4] {
        let mut told = self.usage;
        if let Some(rung) = self.rung().filter(|rung| *rung != Rung::Running) {
            told[rung as usize] += (self.now - self.seen).max(0);
        }
        told
    }
}

fn parts(usage: TimeUsage) -> [i64; 4] {
    [usage.running_micros, usage.frozen_micros, usage.hibernated_micros, usage.archived_micros]
}

fn moment(micros: i64) -> Timestamp {
    Timestamp::from_micros(at(0).as_micros() + micros)
}

/// The phases that the newest sandbox can go to.
fn ways(phase: Phase) -> Vec<Phase> {
    Phase::ALL.into_iter().filter(|next| phase.can_become(*next)).collect()
}

async fn go(home: &Home, id: &SandboxId, next: Phase, at: Timestamp) {
    let id = id.clone();
    home.write(async move |tx| {
        let generation = sandbox::get(tx, &id).await?.generation;
        sandbox::set_phase(tx, &id, generation, next, None, at).await
    })
    .await;
}

/// Spans as they are stored: rung, from, to, open.
async fn spans(home: &Home) -> Vec<(String, i64, i64, bool)> {
    let url = format!("sqlite://{}", home.database().display());
    let mut conn = <sqlx::SqliteConnection as sqlx::Connection>::connect(&url).await.unwrap();
    sqlx::query_as("SELECT rung, since, upto, open FROM clock ORDER BY rowid")
        .fetch_all(&mut conn)
        .await
        .unwrap()
}

async fn usage(home: &Home, session: &SessionId, now: i64) -> TimeUsage {
    let mut conn = home.store.read().await.unwrap();
    clock::usage(&mut conn, session, moment(now)).await.unwrap()
}

/// A session whose sandbox is on its way up at the start of time.
async fn starting(home: &Home) -> (SessionId, SandboxId) {
    let session = home.session().await;
    let sandbox = home.sandbox(&session).await;
    go(home, &sandbox, Phase::Starting, at(0)).await;
    (session, sandbox)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, failure_persistence: None, ..<_>::default() })]

    #[test]
    fn every_moment_counts_once_for_what_it_was_seen_to_be(acts in acts()) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            let home = Home::new().await;
            let (session, mut sandbox) = starting(&home).await;
            let mut truth = Truth {
                phase: Phase::Starting,
                now: 0,
                seen: 0,
                usage: [0; 4],
                byte_micros: 0,
                bytes: 0,
            };
            for act in acts {
                let of = session.clone();
                match act {
                    Act::Pass(micros) => truth.now += micros,
                    Act::SetBack(micros) => truth.now -= micros,
                    Act::Beat => {
                        truth.observe();
                        let now = moment(truth.now);
                        home.write(async move |tx| clock::beat(tx, &[of], now).await).await;
                    }
                    Act::Keep(bytes) => {
                        let now = moment(truth.now);
                        home.write(async move |tx| {
                            clock::keeps(tx, &of, bytes.into(), now).await
                        })
                        .await;
                        if truth.rung().is_some() && truth.bytes != bytes {
                            truth.observe();
                            truth.bytes = bytes;
                        }
                    }
                    Act::Move(which) => {
                        let ways = ways(truth.phase);
                        let Some(next) = ways.get(which % ways.len().max(1)) else { continue };
                        go(&home, &sandbox, *next, moment(truth.now)).await;
                        truth.goes(*next);
                    }
                    Act::Replace => {
                        sandbox = home.sandbox_at(&session, moment(truth.now)).await;
                        truth.observe();
                        truth.phase = Phase::Pending;
                    }
                }
                let told = usage(&home, &session, truth.now).await;
                assert_eq!(parts(told), truth.told(), "after {act:?}: {truth:?}");
            }
            let spans = spans(&home).await;
            for (rung, since, upto, _) in &spans {
                assert!(since <= upto, "{rung} runs backwards: {spans:?}");
            }
            for pair in spans.windows(2) {
                assert!(pair[0].2 <= pair[1].1, "two at once: {spans:?}");
                assert!(!pair[0].3, "only the last may be open: {spans:?}");
            }
            let open = spans.last().is_some_and(|last| last.3);
            assert_eq!(open, truth.rung().is_some(), "{spans:?}");
            // Kept bytes are summed in whole numbers, by rung.
            if truth.rung().is_some_and(|rung| rung != Rung::Running) {
                truth.observe();
            }
            let told = usage(&home, &session, truth.now).await.storage_byte_seconds;
            let exact = i64::try_from(truth.byte_micros / 1_000_000).unwrap();
            assert!((told - exact).abs() <= 8, "{told} for {exact}");
        });
    }

    /// A sandbox is there all the while: then its spans leave no gap, whatever the clock does.
    #[test]
    fn there_is_no_gap_while_a_sandbox_exists(acts in acts()) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            let home = Home::new().await;
            let (session, sandbox) = starting(&home).await;
            let (mut phase, mut now) = (Phase::Starting, 0);
            for act in acts {
                let of = session.clone();
                match act {
                    Act::Pass(micros) => now += micros,
                    Act::SetBack(micros) => now -= micros,
                    Act::Beat => {
                        let now = moment(now);
                        home.write(async move |tx| clock::beat(tx, &[of], now).await).await;
                    }
                    Act::Keep(bytes) => {
                        let now = moment(now);
                        home.write(async move |tx| {
                            clock::keeps(tx, &of, bytes.into(), now).await
                        })
                        .await;
                    }
                    Act::Move(which) => {
                        let mut ways = ways(phase);
                        ways.retain(|next| Rung::of(*next).is_some());
                        let Some(next) = ways.get(which % ways.len().max(1)) else { continue };
                        go(&home, &sandbox, *next, moment(now)).await;
                        phase = *next;
                    }
                    Act::Replace => {}
                }
            }
            let spans = spans(&home).await;
            assert_eq!(spans[0].1, at(0).as_micros());
            for pair in spans.windows(2) {
                assert_eq!(pair[0].2, pair[1].1, "{spans:?}");
            }
        });
    }
}

const SECOND: i64 = 1_000_000;

/// A session that has run for ten seconds, with a heartbeat at eight.
async fn ran(home: &Home) -> (SessionId, SandboxId) {
    let (session, sandbox) = starting(home).await;
    go(home, &sandbox, Phase::Running, moment(SECOND)).await;
    let of = session.clone();
    home.write(async move |tx| clock::beat(tx, &[of], moment(8 * SECOND)).await).await;
    (session, sandbox)
}

#[tokio::test]
async fn a_sandbox_that_is_paused_and_resumed_is_counted_by_rung() {
    let home = Home::new().await;
    let (session, sandbox) = ran(&home).await;
    for (phase, second) in [
        (Phase::Pausing, 10),
        (Phase::Paused, 11),
        (Phase::Resuming, 100),
        (Phase::Running, 101),
        (Phase::Hibernating, 102),
        (Phase::Hibernated, 105),
    ] {
        go(&home, &sandbox, phase, moment(second * SECOND)).await;
    }
    let told = parts(usage(&home, &session, 205 * SECOND).await);
    assert_eq!(told, [16, 89, 100, 0].map(|seconds| seconds * SECOND));
}

#[tokio::test]
async fn what_ended_unseen_ran_until_its_last_heartbeat() {
    let failed = Phase::Failed(FailureReason::Vanished);
    for (found, wanted) in [
        (Phase::Hibernated, [8, 0, 3_592, 0]),
        (Phase::Paused, [8, 3_592, 0, 0]),
        (failed, [8, 0, 0, 0]),
    ] {
        let home = Home::new().await;
        let (session, sandbox) = ran(&home).await;
        go(&home, &sandbox, found, moment(3_000 * SECOND)).await;
        let told = parts(usage(&home, &session, 3_600 * SECOND).await);
        assert_eq!(told, wanted.map(|seconds: i64| seconds * SECOND), "{found:?}");
    }
}

#[tokio::test]
async fn a_crash_on_the_way_down_counts_a_minute_and_not_the_hours_after_it() {
    let home = Home::new().await;
    let (session, sandbox) = ran(&home).await;
    go(&home, &sandbox, Phase::Hibernating, moment(10 * SECOND)).await;
    go(&home, &sandbox, Phase::Hibernated, moment(36_010 * SECOND)).await;
    let told = parts(usage(&home, &session, 36_010 * SECOND).await);
    assert_eq!(told, [70, 0, 35_940, 0].map(|seconds: i64| seconds * SECOND));
}

#[tokio::test]
async fn one_that_ran_on_while_nobody_looked_is_counted_once_it_is_found() {
    let home = Home::new().await;
    let (session, _) = ran(&home).await;
    // The server was away; the sandbox was not.
    assert_eq!(usage(&home, &session, 900 * SECOND).await.running_micros, 8 * SECOND);
    let of = session.clone();
    home.write(async move |tx| clock::beat(tx, &[of], moment(900 * SECOND)).await).await;
    assert_eq!(usage(&home, &session, 900 * SECOND).await.running_micros, 900 * SECOND);
}

#[tokio::test]
async fn what_a_session_keeps_is_counted_on_every_rung() {
    let home = Home::new().await;
    let (session, sandbox) = ran(&home).await;
    let keep = async |bytes: u64, second: i64| {
        let of = session.clone();
        home.write(async move |tx| clock::keeps(tx, &of, bytes, moment(second * SECOND)).await)
            .await;
    };
    keep(1_000, 10).await;
    go(&home, &sandbox, Phase::Hibernating, moment(20 * SECOND)).await;
    go(&home, &sandbox, Phase::Hibernated, moment(20 * SECOND)).await;
    keep(3_000, 30).await;
    let told = usage(&home, &session, 40 * SECOND).await.storage_byte_seconds;
    assert_eq!(told, 10 * 1_000 + 10 * 1_000 + 10 * 3_000);
}
