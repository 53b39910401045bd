//! A whole server, and a client for it.

use std::fs;

use rclaude_server::{
    ServeError,
    config::{LlmUpstream, ServeOptions},
    run,
};
use reqwest::{
    Method, RequestBuilder, Response, StatusCode,
    header::{CONTENT_TYPE, HeaderMap},
};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::{sync::oneshot, task::JoinSet};
use tokio_util::sync::CancellationToken;
use url::Url;

/// A server that runs until it is dropped or stopped.
pub(super) struct Server {
    pub(super) url: Url,
    pub(super) token: String,
    pub(super) client: reqwest::Client,
    stop: CancellationToken,
    tasks: JoinSet<Result<(), ServeError>>,
    _dir: TempDir,
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

impl Server {
    pub(super) async fn start() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let options = ServeOptions {
            listen: "127.0.0.1:0".parse().unwrap(),
            ssh: None,
            data_dir: dir.path().to_owned(),
            llm: LlmUpstream {
                name: "none".to_owned(),
                url: "http://127.0.0.1:9".parse().unwrap(),
                api_key: None,
            },
            supervisor: vec!["/bin/false".into()],
            forge: "https://forge.invalid/{}".to_owned(),
            preview_url: None,
            policy: rclaude_server::session::policy::Policy::default(),
            snapshots: rclaude_server::snapshots::SnapshotOptions::default(),
            disk_image: None,
        };
        let stop = CancellationToken::new();
        let (tell, ready) = oneshot::channel();
        let stopping = stop.clone();
        let mut tasks = JoinSet::new();
        tasks.spawn(async move {
            run(options, stopping, |ready| tell.send(ready.clone()).unwrap()).await
        });
        let Ok(ready) = ready.await else {
            panic!("the server did not start: {:?}", tasks.join_next().await);
        };
        let url = ready.url;
        let token = fs::read_to_string(dir.path().join("token")).unwrap().trim().to_owned();
        let client = reqwest::Client::builder().build().unwrap();
        Self { url, token, client, stop, tasks, _dir: dir }
    }

    pub(super) fn begin_to_stop(&self) {
        self.stop.cancel();
    }

    pub(super) async fn stopped(mut self) {
        self.stop.cancel();
        self.tasks.join_next().await.unwrap().unwrap().unwrap();
    }

    /// Host and port.
    pub(super) fn authority(&self) -> String {
        format!("{}:{}", self.url.host_str().unwrap(), self.url.port().unwrap())
    }

    /// A request without credentials.
    pub(super) fn bare(&self, method: Method, path: &str) -> RequestBuilder {
        self.client.request(method, self.url.join(path).unwrap())
    }

    /// A request of the owner's.
    pub(super) fn request(&self, method: Method, path: &str) -> RequestBuilder {
        self.bare(method, path).bearer_auth(&self.token)
    }

    pub(super) async fn get(&self, path: &str) -> Answer {
        Answer::of(self.request(Method::GET, path)).await
    }

    pub(super) async fn post(&self, path: &str, body: Value) -> Answer {
        Answer::of(self.request(Method::POST, path).json(&body)).await
    }

    /// Makes a session and answers with its id.
    pub(super) async fn session(&self, body: Value) -> String {
        let made = self.post("/v1/sessions", body).await;
        assert_eq!(made.status, StatusCode::CREATED, "{}", made.body);
        made.body["id"].as_str().unwrap().to_owned()
    }

    /// Adds an event to a session's log.
    pub(super) async fn happen(&self, session: &str, model: &str) {
        let change = json!({ "model": model });
        let path = format!("/v1/sessions/{session}");
        let answer = Answer::of(self.request(Method::PATCH, &path).json(&change)).await;
        assert_eq!(answer.status, StatusCode::OK, "{}", answer.body);
    }
}

/// An answer, read whole. A body that is no JSON is a string.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) status: StatusCode,
    pub(super) headers: HeaderMap,
    pub(super) body: Value,
}

impl Answer {
    pub(super) async fn of(request: RequestBuilder) -> Self {
        Self::from(request.send().await.unwrap()).await
    }

    async fn from(response: Response) -> Self {
        let (status, headers) = (response.status(), response.headers().clone());
        let text = response.text().await.unwrap();
        let body = serde_json::from_str(&text).unwrap_or(Value::String(text));
        Self { status, headers, body }
    }

    pub(super) fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }

    /// Asserts that this is a whole problem, and gives its detail.
    #[track_caller]
    pub(super) fn problem(&self, status: u16, code: &str) -> &str {
        assert_eq!(self.status, status, "{}", self.body);
        assert_eq!(self.headers[CONTENT_TYPE], "application/problem+json");
        assert_eq!(self.body["status"], status);
        assert_eq!(self.body["code"], code, "{}", self.body);
        assert_eq!(self.body["type"], format!("urn:rclaude:error:{code}"));
        assert_eq!(self.body["request_id"], self.header("x-request-id"));
        assert!(!self.body["title"].as_str().unwrap().is_empty());
        self.body["detail"].as_str().unwrap()
    }
}
