//! When a session goes down a rung by itself, as pure functions over plain values.
//!
//! The session's own [`LifePolicy`] comes first, then the server's [`Policy`]. Nothing here ever
//! ends a session or loses anything of it: the worst that happens is that it waits.

use std::time::Duration;

use rclaude_types::{Desired, LifePolicy, Phase, TimeUsage, Timestamp};

/// What holds for sessions that do not say otherwise, and for the server as a whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Policy {
    /// Without agent work, commands or viewers for so long, a session freezes; zero: never.
    pub idle: Duration,
    /// Frozen for so long, it hibernates; zero: never.
    pub hibernate: Duration,
    /// Hibernated for so long, it is archived; zero: never.
    pub archive: Duration,
    /// While it works, a checkpoint so often; zero: only when a turn ends.
    pub checkpoint: Duration,
    /// With less of the host's memory free than so many thousandths, frozen sessions hibernate.
    pub free_memory: u32,
    /// With less of the disk free than so many thousandths, hibernated sessions are archived.
    pub free_disk: u32,
    /// Automatic checkpoints that are kept of each session.
    pub keep: u32,
    /// Sessions there may be.
    pub sessions: u32,
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            idle: Duration::from_mins(5),
            hibernate: Duration::from_mins(30),
            archive: Duration::from_hours(24 * 14),
            checkpoint: Duration::from_mins(5),
            free_memory: 100,
            free_disk: 100,
            keep: 50,
            sessions: 10_000,
        }
    }
}

/// Frozen or hibernated for less than this, a session is left alone by want of room.
const SETTLING: Duration = Duration::from_mins(1);

/// How scarce the host's room is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Pressure {
    /// Memory is short.
    pub memory: bool,
    /// Disk is short.
    pub disk: bool,
}

/// What a session's agent does.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum AgentWork {
    /// Nothing.
    #[default]
    None,
    /// It waits for an answer.
    Asking,
    /// It works, or a prompt waits for it.
    Working,
}

/// What a session is doing that keeps it awake.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Business {
    /// Its agent.
    pub agent: AgentWork,
    /// A command runs.
    pub commands: bool,
    /// Somebody watches.
    pub viewers: bool,
}

/// A change of what is wanted that nobody asked for: what, and the word for why.
pub type Change = (Desired, &'static str);

impl Policy {
    /// How long without business before this session freezes; `None`: never.
    pub fn idle(&self, own: &LifePolicy) -> Option<Duration> {
        let idle = own.idle_seconds.map_or(self.idle, |s| Duration::from_secs(s.into()));
        (!idle.is_zero()).then_some(idle)
    }

    /// How often this session is kept while it works; `None`: only when a turn ends.
    pub fn checkpoint(&self, own: &LifePolicy) -> Option<Duration> {
        let own = own.checkpoint_seconds.map(|s| Duration::from_secs(s.into()));
        let every = own.unwrap_or(self.checkpoint);
        (!every.is_zero()).then_some(every)
    }

    /// What a running session that has had no business for `idle` comes to.
    pub fn of_running(
        &self,
        own: &LifePolicy,
        business: Business,
        idle: Duration,
        since_set: Duration,
    ) -> Option<Change> {
        let kept_alive =
            own.keep_alive_seconds.is_some_and(|s| since_set < Duration::from_secs(s.into()));
        let busy = match business.agent {
            AgentWork::Working => true,
            AgentWork::Asking => !own.freeze_busy,
            AgentWork::None => business.commands && !own.freeze_busy,
        };
        let long = self.idle(own).is_some_and(|limit| idle >= limit);
        (long && !busy && !business.viewers && !kept_alive).then_some((Desired::Paused, "idle"))
    }

    /// What a session that has been on its rung for `since` comes to.
    pub fn of_resting(&self, phase: Phase, since: Duration, pressure: Pressure) -> Option<Change> {
        let old = |limit: Duration| !limit.is_zero() && since >= limit;
        let pressed = |pressed: bool| pressed && since >= SETTLING;
        match phase {
            Phase::Paused if old(self.hibernate) => Some((Desired::Hibernated, "age")),
            Phase::Paused if pressed(pressure.memory) => Some((Desired::Hibernated, "pressure")),
            Phase::Hibernated if old(self.archive) => Some((Desired::Archived, "age")),
            Phase::Hibernated if pressed(pressure.disk) => Some((Desired::Archived, "pressure")),
            _ => None,
        }
    }
}

/// The allowance that a session has used up, by its word.
pub fn exhausted(own: &LifePolicy, age: Duration, used: TimeUsage) -> Option<&'static str> {
    let running = Duration::from_micros(u64::try_from(used.running_micros).unwrap_or(0));
    if own.ttl_seconds.is_some_and(|limit| age >= Duration::from_secs(limit.into())) {
        Some("ttl")
    } else if own.max_running_seconds.is_some_and(|s| running >= Duration::from_secs(s.into())) {
        Some("max_running")
    } else {
        None
    }
}

/// Time from one moment to another; none if the clock was set back between them.
pub fn elapsed(since: Timestamp, now: Timestamp) -> Duration {
    Duration::from_micros(u64::try_from(now.as_micros() - since.as_micros()).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: Duration = Duration::from_mins(1);

    fn running(own: &LifePolicy, business: Business, idle: Duration) -> Option<Change> {
        Policy::default().of_running(own, business, idle, Duration::from_hours(1))
    }

    #[test]
    fn five_minutes_without_business_freeze_a_session_and_any_business_does_not() {
        let own = LifePolicy::default();
        assert_eq!(running(&own, Business::default(), 4 * MINUTE), None);
        assert_eq!(running(&own, Business::default(), 5 * MINUTE), Some((Desired::Paused, "idle")));
        for business in [
            Business { agent: AgentWork::Working, ..Business::default() },
            Business { agent: AgentWork::Asking, ..Business::default() },
            Business { commands: true, ..Business::default() },
            Business { viewers: true, ..Business::default() },
        ] {
            assert_eq!(running(&own, business, 60 * MINUTE), None, "{business:?}");
        }
    }

    #[test]
    fn a_session_told_so_freezes_with_a_command_or_a_question_but_never_at_work() {
        let own = LifePolicy { freeze_busy: true, ..LifePolicy::default() };
        let commands = Business { commands: true, ..Business::default() };
        let asking = Business { agent: AgentWork::Asking, ..Business::default() };
        let working = Business { agent: AgentWork::Working, ..Business::default() };
        assert!(running(&own, commands, 5 * MINUTE).is_some());
        assert!(running(&own, asking, 5 * MINUTE).is_some());
        assert!(running(&own, working, 5 * MINUTE).is_none());
    }

    #[test]
    fn its_own_limit_beats_the_servers_and_zero_means_never() {
        let quick = LifePolicy { idle_seconds: Some(1), ..LifePolicy::default() };
        let never = LifePolicy { idle_seconds: Some(0), ..LifePolicy::default() };
        assert!(running(&quick, Business::default(), Duration::from_secs(1)).is_some());
        assert!(running(&never, Business::default(), 10_000 * MINUTE).is_none());
    }

    #[test]
    fn kept_alive_it_stays_until_that_is_over() {
        let own = LifePolicy { keep_alive_seconds: Some(7200), ..LifePolicy::default() };
        let policy = Policy::default();
        let none = Business::default();
        assert!(policy.of_running(&own, none, 60 * MINUTE, 119 * MINUTE).is_none());
        assert!(policy.of_running(&own, none, 60 * MINUTE, 120 * MINUTE).is_some());
    }

    #[test]
    fn the_ladder_goes_down_by_age_and_by_want_of_room() {
        let policy = Policy::default();
        let no = Pressure::default();
        let (memory, disk) =
            (Pressure { memory: true, disk: false }, Pressure { memory: false, disk: true });
        let hibernate = |why| Some((Desired::Hibernated, why));
        let archive = |why| Some((Desired::Archived, why));
        assert_eq!(policy.of_resting(Phase::Paused, 29 * MINUTE, no), None);
        assert_eq!(policy.of_resting(Phase::Paused, 30 * MINUTE, no), hibernate("age"));
        assert_eq!(policy.of_resting(Phase::Paused, 2 * MINUTE, memory), hibernate("pressure"));
        assert_eq!(policy.of_resting(Phase::Paused, MINUTE / 2, memory), None);
        assert_eq!(policy.of_resting(Phase::Paused, 2 * MINUTE, disk), None);
        assert_eq!(policy.of_resting(Phase::Hibernated, 2 * MINUTE, disk), archive("pressure"));
        assert_eq!(policy.of_resting(Phase::Hibernated, 14 * 24 * 60 * MINUTE, no), archive("age"));
        assert_eq!(policy.of_resting(Phase::Running, 14 * 24 * 60 * MINUTE, memory), None);
    }

    #[test]
    fn allowances_are_of_age_and_of_running_time() {
        let own = LifePolicy {
            ttl_seconds: Some(100),
            max_running_seconds: Some(10),
            ..LifePolicy::default()
        };
        let ran = |seconds: i64| TimeUsage {
            running_micros: seconds * 1_000_000,
            ..TimeUsage::default()
        };
        let age = Duration::from_secs;
        assert_eq!(exhausted(&own, age(99), ran(9)), None);
        assert_eq!(exhausted(&own, age(100), ran(9)), Some("ttl"));
        assert_eq!(exhausted(&own, age(99), ran(10)), Some("max_running"));
        assert_eq!(exhausted(&LifePolicy::default(), age(1 << 40), ran(1 << 30)), None);
    }

    #[test]
    fn a_clock_set_back_makes_no_time() {
        let (early, late) = (Timestamp::from_micros(5), Timestamp::from_micros(9));
        assert_eq!(elapsed(early, late), Duration::from_micros(4));
        assert_eq!(elapsed(late, early), Duration::ZERO);
    }
}
