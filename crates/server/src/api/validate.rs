//! Bounds of what requests may say, checked at the edge, in words that name the field.
//!
//! The published contract states the same bounds; a test holds the two together. Lengths are
//! counted in characters, as JSON Schema counts them, unless a limit is the kernel's.

use std::collections::BTreeMap;

use rclaude_types::{
    CreateBackup, CreateCheckpoint, CreateExec, CreateKey, CreateSession, CreateSshKey,
    CreateTerminal, CreateTurn, Decision, Fork, LifePolicy, PauseSession, Prune, RepositorySource,
    Resources, Rewind, SignalExec, TerminalSize, UpdateSession, VerifyBackup,
};

use super::problem::{Refusal, Result};

/// Can tell whether its values are within bounds.
pub(super) trait Validate {
    /// Refuses what is out of bounds, naming the field.
    fn validate(&self) -> Result<()>;
}

/// Characters of a session's name: a DNS label, so that it may become a host name.
const MAX_NAME: usize = 63;
/// Characters of a fork's name: room for `-100` behind it.
const MAX_FORK_NAME: usize = 60;
/// Characters of a prompt.
const MAX_PROMPT: usize = 4_194_304;
/// Characters of a model's, template's or key's name.
const MAX_WORD: usize = 200;
/// Characters of a path or URL (Linux: `PATH_MAX`).
const MAX_PATH: usize = 4096;
/// Characters of a branch, tag or commit.
const MAX_REVISION: usize = 255;
/// Labels of a session.
const MAX_LABELS: usize = 64;
/// Characters of a label's key.
const MAX_LABEL_KEY: usize = 63;
/// Characters of a label's value.
const MAX_LABEL_VALUE: usize = 255;
/// Variables of an environment.
const MAX_ENV: usize = 1000;
/// Bytes of one argument or of one `NAME=value`, its NUL included (Linux: `MAX_ARG_STRLEN`).
const MAX_ARGUMENT: usize = 131_072;
/// Arguments of a command, the program included.
const MAX_ARGUMENTS: usize = 10_000;
/// Characters of a checkpoint's note.
const MAX_NOTE: usize = 1000;
/// Characters of a setup script.
const MAX_SETUP: usize = 65_536;
/// Seconds in a year.
const YEAR: u32 = 31_536_000;
/// Seconds a command may run at most where a limit is set: a week.
const MAX_TIMEOUT: u32 = 604_800;

/// Seconds that a checkpoint may be old for a prune to spare it: a century.
const MAX_AGE: u64 = 3_153_600_000;

fn invalid<T>(field: &str, why: impl std::fmt::Display) -> Result<T> {
    Err(Refusal::invalid(format!("{field}: {why}")))
}

fn no_nul(field: &str, text: &str) -> Result<()> {
    if text.contains('\0') { invalid(field, "must not contain NUL") } else { Ok(()) }
}

fn text(field: &str, text: &str, max: usize) -> Result<()> {
    if text.is_empty() {
        return invalid(field, "must not be empty");
    }
    // Bytes bound characters from above, so most texts need no counting.
    if text.len() > max {
        let length = text.chars().count();
        if length > max {
            return invalid(field, format_args!("has {length} characters; {max} are allowed"));
        }
    }
    no_nul(field, text)
}

fn within(field: &str, value: u32, min: u32, max: u32) -> Result<()> {
    if !(min..=max).contains(&value) {
        return invalid(field, format_args!("is {value}; must be from {min} to {max}"));
    }
    Ok(())
}

fn name(field: &str, name: &str) -> Result<()> {
    let inner = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
    let fits = name.len() <= MAX_NAME && name.bytes().all(inner);
    if !fits || name.is_empty() || name.starts_with('-') || name.ends_with('-') {
        return invalid(
            field,
            "must be 1 to 63 lower-case letters, digits and `-`, with `-` neither first nor last",
        );
    }
    Ok(())
}

fn env(env: &BTreeMap<String, String>) -> Result<()> {
    if env.len() > MAX_ENV {
        return invalid("env", format_args!("has {} names; {MAX_ENV} are allowed", env.len()));
    }
    for (key, value) in env {
        let mut bytes = key.bytes();
        let first = bytes.next().is_some_and(|b| b.is_ascii_alphabetic() || b == b'_');
        if !first || !bytes.all(|b| b.is_ascii_alphanumeric() || b == b'_') {
            return invalid(
                &format!("env.{key}"),
                "a name must be letters, digits and `_`, with no digit first",
            );
        }
        no_nul(&format!("env.{key}"), value)?;
        if key.len() + value.len() + 2 > MAX_ARGUMENT {
            return invalid(&format!("env.{key}"), "is longer than the 128 KiB Linux passes on");
        }
    }
    Ok(())
}

fn labels(labels: &BTreeMap<String, String>) -> Result<()> {
    if labels.len() > MAX_LABELS {
        let count = labels.len();
        return invalid("labels", format_args!("has {count} entries; {MAX_LABELS} are allowed"));
    }
    labels.iter().try_for_each(|(key, value)| label(key, value))
}

/// Checks one label, as given with a session or asked for in a list.
pub(super) fn label(key: &str, value: &str) -> Result<()> {
    let inner = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'/' | b'-');
    let ends = |b: Option<&u8>| b.is_some_and(u8::is_ascii_alphanumeric);
    let bytes = key.as_bytes();
    let fits = key.len() <= MAX_LABEL_KEY && bytes.iter().copied().all(inner);
    if !fits || !ends(bytes.first()) || !ends(bytes.last()) {
        return invalid(
            &format!("labels.{key}"),
            "a key must be 1 to 63 letters, digits, `.`, `_`, `/` and `-`, with a letter or digit \
             first and last",
        );
    }
    let length = value.chars().count();
    if length > MAX_LABEL_VALUE {
        let why = format_args!("has {length} characters; {MAX_LABEL_VALUE} are allowed");
        return invalid(&format!("labels.{key}"), why);
    }
    no_nul(&format!("labels.{key}"), value)
}

fn prompt(field: &str, prompt: &str) -> Result<()> {
    text(field, prompt, MAX_PROMPT)?;
    if prompt.trim().is_empty() {
        return invalid(field, "must say something: it is all white space");
    }
    Ok(())
}

/// A path in a session.
fn path(field: &str, path: &str) -> Result<()> {
    text(field, path, MAX_PATH)
}

impl Validate for CreateSession {
    fn validate(&self) -> Result<()> {
        self.name.as_deref().map_or(Ok(()), |it| name("name", it))?;
        self.repository.as_ref().map_or(Ok(()), Validate::validate)?;
        self.prompt.as_ref().map_or(Ok(()), |it| prompt("prompt.text", &it.text))?;
        self.model.as_deref().map_or(Ok(()), |it| text("model", it, MAX_WORD))?;
        self.template.as_deref().map_or(Ok(()), |it| text("template", it, MAX_WORD))?;
        env(&self.env)?;
        self.resources.validate()?;
        labels(&self.labels)?;
        self.setup.as_deref().map_or(Ok(()), |it| text("setup", it, MAX_SETUP))?;
        self.life.validate()
    }
}

impl Validate for LifePolicy {
    fn validate(&self) -> Result<()> {
        let bounds = [
            ("life.idle_seconds", self.idle_seconds, 0, YEAR),
            ("life.keep_alive_seconds", self.keep_alive_seconds, 0, YEAR),
            ("life.ttl_seconds", self.ttl_seconds, 1, 10 * YEAR),
            ("life.max_running_seconds", self.max_running_seconds, 1, 10 * YEAR),
            ("life.checkpoint_seconds", self.checkpoint_seconds, 0, 86_400),
        ];
        bounds.into_iter().try_for_each(|(field, value, min, max)| {
            value.map_or(Ok(()), |value| within(field, value, min, max))
        })
    }
}

impl Validate for PauseSession {
    fn validate(&self) -> Result<()> {
        Ok(())
    }
}

impl Validate for CreateCheckpoint {
    fn validate(&self) -> Result<()> {
        self.note.as_deref().map_or(Ok(()), |it| text("note", it, MAX_NOTE))
    }
}

impl Validate for Rewind {
    fn validate(&self) -> Result<()> {
        self.turns.map_or(Ok(()), |turns| within("turns", turns, 1, 10_000))
    }
}

impl Validate for Fork {
    fn validate(&self) -> Result<()> {
        self.count.map_or(Ok(()), |count| within("count", count, 1, 100))?;
        self.prompt.as_ref().map_or(Ok(()), |it| prompt("prompt.text", &it.text))?;
        self.model.as_deref().map_or(Ok(()), |it| text("model", it, MAX_WORD))?;
        let Some(given) = self.name.as_deref() else { return Ok(()) };
        name("name", given)?;
        match given.len() {
            ..=MAX_FORK_NAME => Ok(()),
            length => invalid(
                "name",
                format_args!("has {length} characters; {MAX_FORK_NAME} are allowed"),
            ),
        }
    }
}

impl Validate for RepositorySource {
    fn validate(&self) -> Result<()> {
        text("repository.url", &self.url, MAX_PATH)?;
        let branch = self.branch.as_deref();
        branch.map_or(Ok(()), |it| text("repository.branch", it, MAX_REVISION))
    }
}

impl Validate for Resources {
    fn validate(&self) -> Result<()> {
        within("resources.cpu_millis", self.cpu_millis, 100, 256_000)?;
        within("resources.memory_mib", self.memory_mib, 64, 4_194_304)?;
        within("resources.pids", self.pids, 16, 100_000)
    }
}

impl Validate for UpdateSession {
    fn validate(&self) -> Result<()> {
        self.name.as_deref().map_or(Ok(()), |it| name("name", it))?;
        self.model.as_deref().map_or(Ok(()), |it| text("model", it, MAX_WORD))?;
        self.life.as_ref().map_or(Ok(()), Validate::validate)
    }
}

impl Validate for CreateTurn {
    fn validate(&self) -> Result<()> {
        prompt("text", &self.text)
    }
}

impl Validate for Decision {
    fn validate(&self) -> Result<()> {
        match self {
            Self::Deny { message: Some(message), .. } => no_nul("message", message),
            Self::Deny { message: None, .. } | Self::Allow { .. } => Ok(()),
        }
    }
}

fn command(command: &[String]) -> Result<()> {
    let count = command.len();
    if count > MAX_ARGUMENTS {
        let why = format_args!("has {count} arguments; {MAX_ARGUMENTS} are allowed");
        return invalid("command", why);
    }
    if command.first().is_none_or(String::is_empty) {
        return invalid("command", "must name a program first");
    }
    for (index, argument) in command.iter().enumerate() {
        let field = format!("command[{index}]");
        no_nul(&field, argument)?;
        if argument.len() >= MAX_ARGUMENT {
            return invalid(&field, "is longer than the 128 KiB Linux passes on");
        }
    }
    Ok(())
}

impl Validate for CreateTerminal {
    fn validate(&self) -> Result<()> {
        if !self.command.is_empty() {
            command(&self.command)?;
        }
        self.cwd.as_deref().map_or(Ok(()), |it| path("cwd", it))?;
        env(&self.env)?;
        self.size.validate()
    }
}

impl Validate for TerminalSize {
    fn validate(&self) -> Result<()> {
        let ends = |range: std::ops::RangeInclusive<u16>| (*range.start(), *range.end());
        let ((fewest, most), (narrowest, widest)) = (ends(Self::ROWS), ends(Self::COLS));
        within("rows", self.rows.into(), fewest.into(), most.into())?;
        within("cols", self.cols.into(), narrowest.into(), widest.into())
    }
}

impl Validate for CreateExec {
    fn validate(&self) -> Result<()> {
        command(&self.command)?;
        self.cwd.as_deref().map_or(Ok(()), |it| path("cwd", it))?;
        env(&self.env)?;
        self.timeout_seconds
            .map_or(Ok(()), |seconds| within("timeout_seconds", seconds, 1, MAX_TIMEOUT))
    }
}

impl Validate for SignalExec {
    fn validate(&self) -> Result<()> {
        Ok(())
    }
}

impl Validate for CreateBackup {
    fn validate(&self) -> Result<()> {
        self.to.as_ref().map_or(Ok(()), |to| text("to", to, MAX_PATH))
    }
}

impl Validate for VerifyBackup {
    fn validate(&self) -> Result<()> {
        self.name.as_ref().map_or(Ok(()), |name| text("name", name, MAX_WORD))?;
        self.at.as_ref().map_or(Ok(()), |at| text("at", at, MAX_PATH))
    }
}

impl Validate for Prune {
    fn validate(&self) -> Result<()> {
        match self.older_than_seconds {
            Some(age) if age > MAX_AGE => {
                invalid("older_than_seconds", format_args!("must be at most {MAX_AGE}"))
            }
            _ => Ok(()),
        }
    }
}

impl Validate for CreateSshKey {
    fn validate(&self) -> Result<()> {
        text("public_key", &self.public_key, MAX_PATH)?;
        match &self.name {
            Some(name) => text("name", name, MAX_WORD),
            None => Ok(()),
        }
    }
}

impl Validate for CreateKey {
    fn validate(&self) -> Result<()> {
        text("name", &self.name, MAX_WORD)?;
        if self.name.trim().is_empty() {
            return invalid("name", "must say what the key is for");
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn accepts<T: Validate + serde::de::DeserializeOwned>(body: Value) -> bool {
        serde_json::from_value::<T>(body).unwrap().validate().is_ok()
    }

    fn exec(command: &[&str]) -> CreateExec {
        serde_json::from_value(json!({ "command": command })).unwrap()
    }

    /// Reads `components.schemas.<schema>.properties.<property>.<keyword>`.
    fn published(schema: &str, property: &str, keyword: &str) -> usize {
        let document = serde_json::to_value(super::super::openapi::document()).unwrap();
        let bound = &document["components"]["schemas"][schema]["properties"][property][keyword];
        let bound = bound.as_u64().unwrap_or_else(|| panic!("{schema}.{property}.{keyword}"));
        usize::try_from(bound).unwrap()
    }

    #[test]
    fn the_bounds_that_are_published_are_those_that_are_checked() {
        type Accepts = fn(usize) -> bool;
        let texts: [(&str, &str, Accepts); 12] = [
            ("CreateTerminal", "cwd", |n| {
                accepts::<CreateTerminal>(json!({ "cwd": "ä".repeat(n) }))
            }),
            ("CreateTurn", "text", |n| accepts::<CreateTurn>(json!({ "text": "ä".repeat(n) }))),
            ("CreateKey", "name", |n| accepts::<CreateKey>(json!({ "name": "ä".repeat(n) }))),
            ("CreateSession", "model", |n| {
                accepts::<CreateSession>(json!({ "model": "ä".repeat(n) }))
            }),
            ("CreateSession", "template", |n| {
                accepts::<CreateSession>(json!({ "template": "ä".repeat(n) }))
            }),
            ("CreateSession", "setup", |n| {
                accepts::<CreateSession>(json!({ "setup": "ä".repeat(n) }))
            }),
            ("CreateCheckpoint", "note", |n| {
                accepts::<CreateCheckpoint>(json!({ "note": "ä".repeat(n) }))
            }),
            ("Fork", "model", |n| accepts::<Fork>(json!({ "model": "ä".repeat(n) }))),
            ("UpdateSession", "model", |n| {
                accepts::<UpdateSession>(json!({ "model": "ä".repeat(n) }))
            }),
            ("RepositorySource", "url", |n| {
                accepts::<RepositorySource>(json!({ "url": "ä".repeat(n) }))
            }),
            ("RepositorySource", "branch", |n| {
                accepts::<RepositorySource>(json!({ "url": "u", "branch": "ä".repeat(n) }))
            }),
            ("CreateExec", "cwd", |n| {
                accepts::<CreateExec>(json!({ "command": ["true"], "cwd": "ä".repeat(n) }))
            }),
        ];
        for (schema, property, accepts) in texts {
            let min = published(schema, property, "minLength");
            let max = published(schema, property, "maxLength");
            let outcome = [min - 1, min, max, max + 1].map(accepts);
            assert_eq!(outcome, [false, true, true, false], "{schema}.{property}");
        }
        let numbers: [(&str, &str, Accepts); 10] = [
            ("TerminalSize", "rows", |n| accepts::<TerminalSize>(json!({ "rows": n, "cols": 80 }))),
            ("TerminalSize", "cols", |n| accepts::<TerminalSize>(json!({ "rows": 24, "cols": n }))),
            ("Resources", "cpu_millis", |n| accepts::<Resources>(json!({ "cpu_millis": n }))),
            ("Resources", "memory_mib", |n| accepts::<Resources>(json!({ "memory_mib": n }))),
            ("Resources", "pids", |n| accepts::<Resources>(json!({ "pids": n }))),
            ("LifePolicy", "ttl_seconds", |n| accepts::<LifePolicy>(json!({ "ttl_seconds": n }))),
            ("LifePolicy", "max_running_seconds", |n| {
                accepts::<LifePolicy>(json!({ "max_running_seconds": n }))
            }),
            ("Rewind", "turns", |n| accepts::<Rewind>(json!({ "turns": n }))),
            ("Fork", "count", |n| accepts::<Fork>(json!({ "count": n }))),
            ("CreateExec", "timeout_seconds", |n| {
                accepts::<CreateExec>(json!({ "command": ["true"], "timeout_seconds": n }))
            }),
        ];
        for (schema, property, accepts) in numbers {
            let min = published(schema, property, "minimum");
            let max = published(schema, property, "maximum");
            let outcome = [min - 1, min, max, max + 1].map(accepts);
            assert_eq!(outcome, [false, true, true, false], "{schema}.{property}");
        }
        // From nothing at all up to so much.
        let limits: [(&str, &str, Accepts); 3] = [
            ("LifePolicy", "idle_seconds", |n| accepts::<LifePolicy>(json!({ "idle_seconds": n }))),
            ("LifePolicy", "keep_alive_seconds", |n| {
                accepts::<LifePolicy>(json!({ "keep_alive_seconds": n }))
            }),
            ("LifePolicy", "checkpoint_seconds", |n| {
                accepts::<LifePolicy>(json!({ "checkpoint_seconds": n }))
            }),
        ];
        for (schema, property, accepts) in limits {
            let max = published(schema, property, "maximum");
            assert_eq!([0, max, max + 1].map(accepts), [true, true, false], "{schema}.{property}");
        }
        let max = published("CreateExec", "command", "maxItems");
        assert!(exec(&vec!["x"; max]).validate().is_ok());
        assert!(exec(&vec!["x"; max + 1]).validate().is_err());
        let max = published("CreateTerminal", "command", "maxItems");
        let outcome = [0, max, max + 1]
            .map(|n| accepts::<CreateTerminal>(json!({ "command": vec!["x"; n] })));
        assert_eq!(outcome, [true, true, false]);
    }

    #[test]
    fn names_are_dns_labels() {
        let long = "a".repeat(63);
        for good in ["a", "0", "brave-otter", "a--b", &long] {
            assert!(name("name", good).is_ok(), "{good}");
        }
        let longer = "a".repeat(64);
        for bad in ["", "-", "-a", "a-", "A", "a_b", "a.b", "ä", "a\n", &longer] {
            assert!(name("name", bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn a_refusal_names_the_field_and_says_why() {
        let cases = [
            (json!({ "prompt": { "text": " \n\t" } }), "prompt.text: must say something"),
            (json!({ "env": { "1A": "" } }), "env.1A: a name must be"),
            (json!({ "env": { "": "" } }), "env.: a name must be"),
            (json!({ "env": { "A": "\u{0}" } }), "env.A: must not contain NUL"),
            (json!({ "labels": { "-a": "" } }), "labels.-a: a key must be"),
            (json!({ "labels": { "a": "x".repeat(256) } }), "labels.a: has 256 characters"),
            (json!({ "resources": { "pids": 1 } }), "resources.pids: is 1; must be from 16"),
            (json!({ "repository": { "url": "" } }), "repository.url: must not be empty"),
            (json!({ "life": { "ttl_seconds": 0 } }), "life.ttl_seconds: is 0; must be from 1"),
            (json!({ "setup": "" }), "setup: must not be empty"),
        ];
        for (body, wanted) in cases {
            let request: CreateSession = serde_json::from_value(body).unwrap();
            let refusal = request.validate().unwrap_err();
            assert!(refusal.0.detail.starts_with(wanted), "{} / {wanted}", refusal.0.detail);
        }
    }

    #[test]
    fn a_command_needs_a_program_and_no_nul() {
        assert!(exec(&["true"]).validate().is_ok());
        assert!(exec(&["true", ""]).validate().is_ok());
        for bad in [&[][..], &[""], &["a\0"], &["a", &"x".repeat(MAX_ARGUMENT)]] {
            assert!(exec(bad).validate().is_err());
        }
    }
}
