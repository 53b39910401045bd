//! Starting, feeding, signalling and remembering processes.

use std::time::Duration;

use bytes::Bytes;
use rclaude_sandbox::agentd::{Error, OutputFrom};
use rclaude_types::{
    ErrorCode, ExecId,
    agentd::{ProcessState, Stdin, User},
};

use crate::harness::{Daemon, all, command, run, sh};

fn code(state: ProcessState) -> (Option<i32>, Option<i32>) {
    match state {
        ProcessState::Exited { code, signal, .. } => (code, signal),
        other => panic!("{other:?}"),
    }
}

fn refused(error: &Error) -> ErrorCode {
    error.problem().unwrap_or_else(|| panic!("{error:?}")).code
}

#[tokio::test]
async fn a_command_runs_with_exactly_what_it_was_given() {
    let daemon = Daemon::start();
    let client = daemon.client().await;
    let mut spec = command(&["env"]);
    spec.env.insert("A".to_owned(), "b c\nd".to_owned());
    let printed = run(&client, &spec).await;
    assert_eq!(printed.stdout, b"A=b c\nd\nPATH=/usr/bin:/bin\n");
    let printed = run(&client, &sh("pwd; echo oops >&2; exit 7")).await;
    assert_eq!((printed.stdout, printed.stderr), (b"/\n".to_vec(), b"oops\n".to_vec()));
    assert_eq!(code(printed.end.state), (Some(7), None));
}

#[tokio::test]
async fn a_process_is_the_agent_and_nothing_more() {
    let daemon = Daemon::start();
    let client = daemon.client().await;
    let printed = run(&client, &command(&["cat", "/proc/self/status"])).await;
    let status = String::from_utf8(printed.stdout).unwrap();
    let field = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap();
        line.split_whitespace().collect::<Vec<_>>().join(" ")
    };
    for capabilities in ["CapInh:", "CapPrm:", "CapEff:", "CapAmb:"] {
        assert_eq!(field(capabilities), "0000000000000000", "{capabilities}");
    }
    assert_eq!(field("NoNewPrivs:"), "1");
    assert_eq!(field("SigBlk:"), "0000000000000000");
    if rustix_is_root() {
        assert_eq!(field("Uid:"), "1000 1000 1000 1000");
        assert_eq!(field("Gid:"), "1000 1000 1000 1000");
        assert_eq!(field("Groups:"), "");
        assert_eq!(field("CapBnd:"), "0000000000000000");
    }
    let printed = run(&client, &sh("ls /proc/self/fd | wc -l; echo again > /dev/stderr")).await;
    assert_eq!(printed.stdout, b"4\n", "0, 1, 2 and the directory being listed");
    assert_eq!(printed.stderr, b"again\n", "its pipes are its own to open again");
}

fn rustix_is_root() -> bool {
    use std::os::unix::fs::MetadataExt;
    std::fs::metadata("/proc/self").unwrap().uid() == 0
}

#[tokio::test]
async fn a_repeated_start_adopts_the_first() {
    let daemon = Daemon::start();
    let client = daemon.client().await;
    let id = ExecId::generate();
    let path = daemon.path("count");
    let spec = sh(&format!("echo started >> {}; sleep 0.2", path.display()));
    let first = client.start(&id, &spec).await.unwrap();
    let second = client.start(&id, &spec).await.unwrap();
    assert_eq!(first, second);
    let followed = all(client.run(&id, &spec).await.unwrap()).await;
    assert_eq!(code(followed.end.state), (Some(0), None));
    assert_eq!(client.start(&id, &spec).await.unwrap(), followed.end);
    assert_eq!(std::fs::read_to_string(path).unwrap(), "started\n");
}

#[tokio::test]
async fn what_cannot_be_run_is_refused_with_the_reason() {
    let daemon = Daemon::start();
    let client = daemon.client().await;
    let text = daemon.path("text");
    std::fs::write(&text, "no program").unwrap();
    let mut nowhere = command(&["true"]);
    nowhere.cwd = "/nonexistent".to_owned();
    let mut root = command(&["true"]);
    root.user = User::Root;
    for (spec, want, word) in [
        (command(&["no-such-program"]), ErrorCode::FileNotFound, "no-such-program"),
        (command(&["/no/such/program"]), ErrorCode::FileNotFound, "/no/such/program"),
        (command(&[text.to_str().unwrap()]), ErrorCode::Forbidden, "ermission denied"),
        (nowhere, ErrorCode::FileNotFound, "/nonexistent"),
        (root, ErrorCode::Forbidden, "root"),
        (command(&[]), ErrorCode::InvalidRequest, "argv"),
        (command(&["a\0b"]), ErrorCode::InvalidRequest, "NUL"),
    ] {
        let id = ExecId::generate();
        let error = client.start(&id, &spec).await.unwrap_err();
        assert_eq!(refused(&error), want, "{error}");
        assert!(error.to_string().contains(word), "{error}");
        assert_eq!(refused(&client.process(&id).await.unwrap_err()), ErrorCode::ExecNotFound);
    }
}

#[tokio::test]
async fn input_sent_again_is_applied_once_and_a_gap_is_refused() {
    let daemon = Daemon::start();
    let client = daemon.client().await;
    let id = ExecId::generate();
    let mut spec = command(&["cat"]);
    spec.stdin = Stdin::Open;
    client.start(&id, &spec).await.unwrap();
    let send = |offset, text: &'static str, close| {
        client.stdin(&id, offset, Bytes::from_static(text.as_bytes()), close)
    };
    assert_eq!(send(0, "hello ", false).await.unwrap().accepted, 6);
    assert_eq!(send(0, "hello ", false).await.unwrap().accepted, 6);
    assert_eq!(send(3, "lo world", false).await.unwrap().accepted, 11);
    assert!(matches!(send(12, "x", false).await, Err(Error::StdinGap { expected: 11 })));
    let last = send(0, "hello world\n", true).await.unwrap();
    assert_eq!((last.accepted, last.closed), (12, true));
    let from = OutputFrom { follow: true, ..OutputFrom::default() };
    let printed = all(client.output(&id, from).await.unwrap()).await;
    assert_eq!(printed.stdout, b"hello world\n");
    assert_eq!(printed.end.stdin_accepted, 12);
    assert_eq!(refused(&send(12, "more", false).await.unwrap_err()), ErrorCode::Conflict);
}

#[tokio::test]
async fn input_that_is_not_read_waits_and_is_counted_when_given_up() {
    let daemon = Daemon::start();
    let client = daemon.client().await;
    let id = ExecId::generate();
    let gate = daemon.path("gate");
    let mut spec =
        sh(&format!("until test -e {}; do sleep 0.01; done; cat | wc -c", gate.display()));
    spec.stdin = Stdin::Open;
    client.start(&id, &spec).await.unwrap();
    let data = Bytes::from(vec![b'x'; 1_000_000]);
    let waiting = client.stdin(&id, 0, data.clone(), true);
    assert!(tokio::time::timeout(Duration::from_millis(300), waiting).await.is_err());
    let taken = client.process(&id).await.unwrap().stdin_accepted;
    assert!(taken > 0 && taken < 1_000_000, "{taken}");
    std::fs::write(gate, "").unwrap();
    assert_eq!(client.stdin(&id, 0, data, true).await.unwrap().accepted, 1_000_000);
    let from = OutputFrom { follow: true, ..OutputFrom::default() };
    let printed = all(client.output(&id, from).await.unwrap()).await;
    assert_eq!(printed.stdout, b"1000000\n");
}

#[tokio::test]
async fn a_signal_reaches_the_grandchildren() {
    let daemon = Daemon::start();
    let client = daemon.client().await;
    let id = ExecId::generate();
    let pids = daemon.path("pids");
    let script = format!("sleep 1000 & echo $! >> {0}; (sleep 1000) & wait", pids.display());
    client.start(&id, &sh(&script)).await.unwrap();
    let grandchild = loop {
        match std::fs::read_to_string(&pids) {
            Ok(text) if text.ends_with('\n') => break text.trim().to_owned(),
            _ => tokio::time::sleep(Duration::from_millis(5)).await,
        }
    };
    client.signal(&id, 15).await.unwrap();
    let from = OutputFrom { follow: true, ..OutputFrom::default() };
    let printed = all(client.output(&id, from).await.unwrap()).await;
    assert_eq!(code(printed.end.state), (None, Some(15)));
    gone(&grandchild).await;
    assert_eq!(refused(&client.signal(&id, 15).await.unwrap_err()), ErrorCode::Conflict);
}

#[tokio::test]
async fn time_that_is_up_ends_even_what_ignores_the_request() {
    let daemon = Daemon::start();
    let client = daemon.client().await;
    let mut spec = sh("trap '' TERM; while :; do sleep 0.1; done");
    spec.timeout_seconds = Some(1);
    let printed = run(&client, &spec).await;
    match printed.end.state {
        ProcessState::Exited { signal: Some(9), timed_out: true, .. } => {}
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn what_stays_in_the_background_does_not_hold_up_the_end() {
    let daemon = Daemon::start();
    let client = daemon.client().await;
    let printed = run(&client, &sh("sleep 1000 & echo $!")).await;
    assert_eq!(code(printed.end.state), (Some(0), None));
    let pid: i32 = String::from_utf8(printed.stdout).unwrap().trim().parse().unwrap();
    let killed = run(&client, &command(&["kill", "-9", &pid.to_string()])).await;
    assert_eq!(code(killed.end.state), (Some(0), None));
    gone(&pid.to_string()).await;
}

#[tokio::test]
async fn two_hundred_commands_at_once_all_come_to_their_end() {
    let daemon = Daemon::start();
    let client = daemon.client().await;
    let runs = (0..200).map(|n| {
        let client = client.clone();
        async move { run(&client, &sh(&format!("echo {n}; exit {}", n % 100))).await }
    });
    for (n, printed) in futures::future::join_all(runs).await.into_iter().enumerate() {
        assert_eq!(printed.stdout, format!("{n}\n").into_bytes());
        assert_eq!(code(printed.end.state), (Some(i32::try_from(n % 100).unwrap()), None));
    }
    assert_eq!(client.processes().await.unwrap().len(), 200);
    assert_eq!(client.health().await.unwrap().running, 0);
}

#[tokio::test]
async fn a_running_process_cannot_be_forgotten_and_one_that_is_over_can() {
    let daemon = Daemon::start();
    let client = daemon.client().await;
    let id = ExecId::generate();
    client.start(&id, &command(&["sleep", "1000"])).await.unwrap();
    assert_eq!(refused(&client.forget(&id).await.unwrap_err()), ErrorCode::Conflict);
    client.signal(&id, 9).await.unwrap();
    let from = OutputFrom { follow: true, ..OutputFrom::default() };
    all(client.output(&id, from).await.unwrap()).await;
    client.forget(&id).await.unwrap();
    client.forget(&id).await.unwrap();
    assert_eq!(client.processes().await.unwrap(), []);
    let journals = daemon.directory.path().join("state/processes");
    // The log alone: it has no files of a process any more.
    assert_eq!(std::fs::read_dir(journals).unwrap().count(), 1);
}

/// Waits until there is no such process, or nothing of it but its name.
async fn gone(pid: &str) {
    for _ in 0..2000 {
        match std::fs::read_to_string(format!("/proc/{pid}/stat")) {
            Ok(stat) if !stat.contains(") Z ") => {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            _ => return,
        }
    }
    panic!("process {pid} is still there");
}
