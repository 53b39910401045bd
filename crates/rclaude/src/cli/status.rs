//! `rclaude status`: the server and its host.

use clap::Args;
use rclaude_types::{HostCheckLevel, ServerStatus, Timestamp};

use super::{Context, Done, doctor};
use crate::{
    client::Client,
    exit::Exit,
    ui::{self, age, clean_line},
};

/// Show how the server and its host are
///
/// With --json: the server's status.
#[derive(Debug, Args)]
pub(crate) struct StatusArgs {}

pub(crate) async fn run(_: StatusArgs, cx: &mut Context) -> Done {
    // Asking how a server is does not start one.
    let client = Client::new(&cx.settings.connection()?)?;
    let status = cx.ui.wait("asking the server", client.status()).await?;
    if cx.json {
        cx.ui.json(&status.raw)?;
        return Ok(Exit::OK);
    }
    let text = render(&status, client.url().as_str(), ui::now());
    cx.ui.print(&text)?;
    let paint = cx.ui.out();
    for check in status.checks.iter().filter(|check| check.level != HostCheckLevel::Ok) {
        let text = doctor::render(paint, check);
        cx.ui.print(&text)?;
    }
    Ok(Exit::OK)
}

fn render(status: &ServerStatus, url: &str, now: Timestamp) -> String {
    let checks = &status.checks;
    let count = |level| checks.iter().filter(|check| check.level == level).count();
    let host = match (count(HostCheckLevel::Weaker), count(HostCheckLevel::Missing)) {
        (0, 0) => "isolates fully".to_owned(),
        (weaker, 0) => format!("isolates, {weaker} of {} checks weaker", checks.len()),
        (_, missing) => format!("cannot run sessions: {missing} of {} checks fail", checks.len()),
    };
    let ssh = status.ssh.as_ref().map_or_else(
        || "off".to_owned(),
        |door| clean_line(&format!("{}, host key {}", door.address, door.fingerprint)),
    );
    [
        ("server", url.to_owned()),
        ("version", clean_line(&status.version)),
        ("up", age(status.started_at, now)),
        ("data", clean_line(&status.data_dir)),
        ("sessions", format!("{}, {} working", status.sessions, status.working)),
        ("models", clean_line(&status.llm_upstream)),
        ("ssh", ssh),
        ("host", host),
    ]
    .map(|(name, value)| format!("{name:<10}{value}"))
    .join("\n")
}
