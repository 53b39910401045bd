//! The server dies at every single place that matters, one after the other (`crash.rs` of the
//! server has them), and the next one finishes what was begun: once, and with nothing lost.

use std::{collections::BTreeSet, fs, sync::Arc, time::Duration};

use rclaude_types::{Depth, EventBody, Phase, RewindScope};

use super::{
    host::{Host, LOOK, Outcome, Wrong, members, wrong},
    plan::Op,
    user::{Desk, Mine, Numbers},
};
use crate::platform::{destroy, kill, repository_root};

/// How long an armed server may take to come to its point.
const COMING: Duration = Duration::from_secs(40);

/// What leads to some points.
struct Journey {
    /// Done before the server is armed.
    first: &'static [Op],
    then: Then,
    points: &'static [&'static str],
}

/// What is done while the server is armed.
#[derive(Clone, Copy)]
enum Then {
    /// A session is made, and a command run in it.
    New,
    /// These, in a session that is there.
    Do(&'static [Op]),
    /// The same in one whose agent asks.
    DoAsking(&'static [Op]),
    /// Its idle agent is killed.
    AgentDies,
    /// Its sandbox vanishes with all its files.
    Vanishes,
    /// It goes to sleep by itself.
    FallsAsleep,
}

const APPEND: Op = Op::Append { file: 0 };
const PROMPT: Op = Op::Prompt { wait: true, slow: false };
const RESUME: Op = Op::Resume { wait: true };
const FREEZE: Op = Op::Pause { depth: Depth::Freeze, wait: true };
const HIBERNATE: Op = Op::Pause { depth: Depth::Hibernate, wait: true };
const ARCHIVE: Op = Op::Pause { depth: Depth::Archive, wait: true };
const REWIND: Op = Op::Rewind { turns: None, pick: 0, scope: RewindScope::All };
const REWIND_FILES: Op = Op::Rewind { turns: None, pick: 0, scope: RewindScope::Files };
const FORK: Op = Op::Fork { count: 2, pick: None };

const BEGINNINGS: &[Journey] = &[
    Journey {
        first: &[],
        then: Then::New,
        points: &[
            "before session",
            "after session",
            "before create",
            "after create",
            "before starting is written",
            "after starting is written",
            "before running is written",
            "after running is written",
        ],
    },
    Journey {
        first: &[APPEND],
        then: Then::Do(&[Op::Delete]),
        points: &[
            "before destroying is written",
            "after destroying is written",
            "before destroy",
            "after destroy",
            "before destroyed is written",
            "after destroyed is written",
            "before a deleted session is forgotten",
            "after a deleted session is forgotten",
        ],
    },
];

const TURNS: &[Journey] = &[
    Journey {
        first: &[APPEND],
        then: Then::Do(&[PROMPT]),
        points: &["before launch", "after launch", "before start", "after start"],
    },
    Journey {
        first: &[PROMPT],
        then: Then::Do(&[PROMPT]),
        points: &[
            "before prompt",
            "after prompt",
            "before begin",
            "after begin",
            "before end",
            "after end",
        ],
    },
    Journey {
        first: &[],
        then: Then::DoAsking(&[PROMPT]),
        points: &["before answer", "after answer"],
    },
    Journey { first: &[PROMPT], then: Then::AgentDies, points: &["before bury", "after bury"] },
];

const PAUSES: &[Journey] = &[
    Journey {
        first: &[APPEND, Op::Count { to: 40 }],
        then: Then::Do(&[FREEZE]),
        points: &[
            "before wish",
            "after wish",
            "before pausing is written",
            "after pausing is written",
            "before freeze",
            "after freeze",
            "before paused is written",
            "after paused is written",
        ],
    },
    Journey {
        first: &[APPEND, Op::Count { to: 40 }, FREEZE],
        then: Then::Do(&[RESUME]),
        points: &[
            "before resuming is written",
            "after resuming is written",
            "before resume",
            "after resume",
        ],
    },
    Journey {
        first: &[APPEND],
        then: Then::FallsAsleep,
        points: &["before policy", "after policy"],
    },
];

const REST: &[Journey] = &[
    Journey {
        first: &[PROMPT, APPEND],
        then: Then::Do(&[HIBERNATE]),
        points: &[
            "before hibernating is written",
            "after hibernating is written",
            "before stop",
            "after stop",
            "before hibernated is written",
            "after hibernated is written",
        ],
    },
    Journey {
        first: &[PROMPT, APPEND, HIBERNATE],
        then: Then::Do(&[RESUME]),
        points: &[
            "before resuming is written",
            "after resuming is written",
            "before resume",
            "after resume",
        ],
    },
    Journey {
        first: &[PROMPT, APPEND],
        then: Then::Do(&[ARCHIVE]),
        points: &[
            "before store",
            "after store",
            "before archiving is written",
            "after archiving is written",
            "before clear",
            "after clear",
            "before archived is written",
            "after archived is written",
        ],
    },
    Journey {
        first: &[PROMPT, APPEND, ARCHIVE],
        then: Then::Do(&[RESUME]),
        points: &["before reincarnate", "after reincarnate", "before create", "after create"],
    },
];

const STATES: &[Journey] = &[
    Journey {
        first: &[APPEND],
        then: Then::Do(&[PROMPT]),
        points: &[
            "before prepare seal",
            "after prepare seal",
            "before seal",
            "after seal",
            "before checkpoint",
            "after checkpoint",
        ],
    },
    Journey {
        first: &[PROMPT],
        then: Then::Vanishes,
        points: &["before reincarnate", "after reincarnate"],
    },
];

const PASTS: &[Journey] = &[
    Journey {
        first: &[PROMPT, APPEND, Op::Checkpoint, APPEND, PROMPT],
        then: Then::Do(&[REWIND]),
        points: &[
            "before want",
            "after want",
            "before rewind",
            "after rewind",
            "before sweep",
            "after sweep",
        ],
    },
    Journey {
        first: &[PROMPT, APPEND, Op::Checkpoint, APPEND, PROMPT],
        then: Then::Do(&[REWIND_FILES]),
        points: &["before graft", "after graft"],
    },
    Journey {
        first: &[PROMPT, APPEND],
        then: Then::Do(&[FORK]),
        points: &["before fork", "after fork"],
    },
];

const ALL: [&[Journey]; 6] = [BEGINNINGS, TURNS, PAUSES, REST, STATES, PASTS];

/// Goes through journeys that the server can make.
fn go_through(journeys: &[Journey]) {
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    let done = runtime.unwrap().block_on(async {
        let host = Arc::new(Host::start(None).await?);
        let can = host.abilities().await?;
        let desk = Desk { host, can, numbers: Numbers::default() };
        for journey in journeys.iter().filter(|journey| journey.is_possible(&desk)) {
            for point in journey.points {
                journey
                    .through(&desk, point)
                    .await
                    .map_err(|Wrong(why)| Wrong(format!("the server died {point}: {why}")))?;
            }
        }
        desk.host.end().await
    });
    if let Err(Wrong(why)) = done {
        panic!("{why}");
    }
}

impl Journey {
    fn is_possible(&self, desk: &Desk) -> bool {
        let then = match self.then {
            Then::Do(ops) | Then::DoAsking(ops) => ops,
            _ => &[],
        };
        self.first.iter().chain(then).all(|op| match op {
            Op::Pause { depth: Depth::Hibernate, .. } => desk.can.depths,
            Op::Pause { depth: Depth::Archive, .. } => desk.can.depths && desk.can.archive,
            Op::Checkpoint | Op::Rewind { .. } | Op::Fork { .. } => desk.can.states,
            _ => true,
        })
    }

    async fn through(&self, desk: &Desk, point: &str) -> Outcome {
        let mut mine = None;
        if !matches!(self.then, Then::New) {
            let asks = matches!(self.then, Then::DoAsking(_));
            let mut made = desk.new_session(false, asks, 1).await?;
            for op in self.first {
                desk.act(&mut made, *op).await?;
            }
            // What follows by itself is over, so that the armed server comes to this journey's.
            desk.settled(&mut made).await?;
            if matches!(self.then, Then::Vanishes) {
                desk.host.down();
                vanish(&desk.host, &made.sandbox);
            }
            mine = Some(made);
        }
        desk.host.arm(point).await?;
        let (done, died) = tokio::join!(self.act(desk, mine), desk.host.die(COMING));
        died?;
        let (mut mine, forks) = done?;
        if !matches!(self.then, Then::Do([Op::Delete])) {
            desk.act(&mut mine, RESUME).await?;
            for mut mine in forks.into_iter().chain([mine]) {
                finish(desk, &mut mine).await?;
            }
        }
        nothing_is_left(desk).await
    }

    async fn act(&self, desk: &Desk, mine: Option<Mine>) -> Outcome<(Mine, Vec<Mine>)> {
        let Some(mut mine) = mine else {
            let mut mine = desk.new_session(false, false, 1).await?;
            desk.act(&mut mine, APPEND).await?;
            return Ok((mine, Vec::new()));
        };
        let mut forks = Vec::new();
        match self.then {
            Then::Do(ops) | Then::DoAsking(ops) => {
                for op in ops {
                    forks.extend(desk.act(&mut mine, *op).await?);
                }
            }
            Then::AgentDies => {
                let agent = members(&mine.sandbox, "claude");
                agent.into_iter().for_each(kill);
            }
            Then::FallsAsleep => {
                // A follower keeps it awake.
                mine.followers.clear();
                desk.act(&mut mine, Op::Policy { idle_seconds: 1 }).await?;
            }
            Then::New | Then::Vanishes => {}
        }
        Ok((mine, forks))
    }
}

/// All is as its owner left it, still works, and goes.
async fn finish(desk: &Desk, mine: &mut Mine) -> Outcome {
    desk.act(mine, Op::Policy { idle_seconds: 0 }).await?;
    desk.act(mine, RESUME).await?;
    desk.await_turns(mine).await?;
    desk.look(mine).await?;
    let more = if mine.has_prompts() { PROMPT } else { APPEND };
    desk.act(mine, more).await?;
    desk.read_counts(mine, true).await?;
    desk.look(mine).await?;
    desk.settled(mine).await?;
    desk.audit(mine).await?;
    desk.usage(mine, false).await?;
    desk.act(mine, Op::Delete).await.map(drop)
}

async fn nothing_is_left(desk: &Desk) -> Outcome {
    let started = std::time::Instant::now();
    while !desk.host.sandboxes().is_empty() {
        if started.elapsed() > COMING {
            let sandboxes = desk.host.sandboxes();
            return wrong(format!("left: {sandboxes:?}\n{}", desk.host.tail()));
        }
        tokio::time::sleep(LOOK).await;
    }
    Ok(())
}

/// Loses a sandbox.
fn vanish(host: &Host, sandbox: &str) {
    destroy(&host.data().join("engine/sandboxes").join(sandbox));
}

/// Whether a state was kept since the last turn ended.
pub(super) fn is_kept(mine: &Mine) -> bool {
    let last = |wanted: fn(&EventBody) -> bool| {
        mine.log.iter().rev().find(|event| wanted(&event.body)).map(|event| event.seq)
    };
    let ended = last(|body| matches!(body, EventBody::TurnEnded { .. }));
    let kept = last(|body| {
        matches!(body, EventBody::CheckpointCreated { .. })
            || matches!(body, EventBody::Notice { code, .. } if code == "checkpoint_failed")
    });
    kept >= ended
}

#[test]
fn a_server_that_dies_anywhere_in_a_sessions_beginning_or_end_is_made_up_for() {
    go_through(BEGINNINGS);
}

#[test]
fn a_server_that_dies_anywhere_in_a_turn_is_made_up_for() {
    go_through(TURNS);
}

#[test]
fn a_server_that_dies_anywhere_in_a_pause_is_made_up_for() {
    go_through(PAUSES);
}

#[test]
fn a_server_that_dies_anywhere_on_the_way_down_or_up_the_ladder_is_made_up_for() {
    go_through(REST);
}

#[test]
fn a_server_that_dies_anywhere_in_a_checkpoint_is_made_up_for() {
    go_through(STATES);
}

#[test]
fn a_server_that_dies_anywhere_in_a_rewind_or_a_fork_is_made_up_for() {
    go_through(PASTS);
}

/// What runs found, as short as it became.
#[test]
fn a_command_that_ran_when_its_session_was_rewound_has_ended() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let done: Outcome = runtime.block_on(async {
        let host = Arc::new(Host::start(None).await?);
        let can = host.abilities().await?;
        let desk = Desk { host, can, numbers: Numbers::default() };
        let mut mine = desk.new_session(false, false, 1).await?;
        for op in [APPEND, Op::Checkpoint, Op::Count { to: 10_000 }, REWIND] {
            desk.act(&mut mine, op).await?;
        }
        finish(&desk, &mut mine).await?;
        nothing_is_left(&desk).await?;
        desk.host.end().await
    });
    if let Err(Wrong(why)) = done {
        panic!("{why}");
    }
}

#[test]
fn every_point_of_the_server_is_on_some_journey_and_every_journey_leads_to_a_point() {
    let tested: BTreeSet<String> = ALL
        .iter()
        .flat_map(|journeys| journeys.iter())
        .flat_map(|journey| journey.points.iter().map(ToString::to_string))
        .collect();
    let mut declared = BTreeSet::new();
    let mut rooms = vec![repository_root().join("crates/server/src")];
    while let Some(room) = rooms.pop() {
        for entry in fs::read_dir(room).unwrap().flatten() {
            if entry.file_type().unwrap().is_dir() {
                rooms.push(entry.path());
                continue;
            }
            let text = fs::read_to_string(entry.path()).unwrap();
            let points = text.split("crash::point(\"").skip(1);
            declared.extend(points.map(|point| point.split('"').next().unwrap().to_owned()));
        }
    }
    for phase in Phase::ALL {
        // Nothing is written of what nobody was asked for, and what fails is no journey.
        if !matches!(phase, Phase::Pending | Phase::Failed(_)) {
            let name = format!("{phase:?}").to_lowercase();
            declared.extend(["before", "after"].map(|when| format!("{when} {name} is written")));
        }
    }
    assert_eq!(declared, tested);
}
