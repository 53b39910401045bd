//! Reads an event stream (WHATWG HTML, section 9.2) that flows past in pieces of any size.
//!
//! Only the data of events is of interest; lines of other fields and comments are passed over.
//! An event larger than a mebibyte is passed over as well: those that carry usage are small, and
//! the memory of a stream must have a bound.

const EVENT_LIMIT: usize = 1 << 20;

/// Reads events.
#[derive(Debug, Default)]
pub(super) struct EventReader {
    /// The line so far, where a piece ended within it.
    line: Vec<u8>,
    /// The data of the event so far.
    data: Vec<u8>,
    /// The event outgrew its bound.
    too_large: bool,
    /// The last byte was a carriage return: a line feed after it belongs to it.
    after_return: bool,
}

impl EventReader {
    /// Looks at the next bytes and calls `on_event` with the data of each event they complete.
    pub(super) fn feed(&mut self, mut bytes: &[u8], mut on_event: impl FnMut(&[u8])) {
        if self.after_return && !bytes.is_empty() {
            self.after_return = false;
            bytes = bytes.strip_prefix(b"\n").unwrap_or(bytes);
        }
        while let Some(end) = bytes.iter().position(|byte| matches!(byte, b'\n' | b'\r')) {
            let (line, rest) = bytes.split_at(end);
            if self.line.is_empty() {
                self.line_ends(line, &mut on_event);
            } else {
                self.keep(line);
                let line = std::mem::take(&mut self.line);
                self.line_ends(&line, &mut on_event);
                // Gives the allocation back for the next line that is split.
                self.line = line;
                self.line.clear();
            }
            bytes = match rest {
                [b'\r', b'\n', rest @ ..] => rest,
                [b'\r'] => {
                    self.after_return = true;
                    &[]
                }
                [_, rest @ ..] => rest,
                [] => &[],
            };
        }
        self.keep(bytes);
    }

    /// Keeps a part of a line.
    fn keep(&mut self, part: &[u8]) {
        if self.line.len() + part.len() > EVENT_LIMIT {
            self.too_large = true;
        } else {
            self.line.extend_from_slice(part);
        }
    }

    fn line_ends(&mut self, line: &[u8], on_event: &mut impl FnMut(&[u8])) {
        if line.is_empty() {
            if !self.data.is_empty() && !self.too_large {
                on_event(&self.data);
            }
            self.data.clear();
            self.too_large = false;
        } else if let Some(data) = line.strip_prefix(b"data:") {
            let data = data.strip_prefix(b" ").unwrap_or(data);
            if self.data.len() + data.len() > EVENT_LIMIT {
                self.too_large = true;
            } else {
                if !self.data.is_empty() {
                    self.data.push(b'\n');
                }
                self.data.extend_from_slice(data);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read<'a>(pieces: impl IntoIterator<Item = &'a [u8]>) -> Vec<String> {
        let mut reader = EventReader::default();
        let mut events = Vec::new();
        for piece in pieces {
            reader.feed(piece, |data| events.push(String::from_utf8(data.to_vec()).unwrap()));
        }
        events
    }

    #[test]
    fn lines_may_end_in_any_of_the_three_ways() {
        for text in [
            "event: x\ndata: 1\n\ndata:2\n\n",
            "event: x\r\ndata: 1\r\n\r\ndata:2\r\n\r\n",
            "event: x\rdata: 1\r\rdata:2\r\r",
        ] {
            assert_eq!(read([text.as_bytes()]), ["1", "2"], "{text:?}");
            assert_eq!(read(text.as_bytes().chunks(1)), ["1", "2"], "{text:?} by bytes");
        }
    }

    #[test]
    fn comments_other_fields_and_an_unfinished_event_are_passed_over() {
        assert_eq!(
            read([&b": hi\nid: 7\nretry: 1\n\ndata: a\ndata: b\n\ndata: c\n"[..]]),
            ["a\nb"]
        );
    }

    #[test]
    fn an_event_without_bounds_is_passed_over_and_the_next_is_read() {
        let huge = "x".repeat(EVENT_LIMIT + 1);
        let text = format!("data: {huge}\n\ndata: next\n\n");
        assert_eq!(read([text.as_bytes()]), ["next"]);
        assert_eq!(read(text.as_bytes().chunks(1000)), ["next"]);
    }
}
