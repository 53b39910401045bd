//! However the bytes arrive and wherever the server is stopped, the events are the same.

use proptest::{prelude::*, test_runner::Config};
use rclaude_server::agent::{Signal, Translator};

use super::recording::{self, Recording, joined};

/// Stores the translator and reads on from its offset, as a restarted server does.
fn restarted(translator: &Translator) -> (Translator, usize) {
    let stored = serde_json::to_string(translator).unwrap();
    let translator: Translator = serde_json::from_str(&stored).unwrap();
    let offset = usize::try_from(translator.offset()).unwrap();
    (translator, offset)
}

#[test]
fn bytes_that_come_one_by_one_mean_the_same() {
    for recording in recording::all() {
        let mut translator = recording.translator();
        let mut signals: Vec<Signal> = Vec::new();
        for byte in &recording.output {
            signals.extend(translator.feed(&[*byte]));
        }
        assert_eq!(joined(signals), recording.signals(), "{}", recording.name);
    }
}

#[test]
fn a_restart_after_every_line_changes_nothing() {
    for recording in recording::all() {
        let mut translator = recording.translator();
        let mut signals: Vec<Signal> = Vec::new();
        for line in recording.output.split_inclusive(|byte| *byte == b'\n') {
            // Half a line was read when the server died, and is read again.
            signals.extend(translator.feed(&line[..line.len() / 2]));
            translator = restarted(&translator).0;
            signals.extend(translator.feed(line));
        }
        assert_eq!(joined(signals), recording.signals(), "{}", recording.name);
    }
}

proptest! {
    #![proptest_config(Config { cases: 64, ..Config::default() })]

    #[test]
    fn cuts_and_restarts_anywhere_change_nothing(
        which in any::<prop::sample::Index>(),
        cuts in prop::collection::vec((1usize..5_000, any::<bool>()), 1..200),
    ) {
        let recordings = ["tools", "sub-agent", "settings-live", "question", "slash", "background"];
        let recording = Recording::read(which.get::<&str>(&recordings));
        let mut translator = recording.translator();
        let mut signals = Vec::new();
        let mut at = 0;
        for (length, restart) in cuts {
            let end = recording.output.len().min(at + length);
            signals.extend(translator.feed(&recording.output[at..end]));
            at = end;
            if restart {
                (translator, at) = restarted(&translator);
            }
        }
        signals.extend(translator.feed(&recording.output[at..]));
        prop_assert_eq!(joined(signals), recording.signals());
    }
}
