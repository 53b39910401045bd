//! `rclaude init`: getting a host ready.

use std::{fs, os::unix::fs::DirBuilderExt, path::PathBuf};

use clap::Args;
use rclaude_types::HostCheckLevel;
use tokio::sync::watch;

use super::{Context, Done, doctor};
use crate::{
    exit::{Exit, Failure},
    platform,
};

/// Get this host ready: data directory, settings, agent
///
/// Doing it again is fine. With --json: `{"data_dir", "config", "agent", "checks"}`.
#[derive(Debug, Args)]
pub(crate) struct InitArgs {
    /// Do not install the agent
    #[arg(long)]
    no_agent: bool,
    /// Take the agent's package from a tarball instead of the registry
    #[arg(long, value_name = "FILE", conflicts_with = "no_agent")]
    from: Option<PathBuf>,
    /// Say nothing unless something fails
    #[arg(long, conflicts_with = "json")]
    quiet: bool,
}

pub(crate) async fn run(args: InitArgs, cx: &mut Context) -> Done {
    let data_dir = cx.settings.data_dir();
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(&data_dir)
        .map_err(|error| Failure::Failed(format!("cannot make {}: {error}", data_dir.display())))?;
    cx.settings.save()?;
    let (config, data) = (cx.settings.path.display(), data_dir.display());
    let (config, data) = (config.to_string(), data.to_string());
    let talk = !cx.json && !args.quiet;
    if talk {
        cx.ui.say(&format!("data      {data}"));
        cx.ui.say(&format!("settings  {config}"));
    }
    let agent = if args.no_agent {
        None
    } else {
        let (step, steps) = watch::channel("looking for the agent");
        let tell = |what| {
            step.send_replace(what);
        };
        let installing = platform::install_agent(&data_dir, args.from, tell);
        Some(if args.quiet {
            installing.await?
        } else {
            cx.ui.wait_steps(&steps, installing).await?
        })
    };
    if let (Some(version), true) = (&agent, talk) {
        cx.ui.say(&format!("agent     Claude Code {version}"));
    }
    if args.quiet {
        return Ok(Exit::OK);
    }
    let checks = platform::host_checks(&data_dir);
    if cx.json {
        cx.ui.json(&serde_json::json!({
            "data_dir": data,
            "config": config,
            "agent": agent,
            "checks": checks,
        }))?;
        return Ok(Exit::OK);
    }
    let paint = cx.ui.err();
    for check in checks.iter().filter(|check| check.level != HostCheckLevel::Ok) {
        let text = doctor::render(paint, check);
        cx.ui.say(&text);
    }
    cx.ui.say("next:");
    cx.ui.say("  export ANTHROPIC_API_KEY=…      the server keeps it; sandboxes never see it");
    cx.ui.say("  rclaude serve                   or let the first `rclaude run` start it");
    cx.ui.say("  rclaude run --repo . 'PROMPT'");
    Ok(Exit::OK)
}
