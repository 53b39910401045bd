//! Requests about processes.

use std::rc::Rc;

use hyper::{Response, StatusCode, body::Incoming};
use rclaude_types::{
    ErrorCode, ExecId,
    agentd::{ProcessList, ProcessSpec, SendSignal},
};
use rustix::process::Signal;

use super::{
    Body, body,
    input::{self, Query},
};
use crate::{
    daemon::Daemon,
    process::{Offsets, attend, follow},
    refusal::{Refusal, Result},
};

fn name(text: &str) -> Result<ExecId> {
    text.parse().map_err(|error| Refusal::invalid(format!("{error}")))
}

pub(super) fn list(daemon: &Daemon) -> Result<Response<Body>> {
    let data = daemon.registry.all().iter().map(|process| process.info()).collect();
    body::json(StatusCode::OK, &ProcessList { data })
}

pub(super) async fn start(
    daemon: &Daemon,
    id: &str,
    query: &Query,
    request: Incoming,
) -> Result<Response<Body>> {
    let id = name(id)?;
    let spec: ProcessSpec = input::json(request).await?;
    let identity = daemon.identity(spec.user)?;
    let (process, is_new) = daemon.registry.start(&id, &spec, identity)?;
    if query.flag("follow")? {
        return Ok(body::bytes(attend(process)?));
    }
    let status = if is_new { StatusCode::CREATED } else { StatusCode::OK };
    body::json(status, &process.info())
}

pub(super) fn get(daemon: &Daemon, id: &str) -> Result<Response<Body>> {
    body::json(StatusCode::OK, &daemon.registry.find(&name(id)?)?.info())
}

pub(super) fn forget(daemon: &Daemon, id: &str) -> Result<Response<Body>> {
    daemon.registry.forget(&name(id)?)?;
    Ok(body::done())
}

pub(super) fn output(daemon: &Daemon, id: &str, query: &Query) -> Result<Response<Body>> {
    let process = daemon.registry.find(&name(id)?)?;
    let from = Offsets { stdout: query.number("stdout")?, stderr: query.number("stderr")? };
    Ok(body::bytes(follow(process, from, query.flag("follow")?)?))
}

pub(super) async fn stdin(
    daemon: &Daemon,
    id: &str,
    query: &Query,
    mut request: Incoming,
) -> Result<Response<Body>> {
    let process = daemon.registry.find(&name(id)?)?;
    let mut writer = process.write_stdin(query.number("offset")?).await?;
    while let Some(data) = input::next(&mut request).await? {
        writer.write(&data).await?;
    }
    body::json(StatusCode::OK, &writer.finish(query.flag("close")?))
}

pub(super) async fn signal(
    daemon: &Rc<Daemon>,
    id: &str,
    request: Incoming,
) -> Result<Response<Body>> {
    let process = daemon.registry.find(&name(id)?)?;
    let SendSignal { signal } = input::json(request).await?;
    let signal = Signal::from_named_raw(signal)
        .ok_or_else(|| Refusal::invalid("signal must be the number of a named signal"))?;
    if !process.signal(signal) {
        return Err(Refusal::new(ErrorCode::Conflict, "the process is over"));
    }
    Ok(body::done())
}
