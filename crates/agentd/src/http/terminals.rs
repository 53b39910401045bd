//! Requests about terminals.

use std::rc::Rc;

use hyper::{Response, StatusCode, body::Incoming};
use rclaude_types::{
    TerminalId, TerminalSize,
    agentd::{StdinAccepted, TerminalList, TerminalSpec},
};

use super::{
    Body, body,
    input::{self, Query},
};
use crate::{
    daemon::Daemon,
    refusal::{Refusal, Result},
    terminal::{Attach, follow},
};

fn name(text: &str) -> Result<TerminalId> {
    text.parse().map_err(|error| Refusal::invalid(format!("{error}")))
}

pub(super) fn list(daemon: &Daemon) -> Result<Response<Body>> {
    let data = daemon.terminals.all().iter().map(|terminal| terminal.info()).collect();
    body::json(StatusCode::OK, &TerminalList { data })
}

pub(super) async fn open(daemon: &Daemon, id: &str, request: Incoming) -> Result<Response<Body>> {
    let id = name(id)?;
    let spec: TerminalSpec = input::json(request).await?;
    let identity = daemon.identity(spec.user)?;
    let (terminal, is_new) = daemon.terminals.open_new(&id, &spec, identity)?;
    let status = if is_new { StatusCode::CREATED } else { StatusCode::OK };
    body::json(status, &terminal.info())
}

pub(super) fn get(daemon: &Daemon, id: &str) -> Result<Response<Body>> {
    body::json(StatusCode::OK, &daemon.terminals.find(&name(id)?)?.info())
}

pub(super) async fn end(daemon: &Daemon, id: &str) -> Result<Response<Body>> {
    daemon.terminals.end(&name(id)?).await?;
    Ok(body::done())
}

pub(super) async fn resize(daemon: &Daemon, id: &str, request: Incoming) -> Result<Response<Body>> {
    let terminal = daemon.terminals.find(&name(id)?)?;
    let size: TerminalSize = input::json(request).await?;
    terminal.resize(size)?;
    Ok(body::done())
}

pub(super) async fn attach(daemon: &Rc<Daemon>, id: &str, query: &Query) -> Result<Response<Body>> {
    let terminal = daemon.terminals.find(&name(id)?)?;
    let attach = Attach {
        from: query.optional_number("from")?,
        writer: query.text("writer")?.map(str::to_owned),
    };
    Ok(body::bytes(follow(terminal, attach).await?))
}

pub(super) async fn type_in(
    daemon: &Daemon,
    id: &str,
    query: &Query,
    mut request: Incoming,
) -> Result<Response<Body>> {
    let terminal = daemon.terminals.find(&name(id)?)?;
    let writer = query.text("writer")?;
    let mut typing = terminal.begin_typing(writer, query.number("offset")?)?;
    while let Some(data) = input::next(&mut request).await? {
        terminal.type_in(&mut typing, &data).await?;
    }
    let accepted = match writer {
        Some(writer) => terminal.typed(writer),
        None => 0,
    };
    body::json(StatusCode::OK, &StdinAccepted { accepted, closed: terminal.is_final() })
}
