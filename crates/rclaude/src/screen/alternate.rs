//! Whether a program has the alternate screen, told from what it prints.

/// The longest sequence that is looked for.
const LONGEST: usize = 8;

/// The sequences that switch screens, and to which.
const SWITCHES: [(&[u8], bool); 6] = [
    (b"\x1b[?1049h", true),
    (b"\x1b[?1047h", true),
    (b"\x1b[?47h", true),
    (b"\x1b[?1049l", false),
    (b"\x1b[?1047l", false),
    (b"\x1b[?47l", false),
];

/// Follows what is printed.
#[derive(Debug, Default)]
pub(crate) struct Alternate {
    is_on: bool,
    /// The last bytes, in which a sequence may have begun.
    tail: Vec<u8>,
}

impl Alternate {
    pub(crate) const fn is_on(&self) -> bool {
        self.is_on
    }

    /// Passes over what was printed next.
    pub(crate) fn pass(&mut self, bytes: &[u8]) {
        self.tail.extend_from_slice(bytes);
        let starts = self.tail.iter().enumerate().filter(|(_, byte)| **byte == 0x1b);
        for (start, _) in starts {
            let rest = &self.tail[start..];
            if let Some((_, on)) = SWITCHES.iter().find(|(switch, _)| rest.starts_with(switch)) {
                self.is_on = *on;
            }
        }
        let surplus = self.tail.len().saturating_sub(LONGEST - 1);
        self.tail.drain(..surplus);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_switch_is_seen_however_it_is_cut() {
        let printed = b"$ vi\x1b[?1049h\x1b[Htext \x1b[?2004h\x1b[?1049l$ \x1b[?47hagain";
        for size in 1..printed.len() {
            let mut alternate = Alternate::default();
            let mut seen = Vec::new();
            for piece in printed.chunks(size) {
                alternate.pass(piece);
                if seen.last() != Some(&alternate.is_on()) {
                    seen.push(alternate.is_on());
                }
            }
            assert!(alternate.is_on(), "in pieces of {size}");
            assert!(size > 1 || seen == [false, true, false, true], "{seen:?}");
        }
    }
}
