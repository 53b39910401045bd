//! Terminals: shown from anywhere, by anyone, at any speed, as the program printed them.

use std::time::Duration;

use bytes::Bytes;
use futures::StreamExt;
use rclaude_sandbox::agentd::{Client, Shown, TerminalFrom, TerminalStream};
use rclaude_types::{
    ErrorCode, TerminalId, TerminalSize, TerminalView,
    agentd::{ProcessState, TerminalInfo, TerminalSpec, User},
};

use crate::harness::Daemon;

const SIZE: TerminalSize = TerminalSize { rows: 10, cols: 60 };
const PATIENCE: Duration = Duration::from_mins(1);

fn terminal(argv: &[&str]) -> TerminalSpec {
    TerminalSpec {
        argv: argv.iter().map(|&it| it.to_owned()).collect(),
        env: [("PATH", "/usr/bin:/bin"), ("TERM", "xterm-256color"), ("PS1", "$ ")]
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .into(),
        cwd: "/".to_owned(),
        user: User::Agent,
        size: SIZE,
    }
}

/// A script before a terminal that prints nothing of what is typed.
fn script(text: &str) -> TerminalSpec {
    terminal(&["/bin/sh", "-c", text])
}

async fn open(client: &Client, spec: &TerminalSpec) -> TerminalId {
    let id = TerminalId::generate();
    client.open_terminal(&id, spec).await.unwrap();
    id
}

/// Somebody who looks at a terminal.
struct Viewer {
    stream: TerminalStream,
    views: Vec<TerminalView>,
    snapshot: Vec<u8>,
    bytes: Vec<u8>,
    sizes: Vec<TerminalSize>,
    end: Option<TerminalInfo>,
}

impl Viewer {
    async fn attach(client: &Client, id: &TerminalId, offset: Option<u64>) -> Self {
        let from = TerminalFrom { offset, writer: None };
        let stream = client.attach_terminal(id, &from).await.unwrap();
        let (views, sizes, end) = (Vec::new(), Vec::new(), None);
        let mut viewer =
            Self { stream, views, snapshot: Vec::new(), bytes: Vec::new(), sizes, end };
        viewer.step().await;
        assert_eq!(viewer.views.len(), 1, "a view comes first");
        viewer
    }

    async fn step(&mut self) {
        let next = tokio::time::timeout(PATIENCE, self.stream.next()).await;
        let shown = next.unwrap_or_else(|_| panic!("nothing more: {}", self.text()));
        match shown.unwrap().unwrap() {
            Shown::View(view) => {
                self.snapshot.clear();
                self.bytes.clear();
                self.views.push(*view);
            }
            Shown::Snapshot(bytes) => self.snapshot.extend_from_slice(&bytes),
            Shown::Bytes { bytes, .. } => self.bytes.extend_from_slice(&bytes),
            Shown::Resized(size) => self.sizes.push(size),
            Shown::End(info) => self.end = Some(*info),
        }
    }

    fn text(&self) -> String {
        String::from_utf8_lossy(&[self.snapshot.as_slice(), &self.bytes].concat()).into_owned()
    }

    /// Looks on until this is there.
    async fn until(&mut self, text: &str) {
        while !self.text().contains(text) {
            assert!(self.end.is_none(), "over without {text:?}: {:?}", self.text());
            self.step().await;
        }
    }

    async fn finish(mut self) -> Self {
        while self.end.is_none() {
            self.step().await;
        }
        self
    }

    fn offset(&self) -> u64 {
        self.views.last().unwrap().offset + self.bytes.len() as u64
    }
}

async fn keys(client: &Client, id: &TerminalId, keys: &'static str) {
    let keys = futures::stream::iter([Ok(Bytes::from_static(keys.as_bytes()))]);
    client.type_in(id, None, keys).await.unwrap();
}

#[tokio::test]
async fn a_shell_before_a_terminal_has_it_for_its_own() {
    let daemon = Daemon::start();
    let client = daemon.client().await;
    let id = open(&client, &terminal(&["/bin/sh"])).await;
    let mut viewer = Viewer::attach(&client, &id, None).await;
    keys(&client, &id, "tty; stty size; test -t 0 && echo is a $TERM; echo from > /dev/tty\n")
        .await;
    viewer.until("/dev/pts/").await;
    viewer.until("10 60").await;
    viewer.until("is a xterm-256color").await;
    viewer.until("\nfrom").await;
    // Job control works and Ctrl-C reaches what is in front, not the shell.
    keys(&client, &id, "sleep 1000\n").await;
    viewer.until("sleep 1000").await;
    keys(&client, &id, "\x03").await;
    viewer.until("^C\r\n$ ").await;
    keys(&client, &id, "echo still $((40+2)); exit 7\n").await;
    viewer.until("still 42").await;
    let end = viewer.finish().await.end.unwrap();
    assert!(
        matches!(end.state, ProcessState::Exited { code: Some(7), signal: None, .. }),
        "{end:?}"
    );
    assert_eq!(client.terminal(&id).await.unwrap().state, end.state, "the status is kept");
}

#[tokio::test]
async fn opening_again_adopts_the_first_and_what_cannot_be_run_is_refused() {
    let daemon = Daemon::start();
    let client = daemon.client().await;
    let id = TerminalId::generate();
    let first = client.open_terminal(&id, &script("echo first; exec sleep 1000")).await.unwrap();
    let again = client.open_terminal(&id, &script("echo second")).await.unwrap();
    assert_eq!((first.state, &first.argv), (again.state, &again.argv));
    assert_eq!(client.terminals().await.unwrap().len(), 1);

    let other = TerminalId::generate();
    let error = client.open_terminal(&other, &terminal(&["no-such-program"])).await.unwrap_err();
    assert_eq!(error.problem().unwrap().code, ErrorCode::FileNotFound);
    let flat = TerminalSpec { size: TerminalSize { rows: 0, cols: 80 }, ..script("true") };
    let error = client.open_terminal(&other, &flat).await.unwrap_err();
    assert_eq!(error.problem().unwrap().code, ErrorCode::InvalidRequest);
    let error = client.terminal(&other).await.unwrap_err();
    assert_eq!(error.problem().unwrap().code, ErrorCode::TerminalNotFound);
    client.end_terminal(&id).await.unwrap();
    let ended = client.terminal(&id).await.unwrap().state;
    assert!(matches!(ended, ProcessState::Exited { signal: Some(libc::SIGHUP), .. }), "{ended:?}");
    client.end_terminal(&id).await.unwrap();
    assert_eq!(client.terminal(&id).await.unwrap().state, ended, "once is enough");
}

#[tokio::test]
async fn no_more_than_so_many_run_at_once_and_only_the_last_that_ended_are_kept() {
    let daemon = Daemon::start();
    let client = daemon.client().await;
    let mut ids = Vec::new();
    let error = loop {
        let id = TerminalId::generate();
        match client.open_terminal(&id, &script("exec sleep 1000")).await {
            Ok(_) => ids.push(id),
            Err(error) => break error,
        }
        assert!(ids.len() < 100, "there is no bound");
    };
    assert_eq!(error.problem().unwrap().code, ErrorCode::Conflict);
    for id in &ids {
        client.end_terminal(id).await.unwrap();
    }
    open(&client, &script("exec sleep 1000")).await;
    let kept = client.terminals().await.unwrap();
    assert_eq!(kept.len(), 17, "sixteen that ended, one that runs");
    assert!(client.terminal(&ids[0]).await.is_err() && client.terminal(&ids[31]).await.is_ok());
}

#[tokio::test]
async fn a_new_size_reaches_the_program_and_every_viewer() {
    let daemon = Daemon::start();
    let client = daemon.client().await;
    let text = "trap 'stty size' WINCH; echo ready; while :; do sleep 0.01; done";
    let id = open(&client, &script(text)).await;
    let mut viewers =
        [Viewer::attach(&client, &id, None).await, Viewer::attach(&client, &id, Some(0)).await];
    viewers[0].until("ready").await;
    let wide = TerminalSize { rows: 33, cols: 132 };
    client.resize_terminal(&id, wide).await.unwrap();
    for viewer in &mut viewers {
        viewer.until("33 132").await;
        assert_eq!(viewer.sizes, [wide]);
    }
    assert_eq!(client.terminal(&id).await.unwrap().size, wide);
    let error = client.resize_terminal(&id, TerminalSize { rows: 0, cols: 1 }).await.unwrap_err();
    assert_eq!(error.problem().unwrap().code, ErrorCode::InvalidRequest);
}

#[tokio::test]
async fn a_viewer_begins_with_the_screen_and_goes_on_with_the_bytes() {
    let daemon = Daemon::start();
    let client = daemon.client().await;
    // The last character is cut in two: its second half comes after the viewer.
    let text = "stty -echo; printf 'under it\\033[?1049h\\033[2J\\033[Hthe editor\\033[?2004h\\033[?1002h\\033[?1006h\
                \\033[?25l\\033]2;a title\\007\\303'; read line; printf '\\244 done\\033[?1049l'";
    let id = open(&client, &script(text)).await;
    let mut first = Viewer::attach(&client, &id, Some(0)).await;
    while !first.bytes.ends_with(b"\xc3") {
        first.step().await;
    }
    let mut viewer = Viewer::attach(&client, &id, None).await;
    let view = viewer.views[0].clone();
    assert!(view.modes.alternate_screen && view.modes.bracketed_paste && view.modes.mouse);
    assert!(view.modes.hidden_cursor);
    assert_eq!((view.title.as_deref(), view.size), (Some("a title"), SIZE));
    assert_eq!(view.offset, first.offset() - 1, "it stands before the character that is cut");
    assert_eq!(client.terminal(&id).await.unwrap().viewers, 2);
    keys(&client, &id, "\n").await;
    viewer.until(" done").await;
    let snapshot = String::from_utf8(viewer.snapshot.clone()).unwrap();
    let (under, over) = snapshot.rsplit_once("\x1b[?1049h").unwrap();
    assert!(under.contains("under it") && over.contains("the editor"), "{snapshot:?}");
    for switch in ["\x1b[?2004h", "\x1b[?1002h", "\x1b[?1006h", "\x1b[?25l", "\x1b]2;a title\x07"] {
        assert!(snapshot.contains(switch), "{switch:?} is not in {snapshot:?}");
    }
    let viewer = viewer.finish().await;
    assert!(viewer.text().contains("\u{e4} done"), "{:?}", viewer.text());
    first = first.finish().await;
    assert_eq!(first.bytes.split_off(usize::try_from(view.offset).unwrap()), viewer.bytes);
}

#[tokio::test]
async fn what_is_kept_can_be_read_again_from_any_offset_and_the_oldest_is_dropped() {
    let daemon = Daemon::start();
    let client = daemon.client().await;
    let total = 12_000_000_u64;
    let text = format!("stty -opost; yes 'A line of some length, and its end' | head -c {total}");
    let id = open(&client, &script(&text)).await;
    let end = Viewer::attach(&client, &id, None).await.finish().await.end.unwrap();
    assert_eq!(end.offset, total);
    assert!(end.first_offset > 0 && total - end.first_offset >= 8 << 20, "{end:?}");
    let line = b"A line of some length, and its end\n";
    for offset in [end.first_offset, end.first_offset + 1, total - 100_001, total - 1, total] {
        let viewer = Viewer::attach(&client, &id, Some(offset)).await.finish().await;
        assert_eq!((viewer.views[0].offset, viewer.snapshot.len()), (offset, 0));
        let start = usize::try_from(offset % line.len() as u64).unwrap();
        let length = usize::try_from(total - offset).unwrap();
        assert_eq!(viewer.bytes.len(), length);
        assert!(viewer.bytes.iter().eq(line.iter().cycle().skip(start).take(length)));
    }
    let dropped = Viewer::attach(&client, &id, Some(end.first_offset - 1)).await.finish().await;
    assert_eq!(dropped.views[0].first_offset, end.first_offset, "it is said what is kept");
    assert_eq!(dropped.views[0].offset, total);
    assert!(dropped.text().contains("A line of some length"), "the screen instead");
    let from = TerminalFrom { offset: Some(total + 1), writer: None };
    let error = client.attach_terminal(&id, &from).await.unwrap_err();
    assert_eq!(error.problem().unwrap().code, ErrorCode::Conflict);
}

#[tokio::test]
async fn a_stalled_viewer_slows_nobody_and_goes_on_with_a_fresh_screen() {
    const SIZE: u64 = 20_000_000;
    let daemon = Daemon::start();
    let client = daemon.client().await;
    let text =
        format!("stty -opost; read go; yes flood | head -c {SIZE}; echo; echo all out; read x");
    let id = open(&client, &script(&text)).await;
    let mut stalled = Viewer::attach(&client, &id, None).await;
    keys(&client, &id, "go\n").await;
    // Nobody reads, and yet the program gets to its end.
    let finished = async {
        while client.terminal(&id).await.unwrap().offset < SIZE + 10 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    // Far more than it takes: how fast is not what is asked here.
    tokio::time::timeout(5 * PATIENCE, finished).await.expect("the program is held up");
    let status = std::fs::read_to_string(format!("/proc/{}/status", daemon.pid())).unwrap();
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    let peak: u64 = peak.trim().trim_end_matches(" kB").parse().unwrap();
    assert!(peak < 24_000, "{peak} kB at the peak");
    stalled.until("all out").await;
    assert_eq!(stalled.views.len(), 2, "it began anew once");
    assert!(stalled.bytes.len() < 1000, "and did not have to read what it missed");
    assert!(stalled.views[1].offset > SIZE);
    keys(&client, &id, "x\n").await;
    stalled.finish().await;
}

#[tokio::test]
async fn what_a_writer_types_again_is_typed_once() {
    let daemon = Daemon::start();
    let client = daemon.client().await;
    let id = open(&client, &script("stty -echo raw; echo ready; exec head -c 12")).await;
    let from = TerminalFrom { offset: Some(0), writer: Some("me & mine".replace(' ', "_")) };
    let writer = from.writer.clone().unwrap();
    let mut viewer = Viewer::attach(&client, &id, Some(0)).await;
    viewer.until("ready").await;
    let send = async |offset: u64, text: &'static str| {
        let keys = futures::stream::iter([Ok(Bytes::from_static(text.as_bytes()))]);
        client.type_in(&id, Some((writer.as_str(), offset)), keys).await
    };
    assert_eq!(send(0, "abc").await.unwrap().accepted, 3);
    assert_eq!(send(0, "abcdef").await.unwrap().accepted, 6);
    assert_eq!(send(2, "cd").await.unwrap().accepted, 6);
    assert!(send(7, "h").await.is_err(), "a gap");
    let mut attached = client.attach_terminal(&id, &from).await.unwrap();
    let Some(Ok(Shown::View(view))) = attached.next().await else { panic!("a view comes first") };
    assert_eq!(view.input_offset, 6);
    assert_eq!(send(6, "ghi").await.unwrap().accepted, 9);
    keys(&client, &id, "xyz").await;
    let viewer = viewer.finish().await;
    assert!(viewer.text().ends_with("abcdefghixyz"), "{:?}", viewer.text());
}

#[tokio::test]
async fn typing_into_a_program_that_does_not_read_holds_up_no_viewer() {
    let daemon = Daemon::start();
    let client = daemon.client().await;
    let id = open(&client, &script("stty -echo raw; echo ready; exec sleep 1000")).await;
    let mut viewer = Viewer::attach(&client, &id, Some(0)).await;
    viewer.until("ready").await;
    let (typist, name) = (client.clone(), id.clone());
    let paste = async move {
        let piece = Bytes::from(vec![b'x'; 1 << 20]);
        let keys = futures::stream::iter([Ok(piece)]);
        typist.type_in(&name, Some(("paste", 0)), keys).await
    };
    let look = async {
        loop {
            let from = TerminalFrom { offset: None, writer: Some("paste".to_owned()) };
            let mut stream = client.attach_terminal(&id, &from).await.unwrap();
            let Some(Ok(Shown::View(view))) = stream.next().await else { panic!("a view") };
            if view.input_offset > 0 {
                break;
            }
        }
        client.end_terminal(&id).await.unwrap();
    };
    let both = async { tokio::join!(paste, look) };
    let (pasted, ()) = tokio::time::timeout(PATIENCE, both).await.expect("it is held up");
    assert_eq!(pasted.unwrap_err().problem().unwrap().code, ErrorCode::Conflict);
}

#[tokio::test]
async fn a_new_daemon_tells_of_lost_terminals_and_shows_what_they_printed() {
    let daemon = Daemon::start();
    let client = daemon.client().await;
    let lost = open(&client, &script("echo before the end; exec sleep 1000")).await;
    let over = open(&client, &script("echo its last words; exit 3")).await;
    let mut viewer = Viewer::attach(&client, &lost, None).await;
    viewer.until("before the end").await;
    let end = Viewer::attach(&client, &over, None).await.finish().await.end.unwrap();
    let wide = TerminalSize { rows: 12, cols: 90 };
    client.resize_terminal(&lost, wide).await.unwrap();
    let printed = client.terminal(&lost).await.unwrap().offset;
    let directory = daemon.kill();

    let daemon = Daemon::start_in(directory, &[]);
    let client = daemon.client().await;
    let info = client.terminal(&lost).await.unwrap();
    assert_eq!((info.state, info.offset, info.size), (ProcessState::Lost, printed, wide));
    let viewer = Viewer::attach(&client, &lost, None).await.finish().await;
    assert!(viewer.text().contains("before the end"), "{:?}", viewer.text());
    let replay = Viewer::attach(&client, &lost, Some(0)).await.finish().await;
    assert_eq!(replay.bytes, b"before the end\r\n");
    assert_eq!(client.terminal(&over).await.unwrap().state, end.state);
    let again = client.open_terminal(&lost, &script("echo again")).await.unwrap();
    assert_eq!(again.state, ProcessState::Lost, "its name stays taken");
    let error = client.resize_terminal(&lost, SIZE).await.unwrap_err();
    assert_eq!(error.problem().unwrap().code, ErrorCode::Conflict);
}

#[tokio::test]
async fn a_daemon_that_is_told_to_end_hangs_up_on_its_terminals() {
    let mut daemon = Daemon::start();
    let client = daemon.client().await;
    let text = "trap 'echo hung up; exit' HUP; echo ready; while :; do sleep 0.01; done";
    let id = open(&client, &script(text)).await;
    let mut viewer = Viewer::attach(&client, &id, None).await;
    viewer.until("ready").await;
    client.shutdown().await.unwrap();
    let viewer = viewer.finish().await;
    assert!(viewer.text().contains("hung up"), "{:?}", viewer.text());
    assert_eq!(viewer.end.unwrap().state, ProcessState::Lost);
    daemon.ended().await;
}
