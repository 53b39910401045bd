//! What listens in a session, seen as a browser sees it.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use futures::{SinkExt, StreamExt};
use rclaude_types::Phase;
use reqwest::{StatusCode, header};
use serde_json::Value;
use tokio_tungstenite::tungstenite::{Message, client::IntoClientRequest};
use url::Url;

use crate::platform::{Agent, PATIENCE, Platform};

/// A program that tells what it was asked, streams a little, redirects to itself, and echoes over
/// a WebSocket.
const PROGRAM: &str = r#"
import base64, hashlib, http.server, json, struct, time
class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def log_message(self, *_): pass
    def do_POST(self): self.do_GET()
    def do_GET(self):
        if self.path == "/socket": return self.socket()
        if self.path == "/stream": return self.stream()
        if self.path == "/away":
            self.send_response(302)
            self.send_header("Location", "http://localhost:3000/there")
            self.send_header("Set-Cookie", "mine=1; Domain=localhost; Path=/")
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        told = {"path": self.path, "headers": {k.lower(): v for k, v in self.headers.items()},
                "sent": len(body)}
        said = json.dumps(told).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(said)))
        self.end_headers()
        self.wfile.write(said)
    def stream(self):
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Connection", "close")
        self.end_headers()
        for number in range(2):
            self.wfile.write(b"data: %d\n\n" % number)
            self.wfile.flush()
            if number == 0: self.server.hold()
        self.close_connection = True
    def socket(self):
        key = self.headers["Sec-WebSocket-Key"] + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
        self.send_response(101)
        self.send_header("Upgrade", "websocket")
        self.send_header("Connection", "Upgrade")
        accept = base64.b64encode(hashlib.sha1(key.encode()).digest()).decode()
        self.send_header("Sec-WebSocket-Accept", accept)
        self.end_headers()
        first, length = struct.unpack("BB", self.rfile.read(2))
        mask = self.rfile.read(4)
        data = bytes(b ^ mask[i % 4] for i, b in enumerate(self.rfile.read(length & 127)))
        self.wfile.write(bytes([first, len(data)]) + data.upper())
        self.close_connection = True
class Server(http.server.ThreadingHTTPServer):
    daemon_threads = True
    def hold(self):
        import os
        while not os.path.exists("go"): time.sleep(0.01)
Server(("127.0.0.1", 3000), Handler).serve_forever()
"#;

/// A browser of sorts: names under `localhost` lead to the server, redirects are shown.
struct Browser {
    http: reqwest::Client,
    server: Url,
}

impl Browser {
    fn new(platform: &Platform) -> Self {
        let http = reqwest::Client::builder().redirect(reqwest::redirect::Policy::none());
        Self { http: http.build().unwrap(), server: platform.access().0.parse().unwrap() }
    }

    /// Asks for a URL with more headers, connecting to the server whatever the name.
    async fn ask(
        &self,
        method: &str,
        url: &Url,
        headers: &[(&str, &str)],
    ) -> (StatusCode, header::HeaderMap, String) {
        let mut there = url.clone();
        there.set_host(self.server.host_str()).unwrap();
        there.set_port(self.server.port()).unwrap();
        let mut request = self.http.request(method.parse().unwrap(), there);
        request = request.header(header::HOST, url.authority());
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let answer = request.send().await.unwrap();
        let (status, headers) = (answer.status(), answer.headers().clone());
        // A program that is killed meanwhile says only the half of it.
        let said = answer.text().await.unwrap_or_default();
        (status, headers, said)
    }
}

async fn with_program(platform: &Platform) {
    platform.done(&["start", "--name", "box"]).await;
    run_program(platform).await;
}

async fn run_program(platform: &Platform) {
    let line = format!("rm -f go; setsid python3 -c '{PROGRAM}' >/dev/null 2>&1 & disown");
    platform.done(&["exec", "box", "--", "bash", "-c", &line]).await;
    let started = Instant::now();
    while platform.done(&["--json", "ports", "box"]).await.stdout.is_empty() {
        assert!(started.elapsed() < PATIENCE, "nothing listens");
    }
}

async fn opened(platform: &Platform, flags: &[&str]) -> Value {
    let line = [&["--json", "open", "box", "3000"], flags].concat();
    serde_json::from_str(&platform.done(&line).await.stdout).unwrap()
}

fn told(text: &str) -> (String, BTreeMap<String, String>, u64) {
    let told: Value = serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}: {text}"));
    let headers = serde_json::from_value(told["headers"].clone()).unwrap();
    (told["path"].as_str().unwrap().to_owned(), headers, told["sent"].as_u64().unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_link_shows_what_listens_and_nothing_else_does() {
    let platform = Platform::start_with(Agent::Missing, &[]).await;
    with_program(&platform).await;
    let browser = Browser::new(&platform);
    let link = opened(&platform, &[]).await;
    let link: Url = link["url"].as_str().unwrap().parse().unwrap();
    let mut page = link.clone();
    page.set_query(None);

    // Without the link: not a word, not even whether there is such a session.
    let (status, headers, said) = browser.ask("GET", &page, &[("accept", "text/html")]).await;
    assert_eq!(status, StatusCode::UNAUTHORIZED);
    assert!(said.contains("This preview is private"), "{said}");
    assert_eq!(headers["x-rclaude-preview"], "1");
    let nobody = page.as_str().replacen("-01", "-02", 1).parse().unwrap();
    let (status, _, same) = browser.ask("GET", &nobody, &[("accept", "text/html")]).await;
    assert_eq!((status, same), (StatusCode::UNAUTHORIZED, said));

    // The link becomes a cookie and leaves the address.
    let mut with_query = link.clone();
    with_query.set_path("/a%20b");
    with_query.query_pairs_mut().append_pair("x", "1");
    let (status, headers, _) = browser.ask("GET", &with_query, &[]).await;
    assert_eq!(status, StatusCode::SEE_OTHER);
    assert_eq!(headers["location"], "/a%20b?x=1");
    let set = headers["set-cookie"].to_str().unwrap();
    assert!(set.contains("HttpOnly") && set.contains("SameSite=Lax"), "{set}");
    let cookie = format!("own=2; {}", set.split(';').next().unwrap());
    let cookie = ("cookie", cookie.as_str());

    // The program sees a browser on its own machine, and nothing of ours.
    let there = page.join("/a%20b?x=1").unwrap();
    let origin = page.origin().ascii_serialization();
    let (status, _, said) = browser.ask("POST", &there, &[cookie, ("origin", &origin)]).await;
    assert_eq!(status, StatusCode::OK, "{said}");
    let (path, seen, _) = told(&said);
    assert_eq!(path, "/a%20b?x=1");
    assert_eq!((&*seen["host"], &*seen["origin"]), ("localhost:3000", "http://localhost:3000"));
    assert_eq!(seen["cookie"], "own=2");
    assert_eq!(seen["x-forwarded-host"], page.authority());

    // Pages of others may not use the cookie; those of the session's other ports may.
    let foreign = ("origin", "http://evil.example");
    let (status, ..) = browser.ask("POST", &page, &[cookie, foreign]).await;
    assert_eq!(status, StatusCode::FORBIDDEN);
    let sibling = origin.replacen("3000", "8000", 1);
    let (status, ..) = browser.ask("POST", &page, &[cookie, ("origin", &sibling)]).await;
    assert_eq!(status, StatusCode::OK);

    // Its redirects and cookies stay at its own name.
    let away = page.join("/away").unwrap();
    let (_, headers, _) = browser.ask("GET", &away, &[cookie]).await;
    assert_eq!(headers["location"], page.join("/there").unwrap().as_str());
    assert_eq!(headers["set-cookie"], "mine=1; Path=/");

    // A link is for its port and its time alone.
    let other = link.as_str().replacen("//3000-", "//3001-", 1).parse().unwrap();
    assert_eq!(browser.ask("GET", &other, &[]).await.0, StatusCode::UNAUTHORIZED);
    let brief = opened(&platform, &["--for", "1s"]).await;
    let brief = brief["url"].as_str().unwrap().parse().unwrap();
    tokio::time::sleep(Duration::from_millis(1100)).await;
    assert_eq!(browser.ask("GET", &brief, &[]).await.0, StatusCode::UNAUTHORIZED);

    // Programs bring a token, which the program does not get.
    let token = ("x-rclaude-token", platform.access().1);
    let (status, _, said) = browser.ask("GET", &page, &[token]).await;
    assert_eq!(status, StatusCode::OK);
    assert!(!told(&said).1.contains_key("x-rclaude-token"));
    let wrong = ("x-rclaude-token", "rck_wrong");
    assert_eq!(browser.ask("GET", &page, &[wrong]).await.0, StatusCode::UNAUTHORIZED);

    // Public until it is private again. The API is not served under the name in any case.
    opened(&platform, &["--public"]).await;
    let shown = platform.done(&["ports", "box"]).await.stdout;
    assert!(shown.contains("(public)"), "{shown}");
    let api = page.join("/v1/sessions").unwrap();
    let (status, _, said) = browser.ask("GET", &api, &[]).await;
    assert_eq!((status, told(&said).0.as_str()), (StatusCode::OK, "/v1/sessions"));
    opened(&platform, &["--private"]).await;
    assert_eq!(browser.ask("GET", &page, &[]).await.0, StatusCode::UNAUTHORIZED);
    platform.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn streams_sockets_and_uploads_go_through_and_sleep_is_no_obstacle() {
    let platform = Platform::start_with(Agent::Missing, &[]).await;
    with_program(&platform).await;
    let browser = Browser::new(&platform);
    let link = opened(&platform, &["--public"]).await;
    let page: Url = link["url"].as_str().unwrap().parse().unwrap();
    assert_eq!(page.query(), None);

    // The first event arrives before the second is written.
    let mut there = page.clone();
    there.set_host(browser.server.host_str()).unwrap();
    there.set_port(browser.server.port()).unwrap();
    let stream = browser.http.get(there.join("/stream").unwrap());
    let mut stream = stream.header(header::HOST, page.authority()).send().await.unwrap();
    assert_eq!(stream.chunk().await.unwrap().unwrap(), "data: 0\n\n");
    platform.done(&["exec", "box", "--", "touch", "go"]).await;
    assert_eq!(stream.chunk().await.unwrap().unwrap(), "data: 1\n\n");
    assert_eq!(stream.chunk().await.unwrap(), None);

    // A WebSocket, as a browser of HTTP/1.1 opens it.
    let server = browser.server.socket_addrs(|| None).unwrap()[0];
    let tcp = tokio::net::TcpStream::connect(server);
    let place = format!("ws://{}/socket", page.authority());
    let request = place.into_client_request().unwrap();
    let (mut socket, _) =
        tokio_tungstenite::client_async(request, tcp.await.unwrap()).await.unwrap();
    socket.send(Message::text("hello")).await.unwrap();
    assert_eq!(socket.next().await.unwrap().unwrap(), Message::text("HELLO"));

    // 20 MB up, from a session that sleeps.
    platform.done(&["pause", "box"]).await;
    let upload = browser.http.post(there.join("/up").unwrap()).body(vec![7_u8; 20 << 20]);
    let upload = upload.header(header::HOST, page.authority()).send().await.unwrap();
    assert_eq!(told(&upload.text().await.unwrap()).2, 20 << 20);
    assert_ne!(platform.get("box").await.phase, Phase::Paused);

    // What was hibernated is awake, and its program is said to be gone.
    platform.done(&["pause", "--hibernate", "box"]).await;
    let (status, _, said) = browser.ask("GET", &page, &[("accept", "text/html")]).await;
    assert_eq!(status, StatusCode::BAD_GATEWAY);
    assert!(said.contains("Nothing listens on port 3000"), "{said}");
    let (_, _, problem) = browser.ask("GET", &page, &[]).await;
    let problem: Value = serde_json::from_str(&problem).unwrap();
    assert_eq!((&problem["status"], &problem["code"]), (&502.into(), &"port_closed".into()));
    run_program(&platform).await;
    assert_eq!(browser.ask("GET", &page, &[]).await.0, StatusCode::OK);

    // A deleted session's port is nobody's.
    let id = platform.get("box").await.id;
    assert_eq!(platform.call("DELETE", &format!("/v1/sessions/{id}"), None).await.0, 204);
    let started = Instant::now();
    while browser.ask("GET", &page, &[]).await.0 != StatusCode::NOT_FOUND {
        assert!(started.elapsed() < PATIENCE, "it is still served");
    }
    platform.end().await;
}
