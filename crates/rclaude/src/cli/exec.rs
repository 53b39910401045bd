//! `rclaude exec`: a command in a session's sandbox.

use std::{
    io::{IsTerminal, Read},
    pin::pin,
    thread,
    time::{Duration, Instant},
};

use clap::Args;
use futures::StreamExt;
use rclaude_types::{CreateExec, ExecFrame, ExecId, ExecStream};
use tokio::{
    signal::unix::{SignalKind, signal},
    sync::mpsc,
};

use super::{Context, Done};
use crate::{
    client::{Client, ExecLine, exec_output},
    exit::{Exit, Failure},
    ui, values,
};

/// Bytes of standard input sent at a time.
const CHUNK: usize = 64 * 1024;

/// Run a command in a session
///
/// Its standard output and standard error come out apart and as they are; its exit code becomes
/// ours (128+N if signal N ended it). Standard input is passed on when it is a pipe or a file, or
/// with -i. Ctrl-C sends it INT, a second one KILL. With --json: frames as the API has them, one
/// JSON object a line, bytes in base64.
#[derive(Debug, Args)]
pub(crate) struct ExecArgs {
    /// The session: id, unique start of an id, or name
    session: String,
    /// Run as the sandbox's root, where the session allows it
    #[arg(long)]
    root: bool,
    /// Where to run it [default: the workspace]
    #[arg(long, short = 'C', value_name = "DIR")]
    cwd: Option<String>,
    /// Environment on top of the session's
    #[arg(long, short, value_name = "KEY=VALUE", value_parser = values::pair)]
    env: Vec<(String, String)>,
    /// Pass standard input on, whatever it is
    #[arg(long, short = 'i')]
    stdin: bool,
    /// Never pass standard input on
    #[arg(long, short = 'n', conflicts_with = "stdin")]
    no_stdin: bool,
    /// Kill it after this long: 30s, 5m, 2h
    #[arg(long, value_parser = values::duration)]
    timeout: Option<Duration>,
    /// Program and arguments
    #[arg(last = true, required = true, value_name = "COMMAND")]
    command: Vec<String>,
}

pub(crate) async fn run(args: ExecArgs, cx: &mut Context) -> Done {
    let stdin = args.stdin || (!args.no_stdin && is_piped());
    let client = cx.client().await?;
    let exec = ExecId::generate();
    let request = CreateExec {
        command: args.command,
        cwd: args.cwd,
        env: args.env.into_iter().collect(),
        root: args.root,
        stdin,
        timeout_seconds: args
            .timeout
            .map(|timeout| u32::try_from(timeout.as_secs()).unwrap_or(u32::MAX)),
    };
    let mut interrupts = signal(SignalKind::interrupt())?;
    let started = Instant::now();
    {
        // Nothing runs yet that an interrupt could be for: then it is for us.
        let starting = client.start_exec(&args.session, &exec, &request);
        tokio::select! {
            started = cx.ui.wait("waking the session", starting) => started?,
            _ = interrupts.recv() => return Ok(Exit::INTERRUPTED),
        }
    };
    let mut input =
        pin!(async { if stdin { forward(&client, &args.session, &exec).await } else { Ok(()) } });
    let mut output = pin!(exec_output(&client, &args.session, &exec));
    let mut ticks = tokio::time::interval(ui::TICK);
    let mut forwarding = stdin;
    let mut interrupted = 0_u8;
    loop {
        tokio::select! {
            line = output.next() => match line {
                Some(line) => {
                    let Some(exit) = show(cx, line?)? else { continue };
                    // Its frames tell of a signal, not of who sent it.
                    if let Some(timeout) = args.timeout.filter(|it| started.elapsed() >= *it)
                        && exit.0 > 128
                        && interrupted == 0
                    {
                        let seconds = timeout.as_secs();
                        cx.ui.warn(&format!("ended, as it took longer than {seconds}s"));
                    }
                    return Ok(exit);
                }
                None => return Err(Failure::Failed("the command's end is not known".to_owned())),
            },
            sent = &mut input, if forwarding => {
                forwarding = false;
                // A command that ended or closed its input needs no more of it.
                if let Err(failure) = sent && !matches!(failure, Failure::Problem(_)) {
                    return Err(failure);
                }
            }
            _ = interrupts.recv() => {
                interrupted = interrupted.saturating_add(1);
                let signal = match interrupted {
                    1 => "INT",
                    2 => "KILL",
                    _ => return Ok(Exit::INTERRUPTED),
                };
                if interrupted == 1 {
                    cx.ui.note("sent INT to the command; Ctrl-C again sends KILL");
                }
                client.exec_signal(&args.session, &exec, signal).await?;
            }
            _ = ticks.tick() => cx.ui.tick(),
        }
    }
}

/// Prints what the command did; its exit code once it is over.
fn show(cx: &mut Context, line: ExecLine) -> Result<Option<Exit>, Failure> {
    match &line {
        ExecLine::Lost(reason) => {
            cx.ui.waiting_for(Some(&format!("reconnecting ({reason})")));
            return Ok(None);
        }
        ExecLine::Output { raw, .. } | ExecLine::Other { raw, .. } if cx.json => {
            cx.ui.print(raw.get())?;
        }
        _ => {}
    }
    cx.ui.waiting_for(None);
    match line {
        ExecLine::Output { stream: ExecStream::Stdout, bytes, .. } if !cx.json => {
            cx.ui.data(&bytes)?;
        }
        ExecLine::Output { stream: ExecStream::Stderr, bytes, .. } if !cx.json => {
            cx.ui.diagnostic(&bytes);
        }
        ExecLine::Other { frame: ExecFrame::Exited { code, signal, out_of_memory }, .. } => {
            if out_of_memory {
                cx.ui.warn("a process of the sandbox was ended for want of memory");
            }
            return Ok(Some(exit_code(code, signal)));
        }
        ExecLine::Other { frame: ExecFrame::Lost { reason }, .. } => {
            cx.ui.warn(&format!("what became of the command is not known: {reason}"));
            return Ok(Some(Exit::UNAVAILABLE));
        }
        _ => {}
    }
    Ok(None)
}

/// A command's exit code as a shell tells it.
pub(super) fn exit_code(code: Option<i32>, signal: Option<i32>) -> Exit {
    let code = match (code, signal) {
        (Some(code), _) => code & 0xff,
        (None, Some(signal)) => 128 + signal,
        (None, None) => 1,
    };
    Exit(u8::try_from(code).unwrap_or(1))
}

/// Whether somebody put something at our standard input, rather than leaving it as it was.
fn is_piped() -> bool {
    let stdin = std::io::stdin();
    if stdin.is_terminal() {
        return false;
    }
    rustix::fs::fstat(&stdin).is_ok_and(|stat| {
        let kind = rustix::fs::FileType::from_raw_mode(stat.st_mode);
        matches!(
            kind,
            rustix::fs::FileType::Fifo
                | rustix::fs::FileType::RegularFile
                | rustix::fs::FileType::Socket
        )
    })
}

/// Sends standard input on until its end.
async fn forward(client: &Client, session: &str, exec: &ExecId) -> Result<(), Failure> {
    let (chunks, mut read) = mpsc::channel::<Vec<u8>>(4);
    // Not a task: a runtime waits for its blocking tasks, and this one waits for a pipe.
    thread::spawn(move || {
        let mut stdin = std::io::stdin().lock();
        let mut buffer = vec![0; CHUNK];
        while let Ok(count @ 1..) = stdin.read(&mut buffer) {
            if chunks.blocking_send(buffer[..count].to_vec()).is_err() {
                return;
            }
        }
    });
    let mut offset = 0;
    while let Some(chunk) = read.recv().await {
        client.exec_stdin(session, exec, offset, &chunk, false).await?;
        offset += chunk.len() as u64;
    }
    client.exec_stdin(session, exec, offset, &[], true).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signal_becomes_128_and_its_number() {
        assert_eq!(exit_code(Some(3), None), Exit(3));
        assert_eq!(exit_code(None, Some(9)), Exit(137));
        assert_eq!(exit_code(Some(256), None), Exit(0));
        assert_eq!(exit_code(None, None), Exit(1));
    }
}
