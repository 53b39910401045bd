//! Text made fit for a terminal.

use rclaude_types::Timestamp;

/// Text without control characters other than newline and tab: what an agent or a repository
/// says must not move the cursor, change colours or set the clipboard.
pub(crate) fn clean(text: &str) -> String {
    let mut clean = String::with_capacity(text.len());
    let mut characters = text.chars().peekable();
    while let Some(character) = characters.next() {
        match character {
            '\n' | '\t' => clean.push(character),
            // The common escape sequences go whole, so that no `[31m` is left standing.
            '\x1b' => {
                if characters.next_if_eq(&'[').is_some() {
                    while characters.next().is_some_and(|c| !('\x40'..='\x7e').contains(&c)) {}
                }
            }
            _ if character.is_control() => {}
            _ => clean.push(character),
        }
    }
    clean
}

/// Bytes that are mostly text, for a terminal.
pub(crate) fn printable(bytes: &[u8]) -> String {
    clean(&String::from_utf8_lossy(bytes))
}

/// The same on one line.
pub(crate) fn clean_line(text: &str) -> String {
    clean(text).split_whitespace().collect::<Vec<_>>().join(" ")
}

/// At most so many characters, the last one an ellipsis where something was cut.
pub(crate) fn cut(text: &str, width: usize) -> String {
    if text.chars().count() <= width {
        return text.to_owned();
    }
    let mut short: String = text.chars().take(width.saturating_sub(1)).collect();
    short.push('…');
    short
}

/// A count that reads at a glance: 999, 1.2k, 34k, 1.2M.
pub(crate) fn thousands(count: i64) -> String {
    let tenths = |unit: i64| (count / unit, count % unit * 10 / unit);
    match count {
        ..1_000 => count.to_string(),
        1_000..10_000 => {
            let (whole, tenth) = tenths(1_000);
            format!("{whole}.{tenth}k")
        }
        10_000..1_000_000 => format!("{}k", count / 1_000),
        _ => {
            let (whole, tenth) = tenths(1_000_000);
            format!("{whole}.{tenth}M")
        }
    }
}

/// Bytes that read at a glance: 999 B, 1.2 KiB, 34 MiB.
pub(crate) fn bytes(count: u64) -> String {
    let units = [("B", 0), ("KiB", 10), ("MiB", 20), ("GiB", 30), ("TiB", 40)];
    let (unit, shift) =
        units.into_iter().rev().find(|(_, shift)| count >> shift > 0).unwrap_or(units[0]);
    let whole = count >> shift;
    if shift == 0 || whole >= 10 {
        return format!("{whole} {unit}");
    }
    let tenth = ((count - (whole << shift)) * 10) >> shift;
    format!("{whole}.{tenth} {unit}")
}

/// The beginning of an id, enough to name it by: the millisecond it was made in.
pub(crate) fn short_id(id: impl ToString) -> String {
    let id = id.to_string();
    let prefix = id.find('_').map_or(0, |at| at + 1);
    id.get(..prefix + 12).unwrap_or(&id).to_owned()
}

/// How long ago, in the largest unit that says something.
pub(crate) fn age(then: Timestamp, now: Timestamp) -> String {
    let seconds = (now.as_micros() - then.as_micros()).max(0) / 1_000_000;
    match seconds {
        ..60 => format!("{seconds}s"),
        60..3_600 => format!("{}m", seconds / 60),
        3_600..86_400 => format!("{}h", seconds / 3_600),
        _ => format!("{}d", seconds / 86_400),
    }
}

/// Seconds in the two largest units that say something: 45s, 5m, 1h30m, 2d4h.
pub(crate) fn span(seconds: u64) -> String {
    let units = [("d", 86_400), ("h", 3_600), ("m", 60), ("s", 1)];
    let largest = units.iter().position(|(_, unit)| seconds >= *unit).unwrap_or(3);
    let mut left = seconds;
    let parts = units[largest..].iter().take(2).map(|(name, unit)| {
        let count = left / unit;
        left %= unit;
        (count, name)
    });
    let words: Vec<_> = parts.filter(|(count, _)| *count > 0).collect();
    if words.is_empty() {
        "0s".to_owned()
    } else {
        words.into_iter().map(|(count, name)| format!("{count}{name}")).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escape_sequences_do_not_reach_the_terminal() {
        assert_eq!(clean("a\x1b[31mred\x1b[0m\tb\r\nc\x07\x1b]52;c;x\x07"), "ared\tb\nc]52;c;x");
        assert_eq!(clean_line(" two\n lines\u{9b} "), "two lines");
    }

    #[test]
    fn cutting_counts_characters_and_says_that_it_cut() {
        assert_eq!(cut("größer", 6), "größer");
        assert_eq!(cut("größer", 4), "grö…");
    }

    #[test]
    fn bytes_read_at_a_glance_and_ids_are_short() {
        let sizes = [0, 999, 1_024, 1_300, 35 << 20, 3 << 40].map(bytes);
        assert_eq!(sizes, ["0 B", "999 B", "1.0 KiB", "1.2 KiB", "35 MiB", "3.0 TiB"]);
        assert_eq!(short_id("ckp_019a0000000070008000000000000004"), "ckp_019a00000000");
        assert_eq!(short_id("ckp_019a"), "ckp_019a");
    }

    #[test]
    fn counts_and_ages_read_at_a_glance() {
        let counts = [0, 999, 1_234, 9_999, 34_567, 1_250_000].map(thousands);
        assert_eq!(counts, ["0", "999", "1.2k", "9.9k", "34k", "1.2M"]);
        let now = Timestamp::from_micros(1_000_000_000_000);
        let ages = [5, 65, 7_200, 200_000]
            .map(|ago| age(Timestamp::from_micros(now.as_micros() - ago * 1_000_000), now));
        assert_eq!(ages, ["5s", "1m", "2h", "2d"]);
        let spans = [0, 45, 300, 305, 5_400, 90_061, 86_400].map(span);
        assert_eq!(spans, ["0s", "45s", "5m", "5m5s", "1h30m", "1d1h", "1d"]);
    }
}
