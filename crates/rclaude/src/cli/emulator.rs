//! `rclaude emulator`: a model API for demonstrations and tests.

use std::net::SocketAddr;

use clap::Args;

use super::{Context, Done};
use crate::{exit::Exit, platform};

/// Play a model API: answers what the prompt scripts, costs nothing (for developers)
///
/// Start a server with `--llm-url` to use it. With --json: `{"url"}` once it answers.
#[derive(Debug, Args)]
pub(crate) struct EmulatorArgs {
    /// Where to listen; port 0 takes a free one
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:7081")]
    listen: SocketAddr,
}

pub(crate) async fn run(args: &EmulatorArgs, cx: &mut Context) -> Done {
    let (ui, json) = (&mut cx.ui, cx.json);
    platform::emulator(args.listen, |url| {
        if json {
            let _ = ui.json(&serde_json::json!({ "url": url }));
        } else {
            ui.say(&format!("the emulator answers at {url}; Ctrl-C ends it"));
            ui.say(&format!("  ANTHROPIC_API_KEY=emulator rclaude serve --llm-url {url}"));
        }
    })
    .await?;
    Ok(Exit::OK)
}
