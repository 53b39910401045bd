//! Prompts, and what must come of them.

use std::time::Instant;

use rclaude_types::{Turn, TurnOutcome, TurnState};
use serde_json::json;

use super::{Desk, Mine, Prompt};
use crate::{
    chaos::{
        host::{LOOK, Outcome, patience, wrong},
        model::Seen,
    },
    platform::script,
};

impl Desk {
    pub(super) async fn prompt(&self, mine: &mut Mine, slow: bool) -> Outcome {
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
    pub(in super::super) async fn await_turns(&self, mine: &mut Mine) -> Outcome {
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
}

/// Words by which a prompt is found again in what the model is told.
fn mark(number: u32) -> String {
    format!("(prompt number {number})")
}
