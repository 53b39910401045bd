//! What the gateway adds: the emulator asked directly and through the gateway, in turns.
//!
//! `cargo bench -p rclaude-server --bench gateway`. Client, gateway and emulator share the
//! machine, so throughput is that of all three together. The budget (p50 of the added latency
//! ≤ 0.3 ms, ≥ 5,000 JSON requests/s on two cores) is printed beside.

#![expect(clippy::print_stdout, reason = "the table is what a bench is for")]
#![expect(clippy::unwrap_used, reason = "a bench that cannot go on has nothing to say")]

use std::{
    convert::Infallible,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use async_trait::async_trait;
use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::{Request, client::conn::http1::SendRequest, service::service_fn};
use hyper_util::rt::TokioIo;
use rclaude_emulator::Emulator;
use rclaude_server::{
    clock::SystemClock,
    gateway::{Credential, Gateway, GatewayConfig, SessionTokens, UsageRecord, UsageSink},
};
use rclaude_types::SessionId;
use serde_json::json;
use tokio::net::{TcpListener, TcpStream};
use tokio_util::task::TaskTracker;

const SECRET: &[u8] = &[1; 32];
const WARM_UP: usize = 500;
const ROUNDS: usize = 5_000;
const CONNECTIONS: usize = 16;
const RUN: Duration = Duration::from_secs(4);

#[derive(Default)]
struct Counter(AtomicU64);

#[async_trait]
impl UsageSink for Counter {
    async fn record(&self, _record: UsageRecord) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

/// A kind of request.
struct Load {
    name: &'static str,
    body: Bytes,
    streams: bool,
}

impl Load {
    fn new(name: &'static str, prompt: usize, streams: bool) -> Self {
        let body = json!({ "model": "claude-opus-5-5", "max_tokens": 1000, "stream": streams,
            "messages": [{ "role": "user", "content": format!("Hello {}", "x".repeat(prompt)) }] });
        Self { name, body: body.to_string().into(), streams }
    }
}

/// One kept-alive connection to a server.
struct Connection {
    sender: SendRequest<Full<Bytes>>,
    authorization: String,
}

impl Connection {
    async fn open(address: SocketAddr, token: &str, tasks: &TaskTracker) -> Self {
        let socket = TcpStream::connect(address).await.unwrap();
        socket.set_nodelay(true).unwrap();
        let (sender, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(socket)).await.unwrap();
        tasks.spawn(connection);
        Self { sender, authorization: format!("Bearer {token}") }
    }

    /// Sends a request and returns how long its first byte of body took.
    async fn ask(&mut self, load: &Load) -> Duration {
        let request = Request::post("/v1/messages?beta=true")
            .header("host", "bench")
            .header("content-type", "application/json")
            .header("authorization", &self.authorization)
            .body(Full::new(load.body.clone()))
            .unwrap();
        let start = Instant::now();
        self.sender.ready().await.unwrap();
        let response = self.sender.send_request(request).await.unwrap();
        assert!(response.status().is_success(), "{}", response.status());
        let mut body = response.into_body();
        body.frame().await.unwrap().unwrap();
        let first = start.elapsed();
        while let Some(frame) = body.frame().await {
            frame.unwrap();
        }
        if load.streams { first } else { start.elapsed() }
    }
}

async fn serve_gateway(gateway: Gateway, session: SessionId, tasks: TaskTracker) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let connections = tasks.clone();
    tasks.spawn(async move {
        while let Ok((socket, _)) = listener.accept().await {
            socket.set_nodelay(true).unwrap();
            let (gateway, session) = (gateway.clone(), session.clone());
            let service = service_fn(move |request| {
                let (gateway, session) = (gateway.clone(), session.clone());
                async move { Ok::<_, Infallible>(gateway.handle(request, Some(&session)).await) }
            });
            let server = hyper::server::conn::http1::Builder::new();
            connections.spawn(server.serve_connection(TokioIo::new(socket), service));
        }
    });
    address
}

/// Requests per second over [`CONNECTIONS`] connections.
async fn throughput(
    address: SocketAddr,
    token: &str,
    load: &Arc<Load>,
    tasks: &TaskTracker,
) -> u128 {
    let start = Instant::now();
    let mut workers = Vec::new();
    for _ in 0..CONNECTIONS {
        let mut connection = Connection::open(address, token, tasks).await;
        let load = Arc::clone(load);
        workers.push(tasks.spawn(async move {
            let mut asked = 0_u128;
            while start.elapsed() < RUN {
                connection.ask(&load).await;
                asked += 1;
            }
            asked
        }));
    }
    let mut asked = 0;
    for worker in workers {
        asked += worker.await.unwrap();
    }
    asked * 1000 / start.elapsed().as_millis()
}

fn percentile(sorted: &[Duration], percent: usize) -> Duration {
    sorted[(sorted.len() - 1) * percent / 100]
}

fn micros(duration: Duration) -> String {
    format!("{} µs", duration.as_micros())
}

async fn bench() {
    let tasks = TaskTracker::new();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let emulator = Emulator::new().serve(listener).unwrap();
    let key = Some(Credential::ApiKey("sk-bench".to_owned()));
    let config = GatewayConfig::new(emulator.url().parse().unwrap(), key, SECRET.into());
    let counter = Arc::new(Counter::default());
    let sink = Arc::clone(&counter);
    let clock = Arc::new(SystemClock::default());
    let gateway = Gateway::new(&config, sink, clock, tasks.clone()).unwrap();
    let session = SessionId::generate();
    let token = SessionTokens::new(SECRET).mint(&session);
    let through = serve_gateway(gateway, session, tasks.clone()).await;

    println!(
        "{:<28} {:>10} {:>10} {:>10} {:>10} {:>10} {:>10}   (added p50: budget 300 µs)",
        "one connection", "direct p50", "p99", "gate p50", "p99", "added p50", "added p99"
    );
    let loads = [
        Load::new("JSON, 200 B", 0, false),
        Load::new("JSON, 50 kB", 50_000, false),
        Load::new("stream's first byte, 200 B", 0, true),
        Load::new("stream's first byte, 50 kB", 50_000, true),
    ]
    .map(Arc::new);
    for load in &loads {
        let mut direct = Connection::open(emulator.address(), &token, &tasks).await;
        let mut gate = Connection::open(through, &token, &tasks).await;
        let (mut alone, mut gated) = (Vec::new(), Vec::new());
        for round in 0..WARM_UP + ROUNDS {
            let (a, b) = (direct.ask(load).await, gate.ask(load).await);
            if round >= WARM_UP {
                alone.push(a);
                gated.push(b);
            }
        }
        alone.sort_unstable();
        gated.sort_unstable();
        let at = |percent| (percentile(&alone, percent), percentile(&gated, percent));
        let ((a50, g50), (a99, g99)) = (at(50), at(99));
        let added = [g50.saturating_sub(a50), g99.saturating_sub(a99)];
        let row =
            [a50, a99, g50, g99, added[0], added[1]].map(|time| format!("{:>10}", micros(time)));
        println!("{:<28} {}", load.name, row.join(" "));
    }
    println!(
        "\n{:<28} {:>12} {:>12}   (JSON through the gateway: budget 5000/s)",
        format!("{CONNECTIONS} connections"),
        "direct",
        "gateway"
    );
    for load in &loads {
        let direct = throughput(emulator.address(), &token, load, &tasks).await;
        let gate = throughput(through, &token, load, &tasks).await;
        println!("{:<28} {direct:>10}/s {gate:>10}/s", load.name.replace("'s first byte", ""));
    }
    println!("\n{} usage records", counter.0.load(Ordering::Relaxed));
}

fn main() {
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(bench());
    runtime.shutdown_background();
}
