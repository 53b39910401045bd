//! A server that may die under its users, and users who ask again until they are answered.

use std::{
    fs,
    os::unix::{fs::symlink, process::ExitStatusExt as _},
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus},
    sync::{
        Mutex,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use rclaude_emulator::{Emulator, EmulatorHandle};
use rustix::process::{Pid, Signal};
use serde_json::Value;
use tokio::net::TcpListener;

use super::{clock::Skew, plan::Abilities};
use crate::platform::{installed_agents, kill, processes, repository_root, serve_command};

/// How many seconds anything may take, faults included, before it counts as never.
pub(super) static PATIENCE: AtomicU64 = AtomicU64::new(90);

pub(super) fn patience() -> Duration {
    Duration::from_secs(PATIENCE.load(Ordering::Relaxed))
}

/// Between two looks at something that is awaited.
pub(super) const LOOK: Duration = Duration::from_millis(20);

/// What is not as it must be, in words.
#[derive(Debug, Clone)]
pub(super) struct Wrong(pub(super) String);

pub(super) type Outcome<T = ()> = Result<T, Wrong>;

/// Shorthand for the error.
pub(super) fn wrong<T>(text: impl Into<String>) -> Outcome<T> {
    Err(Wrong(text.into()))
}

/// The server with its data, its model and its faults.
pub(super) struct Host {
    home: tempfile::TempDir,
    data: PathBuf,
    pub(super) emulator: EmulatorHandle,
    http: reqwest::Client,
    process: Mutex<Option<Child>>,
    access: Mutex<(String, String)>,
    /// Only one may take the server down at a time.
    changing: tokio::sync::Mutex<()>,
    environment: Mutex<Vec<(String, String)>>,
    pub(super) skew: Option<Skew>,
    pub(super) small_disk: bool,
    keys: AtomicU64,
    /// How often the server was killed.
    pub(super) kills: AtomicUsize,
    /// The server was told to die.
    doomed: AtomicBool,
}

impl Host {
    /// Starts a server with its data on the disk `at`, or on the usual one.
    pub(super) async fn start(at: Option<&Path>) -> Outcome<Self> {
        let home = tempfile::tempdir().unwrap();
        let data = at.unwrap_or_else(|| home.path()).join("data");
        fs::create_dir(&data).unwrap();
        symlink(installed_agents(), data.join("agents")).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let emulator = Emulator::new().recording().serve(listener).unwrap();
        let skew = Skew::find(home.path());
        let host = Self {
            home,
            data,
            emulator,
            http: reqwest::Client::builder().timeout(Duration::from_secs(15)).build().unwrap(),
            process: Mutex::default(),
            access: Mutex::default(),
            changing: tokio::sync::Mutex::default(),
            environment: Mutex::default(),
            skew,
            small_disk: at.is_some(),
            keys: AtomicU64::new(0),
            kills: AtomicUsize::new(0),
            doomed: AtomicBool::new(false),
        };
        host.up().await?;
        Ok(host)
    }

    /// Gives the next servers this in their environment, or nothing under this name.
    pub(super) fn tell(&self, name: &str, value: Option<&str>) {
        let mut environment = self.environment.lock().unwrap();
        environment.retain(|(before, _)| before != name);
        environment.extend(value.map(|value| (name.to_owned(), value.to_owned())));
    }

    /// Starts a server; there must be none.
    pub(super) async fn up(&self) -> Outcome {
        self.spawn();
        self.await_ready().await
    }

    /// The same without waiting for it to answer.
    pub(super) fn spawn(&self) {
        let mut command = serve_command(self.home.path(), &self.emulator.url(), &[]);
        command.env("RCLAUDE_DATA_DIR", &self.data);
        command.envs(self.environment.lock().unwrap().iter().cloned());
        if let Some(skew) = &self.skew {
            command.envs(skew.environment());
        }
        *self.process.lock().unwrap() = Some(command.spawn().unwrap());
    }

    pub(super) async fn await_ready(&self) -> Outcome {
        let started = Instant::now();
        loop {
            let file = fs::read(self.data().join("server.json")).ok();
            let found = file.and_then(|text| serde_json::from_slice::<Value>(&text).ok());
            if let Some(found) =
                found.filter(|found| Some(&found["pid"]) == self.pid_json().as_ref())
                && let Ok(token) = fs::read_to_string(self.data().join("token"))
            {
                let url = found["url"].as_str().unwrap().trim_end_matches('/').to_owned();
                *self.access.lock().unwrap() = (url.clone(), token.trim().to_owned());
                let health = self.http.get(format!("{url}/healthz")).send().await;
                if health.is_ok_and(|answer| answer.status().is_success()) {
                    return Ok(());
                }
            }
            if let Some(status) = self.ended() {
                return wrong(format!("the server did not start: {status}\n{}", self.log()));
            }
            if started.elapsed() > patience() {
                return wrong(format!("the server is not ready\n{}", self.log()));
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    fn pid_json(&self) -> Option<Value> {
        self.process.lock().unwrap().as_ref().map(|process| process.id().into())
    }

    /// How the server ended, if it is down.
    pub(super) fn ended(&self) -> Option<ExitStatus> {
        self.process.lock().unwrap().as_mut()?.try_wait().unwrap()
    }

    /// Starts the server again, to die at a point of its own.
    pub(super) async fn arm(&self, point: &str) -> Outcome {
        self.down();
        self.tell("RCLAUDE_CRASH_AT", Some(point));
        self.doomed.store(true, Ordering::SeqCst);
        self.spawn();
        match self.await_ready().await {
            // It may die before it answers anybody.
            Err(_) if self.ended().is_some() => Ok(()),
            ready => ready,
        }
    }

    /// Waits until the armed server dies at its point, and starts one that does not.
    pub(super) async fn die(&self, within: Duration) -> Outcome {
        let started = Instant::now();
        let status = loop {
            match self.ended() {
                Some(status) => break status,
                None if started.elapsed() > within => {
                    return wrong(format!("the server never came there\n{}", self.tail()));
                }
                None => tokio::time::sleep(Duration::from_millis(5)).await,
            }
        };
        if status.signal() != Some(Signal::ABORT.as_raw()) {
            return wrong(format!("the server ended otherwise: {status}\n{}", self.tail()));
        }
        self.tell("RCLAUDE_CRASH_AT", None);
        self.up().await?;
        self.doomed.store(false, Ordering::SeqCst);
        Ok(())
    }

    /// Kills the server, and whatever `besides` kills, and starts another.
    pub(super) async fn replace(&self, besides: impl FnOnce()) -> Outcome {
        let _alone = self.changing.lock().await;
        self.kills.fetch_add(1, Ordering::Relaxed);
        self.down();
        besides();
        self.up().await
    }

    /// Kills the server.
    pub(super) fn down(&self) {
        if let Some(mut process) = self.process.lock().unwrap().take() {
            process.kill().unwrap();
            process.wait().unwrap();
        }
    }

    /// Lets a process stand still for a while.
    pub(super) async fn stall(pids: &[u32], how_long: Duration) {
        for pid in pids {
            signal(*pid, Signal::STOP);
        }
        tokio::time::sleep(how_long).await;
        for pid in pids {
            signal(*pid, Signal::CONT);
        }
    }

    /// The server's process.
    pub(super) fn pid(&self) -> Option<u32> {
        self.process.lock().unwrap().as_ref().map(Child::id)
    }

    pub(super) fn data(&self) -> PathBuf {
        self.data.clone()
    }

    /// A directory for the run's own files.
    pub(super) fn scratch(&self) -> &Path {
        self.home.path()
    }

    /// The supervisors of this server.
    pub(super) fn supervisors(&self) -> Vec<u32> {
        let engine = format!("--dir {}", self.data().join("engine").to_string_lossy());
        let mine = |(pid, line): (u32, String)| {
            (line.contains("__supervisor") && line.contains(&engine)).then_some(pid)
        };
        processes().into_iter().filter_map(mine).collect()
    }

    /// Sandboxes of which there is a directory.
    pub(super) fn sandboxes(&self) -> Vec<String> {
        let entries = fs::read_dir(self.data().join("engine/sandboxes")).into_iter().flatten();
        entries.flatten().filter_map(|entry| entry.file_name().into_string().ok()).collect()
    }

    /// What the server has logged.
    pub(super) fn log(&self) -> String {
        fs::read_to_string(self.home.path().join("log")).unwrap_or_default()
    }

    /// Where to ask, and the owner's token.
    pub(super) fn access(&self) -> (String, String) {
        self.access.lock().unwrap().clone()
    }

    /// A key that no request had before.
    pub(super) fn key(&self) -> String {
        format!("key-{}", self.keys.fetch_add(1, Ordering::Relaxed))
    }

    /// Asks once; `None` if there was no answer.
    pub(super) async fn ask_once(
        &self,
        method: &str,
        path: &str,
        body: Option<&Value>,
        key: Option<&str>,
    ) -> Option<(u16, String)> {
        let (url, token) = self.access();
        let method = method.parse().unwrap();
        let mut request = self.http.request(method, format!("{url}{path}")).bearer_auth(token);
        if let Some(key) = key {
            request = request.header("idempotency-key", key);
        }
        if let Some(body) = body {
            request = request.json(body);
        }
        let answer = request.send().await.ok()?;
        let status = answer.status().as_u16();
        Some((status, answer.text().await.ok()?))
    }

    /// Asks until there is an answer that is not "not now", as a patient client does.
    pub(super) async fn ask_text(
        &self,
        method: &str,
        path: &str,
        body: Option<&Value>,
        key: Option<&str>,
    ) -> Outcome<(u16, String)> {
        let started = Instant::now();
        let mut last = None;
        while started.elapsed() < patience() {
            match self.ask_once(method, path, body, key).await {
                Some((status, text)) if status < 500 => return Ok((status, text)),
                Some(refused) => last = Some(refused),
                None => {}
            }
            if let Some(status) = self.ended()
                && !self.doomed.load(Ordering::SeqCst)
                && self.changing.try_lock().is_ok()
                && self.ended().is_some()
            {
                return wrong(format!("the server ended by itself: {status}\n{}", self.log()));
            }
            tokio::time::sleep(LOOK).await;
        }
        wrong(format!("{method} {path}: never answered; last {last:?}\n{}", self.tail()))
    }

    /// The same, with the answer read.
    pub(super) async fn ask(
        &self,
        method: &str,
        path: &str,
        body: Option<&Value>,
        key: Option<&str>,
    ) -> Outcome<(u16, Value)> {
        let (status, text) = self.ask_text(method, path, body, key).await?;
        Ok((status, serde_json::from_str(&text).unwrap_or(Value::Null)))
    }

    /// The same, which must succeed.
    pub(super) async fn ok(
        &self,
        method: &str,
        path: &str,
        body: Option<&Value>,
        key: Option<&str>,
    ) -> Outcome<Value> {
        let (status, answer) = self.ask(method, path, body, key).await?;
        if !(200..300).contains(&status) {
            return wrong(format!("{method} {path}: {status} {answer}\n{}", self.tail()));
        }
        Ok(answer)
    }

    /// The end of the server's log.
    pub(super) fn tail(&self) -> String {
        let log = self.log();
        let lines: Vec<_> = log.lines().collect();
        lines[lines.len().saturating_sub(60)..].join("\n")
    }

    /// What the server and this host can do.
    pub(super) async fn abilities(&self) -> Outcome<Abilities> {
        let contract = self.ok("GET", "/v1/openapi.json", None, None).await?;
        let paths = &contract["paths"];
        let of = |noun: &str| &paths[format!("/v1/sessions/{{session}}/{noun}")]["post"];
        let states = ["checkpoints", "rewind", "fork"].iter().all(|noun| of(noun).is_object());
        Ok(Abilities {
            depths: of("pause")["requestBody"].is_object(),
            archive: states,
            states,
            small_disk: self.small_disk,
            clock: self.skew.is_some(),
        })
    }

    /// Stops server and supervisor and says what is left of its sandboxes.
    pub(super) async fn end(&self) -> Outcome {
        let pid = self.pid().unwrap();
        signal(pid, Signal::TERM);
        let started = Instant::now();
        let status = loop {
            match self.ended() {
                Some(status) => break status,
                None if started.elapsed() > patience() => {
                    return wrong("the server does not end when asked");
                }
                None => tokio::time::sleep(LOOK).await,
            }
        };
        if !status.success() {
            return wrong(format!("the server ended with {status}\n{}", self.log()));
        }
        self.end_supervisors().await;
        let left = Command::new(repository_root().join("scripts/leak-check.sh"))
            .arg(self.data().join("engine"))
            .output()
            .unwrap();
        if !left.status.success() {
            return wrong(format!("left behind:\n{}", String::from_utf8_lossy(&left.stdout)));
        }
        Ok(())
    }

    pub(super) async fn end_supervisors(&self) {
        let supervisors = self.supervisors();
        supervisors.iter().copied().for_each(kill);
        let started = Instant::now();
        while !self.supervisors().is_empty() && started.elapsed() < patience() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        self.down();
        self.supervisors().into_iter().for_each(kill);
        for sandbox in self.sandboxes() {
            members(&sandbox, "").into_iter().for_each(kill);
        }
    }
}

/// Processes of a sandbox, as the host numbers them, whose name begins so.
pub(super) fn members(sandbox: &str, name: &str) -> Vec<u32> {
    let inside = |pid: &u32| {
        let groups = fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap_or_default();
        let comm = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
        groups.contains(sandbox) && comm.starts_with(name)
    };
    processes().into_iter().map(|(pid, _)| pid).filter(inside).collect()
}

/// Sends a signal; the process may have ended by itself.
pub(super) fn signal(pid: u32, signal: Signal) {
    let pid = Pid::from_raw(i32::try_from(pid).unwrap()).unwrap();
    let _ = rustix::process::kill_process(pid, signal);
}
