//! `rclaude emulator`: a model API for demonstrations and tests.

use std::{net::SocketAddr, path::PathBuf};

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
    /// Instead write the repository that it knows how to repair into a new directory
    #[arg(long, value_name = "DIR", conflicts_with = "listen")]
    write_demo: Option<PathBuf>,
}

pub(crate) async fn run(args: &EmulatorArgs, cx: &mut Context) -> Done {
    if let Some(directory) = &args.write_demo {
        platform::write_demo(directory)?;
        return Ok(Exit::OK);
    }
    let ui = &mut cx.ui;
    platform::emulator(args.listen, |address| {
        ui.say(&format!("the emulator listens on http://{address}; Ctrl-C ends it"));
    })
    .await?;
    Ok(Exit::OK)
}
