//! Large files, over connections that break.

use std::{
    fs,
    io::{Read, Write},
    net::{Shutdown, TcpListener, TcpStream},
    os::unix::fs::FileExt,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    thread,
};

use rclaude_types::FileEvent;

use super::lines;
use crate::{platform::Platform, support::Ran};

/// A way to the server that breaks each of its first connections after so many bytes.
struct BadLine {
    url: String,
    broken: Arc<AtomicU64>,
}

impl BadLine {
    fn start(server: &str, breaks: u64, after: u64) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let server = server.trim_start_matches("http://").to_owned();
        let broken = Arc::new(AtomicU64::new(0));
        let count = Arc::clone(&broken);
        thread::spawn(move || {
            for client in listener.incoming() {
                let (client, count) = (client.unwrap(), Arc::clone(&count));
                let server = TcpStream::connect(&server).unwrap();
                let passed = Arc::new(AtomicU64::new(0));
                for (mut from, mut to) in
                    [(client.try_clone().unwrap(), server.try_clone().unwrap()), (server, client)]
                {
                    let (count, passed) = (Arc::clone(&count), Arc::clone(&passed));
                    thread::spawn(move || {
                        let mut buffer = vec![0; 64 * 1024];
                        while let Ok(length @ 1..) = from.read(&mut buffer) {
                            let all = passed.fetch_add(length as u64, Ordering::SeqCst);
                            if all > after && count.load(Ordering::SeqCst) < breaks {
                                count.fetch_add(1, Ordering::SeqCst);
                                break;
                            }
                            if to.write_all(&buffer[..length]).is_err() {
                                break;
                            }
                        }
                        let _ = from.shutdown(Shutdown::Both);
                        let _ = to.shutdown(Shutdown::Both);
                    });
                }
            }
        });
        Self { url, broken }
    }

    async fn run(&self, platform: &Platform, arguments: &[&str]) -> Ran {
        let mut command = platform.cli(arguments);
        command.env("RCLAUDE_URL", &self.url).env("RCLAUDE_TOKEN", platform.access().1);
        let output = tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap();
        Ran::from(output)
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_large_file_is_taken_up_where_the_connection_broke() {
    let platform = Platform::start().await;
    platform.done(&["start", "--name", "box"]).await;
    let scratch = platform.scratch();
    let file = fs::File::create(scratch.join("large")).unwrap();
    let block: Vec<u8> = (0..1 << 20).map(|n: u32| n.to_le_bytes()[(n % 3) as usize]).collect();
    for n in 0..64_u64 {
        file.write_all_at(&block, n << 20).unwrap();
        file.write_all_at(&n.to_le_bytes(), n << 20).unwrap();
    }
    let up = BadLine::start(platform.access().0, 2, 20 << 20);
    let ran = up.run(&platform, &["cp", "--json", "large", "box:large"]).await;
    assert_eq!(ran.code, Some(0), "{ran:?}");
    assert_eq!(up.broken.load(Ordering::SeqCst), 2);
    let down = BadLine::start(platform.access().0, 2, 20 << 20);
    let ran = down.run(&platform, &["cp", "box:large", "back"]).await;
    assert_eq!(ran.code, Some(0), "{ran:?}");
    assert_eq!(down.broken.load(Ordering::SeqCst), 2);
    let same = fs::read(scratch.join("large")).unwrap() == fs::read(scratch.join("back")).unwrap();
    assert!(same, "what comes back is what went");
    assert_eq!(platform.done(&["ls", "box:"]).await.stdout, "large\n", "no part of it is left");

    // For good: nothing under the final name, and nothing else either.
    let dead = BadLine::start(platform.access().0, u64::MAX, 1 << 20);
    fs::write(scratch.join("back"), "before").unwrap();
    let failing = dead.run(&platform, &["cp", "box:large", "back"]);
    let patience = tokio::time::timeout(std::time::Duration::from_secs(3), failing).await;
    assert!(patience.is_err(), "it goes on as long as something moves");
    assert_eq!(fs::read(scratch.join("back")).unwrap(), b"before");
    platform.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gigabyte_passes_in_little_memory() {
    let platform = Platform::start().await;
    platform.done(&["start", "--name", "box"]).await;
    let scratch = platform.scratch();
    let file = fs::File::create(scratch.join("sparse")).unwrap();
    file.set_len(1 << 30).unwrap();
    file.write_all_at(b"in the middle", 1 << 29).unwrap();
    platform.done(&["cp", "sparse", "box:sparse"]).await;
    platform.done(&["cp", "box:sparse", "back"]).await;
    let back = fs::File::open(scratch.join("back")).unwrap();
    assert_eq!(back.metadata().unwrap().len(), 1 << 30);
    let mut middle = [0; 13];
    back.read_exact_at(&mut middle, 1 << 29).unwrap();
    assert_eq!(&middle, b"in the middle");
    fs::remove_file(scratch.join("back")).unwrap();
    let (code, _, stderr) = platform.feed(&["cp", "-r", "box:.", "tree"], Vec::new()).await;
    assert_eq!(code, Some(0), "{stderr}");
    let server = platform.peak_memory_mib();
    // The daemon's own peak, as its sandbox sees it: it is process 1 there.
    let status = platform.done(&["exec", "box", "--", "cat", "/proc/1/status"]).await.stdout;
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    let daemon: u64 = peak.trim().trim_end_matches(" kB").parse().unwrap();
    assert!(server < 200, "the server had {server} MiB");
    assert!(daemon < 32 * 1024, "the daemon had {daemon} KiB");
    eprintln!("peak memory: server {server} MiB, daemon {daemon} KiB");
    platform.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn changes_are_told_over_the_api_as_lines_and_as_events() {
    let platform = Platform::start().await;
    platform.done(&["start", "--name", "box"]).await;
    let (url, token) = platform.access();
    let watch = async |accept: &str| {
        let url = format!("{url}/v1/sessions/box/files/watch?debounce_ms=20");
        let client = reqwest::Client::builder().no_proxy().build().unwrap();
        let request = client.get(url).bearer_auth(token).header("accept", accept);
        let mut answer = request.send().await.unwrap();
        assert_eq!(answer.headers()["content-type"], accept);
        let mut text = String::new();
        let mut made = false;
        while !text.contains("new/deep/file") {
            let piece = answer.chunk().await.unwrap().expect("it goes on");
            text.push_str(str::from_utf8(&piece).unwrap());
            if !made && text.contains("ready") {
                made = true;
                let script = "rm -rf new; mkdir -p new/deep && echo x > new/deep/file";
                platform.done(&["exec", "box", "--", "sh", "-c", script]).await;
            }
        }
        text
    };
    let text = watch("application/x-ndjson").await;
    let events: Vec<FileEvent> = lines(&Ran { code: Some(0), stdout: text, stderr: String::new() });
    assert_eq!(events[0], FileEvent::Ready);
    assert!(events[1..].iter().all(|event| matches!(event, FileEvent::Created(_))), "{events:?}");
    let text = watch("text/event-stream").await;
    assert!(text.starts_with("data: {\"type\":\"ready\"}\n\n"), "{text}");
    platform.end().await;
}
