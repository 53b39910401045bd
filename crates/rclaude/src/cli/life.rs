//! How long a session stays how far awake: the flags that `run`, `start` and `set` share, and a
//! policy in words.

use clap::Args;
use rclaude_types::{LifePolicy, OnInterrupted};

use crate::{
    ui::span,
    values::{self, Limit},
};

const HEADING: &str = "Setting aside and keeping";

/// What holds for a session; what is not said is as the server has it.
#[derive(Debug, Default, Args)]
pub(crate) struct LifeOptions {
    /// Freeze it after so long without agent work, commands or viewers: 5m, 1h; `never`, or
    /// `default` for the server's
    #[arg(long, value_name = "TIME", value_parser = values::limit, help_heading = HEADING)]
    idle: Option<Limit>,
    /// From now on, for so long, it does not freeze by itself: 4h; `never` ends that
    #[arg(long, value_name = "TIME", value_parser = values::limit, help_heading = HEADING)]
    keep_alive: Option<Limit>,
    /// So long after it was made it hibernates, and wakes only when this is raised: 2d; `never`
    #[arg(long, value_name = "TIME", value_parser = values::limit, help_heading = HEADING)]
    ttl: Option<Limit>,
    /// After so many hours of running in all it hibernates, and wakes only when this is raised: 8,
    /// 0.5, 90m; `never`
    #[arg(long, value_name = "HOURS", value_parser = values::hours, help_heading = HEADING)]
    max_hours: Option<Limit>,
    /// While it works, keep its state so often: 5m; `never` keeps it when a turn ends alone,
    /// `default` as the server has it
    #[arg(long, value_name = "TIME", value_parser = values::limit, help_heading = HEADING)]
    checkpoint_every: Option<Limit>,
    /// It may freeze although a command runs or the agent waits for an answer
    #[arg(
        long,
        value_name = "true|false",
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "true",
        help_heading = HEADING
    )]
    freeze_busy: Option<bool>,
    /// What becomes of a turn whose sandbox ended under it: `continue` has the agent go on with
    /// it, `offer` leaves that to you
    #[arg(long, value_name = "WHAT", value_parser = values::on_interrupted, help_heading = HEADING)]
    on_interrupted: Option<OnInterrupted>,
}

impl LifeOptions {
    /// Whether nothing was said.
    pub(crate) const fn is_empty(&self) -> bool {
        self.idle.is_none()
            && self.keep_alive.is_none()
            && self.ttl.is_none()
            && self.max_hours.is_none()
            && self.checkpoint_every.is_none()
            && self.freeze_busy.is_none()
            && self.on_interrupted.is_none()
    }

    /// A policy with what was said in place of what it had.
    pub(crate) fn over(&self, before: LifePolicy) -> LifePolicy {
        // Never to freeze is a rule of its own; never to run out is the lack of one.
        let rule = |said: Option<Limit>, before| said.map_or(before, Limit::rule);
        let allowance = |said: Option<Limit>, before| said.map_or(before, Limit::allowance);
        LifePolicy {
            idle_seconds: rule(self.idle, before.idle_seconds),
            freeze_busy: self.freeze_busy.unwrap_or(before.freeze_busy),
            keep_alive_seconds: allowance(self.keep_alive, before.keep_alive_seconds),
            ttl_seconds: allowance(self.ttl, before.ttl_seconds),
            max_running_seconds: allowance(self.max_hours, before.max_running_seconds),
            checkpoint_seconds: rule(self.checkpoint_every, before.checkpoint_seconds),
            on_interrupted: self.on_interrupted.unwrap_or(before.on_interrupted),
        }
    }
}

/// A policy in words; empty if all is as the server has it.
pub(super) fn words(life: &LifePolicy) -> String {
    let rule = |seconds: Option<u32>, never: &str, sometimes: &str| match seconds {
        None => None,
        Some(0) => Some(never.to_owned()),
        Some(seconds) => Some(format!("{sometimes} {}", span(seconds.into()))),
    };
    [
        rule(life.idle_seconds, "never freezes by itself", "freezes when idle for"),
        life.freeze_busy.then(|| "may freeze while a command runs or a question waits".to_owned()),
        rule(life.keep_alive_seconds, "", "kept awake for").filter(|words| !words.is_empty()),
        rule(life.ttl_seconds, "", "hibernates at the age of"),
        rule(life.max_running_seconds, "", "may run for"),
        rule(life.checkpoint_seconds, "kept when a turn ends alone", "kept at work every"),
        (life.on_interrupted == OnInterrupted::Offer)
            .then(|| "an interrupted turn waits for you".to_owned()),
    ]
    .into_iter()
    .flatten()
    .collect::<Vec<_>>()
    .join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_said_replaces_what_was_and_the_rest_stays() {
        let before = LifePolicy {
            idle_seconds: Some(60),
            ttl_seconds: Some(3_600),
            max_running_seconds: Some(7_200),
            freeze_busy: true,
            ..LifePolicy::default()
        };
        assert_eq!(LifeOptions::default().over(before.clone()), before);
        assert!(LifeOptions::default().is_empty());
        let said = LifeOptions {
            idle: Some(Limit::Never),
            ttl: Some(Limit::Never),
            max_hours: Some(Limit::Seconds(60)),
            checkpoint_every: Some(Limit::Never),
            freeze_busy: Some(false),
            on_interrupted: Some(OnInterrupted::Offer),
            ..LifeOptions::default()
        };
        let after = LifePolicy {
            idle_seconds: Some(0),
            max_running_seconds: Some(60),
            checkpoint_seconds: Some(0),
            on_interrupted: OnInterrupted::Offer,
            ..LifePolicy::default()
        };
        assert_eq!(said.over(before), after);
        assert_eq!(
            words(&after),
            "never freezes by itself, may run for 1m, kept when a turn ends alone, an interrupted \
             turn waits for you"
        );
        let default = LifeOptions { idle: Some(Limit::Default), ..LifeOptions::default() };
        assert_eq!(default.over(after).idle_seconds, None);
        assert_eq!(words(&LifePolicy::default()), "");
    }
}
