//! Commands: some change files, some count.

use std::time::Instant;

use base64::{Engine as _, engine::general_purpose::STANDARD as BASE64};
use rclaude_types::{Exec, ExecFrame, ExecId, ExecState, ExecStream};
use serde_json::json;

use super::{Count, Desk, Mine};
use crate::chaos::{
    host::{LOOK, Outcome, Wrong, patience, wrong},
    model::{Change, Known},
};

/// A command's end.
pub(super) struct Ran {
    pub(super) code: Option<i32>,
    pub(super) stdout: String,
}

impl Desk {
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
    pub(super) async fn run(&self, mine: &mut Mine, command: &str) -> Outcome<Ran> {
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

    pub(super) async fn change(&self, mine: &mut Mine, file: u8, change: Change) -> Outcome {
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

    pub(super) async fn count(&self, mine: &mut Mine, to: u16) -> Outcome {
        let shakes = mine.shakes_before;
        let command = format!("for i in $(seq {to}); do echo $i; sleep 0.03; done");
        let exec = self.begin(mine, &command).await?;
        mine.counts.push(Count { exec, to, shakes, read: 0, left: false });
        Ok(())
    }

    /// Reads what counting commands printed: at least what they had printed before, and the
    /// numbers in order; all of them in the end, if nothing came in their way.
    pub(in super::super) async fn read_counts(&self, mine: &mut Mine, to_the_end: bool) -> Outcome {
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
                    let how = self.condition(mine).await?;
                    return wrong(format!("the counting {exec} never ends: {how}"));
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
}
