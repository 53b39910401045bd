//! `rclaude serve`: being the platform.

use std::{net::SocketAddr, time::Duration};

use clap::Args;
use tracing_subscriber::EnvFilter;
use url::Url;

use super::{Context, Done};
use crate::{
    config,
    exit::{Exit, Failure},
    platform,
    values::{self, Limit},
};

/// Be the server: API, sessions, sandboxes, model gateway
///
/// Keeps everything in the data directory. The model API's key comes from the
/// environment (`ANTHROPIC_API_KEY`) and stays here: sandboxes never see it. Logs go to standard
/// error. With --json: `{"url", "data_dir", "token_file", "ssh", "sessions"}` once it answers.
#[derive(Debug, Args)]
pub(crate) struct ServeArgs {
    #[arg(
        long,
        help = "Where to listen; port 0 takes a free one [RCLAUDE_LISTEN; else 127.0.0.1:7080]",
        value_name = "ADDRESS:PORT"
    )]
    pub(crate) listen: Option<SocketAddr>,
    #[arg(
        long,
        help = "Let SSH clients in here, with keys from `rclaude ssh-key`; port 0 takes a free \
                one. Other machines reach an address that is not this host's own \
                [RCLAUDE_SSH; else nowhere]",
        value_name = "ADDRESS:PORT"
    )]
    pub(crate) ssh: Option<SocketAddr>,
    /// Where model requests go: an API that speaks Anthropic's protocol
    #[arg(long, value_name = "URL", default_value = "https://api.anthropic.com", value_parser = config::server_url)]
    pub(crate) llm_url: Url,
    /// Play the model with the built-in emulator: costs nothing, knows only its scripts
    #[arg(long, conflicts_with = "llm_url")]
    pub(crate) emulator: bool,
    /// Where repositories given as owner/name are
    #[arg(long, value_name = "URL", default_value = "https://github.com", value_parser = config::server_url)]
    pub(crate) forge: Url,
    #[arg(
        long,
        help = "The URL of which previews' names are subdomains, such as https://previews.example.org, \
                where *.previews.example.org leads here; else http://localhost with our port",
        value_name = "URL",
        value_parser = config::preview_url
    )]
    pub(crate) preview_url: Option<Url>,
    #[arg(
        long,
        help = "Where states outlive this machine's disk: an absolute path, or s3://BUCKET/PREFIX \
                [RCLAUDE_SNAPSHOTS; else in the data directory]",
        value_name = "PLACE"
    )]
    pub(crate) snapshots: Option<String>,
    /// Where backups go by themselves; where states are kept if not said
    #[arg(long, value_name = "PLACE")]
    pub(crate) backup_to: Option<String>,
    /// The largest archive that may be imported [default: 64G]
    #[arg(long, value_name = "SIZE", value_parser = values::memory)]
    pub(crate) import_limit: Option<u32>,
    /// How often: 5m, 1h; `never`. Every 5 minutes to another machine or disk, every hour to a
    /// directory given with --backup-to, and otherwise never, unless this says so
    #[arg(long, value_name = "TIME", value_parser = values::period)]
    pub(crate) backup_every: Option<Duration>,
    /// Give sandboxes a file system of their own (btrfs in a sparse file of at most this size),
    /// where the data directory's makes no snapshots: checkpoints then take milliseconds at any
    /// size. Needs root and btrfs-progs; kept once made
    #[arg(long, value_name = "SIZE", value_parser = values::memory)]
    pub(crate) disk_image: Option<u32>,
    #[command(flatten)]
    pub(crate) policy: PolicyOptions,
    /// What to log: error, warn, info, debug, or filters such as `rclaude_server=debug`
    #[arg(long, value_name = "FILTER", default_value = "info,rustic_core=warn,russh=error", value_parser = filter)]
    pub(crate) log: String,
    /// Log one JSON object a line
    #[arg(long)]
    pub(crate) log_json: bool,
    /// Leave the terminal that started us
    #[arg(long, hide = true)]
    detached: bool,
}

/// What holds for sessions that do not say otherwise. What is not given is a setting of the same
/// name, in the environment or the file.
#[derive(Debug, Default, Args)]
#[command(next_help_heading = "Setting sessions aside")]
pub(crate) struct PolicyOptions {
    #[arg(
        long,
        help = "Freeze sessions after so long without agent work, commands or viewers; `never` [RCLAUDE_IDLE; else 5m]",
        value_name = "TIME",
        value_parser = values::limit
    )]
    pub(crate) idle: Option<Limit>,
    #[arg(
        long,
        help = "Hibernate what was frozen for so long; `never` [RCLAUDE_HIBERNATE_AFTER; else 30m]",
        value_name = "TIME",
        value_parser = values::limit
    )]
    pub(crate) hibernate_after: Option<Limit>,
    #[arg(
        long,
        help = "Archive what was hibernated for so long, with a snapshot store; `never` [RCLAUDE_ARCHIVE_AFTER; else 14d]",
        value_name = "TIME",
        value_parser = values::limit
    )]
    pub(crate) archive_after: Option<Limit>,
    #[arg(
        long,
        help = "Keep the state of sessions at work so often; `never`: when a turn ends alone [RCLAUDE_CHECKPOINT_EVERY; else 5m]",
        value_name = "TIME",
        value_parser = values::limit
    )]
    pub(crate) checkpoint_every: Option<Limit>,
    #[arg(
        long,
        help = "Automatic checkpoints kept of each session [RCLAUDE_KEEP_CHECKPOINTS; else 50]",
        value_name = "N",
        value_parser = clap::value_parser!(u32).range(1..)
    )]
    pub(crate) keep_checkpoints: Option<u32>,
    #[arg(
        long,
        help = "Sessions there may be [RCLAUDE_MAX_SESSIONS; else 10000]",
        value_name = "N",
        value_parser = clap::value_parser!(u32).range(1..)
    )]
    pub(crate) max_sessions: Option<u32>,
}

pub(super) fn run(args: &ServeArgs, cx: &mut Context) -> Done {
    if args.detached {
        // Our own session: neither Ctrl-C nor the end of the terminal is meant for us. It fails
        // only where that is so already.
        let _ = rustix::process::setsid();
    }
    let log = tracing_subscriber::fmt()
        .with_writer(std::io::stderr)
        .with_ansi(cx.ui.err_has_colours())
        .with_env_filter(EnvFilter::new(&args.log));
    let started = if args.log_json { log.json().try_init() } else { log.try_init() };
    started.map_err(|error| Failure::Failed(error.to_string()))?;
    let data_dir = cx.settings.data_dir();
    if let Some(address) = args.ssh.filter(|address| !address.ip().is_loopback()) {
        cx.ui.note(&format!(
            "warning: other machines reach {address}; every key of `rclaude ssh-key ls` opens \
             every session from there"
        ));
    }
    let Context { settings, ui, json, .. } = cx;
    let json = *json;
    platform::serve(args, settings, |ready| {
        let said = if json {
            ui.json(&serde_json::json!({
                "url": ready.url,
                "data_dir": data_dir,
                "token_file": data_dir.join("token"),
                "ssh": ready.ssh,
                "sessions": ready.sessions,
            }))
        } else {
            let (url, token) = (&ready.url, data_dir.join("token"));
            let ssh = ready.ssh.map_or_else(String::new, |at| format!("\nssh        {at}"));
            ui.print(&format!("listening  {url}\ntoken      {}{ssh}", token.display()))
        };
        // Whoever started us may have closed our output; that is no reason not to serve.
        drop(said);
    })?;
    Ok(Exit::OK)
}

fn filter(text: &str) -> Result<String, String> {
    EnvFilter::builder().parse(text).map(|_| text.to_owned()).map_err(|error| error.to_string())
}
