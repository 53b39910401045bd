//! Forwarded connections.

use std::{
    io::{Read, Write},
    net::{Shutdown, TcpListener, TcpStream},
    time::{Duration, Instant},
};

use super::{Ssh, output, text};
use crate::platform::PATIENCE;

/// Answers every connection with what it sent, in capitals, once that has ended.
const SERVER: &str = "import socket
s = socket.create_server(('127.0.0.1', 3000))
while True:
    c, _ = s.accept()
    data = b''
    while piece := c.recv(65536): data += piece
    c.sendall(data.upper())
    c.close()
";

#[tokio::test(flavor = "multi_thread")]
async fn a_port_of_the_session_is_brought_here_and_what_passes_is_whole() {
    let ssh = Ssh::start().await;
    let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let mut server = ssh.ssh(&[&format!("exec python3 -c \"{SERVER}\"")]).spawn().unwrap();
    let forward = format!("{}:localhost:3000", free.port());
    let mut forwarding = ssh.program("ssh", &["-N", "-L", &forward, "box"]).spawn().unwrap();
    let sent: Vec<u8> = (0..5_000_000_u32).map(|n| b'a' + u8::try_from(n % 26).unwrap()).collect();
    let wanted = sent.to_ascii_uppercase();
    let started = Instant::now();
    loop {
        let sent = sent.clone();
        let asked = tokio::task::spawn_blocking(move || -> std::io::Result<Vec<u8>> {
            let mut stream = TcpStream::connect(free)?;
            stream.write_all(&sent)?;
            stream.shutdown(Shutdown::Write)?;
            let mut answer = Vec::new();
            stream.read_to_end(&mut answer)?;
            Ok(answer)
        });
        // Until both are up, connections are refused or closed.
        match asked.await.unwrap() {
            Ok(answer) if answer == wanted => break,
            _ => assert!(started.elapsed() < PATIENCE, "no answer\n{}", ssh.platform.log()),
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    for child in [&mut server, &mut forwarding] {
        child.kill().unwrap();
        child.wait().unwrap();
    }
    for (target, said) in [("localhost:9", "port 9"), ("example.com:80", "only localhost")] {
        let refused = output(ssh.program("ssh", &["-W", target, "box"])).await;
        assert!(!refused.status.success(), "{refused:?}");
        assert!(text(&refused.stderr).contains(said), "{refused:?}");
    }
    let strict = ["-o", "ExitOnForwardFailure=yes", "-R", "0:localhost:1", "box", "true"];
    let refused = output(ssh.program("ssh", &strict)).await;
    assert_eq!(refused.status.code(), Some(255), "{refused:?}");
    ssh.platform.end().await;
}
