//! A shell, or a command, before a terminal that lives as long as its client's connection.

use std::io;

use bytes::Bytes;
use futures::{Stream, future::pending, stream};
use rclaude_sandbox::agentd::{Shown, TerminalFrom};
use rclaude_types::{
    CreateTerminal, TerminalId, TerminalSize,
    agentd::{ProcessState, TerminalInfo},
};
use tokio::sync::{mpsc, watch};

use super::{
    channel::{Target, Work},
    input,
    outlet::{Ending, Gone, Outlet},
};
use crate::session::manager::terminals::{Attached, TerminalLine};

/// What Ctrl-C and Ctrl-\ type.
const INTERRUPT: u8 = 0x03;
const QUIT: u8 = 0x1c;

/// Runs `command` in the user's shell, or the shell itself; returns once the channel is closed.
pub(super) async fn run(target: Target, work: Work, command: Option<String>) {
    let Target { sessions, session, .. } = target;
    let Work { out, input, env, size, signals, gone } = work;
    let begun = async {
        let command = match command {
            Some(command) => vec![sessions.shell(&session).await?, "-c".to_owned(), command],
            None => Vec::new(),
        };
        let size = *size.borrow();
        let request = CreateTerminal { command, cwd: None, env, root: false, size };
        let terminal = TerminalId::generate();
        sessions.open_terminal(&session, Some(terminal.clone()), request).await?;
        let from = TerminalFrom { offset: Some(0), writer: None };
        sessions.attach_terminal(&session, &terminal, None, &from).await
    };
    // Not given up when the client goes: what was begun would have nobody to end it.
    let mut attached = match begun.await {
        Ok(attached) => attached,
        Err(problem) => {
            gone.run_until_cancelled(out.refuse(&problem)).await;
            return;
        }
    };
    let (keys, typed) = mpsc::channel(1);
    let typing = attached.type_in(None, keystrokes(typed));
    let line = attached.line();
    let ended = tokio::select! {
        biased;
        () = gone.cancelled() => Err(Gone),
        ended = show(&mut attached, &out) => ended,
        () = forward(input, signals, keys) => Err(Gone),
        () = type_in(typing) => Err(Gone),
        () = resize(&line, size) => Err(Gone),
    };
    match ended {
        Ok(Some(info)) => {
            gone.run_until_cancelled(out.end(ending(&info))).await;
        }
        Ok(None) => {
            let why = sessions.why_gone(&session).await;
            let told = async {
                out.say(&format!("the terminal is out of reach: {why}")).await;
                out.end(Ending::Lost).await;
            };
            gone.run_until_cancelled(told).await;
        }
        Err(Gone) => {
            if let Err(problem) = line.end().await {
                tracing::debug!(session.id = %session, %problem, "no terminal to close");
            }
        }
    }
}

/// Sends what is shown until the program ends; `None` if its sandbox is out of reach.
async fn show(attached: &mut Attached, out: &Outlet) -> Result<Option<Box<TerminalInfo>>, Gone> {
    while let Some(shown) = attached.next().await {
        match shown {
            Shown::Bytes { bytes, .. } | Shown::Snapshot(bytes) => out.send(bytes).await?,
            Shown::View(_) | Shown::Resized(_) => {}
            Shown::End(info) => return Ok(Some(info)),
        }
    }
    Ok(None)
}

/// Brings together what the client types and the signals that keys stand for.
async fn forward(
    mut input: input::Receiver,
    mut signals: mpsc::Receiver<i32>,
    keys: mpsc::Sender<Bytes>,
) {
    loop {
        let typed = tokio::select! {
            Some(number) = signals.recv() => match number {
                libc::SIGINT => Bytes::from_static(&[INTERRUPT]),
                libc::SIGQUIT => Bytes::from_static(&[QUIT]),
                // The terminal is closed.
                libc::SIGHUP | libc::SIGTERM | libc::SIGKILL => return,
                _ => continue,
            },
            Some(data) = input.next() => data,
            // A terminal has no end of input: the client sees what else is printed.
            else => return pending().await,
        };
        if keys.send(typed).await.is_err() {
            return pending().await;
        }
    }
}

fn keystrokes(typed: mpsc::Receiver<Bytes>) -> impl Stream<Item = io::Result<Bytes>> + Send {
    stream::unfold(typed, async |mut typed| Some((Ok(typed.recv().await?), typed)))
}

/// Types. Never ends: that the program reads no more is told by its end.
async fn type_in<T>(typing: impl Future<Output = T>) {
    typing.await;
    pending::<()>().await;
}

/// Keeps the terminal as large as the client's window.
async fn resize(line: &TerminalLine, mut size: watch::Receiver<TerminalSize>) {
    while size.changed().await.is_ok() {
        let now = *size.borrow_and_update();
        // One that has ended stays as it was.
        let _ = line.resize(now).await;
    }
    pending::<()>().await;
}

fn ending(info: &TerminalInfo) -> Ending {
    match info.state {
        ProcessState::Exited { code: Some(code), .. } => Ending::Code(code),
        ProcessState::Exited { signal: Some(signal), .. } => Ending::Signal(signal),
        _ => Ending::Lost,
    }
}
