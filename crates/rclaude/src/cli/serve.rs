//! `rclaude serve`: being the platform.

use std::net::SocketAddr;

use clap::Args;
use rclaude_server::Ready;
use tracing_subscriber::EnvFilter;
use url::Url;

use super::{Context, Done};
use crate::{
    config,
    exit::{Exit, Failure},
    platform,
    ui::Ui,
};

/// Be the server: API, sessions, sandboxes, model gateway
///
/// Keeps everything in the data directory. The model API's key comes from the
/// environment (`ANTHROPIC_API_KEY`) and stays here: sandboxes never see it. Logs go to standard error. With
/// --json: `{"url"}` on standard output once it answers.
#[derive(Debug, Args)]
pub(crate) struct ServeArgs {
    /// Where to listen; port 0 takes a free one
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:7080")]
    pub(crate) listen: SocketAddr,
    /// Where model requests go: an API that speaks Anthropic's protocol
    #[arg(long, value_name = "URL", default_value = "https://api.anthropic.com", value_parser = config::server_url)]
    pub(crate) llm_url: Url,
    /// What owner/name means; {} stands for it
    #[arg(long, value_name = "URL", default_value = "https://github.com/{}.git", value_parser = forge)]
    pub(crate) forge: String,
    /// What to log: error, warn, info, debug, or filters such as `rclaude_server=debug`
    #[arg(long, value_name = "FILTER", default_value = "info", value_parser = filter)]
    pub(crate) log: String,
    /// Log one JSON object a line
    #[arg(long)]
    pub(crate) log_json: bool,
    /// Leave the terminal that started us
    #[arg(long, hide = true)]
    detached: bool,
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
    let (ui, settings) = (&mut cx.ui, &cx.settings);
    let json = cx.json;
    let ready = |server: &Ready| {
        if json {
            let _ = ui.json(&serde_json::json!({ "url": server.url }));
        } else {
            say_ready(ui, server);
        }
    };
    tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()?
        .block_on(Box::pin(platform::serve(args, settings, ready)))?;
    Ok(Exit::OK)
}

fn say_ready(ui: &mut Ui, server: &Ready) {
    ui.say(&format!("rclaude {} answers at {}", env!("RCLAUDE_VERSION"), server.url));
    if server.sessions > 0 {
        ui.say(&format!("took up {} sessions", server.sessions));
    }
}

fn filter(text: &str) -> Result<String, String> {
    EnvFilter::builder().parse(text).map(|_| text.to_owned()).map_err(|error| error.to_string())
}

fn forge(text: &str) -> Result<String, String> {
    match text.matches("{}").count() {
        1 => Ok(text.to_owned()),
        _ => Err("a URL in which {} stands for owner/name".to_owned()),
    }
}
