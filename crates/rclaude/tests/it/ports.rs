//! What listens in a session, brought here.

use std::{
    io::{BufRead, BufReader, Read, Write},
    net::{Shutdown, TcpStream},
    process::{Child, Stdio},
    time::Instant,
};

use rclaude_types::{Phase, Port};
use serde_json::Value;

use crate::platform::{Agent, PATIENCE, Platform};

/// A program in the session that answers every connection with what it was sent, in capitals, once
/// that has ended.
const ECHO: &str = r#"
import socket, threading
door = socket.create_server(("127.0.0.1", 3000))
def serve(peer):
    said = b""
    while piece := peer.recv(65536): said += piece
    peer.sendall(said.upper())
    peer.close()
while True: threading.Thread(target=serve, args=(door.accept()[0],)).start()
"#;

/// `rclaude forward` under way, and where it listens.
struct Forward {
    child: Child,
    address: String,
}

impl Forward {
    fn start(platform: &Platform, ports: &str) -> Self {
        let mut child = platform
            .cli(&["--json", "forward", "box", ports])
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let told: Value = serde_json::from_str(&line).unwrap();
        assert_eq!((&told["session"], &told["port"]), (&"box".into(), &3000.into()));
        Self { child, address: told["address"].as_str().unwrap().to_owned() }
    }

    /// Says something through it, and what comes back.
    fn ask(&self, said: &[u8]) -> std::io::Result<Vec<u8>> {
        let mut stream = TcpStream::connect(&self.address)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        let mut writing = stream.try_clone()?;
        let said = said.to_vec();
        let writer = std::thread::spawn(move || {
            writing.write_all(&said)?;
            writing.shutdown(Shutdown::Write)
        });
        let mut answer = Vec::new();
        let read = stream.read_to_end(&mut answer);
        writer.join().unwrap()?;
        read.map(|_| answer)
    }

    fn interrupt(mut self) -> (Option<i32>, String) {
        let pid = i32::try_from(self.child.id()).unwrap();
        let pid = rustix::process::Pid::from_raw(pid).unwrap();
        rustix::process::kill_process(pid, rustix::process::Signal::INT).unwrap();
        let mut said = String::new();
        self.child.stderr.take().unwrap().read_to_string(&mut said).unwrap();
        (self.child.wait().unwrap().code(), said)
    }
}

async fn with_echo(platform: &Platform) {
    let made = platform.run(&["start", "--name", "box"]).await;
    assert_eq!(made.code, Some(0), "{made:?}");
    let line = format!("setsid python3 -c '{ECHO}' >/dev/null 2>&1 & disown");
    let begun = platform.run(&["exec", "box", "--", "bash", "-c", &line]).await;
    assert_eq!(begun.code, Some(0), "{begun:?}");
    let started = Instant::now();
    while listening(platform).await.is_empty() {
        assert!(started.elapsed() < PATIENCE, "nothing listens");
    }
}

async fn listening(platform: &Platform) -> Vec<Port> {
    let told = platform.run(&["--json", "ports", "box"]).await;
    assert_eq!(told.code, Some(0), "{told:?}");
    told.stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_port_is_listed_and_brought_here_and_outlives_pauses_and_servers() {
    let mut platform = Platform::start_with(Agent::Missing, &[]).await;
    with_echo(&platform).await;
    let ports = listening(&platform).await;
    assert_eq!(ports.len(), 1, "the host's own ends are left out: {ports:?}");
    assert_eq!((ports[0].port, ports[0].process.as_str()), (3000, "python3"));
    let shown = platform.run(&["ports", "box"]).await.stdout;
    assert!(shown.contains("3000  127.0.0.1  python3"), "{shown}");

    let forward = Forward::start(&platform, "3000:0");
    let said = b"many words, ".repeat(400_000);
    assert_eq!(forward.ask(&said).unwrap(), said.to_ascii_uppercase());

    assert_eq!(platform.run(&["pause", "box"]).await.code, Some(0));
    assert_eq!(forward.ask(b"awake?").unwrap(), b"AWAKE?");
    assert_eq!(platform.get("box").await.phase, Phase::Running);

    platform.kill();
    platform.restart().await;
    // The server listens elsewhere now, as far as this test's is concerned: another forward.
    let again = Forward::start(&platform, "3000:0");
    assert_eq!(again.ask(b"still there?").unwrap(), b"STILL THERE?");
    assert_eq!(again.interrupt().0, Some(130));
    assert_eq!(forward.interrupt().0, Some(130));
    platform.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn where_nothing_listens_is_said_and_what_cannot_be_is_refused() {
    let platform = Platform::start_with(Agent::Missing, &[]).await;
    let made = platform.run(&["start", "--name", "box"]).await;
    assert_eq!(made.code, Some(0), "{made:?}");
    let empty = platform.run(&["ports", "box"]).await;
    assert_eq!((empty.code, empty.stdout.as_str()), (Some(0), ""), "{empty:?}");
    assert!(empty.stderr.contains("nothing listens"), "{empty:?}");

    let forward = Forward::start(&platform, "3000:0");
    assert!(forward.ask(b"hello?").is_err(), "broken, and not merely at its end");
    let (_, said) = forward.interrupt();
    assert!(said.contains("nothing in the session takes connections on port 3000"), "{said}");

    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let ports = format!("3000:{}", taken.local_addr().unwrap().port());
    let refused = platform.run(&["forward", "box", &ports]).await;
    assert_eq!(refused.code, Some(2), "{refused:?}");
    assert!(refused.stderr.contains("choose another"), "{refused:?}");
    drop(taken);
    let nobody = platform.run(&["forward", "none", "3000:0"]).await;
    assert_eq!(nobody.code, Some(4), "{nobody:?}");
    platform.end().await;
}
