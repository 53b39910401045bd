//! What happens in a run: drawn from a seed, and nothing else, so that the same seed is the same
//! run. How long a fault waits is part of the plan.

use std::time::Duration;

use rclaude_types::{Depth, RewindScope};

use super::random::Random;

/// Sessions of one run, by their place. A place may be empty, or taken again after a delete.
pub(super) const SLOTS: u8 = 4;
/// Files that commands write in a session.
const FILES: u64 = 4;

/// What a user does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Op {
    /// Makes a session.
    New { repository: bool, asks: bool, followers: u8 },
    /// A command that writes a file anew.
    Write { file: u8 },
    /// A command that adds a line to a file.
    Append { file: u8 },
    /// A command that removes a file.
    Remove { file: u8 },
    /// Begins a command that counts, a number every few milliseconds.
    Count { to: u16 },
    /// Reads what the counting commands printed.
    ReadCounts,
    /// A prompt whose agent writes a line; awaits its end or does not.
    Prompt { wait: bool, slow: bool },
    /// Awaits the end of every turn.
    AwaitTurns,
    /// Sets it aside; awaits that or does not.
    Pause { depth: Depth, wait: bool },
    /// Wakes it; awaits that or does not.
    Resume { wait: bool },
    /// Two clients at once, of which one pauses and the other resumes, again and again.
    Race { rounds: u8 },
    /// Keeps its state.
    Checkpoint,
    /// Takes it back, to one of its checkpoints or by turns.
    Rewind { turns: Option<u8>, pick: u8, scope: RewindScope },
    /// Makes sessions of its present state, or of one of its checkpoints, in the places after it.
    Fork { count: u8, pick: Option<u8> },
    /// Ends it.
    Delete,
    /// Sets how long it stays awake by itself.
    Policy { idle_seconds: u8 },
    /// Reads all its files.
    Look,
}

impl Op {
    /// Whether it breaks off what an agent is at.
    pub(super) fn ends_work(self) -> bool {
        matches!(self, Self::Pause { .. } | Self::Race { .. } | Self::Rewind { .. } | Self::Delete)
    }
}

/// What goes wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fault {
    /// The server is killed, and another started.
    KillServer,
    /// The supervisor is killed.
    KillSupervisor,
    /// The daemon in a sandbox is killed, and with it all that runs there.
    KillDaemon,
    /// The agent is killed.
    KillAgent,
    /// Server, supervisor and all daemons are killed, as when the host loses power.
    Reboot,
    /// Followers lose their connections.
    CutFollowers,
    /// The server stands still for so many milliseconds.
    StallServer(u16),
    /// The supervisor does.
    StallSupervisor(u16),
    /// The daemon in a sandbox does.
    StallDaemon(u16),
    /// The disk is full for so many milliseconds.
    FillDisk(u16),
    /// The snapshot store cannot be reached for so many milliseconds.
    HideSnapshots(u16),
    /// The server's clock is set on, or back, by so many minutes.
    SetClock(i32),
}

/// A fault so long after the beginning of the step it comes with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Timed {
    pub(super) fault: Fault,
    pub(super) slot: u8,
    pub(super) after: Duration,
}

/// One thing done, and what goes wrong meanwhile.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Step {
    pub(super) slot: u8,
    pub(super) op: Op,
    pub(super) fault: Option<Timed>,
}

/// What the host and the server let a run do.
#[derive(Debug, Clone, Copy, Default)]
#[expect(clippy::struct_excessive_bools, reason = "each is there or not, by itself")]
pub(super) struct Abilities {
    /// The API takes a pause's depth.
    pub(super) depths: bool,
    /// There is a snapshot store.
    pub(super) archive: bool,
    /// Checkpoints, rewinds and forks can be had.
    pub(super) states: bool,
    /// The data lies on a small file system of the run's own.
    pub(super) small_disk: bool,
    /// The server's clock can be set.
    pub(super) clock: bool,
}

/// A run of so many steps. Whatever the host cannot do is drawn all the same and left out when its
/// time comes, so that a seed means the same everywhere.
pub(super) fn draw(seed: u64, steps: usize) -> Vec<Step> {
    let mut random = Random::new(seed);
    let mut plan = vec![first(&mut random)];
    while plan.len() < steps {
        plan.push(step(&mut random));
    }
    plan
}

fn first(random: &mut Random) -> Step {
    let (slot, op) = (0, new(random));
    Step { slot, op, fault: None }
}

fn new(random: &mut Random) -> Op {
    Op::New {
        repository: random.once_in(4),
        asks: random.once_in(4),
        followers: u8::try_from(random.below(4)).unwrap(),
    }
}

fn small(random: &mut Random, end: u64) -> u8 {
    u8::try_from(random.below(end)).unwrap()
}

fn step(random: &mut Random) -> Step {
    // The first places are busier than the last, so that some sessions see a lot.
    let slot = random.weighted(&[(5, 0), (3, 1), (1, 2), (1, 3)]);
    let file = small(random, FILES);
    let wait = random.once_in(2);
    let depth = random.weighted(&[(4, Depth::Freeze), (3, Depth::Hibernate), (2, Depth::Archive)]);
    let scope = random.weighted(&[
        (3, RewindScope::All),
        (1, RewindScope::Files),
        (1, RewindScope::Conversation),
    ]);
    let (turns, pick) = (small(random, 2) + 1, small(random, 8));
    let turns = wait.then_some(turns);
    let count = small(random, 3) + 1;
    let to = u16::from(small(random, 60)) + 10;
    let new = new(random);
    let op = random.weighted(&[
        (5, new),
        (4, Op::Write { file }),
        (8, Op::Append { file }),
        (2, Op::Remove { file }),
        (3, Op::Count { to }),
        (3, Op::ReadCounts),
        (8, Op::Prompt { wait, slow: file == 0 }),
        (2, Op::AwaitTurns),
        (6, Op::Pause { depth, wait }),
        (4, Op::Resume { wait }),
        (2, Op::Race { rounds: count * 2 }),
        (4, Op::Checkpoint),
        (4, Op::Rewind { turns, pick, scope }),
        (2, Op::Fork { count, pick: wait.then_some(pick) }),
        (2, Op::Delete),
        (1, Op::Policy { idle_seconds: count }),
        (4, Op::Look),
    ]);
    Step { slot, op, fault: random.once_in(2).then(|| timed(random, slot)) }
}

fn timed(random: &mut Random, slot: u8) -> Timed {
    let long = u16::try_from(50 + random.below(1500)).unwrap();
    let minutes = i32::try_from(random.below(3 * 24 * 60)).unwrap() - 36 * 60;
    let fault = random.weighted(&[
        (8, Fault::KillServer),
        (3, Fault::KillSupervisor),
        (4, Fault::KillDaemon),
        (3, Fault::KillAgent),
        (2, Fault::Reboot),
        (3, Fault::CutFollowers),
        (2, Fault::StallServer(long)),
        (2, Fault::StallSupervisor(long)),
        (2, Fault::StallDaemon(long)),
        (3, Fault::FillDisk(long)),
        (2, Fault::HideSnapshots(long)),
        (2, Fault::SetClock(minutes)),
    ]);
    // Mostly within what the step takes, and sometimes at its very beginning.
    let after = random.weighted(&[(1, 1), (3, 30), (3, 200), (2, 1000)]);
    let after = Duration::from_millis(random.below(after));
    let slot = if random.once_in(4) { small(random, u64::from(SLOTS)) } else { slot };
    Timed { fault, slot, after }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_seed_is_the_same_plan_and_a_longer_one_begins_with_it() {
        let plan = draw(7, 40);
        assert_eq!(plan, draw(7, 40));
        assert_eq!(plan[..20], draw(7, 20));
        assert_ne!(plan, draw(8, 40));
    }
}
