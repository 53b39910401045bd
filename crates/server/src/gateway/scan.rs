//! Picks the values of a few top-level keys out of a JSON object that flows past in pieces.
//!
//! It holds no more than those values (each up to 64 KiB) and looks at each byte once, so a
//! request of any size can be watched without keeping it. It does not validate: on text that is
//! not JSON it finds nothing, or nonsense, which the reader of the values has to expect.

/// The longest value that is kept.
const VALUE_LIMIT: usize = 64 << 10;
/// The longest key that is told apart; longer ones are nobody's.
const KEY_LIMIT: usize = 64;

/// Watches for `N` keys.
#[derive(Debug)]
pub(super) struct TopLevelScan<const N: usize> {
    wanted: [&'static str; N],
    found: [Option<Vec<u8>>; N],
    /// How many brackets are open; the object's own keys are at 1.
    depth: u32,
    string: Quote,
    place: Place,
    key: Vec<u8>,
    /// The wanted key whose value is being read.
    reading: Option<usize>,
    closed: bool,
}

/// Whether a string is open.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Quote {
    Outside,
    Inside,
    /// After a backslash.
    Escaped,
}

/// Where in the object, at its top level.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Place {
    Key,
    Value,
}

impl<const N: usize> TopLevelScan<N> {
    pub(super) fn new(wanted: [&'static str; N]) -> Self {
        Self {
            wanted,
            found: [const { None }; N],
            depth: 0,
            string: Quote::Outside,
            place: Place::Key,
            key: Vec::new(),
            reading: None,
            closed: false,
        }
    }

    /// Whether the object is over.
    pub(super) fn closed(&self) -> bool {
        self.closed
    }

    /// The value of the `index`th wanted key, as JSON text.
    pub(super) fn value(&self, index: usize) -> Option<&[u8]> {
        self.found[index].as_deref().filter(|_| self.reading != Some(index))
    }

    /// The same, where it is a string.
    pub(super) fn text(&self, index: usize) -> Option<String> {
        serde_json::from_slice(self.value(index)?).ok()
    }

    /// Looks at the next bytes.
    pub(super) fn feed(&mut self, mut bytes: &[u8]) {
        while let [byte, rest @ ..] = bytes {
            if self.closed {
                return;
            }
            // Most of a conversation is text in strings: run through it.
            if self.string == Quote::Inside && self.reading.is_none() && !self.in_key() {
                let text = bytes.iter().position(|byte| matches!(byte, b'"' | b'\\'));
                let Some(end) = text else { return };
                self.string = if bytes[end] == b'"' { Quote::Outside } else { Quote::Escaped };
                bytes = &bytes[end + 1..];
                continue;
            }
            self.step(*byte);
            bytes = rest;
        }
    }

    fn in_key(&self) -> bool {
        self.depth == 1 && self.place == Place::Key
    }

    fn step(&mut self, byte: u8) {
        match self.string {
            Quote::Escaped => self.string = Quote::Inside,
            Quote::Inside if byte == b'\\' => self.string = Quote::Escaped,
            Quote::Inside if byte == b'"' => {
                self.string = Quote::Outside;
                self.keep(byte);
                return;
            }
            Quote::Inside => {}
            Quote::Outside => {
                self.structure(byte);
                return;
            }
        }
        if self.in_key() && self.key.len() <= KEY_LIMIT {
            self.key.push(byte);
        }
        self.keep(byte);
    }

    /// A byte outside all strings.
    fn structure(&mut self, byte: u8) {
        match byte {
            b'"' => {
                self.string = Quote::Inside;
                if self.in_key() {
                    self.key.clear();
                }
            }
            b'{' | b'[' => self.depth += 1,
            b'}' | b']' => {
                if self.depth == 1 {
                    self.reading = None;
                }
                self.depth = self.depth.saturating_sub(1);
                self.closed = self.depth == 0;
            }
            b':' if self.in_key() => {
                self.place = Place::Value;
                self.reading = self.wanted.iter().position(|key| key.as_bytes() == self.key);
                if let Some(index) = self.reading {
                    self.found[index] = Some(Vec::new());
                }
                return;
            }
            b',' if self.depth == 1 => {
                self.place = Place::Key;
                self.reading = None;
            }
            _ => {}
        }
        self.keep(byte);
    }

    fn keep(&mut self, byte: u8) {
        let Some(index) = self.reading else { return };
        let found = &mut self.found[index];
        match found {
            Some(value) if value.len() < VALUE_LIMIT => value.push(byte),
            _ => *found = None,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::*;

    fn scan(pieces: &[&[u8]]) -> TopLevelScan<2> {
        let mut scan = TopLevelScan::new(["model", "usage"]);
        for piece in pieces {
            scan.feed(piece);
        }
        scan
    }

    #[test]
    fn only_the_top_level_counts() {
        let scan = scan(&[br#"{"a":{"model":"inner","x":["model"]},"b":"\"model\":\"no\"",
            "model" : "m-\"1" ,"usage":{"n":[1,{"m":2}]}}"#]);
        assert_eq!(scan.text(0).as_deref(), Some("m-\"1"));
        assert_eq!(scan.value(1), Some(&br#"{"n":[1,{"m":2}]}"#[..]));
        assert!(scan.closed());
    }

    #[test]
    fn a_value_is_known_only_when_it_is_over() {
        let scan = scan(&[br#"{"model":"m","usage":{"n":1}"#]);
        assert_eq!((scan.text(0).as_deref(), scan.value(1)), (Some("m"), None));
        assert!(!scan.closed());
    }

    #[test]
    fn a_value_without_end_is_let_go() {
        let long = format!(r#"{{"model":"{}","usage":1}}"#, "x".repeat(VALUE_LIMIT));
        let scan = scan(&[long.as_bytes()]);
        assert_eq!((scan.value(0), scan.value(1)), (None, Some(&b"1"[..])));
    }

    fn json_value() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i32>().prop_map(Value::from),
            "[a-z\"\\\\{}:,\\[\\]é]{0,8}".prop_map(Value::from),
        ];
        leaf.prop_recursive(3, 24, 4, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
                prop::collection::btree_map("model|usage|[a-z\"]{0,3}", inner, 0..4)
                    .prop_map(|map| Value::Object(map.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn it_finds_what_a_parser_finds_however_the_text_is_split(
            model in json_value(),
            usage in json_value(),
            other in json_value(),
            at in any::<prop::sample::Index>(),
        ) {
            let object = json!({ "a": other, "model": model, "usage": usage });
            let text = object.to_string();
            let (first, second) = text.as_bytes().split_at(at.index(text.len()));
            let scan = scan(&[first, second]);
            let parse = |index| serde_json::from_slice::<Value>(scan.value(index).unwrap()).unwrap();
            prop_assert_eq!((parse(0), parse(1)), (model, usage));
            prop_assert!(scan.closed());
        }

        #[test]
        fn no_bytes_upset_it(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            scan(&[&bytes]);
        }
    }
}
