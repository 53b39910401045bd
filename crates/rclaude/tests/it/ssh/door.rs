//! Who is let in.

use std::{fs, os::unix::fs::PermissionsExt, process::Command};

use serde_json::json;

use super::{Ssh, output, text};
use crate::support::Home;

#[tokio::test(flavor = "multi_thread")]
async fn a_key_that_is_not_known_or_was_removed_opens_nothing_and_no_password_is_asked_for() {
    let ssh = Ssh::start().await;
    let here = ssh.platform.scratch();
    let mut keygen = Command::new("ssh-keygen");
    keygen.args(["-q", "-t", "ecdsa", "-N", "", "-f", "other"]);
    assert!(output(ssh.at_home(keygen)).await.status.success());
    // As the config has it, but with another key.
    let config = fs::read_to_string(&ssh.config).unwrap();
    let other = config.replace(".config/rclaude/ssh/id_ed25519", "other");
    fs::write(here.join("other_config"), other.replace("PreferredAuthentications publickey", ""))
        .unwrap();
    let mut command = Command::new("ssh");
    command.args(["-F", "other_config", "box", "true"]);
    let refused = output(ssh.at_home(command)).await;
    assert_eq!(refused.status.code(), Some(255));
    assert!(text(&refused.stderr).contains("Permission denied (publickey)"), "{refused:?}");
    assert!(ssh.platform.log().contains("key was refused"), "{}", ssh.platform.log());

    let added = ssh.platform.run(&["ssh-key", "add", "other.pub", "--name", "me", "--json"]).await;
    assert_eq!(added.code, Some(0), "{added:?}");
    let key: serde_json::Value = serde_json::from_str(&added.stdout).unwrap();
    let mut command = Command::new("ssh");
    command.args(["-F", "other_config", "box", "echo in; sleep 1000"]);
    let mut child = ssh.at_home(command).spawn().unwrap();
    let mut said = [0; 3];
    std::io::Read::read_exact(child.stdout.as_mut().unwrap(), &mut said).unwrap();
    let list = ssh.platform.run(&["ssh-key", "ls"]).await.stdout;
    assert!(list.contains("me") && list.contains("used"), "{list}");

    // Removed while it is connected, it is cut off.
    let removed = ssh.platform.run(&["ssh-key", "rm", key["id"].as_str().unwrap()]).await;
    assert_eq!(removed.code, Some(0), "{removed:?}");
    let ended = tokio::task::spawn_blocking(|| child.wait_with_output().unwrap()).await.unwrap();
    assert_eq!(ended.status.code(), Some(255), "{ended:?}");
    assert!(text(&ended.stderr).contains("the key was removed"), "{ended:?}");
    let again = ssh.platform.run(&["ssh-key", "rm", key["id"].as_str().unwrap()]).await;
    assert_eq!(again.code, Some(4), "{again:?}");
    ssh.ok("true").await;

    let private = ssh.platform.run(&["ssh-key", "add", "other"]).await;
    assert_eq!(private.code, Some(2), "{private:?}");
    assert!(private.stderr.contains("private key"), "{private:?}");
    ssh.platform.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_that_is_not_there_is_said_to_whoever_has_a_key() {
    let ssh = Ssh::start().await;
    let refused = output(ssh.program("ssh", &["-l", "nobody", "box", "true"])).await;
    assert_eq!(refused.status.code(), Some(255));
    assert!(text(&refused.stderr).contains("nobody"), "{refused:?}");
    let by_name = output(ssh.program("ssh", &["-l", "box", "box", "echo here"])).await;
    assert_eq!(text(&by_name.stdout), "here\n", "{by_name:?}");
    let missing = ssh.platform.run(&["ssh-config", "nobody"]).await;
    assert_eq!(missing.code, Some(4), "{missing:?}");
    // A server's key that is another than the one that was pinned is no server of ours.
    let known = ssh.platform.scratch().join(".config/rclaude/ssh/known_hosts");
    let pinned = fs::read_to_string(&known).unwrap();
    let other = rclaude_server::ssh::new_identity("x").unwrap().public;
    let alias = pinned.split(' ').next().unwrap();
    fs::write(&known, format!("{alias} {other}\n")).unwrap();
    let refused = ssh.run("true").await;
    assert_eq!(refused.status.code(), Some(255));
    assert!(text(&refused.stderr).contains("HOST IDENTIFICATION HAS CHANGED"), "{refused:?}");
    ssh.platform.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_door_is_shown_and_its_keys_are_for_their_owners_alone() {
    let ssh = Ssh::start().await;
    let status = ssh.platform.ok("GET", "/v1/status", None).await;
    let mut keygen = Command::new("ssh-keygen");
    let host_key = ssh.platform.data().join("ssh_host_ed25519_key");
    keygen.arg("-lf").arg(&host_key);
    let shown = text(&output(ssh.at_home(keygen)).await.stdout);
    assert!(shown.contains(status["ssh"]["fingerprint"].as_str().unwrap()), "{shown} {status}");
    let told = ssh.platform.run(&["status"]).await.stdout;
    assert!(told.contains(status["ssh"]["fingerprint"].as_str().unwrap()), "{told}");
    let identity = ssh.platform.scratch().join(".config/rclaude/ssh/id_ed25519");
    for file in [host_key, identity] {
        assert_eq!(fs::metadata(file).unwrap().permissions().mode() & 0o777, 0o600);
    }
    let rsa = json!({"public_key": "ssh-rsa AAAAB3NzaC1yc2EAAAADAQABAAAAgQC7"});
    let (code, problem) = ssh.platform.call("POST", "/v1/ssh-keys", Some(rsa)).await;
    assert_eq!((code, problem["code"].as_str()), (400, Some("invalid_request")), "{problem}");
    ssh.platform.end().await;
}

#[test]
fn a_server_is_reached_from_elsewhere_only_where_its_flag_says_so() {
    let home = Home::new();
    let refused = home.run(&["config", "set", "ssh", "0.0.0.0:2222"]);
    assert_eq!(refused.code, Some(2), "{refused:?}");
    assert!(refused.stderr.contains("rclaude serve --ssh"), "{refused:?}");
    assert_eq!(home.run(&["config", "set", "ssh", "127.0.0.1:0"]).code, Some(0));
}
