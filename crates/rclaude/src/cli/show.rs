//! `rclaude show`: one session.

use clap::Args;
use rclaude_types::{Checkpoint, SealMethod, Session, TimeUsage, Timestamp, UsageSummary};

use super::{Context, Done, life, ls};
use crate::{
    exit::Exit,
    ui::{self, age, bytes, clean_line, how_to_answer, short_id, span},
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
    let latest = match &session.latest_checkpoint {
        Some(id) => {
            let asking = client.checkpoint(session.id.as_str(), id);
            // It may just have been thinned out.
            cx.ui.wait("asking the server", asking).await.ok().map(|answer| answer.value)
        }
        None => None,
    };
    let text = render(&session, &usage, latest.as_ref(), ui::now());
    cx.ui.print(&text)?;
    Ok(Exit::OK)
}

fn render(
    session: &Session,
    usage: &UsageSummary,
    latest: Option<&Checkpoint>,
    now: Timestamp,
) -> String {
    let mut lines = Vec::new();
    let mut line = |name: &str, value: String| {
        if !value.is_empty() {
            lines.push(format!("{name:<12}{value}"));
        }
    };
    line("name", session.name.clone());
    line("id", session.id.to_string());
    let failure = session.failure.as_deref().map(|why| format!(": {}", clean_line(why)));
    line("status", format!("{}{}", ls::rung(session), failure.unwrap_or_default()));
    line(
        "since",
        session.phase_since.map(|at| format!("{} ago", age(at, now))).unwrap_or_default(),
    );
    if let Some(origin) = &session.origin {
        let (session, checkpoint) = (short_id(&origin.session), short_id(&origin.checkpoint));
        line("origin", format!("forked from {session} at {checkpoint}"));
    }
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
    line("time", times(usage.time));
    line("checkpoint", latest.map(|it| newest(it, now)).unwrap_or_default());
    line("policy", life::words(&session.life));
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

/// How long it was how far awake, as far as it was.
fn times(time: TimeUsage) -> String {
    [
        ("running", time.running_micros),
        ("paused", time.frozen_micros),
        ("hibernated", time.hibernated_micros),
        ("archived", time.archived_micros),
    ]
    .into_iter()
    .filter(|(_, micros)| *micros > 0)
    .map(|(word, micros)| {
        format!("{} {word}", span(u64::try_from(micros / 1_000_000).unwrap_or_default()))
    })
    .collect::<Vec<_>>()
    .join(", ")
}

/// The newest checkpoint, and how states are kept.
fn newest(checkpoint: &Checkpoint, now: Timestamp) -> String {
    let how = match checkpoint.method {
        SealMethod::Btrfs => "as a btrfs snapshot",
        SealMethod::Reflink => "by sharing blocks",
        SealMethod::Copy => "as copies of what changed",
    };
    let stored = if checkpoint.stored { ", in the snapshot store" } else { "" };
    let (id, size) = (short_id(&checkpoint.id), bytes(checkpoint.bytes));
    format!("{id}, {} ago, {size} kept {how}{stored}", age(checkpoint.created_at, now))
}

fn first_line(text: &str) -> String {
    clean_line(text.trim().lines().next().unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use rclaude_types::{CheckpointKind, LifePolicy};

    use super::*;
    use crate::cli::tests::session;

    #[test]
    fn everything_worth_knowing_is_shown_once() {
        let now = Timestamp::from_micros(1_795_246_156_000_000);
        let usage = UsageSummary {
            time: TimeUsage {
                running_micros: 90_000_000,
                frozen_micros: 3_700_000_000,
                ..TimeUsage::default()
            },
            ..UsageSummary::default()
        };
        let latest = Checkpoint {
            id: "ckp_019a0000000070008000000000000009".parse().unwrap(),
            session: session().id,
            seq: 12,
            kind: CheckpointKind::Turn,
            note: None,
            turn: None,
            method: SealMethod::Copy,
            bytes: 4_096,
            frozen_micros: 1_200,
            stored: true,
            created_at: Timestamp::from_micros(1_795_246_000_000_000),
        };
        let session = Session {
            phase_since: Some(Timestamp::from_micros(1_795_246_100_000_000)),
            life: LifePolicy { ttl_seconds: Some(172_800), ..LifePolicy::default() },
            ..session()
        };
        insta::assert_snapshot!(render(&session, &usage, Some(&latest), now));
    }
}
