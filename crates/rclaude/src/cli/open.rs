//! `rclaude open`: what a session serves, in a browser.

use std::{
    io::IsTerminal as _,
    process::{Command, Stdio},
};

use clap::Args;
use serde::Serialize;

use super::{Context, Done};
use crate::{exit::Exit, values};

/// Show a port of a session in a browser
///
/// Prints a link that lets whoever opens it see what listens on the port, for half a day unless
/// --for says otherwise, and opens it in a browser where there is one. The program in the session
/// sees a browser on its own machine; a paused session wakes. With --json: `{"url", "public",
/// "expires_at"}`.
#[derive(Debug, Args)]
pub(crate) struct OpenArgs {
    /// The session: id, unique start of an id, or name
    session: String,
    /// The port in the session
    #[arg(value_parser = clap::value_parser!(u16).range(1..))]
    port: u16,
    /// How long the link is good: 30m, 12h, 7d; a month at most
    #[arg(long = "for", value_name = "TIME", value_parser = values::link_seconds, conflicts_with = "public")]
    seconds: Option<u32>,
    /// Let everybody see it who can reach the server, without a link, until --private
    #[arg(long, conflicts_with = "private")]
    public: bool,
    /// Show it to nobody without a link again; links that were made go on until they expire
    #[arg(long)]
    private: bool,
    /// Print the link and open nothing
    #[arg(long)]
    print: bool,
}

/// A preview, for programs.
#[derive(Debug, Serialize)]
struct Opened {
    url: String,
    public: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    expires_at: Option<rclaude_types::Timestamp>,
}

pub(crate) async fn run(args: OpenArgs, cx: &mut Context) -> Done {
    let client = cx.client().await?;
    let OpenArgs { session, port, .. } = &args;
    if args.public || args.private {
        let set = client.set_preview(session, *port, args.public);
        cx.ui.wait("asking the server", set).await?;
    }
    let link = client.port_link(session, *port, args.seconds);
    let link = cx.ui.wait("asking the server", link).await?.value;
    let opened = if args.public {
        let mut url: url::Url = link.url.parse().map_err(|_| strange())?;
        url.set_query(None);
        Opened { url: url.to_string(), public: true, expires_at: None }
    } else {
        Opened { url: link.url, public: false, expires_at: Some(link.expires_at) }
    };
    if cx.json {
        cx.ui.json(&opened)?;
    } else {
        cx.ui.print(&opened.url)?;
        let somebody_looks = std::io::stdout().is_terminal();
        if !args.print && somebody_looks && !browse(&opened.url) {
            cx.ui.note("no browser was found here; open the link in one");
        }
    }
    Ok(Exit::OK)
}

fn strange() -> crate::exit::Failure {
    crate::exit::Failure::Failed("the server answered with a link that is none".to_owned())
}

/// Opens a link in the user's browser; whether there is one.
fn browse(url: &str) -> bool {
    ["xdg-open", "open"].iter().any(|opener| {
        let mut command = Command::new(opener);
        command.arg(url).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        command.status().is_ok_and(|status| status.success())
    })
}
