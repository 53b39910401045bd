//! Keys, the server, its host and the settings.

use rclaude_types::{ApiKey, CreatedKey, HostCheck, ServerStatus};
use serde_json::{Value, json};

use super::{lines, one};
use crate::platform::Platform;

#[tokio::test(flavor = "multi_thread")]
async fn keys_open_the_api_until_they_are_revoked() {
    let platform = Platform::start().await;
    let made = platform.done(&["key", "create", "ci"]).await;
    let secret = made.stdout.trim();
    assert!(secret.starts_with("rck_") && made.stderr.contains("not shown again"), "{made:?}");
    assert_eq!(platform.done(&["ls", "--token", secret]).await.code, Some(0));
    let other: CreatedKey = one(&platform.done(&["key", "create", "deploy", "--json"]).await);
    let keys: Vec<ApiKey> = lines(&platform.done(&["key", "ls", "--json"]).await);
    assert_eq!(keys.len(), 2);
    let table = platform.done(&["key", "ls"]).await.stdout;
    assert!(table.contains("ci") && table.contains("deploy") && !table.contains(secret), "{table}");
    let ci = keys.iter().find(|key| key.name == "ci").unwrap().id.to_string();
    assert!(platform.done(&["key", "revoke", &ci]).await.stderr.contains(&ci));
    let refused = platform.run(&["ls", "--token", secret]).await;
    assert_eq!((refused.code, &*refused.stdout), (Some(5), ""), "{refused:?}");
    assert_eq!(platform.done(&["ls", "--token", &other.secret]).await.code, Some(0));
    let again = platform.run(&["key", "revoke", "key_019a0000000070008000000000000004"]).await;
    assert_eq!(again.code, Some(4), "{again:?}");
    platform.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_server_and_its_host_are_looked_at() {
    let platform = Platform::start().await;
    let status: ServerStatus = one(&platform.done(&["status", "--json"]).await);
    assert_eq!(status.sessions, 0);
    let text = platform.done(&["status"]).await.stdout;
    assert!(text.contains(platform.access().0) && text.contains("isolates"), "{text}");
    let checks: Vec<HostCheck> = lines(&platform.done(&["doctor", "--json"]).await);
    let names: Vec<_> = checks.iter().map(|check| check.name.as_str()).collect();
    assert!(["agent", "git", "server"].iter().all(|name| names.contains(name)), "{names:?}");
    assert!(platform.done(&["doctor"]).await.stdout.contains("✔ server: answers at"));
    let init: Value = one(&platform.done(&["init", "--json"]).await);
    assert!(init["agent"].is_string() && init["checks"].is_array(), "{init}");
    assert!(platform.done(&["init"]).await.stderr.contains("rclaude run --repo ."));
    let list: Vec<Value> = lines(&platform.done(&["config", "list", "--json"]).await);
    let url = list.iter().find(|setting| setting["key"] == "url").unwrap();
    assert_eq!((&url["source"], url["value"].is_string()), (&json!("local server"), true));
    platform.end().await;
}
