//! A whole platform for one test: the real binary as server, real sandboxes with the real agent in
//! them, and a scripted model behind the gateway.

use std::{
    ffi::OsStr,
    fs, io,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    time::{Duration, Instant},
};

use rclaude_emulator::{Emulator, EmulatorHandle};
use rclaude_types::{Event, EventBody, Session, Turn};
use serde_json::{Value, json};
use tokio::net::TcpListener;

use crate::support::Ran;

/// How long anything may take before a test gives up. Far above what it does take.
pub(crate) const PATIENCE: Duration = Duration::from_mins(1);

/// A server with all that belongs to it. End it with [`end`](Self::end), which also proves that
/// nothing is left; a test that fails on its way leaves that to `Drop`.
pub(crate) struct Platform {
    home: tempfile::TempDir,
    process: Child,
    pub(crate) emulator: EmulatorHandle,
    http: reqwest::Client,
    url: String,
    token: String,
    flags: Vec<String>,
    environment: Vec<(String, String)>,
    ended: bool,
}

impl Platform {
    /// A server over the emulator, with the agent installed.
    pub(crate) async fn start() -> Self {
        Self::start_with(Agent::Real, &[]).await
    }

    /// The same with another agent, or with more flags for `rclaude serve`, which keeps them when
    /// it is started again.
    pub(crate) async fn start_with(agent: Agent<'_>, flags: &[&str]) -> Self {
        Self::start_on(agent, flags, &[], |_| ()).await
    }

    /// The same with more environment, on what `prepare` made of its home directory. The data
    /// directory is `data` in it.
    pub(crate) async fn start_on(
        agent: Agent<'_>,
        flags: &[&str],
        environment: &[(&str, &str)],
        prepare: impl FnOnce(&Path),
    ) -> Self {
        let home = tempfile::tempdir().unwrap();
        prepare(home.path());
        fs::create_dir_all(home.path().join("data")).unwrap();
        let agents = home.path().join("data/agents");
        match agent {
            Agent::Real => symlink(installed_agents(), agents).unwrap(),
            Agent::Script(script) => {
                let real = only_child(&installed_agents().join("claude-code"));
                let place = agents.join("claude-code").join(real.file_name().unwrap());
                fs::create_dir_all(&place).unwrap();
                write_executable(&place.join("claude"), script);
            }
            Agent::Missing => {}
        }
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let emulator = Emulator::new().recording().serve(listener).unwrap();
        let flags: Vec<_> = flags.iter().map(|&flag| flag.to_owned()).collect();
        let environment: Vec<_> =
            environment.iter().map(|&(name, value)| (name.to_owned(), value.to_owned())).collect();
        let process = spawn(home.path(), &emulator.url(), &flags, &environment);
        let (http, url, token) = (client(), String::new(), String::new());
        let mut platform =
            Self { home, process, emulator, http, url, token, flags, environment, ended: false };
        platform.await_ready().await;
        platform
    }

    async fn await_ready(&mut self) {
        let started = Instant::now();
        loop {
            let file = fs::read(self.data().join("server.json")).ok();
            let found = file.and_then(|text| serde_json::from_slice::<Value>(&text).ok());
            if let Some(found) = found.filter(|found| found["pid"] == self.process.id()) {
                found["url"].as_str().unwrap().trim_end_matches('/').clone_into(&mut self.url);
                let token = fs::read_to_string(self.data().join("token")).unwrap();
                token.trim().clone_into(&mut self.token);
                let health = self.http.get(format!("{}/healthz", self.url)).send().await;
                if health.is_ok_and(|answer| answer.status().is_success()) {
                    return;
                }
            }
            if let Some(status) = self.process.try_wait().unwrap() {
                panic!("the server ended: {status}\n{}", self.log());
            }
            assert!(started.elapsed() < PATIENCE, "the server is not ready\n{}", self.log());
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// Ends the server as a power cut would.
    pub(crate) fn kill(&mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
    }

    /// Starts the server again on the same data.
    pub(crate) async fn restart(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
        let model = self.emulator.url();
        self.process = spawn(self.home.path(), &model, &self.flags, &self.environment);
        self.await_ready().await;
    }

    /// Deletes every session, stops the server and the supervisor, and asserts that no process,
    /// directory or cgroup of theirs is left.
    pub(crate) async fn end(mut self) {
        let (_, list) = self.call("GET", "/v1/sessions?limit=200", None).await;
        for session in list["data"].as_array().unwrap() {
            let path = format!("/v1/sessions/{}", session["id"].as_str().unwrap());
            assert_eq!(self.call("DELETE", &path, None).await.0, 204);
        }
        let sandboxes = self.data().join("engine/sandboxes");
        self.until("the sandboxes are gone", || {
            let left = fs::read_dir(&sandboxes).map_or(0, Iterator::count);
            (left == 0).then_some(())
        })
        .await;
        let pid = i32::try_from(self.process.id()).unwrap();
        rustix::process::kill_process(
            rustix::process::Pid::from_raw(pid).unwrap(),
            rustix::process::Signal::TERM,
        )
        .unwrap();
        assert!(self.process.wait().unwrap().success(), "{}", self.log());
        self.end_supervisor();
        let left = Command::new(repository_root().join("scripts/leak-check.sh"))
            .arg(self.data().join("engine"))
            .output()
            .unwrap();
        assert!(left.status.success(), "left behind:\n{}", String::from_utf8_lossy(&left.stdout));
        self.ended = true;
    }

    /// Kills the supervisor.
    pub(crate) fn end_supervisor(&self) {
        let engine = self.data().join("engine");
        for (pid, command) in processes() {
            if command.contains("__supervisor") && command.contains(&*engine.to_string_lossy()) {
                kill(pid);
                let started = Instant::now();
                while processes().iter().any(|(other, line)| *other == pid && !line.is_empty()) {
                    assert!(started.elapsed() < PATIENCE, "the supervisor does not end");
                    std::thread::sleep(Duration::from_millis(5));
                }
            }
        }
    }

    /// The data directory.
    pub(crate) fn data(&self) -> PathBuf {
        self.home.path().join("data")
    }

    /// A directory for the test's own files.
    pub(crate) fn scratch(&self) -> &Path {
        self.home.path()
    }

    /// The most memory that the server ever had, in MiB.
    pub(crate) fn peak_memory_mib(&self) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.process.id())).unwrap();
        let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
        peak.trim().trim_end_matches(" kB").parse::<u64>().unwrap() / 1024
    }

    /// What the server has logged.
    pub(crate) fn log(&self) -> String {
        fs::read_to_string(self.home.path().join("log")).unwrap_or_default()
    }

    /// The command line, knowing this server by its data directory.
    pub(crate) fn cli(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_rclaude"));
        command
            .args(arguments)
            .env_clear()
            .env("PATH", "/usr/local/bin:/usr/bin:/bin")
            .env("HOME", self.home.path())
            .env("RCLAUDE_DATA_DIR", self.data())
            .current_dir(self.home.path())
            .stdin(Stdio::null());
        command
    }

    /// Runs a verb to its end, off the runtime's threads.
    pub(crate) async fn run(&self, arguments: &[&str]) -> Ran {
        let mut command = self.cli(arguments);
        let output: Output =
            tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap();
        Ran::from(output)
    }

    /// A request with the owner's token; status and JSON body (`null` if it is none).
    pub(crate) async fn call(&self, method: &str, path: &str, body: Option<Value>) -> (u16, Value) {
        let method = method.parse().unwrap();
        let url = format!("{}{path}", self.url);
        let mut request = self.http.request(method, url).bearer_auth(&self.token);
        if let Some(body) = body {
            request = request.json(&body);
        }
        let answer = request.send().await.unwrap();
        let status = answer.status().as_u16();
        let text = answer.text().await.unwrap();
        (status, serde_json::from_str(&text).unwrap_or(Value::Null))
    }

    /// The same, which must succeed.
    pub(crate) async fn ok(&self, method: &str, path: &str, body: Option<Value>) -> Value {
        let (status, answer) = self.call(method, path, body).await;
        assert!((200..300).contains(&status), "{method} {path}: {status} {answer}\n{}", self.log());
        answer
    }

    /// The server's URL and the owner's token, for requests of a test's own.
    pub(crate) fn access(&self) -> (&str, &str) {
        (&self.url, &self.token)
    }

    /// Makes a session that asks nothing; its id.
    pub(crate) async fn session(&self, mut request: Value) -> String {
        request
            .as_object_mut()
            .unwrap()
            .entry("permission_mode")
            .or_insert("bypassPermissions".into());
        let made = self.ok("POST", "/v1/sessions", Some(request)).await;
        made["id"].as_str().unwrap().to_owned()
    }

    /// A session as it now is.
    pub(crate) async fn get(&self, id: &str) -> Session {
        let answer = self.ok("GET", &format!("/v1/sessions/{id}"), None).await;
        serde_json::from_value(answer).unwrap()
    }

    /// Queues a prompt; its turn's id.
    pub(crate) async fn send(&self, id: &str, text: &str) -> String {
        let path = format!("/v1/sessions/{id}/turns");
        let turn = self.ok("POST", &path, Some(json!({ "text": text }))).await;
        turn["id"].as_str().unwrap().to_owned()
    }

    /// A turn as it now is.
    pub(crate) async fn turn(&self, id: &str, turn: &str) -> Turn {
        let answer = self.ok("GET", &format!("/v1/sessions/{id}/turns/{turn}"), None).await;
        serde_json::from_value(answer).unwrap()
    }

    /// The whole log, which must count from 1 without a gap.
    pub(crate) async fn events(&self, id: &str) -> Vec<Event> {
        let mut events: Vec<Event> = Vec::new();
        loop {
            let after = events.last().map_or(0, |event| event.seq);
            let path = format!("/v1/sessions/{id}/events?after={after}&limit=200");
            let page = self.ok("GET", &path, None).await;
            let page: Vec<Event> = serde_json::from_value(page["data"].clone()).unwrap();
            if page.is_empty() {
                break;
            }
            events.extend(page);
        }
        let seqs: Vec<_> = events.iter().map(|event| event.seq).collect();
        assert_eq!(seqs, (1..=i64::try_from(seqs.len()).unwrap()).collect::<Vec<_>>());
        events
    }

    /// Waits for an event, anywhere in the log, that `wanted` makes something of.
    pub(crate) async fn event<T>(&self, id: &str, wanted: impl Fn(&Event) -> Option<T>) -> T {
        let started = Instant::now();
        loop {
            let events = self.events(id).await;
            if let Some(found) = events.iter().find_map(&wanted) {
                return found;
            }
            assert!(started.elapsed() < PATIENCE, "not in {events:#?}\n{}", self.log());
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Waits until the turn has ended; the event that says so.
    pub(crate) async fn ended(&self, id: &str, turn: &str) -> EventBody {
        self.event(id, |event| match (&event.body, &event.turn) {
            (body @ EventBody::TurnEnded { .. }, Some(of)) if of.as_str() == turn => {
                Some(body.clone())
            }
            _ => None,
        })
        .await
    }

    /// Runs a prompt to its end in a new session; the session's id and how the turn ended.
    pub(crate) async fn prompt(&self, text: &str) -> (String, EventBody) {
        let id = self.session(json!({ "prompt": { "text": text } })).await;
        let turn = self.first_turn(&id).await;
        let ended = self.ended(&id, &turn).await;
        (id, ended)
    }

    /// The id of a session's first turn.
    pub(crate) async fn first_turn(&self, id: &str) -> String {
        let turns = self.ok("GET", &format!("/v1/sessions/{id}/turns"), None).await;
        turns["data"][0]["id"].as_str().unwrap().to_owned()
    }

    /// Processes of a session's sandbox, as the host numbers them, whose name begins so.
    pub(crate) async fn processes_of(&self, id: &str, name: &str) -> Vec<u32> {
        let sandbox = self.get(id).await.sandbox.to_string();
        let in_sandbox = |pid: &u32| {
            let groups = fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap_or_default();
            let comm = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
            groups.contains(&sandbox) && comm.starts_with(name)
        };
        processes().into_iter().map(|(pid, _)| pid).filter(in_sandbox).collect()
    }

    /// Kills processes of a session's sandbox by name, waiting until there are some.
    pub(crate) async fn kill_in(&self, id: &str, name: &str) {
        let started = Instant::now();
        loop {
            let found = self.processes_of(id, name).await;
            if !found.is_empty() {
                found.into_iter().for_each(kill);
                return;
            }
            assert!(started.elapsed() < PATIENCE, "no {name} in the sandbox\n{}", self.log());
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// Polls until there is something.
    pub(crate) async fn until<T>(&self, what: &str, mut probe: impl FnMut() -> Option<T>) -> T {
        let started = Instant::now();
        loop {
            if let Some(found) = probe() {
                return found;
            }
            assert!(started.elapsed() < PATIENCE, "never: {what}\n{}", self.log());
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
}

impl Drop for Platform {
    fn drop(&mut self) {
        if self.ended {
            return;
        }
        let _ = self.process.kill();
        let _ = self.process.wait();
        self.end_supervisor();
        for sandbox in
            fs::read_dir(self.data().join("engine/sandboxes")).into_iter().flatten().flatten()
        {
            destroy(&sandbox.path());
        }
    }
}

/// Takes a sandbox away as the loss of its machine does: processes, cgroups and directory.
pub(crate) fn destroy(sandbox: &Path) {
    let state = fs::read(sandbox.join("state.json")).unwrap_or_default();
    let state: Value = serde_json::from_slice(&state).unwrap_or_default();
    if let Some(pid) = state["process"]["pid"].as_u64() {
        kill(u32::try_from(pid).unwrap());
    }
    for place in state["cgroups"].as_array().into_iter().flatten() {
        remove_cgroup(Path::new(place["dir"].as_str().unwrap()));
    }
    // Its supervisor may be writing down that it ended.
    while fs::remove_dir_all(sandbox).is_err_and(|error| error.kind() != io::ErrorKind::NotFound) {}
}

/// Removes a sandbox's cgroup, once what ran in it is gone.
fn remove_cgroup(group: &Path) {
    let started = Instant::now();
    while group.exists() && fs::remove_dir(group).is_err() {
        if started.elapsed() > PATIENCE {
            return;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    // The engine's own goes with the last.
    let _ = group.parent().map(fs::remove_dir);
}

/// Which agent a platform has.
pub(crate) enum Agent<'a> {
    /// The pinned Claude Code.
    Real,
    /// This shell script in its place.
    Script(&'a str),
    /// None.
    Missing,
}

/// A git repository with these files, committed on `main`.
pub(crate) fn repository(dir: &Path, files: &[(&str, &str)]) -> String {
    fs::create_dir_all(dir).unwrap();
    for (path, content) in files {
        let path = dir.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }
    git(dir, &["init", "-q", "-b", "main"]);
    git(dir, &["add", "-A"]);
    git(dir, &["commit", "-qm", "first", "--allow-empty"]);
    dir.to_str().unwrap().to_owned()
}

/// Runs git in a directory.
pub(crate) fn git<S: AsRef<OsStr>>(dir: &Path, arguments: &[S]) {
    let status = Command::new("git")
        .args(["-c", "user.name=Test", "-c", "user.email=test@example.invalid", "-C"])
        .arg(dir)
        .args(arguments)
        .status()
        .unwrap();
    assert!(status.success());
}

/// A prompt that makes the emulated model answer with these blocks, one list a request.
pub(crate) fn script(steps: &Value) -> String {
    format!("<<SCRIPT {steps} SCRIPT>>")
}

/// A client for a test's own requests, which wait for as long as the server likes.
pub(crate) fn client() -> reqwest::Client {
    reqwest::Client::builder().build().unwrap()
}

fn spawn(home: &Path, model: &str, flags: &[String], environment: &[(String, String)]) -> Child {
    let environment = environment.iter().map(|(name, value)| (name, value));
    serve_command(home, model, flags).envs(environment).spawn().unwrap()
}

/// `rclaude serve` with this home, the model there, and nothing of our own environment.
pub(crate) fn serve_command(home: &Path, model: &str, flags: &[String]) -> Command {
    let told = flags.iter().any(|flag| flag == "--listen");
    let anywhere: &[&str] = if told { &[] } else { &["--listen", "127.0.0.1:0"] };
    let log = fs::File::options().create(true).append(true).open(home.join("log")).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_rclaude"));
    command
        .args(["serve", "--llm-url", model])
        .args(anywhere)
        .args(flags)
        .env_clear()
        .env("PATH", "/usr/local/bin:/usr/bin:/bin")
        .env("HOME", home)
        .env("RCLAUDE_DATA_DIR", home.join("data"))
        .env("ANTHROPIC_API_KEY", "sk-real-key-of-the-server")
        .stdin(Stdio::null())
        .stdout(log.try_clone().unwrap())
        .stderr(log);
    command
}

/// Every process of this host, with its command line.
pub(crate) fn processes() -> Vec<(u32, String)> {
    fs::read_dir("/proc")
        .unwrap()
        .flatten()
        .filter_map(|entry| {
            let pid = entry.file_name().to_str()?.parse().ok()?;
            let command = fs::read(entry.path().join("cmdline")).ok()?;
            Some((pid, String::from_utf8_lossy(&command).replace('\0', " ")))
        })
        .collect()
}

/// Ends a process at once.
pub(crate) fn kill(pid: u32) {
    let pid = rustix::process::Pid::from_raw(i32::try_from(pid).unwrap()).unwrap();
    // It may have ended by itself.
    let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
}

fn write_executable(path: &Path, content: &str) {
    use std::os::unix::fs::PermissionsExt as _;
    fs::write(path, content).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
}

fn only_child(dir: &Path) -> PathBuf {
    fs::read_dir(dir).unwrap().next().unwrap().unwrap().path()
}

/// The top of the source tree.
pub(crate) fn repository_root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// Where `make test` installed the agent.
pub(crate) fn installed_agents() -> PathBuf {
    let data = std::env::var_os("RCLAUDE_TEST_DATA")
        .map_or_else(|| repository_root().join(".tools/data"), PathBuf::from);
    let agents = data.join("agents");
    assert!(
        agents.join("claude-code").is_dir(),
        "the agent is not installed at {}: run `make test`, or `rclaude init --data-dir {}`",
        agents.display(),
        data.display()
    );
    agents.canonicalize().unwrap()
}
