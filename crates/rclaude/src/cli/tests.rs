//! The command line as a whole: what is understood and what is refused.

use clap::{CommandFactory, Parser};
use rclaude_types::Session;

use super::{Cli, Command};

/// A session as the API shows it.
pub(crate) fn session() -> Session {
    serde_json::from_value(serde_json::json!({
        "id": "ses_019a0000000070008000000000000001",
        "name": "brave-otter",
        "status": "awaiting_input",
        "desired": "running",
        "phase": "running",
        "sandbox": "sbx_019a0000000070008000000000000002",
        "repository": { "url": "https://github.com/acme/shop.git", "include_uncommitted": false },
        "base_commit": "0f3c",
        "branch": "rclaude/brave-otter",
        "agent": "claude_code",
        "permission_mode": "acceptEdits",
        "env": ["CI"],
        "resources": { "cpu_millis": 1500, "memory_mib": 4096, "pids": 2048 },
        "template": "host",
        "allow_root": false,
        "labels": { "team": "core" },
        "current_turn": {
            "id": "trn_019a0000000070008000000000000003",
            "session": "ses_019a0000000070008000000000000001",
            "number": 2,
            "text": "make it fast\nplease",
            "state": "awaiting_input",
            "created_at": "2026-11-21T07:00:00Z"
        },
        "pending_approvals": [{
            "id": "apr_019a0000000070008000000000000004",
            "session": "ses_019a0000000070008000000000000001",
            "kind": "permission",
            "state": "pending",
            "tool": "Bash",
            "title": "Run `cargo bench`",
            "input": { "command": "cargo bench" },
            "can_always": true,
            "created_at": "2026-11-21T07:01:00Z"
        }],
        "cost": 123_456,
        "last_seq": 42,
        "created_at": "2026-11-21T06:00:00Z",
        "updated_at": "2026-11-21T07:01:00Z"
    }))
    .unwrap()
}

fn parse(line: &str) -> Result<Command, String> {
    Cli::try_parse_from(line.split_whitespace())
        .map(|cli| cli.command)
        .map_err(|error| error.to_string())
}

#[test]
fn the_definition_is_sound() {
    Cli::command().debug_assert();
}

#[test]
fn every_verb_understands_its_usual_form() {
    for line in [
        "rclaude init",
        "rclaude serve --listen 127.0.0.1:0 --data-dir /tmp/x",
        "rclaude serve --log rclaude-server=debug,info --log-json",
        "rclaude run --repo . --branch main --name fix --model opus -e A=b --cpu 0.5 --memory 4G hi",
        "rclaude run --repo . --include-uncommitted --yolo --json -",
        "rclaude run --repo acme/shop --no-include-uncommitted --permission-mode plan hi",
        "rclaude start --template host --allow-root --label team=core",
        "rclaude send fix hello --steer --detach",
        "rclaude attach fix",
        "rclaude logs fix --follow --after 12 --raw",
        "rclaude interrupt fix",
        "rclaude approve fix",
        "rclaude approve fix apr_019a0000000070008000000000000004 --always",
        "rclaude approve fix --answer Colour?=red",
        "rclaude deny fix --message no --interrupt",
        "rclaude exec fix --root --cwd /tmp --env A=b -i --timeout 5m -- ls -la",
        "rclaude exec fix -- rclaude --json",
        "rclaude shell fix",
        "rclaude shell fix --new --root -C /tmp -e A=b --detach-keys ctrl-p,ctrl-q -- vim x",
        "rclaude shell fix --read-only --terminal trm_019a0000000070008000000000000004",
        "rclaude ssh-config fix other",
        "rclaude ssh-key add ~/.ssh/id_ed25519.pub --name me",
        "rclaude ssh-key ls",
        "rclaude ssh-key rm ssk_019a0000000070008000000000000004",
        "rclaude serve --ssh 127.0.0.1:0",
        "rclaude ports fix",
        "rclaude forward fix 3000 5173:8080 9000:0",
        "rclaude open fix 3000 --for 2h --print",
        "rclaude diff fix --stat",
        "rclaude ls --all --label a=b --json",
        "rclaude --json show fix",
        "rclaude status",
        "rclaude stop one two",
        "rclaude pause fix other",
        "rclaude pause fix --hibernate",
        "rclaude pause fix --archive",
        "rclaude resume fix",
        "rclaude set fix --idle never --ttl 3d --freeze-busy=false --model opus",
        "rclaude checkpoint fix -m before",
        "rclaude checkpoints fix --all",
        "rclaude rewind fix",
        "rclaude rewind fix --to ckp_019a --files",
        "rclaude rewind fix --turns 3 --conversation",
        "rclaude fork fix --at 019a -n 3 --prompt hi --agent-model opus --name other",
        "rclaude run --idle 5m --keep-alive 4h --ttl 2d --max-hours 8 --checkpoint-every 5m hi",
        "rclaude start --freeze-busy --on-interrupted offer --setup make",
        "rclaude serve --idle never --hibernate-after 1h --archive-after 7d --max-sessions 10",
        "rclaude serve --checkpoint-every 1m --keep-checkpoints 5",
        "rclaude rm -f fix",
        "rclaude rm -rf fix:target fix:a:b",
        "rclaude ls fix:",
        "rclaude ls -lR fix:src --json",
        "rclaude cp -rp src fix:src",
        "rclaude cp fix:a fix:b other:",
        "rclaude cp - fix:notes",
        "rclaude cat fix:a fix:/etc/hosts",
        "rclaude mv fix:a fix:b",
        "rclaude mkdir fix:a/b",
        "rclaude edit fix:notes",
        "rclaude key create ci",
        "rclaude key ls",
        "rclaude key revoke key_019a0000000070008000000000000004",
        "rclaude config get url",
        "rclaude config set model opus",
        "rclaude config list",
        "rclaude doctor",
        "rclaude init --from agent.tgz --quiet",
        "rclaude serve --emulator",
        "rclaude emulator --write-demo /tmp/x",
        "rclaude completions zsh",
        "rclaude emulator --listen 127.0.0.1:0",
        "rclaude __supervisor --dir /x",
    ] {
        assert!(parse(line).is_ok(), "{line}: {}", parse(line).unwrap_err());
    }
}

#[test]
fn what_cannot_be_meant_is_refused() {
    for line in [
        "rclaude",
        "rclaude run",
        "rclaude run --yolo --permission-mode plan hi",
        "rclaude run --branch main hi",
        "rclaude run --include-uncommitted hi",
        "rclaude run --include-uncommitted --no-include-uncommitted --repo . hi",
        "rclaude run --memory 4096 hi",
        "rclaude run --cpu lots hi",
        "rclaude run --name Fix hi",
        "rclaude run --env novalue hi",
        "rclaude start hi",
        "rclaude exec fix",
        "rclaude shell",
        "rclaude shell fix ls",
        "rclaude shell fix --read-only --new",
        "rclaude shell fix --terminal trm_1",
        "rclaude shell fix --detach-keys nothing",
        "rclaude ports",
        "rclaude forward fix",
        "rclaude forward fix 0",
        "rclaude forward fix 3000:x",
        "rclaude open fix 3000 --for 60d",
        "rclaude open fix 0",
        "rclaude exec fix ls",
        "rclaude exec fix -i -n -- ls",
        "rclaude diff fix --stat --patch",
        "rclaude approve fix not-an-id",
        "rclaude approve fix --input {oops",
        "rclaude logs fix --after -1",
        "rclaude stop",
        "rclaude serve --listen nowhere",
        "rclaude serve --llm-url ftp://x",
        "rclaude serve --forge nowhere",
        "rclaude serve --emulator --llm-url http://x",
        "rclaude serve --keep-checkpoints 0",
        "rclaude pause",
        "rclaude pause fix --hibernate --archive",
        "rclaude rewind fix --to ckp_019a --turns 1",
        "rclaude rewind fix --turns 0",
        "rclaude rewind fix --files --conversation",
        "rclaude fork fix -n 0",
        "rclaude fork fix --detach",
        "rclaude set fix --idle soon",
        "rclaude set fix --on-interrupted stop",
        "rclaude completions tcsh",
    ] {
        assert!(parse(line).is_err(), "{line} was understood");
    }
}

#[test]
fn a_command_keeps_its_own_flags() {
    let cli = Cli::try_parse_from("rclaude exec fix -- ls --json -v".split_whitespace()).unwrap();
    assert!(!cli.global.json && !cli.global.verbose);
}
