//! A command without a terminal: three streams, signals, and how it ended.

use futures::future::pending;
use rclaude_sandbox::agentd::Output;
use rclaude_types::{
    CreateExec, ErrorCode, Problem,
    agentd::{ProcessInfo, ProcessState},
};
use tokio::sync::mpsc;

use super::{
    channel::{Target, Work},
    input,
    outlet::{Ending, Gone, Outlet},
};
use crate::session::manager::piped::{Line, Piped};

/// Runs `command` in the user's shell, or the shell itself; returns once the channel is closed.
pub(super) async fn run(target: Target, work: Work, command: Option<String>) {
    let Target { sessions, session, .. } = target;
    let Work { out, input, env, signals, gone, .. } = work;
    let begun = async {
        let mut argv = vec![sessions.shell(&session).await?];
        if let Some(command) = command {
            argv.extend(["-c".to_owned(), command]);
        }
        let request = CreateExec {
            command: argv,
            cwd: None,
            env,
            root: false,
            stdin: true,
            timeout_seconds: None,
        };
        sessions.pipe(&session, request).await
    };
    // Not given up when the client goes: what was begun would have nobody to end it.
    let mut piped = match begun.await {
        Ok(piped) => piped,
        Err(problem) => {
            let told = async { out.refuse(&explained(problem)).await };
            gone.run_until_cancelled(told).await;
            return;
        }
    };
    let line = piped.line();
    let ended = tokio::select! {
        biased;
        () = gone.cancelled() => Err(Gone),
        ended = print(&mut piped, &out) => ended,
        () = feed(&line, input) => Err(Gone),
        () = pass_on(&line, signals) => Err(Gone),
    };
    match ended {
        Ok(Some(info)) => {
            let told = gone.run_until_cancelled(out.end(ending(&info))).await;
            if piped.finish(&info).await.is_err() || told.is_none() {
                tracing::debug!(session.id = %session, "a command's caller left as it ended");
            }
        }
        Ok(None) => {
            let why = sessions.why_gone(&session).await;
            let told = async {
                out.say(&format!("the command is out of reach: {why}")).await;
                out.end(Ending::Lost).await;
            };
            gone.run_until_cancelled(told).await;
        }
        // As when a line is hung up. What takes no notice of that is meant to go on.
        Err(Gone) => piped.leave().await,
    }
}

/// Sends what it prints until it ends; `None` if its sandbox is out of reach.
async fn print(piped: &mut Piped, out: &Outlet) -> Result<Option<Box<ProcessInfo>>, Gone> {
    while let Some(output) = piped.next().await {
        match output {
            Output::Stdout { bytes, .. } => out.send(bytes).await?,
            Output::Stderr { bytes, .. } => out.send_error(bytes).await?,
            Output::End(info) => return Ok(Some(info)),
        }
    }
    Ok(None)
}

/// Gives it what the client sends. Never ends, as a command may outlive its input.
async fn feed(line: &Line, mut input: input::Receiver) {
    let mut offset = 0;
    while let Some(data) = input.next().await {
        let next = offset + data.len() as u64;
        if line.write(offset, data, false).await.is_err() {
            // It reads no more. What else comes is dropped with the queue.
            drop(input);
            return pending().await;
        }
        offset = next;
    }
    // Fails only where it is closed already.
    let _ = line.write(offset, bytes::Bytes::new(), true).await;
    pending::<()>().await;
}

/// Passes the client's signals on.
async fn pass_on(line: &Line, mut signals: mpsc::Receiver<i32>) {
    while let Some(number) = signals.recv().await {
        // Fails only if it is over.
        let _ = line.signal(number).await;
    }
    pending::<()>().await;
}

fn ending(info: &ProcessInfo) -> Ending {
    match info.state {
        ProcessState::Exited { code: Some(code), .. } => Ending::Code(code),
        ProcessState::Exited { signal: Some(signal), .. } => Ending::Signal(signal),
        _ => Ending::Lost,
    }
}

/// A refusal to start, with what helps where a shell is missing.
fn explained(problem: Problem) -> Problem {
    if problem.code != ErrorCode::FileNotFound {
        return problem;
    }
    let detail = format!("{}; the session's variable SHELL names the shell", problem.detail);
    Problem { detail, ..problem }
}
