//! The host's end of a sandbox's network, with real sockets and the clients people use.

use std::{
    net::SocketAddr,
    process::Output,
    str::FromStr,
    sync::{Arc, Mutex},
    time::Duration,
};

use axum::body::Body;
use bytes::Bytes;
use futures::{FutureExt as _, StreamExt as _};
use hickory_proto::{
    op::{Message, Query},
    rr::{Name, RData, RecordType},
};
use http::{Request, Response, header};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use rclaude_sandbox::provider::OutboundSockets;
use rclaude_server::egress::{Egress, GATEWAY_ADDRESS, Gateway, Protocol, Refusal};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream, UdpSocket},
    process::Command,
};
use tokio_util::{
    sync::{CancellationToken, DropGuard},
    task::TaskTracker,
};

const BLOCKED: &str = "is blocked by this session's network policy";

/// A session's way out, without the session.
struct Way {
    tcp: SocketAddr,
    dns: SocketAddr,
    refused: Arc<Mutex<Vec<Refusal>>>,
    /// Where every connection was meant to go.
    meant: Arc<Mutex<SocketAddr>>,
    tracker: TaskTracker,
    cancel: CancellationToken,
    _end: DropGuard,
}

impl Way {
    async fn open() -> Self {
        let tcp = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let dns = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let (tracker, cancel) = (TaskTracker::new(), CancellationToken::new());
        let refused = Arc::new(Mutex::new(Vec::new()));
        let meant = Arc::new(Mutex::new("203.0.113.9:4444".parse().unwrap()));
        let way = Self {
            tcp: tcp.local_addr().unwrap(),
            dns: dns.local_addr().unwrap(),
            refused: Arc::clone(&refused),
            meant: Arc::clone(&meant),
            tracker: tracker.clone(),
            cancel: cancel.clone(),
            _end: cancel.clone().drop_guard(),
        };
        let egress = Egress {
            gateway: echo(),
            on_refused: Arc::new(move |refusal| refused.lock().unwrap().push(refusal)),
            original: Arc::new(move |_| Ok(*meant.lock().unwrap())),
        };
        egress.serve(OutboundSockets { tcp: vec![tcp], dns: vec![dns] }, &tracker, &cancel);
        way
    }

    fn refused(&self) -> Vec<(String, u16, Protocol)> {
        let refused = self.refused.lock().unwrap();
        refused.iter().map(|r| (r.host.clone(), r.port, r.protocol)).collect()
    }

    async fn dial(&self) -> TcpStream {
        TcpStream::connect(self.tcp).await.unwrap()
    }

    /// Sends bytes and reads all that comes back.
    async fn say(&self, bytes: &[u8]) -> String {
        let mut stream = self.dial().await;
        stream.write_all(bytes).await.unwrap();
        let mut heard = Vec::new();
        soon(stream.read_to_end(&mut heard)).await.unwrap();
        String::from_utf8_lossy(&heard).into_owned()
    }
}

/// A gateway that streams back what it is sent, and tells what it was asked.
fn echo() -> Gateway {
    Arc::new(|request: Request<Incoming>| {
        async move {
            let asked = format!("{} {}", request.method(), request.uri());
            let response = Response::builder().header("x-asked", asked);
            response.body(Body::new(request.into_body())).unwrap()
        }
        .boxed()
    })
}

async fn soon<T>(work: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(30), work).await.unwrap()
}

/// Runs a program, which must end by itself.
async fn run(program: &str, args: &[&str], env: &[(&str, String)]) -> (Output, String) {
    let mut command = Command::new(program);
    command.args(args).kill_on_drop(true).env("HOME", "/nonexistent");
    for name in ["http_proxy", "https_proxy", "all_proxy", "no_proxy"] {
        command.env_remove(name).env_remove(name.to_uppercase());
    }
    let out = soon(command.envs(env.iter().cloned()).output()).await.unwrap();
    let said = [&out.stdout[..], &out.stderr[..]].concat();
    let said = String::from_utf8_lossy(&said).into_owned();
    (out, said)
}

fn proxy(way: &Way) -> [(&'static str, String); 3] {
    let proxy = format!("http://{}", way.tcp);
    [("http_proxy", proxy.clone()), ("https_proxy", proxy), ("GIT_TERMINAL_PROMPT", "0".into())]
}

#[tokio::test]
async fn the_gateway_is_reached_directly_and_as_through_a_proxy() {
    let way = Way::open().await;
    let resolve = format!("gateway.rclaude:80:{}", way.tcp.ip());
    let connect = format!("gateway.rclaude:80:{}", way.tcp);
    let url = "http://gateway.rclaude/v1/messages?beta=true";
    let common = ["-sS", "-i", "-d", "hello", url];
    let direct = [&["--resolve", &resolve, "--connect-to", &connect][..], &common[..]].concat();
    let through = proxy(&way);
    let tunnel = [&["--proxytunnel"][..], &common[..]].concat();
    let h2 = [&["--http2-prior-knowledge"][..], &direct[..]].concat();
    for (args, env) in
        [(direct, &[][..]), (common.to_vec(), &through), (tunnel, &through), (h2, &[])]
    {
        let (out, said) = run("curl", &args, env).await;
        assert!(out.status.success(), "{args:?}: {said}");
        assert!(
            said.contains("x-asked: POST /v1/messages?beta=true")
                || said.contains("x-asked: POST http"),
            "{said}"
        );
        assert!(said.ends_with("hello"), "{said}");
    }
    assert_eq!(way.refused(), []);
}

#[tokio::test]
async fn what_the_gateway_streams_arrives_byte_for_byte_as_it_comes() {
    let way = Way::open().await;
    let stream = hyper_util::rt::TokioIo::new(way.dial().await);
    let (mut client, connection) = hyper::client::conn::http1::handshake(stream).await.unwrap();
    way.tracker.spawn(connection);
    // Three requests over one connection, the last one a conversation.
    let all = (0..3_000_000_u32).map(|n| u8::try_from(n % 251).unwrap()).collect::<Vec<_>>();
    for len in [0, all.len()] {
        let body = Body::from(all[..len].to_vec());
        let request = Request::post("/v1").header(header::HOST, "gateway.rclaude");
        let response = client.send_request(request.body(body).unwrap()).await.unwrap();
        assert_eq!(response.headers()["x-asked"], "POST /v1");
        let got = soon(response.into_body().collect()).await.unwrap().to_bytes();
        assert!(got == all[..len], "{} of {len} bytes", got.len());
    }
    let (say, said) = futures::channel::mpsc::unbounded::<Bytes>();
    let body = Body::from_stream(said.map(Ok::<_, std::io::Error>));
    let request = Request::post("/v1").header(header::HOST, "gateway.rclaude");
    let response = client.send_request(request.body(body).unwrap()).await.unwrap();
    let mut answer = response.into_body();
    for n in 0..5 {
        let word = Bytes::from(format!("event {n}\n\n"));
        say.unbounded_send(word.clone()).unwrap();
        let frame = soon(answer.frame()).await.unwrap().unwrap();
        assert_eq!(frame.into_data().unwrap(), word);
    }
}

#[tokio::test]
async fn web_clients_read_why_they_were_refused() {
    let way = Way::open().await;
    let (_, said) = run("curl", &["-sS", "-i", "http://example.org/x"], &proxy(&way)).await;
    assert!(said.starts_with("HTTP/1.1 403 Blocked by the session's network policy"), "{said}");
    assert!(said.contains("x-rclaude-refused: network-policy"), "{said}");
    assert!(said.contains(&format!("connection to example.org:80 {BLOCKED}")), "{said}");

    let (out, said) = run("curl", &["-sSv", "https://example.org/x"], &proxy(&way)).await;
    assert!(!out.status.success());
    assert!(said.contains("403 Blocked by the session's network policy"), "{said}");

    let to = format!("http://{}/", way.tcp);
    let (_, said) =
        run("curl", &["-sS", "--http2-prior-knowledge", "-H", "Host: example.net", &to], &[]).await;
    assert!(said.contains(BLOCKED), "{said}");

    let (_, said) = run("git", &["ls-remote", "https://example.com/a/b"], &proxy(&way)).await;
    assert!(said.contains("403"), "{said}");

    let (_, said) = run("git", &["ls-remote", &format!("git://{}/a/b", way.tcp)], &[]).await;
    assert!(
        said.contains("remote error: rclaude: connection to") && said.contains(BLOCKED),
        "{said}"
    );

    let big = vec![b'x'; 4 << 20];
    let head =
        format!("POST /up HTTP/1.1\r\nHost: example.edu\r\nContent-Length: {}\r\n\r\n", big.len());
    let mut stream = way.dial().await;
    stream.write_all(head.as_bytes()).await.unwrap();
    let (mut read, mut write) = stream.split();
    let mut status = [0; 12];
    let (_, got) =
        soon(futures::future::join(write.write_all(&big), read.read_exact(&mut status))).await;
    got.unwrap();
    assert_eq!(&status, b"HTTP/1.1 403");

    let hosts = way.refused().into_iter().map(|(host, port, how)| format!("{host}:{port} {how:?}"));
    let hosts = hosts.collect::<Vec<_>>();
    for wanted in ["example.org:80 Http", "example.org:443 Connect", "example.com:443 Connect"] {
        assert!(hosts.contains(&wanted.to_owned()), "{hosts:?}");
    }
}

#[tokio::test]
async fn python_reads_why_it_was_refused() {
    let way = Way::open().await;
    let script = "import urllib.request as u\n\
        try: u.urlopen('https://example.org/x')\n\
        except Exception as e: print(e)\n\
        try: u.urlopen('http://example.org/x')\n\
        except Exception as e: print(e, e.read().decode())";
    let (_, said) = run("python3", &["-c", script], &proxy(&way)).await;
    assert!(said.contains("Tunnel connection failed: 403 Blocked by the session's"), "{said}");
    assert!(said.contains(BLOCKED), "{said}");
}

#[tokio::test]
async fn tls_is_refused_with_an_alert_and_called_by_its_server_name() {
    let way = Way::open().await;
    let to = format!("example.org:443:{}", way.tcp);
    let args = ["-sS", "--connect-to", &to, "https://example.org/"];
    let (out, said) = run("curl", &args, &[]).await;
    assert!(!out.status.success());
    assert!(said.to_lowercase().contains("access denied"), "{said}");
    assert_eq!(way.refused(), [("example.org".to_owned(), 4444, Protocol::Tls)]);
    // Half a handshake, and one that is none.
    assert_eq!(way.say(b"\x16\x03\x01\x00\x05hello").await.as_bytes()[0], 21);
    assert_eq!(way.say(b"\x16\x03\x01\xff\xffhello").await.as_bytes()[0], 21);
}

#[tokio::test]
async fn ssh_and_whatever_else_read_why_they_were_refused() {
    let way = Way::open().await;
    let said = way.say(b"SSH-2.0-OpenSSH_9.2p1\r\n").await;
    assert!(said.starts_with("SSH-2.0-rclaude\r\n") && said.contains(BLOCKED), "{said}");
    let port = way.tcp.port().to_string();
    let (_, said) =
        run("ssh", &["-F/dev/null", "-oBatchMode=yes", "-p", &port, "x@127.0.0.1"], &[]).await;
    assert!(said.contains("Received disconnect") && said.contains(BLOCKED), "{said}");
    let said = way.say(b"\x00\x00\x00\x08\x04\xd2\x16\x2f").await;
    assert!(said.contains(&format!("203.0.113.9:4444 {BLOCKED}")), "{said}");
    *way.meant.lock().unwrap() = "203.0.113.9:25".parse().unwrap();
    // Mail's client waits to be spoken to.
    let said = way.say(b"").await;
    assert!(said.starts_with("554 rclaude: ") && said.ends_with("\r\n"), "{said}");
    assert_eq!(way.refused().len(), 3 - 1, "one place each: {:?}", way.refused());
}

#[tokio::test]
async fn a_connection_to_a_resolved_name_is_called_by_that_name() {
    let way = Way::open().await;
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    socket.connect(way.dns).await.unwrap();
    let ask = async |name: &str, kind| {
        let mut query = Message::query();
        query.add_query(Query::query(Name::from_str(name).unwrap(), kind));
        socket.send(b"not a query").await.unwrap();
        socket.send(&query.to_vec().unwrap()).await.unwrap();
        let mut reply = [0; 512];
        let len = soon(socket.recv(&mut reply)).await.unwrap();
        let reply = Message::from_vec(&reply[..len]).unwrap();
        assert_eq!(reply.metadata.id, query.metadata.id);
        reply.answers.first().map(|answer| match &answer.data {
            RData::A(address) => address.0,
            other => panic!("{other:?}"),
        })
    };
    assert_eq!(ask("gateway.rclaude.", RecordType::A).await, Some(GATEWAY_ADDRESS));
    assert_eq!(ask("db.example.org.", RecordType::AAAA).await, None);
    let address = ask("db.example.org.", RecordType::A).await.unwrap();
    *way.meant.lock().unwrap() = (address, 5432).into();
    let said = way.say(b"\x00\x00\x00\x08\x04\xd2\x16\x2f").await;
    assert!(said.contains("connection to db.example.org:5432 is blocked"), "{said}");
    assert_eq!(way.refused(), [("db.example.org".to_owned(), 5432, Protocol::Tcp)]);
}

#[tokio::test]
async fn a_thousand_connections_that_say_nothing_keep_nobody_from_the_gateway() {
    let way = Way::open().await;
    let mut idle = Vec::new();
    for n in 0..1000 {
        let mut stream = way.dial().await;
        if n % 2 == 0 {
            stream.write_all(b"GE").await.unwrap();
        }
        idle.push(stream);
    }
    let ask = b"GET / HTTP/1.1\r\nHost: gateway.rclaude\r\nConnection: close\r\n\r\n";
    assert!(way.say(ask).await.starts_with("HTTP/1.1 200 OK"));
    // Every one of them is told, and let go.
    for mut stream in idle {
        let mut heard = String::new();
        soon(stream.read_to_string(&mut heard)).await.unwrap();
        assert!(heard.contains(BLOCKED), "{heard}");
    }
    assert_eq!(way.refused().len(), 1);
}

#[tokio::test]
async fn when_the_session_ends_its_connections_end() {
    let way = Way::open().await;
    let mut stream = way.dial().await;
    stream
        .write_all(b"POST / HTTP/1.1\r\nHost: gateway.rclaude\r\nContent-Length: 9\r\n\r\n")
        .await
        .unwrap();
    let mut heard = [0; 15];
    soon(stream.read_exact(&mut heard)).await.unwrap();
    way.cancel.cancel();
    way.tracker.close();
    soon(way.tracker.wait()).await;
    let mut rest = Vec::new();
    let _ = soon(stream.read_to_end(&mut rest)).await;
    assert!(TcpStream::connect(way.tcp).await.is_err());
}
