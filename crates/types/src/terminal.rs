//! Terminals in a session: shells that outlive whoever looks at them.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::{TerminalId, Timestamp};

/// Body of `POST /v1/sessions/{id}/terminals`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct CreateTerminal {
    /// Program and arguments; the user's login shell if empty.
    #[cfg_attr(feature = "openapi", schema(max_items = 10_000))]
    pub command: Vec<String>,
    /// Where it starts; the workspace if absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(min_length = 1, max_length = 4096))]
    pub cwd: Option<String>,
    /// Environment on top of the session's.
    pub env: BTreeMap<String, String>,
    /// Run as the sandbox's root, where the session allows it.
    pub root: bool,
    /// How large it is at first.
    pub size: TerminalSize,
}

/// How large a terminal is, in characters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct TerminalSize {
    /// Lines.
    #[cfg_attr(feature = "openapi", schema(minimum = 1, maximum = 500))]
    pub rows: u16,
    /// Columns.
    #[cfg_attr(feature = "openapi", schema(minimum = 2, maximum = 1000))]
    pub cols: u16,
}

impl TerminalSize {
    /// Lines a terminal may have.
    pub const ROWS: std::ops::RangeInclusive<u16> = 1..=500;
    /// Columns a terminal may have; in one column a wide character has no place.
    pub const COLS: std::ops::RangeInclusive<u16> = 2..=1000;

    /// Whether there can be a terminal of this size.
    pub fn is_possible(self) -> bool {
        Self::ROWS.contains(&self.rows) && Self::COLS.contains(&self.cols)
    }
}

impl Default for TerminalSize {
    /// As terminals have been since the VT100.
    fn default() -> Self {
        Self { rows: 24, cols: 80 }
    }
}

/// Where a terminal is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub enum TerminalState {
    /// Its program runs.
    Running,
    /// Its program ended; see code or signal.
    Exited,
    /// Its sandbox was stopped under it; see reason.
    Lost,
}

/// A terminal as callers see it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Terminal {
    /// Its id.
    pub id: TerminalId,
    /// Program and arguments.
    pub command: Vec<String>,
    /// Where it is.
    pub state: TerminalState,
    /// Exit code, if the program exited by itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exit_code: Option<i32>,
    /// The signal that ended it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signal: Option<i32>,
    /// Why it ended, if not by itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// How large it is.
    pub size: TerminalSize,
    /// What the program calls its window.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub title: Option<String>,
    /// How many are attached now.
    pub viewers: u32,
    /// Offset of the first byte that is kept of what it printed.
    pub first_offset: u64,
    /// Bytes it printed in all: the offset of the next.
    pub offset: u64,
    /// When it began.
    pub started_at: Timestamp,
    /// When it last printed something.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub printed_at: Option<Timestamp>,
    /// When it ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ended_at: Option<Timestamp>,
}

/// What a terminal's program has asked of the terminal that shows it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[expect(clippy::struct_excessive_bools, reason = "each is a switch of the terminal's")]
pub struct TerminalModes {
    /// The alternate screen is shown, as editors and pagers do.
    pub alternate_screen: bool,
    /// Cursor keys send what applications expect (DECCKM).
    pub application_cursor: bool,
    /// So does the keypad (DECKPAM).
    pub application_keypad: bool,
    /// Pasted text comes in brackets.
    pub bracketed_paste: bool,
    /// The mouse is reported.
    pub mouse: bool,
    /// The cursor is hidden.
    pub hidden_cursor: bool,
}

/// What a viewer needs to begin, or to begin anew.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct TerminalView {
    /// How large the terminal is.
    pub size: TerminalSize,
    /// What its program has asked for.
    pub modes: TerminalModes,
    /// What the program calls its window.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub title: Option<String>,
    /// So many bytes of the binary frames that follow repaint the screen; they have no offsets.
    pub snapshot_bytes: u64,
    /// Offset of the first byte after them.
    pub offset: u64,
    /// Offset of the first byte that is kept.
    pub first_offset: u64,
    /// Bytes that this viewer's `writer` has typed so far: the offset of its next.
    pub input_offset: u64,
}

/// A text frame of `GET …/terminals/{terminal}/attach`, from the server. Binary frames are what the
/// terminal prints.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub enum TerminalFrame {
    /// Always first.
    Attached(TerminalView),
    /// The viewer was so far behind that what it lacks is not kept any more: the screen anew.
    Snapshot(TerminalView),
    /// Somebody changed the size.
    Resized {
        /// What it is now.
        size: TerminalSize,
    },
    /// The program ended; always last.
    Exited {
        /// Exit code, if it exited by itself.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        code: Option<i32>,
        /// The signal that ended it.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        signal: Option<i32>,
        /// Why, if not by itself.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        reason: Option<String>,
    },
}

/// A text frame of the same, from the client. Its binary frames are what is typed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub enum TerminalControl {
    /// Makes the terminal so large. The last to say so wins.
    Resize {
        /// How large.
        size: TerminalSize,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_are_told_apart_by_their_type() {
        let resized = TerminalFrame::Resized { size: TerminalSize { rows: 3, cols: 4 } };
        let json = serde_json::to_string(&resized).unwrap();
        assert_eq!(json, r#"{"type":"resized","size":{"rows":3,"cols":4}}"#);
        assert_eq!(serde_json::from_str::<TerminalFrame>(&json).unwrap(), resized);
        let resize: TerminalControl =
            serde_json::from_str(r#"{"type":"resize","size":{"rows":3,"cols":4}}"#).unwrap();
        assert_eq!(resize, TerminalControl::Resize { size: TerminalSize { rows: 3, cols: 4 } });
    }

    #[test]
    fn a_terminal_without_room_for_a_wide_character_is_impossible() {
        let possible = |rows, cols| TerminalSize { rows, cols }.is_possible();
        assert!(possible(1, 2) && possible(500, 1000) && TerminalSize::default().is_possible());
        assert!(!possible(0, 80) && !possible(24, 1) && !possible(501, 80) && !possible(24, 1001));
    }
}
