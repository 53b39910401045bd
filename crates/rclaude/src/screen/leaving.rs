//! The keys that leave a terminal without ending it.

use std::str::FromStr;

/// What was typed, once the keys that leave are looked for in it.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Heard {
    /// To be passed on.
    pub(crate) keys: Vec<u8>,
    /// The keys that leave were typed after them.
    pub(crate) leaves: bool,
}

/// Watches for a sequence of keys. What may be its beginning is held back until the next key tells;
/// but for an Enter, which is passed on at once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Leaving {
    /// Only directly after Enter, or as the first that is typed.
    after_enter: bool,
    /// Empty where nothing leaves.
    sequence: Vec<u8>,
    at_start: bool,
    held: usize,
}

impl Default for Leaving {
    /// Enter, `~`, `.`, as `ssh` has it.
    fn default() -> Self {
        Self { after_enter: true, sequence: b"~.".to_vec(), at_start: true, held: 0 }
    }
}

impl Leaving {
    /// The sequence in words.
    pub(crate) fn words(&self) -> String {
        let enter = self.after_enter.then(|| "Enter".to_owned());
        let keys = self.sequence.iter().map(|key| match key {
            1..=26 => format!("ctrl-{}", char::from(key - 1 + b'a')),
            0x1b..=0x1f => format!("ctrl-{}", char::from(key + 0x40)),
            key => char::from(*key).to_string(),
        });
        enter.into_iter().chain(keys).collect::<Vec<_>>().join(" ")
    }

    /// Whether there is a way to leave.
    pub(crate) const fn is_possible(&self) -> bool {
        !self.sequence.is_empty()
    }

    /// Takes what was typed.
    pub(crate) fn hear(&mut self, typed: &[u8]) -> Heard {
        let mut keys = Vec::with_capacity(typed.len());
        for &key in typed {
            if self.sequence.get(self.held) == Some(&key)
                && (self.held > 0 || self.at_start || !self.after_enter)
            {
                self.held += 1;
                if self.held == self.sequence.len() {
                    self.held = 0;
                    return Heard { keys, leaves: true };
                }
                continue;
            }
            keys.extend_from_slice(&self.sequence[..self.held]);
            self.held = 0;
            self.at_start = matches!(key, b'\r' | b'\n');
            // The key that broke the sequence off may begin it.
            if self.sequence.first() == Some(&key) && !self.after_enter {
                self.held = 1;
            } else {
                keys.push(key);
            }
        }
        Heard { keys, leaves: false }
    }
}

impl FromStr for Leaving {
    type Err = String;

    /// Keys with commas between: `ctrl-]`, `ctrl-p,ctrl-q`, `enter,~,.`, or `none`.
    fn from_str(text: &str) -> Result<Self, String> {
        let none = Self { after_enter: false, sequence: Vec::new(), at_start: true, held: 0 };
        if text == "none" {
            return Ok(none);
        }
        let mut words = text.split(',').peekable();
        let after_enter = words.next_if_eq(&"enter").is_some();
        let sequence = words.map(key).collect::<Option<Vec<u8>>>().filter(|keys| !keys.is_empty());
        let sequence = sequence.ok_or_else(|| {
            "give keys with commas between, such as `ctrl-]`, `ctrl-p,ctrl-q` or `enter,~,.`, or \
             `none`"
                .to_owned()
        })?;
        Ok(Self { after_enter, sequence, ..none })
    }
}

fn key(word: &str) -> Option<u8> {
    let single = |text: &str| match text.as_bytes() {
        [byte] if byte.is_ascii_graphic() => Some(*byte),
        _ => None,
    };
    match word.strip_prefix("ctrl-") {
        Some(letter) => {
            let letter = single(letter)?.to_ascii_uppercase();
            (b'@'..=b'_').contains(&letter).then_some(letter & 0x1f)
        }
        None => single(word),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn heard(leaving: &mut Leaving, typed: &str) -> (String, bool) {
        let Heard { keys, leaves } = leaving.hear(typed.as_bytes());
        (String::from_utf8(keys).unwrap(), leaves)
    }

    #[test]
    fn enter_tilde_dot_leaves_and_a_tilde_elsewhere_is_a_tilde() {
        let mut leaving = Leaving::default();
        assert_eq!(heard(&mut leaving, "ls ~/x ~.\r"), ("ls ~/x ~.\r".to_owned(), false));
        assert_eq!(heard(&mut leaving, "~"), (String::new(), false));
        assert_eq!(heard(&mut leaving, "/bin"), ("~/bin".to_owned(), false));
        assert_eq!(heard(&mut leaving, "\r~~."), ("\r~~.".to_owned(), false));
        assert_eq!(heard(&mut leaving, "\recho\r~."), ("\recho\r".to_owned(), true));
        assert_eq!(heard(&mut Leaving::default(), "~.x"), (String::new(), true));
    }

    #[test]
    fn other_keys_can_be_chosen() {
        let mut one: Leaving = "ctrl-]".parse().unwrap();
        assert_eq!(heard(&mut one, "a\x1d"), ("a".to_owned(), true));
        let mut two: Leaving = "ctrl-p,ctrl-q".parse().unwrap();
        assert_eq!(heard(&mut two, "\x10x\x10"), ("\x10x".to_owned(), false));
        assert_eq!(heard(&mut two, "\x10\x11"), ("\x10".to_owned(), true));
        let mut none: Leaving = "none".parse().unwrap();
        assert_eq!(heard(&mut none, "\r~.\x1d"), ("\r~.\x1d".to_owned(), false));
        assert!(!none.is_possible());
        assert_eq!("enter,~,.".parse(), Ok(Leaving::default()));
        for bad in ["", "ctrl-", "ctrl-!!", "enter", "ab", "a,,b", "ctrl-é"] {
            assert!(bad.parse::<Leaving>().is_err(), "{bad}");
        }
    }

    #[test]
    fn the_keys_are_told_in_words() {
        let words = |text: &str| text.parse::<Leaving>().unwrap().words();
        assert_eq!(Leaving::default().words(), "Enter ~ .");
        assert_eq!(
            (words("ctrl-]"), words("ctrl-P,q")),
            ("ctrl-]".to_owned(), "ctrl-p q".to_owned())
        );
    }
}
