//! Shells before a terminal.

use std::{
    fs,
    process::Command,
    time::{Duration, Instant},
};

use super::Ssh;
use crate::{platform::PATIENCE, terminal::Terminal};

#[tokio::test(flavor = "multi_thread")]
async fn a_shell_has_a_terminal_as_large_as_the_window_and_ends_with_it() {
    let ssh = Ssh::start().await;
    let id = ssh.platform.get("box").await.id.to_string();
    let go = ssh.platform.scratch().join("go");
    let mut line = Command::new("sh");
    line.args([
        "-c",
        "(until [ -e \"$0\" ]; do sleep 0.05; done; stty -F /dev/tty cols 77) & exec ssh -F \"$1\" box",
    ]);
    line.arg(&go).arg(&ssh.config);
    let mut terminal = Terminal::open(&ssh.at_home(line), 80);
    terminal.keys("PS1='> '; clear; tty; stty size; echo $TERM $((40+2))\r");
    terminal.expect("/dev/pts/");
    terminal.expect("40 80");
    terminal.expect("xterm-256color 42");
    terminal.keys("trap 'echo now $(stty size)' WINCH; echo trap $((1+1))\r");
    terminal.expect("trap 2");
    fs::write(&go, "").unwrap();
    terminal.expect("now 40 77");
    terminal.keys("sleep 1000\r");
    let started = Instant::now();
    while ssh.platform.processes_of(&id, "sleep").await.is_empty() {
        assert!(started.elapsed() < PATIENCE, "no sleep\n{}", terminal.bytes());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    terminal.keys("\x03");
    terminal.keys("clear; sleep 2000; echo never\r");
    while ssh.platform.processes_of(&id, "sleep").await.is_empty() {
        assert!(started.elapsed() < PATIENCE, "no sleep\n{}", terminal.bytes());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    // The window is closed.
    drop(terminal);
    let started = Instant::now();
    while !ssh.platform.processes_of(&id, "bash").await.is_empty() {
        assert!(started.elapsed() < PATIENCE, "it goes on\n{}", ssh.platform.log());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    ssh.platform.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_command_with_a_terminal_has_its_exit_code_and_all_it_printed() {
    let ssh = Ssh::start().await;
    let line = ssh.program("ssh", &["-t", "box", "test -t 0 && seq 2000 && exit 5"]);
    let terminal = Terminal::open(&line, 80);
    let (code, screen) = terminal.end();
    assert_eq!(code, Some(5), "{screen}");
    let numbers: Vec<u32> = screen.lines().filter_map(|line| line.trim().parse().ok()).collect();
    assert!(numbers == (1..=2000).collect::<Vec<_>>(), "{screen}");
    ssh.platform.end().await;
}
