//! Processes: start, follow, feed, signal, forget.

use bytes::Bytes;
use http::{HeaderMap, Method};
use rclaude_types::{
    ExecId,
    agentd::{ProcessInfo, ProcessList, ProcessSpec, SendSignal, StdinAccepted},
};

use super::{
    Client, OutputFrom, OutputStream, Result,
    connection::{empty, full, json_body},
};

impl Client {
    /// Starts a process under a name chosen by the caller. A name already in use returns what it
    /// stands for, whatever the spec. Refused if the program cannot be run, with the reason.
    pub async fn start(&self, id: &ExecId, spec: &ProcessSpec) -> Result<ProcessInfo> {
        self.json(Method::PUT, &format!("/v1/processes/{id}"), json_body(spec)?).await
    }

    /// Starts (or adopts) a process and follows its output from the beginning: one round trip.
    pub async fn run(&self, id: &ExecId, spec: &ProcessSpec) -> Result<OutputStream> {
        let path = format!("/v1/processes/{id}?follow=true");
        let response = self.send(Method::PUT, &path, HeaderMap::new(), json_body(spec)?).await?;
        Ok(OutputStream::new(
            response.into_body(),
            OutputFrom { follow: true, ..OutputFrom::default() },
        ))
    }

    /// What a process printed, from the given offsets.
    pub async fn output(&self, id: &ExecId, from: OutputFrom) -> Result<OutputStream> {
        let OutputFrom { stdout, stderr, follow } = from;
        let path =
            format!("/v1/processes/{id}/output?stdout={stdout}&stderr={stderr}&follow={follow}");
        let response = self.send(Method::GET, &path, HeaderMap::new(), empty()).await?;
        Ok(OutputStream::new(response.into_body(), from))
    }

    /// Writes to a process's standard input. `offset` says where `data` stands in all that was
    /// ever written to it: what it already has is dropped, a gap is
    /// [`Error::StdinGap`](super::Error::StdinGap). Waits while the process does not read; given
    /// up midway, the part that went in is counted and sending all of it again is right.
    pub async fn stdin(
        &self,
        id: &ExecId,
        offset: u64,
        data: Bytes,
        close: bool,
    ) -> Result<StdinAccepted> {
        let path = format!("/v1/processes/{id}/stdin?offset={offset}&close={close}");
        self.json(Method::POST, &path, full(data)).await
    }

    /// Sends a signal to the process's group.
    pub async fn signal(&self, id: &ExecId, signal: i32) -> Result<()> {
        let body = json_body(&SendSignal { signal })?;
        self.nothing(Method::POST, &format!("/v1/processes/{id}/signal"), body).await
    }

    /// All processes the daemon has a journal of.
    pub async fn processes(&self) -> Result<Vec<ProcessInfo>> {
        let list: ProcessList = self.json(Method::GET, "/v1/processes", empty()).await?;
        Ok(list.data)
    }

    /// One process.
    pub async fn process(&self, id: &ExecId) -> Result<ProcessInfo> {
        self.json(Method::GET, &format!("/v1/processes/{id}"), empty()).await
    }

    /// Forgets a process that is over, with its journal. One already forgotten is `Ok`.
    pub async fn forget(&self, id: &ExecId) -> Result<()> {
        self.nothing(Method::DELETE, &format!("/v1/processes/{id}"), empty()).await
    }
}
