//! Backups, archives and room. What takes long is waited for however long it takes.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use rclaude_types::{
    Backup, BackupVerdict, CreateBackup, DiskUse, Page, Prune, Pruned, Session, VerifyBackup,
};
use reqwest::{Body, Method, RequestBuilder, Response, header};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::value::RawValue;

use super::{
    Answer, Client,
    http::{new_key, strange},
    read,
};
use crate::exit::Failure;

/// What locks or opens an archive.
#[derive(Debug)]
pub(crate) enum ArchiveKey {
    /// A person's passphrase.
    Passphrase(String),
    /// What an export without a passphrase gave.
    Key(String),
}

impl ArchiveKey {
    fn header(&self) -> (&'static str, String) {
        match self {
            Self::Passphrase(text) => ("rclaude-archive-passphrase", STANDARD.encode(text)),
            Self::Key(key) => ("rclaude-archive-key", key.clone()),
        }
    }
}

impl Client {
    pub(crate) async fn create_backup(
        &self,
        to: Option<String>,
    ) -> Result<Answer<Backup>, Failure> {
        self.long_post(&["backups"], &CreateBackup { to }).await
    }

    pub(crate) async fn backups(
        &self,
        at: Option<&str>,
    ) -> Result<Answer<Page<Box<RawValue>>>, Failure> {
        let query: Vec<_> = at.map(|at| ("at", at)).into_iter().collect();
        let url = self.resource(&["backups"], &query);
        self.answered(self.begin(Method::GET, url)).await
    }

    pub(crate) async fn verify_backup(
        &self,
        request: &VerifyBackup,
    ) -> Result<Answer<BackupVerdict>, Failure> {
        self.long_post(&["backups", "verify"], request).await
    }

    pub(crate) async fn disk_use(&self) -> Result<Answer<DiskUse>, Failure> {
        self.answered(self.begin(Method::GET, self.resource(&["disk-use"], &[]))).await
    }

    pub(crate) async fn prune(&self, request: &Prune) -> Result<Answer<Pruned>, Failure> {
        self.long_post(&["prune"], request).await
    }

    /// A session's archive as it comes, and the key that opens it, if one was made.
    pub(crate) async fn export(
        &self,
        reference: &str,
        passphrase: Option<&ArchiveKey>,
    ) -> Result<(Response, Option<String>), Failure> {
        let url = self.resource(&["sessions", reference, "export"], &[]);
        let mut request = self.begin(Method::POST, url).header("Idempotency-Key", new_key());
        if let Some((name, value)) = passphrase.map(ArchiveKey::header) {
            request = request.header(name, value);
        }
        let answer = self.sent(request).await?;
        let key = answer.headers().get("rclaude-archive-key");
        let key = key.and_then(|key| key.to_str().ok()).map(str::to_owned);
        Ok((answer, key))
    }

    pub(crate) async fn import(
        &self,
        name: Option<&str>,
        key: &ArchiveKey,
        archive: Body,
    ) -> Result<Answer<Session>, Failure> {
        let query: Vec<_> = name.map(|name| ("name", name)).into_iter().collect();
        let (header, value) = key.header();
        let request = self
            .begin(Method::POST, self.resource(&["imports"], &query))
            .header("Idempotency-Key", new_key())
            .header(header, value)
            .header(header::CONTENT_TYPE, "application/vnd.rclaude.archive")
            .body(archive);
        self.answered(request).await
    }

    /// Why an answer broke off.
    pub(crate) fn broke_off(&self, error: &reqwest::Error) -> Failure {
        self.failure(error)
    }

    async fn long_post<T: DeserializeOwned>(
        &self,
        path: &[&str],
        body: &impl Serialize,
    ) -> Result<Answer<T>, Failure> {
        let request = self.begin(Method::POST, self.resource(path, &[]));
        self.answered(request.header("Idempotency-Key", new_key()).json(body)).await
    }

    async fn answered<T: DeserializeOwned>(
        &self,
        request: RequestBuilder,
    ) -> Result<Answer<T>, Failure> {
        let answer = self.sent(request.header(header::ACCEPT, "application/json")).await?;
        let bytes = answer.bytes().await.map_err(|error| self.failure(&error))?;
        let raw: Box<RawValue> = serde_json::from_slice(&bytes).map_err(|e| strange(&e))?;
        Ok(Answer { value: read(&raw)?, raw })
    }

    async fn sent(&self, request: RequestBuilder) -> Result<Response, Failure> {
        let answer = request.send().await.map_err(|error| self.failure(&error))?;
        if answer.status().is_success() { Ok(answer) } else { Err(self.refusal(answer).await) }
    }
}
