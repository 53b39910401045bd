//! `rclaude ports`: what listens in a session.

use clap::Args;
use rclaude_types::Port;

use super::{Context, Done};
use crate::{
    exit::Exit,
    ui::{Paint, clean_line, table},
};

/// List the TCP ports on which programs in a session listen
///
/// `rclaude forward` brings one to this machine. With --json: one port a line.
#[derive(Debug, Args)]
pub(crate) struct PortsArgs {
    /// The session: id, unique start of an id, or name
    session: String,
}

pub(crate) async fn run(args: PortsArgs, cx: &mut Context) -> Done {
    let client = cx.client().await?;
    let ports = cx.ui.wait("looking who listens", client.ports(&args.session)).await?;
    if cx.json {
        for port in &ports.value.data {
            cx.ui.json(port)?;
        }
    } else if ports.value.data.is_empty() {
        cx.ui.note("nothing listens in it");
    } else {
        let text = render(cx.ui.out(), &ports.value.data);
        cx.ui.print(&text)?;
    }
    Ok(Exit::OK)
}

fn render(paint: Paint, ports: &[Port]) -> String {
    let rows: Vec<_> = ports
        .iter()
        .map(|port| {
            let addresses: Vec<_> = port.addresses.iter().map(ToString::to_string).collect();
            // A program names itself.
            let process = format!("{} ({})", clean_line(&port.process), port.pid);
            [port.port.to_string(), addresses.join(" "), process]
        })
        .collect();
    table(paint, ["PORT", "ADDRESS", "PROCESS"], &rows)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_says_what_listens_where() {
        let port = |port, addresses: &[&str], process: &str| Port {
            port,
            addresses: addresses.iter().map(|it| it.parse().unwrap()).collect(),
            process: process.to_owned(),
            pid: 7,
        };
        let ports =
            [port(3000, &["0.0.0.0", "::"], "node"), port(54_321, &["127.0.0.1"], "e\x1b[31mvil")];
        insta::assert_snapshot!(render(Paint::new(false), &ports));
    }
}
