//! `rclaude shell` at a terminal: typed into, left, come back to, through the deaths of servers.

use std::{
    net::TcpListener,
    time::{Duration, Instant},
};

use futures::{SinkExt, StreamExt};
use rclaude_types::{Phase, TerminalFrame, TerminalState};
use serde_json::json;
use tokio_tungstenite::tungstenite::{Message, client::IntoClientRequest};

use crate::{
    platform::{Agent, PATIENCE, Platform},
    terminal::Terminal,
};

/// Enter, `~`, `.`: the keys that leave.
const LEAVE: &str = "\r~.";

async fn with_box(platform: &Platform) {
    let made = platform.run(&["start", "--name", "box"]).await;
    assert_eq!(made.code, Some(0), "{made:?}");
}

/// A shell whose prompt is known.
fn shell(platform: &Platform, arguments: &[&str]) -> Terminal {
    let arguments = [&["shell", "box"], arguments].concat();
    Terminal::open(&platform.cli(&arguments), 80)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_shell_that_was_left_is_found_as_it_was_after_the_servers_death() {
    let mut platform = Platform::start_with(Agent::Missing, &[]).await;
    with_box(&platform).await;
    let mut first = shell(&platform, &[]);
    first.expect("Enter ~ . leaves it running");
    first.keys("PS1='> '; clear; tty; stty size; pwd; id -un; echo sum $((40+2)); colour=blue\r");
    first.expect("/dev/pts/");
    first.expect("40 80");
    first.expect("/workspace");
    first.expect("agent");
    first.expect("sum 42");
    let path = platform.run(&["exec", "box", "--", "sh", "-c", "echo $PATH"]).await.stdout;
    first.keys("clear; echo \"[$PATH]\"\r");
    first.expect(&format!("[{}]", path.trim()));
    first.keys("clear; echo sum $((40+2))\r");
    first.expect("sum 42");
    first.keys("# a tilde ~. in a line is a tilde");
    first.expect("is a tilde");
    first.keys("\x15");
    first.keys(LEAVE);
    let (code, screen) = first.end();
    assert_eq!(code, Some(0), "{screen}");
    assert!(
        screen.contains("left the terminal running; `rclaude shell box` comes back"),
        "{screen}"
    );

    platform.kill();
    platform.restart().await;
    let mut again = shell(&platform, &[]);
    again.expect("sum 42");
    again.keys("echo the sky is $colour\r");
    again.expect("the sky is blue");
    again.keys("exit 7\r");
    let (code, screen) = again.end();
    assert_eq!(code, Some(7), "{screen}");

    let list = platform.ok("GET", "/v1/sessions/box/terminals", None).await;
    let terminals = list["data"].as_array().unwrap();
    assert_eq!(terminals.len(), 1, "the second found the first's: {list}");
    assert_eq!((&terminals[0]["state"], &terminals[0]["exit_code"]), (&json!("exited"), &json!(7)));
    platform.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_connection_is_made_again_and_nothing_is_shown_twice_or_left_out() {
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let listen = format!("127.0.0.1:{port}");
    let mut platform = Platform::start_with(Agent::Missing, &["--listen", &listen]).await;
    with_box(&platform).await;
    let count =
        "for n in $(seq 1000 1400); do echo =$n=; sleep 0.01; done; read word; echo got $word";
    let mut terminal = shell(&platform, &["--", "bash", "-c", count]);
    terminal.expect("=1050=");
    platform.kill();
    terminal.expect("connection lost");
    // Typed while nobody listens.
    terminal.keys("hello\r");
    platform.restart().await;
    terminal.expect("connected again");
    terminal.expect("=1400=");
    terminal.expect("got hello");
    let shown = terminal.bytes();
    let (code, screen) = terminal.end();
    assert_eq!(code, Some(0), "{screen}");
    for number in 1000..=1400 {
        let times = shown.matches(&format!("={number}=")).count();
        assert_eq!(times, 1, "{number} is shown {times} times:\n{screen}");
    }
    platform.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn two_see_the_same_and_who_only_looks_on_cannot_type() {
    let platform = Platform::start_with(Agent::Missing, &[]).await;
    with_box(&platform).await;
    let mut driver = shell(&platform, &[]);
    driver.keys("PS1='> '; clear; echo first $((10+1))\r");
    driver.expect("first 11");
    let mut looker = shell(&platform, &["--read-only"]);
    looker.expect("first 11");
    let list = platform.ok("GET", "/v1/sessions/box/terminals", None).await;
    let id = list["data"][0]["id"].as_str().unwrap().to_owned();
    assert_eq!(list["data"][0]["viewers"], 2, "{list}");
    let mut second = shell(&platform, &["--terminal", &id]);
    second.expect("first 11");
    looker.keys("echo never typed\r");
    driver.keys("echo driver $((40+1))\r");
    for terminal in [&mut driver, &mut looker, &mut second] {
        terminal.expect("driver 41");
    }
    second.keys("echo second $((40+2))\r");
    for terminal in [&mut driver, &mut looker, &mut second] {
        terminal.expect("second 42");
        assert!(!terminal.bytes().contains("never"), "{}", terminal.bytes());
    }
    // Not by the client's kindness: the server refuses.
    let (url, token) = platform.access();
    let path = format!("/v1/sessions/box/terminals/{id}/attach?read_only=true");
    let mut request = format!("{}{path}", url.replace("http", "ws")).into_client_request().unwrap();
    let bearer = format!("Bearer {token}").parse().unwrap();
    request.headers_mut().insert("authorization", bearer);
    let (mut socket, _) = tokio_tungstenite::connect_async(request).await.unwrap();
    socket.send(Message::binary(b"echo never typed\r".as_slice())).await.unwrap();
    let reason = loop {
        match socket.next().await.unwrap().unwrap() {
            Message::Close(frame) => break frame.unwrap().reason.to_string(),
            Message::Text(text) => {
                let frame: TerminalFrame = serde_json::from_str(&text).unwrap();
                assert!(matches!(frame, TerminalFrame::Attached(_)), "{frame:?}");
            }
            _ => {}
        }
    };
    assert_eq!(reason, "read_only");
    looker.keys("\x03");
    assert_eq!(looker.end().0, Some(0), "who looks on leaves with ctrl-c");
    driver.keys("echo still $((20+2))\r");
    driver.expect("still 22");
    assert!(!driver.bytes().contains("never"), "{}", driver.bytes());
    driver.keys("kill -9 $$\r");
    assert_eq!(driver.end().0, Some(137));
    assert_eq!(second.end().0, Some(137), "the end is everybody's");
    platform.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pause_keeps_the_shell_and_a_stop_ends_it_and_says_so() {
    let platform = Platform::start_with(Agent::Missing, &[]).await;
    with_box(&platform).await;
    let mut terminal = shell(&platform, &[]);
    terminal.keys("PS1='> '; clear; kept=in-memory; echo ready $((1+1))\r");
    terminal.expect("ready 2");
    assert_eq!(platform.run(&["pause", "box"]).await.code, Some(0));
    let (code, screen) = terminal.end();
    assert_eq!(code, Some(0), "{screen}");
    assert!(screen.contains("box was set aside; `rclaude shell box` wakes it"), "{screen}");

    let mut terminal = shell(&platform, &[]);
    terminal.expect("ready 2");
    terminal.keys("echo it is $kept\r");
    terminal.expect("it is in-memory");
    assert_eq!(platform.run(&["stop", "box"]).await.code, Some(0));
    let (_, screen) = terminal.end();
    assert!(
        screen.contains("was stopped while it ran") || screen.contains("set aside"),
        "{screen}"
    );

    let list = platform.ok("GET", "/v1/sessions/box/terminals", None).await;
    let lost = &list["data"][0];
    assert_eq!(lost["state"], json!(TerminalState::Lost), "{list}");
    assert_eq!(lost["reason"], "its sandbox was stopped while it ran");
    let id = lost["id"].as_str().unwrap();
    let mut reader = shell(&platform, &["--terminal", id, "--read-only"]);
    reader.expect("it is in-memory");
    let (code, screen) = reader.end();
    assert_eq!(code, Some(7), "{screen}");
    assert!(screen.contains("the terminal is over: its sandbox was stopped"), "{screen}");
    platform.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_is_awake_while_somebody_is_attached_or_a_terminal_prints_and_not_else() {
    let platform = Platform::start_with(Agent::Missing, &["--idle", "1s"]).await;
    let phase = async || platform.get("box").await.phase;
    let until = async |wanted: Phase| {
        let started = Instant::now();
        while phase().await != wanted {
            assert!(started.elapsed() < PATIENCE, "never {wanted:?}\n{}", platform.log());
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    let stays_awake = async || {
        let started = Instant::now();
        while started.elapsed() < Duration::from_secs(4) {
            assert_eq!(phase().await, Phase::Running, "{}", platform.log());
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    with_box(&platform).await;
    let mut terminal = shell(&platform, &[]);
    terminal.keys("PS1='> '; clear; echo silent $((1+1))\r");
    terminal.expect("silent 2");
    stays_awake().await;
    terminal.keys(LEAVE);
    terminal.end();
    until(Phase::Paused).await;

    let mut terminal = shell(&platform, &[]);
    terminal.expect("silent 2");
    terminal.keys("while sleep 0.2; do echo on and on $((n+=1)); done\r");
    terminal.expect("on and on 1");
    terminal.keys(LEAVE);
    terminal.end();
    stays_awake().await;
    platform.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_users_own_terminal_is_as_it_was_however_the_verb_ends() {
    let platform = Platform::start_with(Agent::Missing, &[]).await;
    assert_eq!(platform.run(&["start", "--name", "tidy"]).await.code, Some(0));
    let open = || {
        let cli = platform.cli(&[]);
        let text = "before=$(stty -g); \"$0\" shell tidy; code=$?; echo; \
                    [ \"$(stty -g)\" = \"$before\" ] && echo restored after $code";
        let mut command = std::process::Command::new("/bin/sh");
        command.args(["-c", text]).arg(cli.get_program()).current_dir(platform.scratch());
        command.envs(cli.get_envs().filter_map(|(name, value)| Some((name, value?))));
        let mut terminal = Terminal::open(&command, 80);
        terminal.keys("clear; printf '\\033[?1049h\\033[?1003h'; echo ready $((1+1))\r");
        terminal.expect("ready 2");
        terminal
    };
    let is_ours =
        |(pid, line): (u32, String)| line.trim().ends_with("rclaude shell tidy").then_some(pid);
    let mut terminal = open();
    terminal.keys(LEAVE);
    terminal.expect("restored after 0");
    let after = terminal.bytes();
    let last = after.rfind("\x1b[?1049h").unwrap();
    for ordinary in ["\x1b[?1049l", "\x1b[?1003l", "\x1b[?25h"] {
        assert!(after[last..].contains(ordinary), "{ordinary:?} is not in {:?}", &after[last..]);
    }
    let mut terminal = open();
    let pid = crate::platform::processes().into_iter().find_map(is_ours).unwrap();
    let pid = rustix::process::Pid::from_raw(i32::try_from(pid).unwrap()).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
    terminal.expect("restored after 0");
    let mut terminal = open();
    terminal.keys("exit 5\r");
    terminal.expect("restored after 5");
    platform.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_terminal_is_told_so() {
    let platform = Platform::start_with(Agent::Missing, &[]).await;
    with_box(&platform).await;
    let (code, out, stderr) = platform.feed(&["shell", "box"], b"echo hi\n".to_vec()).await;
    assert_eq!((code, out), (Some(2), Vec::new()));
    assert!(stderr.contains("wants a terminal") && stderr.contains("rclaude exec"), "{stderr}");
    let mut nothing = shell(&platform, &["--read-only"]);
    nothing.expect("no terminal runs in box");
    assert_eq!(nothing.end().0, Some(4));
    let mut wrong = shell(&platform, &["--", "no-such-program"]);
    wrong.expect("no such program: no-such-program");
    assert_eq!(wrong.end().0, Some(4));
    let mut other = Terminal::open(&platform.cli(&["shell", "box", "--detach-keys", "ctrl-]"]), 80);
    other.expect("ctrl-] leaves it running");
    other.keys("echo ready $((1+1))\r");
    other.expect("ready 2");
    other.keys("\x1d");
    assert_eq!(other.end().0, Some(0));
    platform.end().await;
}
