//! Requests and their answers.
//!
//! A request that may be repeated (a GET, or a POST with an idempotency key) is repeated a few
//! times when its connection breaks. A server that does not answer at all is a failure at once.

use std::{ops::Deref, time::Duration};

use rclaude_types::{
    Approval, ApprovalId, CreateExec, CreateKey, CreateSession, CreateSshKey, CreateTurn,
    CreatedKey, Decision, Exec, ExecId, KeyId, Page, Problem, Seq, ServerStatus, Session,
    SessionDiff, SshKey, SshKeyId, Turn, UsageSummary,
};
use reqwest::{Method, StatusCode, header};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::value::RawValue;
use url::Url;
use uuid::Uuid;

use crate::{
    config::{self, Connection},
    exit::Failure,
};

/// For connecting; a host that drops packets must not look like a slow one.
const CONNECT_WITHIN: Duration = Duration::from_secs(10);
/// For an answer to begin: a session that has to wake first takes its time, a big diff too.
const ANSWER_WITHIN: Duration = Duration::from_mins(5);
/// Waits before a broken request is sent again.
const AGAIN_AFTER: [Duration; 3] =
    [Duration::from_millis(100), Duration::from_millis(500), Duration::from_secs(2)];

/// An answer as we understand it, and as it came.
#[derive(Debug)]
pub(crate) struct Answer<T> {
    /// As we understand it.
    pub(crate) value: T,
    /// As it came: what `--json` prints.
    pub(crate) raw: Box<RawValue>,
}

impl<T> Deref for Answer<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.value
    }
}

/// Speaks to one server. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Client {
    http: reqwest::Client,
    connection: Connection,
}

/// A request about to be sent.
pub(super) struct Request<'a> {
    pub(super) method: Method,
    pub(super) url: Url,
    pub(super) body: Body<'a>,
    pub(super) accept: &'static str,
    pub(super) key: Option<String>,
}

pub(super) enum Body<'a> {
    Nothing,
    Json(Vec<u8>),
    Bytes(&'a [u8]),
}

impl Client {
    pub(crate) fn new(connection: &Connection) -> Result<Self, Failure> {
        let mut builder = reqwest::Client::builder()
            .user_agent(concat!("rclaude/", env!("CARGO_PKG_VERSION")))
            .connect_timeout(CONNECT_WITHIN)
            .redirect(reqwest::redirect::Policy::none());
        if config::is_loopback(&connection.url) {
            // A proxy for the internet has no business with a server on this host.
            builder = builder.no_proxy();
        }
        let http = builder.build().map_err(|error| Failure::Failed(chain(&error)))?;
        Ok(Self { http, connection: connection.clone() })
    }

    /// The server.
    pub(crate) const fn url(&self) -> &Url {
        &self.connection.url
    }

    /// The API key, if we have one.
    pub(super) fn token(&self) -> Option<&str> {
        self.connection.token.as_deref()
    }

    /// The URL of a resource, each part of its path encoded.
    pub(super) fn resource(&self, path: &[&str], query: &[(&str, &str)]) -> Url {
        let mut url = self.connection.url.clone();
        if let Ok(mut segments) = url.path_segments_mut() {
            segments.pop_if_empty().push("v1").extend(path);
        }
        url.set_query(None);
        if !query.is_empty() {
            url.query_pairs_mut().extend_pairs(query);
        }
        url
    }

    pub(crate) async fn status(&self) -> Result<Answer<ServerStatus>, Failure> {
        self.get(&["status"], &[]).await
    }

    pub(crate) async fn create_session(
        &self,
        request: &CreateSession,
    ) -> Result<Answer<Session>, Failure> {
        self.post(&["sessions"], request).await
    }

    pub(crate) async fn sessions(
        &self,
        labels: &[(String, String)],
        limit: u32,
        cursor: Option<&str>,
    ) -> Result<Answer<Page<Box<RawValue>>>, Failure> {
        let limit = limit.to_string();
        let labels: Vec<_> = labels.iter().map(|(key, value)| format!("{key}={value}")).collect();
        let mut query = vec![("limit", limit.as_str())];
        query.extend(labels.iter().map(|label| ("label", label.as_str())));
        query.extend(cursor.map(|cursor| ("cursor", cursor)));
        self.get(&["sessions"], &query).await
    }

    pub(crate) async fn session(&self, reference: &str) -> Result<Answer<Session>, Failure> {
        self.get(&["sessions", reference], &[]).await
    }

    pub(crate) async fn delete_session(&self, reference: &str) -> Result<(), Failure> {
        let url = self.resource(&["sessions", reference], &[]);
        self.send(Request::plain(Method::DELETE, url)).await.map(drop)
    }

    /// `resume` or `interrupt`.
    pub(crate) async fn session_verb(
        &self,
        reference: &str,
        verb: &str,
    ) -> Result<Answer<Session>, Failure> {
        let url = self.resource(&["sessions", reference, verb], &[]);
        self.answer(Request { key: Some(new_key()), ..Request::plain(Method::POST, url) }).await
    }

    pub(crate) async fn create_turn(
        &self,
        reference: &str,
        turn: &CreateTurn,
    ) -> Result<Answer<Turn>, Failure> {
        self.post(&["sessions", reference, "turns"], turn).await
    }

    pub(crate) async fn approvals(
        &self,
        reference: &str,
    ) -> Result<Answer<Page<Approval>>, Failure> {
        self.get(&["sessions", reference, "approvals"], &[]).await
    }

    pub(crate) async fn decide(
        &self,
        reference: &str,
        approval: &ApprovalId,
        decision: &Decision,
    ) -> Result<Answer<Approval>, Failure> {
        self.post(&["sessions", reference, "approvals", approval.as_str()], decision).await
    }

    /// A page of the log after `after`, as it came; empty at its end.
    pub(crate) async fn events(
        &self,
        reference: &str,
        after: Seq,
        limit: u32,
    ) -> Result<Vec<super::Entry>, Failure> {
        let (after, limit) = (after.to_string(), limit.to_string());
        let query = [("after", after.as_str()), ("limit", limit.as_str())];
        let page: Answer<Page<Box<RawValue>>> =
            self.get(&["sessions", reference, "events"], &query).await?;
        page.value.data.into_iter().map(super::Entry::read).collect()
    }

    pub(crate) async fn usage(&self, reference: &str) -> Result<Answer<UsageSummary>, Failure> {
        self.get(&["sessions", reference, "usage"], &[]).await
    }

    /// The diff in numbers, or with its patch.
    pub(crate) async fn diff(
        &self,
        reference: &str,
        format: &str,
    ) -> Result<Answer<SessionDiff>, Failure> {
        self.get(&["sessions", reference, "diff"], &[("format", format)]).await
    }

    /// The patch's very bytes.
    pub(crate) async fn patch(&self, reference: &str) -> Result<Vec<u8>, Failure> {
        let url = self.resource(&["sessions", reference, "diff"], &[("format", "full")]);
        self.send(Request { accept: "text/x-diff", ..Request::plain(Method::GET, url) }).await
    }

    pub(crate) async fn start_exec(
        &self,
        reference: &str,
        exec: &ExecId,
        command: &CreateExec,
    ) -> Result<Answer<Exec>, Failure> {
        let request = Request {
            method: Method::PUT,
            url: self.resource(&["sessions", reference, "execs", exec.as_str()], &[]),
            body: Body::json(command)?,
            accept: "application/json",
            key: None,
        };
        self.answer(request).await
    }

    /// Bytes for a command's standard input. Sent again at the same offset they count once.
    pub(crate) async fn exec_stdin(
        &self,
        reference: &str,
        exec: &ExecId,
        offset: u64,
        data: &[u8],
        close: bool,
    ) -> Result<(), Failure> {
        let (offset, close) = (offset.to_string(), close.to_string());
        let path = ["sessions", reference, "execs", exec.as_str(), "stdin"];
        let query = [("offset", offset.as_str()), ("close", close.as_str())];
        let request = Request {
            body: Body::Bytes(data),
            key: Some(new_key()),
            ..Request::plain(Method::POST, self.resource(&path, &query))
        };
        self.send(request).await.map(drop)
    }

    pub(crate) async fn exec_signal(
        &self,
        reference: &str,
        exec: &ExecId,
        signal: &str,
    ) -> Result<(), Failure> {
        let url = self.resource(&["sessions", reference, "execs", exec.as_str(), "signal"], &[]);
        let request = Request {
            body: Body::json(&serde_json::json!({ "signal": signal }))?,
            key: Some(new_key()),
            ..Request::plain(Method::POST, url)
        };
        self.send(request).await.map(drop)
    }

    pub(crate) async fn keys(&self) -> Result<Answer<Page<Box<RawValue>>>, Failure> {
        self.get(&["keys"], &[]).await
    }

    pub(crate) async fn create_key(&self, name: &str) -> Result<Answer<CreatedKey>, Failure> {
        self.post(&["keys"], &CreateKey { name: name.to_owned() }).await
    }

    pub(crate) async fn revoke_key(&self, id: &KeyId) -> Result<(), Failure> {
        let url = self.resource(&["keys", id.as_str()], &[]);
        self.send(Request::plain(Method::DELETE, url)).await.map(drop)
    }

    pub(crate) async fn ssh_keys(&self) -> Result<Answer<Page<Box<RawValue>>>, Failure> {
        self.get(&["ssh-keys"], &[]).await
    }

    pub(crate) async fn add_ssh_key(
        &self,
        public_key: &str,
        name: Option<&str>,
    ) -> Result<Answer<SshKey>, Failure> {
        let (public_key, name) = (public_key.to_owned(), name.map(str::to_owned));
        self.post(&["ssh-keys"], &CreateSshKey { public_key, name }).await
    }

    pub(crate) async fn remove_ssh_key(&self, id: &SshKeyId) -> Result<(), Failure> {
        let url = self.resource(&["ssh-keys", id.as_str()], &[]);
        self.send(Request::plain(Method::DELETE, url)).await.map(drop)
    }

    /// A GET whose body is read as it comes, however long that takes.
    pub(super) async fn stream(
        &self,
        url: Url,
        accept: &str,
    ) -> Result<reqwest::Response, Failure> {
        let request = self.http.get(url).header(header::ACCEPT, accept);
        let response = self.authorized(request).send().await.map_err(|e| self.failure(&e))?;
        if response.status().is_success() {
            Ok(response)
        } else {
            Err(self.refusal(response).await)
        }
    }

    pub(super) async fn get<T: DeserializeOwned>(
        &self,
        path: &[&str],
        query: &[(&str, &str)],
    ) -> Result<Answer<T>, Failure> {
        self.answer(Request::plain(Method::GET, self.resource(path, query))).await
    }

    pub(super) async fn post<T: DeserializeOwned>(
        &self,
        path: &[&str],
        body: &impl Serialize,
    ) -> Result<Answer<T>, Failure> {
        self.send_json(Method::POST, path, body).await
    }

    pub(super) async fn send_json<T: DeserializeOwned>(
        &self,
        method: Method,
        path: &[&str],
        body: &impl Serialize,
    ) -> Result<Answer<T>, Failure> {
        let key = (method == Method::POST).then(new_key);
        let body = Body::json(body)?;
        self.answer(Request { body, key, ..Request::plain(method, self.resource(path, &[])) }).await
    }

    pub(super) async fn answer<T: DeserializeOwned>(
        &self,
        request: Request<'_>,
    ) -> Result<Answer<T>, Failure> {
        let bytes = self.send(request).await?;
        let raw: Box<RawValue> = serde_json::from_slice(&bytes).map_err(|e| strange(&e))?;
        Ok(Answer { value: read(&raw)?, raw })
    }

    pub(super) async fn send(&self, request: Request<'_>) -> Result<Vec<u8>, Failure> {
        let mut waits = AGAIN_AFTER.iter();
        loop {
            let error = match self.send_once(&request).await {
                Ok(response) if response.status().is_success() => match response.bytes().await {
                    Ok(bytes) => return Ok(bytes.into()),
                    Err(error) => error,
                },
                Ok(response) => return Err(self.refusal(response).await),
                Err(error) => error,
            };
            // A refused connection is an answer; one that broke off may have been an accident.
            match waits.next() {
                Some(wait) if !error.is_connect() && !error.is_timeout() => {
                    tokio::time::sleep(*wait).await;
                }
                _ => return Err(self.failure(&error)),
            }
        }
    }

    async fn send_once(&self, request: &Request<'_>) -> Result<reqwest::Response, reqwest::Error> {
        let mut builder = self
            .http
            .request(request.method.clone(), request.url.clone())
            .header(header::ACCEPT, request.accept)
            .timeout(ANSWER_WITHIN);
        if let Some(key) = &request.key {
            builder = builder.header("Idempotency-Key", key);
        }
        builder = match &request.body {
            Body::Nothing => builder,
            Body::Json(json) => {
                builder.header(header::CONTENT_TYPE, "application/json").body(json.clone())
            }
            Body::Bytes(bytes) => builder
                .header(header::CONTENT_TYPE, "application/octet-stream")
                .body(bytes.to_vec()),
        };
        self.authorized(builder).send().await
    }

    /// A request to be sent as it is, however long it takes.
    pub(super) fn begin(&self, method: Method, url: Url) -> reqwest::RequestBuilder {
        self.authorized(self.http.request(method, url))
    }

    fn authorized(&self, request: reqwest::RequestBuilder) -> reqwest::RequestBuilder {
        match self.token() {
            Some(token) => request.bearer_auth(token),
            None => request,
        }
    }

    pub(super) fn failure(&self, error: &reqwest::Error) -> Failure {
        let reason =
            if error.is_timeout() { "it did not answer in time".to_owned() } else { chain(error) };
        Failure::Unreachable { url: self.url().to_string(), reason }
    }

    pub(super) async fn refusal(&self, response: reqwest::Response) -> Failure {
        let status = response.status();
        let body = response.bytes().await.unwrap_or_default();
        read_refusal(self.url(), status, &body)
    }
}

/// What the server sent, as we understand it.
pub(crate) fn read<T: DeserializeOwned>(raw: &RawValue) -> Result<T, Failure> {
    serde_json::from_str(raw.get()).map_err(|error| strange(&error))
}

pub(super) fn strange(error: &serde_json::Error) -> Failure {
    Failure::Failed(format!(
        "the server's answer cannot be read ({error}); are client and server of one version?"
    ))
}

/// What an answer that is not a success means.
pub(super) fn read_refusal(url: &Url, status: StatusCode, body: &[u8]) -> Failure {
    serde_json::from_slice::<Problem>(body).map_or_else(
        |_| {
            let text = String::from_utf8_lossy(body);
            let first = text.lines().next().unwrap_or_default().trim();
            Failure::Failed(format!(
                "{url} answered {status}{}{first}; is that an rclaude server?",
                if first.is_empty() { "" } else { ": " }
            ))
        },
        Failure::Problem,
    )
}

/// An error with its causes, the innermost last, none said twice.
pub(super) fn chain(error: &dyn std::error::Error) -> String {
    let mut innermost = error;
    while let Some(source) = innermost.source() {
        innermost = source;
    }
    innermost.to_string()
}

pub(super) fn new_key() -> String {
    Uuid::now_v7().simple().to_string()
}

impl Body<'_> {
    pub(super) fn json(value: &impl Serialize) -> Result<Self, Failure> {
        serde_json::to_vec(value).map(Self::Json).map_err(|e| Failure::Failed(e.to_string()))
    }
}

impl Request<'_> {
    pub(super) const fn plain(method: Method, url: Url) -> Self {
        Self { method, url, body: Body::Nothing, accept: "application/json", key: None }
    }
}
