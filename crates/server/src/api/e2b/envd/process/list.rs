//! What runs in the sandbox, whoever started it.

use rclaude_types::agentd::ProcessState;
use serde::Serialize;
use serde_json::Value;

use super::config::ProcessConfig;
use crate::api::e2b::{
    connect::{Result, Unary},
    envd::{desk::Name, guest::Guest},
};

/// Answer of `List`.
#[derive(Debug, Serialize)]
pub(super) struct Processes {
    processes: Vec<Running>,
}

#[derive(Debug, Serialize)]
struct Running {
    config: ProcessConfig,
    pid: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    tag: Option<String>,
}

/// `List`.
pub(super) async fn list(guest: Guest, _: Unary<Value>) -> Result<Unary<Processes>> {
    let client = guest.open().await?.client;
    let desk = guest.desk();
    let found = |state: ProcessState, name: Name, argv: &[String]| {
        let ProcessState::Running { pid } = state else { return None };
        let known = desk.remembered(pid, &name);
        let (config, tag) = match known {
            Some(known) => (known.config.clone(), known.tag.clone()),
            None => (ProcessConfig::told(argv), None),
        };
        Some(Running { config, pid, tag })
    };
    let (processes, terminals) = tokio::join!(client.processes(), client.terminals());
    let mut running: Vec<_> = processes?
        .into_iter()
        .filter_map(|it| found(it.state, Name::Process(it.id), &it.argv))
        .collect();
    running.extend(
        terminals?.into_iter().filter_map(|it| found(it.state, Name::Terminal(it.id), &it.argv)),
    );
    Ok(Unary(Processes { processes: running }))
}
