//! What viewers type.
//!
//! A viewer may give itself a name and count what it types. The daemon remembers how much of it
//! reached the terminal; after a broken connection the viewer is told, and sends the rest.

use std::collections::VecDeque;

use rclaude_types::ErrorCode;

use super::{Terminal, over};
use crate::refusal::{Doing, Refusal, Result};

/// Writers that are remembered, of each terminal.
const REMEMBERED: usize = 64;

/// The longest name of a writer.
const MAX_NAME: usize = 64;

/// Bytes handed to the kernel at once: less than a terminal holds, so that a long paste and a key
/// of another viewer's take turns.
const PIECE: usize = 1024;

/// How much of what each writer typed has reached the terminal; the latest last.
#[derive(Debug, Default)]
pub(super) struct Writers(VecDeque<(String, u64)>);

impl Writers {
    fn accepted(&self, name: &str) -> u64 {
        self.0.iter().find(|(it, _)| it == name).map_or(0, |(_, accepted)| *accepted)
    }

    fn add(&mut self, name: &str, bytes: usize) {
        let before = self.accepted(name);
        self.0.retain(|(it, _)| it != name);
        if self.0.len() >= REMEMBERED {
            self.0.pop_front();
        }
        self.0.push_back((name.to_owned(), before + bytes as u64));
    }
}

/// Where one request is in what its writer types.
pub(crate) struct Typing {
    /// The writer and the offset of its next byte; `None` for one without a name.
    writer: Option<(String, u64)>,
}

impl Terminal {
    /// How much of what `writer` typed has reached the terminal.
    pub(crate) fn typed(&self, writer: &str) -> u64 {
        self.writers.borrow().accepted(writer)
    }

    /// Begins to type; with a name, what stands at `offset` of what that writer types.
    pub(crate) fn begin_typing(&self, writer: Option<&str>, offset: u64) -> Result<Typing> {
        let Some(name) = writer else { return Ok(Typing { writer: None }) };
        check_writer(name)?;
        let accepted = self.typed(name);
        if offset > accepted {
            return Err(Refusal::Gap(accepted));
        }
        Ok(Typing { writer: Some((name.to_owned(), offset)) })
    }

    /// Types `data`, but for what has been typed already; waits while the program does not read.
    pub(crate) async fn type_in(&self, typing: &mut Typing, mut data: &[u8]) -> Result<()> {
        while !data.is_empty() {
            let Some(near) = self.near() else { return Err(over()) };
            let mut ready = tokio::select! {
                ready = near.writable() => ready.doing(|| "type".to_owned())?,
                () = self.finished() => return Err(over()),
            };
            // From here on nobody else gets to run until the piece is typed and counted.
            let mut writers = self.writers.borrow_mut();
            if let Some((name, at)) = &mut typing.writer {
                let known = writers.accepted(name).saturating_sub(*at);
                let known = usize::try_from(known).unwrap_or(usize::MAX).min(data.len());
                *at += known as u64;
                data = &data[known..];
                if data.is_empty() {
                    break;
                }
            }
            let piece = &data[..data.len().min(PIECE)];
            match ready.try_io(|near| Ok(rustix::io::write(near.get_ref(), piece)?)) {
                Ok(Ok(written)) => {
                    if let Some((name, at)) = &mut typing.writer {
                        writers.add(name, written);
                        *at += written as u64;
                    }
                    data = &data[written..];
                }
                Ok(Err(error)) => return Err(Refusal::from_io("type", &error)),
                Err(_would_block) => {}
            }
        }
        Ok(())
    }
}

/// Refuses a name that no writer may have.
pub(super) fn check_writer(name: &str) -> Result<()> {
    let fits = (1..=MAX_NAME).contains(&name.len()) && name.bytes().all(|b| b.is_ascii_graphic());
    if fits {
        return Ok(());
    }
    let detail = format!("writer must be 1 to {MAX_NAME} printable ASCII characters");
    Err(Refusal::new(ErrorCode::InvalidRequest, detail))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_latest_writers_are_remembered_and_the_oldest_forgotten() {
        let mut writers = Writers::default();
        writers.add("first", 3);
        for number in 0..REMEMBERED - 1 {
            writers.add(&number.to_string(), 1);
        }
        writers.add("first", 4);
        assert_eq!((writers.accepted("first"), writers.accepted("0")), (7, 1));
        writers.add("another", 1);
        assert_eq!((writers.accepted("first"), writers.accepted("0")), (7, 0));
        assert_eq!(writers.0.len(), REMEMBERED);
    }
}
