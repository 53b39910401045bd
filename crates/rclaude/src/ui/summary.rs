//! Turns and diffs in numbers.

use rclaude_types::{DiffStat, TokenUsage, TurnOutcome};

use super::{
    Paint,
    text::{clean, clean_line, thousands},
};

/// How a turn ended, on one line.
pub(super) fn turn_line(
    paint: Paint,
    outcome: TurnOutcome,
    failure: Option<&str>,
    tokens: TokenUsage,
    cost: &str,
    diff: Option<&DiffStat>,
) -> String {
    let head = match outcome {
        TurnOutcome::Completed => paint.green("✔ turn completed"),
        TurnOutcome::Failed => paint.red("✘ turn failed"),
        TurnOutcome::Interrupted => paint.yellow("■ turn interrupted"),
        TurnOutcome::Cancelled => paint.yellow("■ turn cancelled"),
    };
    let why = failure.map(|why| format!(": {}", clean(why))).unwrap_or_default();
    let mut parts = vec![format!("{head}{why}")];
    parts.extend(diff.filter(|diff| !diff.files.is_empty()).map(|diff| {
        let files = match diff.files.len() {
            1 => "1 file".to_owned(),
            files => format!("{files} files"),
        };
        let plus = paint.green(&format!("+{}", diff.insertions));
        let minus = paint.red(&format!("−{}", diff.deletions));
        format!("{files} {plus} {minus}")
    }));
    parts.push(paint.dim(&token_words(tokens)));
    parts.push(paint.dim(cost));
    parts.join(&paint.dim(" · "))
}

/// A diff in numbers, as `git diff --stat` has it.
pub(crate) fn diff_stat(paint: Paint, stat: &DiffStat, width: usize) -> String {
    if stat.files.is_empty() {
        return "no changes".to_owned();
    }
    let paths: Vec<_> = stat.files.iter().map(|file| clean_line(&file.path)).collect();
    let widest = paths.iter().map(|path| path.chars().count()).max().unwrap_or(0);
    let most = stat
        .files
        .iter()
        .map(|file| file.insertions.unwrap_or(0) + file.deletions.unwrap_or(0))
        .max()
        .unwrap_or(0);
    let digits = most.to_string().len().max(3);
    let room = u64::try_from(width.saturating_sub(widest + digits + 4).clamp(10, 60)).unwrap_or(10);
    // Small changes one sign a line, large ones in proportion, and never none for some.
    let signs = |count: u64| match count {
        0 => 0,
        _ if most <= room => count,
        _ => (count * room / most).max(1),
    };
    let mut lines: Vec<_> = stat
        .files
        .iter()
        .zip(&paths)
        .map(|(file, path)| match (file.insertions, file.deletions) {
            (Some(plus), Some(minus)) => {
                let repeat = |sign: &str, count| sign.repeat(usize::try_from(count).unwrap_or(0));
                let bar =
                    paint.green(&repeat("+", signs(plus))) + &paint.red(&repeat("-", signs(minus)));
                format!(" {path:<widest$} | {:>digits$} {bar}", plus + minus)
            }
            _ => format!(" {path:<widest$} | {:>digits$}", "bin"),
        })
        .collect();
    let plural =
        |count: u64, one: &str| format!("{count} {one}{}", if count == 1 { "" } else { "s" });
    lines.push(format!(
        " {} changed, {}(+), {}(-)",
        plural(stat.files.len() as u64, "file"),
        plural(stat.insertions, "insertion"),
        plural(stat.deletions, "deletion"),
    ));
    lines.join("\n")
}

/// Tokens in words.
pub(crate) fn token_words(tokens: TokenUsage) -> String {
    let read = tokens.input + tokens.cache_read + tokens.cache_write_5m + tokens.cache_write_1h;
    let cached = match tokens.cache_read {
        0 => String::new(),
        cached => format!(" ({} cached)", thousands(cached)),
    };
    format!("{} tokens in{cached}, {} out", thousands(read), thousands(tokens.output))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_diff_in_numbers_keeps_its_proportions() {
        let file = |path: &str, insertions, deletions| rclaude_types::DiffStatFile {
            path: path.to_owned(),
            insertions,
            deletions,
        };
        let stat = DiffStat {
            files: vec![
                file("src/main.rs", Some(3), Some(1)),
                file("big.txt", Some(1_000), Some(0)),
                file("logo.png", None, None),
            ],
            insertions: 1_003,
            deletions: 1,
        };
        insta::assert_snapshot!(diff_stat(Paint::new(false), &stat, 50));
    }
}
