//! How the binary is started.

use std::collections::BTreeMap;

use super::json;
use crate::agent::{Launch, Program};

/// What a session's own environment may change.
const DEFAULTS: &[(&str, &str)] = &[
    ("HOME", "/home/agent"),
    ("LANG", "C.UTF-8"),
    ("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"),
    // Without a shell it knows, the Bash tool refuses to work.
    ("SHELL", "/bin/bash"),
    ("TERM", "xterm-256color"),
    ("USER", "agent"),
    // The default of 10 keeps a dead gateway secret for three minutes; the gateway retries
    // upstream itself.
    ("CLAUDE_CODE_MAX_RETRIES", "4"),
];

/// What this adapter relies on.
const FIXED: &[(&str, &str)] = &[
    // Telemetry, surveys and update checks go to their vendor past the gateway otherwise.
    ("CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC", "1"),
    ("DISABLE_AUTOUPDATER", "1"),
    // `session_state_changed`: the only reliable word for "waits for a prompt".
    ("CLAUDE_CODE_EMIT_SESSION_STATE_EVENTS", "1"),
    // Lets a session that may use its sandbox's root bypass permissions; must be exactly `1`.
    ("IS_SANDBOX", "1"),
];

/// Makes `--resume` alone run a turn again that was cut short.
const CONTINUE: &str = "CLAUDE_CODE_RESUME_INTERRUPTED_TURN";

/// Variables of other ways to authenticate, which win over the gateway's token when present.
const FOREIGN: &[&str] = &[
    "ANTHROPIC_API_KEY",
    "ANTHROPIC_UNIX_SOCKET",
    "CLAUDE_CODE_OAUTH_TOKEN",
    "CLAUDE_CODE_USE_BEDROCK",
    "CLAUDE_CODE_USE_FOUNDRY",
    "CLAUDE_CODE_USE_VERTEX",
];

/// The program for a launch.
pub(super) fn program(launch: &Launch) -> Program {
    let mut argv: Vec<String> = [
        &*launch.binary,
        "-p",
        "--input-format",
        "stream-json",
        "--output-format",
        "stream-json",
        // Demanded by stream-json output.
        "--verbose",
        "--include-partial-messages",
        "--forward-subagent-text",
        // Sends what it would ask a person to us, as `can_use_tool`.
        "--permission-prompt-tool",
        "stdio",
        // Lets the mode be switched to bypassPermissions while it runs.
        "--allow-dangerously-skip-permissions",
        "--permission-mode",
        json::mode_word(launch.permission_mode),
    ]
    .map(str::to_owned)
    .into();
    let mut option = |name: &str, value: &str| argv.extend([name.to_owned(), value.to_owned()]);
    if let Some(model) = &launch.model {
        option("--model", model);
    }
    if let Some(prompt) = &launch.append_system_prompt {
        option("--append-system-prompt", prompt);
    }
    option(
        if launch.resume { "--resume" } else { "--session-id" },
        &launch.agent_session.hyphenated().to_string(),
    );

    let owned = |pairs: &[(&str, &str)]| -> BTreeMap<String, String> {
        pairs.iter().map(|&(name, value)| (name.to_owned(), value.to_owned())).collect()
    };
    let mut env = owned(DEFAULTS);
    env.extend(launch.env.clone());
    env.retain(|name, _| !FOREIGN.contains(&name.as_str()) && name != CONTINUE);
    env.extend(owned(FIXED));
    if launch.continues {
        env.insert(CONTINUE.to_owned(), "1".to_owned());
    }
    env.extend(owned(&[
        ("ANTHROPIC_BASE_URL", &launch.gateway_url),
        // A bearer token goes to the base URL alone; an API key would also be sent elsewhere.
        ("ANTHROPIC_AUTH_TOKEN", &launch.token),
    ]));
    Program { argv, env }
}

#[cfg(test)]
mod tests {
    use rclaude_types::PermissionMode;
    use uuid::Uuid;

    use super::*;

    fn launch() -> Launch {
        Launch {
            binary: "/opt/rclaude/agents/claude-code/claude".into(),
            agent_session: Uuid::from_u128(7),
            resume: false,
            continues: false,
            model: None,
            permission_mode: PermissionMode::Default,
            gateway_url: "http://gateway.rclaude".into(),
            token: "rcs_1".into(),
            env: BTreeMap::new(),
            append_system_prompt: None,
        }
    }

    #[test]
    fn a_new_conversation_gets_the_id_we_chose_and_a_resumed_one_is_found_by_it() {
        let new = program(&launch()).argv;
        assert_eq!(new[new.len() - 2..], ["--session-id", "00000000-0000-0000-0000-000000000007"]);
        let old = program(&Launch { resume: true, ..launch() }).argv;
        assert_eq!(old[old.len() - 2..], ["--resume", "00000000-0000-0000-0000-000000000007"]);
    }

    #[test]
    fn a_turn_is_run_again_only_where_that_is_asked_for() {
        let continues = |continues| {
            let env = [(CONTINUE.to_owned(), "1".to_owned())].into();
            program(&Launch { continues, env, ..launch() }).env.contains_key(CONTINUE)
        };
        assert!(continues(true) && !continues(false));
    }

    #[test]
    fn the_sessions_environment_cannot_lead_past_the_gateway() {
        let env = [
            ("ANTHROPIC_BASE_URL", "https://elsewhere"),
            ("ANTHROPIC_AUTH_TOKEN", "mine"),
            ("ANTHROPIC_API_KEY", "mine"),
            ("CLAUDE_CODE_USE_BEDROCK", "1"),
            ("LANG", "de_DE.UTF-8"),
        ]
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .into();
        let env = program(&Launch { env, ..launch() }).env;
        assert_eq!(env["ANTHROPIC_BASE_URL"], "http://gateway.rclaude");
        assert_eq!(env["ANTHROPIC_AUTH_TOKEN"], "rcs_1");
        assert_eq!(env["LANG"], "de_DE.UTF-8");
        assert!(!env.contains_key("ANTHROPIC_API_KEY"));
        assert!(!env.contains_key("CLAUDE_CODE_USE_BEDROCK"));
    }

    #[test]
    fn secrets_do_not_show_in_debug_output() {
        let launch = launch();
        let shown = format!("{launch:?} {:?}", program(&launch));
        assert!(!shown.contains("rcs_1"), "{shown}");
    }
}
