//! What a terminal would show now, and the bytes that make another show the same.
//!
//! The emulator (`vt100`) understands what moves, colours and clears; a few switches that it does
//! not know are kept beside it. It holds no half sequences that a snapshot could tell of, so a
//! snapshot stands for the last offset at which nothing was cut ([`Boundary`]); the little that
//! came after it is in the journal, and a viewer reads it from there.

use std::{fmt::Write, num::NonZeroU16};

use rclaude_types::{TerminalModes, TerminalSize};
use vt100::{Callbacks, MouseProtocolMode, Parser};

/// The longest title that is kept, in bytes.
const MAX_TITLE: usize = 256;

/// Makes any terminal one that can be painted: main screen, no scroll region, no reports of mouse,
/// focus or paste, ordinary letters, wrapping on, a cursor.
const CLEAN: &str = "\x1b[?1049l\x1b[!p\x1b[r\x1b[?6l\x1b[4l\x1b[?7h\x1b(B\x0f\x1b[?9l\x1b[?1000l\x1b[?1002l\
     \x1b[?1003l\x1b[?1005l\x1b[?1006l\x1b[?1015l\x1b[?1004l\x1b[?1007l\x1b[?2004l\x1b[0m";

/// The switches kept beside the emulator's: number, and how it is at first.
const SWITCHES: [(u16, bool); 4] = [(7, true), (1004, false), (1007, false), (1015, false)];

/// The screen of one terminal.
pub(super) struct Screen {
    parser: Parser<Beside>,
    boundary: Boundary,
    /// Offset of the next byte.
    end: u64,
    /// Offset after the last byte at which nothing was cut.
    whole: u64,
}

/// What the emulator tells of but does not keep.
#[derive(Debug, Default)]
struct Beside {
    title: Option<String>,
    /// Which of [`SWITCHES`] are not as they are at first.
    switched: [bool; SWITCHES.len()],
}

impl Callbacks for Beside {
    fn set_window_title(&mut self, _: &mut vt100::Screen, title: &[u8]) {
        let mut text: String =
            String::from_utf8_lossy(title).chars().filter(|c| !c.is_control()).collect();
        text.truncate(text.floor_char_boundary(MAX_TITLE));
        self.title = (!text.is_empty()).then_some(text);
    }

    fn unhandled_csi(
        &mut self,
        _: &mut vt100::Screen,
        first: Option<u8>,
        _: Option<u8>,
        parameters: &[&[u16]],
        letter: char,
    ) {
        if first != Some(b'?') || !matches!(letter, 'h' | 'l') {
            return;
        }
        for ((number, at_first), switched) in SWITCHES.iter().zip(&mut self.switched) {
            if parameters.iter().any(|parameter| parameter.first() == Some(number)) {
                *switched = (letter == 'h') != *at_first;
            }
        }
    }
}

/// Bytes that repaint a screen.
#[derive(Debug)]
pub(super) struct Snapshot {
    pub(super) bytes: Vec<u8>,
    /// The offset at which what the terminal printed goes on.
    pub(super) offset: u64,
}

impl Screen {
    /// An empty screen; the first byte it will be shown is at `offset`.
    pub(super) fn new(size: TerminalSize, offset: u64) -> Self {
        let (rows, cols) = lines(size);
        Self {
            parser: Parser::new_with_callbacks(rows, cols, 0, Beside::default()),
            boundary: Boundary::default(),
            end: offset,
            whole: offset,
        }
    }

    /// Shows what the terminal printed next.
    pub(super) fn show(&mut self, bytes: &[u8]) {
        self.parser.process(bytes);
        if let Some(after) = self.boundary.pass(bytes) {
            self.whole = self.end + after as u64;
        }
        self.end += bytes.len() as u64;
    }

    pub(super) fn resize(&mut self, size: TerminalSize) {
        let (rows, cols) = lines(size);
        self.parser.set_size(rows, cols);
    }

    pub(super) fn title(&self) -> Option<String> {
        self.parser.callbacks().title.clone()
    }

    pub(super) fn modes(&self) -> TerminalModes {
        let screen = self.parser.screen();
        TerminalModes {
            alternate_screen: screen.alternate_screen(),
            application_cursor: screen.application_cursor(),
            application_keypad: screen.application_keypad(),
            bracketed_paste: screen.bracketed_paste(),
            mouse: screen.mouse_protocol_mode() != MouseProtocolMode::None,
            hidden_cursor: screen.hide_cursor(),
        }
    }

    /// What makes any terminal of the same size show this screen, whatever it showed before.
    pub(super) fn snapshot(&self) -> Snapshot {
        let screen = self.parser.screen();
        let beside = self.parser.callbacks();
        let mut text = String::from(CLEAN);
        if screen.alternate_screen() {
            // What is under it comes back when the program leaves it.
            text.push_str(&self.main_screen().contents_formatted());
            text.push_str("\x1b[?1049h");
        }
        text.push_str(&screen.state_formatted());
        for ((number, at_first), switched) in SWITCHES.iter().zip(beside.switched) {
            if switched {
                let letter = if *at_first { 'l' } else { 'h' };
                let _infallible = write!(text, "\x1b[?{number}{letter}");
            }
        }
        if let Some(title) = &beside.title {
            let _infallible = write!(text, "\x1b]2;{title}\x07");
        }
        Snapshot { bytes: text.into_bytes(), offset: self.whole }
    }

    /// The screen under the alternate one.
    fn main_screen(&self) -> vt100::Screen {
        let screen = self.parser.screen();
        let (rows, cols) = screen.size();
        let mut parser = Parser::new(rows, cols, 0);
        *parser.screen_mut() = screen.clone();
        parser.process(b"\x1b[?47l");
        parser.screen().clone()
    }
}

fn lines(size: TerminalSize) -> (NonZeroU16, NonZeroU16) {
    let at_least_one = |number| NonZeroU16::new(number).unwrap_or(NonZeroU16::MIN);
    (at_least_one(size.rows), at_least_one(size.cols))
}

/// Where in the stream of bytes a reader may begin without seeing half of something: between
/// characters (UTF-8) and between escape sequences (ECMA-48).
#[derive(Debug, Default)]
struct Boundary(State);

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum State {
    /// Between things.
    #[default]
    Ground,
    /// In a character that has so many bytes to come.
    Character(u8),
    /// After ESC, and after the intermediate bytes that may follow it.
    Escape,
    /// In a control sequence (`ESC [`).
    Control,
    /// In a string (`ESC ]`, `ESC P`, `ESC X`, `ESC ^`, `ESC _`), which BEL ends if it is the first.
    Text { bell_ends: bool },
    /// In such a string, after ESC.
    TextEscape { bell_ends: bool },
}

impl Boundary {
    /// Passes over `bytes`; how many of them lie before the last boundary in them, if there is one.
    fn pass(&mut self, bytes: &[u8]) -> Option<usize> {
        let mut last = None;
        for (index, &byte) in bytes.iter().enumerate() {
            self.0 = next(self.0, byte);
            if self.0 == State::Ground {
                last = Some(index + 1);
            }
        }
        last
    }
}

fn next(state: State, byte: u8) -> State {
    const CAN: u8 = 0x18;
    const SUB: u8 = 0x1a;
    const ESC: u8 = 0x1b;
    match (state, byte) {
        // These end whatever is under way; ESC also begins something.
        (State::Text { .. } | State::TextEscape { .. }, CAN | SUB) => State::Ground,
        (State::Text { bell_ends }, ESC) => State::TextEscape { bell_ends },
        (State::Text { bell_ends: true }, 0x07) => State::Ground,
        (State::Text { bell_ends }, _) => State::Text { bell_ends },
        (State::TextEscape { .. }, b'\\') => State::Ground,
        (State::TextEscape { .. }, _) => next(State::Escape, byte),
        (_, CAN | SUB) => State::Ground,
        (_, ESC) => State::Escape,
        (State::Character(more), 0x80..=0xbf) if more > 1 => State::Character(more - 1),
        (State::Character(_), 0x80..=0xbf) => State::Ground,
        (State::Escape, b'[') => State::Control,
        (State::Escape, b']') => State::Text { bell_ends: true },
        (State::Escape, b'P' | b'X' | b'^' | b'_') => State::Text { bell_ends: false },
        (State::Escape, 0x30..=0x7e) => State::Ground,
        (State::Escape, _) => State::Escape,
        (State::Control, 0x40..=0x7e) => State::Ground,
        (State::Control, _) => State::Control,
        // Ground, or a character that was broken off by another.
        (_, 0xc2..=0xdf) => State::Character(1),
        (_, 0xe0..=0xef) => State::Character(2),
        (_, 0xf0..=0xf4) => State::Character(3),
        _ => State::Ground,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SIZE: TerminalSize = TerminalSize { rows: 6, cols: 20 };

    /// What another terminal shows after the snapshot and what follows it.
    fn copy(screen: &Screen, printed: &[u8]) -> Screen {
        let snapshot = screen.snapshot();
        let mut other = Screen::new(SIZE, 0);
        // Something is on it, and it is in a sorry state.
        other.show(b"\x1b[?1049h\x1b[2;3r\x1b[?1003h\x1b[?2004hold\x1b[31;7m\x1b[?25l\x1b[?1004h");
        other.show(&snapshot.bytes);
        other.show(&printed[usize::try_from(snapshot.offset).unwrap()..]);
        other
    }

    fn assert_same(a: &Screen, b: &Screen) {
        assert_eq!(a.parser.screen().contents(), b.parser.screen().contents());
        assert_eq!(a.parser.screen().state_formatted(), b.parser.screen().state_formatted());
        assert_eq!(a.modes(), b.modes());
        assert_eq!(a.title(), b.title());
        assert_eq!(a.parser.callbacks().switched, b.parser.callbacks().switched);
    }

    #[test]
    fn a_snapshot_at_any_byte_and_the_bytes_after_it_show_the_same() {
        let printed = "plain\r\n\x1b[1;31mrote Schrift \u{e4}\u{4f60}\u{597d}\u{1f980}\x1b[0m\
            \x1b]2;a \u{fc}title\x07\x1b[?2004h\x1b[?1h\x1b=\x1b[?1002h\x1b[?1006h\x1b[?1004h\
            \x1bPq#0;2;0\x1b\\\x1b(B\x1b[3;5Hthere\x1b[?1049h\x1b[2J\x1b[Hin an editor\x1b[?25l\
            \x1b[4;1H~\x1b[?7l\x1b[?1049lback\x1b[?25h again and on over the edge of the line";
        let printed = printed.as_bytes();
        let mut whole = Screen::new(SIZE, 0);
        whole.show(printed);
        for cut in 0..=printed.len() {
            let mut screen = Screen::new(SIZE, 0);
            screen.show(&printed[..cut]);
            assert!(screen.whole <= cut as u64);
            assert_same(&copy(&screen, printed), &whole);
        }
    }

    #[test]
    fn a_character_in_two_pieces_is_one_character() {
        let text = "\u{e4}\u{20ac}\u{1f980}".as_bytes();
        for cut in 1..text.len() {
            let mut screen = Screen::new(SIZE, 0);
            screen.show(&text[..cut]);
            let whole = str::from_utf8(&text[..cut]).map_or_else(|e| e.valid_up_to(), str::len);
            assert_eq!(screen.whole, whole as u64, "after {cut} bytes");
            screen.show(&text[cut..]);
            assert_eq!(screen.parser.screen().contents(), "\u{e4}\u{20ac}\u{1f980}");
        }
    }

    #[test]
    fn leaving_the_alternate_screen_after_a_snapshot_shows_what_was_under_it() {
        let mut screen = Screen::new(SIZE, 0);
        screen.show(b"$ vi\r\n\x1b[?1049h\x1b[2J\x1b[Hthe file");
        assert!(screen.modes().alternate_screen);
        let mut other = Screen::new(SIZE, 0);
        other.show(&screen.snapshot().bytes);
        assert_eq!(other.parser.screen().contents(), "the file");
        for it in [&mut screen, &mut other] {
            it.show(b"\x1b[?1049l$ ");
            assert_eq!(it.parser.screen().contents(), "$ vi\n$ ");
        }
        assert_same(&screen, &other);
    }

    #[test]
    fn the_switches_for_mouse_paste_and_focus_are_in_the_snapshot() {
        let mut screen = Screen::new(SIZE, 0);
        screen.show(b"\x1b[?1000h\x1b[?1006h\x1b[?2004h\x1b[?1004h\x1b[?1h\x1b[?25l");
        let wanted = TerminalModes {
            application_cursor: true,
            bracketed_paste: true,
            mouse: true,
            hidden_cursor: true,
            ..TerminalModes::default()
        };
        assert_eq!(screen.modes(), wanted);
        let text = String::from_utf8(screen.snapshot().bytes).unwrap();
        let after_clean = &text[CLEAN.len()..];
        for switch in ["?1000h", "?1006h", "?2004h", "?1004h", "?1h", "?25l"] {
            assert!(after_clean.contains(switch), "{switch} is not in {after_clean:?}");
        }
        screen.show(b"\x1b[?1000l\x1b[?1006l\x1b[?2004l\x1b[?1004l\x1b[?1l\x1b[?25h");
        let text = String::from_utf8(screen.snapshot().bytes).unwrap();
        assert!(!text[CLEAN.len()..].contains("?1004h") && !text.contains("?1000h"));
    }

    #[test]
    fn a_title_is_bounded_and_cannot_end_its_own_sequence() {
        let mut screen = Screen::new(SIZE, 0);
        screen.show(format!("\x1b]0;{}\x1b\\", "\u{fc}".repeat(5000)).as_bytes());
        assert_eq!(screen.title().map(|title| title.len()), Some(MAX_TITLE));
        screen.show(b"\x1b]2;evil\xc2\x9c\x1b\\");
        assert_eq!(screen.title().as_deref(), Some("evil"));
    }

    /// The daemon is PID 1 and a panic its end, so no program may bring the emulator to one.
    #[test]
    fn nothing_a_program_prints_brings_the_screen_down() {
        let pieces: [&[u8]; 24] = [
            b"\x1b[",
            b"\x1b]",
            b"\x1bP",
            b"\x1b(0",
            b"?",
            b";",
            b"0",
            b"99999999999",
            b"65535",
            b"h",
            b"l",
            b"H",
            b"r",
            b"m",
            b"@PLMXJK",
            b"\x1b[?1049h",
            b"\x1b[?1049l",
            b"\x1b[?6h",
            "\u{597d}\u{301}\u{200d}\u{1f980}".as_bytes(),
            b"\r\n\n\t\x08",
            b"\x1bM\x1b7\x1b8",
            b"\xff\xe5",
            b"\x1b[S\x1b[T\x1b[b",
            b"words and more words",
        ];
        let mut seed = 0x9e37_79b9_7f4a_7c15_u64;
        let mut random = |below: usize| {
            seed ^= seed << 13;
            seed ^= seed >> 7;
            seed ^= seed << 17;
            usize::try_from(seed % below as u64).unwrap()
        };
        for _ in 0..300 {
            let size = |random: &mut dyn FnMut(usize) -> usize| TerminalSize {
                rows: u16::try_from(random(5) + 1).unwrap(),
                cols: u16::try_from(random(7) + 2).unwrap(),
            };
            let mut screen = Screen::new(size(&mut random), 0);
            for _ in 0..200 {
                match random(30) {
                    0 => screen.resize(size(&mut random)),
                    1 => drop(screen.snapshot()),
                    2 => screen.show(&[u8::try_from(random(256)).unwrap()]),
                    _ => screen.show(pieces[random(pieces.len())]),
                }
            }
        }
    }
}
