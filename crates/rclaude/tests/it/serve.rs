//! Servers as people start, stop, misplace and kill them.

use std::{
    fs,
    io::{BufRead, BufReader, Read, Seek, SeekFrom, Write},
    net::TcpListener,
    os::unix::fs::{PermissionsExt, symlink},
    path::PathBuf,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use rclaude_types::{Event, EventBody, Session, SessionStatus};
use serde_json::{Value, json};

use crate::{
    platform::{Agent, PATIENCE, Platform, installed_agents, kill, processes, script},
    support::{Home, Ran},
};

/// A server of a test's own, started the way a person does it.
pub(crate) struct Server {
    pub(crate) home: Home,
    process: Option<Child>,
}

impl Server {
    /// A home for servers, in which none runs yet.
    pub(crate) fn none() -> Self {
        Self { home: Home::new(), process: None }
    }

    fn data(&self) -> PathBuf {
        self.home.path().join(".local/share/rclaude")
    }

    /// Starts one and waits until it says where it listens; the first line it prints.
    fn start(&mut self, flags: &[&str]) -> String {
        let arguments = [&["serve", "--listen", "127.0.0.1:0"][..], flags].concat();
        let mut command = self.home.rclaude(&arguments);
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        self.process = Some(child);
        line
    }

    /// Ends it as an administrator does.
    fn stop(&mut self) {
        let mut child = self.process.take().unwrap();
        let pid = rustix::process::Pid::from_child(&child);
        rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
        assert!(child.wait().unwrap().success());
    }

    /// A server that must not come up.
    fn refused(&self, flags: &[&str]) -> Ran {
        let ran = self.home.run(&[&["serve", "--listen", "127.0.0.1:0"][..], flags].concat());
        assert_eq!((ran.code, ran.stdout.as_str()), (Some(1), ""), "{ran:?}");
        ran
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Some(child) = &mut self.process {
            let _ = child.kill();
            let _ = child.wait();
        }
        let home = self.home.path().to_string_lossy().into_owned();
        for (pid, command) in processes() {
            if command.contains("rclaude") && command.contains(&home) {
                kill(pid);
            }
        }
    }
}

#[test]
fn a_server_says_where_it_is_and_goes_when_it_is_told_to() {
    let mut server = Server::none();
    let said: Value = serde_json::from_str(&server.start(&["--json", "--emulator"])).unwrap();
    let url = said["url"].as_str().unwrap();
    assert!(url.starts_with("http://127.0.0.1:"), "{said}");
    assert_eq!(said["sessions"], 0);
    let token = fs::metadata(said["token_file"].as_str().unwrap()).unwrap();
    assert_eq!(token.permissions().mode() & 0o777, 0o600);
    let status = server.home.run(&["status"]);
    assert!(status.stdout.contains(url) && status.stdout.contains("emulator"), "{status:?}");
    server.stop();
    assert!(!server.data().join("server.json").exists());
    assert_eq!(server.home.run(&["status"]).code, Some(3));
    assert!(server.start(&[]).starts_with("listening  http://127.0.0.1:"));
    server.stop();
}

#[test]
fn two_servers_on_one_data_directory_are_one_too_many() {
    let mut server = Server::none();
    server.start(&["--emulator"]);
    let pid = server.process.as_ref().unwrap().id();
    let refused = server.refused(&["--emulator"]);
    for said in ["another server already uses", &format!("(process {pid})"), "--data-dir"] {
        assert!(refused.stderr.contains(said), "{said}: {refused:?}");
    }
    assert_eq!(server.home.run(&["status"]).code, Some(0), "the first one goes on");
    server.stop();
}

#[test]
fn a_port_that_is_taken_is_named() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let server = Server::none();
    let refused = server.home.run(&["serve", "--emulator", "--listen", &address]);
    assert_eq!((refused.code, refused.stdout.as_str()), (Some(1), ""), "{refused:?}");
    assert!(
        refused.stderr.contains(&address) && refused.stderr.contains("--listen"),
        "{refused:?}"
    );
    assert!(!server.data().join("server.json").exists());
}

#[test]
fn a_data_directory_that_cannot_be_written_is_named() {
    let place = tempfile::tempdir().unwrap();
    let locked = place.path().join("locked");
    fs::create_dir(&locked).unwrap();
    for dir in [place.path(), &locked] {
        fs::set_permissions(dir, fs::Permissions::from_mode(0o555)).unwrap();
    }
    let data = locked.join("data");
    // Root may write everywhere, so the server is somebody else.
    let mut command = Command::new("setpriv");
    command.args(["--reuid=65534", "--regid=65534", "--clear-groups"]);
    if !rustix::process::geteuid().is_root() {
        command = Command::new("env");
    }
    let output = command
        .arg(env!("CARGO_BIN_EXE_rclaude"))
        .args(["serve", "--emulator", "--listen", "127.0.0.1:0", "--data-dir"])
        .arg(&data)
        .env_clear()
        .env("PATH", "/usr/local/bin:/usr/bin:/bin")
        .env("HOME", "/nonexistent")
        .output()
        .unwrap();
    let ran = Ran::from(output);
    assert_eq!((ran.code, ran.stdout.as_str()), (Some(1), ""), "{ran:?}");
    assert!(ran.stderr.contains(&*data.to_string_lossy()), "{ran:?}");
    assert!(ran.stderr.contains("Permission denied") && ran.stderr.contains("--data-dir"));
}

/// Where SQLite keeps `user_version`; see <https://sqlite.org/fileformat.html>.
const USER_VERSION: SeekFrom = SeekFrom::Start(60);

#[test]
fn a_data_directory_of_a_newer_version_is_left_alone() {
    let mut server = Server::none();
    server.start(&["--emulator"]);
    server.stop();
    let path = server.data().join("rclaude.db");
    let mut file = fs::File::options().read(true).write(true).open(&path).unwrap();
    file.seek(USER_VERSION).unwrap();
    file.write_all(&999_u32.to_be_bytes()).unwrap();
    let refused = server.refused(&["--emulator"]);
    assert!(refused.stderr.contains("newer") && refused.stderr.contains("999"), "{refused:?}");
    let mut version = [0; 4];
    file.seek(USER_VERSION).unwrap();
    file.read_exact(&mut version).unwrap();
    assert_eq!(u32::from_be_bytes(version), 999);
}

#[test]
fn a_damaged_database_or_secret_is_named() {
    let mut server = Server::none();
    server.start(&["--emulator"]);
    server.stop();
    let secret = server.data().join("secret");
    let good = fs::read(&secret).unwrap();
    fs::write(&secret, "short").unwrap();
    let refused = server.refused(&["--emulator"]);
    assert!(refused.stderr.contains("secret is damaged"), "{refused:?}");
    fs::write(&secret, good).unwrap();
    fs::write(server.data().join("rclaude.db"), "this is no database at all, you know").unwrap();
    let refused = server.refused(&["--emulator"]);
    assert!(refused.stderr.contains("rclaude.db"), "{refused:?}");
}

#[test]
fn the_first_verb_starts_a_server_if_it_may() {
    let server = Server::none();
    let refused = server.home.run(&["ls"]);
    assert_eq!(refused.code, Some(3));
    assert!(refused.stderr.contains("--start-server"), "{refused:?}");
    let started = server.home.run(&["ls", "--start-server"]);
    assert_eq!((started.code, started.stdout.as_str()), (Some(0), ""), "{started:?}");
    assert!(started.stderr.contains("started a server at http://127.0.0.1:"), "{started:?}");
    assert_eq!(server.home.run(&["status"]).code, Some(0), "it stays");
    let again = server.home.run(&["ls", "--start-server"]);
    assert!(!again.stderr.contains("started a server"), "{again:?}");
}

#[test]
fn without_a_model_a_prompt_is_refused_and_commands_run_all_the_same() {
    let mut server = Server::none();
    fs::create_dir_all(server.data()).unwrap();
    symlink(installed_agents(), server.data().join("agents")).unwrap();
    server.start(&[]);
    let refused = server.home.run(&["run", "hi"]);
    assert_eq!((refused.code, refused.stdout.as_str()), (Some(7), ""), "{refused:?}");
    for said in ["ANTHROPIC_API_KEY", "rclaude serve --emulator"] {
        assert!(refused.stderr.contains(said), "{said}: {refused:?}");
    }
    let problem = server.home.run(&["run", "hi", "--json"]);
    let problem: Value = serde_json::from_str(&problem.stderr).unwrap();
    assert_eq!(problem["code"], "llm_not_configured");
    assert_eq!(server.home.run(&["ls", "--json"]).stdout, "", "no session was made");
    assert_eq!(server.home.run(&["start", "--name", "box"]).code, Some(0));
    assert_eq!(server.home.run(&["exec", "box", "--", "echo", "x"]).stdout, "x\n");
    let refused = server.home.run(&["send", "box", "hi"]);
    assert_eq!(refused.code, Some(7), "{refused:?}");
    assert_eq!(server.home.run(&["rm", "-f", "box"]).code, Some(0));
    let sandboxes = server.data().join("engine/sandboxes");
    let started = Instant::now();
    while fs::read_dir(&sandboxes).unwrap().next().is_some() {
        assert!(started.elapsed() < PATIENCE);
        std::thread::sleep(Duration::from_millis(10));
    }
    server.stop();
}

#[tokio::test(flavor = "multi_thread")]
async fn without_the_agent_a_prompt_is_refused_with_how_to_install_it() {
    let platform = Platform::start_with(Agent::Missing, &[]).await;
    let refused = platform.run(&["run", "hi"]).await;
    assert_eq!((refused.code, refused.stdout.as_str()), (Some(7), ""), "{refused:?}");
    assert!(refused.stderr.contains("`rclaude init` installs it"), "{refused:?}");
    let problem = platform.run(&["run", "hi", "--json"]).await.stderr;
    let problem: Value = serde_json::from_str(&problem).unwrap();
    assert_eq!(problem["code"], "agent_not_installed");
    assert_eq!(platform.run(&["ls", "--json"]).await.stdout, "");
    let doctor = platform.run(&["doctor"]).await;
    assert_eq!(doctor.code, Some(1));
    assert!(doctor.stdout.contains("✘ agent: Claude Code"), "{doctor:?}");
    platform.end().await;
}

/// A port of this host that is free and, being below those the kernel gives out by itself, likely
/// to stay so while nobody listens on it.
fn steady_port() -> u16 {
    let first = u16::try_from(std::process::id() % 12_000).unwrap() + 20_000;
    (first..32_000).find(|port| TcpListener::bind(("127.0.0.1", *port)).is_ok()).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn who_follows_a_turn_sees_it_end_although_the_server_was_killed() {
    let listen = format!("127.0.0.1:{}", steady_port());
    let mut platform = Platform::start_with(Agent::Real, &["--listen", &listen]).await;
    let prompt = script(&json!([
        [{"text": "First half."}, {"tool": "Bash", "input": {"command": "timeout 3 tail -f /dev/null; echo over"}}],
        [{"text": "Second half."}]
    ]));
    let mut run = platform.cli(&["run", "--yolo", "--name", "long", "--json", &prompt]);
    let following = tokio::task::spawn_blocking(move || Ran::from(run.output().unwrap()));
    platform
        .until("the session is made", || {
            let ran = Ran::from(platform.cli(&["show", "long"]).output().unwrap());
            (ran.code == Some(0)).then_some(())
        })
        .await;
    let began = |event: &Event| matches!(event.body, EventBody::ToolCall { .. }).then_some(());
    platform.event("long", began).await;
    platform.kill();
    platform.restart().await;
    let ran = following.await.unwrap();
    assert_eq!(ran.code, Some(0), "{ran:?}\n{}", platform.log());
    let mut lines = ran.stdout.lines();
    let session: Session = serde_json::from_str(lines.next().unwrap()).unwrap();
    let events: Vec<Event> = lines.map(|line| serde_json::from_str(line).unwrap()).collect();
    let turn = events.iter().rposition(|e| matches!(e.body, EventBody::TurnEnded { .. })).unwrap();
    assert_eq!(events[..=turn], platform.events(session.id.as_str()).await[..=turn]);
    let said: Vec<_> = events
        .iter()
        .filter_map(|event| match &event.body {
            EventBody::Message { text, role: rclaude_types::Role::Assistant, .. } => Some(&**text),
            _ => None,
        })
        .collect();
    assert_eq!(said, ["First half.", "Second half."]);
    assert_eq!(platform.get("long").await.status, SessionStatus::Idle);
    platform.end().await;
}
