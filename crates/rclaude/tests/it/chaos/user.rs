//! What a user does, and what it must come to.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::Instant,
};

use base64::{Engine as _, engine::general_purpose::STANDARD as BASE64};
use rclaude_types::{
    Depth, Event, EventBody, Exec, ExecFrame, ExecId, ExecState, ExecStream, Phase, RewindScope,
    Seq, Session, Turn, TurnOutcome, TurnState,
};
use serde_json::{Value, json};

use super::{
    followers::Follower,
    host::{Host, LOOK, Outcome, Wrong, patience, wrong},
    model::{Change, Known, Seen, State, Story},
    plan::{Abilities, Op},
    points::is_kept,
};
use crate::platform::script;

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

/// A command's end.
struct Ran {
    code: Option<i32>,
    stdout: String,
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

    /// Begins a command, and begins it again until that is acknowledged.
    async fn begin(&self, mine: &Mine, command: &str) -> Outcome<String> {
        let exec = ExecId::generate().to_string();
        let body = json!({ "command": ["bash", "-c", command] });
        self.host.ok("PUT", &mine.at(&format!("/execs/{exec}")), Some(&body), None).await?;
        Ok(exec)
    }

    async fn exec(&self, mine: &Mine, exec: &str) -> Outcome<Exec> {
        let answer = self.host.ok("GET", &mine.at(&format!("/execs/{exec}")), None, None).await?;
        serde_json::from_value(answer).map_err(|error| Wrong(error.to_string()))
    }

    /// Runs a command to its end.
    async fn run(&self, mine: &mut Mine, command: &str) -> Outcome<Ran> {
        let exec = self.begin(mine, command).await?;
        let started = Instant::now();
        let ended = loop {
            let seen = self.exec(mine, &exec).await?;
            if seen.state != ExecState::Running {
                break seen;
            }
            if started.elapsed() > patience() {
                let how = self.condition(mine).await?;
                return wrong(format!("`{command}` ({exec}) never ends: {how}"));
            }
            tokio::time::sleep(LOOK).await;
        };
        if ended.exit_code != Some(0) {
            return Ok(Ran { code: ended.exit_code, stdout: String::new() });
        }
        let stdout = self.output(mine, &exec).await?;
        Ok(Ran { code: Some(0), stdout })
    }

    /// What a command printed on its standard output so far.
    async fn output(&self, mine: &Mine, exec: &str) -> Outcome<String> {
        let path = mine.at(&format!("/execs/{exec}/output"));
        let (status, text) = self.host.ask_text("GET", &path, None, None).await?;
        if status != 200 {
            return wrong(format!("GET {path}: {status} {text}"));
        }
        let mut bytes: Vec<u8> = Vec::new();
        for line in text.lines() {
            let frame: ExecFrame = serde_json::from_str(line)
                .map_err(|error| Wrong(format!("{path}: {error} in {line}")))?;
            if let ExecFrame::Output { stream: ExecStream::Stdout, offset, data } = frame {
                if usize::try_from(offset).unwrap() != bytes.len() {
                    return wrong(format!("{path}: {offset} where {} was due", bytes.len()));
                }
                bytes.extend(BASE64.decode(data).unwrap());
            }
        }
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }

    async fn change(&self, mine: &mut Mine, file: u8, change: Change) -> Outcome {
        let (file, line) = (format!("f{file}"), format!("w{}", self.numbers.next()));
        let command = match change {
            Change::Write => format!("mkdir -p c && echo {line} > c/{file}"),
            Change::Append => format!("mkdir -p c && echo {line} >> c/{file}"),
            Change::Remove => format!("rm -f c/{file}"),
        };
        let from = self.end_of_log(mine).await?;
        let known = match self.run(mine, &command).await?.code {
            Some(0) => Known::Done,
            _ => Known::Perhaps,
        };
        let until = self.end_of_log(mine).await?;
        mine.story.changed((&file, change, &line), known, (from, until));
        Ok(())
    }

    async fn count(&self, mine: &mut Mine, to: u16) -> Outcome {
        let shakes = mine.shakes_before;
        let command = format!("for i in $(seq {to}); do echo $i; sleep 0.03; done");
        let exec = self.begin(mine, &command).await?;
        mine.counts.push(Count { exec, to, shakes, read: 0, left: false });
        Ok(())
    }

    /// Reads what counting commands printed: at least what they had printed before, and the
    /// numbers in order; all of them in the end, if nothing came in their way.
    pub(super) async fn read_counts(&self, mine: &mut Mine, to_the_end: bool) -> Outcome {
        let now = mine.shakes();
        for place in 0..mine.counts.len() {
            let Count { exec, to, shakes, read, left } = &mine.counts[place];
            let (to, read, whole, left) = (*to, *read, *shakes == now, *left);
            if left {
                continue;
            }
            let exec = exec.clone();
            let started = Instant::now();
            let seen = loop {
                let seen = self.exec(mine, &exec).await?;
                if !to_the_end || seen.state != ExecState::Running {
                    break seen;
                }
                if started.elapsed() > patience() {
                    return wrong(format!("the counting {exec} of {} never ends", mine.id));
                }
                tokio::time::sleep(LOOK).await;
            };
            if seen.state == ExecState::Lost && whole {
                return wrong(format!("the counting {exec} of {} was lost", mine.id));
            }
            if seen.state == ExecState::Lost {
                mine.counts[place].left = true;
                continue;
            }
            let printed = self.output(mine, &exec).await?;
            let expected: String = (1..=to).map(|number| format!("{number}\n")).collect();
            let good = expected.starts_with(&printed) && printed.len() >= read;
            if !good {
                return wrong(format!(
                    "{exec} counted to {to} and printed {printed:?}, {read} read"
                ));
            }
            let done = seen.exit_code == Some(0) && seen.state == ExecState::Exited;
            if done && printed != expected {
                return wrong(format!("{exec} is through and printed {printed:?} up to {to}"));
            }
            if to_the_end && whole && !done {
                return wrong(format!("{exec} of {} did not count to {to}: {seen:?}", mine.id));
            }
            mine.counts[place].read = printed.len();
        }
        Ok(())
    }

    async fn prompt(&self, mine: &mut Mine, slow: bool) -> Outcome {
        let number = self.numbers.next();
        let write = format!("mkdir -p c && echo {number} >> c/{}", Seen::PROMPTS);
        let write = json!({ "tool": "Bash", "input": { "command": write } });
        let done = json!({ "text": "word ".repeat(10) });
        let last = if slow { json!([{ "slow": [10, 0.05] }, done]) } else { json!([done]) };
        let text = format!("{} {}", mark(number), script(&json!([[write], last])));
        let shakes = mine.shakes_before;
        let from = self.end_of_log(mine).await?;
        let (body, key) = (json!({ "text": text }), self.host.key());
        let turn = self.host.ok("POST", &mine.at("/turns"), Some(&body), Some(&key)).await?;
        let turn = turn["id"].as_str().unwrap().to_owned();
        let until = self.end_of_log(mine).await?;
        mine.story.prompted(number, from, until);
        mine.prompts.push(Prompt { number, turn, shakes, over: false });
        Ok(())
    }

    /// Awaits every turn, answering what the agent asks.
    pub(super) async fn await_turns(&self, mine: &mut Mine) -> Outcome {
        for place in 0..mine.prompts.len() {
            if mine.prompts[place].over {
                continue;
            }
            let started = Instant::now();
            let path = mine.at(&format!("/turns/{}", mine.prompts[place].turn));
            let turn = loop {
                let answer = self.host.ok("GET", &path, None, None).await?;
                let turn: Turn = serde_json::from_value(answer).unwrap();
                if turn.state == TurnState::Ended {
                    break turn;
                }
                if turn.state == TurnState::AwaitingInput {
                    self.allow_all(mine).await?;
                }
                // A session that was set aside with a turn under way stays so.
                self.host.ok("POST", &mine.at("/resume"), None, None).await?;
                if started.elapsed() > patience() {
                    let how = self.condition(mine).await?;
                    return wrong(format!("{} of {} never ends: {how}", turn.id, mine.id));
                }
                tokio::time::sleep(LOOK).await;
            };
            self.turn_over(mine, place, &turn)?;
        }
        Ok(())
    }

    fn turn_over(&self, mine: &mut Mine, place: usize, turn: &Turn) -> Outcome {
        let now = mine.shakes();
        let Prompt { number, shakes, .. } = mine.prompts[place];
        mine.prompts[place].over = true;
        let came_between = now - shakes;
        if came_between > 0 {
            let most = u8::try_from(came_between).unwrap_or(u8::MAX).saturating_add(1);
            mine.story.disturbed(number, most);
            return Ok(());
        }
        if turn.outcome != Some(TurnOutcome::Completed) {
            let text = format!("nothing came in the way of {} of {}: {turn:?}", turn.id, mine.id);
            return wrong(format!("{text}\n{}", self.host.tail()));
        }
        self.remembers(mine, number)?;
        mine.story.carried_out(number);
        Ok(())
    }

    /// Whether the agent was told the prompts that it must know, and no others, with this one.
    fn remembers(&self, mine: &Mine, number: u32) -> Outcome {
        let requests = self.host.emulator.requests();
        let texts = requests.iter().rev().map(|request| String::from_utf8_lossy(&request.body));
        let Some(last) = texts.into_iter().find(|text| text.contains(&mark(number))) else {
            return wrong(format!("the model never heard of prompt {number} of {}", mine.id));
        };
        let must = mine.story.memory();
        for other in mine.prompts.iter().map(|prompt| prompt.number).filter(|it| *it != number) {
            let heard = last.contains(&mark(other));
            if must(other).is_some_and(|must| must != heard) {
                let what = if heard { "remembers" } else { "has forgotten" };
                return wrong(format!(
                    "at prompt {number} of {} the agent {what} prompt {other}\n{}",
                    mine.id,
                    self.host.tail()
                ));
            }
        }
        Ok(())
    }

    async fn allow_all(&self, mine: &mut Mine) -> Outcome {
        for approval in self.get(mine).await?.pending_approvals {
            let path = mine.at(&format!("/approvals/{}", approval.id));
            let allow = json!({ "decision": "allow" });
            let (status, answer) = self.host.ask("POST", &path, Some(&allow), None).await?;
            // Asked again after a fault, it may have been answered, or overtaken.
            if !matches!(status, 200 | 409) {
                return wrong(format!("POST {path}: {status} {answer}"));
            }
        }
        Ok(())
    }

    async fn pause(&self, mine: &mut Mine, depth: Depth, wait: bool) -> Outcome {
        let depth = match depth {
            Depth::Archive if !self.can.archive => Depth::Hibernate,
            depth => depth,
        };
        let depth = if self.can.depths { depth } else { Depth::Freeze };
        let body = json!({ "depth": depth });
        let body = self.can.depths.then_some(&body);
        if depth != Depth::Freeze {
            mine.shake();
        }
        self.host.ok("POST", &mine.at("/pause"), body, None).await?;
        if !wait {
            return Ok(());
        }
        self.await_phase(mine, |phase| match depth {
            Depth::Freeze => matches!(phase, Phase::Paused | Phase::Hibernated | Phase::Archived),
            Depth::Hibernate => matches!(phase, Phase::Hibernated | Phase::Archived),
            Depth::Archive => phase == Phase::Archived,
        })
        .await
    }

    async fn resume(&self, mine: &mut Mine, wait: bool) -> Outcome {
        self.host.ok("POST", &mine.at("/resume"), None, None).await?;
        if !wait {
            return Ok(());
        }
        self.await_phase(mine, |phase| phase == Phase::Running).await
    }

    async fn await_phase(&self, mine: &mut Mine, wanted: impl Fn(Phase) -> bool) -> Outcome {
        let started = Instant::now();
        loop {
            let session = self.get(mine).await?;
            // By policy it may be elsewhere by now.
            if wanted(session.phase) || session.desired_reason.is_some() {
                return Ok(());
            }
            if started.elapsed() > patience() {
                let how = self.condition(mine).await?;
                return wrong(format!("it stays as it is: {how}"));
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    async fn race(&self, mine: &Mine, rounds: u8) -> Outcome {
        let again = async |verb: &str| {
            for _ in 0..rounds {
                self.host.ok("POST", &mine.at(verb), None, None).await?;
            }
            Ok(())
        };
        let (one, other) = tokio::join!(again("/pause"), again("/resume"));
        one.and(other)
    }

    async fn checkpoint(&self, mine: &mut Mine) -> Outcome {
        if !self.can.states {
            return Ok(());
        }
        let key = self.host.key();
        let path = mine.at("/checkpoints");
        let (status, made) = self.host.ask("POST", &path, Some(&json!({})), Some(&key)).await?;
        match status {
            200..300 => {
                mine.checkpoints.push(made["id"].as_str().unwrap().to_owned());
                Ok(())
            }
            // It was given up, in words; only something in its way can be why.
            409 if mine.shakes() > 0 => Ok(()),
            _ => wrong(format!("POST {path}: {status} {made}\n{}", self.host.tail())),
        }
    }

    /// The states that a checkpoint may be of.
    async fn states_of(&self, mine: &Mine, checkpoint: &str) -> Outcome<Vec<State>> {
        let made = mine.log.iter().find_map(|event| match &event.body {
            EventBody::CheckpointCreated { checkpoint: it } if it.id.as_str() == checkpoint => {
                Some((it.seq, event.seq))
            }
            _ => None,
        });
        if let Some((seq, created)) = made {
            return Ok(mine.story.at(seq, created));
        }
        // What a fork began with is older than its log; what a rewind led to is told by its entry.
        let path = mine.at(&format!("/checkpoints/{checkpoint}"));
        let shown = self.host.ok("GET", &path, None, None).await?;
        if shown["kind"] == "origin" {
            let seq = shown["seq"].as_i64().unwrap();
            let rewound = mine.log.iter().find(|event| event.seq == seq);
            let rewound = rewound.filter(|it| matches!(it.body, EventBody::Rewound { .. }));
            return Ok(rewound.map_or_else(|| mine.story.origin(), |it| mine.story.made(it.seq)));
        }
        wrong(format!("the log of {} says nothing of {checkpoint}", mine.id))
    }

    async fn rewind(
        &self,
        mine: &mut Mine,
        turns: Option<u8>,
        pick: u8,
        scope: RewindScope,
    ) -> Outcome {
        if !self.can.states {
            return Ok(());
        }
        let mut body = match (turns, mine.checkpoints.is_empty()) {
            (None, false) => {
                let pick = usize::from(pick) % mine.checkpoints.len();
                json!({ "to": mine.checkpoints[pick] })
            }
            (turns, _) => json!({ "turns": turns.unwrap_or(1) }),
        };
        body["scope"] = json!(scope);
        mine.shake();
        let from = self.end_of_log(mine).await?;
        let (path, key) = (mine.at("/rewind"), self.host.key());
        let (status, made) = self.host.ask("POST", &path, Some(&body), Some(&key)).await?;
        match status {
            200..300 => {}
            // Fewer turns than that; or it was given up, in words.
            400 | 422 if body.get("turns").is_some() => return Ok(()),
            409 if mine.shakes() > 1 => return Ok(()),
            _ => {
                return wrong(format!("POST {path} {body}: {status} {made}\n{}", self.host.tail()));
            }
        }
        let before = made["id"].as_str().unwrap().to_owned();
        self.read_log(mine).await?;
        let until = mine.log.last().map_or(0, |event| event.seq);
        let to = mine.log.iter().find_map(|event| match &event.body {
            EventBody::Rewound { to, before: it, .. } if it.as_str() == before => Some(to.clone()),
            _ => None,
        });
        let states = match to {
            None => return wrong(format!("the log of {} tells of no rewind {before}", mine.id)),
            Some(None) => mine.story.origin(),
            Some(Some(to)) => self.states_of(mine, to.as_str()).await?,
        };
        mine.checkpoints.push(before);
        let open = mine.open();
        mine.story.rewound(&states, scope, &open, (from, until));
        for count in &mut mine.counts {
            count.left = true;
        }
        Ok(())
    }

    async fn fork(&self, mine: &mut Mine, count: u8, pick: Option<u8>) -> Outcome<Vec<Mine>> {
        if !self.can.states {
            return Ok(Vec::new());
        }
        let mut body = json!({ "count": count });
        if let Some(pick) = pick.filter(|_| !mine.checkpoints.is_empty()) {
            body["at"] = json!(mine.checkpoints[usize::from(pick) % mine.checkpoints.len()]);
        }
        let (path, key) = (mine.at("/fork"), self.host.key());
        let (status, made) = self.host.ask("POST", &path, Some(&body), Some(&key)).await?;
        match status {
            200..300 => {}
            409 if mine.shakes() > 0 => return Ok(Vec::new()),
            _ => {
                return wrong(format!("POST {path} {body}: {status} {made}\n{}", self.host.tail()));
            }
        }
        self.read_log(mine).await?;
        let list = made.as_array().or_else(|| made["data"].as_array()).cloned();
        let list = list.ok_or_else(|| Wrong(format!("a fork answers {made}")))?;
        if list.len() != usize::from(count) {
            return wrong(format!("{count} forks were asked for: {made}"));
        }
        let mut forks = Vec::new();
        for made in list {
            let at = made["origin"]["checkpoint"].as_str().unwrap_or_default().to_owned();
            let states = self.states_of(mine, &at).await?;
            // It knows what its parent was told; its turns are its own.
            let known = mine.prompts.iter().map(|prompt| Prompt {
                number: prompt.number,
                turn: prompt.turn.clone(),
                shakes: 0,
                over: true,
            });
            let fork = self.take(&made, Story::new(states), mine.asks, 1, known.collect());
            forks.push(fork);
        }
        Ok(forks)
    }

    async fn delete(&self, mine: &Mine) -> Outcome {
        let (status, answer) = self.host.ask("DELETE", &mine.at(""), None, None).await?;
        match status {
            // Asked again after a fault, it may be gone.
            204 | 404 => Ok(()),
            _ => wrong(format!("DELETE {}: {status} {answer}", mine.id)),
        }
    }

    /// Reads all files, and compares.
    pub(super) async fn look(&self, mine: &mut Mine) -> Outcome {
        let started = Instant::now();
        let printed = loop {
            let ran = self.run(mine, Seen::SCRIPT).await?;
            if ran.code == Some(0) {
                break ran.stdout;
            }
            if started.elapsed() > patience() {
                return wrong(format!("the files of {} cannot be read", mine.id));
            }
        };
        let seen = Seen::read(&printed).map_err(Wrong)?;
        let open = mine.open();
        mine.story
            .seen(&seen, &open)
            .map_err(|why| Wrong(format!("{}: {why}\n{}", mine.id, self.host.tail())))
    }

    /// Reads the log's new entries, which must follow on those before, and compares what followers
    /// were shown.
    pub(super) async fn read_log(&self, mine: &mut Mine) -> Outcome {
        loop {
            let after = mine.log.last().map_or(0, |event| event.seq);
            let page = self.page_of_log(mine, after).await?;
            if page.is_empty() {
                break;
            }
            for event in page {
                let due = mine.log.last().map_or(1, |event| event.seq + 1);
                if event.seq != due {
                    return wrong(format!("{}: {event:?} where {due} was due", mine.id));
                }
                if let EventBody::Notice { code, .. } = &event.body
                    && code == "conversation_lost"
                {
                    mine.story.forgot();
                }
                mine.log.push(event);
            }
        }
        for follower in &mine.followers {
            let seen = follower.seen().map_err(Wrong)?;
            let common = seen.len().min(mine.log.len());
            if let Some(at) = (0..common).find(|at| seen[*at] != mine.log[*at]) {
                return wrong(format!(
                    "{}: a follower was shown {:?} and the log has {:?}",
                    mine.id, seen[at], mine.log[at]
                ));
            }
        }
        Ok(())
    }

    async fn page_of_log(&self, mine: &Mine, after: Seq) -> Outcome<Vec<Event>> {
        let path = mine.at(&format!("/events?after={after}&limit=200"));
        let mut page = self.host.ok("GET", &path, None, None).await?;
        serde_json::from_value(page["data"].take()).map_err(|error| Wrong(error.to_string()))
    }

    /// All of what was read of the log is there still, and tells of everything once.
    pub(super) async fn audit(&self, mine: &mut Mine) -> Outcome {
        self.read_log(mine).await?;
        let mut again: Vec<Event> = Vec::new();
        loop {
            let after = again.last().map_or(0, |event| event.seq);
            let page = self.page_of_log(mine, after).await?;
            if page.is_empty() {
                break;
            }
            again.extend(page);
        }
        if again.get(..mine.log.len()) != Some(&mine.log) {
            return wrong(format!("{}: the log is not what it was", mine.id));
        }
        let mut times: BTreeMap<(&str, String), u32> = BTreeMap::new();
        for event in &again {
            let turn = || event.turn.as_ref().map(ToString::to_string).unwrap_or_default();
            let what = match &event.body {
                EventBody::TurnQueued { .. } => ("queues", turn()),
                EventBody::TurnStarted {} => ("starts", turn()),
                EventBody::TurnEnded { .. } => ("ends", turn()),
                EventBody::ApprovalRequested { approval } => ("asks", approval.id.to_string()),
                EventBody::ApprovalResolved { id, .. } => ("resolves", id.to_string()),
                EventBody::ExecStarted { id, .. } => ("begins", id.to_string()),
                EventBody::ExecEnded { id, .. } => ("finishes", id.to_string()),
                EventBody::CheckpointCreated { checkpoint } => ("keeps", checkpoint.id.to_string()),
                EventBody::ToolCall { id, .. } => ("calls", id.clone()),
                EventBody::Forked { session, .. } => ("forks", session.to_string()),
                _ => continue,
            };
            *times.entry(what).or_default() += 1;
        }
        if let Some(((what, id), times)) = times.iter().find(|(_, times)| **times > 1) {
            return wrong(format!("{}: the log {what} {id} {times} times", mine.id));
        }
        for (first, then) in [("queues", "ends"), ("asks", "resolves"), ("begins", "finishes")] {
            for (what, id) in times.keys().filter(|(what, _)| *what == first) {
                if !times.contains_key(&(then, id.clone())) {
                    return wrong(format!(
                        "{}: the log {what} {id} and never {then} it\n{}",
                        mine.id,
                        self.host.tail()
                    ));
                }
            }
        }
        self.list_checkpoints(mine).await
    }

    /// Every checkpoint that was acknowledged is listed.
    async fn list_checkpoints(&self, mine: &Mine) -> Outcome {
        if !self.can.states {
            return Ok(());
        }
        let path = mine.at("/checkpoints?limit=200");
        let list = self.host.ok("GET", &path, None, None).await?;
        let listed: Vec<_> = list["data"].as_array().into_iter().flatten().collect();
        for checkpoint in &mine.checkpoints {
            if !listed.iter().any(|it| it["id"] == checkpoint.as_str()) {
                return wrong(format!("{}: {checkpoint} is not listed in {list}", mine.id));
            }
        }
        Ok(())
    }

    /// Time used only grows, and not faster than time; requests metered.
    pub(super) async fn usage(&self, mine: &mut Mine, clock_was_set: bool) -> Outcome<i64> {
        let usage = self.host.ok("GET", &mine.at("/usage"), None, None).await?;
        let of = |rung: &str| usage["time"][format!("{rung}_micros")].as_i64().unwrap_or(0);
        let used = of("running") + of("frozen") + of("hibernated") + of("archived");
        // What is counted anew with every second is not the same to the microsecond.
        if used < mine.used {
            return wrong(format!("{}: {used} µs used after {} µs", mine.id, mine.used));
        }
        mine.used = used;
        let age = i64::try_from(mine.born.elapsed().as_micros()).unwrap() + 2_000_000;
        if used > age && !clock_was_set {
            return wrong(format!("{}: {used} µs used in {age} µs: {usage}", mine.id));
        }
        Ok(usage["requests"].as_i64().unwrap_or(0))
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

/// Words by which a prompt is found again in what the model is told.
fn mark(number: u32) -> String {
    format!("(prompt number {number})")
}
