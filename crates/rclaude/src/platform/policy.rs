//! The server's policy: what holds for sessions that do not say otherwise.

use std::time::Duration;

use rclaude_server::session::policy::Policy;

use crate::{
    cli::serve::PolicyOptions,
    config::Settings,
    values::{self, Limit},
};

/// By flag, by setting, or as it is by itself.
pub(super) fn of(said: &PolicyOptions, settings: &Settings) -> Policy {
    let own = Policy::default();
    // Settings were checked when they were loaded.
    let limit = |said: Option<Limit>, name, own| {
        let set = || settings.value(name).and_then(|text| values::limit(&text).ok());
        match said.or_else(set) {
            None | Some(Limit::Default) => own,
            Some(Limit::Never) => Duration::ZERO,
            Some(Limit::Seconds(seconds)) => Duration::from_secs(seconds.into()),
        }
    };
    let count = |said: Option<u32>, name, own| {
        said.or_else(|| settings.value(name)?.parse().ok()).unwrap_or(own)
    };
    Policy {
        idle: limit(said.idle, "idle", own.idle),
        hibernate: limit(said.hibernate_after, "hibernate_after", own.hibernate),
        archive: limit(said.archive_after, "archive_after", own.archive),
        checkpoint: limit(said.checkpoint_every, "checkpoint_every", own.checkpoint),
        keep: count(said.keep_checkpoints, "keep_checkpoints", own.keep),
        sessions: count(said.max_sessions, "max_sessions", own.sessions),
        ..own
    }
}
