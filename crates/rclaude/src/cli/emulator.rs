//! `rclaude emulator`: a model API for demonstrations and tests.

use std::net::SocketAddr;

use clap::Args;

use super::{Context, Done};
use crate::{exit::Exit, platform};

/// Play a model API: answers what the prompt scripts, costs nothing (for developers)
///
/// Start a server with `rclaude serve --llm-url http://127.0.0.1:7081` to use it.
#[derive(Debug, Args)]
pub(crate) struct EmulatorArgs {
    /// Where to listen; port 0 takes a free one
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:7081")]
    listen: SocketAddr,
}

pub(crate) async fn run(args: &EmulatorArgs, cx: &mut Context) -> Done {
    cx.ui.say(&format!("the emulator listens on {}; Ctrl-C ends it", args.listen));
    platform::emulator(args.listen).await?;
    Ok(Exit::OK)
}
