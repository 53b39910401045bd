//! Moving what a program prints from its terminal to the journal and the screen.

use std::{future::pending, io, os::fd::OwnedFd, rc::Rc, time::Duration};

use tokio::{io::unix::AsyncFd, sync::watch, time::Instant};

use super::Terminal;
use crate::clock;

/// Bytes read before others get their turn: under a flood, what a keystroke waits for.
const TURN: usize = 8 * 1024;

/// What is still read when the program has ended. More than the kernel holds back; what processes
/// it left behind print meanwhile does not prolong the end for ever.
const LAST_WORDS: usize = 1024 * 1024;

/// Before looking again at a terminal that the kernel says is at its end though its program is not.
const AGAIN: Duration = Duration::from_millis(50);

/// Runs until the program has ended and all it printed is kept.
pub(super) async fn pump(terminal: Rc<Terminal>, near: Rc<AsyncFd<OwnedFd>>) {
    let mut changes = terminal.changed.subscribe();
    let mut buffer = vec![0; TURN];
    loop {
        tokio::select! {
            biased;
            () = ended(&terminal, &mut changes) => break,
            ready = near.readable() => {
                let Ok(mut ready) = ready else { break };
                match ready.try_io(|near| fill(near.get_ref(), &mut buffer)) {
                    Ok(Ok(count)) if count > 0 => {
                        keep(&terminal, &buffer[..count]);
                        tokio::task::yield_now().await;
                    }
                    Ok(_) => tokio::time::sleep(AGAIN).await,
                    Err(_nothing_there) => {}
                }
            }
        }
    }
    ended(&terminal, &mut changes).await;
    let mut left = LAST_WORDS;
    while left > 0
        && let Ok(count @ 1..) = fill(near.get_ref(), &mut buffer)
    {
        keep(&terminal, &buffer[..count]);
        left = left.saturating_sub(count);
        tokio::task::yield_now().await;
    }
    drop(near);
    if let (Some(state), false) = (terminal.ended.get(), terminal.is_final()) {
        terminal.finish(state);
    }
}

/// Waits until the kernel has said that the program ended.
async fn ended(terminal: &Terminal, changes: &mut watch::Receiver<()>) {
    while terminal.ended.get().is_none() && !terminal.is_final() {
        if changes.changed().await.is_err() {
            // The sender is in `terminal`, so this cannot be; and if so, nothing will change.
            pending::<()>().await;
        }
    }
}

/// Reads what is there, which the kernel gives away in pieces of at most 4 KiB.
fn fill(near: &OwnedFd, buffer: &mut [u8]) -> io::Result<usize> {
    let mut filled = 0;
    while filled < buffer.len() {
        match rustix::io::retry_on_intr(|| rustix::io::read(near, &mut buffer[filled..])) {
            Ok(0) => break,
            Ok(count) => filled += count,
            Err(_) if filled > 0 => break,
            Err(error) => return Err(error.into()),
        }
    }
    Ok(filled)
}

fn keep(terminal: &Terminal, bytes: &[u8]) {
    terminal.journal.borrow_mut().append(bytes);
    if let Some(screen) = &mut *terminal.screen.borrow_mut() {
        screen.show(bytes);
    }
    terminal.printed.set(Some((Instant::now(), clock::now())));
    terminal.touch();
}
