mod bytes;
mod door;
mod faults;
mod metering;
mod tls;

use std::{
    future::Future,
    sync::{Arc, Mutex},
    time::Duration,
};

use async_trait::async_trait;
use hyper::{body::Incoming, service::service_fn};
use hyper_util::rt::TokioIo;
use rclaude_emulator::{Emulator, EmulatorHandle};
use rclaude_server::{
    clock::SystemClock,
    gateway::{Credential, Gateway, GatewayConfig, SessionTokens, UsageRecord, UsageSink},
};
use rclaude_types::SessionId;
use serde_json::{Value, json};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::task::TaskTracker;

const SECRET: &[u8] = &[42; 32];
const KEY: &str = "sk-upstream-4711";

/// Keeps records in memory.
#[derive(Debug, Default)]
struct Records(Mutex<Vec<UsageRecord>>);

#[async_trait]
impl UsageSink for Records {
    async fn record(&self, record: UsageRecord) {
        self.0.lock().unwrap().push(record);
    }
}

/// A gateway on a socket, all of whose connections are one session's.
struct World {
    gateway: Gateway,
    url: String,
    session: SessionId,
    token: String,
    records: Arc<Records>,
}

impl World {
    /// In front of `upstream`, with the usual key.
    async fn before(upstream: &str) -> Self {
        let key = Credential::ApiKey(KEY.to_owned());
        Self::with(GatewayConfig::new(upstream.parse().unwrap(), Some(key), SECRET.into())).await
    }

    async fn with(config: GatewayConfig) -> Self {
        let records = Arc::new(Records::default());
        let sink = Arc::clone(&records);
        let clock = Arc::new(SystemClock::default());
        let gateway = Gateway::new(&config, sink, clock, TaskTracker::new()).unwrap();
        let session = SessionId::generate();
        let (served, from) = (gateway.clone(), session.clone());
        let url = serve(move |request| {
            let (gateway, from) = (served.clone(), from.clone());
            async move { gateway.handle(request, Some(&from)).await }
        })
        .await;
        let token = SessionTokens::new(SECRET).mint(&session);
        Self { gateway, url, session, token, records }
    }

    fn post(&self, path: &str) -> reqwest::RequestBuilder {
        client().post(format!("{}{path}", self.url)).bearer_auth(&self.token)
    }

    /// Sends a prompt with a script.
    fn scripted(&self, script: &Value, stream: bool) -> reqwest::RequestBuilder {
        self.post("/v1/messages?beta=true").json(&json!({
            "model": "claude-sonnet-4-5", "max_tokens": 100, "stream": stream, "messages": [
                { "role": "user", "content": format!("<<SCRIPT {script} SCRIPT>>") }]
        }))
    }

    /// The one record there is, once it is there.
    async fn record(&self) -> UsageRecord {
        for _ in 0..500 {
            self.gateway.recorded(&self.session).await;
            if let [record] = &self.records.0.lock().unwrap()[..] {
                return record.clone();
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("not one record: {:?}", self.records.0.lock().unwrap());
    }

    fn has_no_record(&self) -> bool {
        self.records.0.lock().unwrap().is_empty()
    }
}

async fn emulator() -> EmulatorHandle {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    Emulator::new().recording().serve(listener).unwrap()
}

fn client() -> reqwest::Client {
    reqwest::Client::builder().build().unwrap()
}

/// Serves `answer` on a socket and returns its URL.
async fn serve<F, R, B>(answer: F) -> String
where
    F: Fn(hyper::Request<Incoming>) -> R + Clone + Send + 'static,
    R: Future<Output = hyper::Response<B>> + Send + 'static,
    B: hyper::body::Body<Data = ::bytes::Bytes> + Send + 'static,
    B::Error: Into<axum::BoxError>,
{
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let tasks = TaskTracker::new();
    let connections = tasks.clone();
    tasks.spawn(async move {
        while let Ok((socket, _)) = listener.accept().await {
            connections.spawn(connection(socket, answer.clone()));
        }
    });
    url
}

async fn connection<F, R, B>(socket: TcpStream, answer: F)
where
    F: Fn(hyper::Request<Incoming>) -> R + Send,
    R: Future<Output = hyper::Response<B>> + Send + 'static,
    B: hyper::body::Body<Data = ::bytes::Bytes> + Send + 'static,
    B::Error: Into<axum::BoxError>,
{
    socket.set_nodelay(true).unwrap();
    let service = service_fn(move |request| {
        let answer = answer(request);
        async { Ok::<_, std::convert::Infallible>(answer.await) }
    });
    let served = hyper::server::conn::http1::Builder::new();
    // A client that breaks off is the point of some tests.
    served.serve_connection(TokioIo::new(socket), service).await.ok();
}
