//! The snapshot store is over the network, and the network is not always there.

use std::{
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use hyper_util::{
    rt::{TokioExecutor, TokioIo},
    server::conn::auto::Builder,
};
use s3s::{auth::SimpleAuth, service::S3ServiceBuilder};
use serde_json::{Value, json};
use tokio::{net::TcpListener, task::JoinSet};

use crate::{
    backups::{exec, goes_on, worked},
    platform::{Agent, PATIENCE, Platform},
};

/// An S3 server that checks signatures and keeps objects as files. Gone when it is dropped.
struct S3 {
    _serving: JoinSet<()>,
}

impl S3 {
    async fn start(address: SocketAddr, dir: &Path) -> (Self, SocketAddr) {
        fs::create_dir_all(dir.join("bucket")).unwrap();
        let mut service = S3ServiceBuilder::new(s3s_fs::FileSystem::new(dir).unwrap());
        service.set_auth(SimpleAuth::from_single("an-id", "a-secret"));
        let service = service.build();
        let listener = TcpListener::bind(address).await.unwrap();
        let address = listener.local_addr().unwrap();
        let mut serving = JoinSet::new();
        serving.spawn(async move {
            let mut connections = JoinSet::new();
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let service = service.clone();
                connections.spawn(async move {
                    let server = Builder::new(TokioExecutor::new());
                    let _ = server.serve_connection(TokioIo::new(stream), service).await;
                });
            }
        });
        (Self { _serving: serving }, address)
    }
}

const PLACE: &str = "s3://bucket/rclaude";

async fn check(platform: &Platform) -> Option<Value> {
    let status = platform.ok("GET", "/v1/status", None).await;
    let checks = status["checks"].as_array().unwrap().iter();
    checks.clone().find(|check| check["name"] == "snapshots").cloned()
}

async fn until(platform: &Platform, what: &str, wanted: impl AsyncFn() -> bool) {
    let started = Instant::now();
    while !wanted().await {
        assert!(started.elapsed() < 2 * PATIENCE, "never: {what}\n{}", platform.log());
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn states_go_to_s3_by_themselves_and_wait_while_it_is_away_and_a_lost_machine_comes_back() {
    let dir = tempfile::tempdir().unwrap();
    let objects: PathBuf = dir.path().join("s3");
    let (s3, address) = S3::start(([127, 0, 0, 1], 0).into(), &objects).await;
    let endpoint = format!("http://{address}");
    let environment = [
        ("AWS_ENDPOINT_URL", endpoint.as_str()),
        ("AWS_ACCESS_KEY_ID", "an-id"),
        ("AWS_SECRET_ACCESS_KEY", "a-secret"),
        ("RCLAUDE_SNAPSHOT_PASSPHRASE", "of the whole fleet"),
    ];
    let flags = ["--snapshots", PLACE, "--backup-every", "3s"];
    let lost = Platform::start_on(Agent::Real, &flags, &environment, |_| ()).await;
    let id = worked(&lost, json!({}), "echo first > b.txt").await;
    let backups = async || lost.call("GET", "/v1/backups", None).await.1;
    let count = async || backups().await["data"].as_array().map_or(0, Vec::len);
    until(&lost, "a backup by itself", async || count().await > 0).await;
    assert_eq!(check(&lost).await, None);

    drop(s3);
    until(&lost, "the outage is seen", async || check(&lost).await.is_some()).await;
    let told = check(&lost).await.unwrap();
    assert!(told["detail"].as_str().unwrap().starts_with("snapshots unavailable since"), "{told}");
    let turn = lost.send(&id, &crate::backups::doing("echo second > b.txt")).await;
    lost.ended(&id, &turn).await;
    let (status, refused) = lost.call("POST", "/v1/backups", Some(json!({}))).await;
    assert_eq!((status, &refused["code"]), (503, &json!("snapshots_unavailable")), "{refused}");
    let outages = lost.log().matches("the snapshot store is not available").count();
    assert_eq!(outages, 1, "one line an outage:\n{}", lost.log());

    let before = 0;
    let (_s3, _) = S3::start(address, &objects).await;
    until(&lost, "the outage is over", async || check(&lost).await.is_none()).await;
    until(&lost, "backups go on", async || count().await > before).await;
    let session = lost.get(&id).await;
    let newest = session.latest_checkpoint.unwrap();
    // Not before the newest state has been kept may the machine go.
    let ran = lost.run(&["--json", "backup"]).await;
    assert_eq!(ran.code, Some(0), "{}", ran.stderr);
    drop(newest);
    drop(lost);

    let found = Platform::start_on(Agent::Real, &flags, &environment, |home| {
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_rclaude"));
        command.args(["restore", PLACE]).env_clear().env("HOME", home);
        command.env("PATH", "/usr/local/bin:/usr/bin:/bin");
        command.env("RCLAUDE_DATA_DIR", home.join("data")).envs(environment);
        let output = command.output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    })
    .await;
    assert_eq!(exec(&found, &id, "cat b.txt").await, "second\n");
    goes_on(&found, &id).await;
    let verdict = found.run(&["backup", "verify"]).await;
    assert_eq!(verdict.code, Some(0), "{}{}", verdict.stdout, verdict.stderr);
    found.end().await;
}
