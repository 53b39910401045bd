//! What the client does by itself, without a server.

use std::{net::TcpListener, process::Stdio};

use crate::support::{Home, Ran};

/// A port on which nobody listens.
fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

#[test]
fn without_a_server_every_verb_says_so_and_how_to_get_one() {
    let home = Home::new();
    let url = format!("http://127.0.0.1:{}", free_port());
    for verb in [
        &["ls"][..],
        &["status"],
        &["show", "x"],
        &["run", "hi"],
        &["start"],
        &["send", "x", "hi"],
        &["attach", "x"],
        &["logs", "x"],
        &["interrupt", "x"],
        &["approve", "x"],
        &["deny", "x"],
        &["exec", "x", "--", "true"],
        &["diff", "x"],
        &["stop", "x"],
        &["pause", "x"],
        &["resume", "x"],
        &["set", "x", "--idle", "5m"],
        &["checkpoint", "x"],
        &["checkpoints", "x"],
        &["rewind", "x"],
        &["fork", "x"],
        &["rm", "-f", "x"],
        &["key", "ls"],
    ] {
        let ran = home.run(&[&["--url", &url][..], verb].concat());
        assert_eq!((ran.code, ran.stdout.as_str()), (Some(3), ""), "{verb:?}: {ran:?}");
        assert!(ran.stderr.contains(&url) && ran.stderr.contains("rclaude serve"), "{ran:?}");
    }
}

#[test]
fn with_json_a_failure_is_one_object_on_standard_error() {
    let home = Home::new();
    let url = format!("http://127.0.0.1:{}", free_port());
    let ran = home.run(&["ls", "--json", "--url", &url]);
    let failure: serde_json::Value = serde_json::from_str(&ran.stderr).unwrap();
    assert_eq!(failure["code"], "server_unreachable");
    assert_eq!((ran.code, ran.stdout.as_str()), (Some(3), ""));
}

#[test]
fn what_cannot_be_understood_ends_with_two_and_a_usage() {
    let home = Home::new();
    for wrong in [&["run"][..], &["frobnicate"], &["run", "--memory", "4096", "hi"], &["ls", "x"]] {
        let ran = home.run(wrong);
        assert_eq!((ran.code, ran.stdout.as_str()), (Some(2), ""), "{wrong:?}: {ran:?}");
    }
    let ran = home.run(&["run", "--url", "nowhere", "hi"]);
    assert_eq!(ran.code, Some(2), "{ran:?}");
    assert!(ran.stderr.contains("url (from flag)"), "{ran:?}");
}

#[test]
fn help_and_version_go_to_standard_output() {
    let home = Home::new();
    let help = home.run(&["--help"]);
    assert_eq!(help.code, Some(0));
    assert!(help.stdout.contains("Exit codes:") && !help.stdout.contains("__supervisor"));
    let version = home.run(&["--version"]);
    assert!(version.stdout.starts_with(concat!("rclaude ", env!("CARGO_PKG_VERSION"))));
}

#[test]
fn every_shell_gets_its_completions() {
    let home = Home::new();
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let ran = home.run(&["completions", shell]);
        assert_eq!(ran.code, Some(0));
        assert!(ran.stdout.contains("attach") && ran.stdout.contains("start-server"), "{shell}");
    }
    let script = home.run(&["completions", "bash"]).stdout;
    let checked = std::process::Command::new("bash").args(["-n", "-c", &script]).status().unwrap();
    assert!(checked.success(), "bash understands it");
}

#[test]
fn a_setting_is_kept_until_it_is_taken_out() {
    let home = Home::new();
    let get = || home.run(&["config", "get", "model"]);
    assert_eq!((get().code, get().stdout.as_str()), (Some(1), ""));
    assert_eq!(home.run(&["config", "set", "model", "opus"]).code, Some(0));
    assert_eq!((get().code, get().stdout.as_str()), (Some(0), "opus\n"));
    let ran: Ran = home
        .rclaude(&["config", "get", "model", "--json"])
        .env("RCLAUDE_MODEL", "sonnet")
        .output()
        .unwrap()
        .into();
    let setting: serde_json::Value = serde_json::from_str(&ran.stdout).unwrap();
    assert_eq!(
        (&setting["value"], &setting["source"]),
        (&"sonnet".into(), &"RCLAUDE_MODEL".into())
    );
    assert_eq!(home.run(&["config", "unset", "model"]).code, Some(0));
    assert_eq!(get().code, Some(1));
}

#[test]
fn wrong_settings_are_refused_and_tokens_are_not_shown() {
    let home = Home::new();
    let unknown = home.run(&["config", "set", "colour", "red"]);
    assert_eq!(unknown.code, Some(2));
    assert!(unknown.stderr.contains("permission_mode"), "{unknown:?}");
    assert_eq!(home.run(&["config", "set", "memory", "lots"]).code, Some(2));
    assert_eq!(home.run(&["config", "set", "token", "rck_very_secret_indeed"]).code, Some(0));
    let list = home.run(&["config", "list"]);
    assert!(list.stdout.contains("memory") && !list.stdout.contains("indeed"), "{list:?}");
}

#[test]
fn removing_without_a_terminal_wants_force() {
    let ran = Home::new().run(&["rm", "x"]);
    assert_eq!(ran.code, Some(2));
    assert!(ran.stderr.contains("--force"), "{ran:?}");
}

#[test]
fn a_directory_that_is_no_repository_is_refused_before_a_session_is_made() {
    let home = Home::new();
    // Somebody listens, so that we get as far as looking at the directory.
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let ran = home.run(&["run", "--url", &url, "--repo", ".", "hi"]);
    assert_eq!(ran.code, Some(2), "{ran:?}");
    assert!(ran.stderr.contains("git init"), "{ran:?}");
}

#[test]
fn a_reader_that_stops_reading_ends_us_quietly() {
    let home = Home::new();
    let mut child = home
        .rclaude(&["completions", "zsh"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    let ran = Ran::from(child.wait_with_output().unwrap());
    assert_eq!(ran.stderr, "");
    // A small script may have been written before the pipe was closed.
    assert!(matches!(ran.code, Some(0 | 141)), "{ran:?}");
}
