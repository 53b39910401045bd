//! What is written to a process or typed into a terminal.

use axum::{
    extract::Request,
    response::{IntoResponse, Response},
};
use base64::{Engine, prelude::BASE64_STANDARD};
use bytes::Bytes;
use rclaude_sandbox::agentd;
use serde::Deserialize;
use serde_json::{Value, json};

use super::config::About;
use crate::api::e2b::{
    connect::{Code, Error, Incoming, Result, Unary, at_once, incoming},
    envd::{
        desk::{Known, Name, Selector},
        guest::Guest,
    },
};

/// Input, in base64.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Input {
    Stdin(String),
    Pty(String),
}

#[derive(Debug, Deserialize)]
pub(super) struct SendInput {
    process: Option<Selector>,
    input: Option<Input>,
}

/// A message of `StreamInput`: first which process, then its input.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Streamed {
    Start(About),
    Data { input: Option<Input> },
    Keepalive {},
}

/// `SendInput`.
pub(super) async fn send(
    guest: Guest,
    Unary(SendInput { process, input }): Unary<SendInput>,
) -> Result<Unary<Value>> {
    let client = guest.open().await?.client;
    let known = guest.desk().find(&client, process).await?;
    write(&client, &known, input).await?;
    Ok(Unary(json!({})))
}

/// `StreamInput`.
pub(super) async fn stream(guest: Guest, request: Request) -> Response {
    let messages = match incoming(request) {
        Ok(messages) => messages,
        Err(refused) => return refused,
    };
    let outcome = written(&guest, messages).await;
    at_once(outcome.as_ref().map_err(Clone::clone)).into_response()
}

async fn written(guest: &Guest, mut messages: Incoming) -> Result<Value> {
    let client = guest.open().await?.client;
    let mut known = None;
    while let Some(message) = messages.next().await? {
        match message {
            Streamed::Start(About { process }) => {
                known = Some(guest.desk().find(&client, process).await?);
            }
            Streamed::Data { input } => {
                let missing = || Error::invalid("the first message must say which process");
                write(&client, known.as_ref().ok_or_else(missing)?, input).await?;
            }
            Streamed::Keepalive {} => {}
        }
    }
    Ok(json!({}))
}

/// `CloseStdin`.
pub(super) async fn close(
    guest: Guest,
    Unary(About { process }): Unary<About>,
) -> Result<Unary<Value>> {
    let client = guest.open().await?.client;
    let known = guest.desk().find(&client, process).await?;
    match &known.name {
        Name::Process(_) => push(&client, &known, Bytes::new(), true).await?,
        Name::Terminal(_) => {
            let text = "a terminal's input is not closed; send Ctrl+D (0x04) instead";
            return Err(Error::new(Code::FailedPrecondition, text));
        }
    }
    Ok(Unary(json!({})))
}

async fn write(client: &agentd::Client, known: &Known, input: Option<Input>) -> Result<()> {
    let (text, typed) = match input {
        Some(Input::Stdin(text)) => (text, false),
        Some(Input::Pty(text)) => (text, true),
        None => return Err(Error::invalid("input: there is none")),
    };
    let bytes = BASE64_STANDARD.decode(text).map_err(|_| Error::invalid("input: not base64"))?;
    match (&known.name, typed) {
        (Name::Process(_), false) => push(client, known, bytes.into(), false).await,
        (Name::Terminal(id), true) => {
            // Keys take turns, as they were sent.
            let _turn = known.input.lock().await;
            let keys = futures::stream::iter([Ok(Bytes::from(bytes))]);
            Ok(client.type_in(id, None, keys).await.map(drop)?)
        }
        (Name::Process(_), true) => {
            Err(Error::new(Code::FailedPrecondition, "the process has no terminal"))
        }
        (Name::Terminal(_), false) => {
            let text = "the process has a terminal; send its input as `pty`";
            Err(Error::new(Code::FailedPrecondition, text))
        }
    }
}

/// Writes at the end of what was written before.
async fn push(client: &agentd::Client, known: &Known, data: Bytes, close: bool) -> Result<()> {
    let Name::Process(id) = &known.name else { return Ok(()) };
    let mut next = known.input.lock().await;
    let Some(offset) = *next else {
        let text = "stdin not enabled or closed";
        return Err(Error::new(Code::FailedPrecondition, text));
    };
    let accepted = match client.stdin(id, offset, data.clone(), close).await {
        // Somebody else writes to it as well, past us.
        Err(agentd::Error::StdinGap { expected }) => {
            client.stdin(id, expected, data, close).await?
        }
        answer => answer?,
    };
    *next = (!accepted.closed).then_some(accepted.accepted);
    Ok(())
}
