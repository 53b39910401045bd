//! Looking at what there is, and holding it against what must be.

use std::{collections::BTreeMap, time::Instant};

use rclaude_types::{Event, EventBody, Seq};

use super::{Desk, Mine};
use crate::chaos::{
    host::{Outcome, Wrong, patience, wrong},
    model::Seen,
};

impl Desk {
    /// Reads all files, and compares.
    pub(in super::super) async fn look(&self, mine: &mut Mine) -> Outcome {
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
    pub(in super::super) async fn read_log(&self, mine: &mut Mine) -> Outcome {
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
    pub(in super::super) async fn audit(&self, mine: &mut Mine) -> Outcome {
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
    pub(in super::super) async fn usage(
        &self,
        mine: &mut Mine,
        clock_was_set: bool,
    ) -> Outcome<i64> {
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
