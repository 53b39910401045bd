//! Signals, and a terminal's size.

use serde::Deserialize;
use serde_json::{Value, json};

use super::config::Pty;
use crate::api::e2b::{
    connect::{Code, Error, Result, Unary},
    envd::{
        desk::{Name, Selector},
        guest::Guest,
    },
};

/// The signals there are, by name or number, as the codec has it.
#[derive(Debug, Default, Deserialize)]
#[serde(from = "Value")]
enum Signal {
    #[default]
    Other,
    Term,
    Kill,
}

impl From<Value> for Signal {
    fn from(value: Value) -> Self {
        match (value.as_str(), value.as_u64()) {
            (Some("SIGNAL_SIGTERM"), _) | (_, Some(15)) => Self::Term,
            (Some("SIGNAL_SIGKILL"), _) | (_, Some(9)) => Self::Kill,
            _ => Self::Other,
        }
    }
}

#[derive(Debug, Deserialize)]
pub(super) struct SendSignal {
    process: Option<Selector>,
    #[serde(default)]
    signal: Signal,
}

#[derive(Debug, Deserialize)]
pub(super) struct Update {
    process: Option<Selector>,
    pty: Option<Pty>,
}

/// `SendSignal`: to the process and all it started in its group.
pub(super) async fn send(
    guest: Guest,
    Unary(SendSignal { process, signal }): Unary<SendSignal>,
) -> Result<Unary<Value>> {
    let number = match signal {
        Signal::Term => 15,
        Signal::Kill => 9,
        Signal::Other => return Err(Error::invalid("signal: SIGTERM and SIGKILL are possible")),
    };
    let client = guest.open().await?.client;
    let known = guest.desk().find(&client, process).await?;
    let sent = match &known.name {
        Name::Process(id) => client.signal(id, number).await,
        // A shell with a terminal takes no notice of TERM; closing its window is what ends it.
        Name::Terminal(id) => match client.terminal(id).await? {
            over if over.state.is_final() => return Err(not_found(known.pid)),
            _ => client.end_terminal(id).await,
        },
    };
    sent.map_err(|error| match Error::from(error) {
        over if over.code() == Code::FailedPrecondition => not_found(known.pid),
        error => error,
    })?;
    Ok(Unary(json!({})))
}

/// It is over: as if there were none, as in the original.
fn not_found(pid: u32) -> Error {
    Error::new(Code::NotFound, format!("process with pid {pid} not found"))
}

/// `Update`: makes a terminal so large.
pub(super) async fn update(
    guest: Guest,
    Unary(Update { process, pty }): Unary<Update>,
) -> Result<Unary<Value>> {
    let client = guest.open().await?.client;
    let known = guest.desk().find(&client, process).await?;
    if let Some(pty) = pty {
        let Name::Terminal(id) = &known.name else {
            let text = "the process has no terminal";
            return Err(Error::new(Code::FailedPrecondition, text));
        };
        client.resize_terminal(id, pty.size()?).await?;
    }
    Ok(Unary(json!({})))
}
