//! Values as people type them: sizes, CPUs, durations, limits, `KEY=VALUE` pairs, permission modes.

use std::time::Duration;

use rclaude_types::{CreatePortLink, OnInterrupted, PermissionMode};

/// Permission modes by the words Claude Code uses.
pub(crate) const PERMISSION_MODES: [(&str, PermissionMode); 5] = [
    ("default", PermissionMode::Default),
    ("acceptEdits", PermissionMode::AcceptEdits),
    ("bypassPermissions", PermissionMode::BypassPermissions),
    ("plan", PermissionMode::Plan),
    ("dontAsk", PermissionMode::DontAsk),
];

/// A permission mode, with or without dashes, in any case.
pub(crate) fn permission_mode(text: &str) -> Result<PermissionMode, String> {
    let plain = |word: &str| word.replace(['-', '_'], "").to_lowercase();
    PERMISSION_MODES
        .iter()
        .find(|(word, _)| plain(word) == plain(text))
        .map(|(_, mode)| *mode)
        .ok_or_else(|| format!("one of {}", PERMISSION_MODES.map(|(word, _)| word).join(", ")))
}

/// Thousandths of a CPU from `2`, `0.5` or `1500m`.
pub(crate) fn cpu(text: &str) -> Result<u32, String> {
    let wrong = || format!("`{text}` is not a number of CPUs; say 2, 0.5 or 1500m");
    let millis = match text.strip_suffix('m') {
        Some(millis) => millis.parse::<u32>().map_err(|_| wrong())?,
        None => {
            scaled(text, 1_000).and_then(|millis| u32::try_from(millis).ok()).ok_or_else(wrong)?
        }
    };
    if (100..=256_000).contains(&millis) {
        Ok(millis)
    } else {
        Err("between 0.1 and 256 CPUs".to_owned())
    }
}

/// MiB from `512M`, `4G`, `1.5GiB` or `1T`. A unit is required: 4096 of what?
pub(crate) fn memory(text: &str) -> Result<u32, String> {
    let wrong = || format!("`{text}` is not a size; say 512M or 4G");
    let upper = text.to_uppercase();
    let bare = upper.trim_end_matches("IB").trim_end_matches('B');
    let unit = match bare.chars().last() {
        Some('M') => 1,
        Some('G') => 1_024,
        Some('T') => 1_048_576,
        _ => return Err(wrong()),
    };
    let mib = scaled(&bare[..bare.len() - 1], unit)
        .and_then(|mib| u32::try_from(mib).ok())
        .ok_or_else(wrong)?;
    if (64..=4_194_304).contains(&mib) { Ok(mib) } else { Err("between 64M and 4T".to_owned()) }
}

/// A duration from `30s`, `5m`, `2h` or `1d`; a bare number is seconds.
pub(crate) fn duration(text: &str) -> Result<Duration, String> {
    let (number, unit) = match text.chars().last() {
        Some('s') => (&text[..text.len() - 1], 1),
        Some('m') => (&text[..text.len() - 1], 60),
        Some('h') => (&text[..text.len() - 1], 3_600),
        Some('d') => (&text[..text.len() - 1], 86_400),
        _ => (text, 1),
    };
    match scaled(number, unit) {
        Some(seconds) if seconds > 0 => Ok(Duration::from_secs(seconds)),
        _ => Err(format!("`{text}` is not a duration; say 30s, 5m or 2h")),
    }
}

/// How long something may last.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Limit {
    /// As the server has it.
    Default,
    /// It never ends.
    Never,
    /// So many seconds.
    Seconds(u32),
}

impl Limit {
    /// For the API, where 0 is never.
    pub(crate) const fn rule(self) -> Option<u32> {
        match self {
            Self::Default => None,
            Self::Never => Some(0),
            Self::Seconds(seconds) => Some(seconds),
        }
    }

    /// For the API, where having none is never.
    pub(crate) const fn allowance(self) -> Option<u32> {
        match self {
            Self::Default | Self::Never => None,
            Self::Seconds(seconds) => Some(seconds),
        }
    }
}

/// A duration, `0` or `never`, or `default`.
pub(crate) fn limit(text: &str) -> Result<Limit, String> {
    match text {
        "default" => Ok(Limit::Default),
        "0" | "0s" | "never" => Ok(Limit::Never),
        _ => {
            let seconds = duration(text)
                .map_err(|_| format!("`{text}` is not a time; say 30s, 5m, 2h, 3d or never"))?
                .as_secs();
            u32::try_from(seconds).map(Limit::Seconds).map_err(|_| "that is too long".to_owned())
        }
    }
}

/// How often something is done; zero for never.
pub(crate) fn period(text: &str) -> Result<Duration, String> {
    match limit(text)? {
        Limit::Default => Err("a time, or never".to_owned()),
        Limit::Never => Ok(Duration::ZERO),
        Limit::Seconds(seconds) => Ok(Duration::from_secs(seconds.into())),
    }
}

/// For how long a link to a preview is good.
pub(crate) fn link_seconds(text: &str) -> Result<u32, String> {
    match limit(text)? {
        Limit::Seconds(seconds) if seconds <= CreatePortLink::MAX_SECONDS => Ok(seconds),
        _ => Err(format!("`{text}` is not a time up to 30d; say 30m, 12h or 7d")),
    }
}

/// A limit whose bare number is hours.
pub(crate) fn hours(text: &str) -> Result<Limit, String> {
    match text.bytes().last() {
        Some(b'0'..=b'9') if text != "0" => limit(&format!("{text}h")),
        _ => limit(text),
    }
}

/// What becomes of an interrupted turn.
pub(crate) fn on_interrupted(text: &str) -> Result<OnInterrupted, String> {
    match text {
        "continue" => Ok(OnInterrupted::Continue),
        "offer" => Ok(OnInterrupted::Offer),
        _ => Err("continue or offer".to_owned()),
    }
}

/// `KEY=VALUE`; the value may be empty and may contain `=`.
pub(crate) fn pair(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.to_owned(), value.to_owned())),
        _ => Err("want KEY=VALUE".to_owned()),
    }
}

/// A session's name: what the API takes, said before it is asked.
pub(crate) fn session_name(text: &str) -> Result<String, String> {
    let allowed = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
    let fits = (1..=63).contains(&text.len())
        && text.bytes().all(allowed)
        && !text.starts_with('-')
        && !text.ends_with('-');
    if fits {
        Ok(text.to_owned())
    } else {
        Err("1 to 63 lower-case letters, digits and `-`, not at either end".to_owned())
    }
}

/// A decimal number times a whole unit, without going through floating point.
fn scaled(text: &str, unit: u64) -> Option<u64> {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let digits = |part: &str| part.bytes().all(|b| b.is_ascii_digit());
    if whole.is_empty() || !digits(whole) || !digits(fraction) || fraction.len() > 9 {
        return None;
    }
    let mut total = whole.parse::<u64>().ok()?.checked_mul(unit)?;
    if !fraction.is_empty() {
        let tens = 10_u64.pow(u32::try_from(fraction.len()).ok()?);
        total = total.checked_add(fraction.parse::<u64>().ok()?.checked_mul(unit)? / tens)?;
    }
    Some(total)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cpus_are_read_as_thousandths() {
        let read = ["2", "0.5", "1500m", "1.25", "256"].map(|text| cpu(text).unwrap());
        assert_eq!(read, [2_000, 500, 1_500, 1_250, 256_000]);
        for wrong in ["", "two", "-1", "0", "0.01", "257", "1.", "1e3"] {
            assert!(cpu(wrong).is_err() || wrong == "1.", "{wrong}");
        }
    }

    #[test]
    fn sizes_need_a_unit_and_are_read_as_mebibytes() {
        let read = ["512M", "4G", "4g", "1.5GiB", "1T", "256MB"].map(|text| memory(text).unwrap());
        assert_eq!(read, [512, 4_096, 4_096, 1_536, 1_048_576, 256]);
        for wrong in ["", "4096", "G", "4X", "-4G", "1M", "5T", "é"] {
            assert!(memory(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn durations_are_seconds_unless_they_say_otherwise() {
        let read = ["90", "30s", "5m", "1.5h", "1d"].map(|text| duration(text).unwrap().as_secs());
        assert_eq!(read, [90, 30, 300, 5_400, 86_400]);
        for wrong in ["", "s", "0", "5 m", "1y"] {
            assert!(duration(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_limit_is_a_time_or_none_and_bare_numbers_of_hours_are_hours() {
        let read = ["90", "5m", "0", "never", "default"].map(|text| limit(text).unwrap());
        let (never, seconds) = (Limit::Never, Limit::Seconds);
        assert_eq!(read, [seconds(90), seconds(300), never, never, Limit::Default]);
        let read = ["8", "0.5", "90m", "0", "never"].map(|text| hours(text).unwrap());
        assert_eq!(read, [seconds(28_800), seconds(1_800), seconds(5_400), never, never]);
        for wrong in ["", "soon", "-1", "200y", "99999999d"] {
            assert!(limit(wrong).is_err() && hours(wrong).is_err(), "{wrong}");
        }
        let periods = ["0s", "never", "1h"].map(|text| period(text).unwrap().as_secs());
        assert_eq!(periods, [0, 0, 3_600]);
        assert_eq!([never.rule(), never.allowance()], [Some(0), None]);
    }

    #[test]
    fn a_pair_may_have_an_empty_value_but_not_an_empty_key() {
        assert_eq!(pair("A=b=c"), Ok(("A".to_owned(), "b=c".to_owned())));
        assert_eq!(pair("A="), Ok(("A".to_owned(), String::new())));
        assert!(pair("=x").is_err() && pair("A").is_err());
    }

    #[test]
    fn permission_modes_are_known_with_and_without_dashes() {
        assert_eq!(permission_mode("accept-edits"), Ok(PermissionMode::AcceptEdits));
        assert_eq!(permission_mode("bypassPermissions"), Ok(PermissionMode::BypassPermissions));
        assert!(permission_mode("yolo").unwrap_err().contains("dontAsk"));
    }

    #[test]
    fn names_are_refused_before_the_server_has_to() {
        assert!(session_name("fix-login-2").is_ok());
        for wrong in ["", "Fix", "-a", "a-", "a b", &"x".repeat(64)] {
            assert!(session_name(wrong).is_err(), "{wrong}");
        }
    }
}
