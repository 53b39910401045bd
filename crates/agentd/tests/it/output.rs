//! The journal: read from anywhere, by anyone, at any speed, also after the daemon's death.

use std::time::Duration;

use futures::StreamExt;
use rclaude_sandbox::agentd::{Output, OutputFrom};
use rclaude_types::{
    ErrorCode, ExecId,
    agentd::{ProcessState, Stdin},
};

use crate::harness::{Daemon, all, command, run, sh};

#[tokio::test]
async fn output_taken_up_from_any_offset_is_exact() {
    let daemon = Daemon::start();
    let client = daemon.client().await;
    let id = ExecId::generate();
    let script = "i=0; while [ $i -lt 20000 ]; do echo line $i; i=$((i+1)); done; echo err >&2";
    let whole = all(client.run(&id, &sh(script)).await.unwrap()).await;
    let want: String = (0..20_000).map(|n| format!("line {n}\n")).collect();
    assert!(whole.stdout == want.as_bytes());
    for stdout in [0, 1, 65_535, 65_536, 65_537, 100_000, whole.end.stdout_bytes] {
        for follow in [false, true] {
            let from = OutputFrom { stdout, stderr: 2, follow };
            let rest = all(client.output(&id, from).await.unwrap()).await;
            assert!(rest.stdout == want.as_bytes()[usize::try_from(stdout).unwrap()..]);
            assert_eq!((rest.stderr, rest.end), (b"r\n".to_vec(), whole.end.clone()));
        }
    }
    let beyond = OutputFrom { stdout: whole.end.stdout_bytes + 1, ..OutputFrom::default() };
    let error = client.output(&id, beyond).await.unwrap_err();
    assert_eq!(error.problem().unwrap().code, ErrorCode::Conflict);
}

#[tokio::test]
async fn reading_without_following_stops_at_what_there_is() {
    let daemon = Daemon::start();
    let client = daemon.client().await;
    let id = ExecId::generate();
    let mut spec = command(&["cat"]);
    spec.stdin = Stdin::Open;
    client.start(&id, &spec).await.unwrap();
    let printed = all(client.output(&id, OutputFrom::default()).await.unwrap()).await;
    assert!(matches!(printed.end.state, ProcessState::Running { .. }));
    assert_eq!(printed.stdout, b"");
}

#[tokio::test]
async fn a_stalled_reader_holds_up_neither_process_nor_readers_nor_memory() {
    const SIZE: u64 = 100_000_000;
    let daemon = Daemon::start();
    let client = daemon.client().await;
    let id = ExecId::generate();
    let spec = sh(&format!("head -c {SIZE} /dev/zero"));
    let mut stalled = client.run(&id, &spec).await.unwrap();
    assert!(matches!(stalled.next().await, Some(Ok(Output::Stdout { offset: 0, .. }))));
    let from = OutputFrom { follow: true, ..OutputFrom::default() };
    let mut reader = client.output(&id, from).await.unwrap();
    let mut total = 0;
    while let Some(output) = reader.next().await {
        match output.unwrap() {
            Output::Stdout { offset, bytes } => {
                assert_eq!(offset, total);
                total += bytes.len() as u64;
            }
            Output::Stderr { .. } => panic!("nothing was written there"),
            Output::End(end) => assert_eq!(end.stdout_bytes, SIZE),
        }
    }
    assert_eq!(total, SIZE);
    let peak = memory(daemon.pid(), "VmHWM:");
    assert!(peak < 24_000, "{peak} kB at the peak");
    let mut rest = 0;
    while let Some(output) = stalled.next().await {
        if let Output::Stdout { bytes, .. } = output.unwrap() {
            rest += bytes.len() as u64;
        }
    }
    assert!(rest < SIZE && rest > SIZE - 1_000_000, "{rest}");
}

fn memory(pid: u32, field: &str) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix(field)).unwrap();
    line.split_whitespace().next().unwrap().parse().unwrap()
}

#[tokio::test]
async fn a_new_daemon_serves_the_journals_of_one_that_was_killed() {
    let daemon = Daemon::start();
    let client = daemon.client().await;
    let (over, running) = (ExecId::generate(), ExecId::generate());
    let finished = all(client.run(&over, &sh("echo done; exit 3")).await.unwrap()).await;
    let mut follower = client.run(&running, &sh("echo begun; exec sleep 1000")).await.unwrap();
    let first = follower.next().await.unwrap().unwrap();
    assert!(matches!(first, Output::Stdout { bytes, .. } if bytes == b"begun\n".as_slice()));
    let ProcessState::Running { pid } = client.process(&running).await.unwrap().state else {
        panic!("it runs");
    };
    let directory = daemon.kill();
    assert!(follower.next().await.unwrap().unwrap_err().is_lost());

    let daemon = Daemon::start_in(directory, &[]);
    let client = daemon.client().await;
    let from = OutputFrom { follow: true, ..OutputFrom::default() };
    assert_eq!(all(client.output(&over, from).await.unwrap()).await, finished);
    let lost = all(client.output(&running, from).await.unwrap()).await;
    assert_eq!((lost.stdout, lost.end.state), (b"begun\n".to_vec(), ProcessState::Lost));
    assert_eq!(client.start(&running, &sh("echo again")).await.unwrap(), lost.end);
    assert_eq!(client.processes().await.unwrap().len(), 2);
    // A daemon takes its processes with it.
    for _ in 0..2000 {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        if stat.is_empty() || stat.contains(") Z ") {
            return;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    panic!("process {pid} outlived its daemon");
}

#[tokio::test]
async fn a_full_disk_makes_a_process_wait_and_loses_nothing() {
    // A small disk in a mount namespace of its own; the daemon starts with it in place.
    const DISK: &str = "mount -t tmpfs -o size=2m none \"$0\" && exec \"$@\"";
    let directory = tempfile::tempdir().unwrap();
    let state = directory.path().join("state");
    std::fs::create_dir(&state).unwrap();
    let state = state.to_str().unwrap().to_owned();
    let namespace = ["unshare", "--user", "--map-root-user", "--mount", "/bin/sh", "-c", DISK];
    let wrapper: Vec<&str> = namespace.iter().copied().chain([state.as_str()]).collect();
    let daemon = Daemon::start_in_namespace(directory, &wrapper);
    let client = daemon.client().await;
    let (filler, id) = (ExecId::generate(), ExecId::generate());
    all(client.run(&filler, &command(&["head", "-c", "1000000", "/dev/zero"])).await.unwrap())
        .await;
    let script = "i=0; while [ $i -lt 150000 ]; do echo line $i; i=$((i+1)); done";
    client.start(&id, &sh(script)).await.unwrap();
    while !client.process(&id).await.unwrap().journal_full {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert!(client.health().await.unwrap().journal_full);
    // What prints nothing is still started, so that room can be made, until not even that fits.
    let error = loop {
        match client.start(&ExecId::generate(), &command(&["true"])).await {
            Ok(_) => {}
            Err(error) => break error,
        }
    };
    assert_eq!(error.problem().unwrap().code, ErrorCode::DiskFull);
    client.forget(&filler).await.unwrap();
    // There is still not room for all of it: it waits again. Then the disk grows.
    grow(&daemon, &state);
    let from = OutputFrom { follow: true, ..OutputFrom::default() };
    let printed = all(client.output(&id, from).await.unwrap()).await;
    let want: String = (0..150_000).map(|n| format!("line {n}\n")).collect();
    assert!(printed.stdout == want.as_bytes(), "{} bytes", printed.stdout.len());
    assert!(!printed.end.journal_full);
    assert_eq!(run(&client, &command(&["true"])).await.stdout, b"");
}

fn grow(daemon: &Daemon, state: &str) {
    let pid = daemon.pid().to_string();
    let status = std::process::Command::new("nsenter")
        .args(["--target", &pid, "--user", "--mount", "--preserve-credentials"])
        .args(["mount", "-o", "remount,size=16m", state])
        .status()
        .unwrap();
    assert!(status.success());
}

#[tokio::test]
async fn a_process_that_is_attended_waits_for_its_reader_and_leaves_nothing_behind_on_the_disk() {
    const SIZE: u64 = 100_000_000;
    let daemon = Daemon::start();
    let client = daemon.client().await;
    let id = ExecId::generate();
    let mut spec = sh(&format!("head -c {SIZE} /dev/zero; echo over >&2"));
    spec.attended = true;
    let mut output = client.run(&id, &spec).await.unwrap();
    let Some(Ok(Output::Stdout { bytes, .. })) = output.next().await else { panic!("no output") };
    // It can go no further than what may wait, however long nobody reads.
    let mut before = 0;
    let waiting = loop {
        let now = client.process(&id).await.unwrap().stdout_bytes;
        if now == before {
            break now;
        }
        before = now;
        tokio::time::sleep(Duration::from_millis(100)).await;
    };
    assert!(waiting < 4_000_000, "{waiting} bytes wait for nobody");
    let behind = client.output(&id, OutputFrom { follow: true, ..OutputFrom::default() }).await;
    assert_eq!(behind.unwrap_err().problem().unwrap().code, ErrorCode::Conflict);

    let (mut total, mut errors) = (bytes.len() as u64, Vec::new());
    while let Some(piece) = output.next().await {
        match piece.unwrap() {
            Output::Stdout { offset, bytes } => {
                assert_eq!(offset, total);
                total += bytes.len() as u64;
            }
            Output::Stderr { bytes, .. } => errors.extend_from_slice(&bytes),
            Output::End(end) => {
                assert!(matches!(end.state, ProcessState::Exited { code: Some(0), .. }), "{end:?}");
            }
        }
    }
    assert_eq!((total, errors.as_slice()), (SIZE, &b"over\n"[..]));
    let kept = daemon.directory.path().join(format!("state/processes/{id}.stdout"));
    let blocks = std::os::unix::fs::MetadataExt::blocks(&std::fs::metadata(kept).unwrap()) * 512;
    assert!(blocks < 8_000_000, "{blocks} bytes are kept");
}

#[tokio::test]
async fn a_process_whose_reader_leaves_is_hung_up_on_unless_it_takes_no_notice() {
    let daemon = Daemon::start();
    let client = daemon.client().await;
    let (ordinary, deaf) = (ExecId::generate(), ExecId::generate());
    for (id, script) in [
        (&ordinary, "echo up; sleep 1000"),
        // What it prints is more than may wait: nobody holds it up any more.
        (&deaf, "trap '' HUP; echo up; head -c 5000000 /dev/zero; sleep 0.1; exit 3"),
    ] {
        let mut spec = sh(script);
        spec.attended = true;
        let mut output = client.run(id, &spec).await.unwrap();
        assert!(matches!(output.next().await, Some(Ok(Output::Stdout { .. }))));
    }
    for (id, wanted) in [(&ordinary, (None, Some(1))), (&deaf, (Some(3), None))] {
        let end = loop {
            let info = client.process(id).await.unwrap();
            if let ProcessState::Exited { code, signal, .. } = info.state {
                break (code, signal);
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        };
        assert_eq!(end, wanted);
    }
}
