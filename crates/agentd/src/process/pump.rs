//! Moving what a process prints from its pipe into the journal.

use std::{
    fs::File,
    future::pending,
    io,
    os::fd::{AsFd, OwnedFd},
    rc::Rc,
    time::Duration,
};

use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    io::{Errno, ioctl_fionread},
    pipe::{SpliceFlags, splice},
};
use tokio::{io::unix::AsyncFd, sync::watch};

use super::{Process, Registry, Stream};

/// The most moved at once: what a pipe holds.
const CHUNK: usize = 1024 * 1024;

/// How long to wait before trying a full disk again.
const FULL_DISK_PAUSE: Duration = Duration::from_millis(250);

/// Runs until the last writer has closed the pipe.
pub(super) async fn pump(
    process: Rc<Process>,
    registry: Rc<Registry>,
    stream: Stream,
    pipe: AsyncFd<OwnedFd>,
) {
    let mut changes = process.changed.subscribe();
    let mut pump = Pump { process: &process, stream, file: None, released: 0 };
    let mut read = process.changed.subscribe();
    let mut drained = false;
    loop {
        tokio::select! {
            biased;
            () = ended(&process, &mut changes), if !drained => {
                pump.drain(pipe.get_ref()).await;
                drained = true;
                settle(&process, &registry);
            }
            () = room(&process, stream, &mut read), if process.room(stream) == 0 => {}
            ready = pipe.readable(), if process.room(stream) > 0 => {
                let Ok(mut ready) = ready else { break };
                let room = process.room(stream);
                match ready.try_io(|pipe| pump.step(pipe.get_ref(), room)) {
                    Ok(Ok(0)) => break,
                    Ok(Ok(_)) | Err(_) => {}
                    Ok(Err(error)) if pump.is_full(&error) => pump.wait_for_room().await,
                    Ok(Err(_)) => break,
                }
            }
        }
    }
    if !drained {
        settle(&process, &registry);
    }
}

/// One pipe has nothing more from before the end.
fn settle(process: &Rc<Process>, registry: &Registry) {
    process.undrained.set(process.undrained.get().saturating_sub(1));
    process.finish_if_over(registry);
}

/// Waits until the kernel has said that the process ended.
async fn ended(process: &Process, changes: &mut watch::Receiver<()>) {
    while process.ended.get().is_none() {
        if changes.changed().await.is_err() {
            // The sender is in `process`, so this cannot be; and if so, nothing will change.
            pending::<()>().await;
        }
    }
}

/// Waits until whoever attends the process has read some of it, or left.
async fn room(process: &Process, stream: Stream, changes: &mut watch::Receiver<()>) {
    while process.room(stream) == 0 {
        if changes.changed().await.is_err() {
            // As above.
            pending::<()>().await;
        }
    }
}

struct Pump<'a> {
    process: &'a Process,
    stream: Stream,
    /// Made when there is something to put in it.
    file: Option<File>,
    /// Bytes from its beginning that take no room any more.
    released: u64,
}

impl Pump<'_> {
    /// Moves what is there now, so many bytes at most; 0 at the pipe's end.
    fn step(&mut self, pipe: &OwnedFd, room: u64) -> io::Result<usize> {
        let most = usize::try_from(room).unwrap_or(CHUNK).min(CHUNK);
        let file = match &self.file {
            Some(file) => file,
            None if has_data(pipe)? => {
                self.file.insert(self.process.journal.new_stream(&self.process.id, self.stream)?)
            }
            None => return Ok(0),
        };
        let count = self.process.bytes(self.stream);
        let mut offset = count.get();
        let flags = SpliceFlags::NONBLOCK | SpliceFlags::MOVE;
        let file = file.as_fd();
        let moved =
            rustix::io::retry_on_intr(|| splice(pipe, None, file, Some(&mut offset), most, flags))?;
        if moved > 0 {
            count.set(count.get() + moved as u64);
            self.process.journal_full.set(false);
            self.process.touch();
            if let Some(attendance) = &self.process.attendance {
                self.released = attendance.release(self.stream, file, self.released);
            }
        }
        Ok(moved)
    }

    /// Moves all that the process had written when it ended. What processes it left behind write
    /// meanwhile does not prolong it.
    async fn drain(&mut self, pipe: &OwnedFd) {
        let mut left = ioctl_fionread(pipe).unwrap_or(0);
        while left > 0 {
            match self.step(pipe, u64::MAX) {
                Ok(0) => return,
                Ok(moved) => left = left.saturating_sub(moved as u64),
                Err(error) if self.is_full(&error) => self.wait_for_room().await,
                Err(_) => return,
            }
        }
    }

    fn is_full(&self, error: &io::Error) -> bool {
        let full = [Errno::NOSPC, Errno::DQUOT, Errno::FBIG];
        let is_full = full.iter().any(|it| error.raw_os_error() == Some(it.raw_os_error()));
        if is_full && !self.process.journal_full.replace(true) {
            self.process.touch();
        }
        is_full
    }

    async fn wait_for_room(&self) {
        tokio::time::sleep(FULL_DISK_PAUSE).await;
    }
}

/// Whether there is something to read; false at the pipe's end.
fn has_data(pipe: &OwnedFd) -> io::Result<bool> {
    let mut state = [PollFd::new(pipe, PollFlags::IN)];
    poll(&mut state, Some(&Timespec::default()))?;
    match state[0].revents() {
        ready if ready.contains(PollFlags::IN) => Ok(true),
        none if none.is_empty() => Err(io::ErrorKind::WouldBlock.into()),
        _ => Ok(false),
    }
}
