//! Setting sessions aside, and having them back.

use std::time::Instant;

use rclaude_types::{Depth, Phase};
use serde_json::json;

use super::{Desk, Mine};
use crate::chaos::host::{LOOK, Outcome, patience, wrong};

impl Desk {
    pub(super) async fn pause(&self, mine: &mut Mine, depth: Depth, wait: bool) -> Outcome {
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

    pub(super) async fn resume(&self, mine: &mut Mine, wait: bool) -> Outcome {
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

    pub(super) async fn race(&self, mine: &Mine, rounds: u8) -> Outcome {
        let again = async |verb: &str| {
            for _ in 0..rounds {
                self.host.ok("POST", &mine.at(verb), None, None).await?;
            }
            Ok(())
        };
        let (one, other) = tokio::join!(again("/pause"), again("/resume"));
        one.and(other)
    }
}
