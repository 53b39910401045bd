//! Keeping states, going back to them, and making other sessions of them.

use rclaude_types::{EventBody, RewindScope};
use serde_json::json;

use super::{Desk, Mine, Prompt};
use crate::chaos::{
    host::{Outcome, Wrong, wrong},
    model::{State, Story},
};

impl Desk {
    pub(super) async fn checkpoint(&self, mine: &mut Mine) -> Outcome {
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

    pub(super) async fn rewind(
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

    pub(super) async fn fork(
        &self,
        mine: &mut Mine,
        count: u8,
        pick: Option<u8>,
    ) -> Outcome<Vec<Mine>> {
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
}
