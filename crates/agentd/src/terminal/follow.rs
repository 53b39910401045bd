//! One viewer: a task that reads the journal from its own offset, or begins with the screen.

use std::{fs::File, io, rc::Rc};

use bytes::{BufMut, Bytes, BytesMut};
use rclaude_types::{
    ErrorCode, TerminalSize, TerminalView,
    agentd::{MAX_RECORD_BYTES, TerminalHeader, TerminalKind},
};
use tokio::{sync::mpsc, task::spawn_local};

use super::{Screen, Terminal, input::check_writer};
use crate::{
    http::Body,
    refusal::{Refusal, Result},
};

/// Bytes of the journal between two looks at whether others want something, where the screen of
/// a terminal that is over is made from it.
const TURN: usize = 64 * 1024;

/// What a viewer wants.
#[derive(Debug, Default)]
pub(crate) struct Attach {
    /// The offset to go on from, as long as it is kept; the screen if absent.
    pub(crate) from: Option<u64>,
    /// The name it types under.
    pub(crate) writer: Option<String>,
}

/// The terminal from now on as the body of an answer, until it is over.
pub(crate) async fn follow(terminal: Rc<Terminal>, attach: Attach) -> Result<Body> {
    let end = terminal.journal.borrow().end();
    if attach.from.is_some_and(|from| from > end) {
        let detail = format!("the terminal has printed {end} bytes so far");
        return Err(Refusal::new(ErrorCode::Conflict, detail));
    }
    let input_offset = match &attach.writer {
        Some(writer) => {
            check_writer(writer)?;
            terminal.typed(writer)
        }
        None => 0,
    };
    make_screen(&terminal).await;
    // One piece waits while the last is being sent: that is all a viewer costs.
    let (pieces, body) = mpsc::channel(1);
    let viewing = Viewing::begin(terminal);
    spawn_local(async move {
        let size = viewing.0.size.get();
        let mut viewer = Viewer { viewing, at: 0, size, reader: None, input_offset };
        if let Err(error) = viewer.run(attach.from, &pieces).await {
            // A body that ends in an error is cut off, which tells the viewer to come again.
            let _gone = pieces.send(Err(error)).await;
        }
    });
    Ok(Body::Pieces(body))
}

/// Makes the screen of a terminal of an earlier daemon's from what it printed last.
async fn make_screen(terminal: &Terminal) {
    if terminal.screen.borrow().is_some() {
        return;
    }
    let (mut at, mut reader, mut buffer) = (terminal.journal.borrow().first(), None, vec![0; TURN]);
    let mut screen = Screen::new(terminal.size.get(), at);
    loop {
        // It is over: its journal changes no more.
        let read = terminal.journal.borrow().read(&mut reader, at, &mut buffer);
        let Ok(count @ 1..) = read else { break };
        screen.show(&buffer[..count]);
        at += count as u64;
        tokio::task::yield_now().await;
    }
    terminal.screen.replace(Some(screen));
}

/// Counts among a terminal's viewers for as long as it is kept.
struct Viewing(Rc<Terminal>);

impl Viewing {
    fn begin(terminal: Rc<Terminal>) -> Self {
        terminal.viewers.set(terminal.viewers.get() + 1);
        Self(terminal)
    }
}

impl Drop for Viewing {
    fn drop(&mut self) {
        self.0.viewers.set(self.0.viewers.get().saturating_sub(1));
    }
}

struct Viewer {
    viewing: Viewing,
    /// Offset of the next byte it needs.
    at: u64,
    /// The size it was told.
    size: TerminalSize,
    /// The file of the journal it reads, and where that begins.
    reader: Option<(u64, File)>,
    input_offset: u64,
}

type To = mpsc::Sender<io::Result<Bytes>>;

impl Viewer {
    /// Tells everything until the end, or until nobody listens.
    async fn run(&mut self, from: Option<u64>, to: &To) -> io::Result<()> {
        let mut changes = self.viewing.0.changed.subscribe();
        let kept = self.viewing.0.journal.borrow().first();
        let begun = match from.filter(|from| *from >= kept) {
            Some(from) => self.view(from, &[], to).await?,
            None => self.snapshot(to).await?,
        };
        if !begun {
            return Ok(());
        }
        loop {
            changes.borrow_and_update();
            let is_final = self.viewing.0.is_final();
            let (first, end) = {
                let journal = self.viewing.0.journal.borrow();
                (journal.first(), journal.end())
            };
            let size = self.viewing.0.size.get();
            let sent = if self.at < first {
                self.snapshot(to).await?
            } else if size != self.size {
                self.size = size;
                send(to, TerminalKind::Resized, self.at, &serde_json::to_vec(&size)?).await
            } else if self.at < end {
                let bytes = self.read()?;
                let at = self.at;
                self.at += bytes.len() as u64;
                send(to, TerminalKind::Bytes, at, &bytes).await
            } else if is_final {
                let info = serde_json::to_vec(&self.viewing.0.info())?;
                send(to, TerminalKind::End, self.at, &info).await;
                return Ok(());
            } else {
                tokio::select! {
                    _ = changes.changed() => true,
                    () = to.closed() => false,
                }
            };
            if !sent {
                return Ok(());
            }
        }
    }

    /// Begins with the screen as it is now.
    async fn snapshot(&mut self, to: &To) -> io::Result<bool> {
        let snapshot = {
            let screen = self.viewing.0.screen.borrow();
            let screen = screen.as_ref().ok_or(io::ErrorKind::NotFound)?;
            screen.snapshot()
        };
        // A sequence that nobody ends would be cut off with the journal.
        let offset = snapshot.offset.max(self.viewing.0.journal.borrow().first());
        self.view(offset, &snapshot.bytes, to).await
    }

    /// Says where the viewer begins, and paints what it begins with.
    async fn view(&mut self, offset: u64, snapshot: &[u8], to: &To) -> io::Result<bool> {
        self.at = offset;
        self.size = self.viewing.0.size.get();
        let view = {
            let screen = self.viewing.0.screen.borrow();
            TerminalView {
                size: self.size,
                modes: screen.as_ref().map(Screen::modes).unwrap_or_default(),
                title: screen.as_ref().and_then(Screen::title),
                snapshot_bytes: snapshot.len() as u64,
                offset,
                first_offset: self.viewing.0.journal.borrow().first(),
                input_offset: self.input_offset,
            }
        };
        if !send(to, TerminalKind::View, offset, &serde_json::to_vec(&view)?).await {
            return Ok(false);
        }
        for piece in snapshot.chunks(MAX_RECORD_BYTES) {
            if !send(to, TerminalKind::Snapshot, offset, piece).await {
                return Ok(false);
            }
        }
        Ok(true)
    }

    fn read(&mut self) -> io::Result<Vec<u8>> {
        let journal = self.viewing.0.journal.borrow();
        let left = usize::try_from(journal.end() - self.at).unwrap_or(usize::MAX);
        let mut bytes = vec![0; left.min(MAX_RECORD_BYTES)];
        let count = journal.read(&mut self.reader, self.at, &mut bytes)?;
        bytes.truncate(count);
        Ok(bytes)
    }
}

/// Sends one record; false if nobody listens.
async fn send(to: &To, kind: TerminalKind, offset: u64, bytes: &[u8]) -> bool {
    let length = u32::try_from(bytes.len()).expect("a record is at most MAX_RECORD_BYTES");
    let mut piece = BytesMut::with_capacity(TerminalHeader::SIZE + bytes.len());
    piece.put_slice(&TerminalHeader { kind, offset, length }.encode());
    piece.put_slice(bytes);
    to.send(Ok(piece.freeze())).await.is_ok()
}
