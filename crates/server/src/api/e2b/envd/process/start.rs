//! Starting a process, and following one that runs.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use axum::{
    extract::Request,
    response::{IntoResponse, Response},
};
use rclaude_types::{
    ExecId, TerminalId,
    agentd::{ProcessSpec, ProcessState, Stdin, TerminalSpec},
};

use super::{
    config::{About, Pty, Start},
    follow::{Follow, Wishes},
};
use crate::{
    api::e2b::{
        connect::{self, Code, Error, Result, at_once, incoming},
        envd::{
            desk::{Known, Name},
            guest::Guest,
        },
        id,
    },
    session::manager::leases::Open,
};

/// `Start`: starts a process and follows it. It goes on when its client hangs up.
pub(super) async fn start(guest: Guest, request: Request) -> Response {
    let wishes = Wishes::of(request.headers());
    let messages = match incoming(request) {
        Ok(messages) => messages,
        Err(refused) => return refused,
    };
    let api = guest.api.clone();
    match begun(guest, messages, wishes).await {
        Ok(follow) => connect::respond(&api, |sender| follow.run(sender)),
        Err(error) => failed(error),
    }
}

/// `Connect`: follows a process that runs, from where the last follower stopped.
pub(super) async fn connect(guest: Guest, request: Request) -> Response {
    let wishes = Wishes::of(request.headers());
    let messages = match incoming(request) {
        Ok(messages) => messages,
        Err(refused) => return refused,
    };
    let found = async {
        let About { process } = messages.only().await?;
        let open = guest.open().await?;
        let known = guest.desk().find(&open.client, process).await?;
        Ok(Follow { open, known, wishes, bound: false })
    };
    match found.await {
        Ok(follow) => connect::respond(&guest.api, |sender| follow.run(sender)),
        Err(error) => failed(error),
    }
}

/// A stream that fails before it began says so in its only envelope.
fn failed(error: Error) -> Response {
    at_once(Err::<&(), _>(error)).into_response()
}

async fn begun(guest: Guest, messages: connect::Incoming, wishes: Wishes) -> Result<Follow> {
    let start: Start = messages.only().await?;
    let open = guest.open().await?;
    let known = match start.pty.clone() {
        Some(pty) => terminal(&guest, &open, start, &pty, wishes.limit).await?,
        None => process(&guest, &open, start, wishes.limit).await?,
    };
    guest.desk().remember(known.clone());
    Ok(Follow { open, known, wishes, bound: true })
}

async fn process(
    guest: &Guest,
    open: &Open,
    start: Start,
    limit: Option<Duration>,
) -> Result<Arc<Known>> {
    let Start { process: config, pty: _, tag, stdin } = start;
    let writable = stdin.unwrap_or(true);
    let spec = ProcessSpec {
        argv: [std::slice::from_ref(&config.cmd), &config.args].concat(),
        env: environment(guest, &config.envs),
        cwd: cwd(guest, config.cwd.as_deref()),
        user: guest.who.rights(),
        stdin: if writable { Stdin::Open } else { Stdin::Closed },
        // Should nobody be there to end it to the millisecond, the daemon does to the second.
        timeout_seconds: limit.map(|limit| seconds(limit).saturating_add(1)),
        keep: false,
        attended: false,
    };
    let id = ExecId::generate();
    let info = open.client.start(&id, &spec).await.map_err(unstartable)?;
    let pid = running(info.state)?;
    Ok(Known::new(pid, Name::Process(id), tag, config, writable.then_some(0)))
}

async fn terminal(
    guest: &Guest,
    open: &Open,
    start: Start,
    pty: &Pty,
    limit: Option<Duration>,
) -> Result<Arc<Known>> {
    let Start { process: config, pty: _, tag, stdin: _ } = start;
    let spec = TerminalSpec {
        argv: [std::slice::from_ref(&config.cmd), &config.args].concat(),
        env: environment(guest, &config.envs),
        cwd: cwd(guest, config.cwd.as_deref()),
        user: guest.who.rights(),
        size: pty.size()?,
    };
    let id = TerminalId::generate();
    let info = open.client.open_terminal(&id, &spec).await.map_err(unstartable)?;
    let pid = running(info.state)?;
    if let Some(limit) = limit {
        // The daemon sets terminals no time; it is ended also if its client hangs up before.
        let (client, id) = (open.client.clone(), id.clone());
        let stopping = guest.api.stopping.clone();
        guest.api.tasks.spawn(async move {
            let over = async {
                tokio::select! {
                    () = tokio::time::sleep(limit) => drop(client.end_terminal(&id).await),
                    () = client.closed() => {}
                }
            };
            stopping.run_until_cancelled(over).await;
        });
    }
    Ok(Known::new(pid, Name::Terminal(id), tag, config, None))
}

/// A process that was just started runs; its number is what clients know it by.
fn running(state: ProcessState) -> Result<u32> {
    match state {
        ProcessState::Running { pid } => Ok(pid),
        _ => Err(Error::new(Code::Internal, "the process ended before it had a number")),
    }
}

/// Why a process cannot be started: the command is wrong, whatever else the reason's code says.
fn unstartable(error: rclaude_sandbox::agentd::Error) -> Error {
    match error.problem() {
        Some(problem) if problem.status < 500 => Error::invalid(&*problem.detail),
        _ => error.into(),
    }
}

fn seconds(limit: Duration) -> u32 {
    u32::try_from(limit.as_secs()).unwrap_or(u32::MAX)
}

fn cwd(guest: &Guest, wanted: Option<&str>) -> String {
    guest.path(wanted.unwrap_or("")).to_string_lossy().into_owned()
}

/// The session's environment, in E2B's names, and the caller's on top.
fn environment(guest: &Guest, own: &BTreeMap<String, String>) -> BTreeMap<String, String> {
    let (who, lease) = (guest.who, &guest.lent.lease);
    let mut env = guest.lent.environment();
    let name = id::sandbox(&guest.session);
    for (key, value) in [
        ("HOME", who.home()),
        ("USER", who.name()),
        ("LOGNAME", who.name()),
        // The home is a link: shells show the name they come by.
        ("PWD", who.home()),
        ("E2B_SANDBOX", "true"),
        ("E2B_SANDBOX_ID", &name),
        ("E2B_TEMPLATE_ID", &lease.template),
    ] {
        env.insert(key.to_owned(), value.to_owned());
    }
    env.extend(lease.env.clone());
    env.extend(own.clone());
    env
}
