//! `rclaude show`: one session.

use clap::Args;
use rclaude_types::{Session, Timestamp, UsageSummary};

use super::{Context, Done, ls};
use crate::{
    exit::Exit,
    ui::{self, age, clean_line, how_to_answer},
};

/// Show a session: what it is doing, what it waits for, what it used
///
/// With --json: the session.
#[derive(Debug, Args)]
pub(crate) struct ShowArgs {
    /// The session: id, unique start of an id, or name
    session: String,
}

pub(crate) async fn run(args: ShowArgs, cx: &mut Context) -> Done {
    let client = cx.client().await?;
    let session = cx.ui.wait("asking the server", client.session(&args.session)).await?;
    if cx.json {
        cx.ui.json(&session.raw)?;
        return Ok(Exit::OK);
    }
    let usage = cx.ui.wait("asking the server", client.usage(session.id.as_str())).await?;
    let text = render(&session, &usage, ui::now());
    cx.ui.print(&text)?;
    Ok(Exit::OK)
}

fn render(session: &Session, usage: &UsageSummary, now: Timestamp) -> String {
    let mut lines = Vec::new();
    let mut line = |name: &str, value: String| {
        if !value.is_empty() {
            lines.push(format!("{name:<12}{value}"));
        }
    };
    line("name", session.name.clone());
    line("id", session.id.to_string());
    let failure = session.failure.as_deref().map(|why| format!(": {}", clean_line(why)));
    line("status", format!("{}{}", ls::status(session.status), failure.unwrap_or_default()));
    if let Some(turn) = &session.current_turn {
        line("turn", format!("{}: {}", turn.number, first_line(&turn.text)));
    }
    if let Some(source) = &session.repository {
        let uncommitted = if source.include_uncommitted { " with uncommitted files" } else { "" };
        line("repository", format!("{}{uncommitted}", clean_line(&source.url)));
    }
    line("branch", clean_line(session.branch.as_deref().unwrap_or_default()));
    line("base", clean_line(session.base_commit.as_deref().unwrap_or_default()));
    line("model", clean_line(session.model.as_deref().unwrap_or("the agent's default")));
    let mode = crate::values::PERMISSION_MODES
        .iter()
        .find(|(_, mode)| *mode == session.permission_mode)
        .map_or("", |(word, _)| *word);
    line("permissions", mode.to_owned());
    line("template", clean_line(&session.template));
    let cpus = f64::from(session.resources.cpu_millis) / 1_000.0;
    let root = if session.allow_root { ", root allowed" } else { "" };
    line("sandbox", format!("{cpus} CPUs, {} MiB{root}", session.resources.memory_mib));
    line("environment", session.env.join(" "));
    let labels: Vec<_> = session.labels.iter().map(|(k, v)| format!("{k}={v}")).collect();
    line("labels", clean_line(&labels.join(" ")));
    let requests = match usage.requests {
        1 => "1 request".to_owned(),
        requests => format!("{requests} requests"),
    };
    let used = format!("{} in {requests}: {}", usage.cost, ui::token_words(usage.tokens));
    line("used", if usage.requests == 0 { "nothing yet".to_owned() } else { used });
    for model in &usage.models {
        let estimated = if model.price_estimated { " (estimated)" } else { "" };
        line("", format!("{} {}{estimated}", model.cost, clean_line(&model.model)));
    }
    line("log", format!("{} entries", session.last_seq));
    line("made", format!("{} ago", age(session.created_at, now)));
    line("changed", format!("{} ago", age(session.updated_at, now)));
    for approval in &session.pending_approvals {
        line("waits for", clean_line(&approval.title));
        for command in how_to_answer(&session.name, approval) {
            line("", command);
        }
    }
    lines.join("\n")
}

fn first_line(text: &str) -> String {
    clean_line(text.trim().lines().next().unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::tests::session;

    #[test]
    fn everything_worth_knowing_is_shown_once() {
        let now = Timestamp::from_micros(1_795_246_156_000_000);
        insta::assert_snapshot!(render(&session(), &UsageSummary::default(), now));
    }
}
