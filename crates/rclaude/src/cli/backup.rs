//! `rclaude backup`: the database and every session's files, elsewhere.

use clap::{Args, Subcommand};
use rclaude_types::{Backup, Timestamp, VerifyBackup};

use super::{Context, Done};
use crate::{
    client,
    config::Settings,
    exit::{Exit, Failure},
    platform,
    ui::{self, Paint, age, bytes, clean_line, table},
};

/// Make a backup: the database and every session's files
///
/// The server makes it, at PLACE or where its backups go. `rclaude restore` starts another server
/// from it. It is encrypted with the server's key: see `rclaude backup key`. With --json: the
/// backup.
#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true)]
pub(crate) struct BackupArgs {
    #[command(subcommand)]
    verb: Option<BackupVerb>,
    #[arg(help = "A directory on the server's host, or s3://BUCKET/PREFIX")]
    place: Option<String>,
}

#[derive(Debug, Subcommand)]
enum BackupVerb {
    /// List backups, newest first
    ///
    /// With --json: one backup a line.
    Ls {
        /// Where they are; where the server's backups go if not said
        place: Option<String>,
    },
    /// Restore a backup into a scratch place, and say what does not come back as it was saved
    ///
    /// Ends with 1 if something does not. With --json: the verdict.
    Verify {
        /// Which; the newest if not said
        name: Option<String>,
        /// Where it is; where the server's backups go if not said
        #[arg(long, value_name = "PLACE")]
        at: Option<String>,
    },
    /// Show the key of a server on this host, to be kept where its backups are not
    ///
    /// Without it no backup can be opened. With --json: `{"file", "key"}`.
    Key,
}

pub(crate) async fn run(args: BackupArgs, cx: &mut Context) -> Done {
    match args.verb {
        None => {
            let server = cx.client().await?;
            let place = args.place.map(|place| absolute(&place)).transpose()?;
            let making = server.create_backup(place);
            let backup = cx.ui.wait("making the backup", making).await?;
            if cx.json {
                cx.ui.json(&backup.raw)?;
            } else {
                cx.ui.print(&backup.name)?;
                let text = describe(&backup);
                cx.ui.note(&text);
            }
            Ok(Exit::OK)
        }
        Some(BackupVerb::Ls { place }) => {
            let server = cx.client().await?;
            let place = place.map(|place| absolute(&place)).transpose()?;
            let listing = server.backups(place.as_deref());
            let backups = cx.ui.wait("listing the backups", listing).await?;
            if cx.json {
                for backup in &backups.data {
                    cx.ui.json(backup)?;
                }
            } else {
                let backups: Result<Vec<Backup>, _> =
                    backups.data.iter().map(|raw| client::read(raw)).collect();
                let text = render(cx.ui.out(), &backups?, ui::now());
                cx.ui.print(&text)?;
            }
            Ok(Exit::OK)
        }
        Some(BackupVerb::Verify { name, at }) => {
            let server = cx.client().await?;
            let at = at.map(|place| absolute(&place)).transpose()?;
            let request = VerifyBackup { name, at };
            let verdict =
                cx.ui.wait("restoring it into a scratch place", server.verify_backup(&request));
            let verdict = verdict.await?;
            if cx.json {
                cx.ui.json(&verdict.raw)?;
            } else {
                for damage in &verdict.damage {
                    cx.ui.print(&clean_line(damage))?;
                }
                let (name, word) =
                    (&verdict.backup.name, if verdict.sound { "sound" } else { "damaged" });
                let text = format!("{name} is {word} ({} ms)", verdict.millis);
                cx.ui.say(&text);
            }
            Ok(if verdict.sound { Exit::OK } else { Exit::FAILED })
        }
        Some(BackupVerb::Key) => key(cx),
    }
}

fn key(cx: &mut Context) -> Done {
    if cx.settings.environment.get(platform::snapshots::PASSPHRASE).is_some() {
        return Err(Failure::Usage(format!(
            "backups are locked with the passphrase in {}: keep that",
            platform::snapshots::PASSPHRASE
        )));
    }
    let (file, key) = platform::snapshots::keyring(&cx.settings.data_dir())?;
    if cx.json {
        cx.ui.json(&serde_json::json!({ "file": file, "key": key }))?;
        return Ok(Exit::OK);
    }
    cx.ui.print(&key)?;
    cx.ui.note(&format!("it is the content of {}", file.display()));
    cx.ui
        .note("keep it where the backups are not: without it no backup can be opened, with it all");
    cx.ui.note("`rclaude restore PLACE --key-file FILE` takes it, as this line or as that file");
    Ok(Exit::OK)
}

fn describe(backup: &Backup) -> String {
    format!(
        "{} sessions, {} layers, {} more at {} ({} ms)",
        backup.sessions,
        backup.layers,
        bytes(backup.added_bytes),
        clean_line(&backup.location),
        backup.millis
    )
}

fn render(paint: Paint, backups: &[Backup], now: Timestamp) -> String {
    let rows: Vec<_> = backups
        .iter()
        .map(|backup| {
            [
                clean_line(&backup.name),
                format!("{} ago", age(backup.at, now)),
                backup.sessions.to_string(),
                backup.layers.to_string(),
                bytes(backup.added_bytes),
            ]
        })
        .collect();
    table(paint, ["NAME", "MADE", "SESSIONS", "LAYERS", "ADDED"], &rows)
}

/// A place as the server understands it: relative directories are meant from here.
pub(super) fn absolute(place: &str) -> Result<String, Failure> {
    if place.contains("://") || place.starts_with('/') {
        return Ok(place.to_owned());
    }
    Ok(std::path::absolute(place)?.display().to_string())
}

/// What opens a backup: from a file, or the environment.
pub(super) fn passphrase_in(settings: &Settings) -> Option<String> {
    settings.environment.get(platform::snapshots::PASSPHRASE).map(str::to_owned)
}
