//! What a user does, and what it must come to.

mod audit;
mod commands;
mod prompts;
mod rungs;
mod states;

use std::{
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::Instant,
};

use rclaude_types::{Event, Seq, Session};
use serde_json::{Value, json};

use super::{
    followers::Follower,
    host::{Host, LOOK, Outcome, Wrong, patience, wrong},
    model::{Change, State, Story},
    plan::{Abilities, Op},
    points::is_kept,
};

/// One session as its user knows it.
pub(super) struct Mine {
    pub(super) id: String,
    pub(super) story: Story,
    asks: bool,
    pub(super) followers: Vec<Follower>,
    prompts: Vec<Prompt>,
    counts: Vec<Count>,
    /// Checkpoints that were acknowledged.
    checkpoints: Vec<String>,
    /// The log as far as it was read.
    pub(super) log: Vec<Event>,
    /// The sandbox last seen.
    pub(super) sandbox: String,
    /// How often something came in the way of what runs in it.
    pub(super) shakes: Arc<AtomicU32>,
    /// The same, before the step that is under way and what may go wrong in it.
    shakes_before: u32,
    born: Instant,
    used: i64,
}

/// A prompt that was taken.
struct Prompt {
    number: u32,
    turn: String,
    /// How often something had come in the way when it was sent.
    shakes: u32,
    over: bool,
}

/// A command that counts.
struct Count {
    exec: String,
    to: u16,
    shakes: u32,
    read: usize,
    /// Its sandbox is not the session's any more.
    left: bool,
}

/// Makes numbers that no other line of the run has.
#[derive(Debug, Default)]
pub(super) struct Numbers(AtomicU32);

impl Numbers {
    fn next(&self) -> u32 {
        self.0.fetch_add(1, Ordering::Relaxed) + 1
    }
}

/// What a user works with.
pub(super) struct Desk {
    pub(super) host: Arc<Host>,
    pub(super) can: Abilities,
    pub(super) numbers: Numbers,
}

impl Desk {
    /// Makes a session.
    pub(super) async fn new_session(
        &self,
        repository: bool,
        asks: bool,
        followers: u8,
    ) -> Outcome<Mine> {
        let mut body = json!({
            "permission_mode": if asks { "default" } else { "bypassPermissions" },
        });
        if repository {
            let dir = self.host.scratch().join("repository");
            if !dir.exists() {
                crate::platform::repository(&dir, &[("README", "a project\n")]);
            }
            body["repository"] = json!({ "url": dir });
        }
        let key = self.host.key();
        let made = self.host.ok("POST", "/v1/sessions", Some(&body), Some(&key)).await?;
        let story = Story::new(vec![State::default()]);
        Ok(self.take(&made, story, asks, followers, Vec::new()))
    }

    fn take(
        &self,
        made: &Value,
        story: Story,
        asks: bool,
        followers: u8,
        prompts: Vec<Prompt>,
    ) -> Mine {
        let id = made["id"].as_str().unwrap().to_owned();
        let start = |number| Follower::start(self.host.clone(), id.clone(), number);
        Mine {
            followers: (0..followers).map(start).collect(),
            sandbox: made["sandbox"].as_str().unwrap().to_owned(),
            id,
            story,
            asks,
            prompts,
            counts: Vec::new(),
            checkpoints: Vec::new(),
            log: Vec::new(),
            shakes: Arc::default(),
            shakes_before: 0,
            born: Instant::now(),
            used: 0,
        }
    }

    /// Does one thing in a session; sessions that it made.
    pub(super) async fn act(&self, mine: &mut Mine, op: Op) -> Outcome<Vec<Mine>> {
        match op {
            Op::New { .. } => {}
            Op::Write { file } => self.change(mine, file, Change::Write).await?,
            Op::Append { file } => self.change(mine, file, Change::Append).await?,
            Op::Remove { file } => self.change(mine, file, Change::Remove).await?,
            Op::Count { to } => self.count(mine, to).await?,
            Op::ReadCounts => self.read_counts(mine, false).await?,
            Op::Prompt { wait, slow } => {
                self.prompt(mine, slow).await?;
                if wait {
                    self.await_turns(mine).await?;
                }
            }
            Op::AwaitTurns => self.await_turns(mine).await?,
            Op::Pause { depth, wait } => self.pause(mine, depth, wait).await?,
            Op::Resume { wait } => self.resume(mine, wait).await?,
            Op::Race { rounds } => self.race(mine, rounds).await?,
            Op::Checkpoint => self.checkpoint(mine).await?,
            Op::Rewind { turns, pick, scope } => self.rewind(mine, turns, pick, scope).await?,
            Op::Fork { count, pick } => return self.fork(mine, count, pick).await,
            Op::Delete => self.delete(mine).await?,
            Op::Policy { idle_seconds } => {
                let life = json!({ "life": { "idle_seconds": idle_seconds } });
                self.host.ok("PATCH", &mine.at(""), Some(&life), None).await?;
            }
            Op::Look => self.look(mine).await?,
        }
        Ok(Vec::new())
    }

    /// The session as it now is.
    pub(super) async fn get(&self, mine: &mut Mine) -> Outcome<Session> {
        let answer = self.host.ok("GET", &mine.at(""), None, None).await?;
        let session: Session =
            serde_json::from_value(answer).map_err(|error| Wrong(error.to_string()))?;
        mine.sandbox = session.sandbox.to_string();
        Ok(session)
    }

    /// Waits until nothing goes on in a session by itself: its last turn's state is kept.
    pub(super) async fn settled(&self, mine: &mut Mine) -> Outcome {
        let started = Instant::now();
        loop {
            self.read_log(mine).await?;
            if is_kept(mine) {
                return Ok(());
            }
            if started.elapsed() > patience() {
                let how = self.condition(mine).await?;
                return wrong(format!("the state after a turn is never kept: {how}"));
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    /// How a session is and how it came to that, for a person to read.
    async fn condition(&self, mine: &mut Mine) -> Outcome<String> {
        let session = self.get(mine).await?;
        self.read_log(mine).await?;
        let last = mine.log[mine.log.len().saturating_sub(16)..].iter();
        let last: String =
            last.map(|event| format!("{} {} {:?}\n", event.seq, event.at, event.body)).collect();
        Ok(format!(
            "{} is {:?}, wanted {:?} ({:?}), in {:?}\nlog:\n{last}server:\n{}",
            session.id,
            session.status,
            session.desired,
            session.desired_reason,
            session.phase,
            self.host.tail()
        ))
    }

    async fn end_of_log(&self, mine: &mut Mine) -> Outcome<Seq> {
        Ok(self.get(mine).await?.last_seq)
    }

    async fn delete(&self, mine: &Mine) -> Outcome {
        let (status, answer) = self.host.ask("DELETE", &mine.at(""), None, None).await?;
        match status {
            // Asked again after a fault, it may be gone.
            204 | 404 => Ok(()),
            _ => wrong(format!("DELETE {}: {status} {answer}", mine.id)),
        }
    }
}

impl Mine {
    fn at(&self, noun: &str) -> String {
        format!("/v1/sessions/{}{noun}", self.id)
    }

    /// How often something came in the way of what runs in it.
    fn shakes(&self) -> u32 {
        self.shakes.load(Ordering::SeqCst)
    }

    /// Another step begins.
    pub(super) fn begin_step(&mut self) {
        self.shakes_before = self.shakes();
    }

    fn shake(&self) {
        self.shakes.fetch_add(1, Ordering::SeqCst);
    }

    /// Prompts that are not over.
    fn open(&self) -> Vec<u32> {
        self.prompts.iter().filter(|prompt| !prompt.over).map(|prompt| prompt.number).collect()
    }

    /// Whether an agent was ever at work in it.
    pub(super) fn has_prompts(&self) -> bool {
        !self.prompts.is_empty()
    }

    /// Whether a turn is under way, as far as we know.
    pub(super) fn is_at_work(&self) -> bool {
        self.prompts.iter().any(|prompt| !prompt.over)
    }
}
