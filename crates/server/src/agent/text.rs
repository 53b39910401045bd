//! Text from the agent, kept within bounds.

/// The most text of one tool's output, one diff or one unknown line that an event carries. The
/// whole is in the process's journal.
pub const MAX_TEXT_BYTES: usize = 256 * 1024;

/// The text, cut to at most `max` bytes at a character's boundary, with a note of how much is
/// missing.
pub(super) fn bounded(text: &str, max: usize) -> String {
    if text.len() <= max {
        return text.to_owned();
    }
    let kept = &text[..text.floor_char_boundary(max)];
    format!("{kept}\n[{} more bytes are not shown]", text.len() - kept.len())
}

/// The first line of a text, cut to at most `max` characters with an ellipsis.
pub(super) fn one_line(text: &str, max: usize) -> String {
    let text = text.trim();
    let line = text.lines().next().unwrap_or_default().trim_end();
    let more = line.len() < text.len();
    match line.char_indices().nth(max) {
        Some((end, _)) => format!("{}…", &line[..end]),
        None if more => format!("{line} …"),
        None => line.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_text_is_cut_between_characters_and_says_how_much_is_missing() {
        assert_eq!(bounded("häh", 2), "h\n[3 more bytes are not shown]");
        assert_eq!(bounded("häh", 4), "häh");
    }

    #[test]
    fn a_title_is_one_short_line() {
        assert_eq!(one_line("  make it so \n now", 80), "make it so …");
        assert_eq!(one_line("ääää", 3), "äää…");
        assert_eq!(one_line("", 3), "");
    }
}
