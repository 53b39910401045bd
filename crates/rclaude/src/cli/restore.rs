//! `rclaude restore`: a data directory of a backup, on this host.

use std::path::PathBuf;

use clap::Args;
use tokio::sync::watch;

use super::{
    Context, Done,
    backup::{absolute, passphrase_in},
    secret,
};
use crate::{
    exit::{Exit, Failure},
    platform::snapshots::{self, Opener},
};

/// Start over from a backup: make a data directory of it on this host
///
/// No server may run there, and the directory has to be empty. `rclaude serve` then brings every
/// session back. Ended in the middle it goes on when it is run again. With --json: what was
/// restored.
#[derive(Debug, Args)]
pub(crate) struct RestoreArgs {
    #[arg(help = "A directory, or s3://BUCKET/PREFIX")]
    place: String,
    /// Which backup; the newest if not said
    #[arg(long, value_name = "NAME")]
    backup: Option<String>,
    /// The lost server's key: its file `keyring`, or what `rclaude backup key` printed
    #[arg(long, value_name = "FILE", conflicts_with = "passphrase_file")]
    key_file: Option<PathBuf>,
    #[arg(
        long,
        help = "A file with the passphrase it was given [RCLAUDE_SNAPSHOT_PASSPHRASE]",
        value_name = "FILE"
    )]
    passphrase_file: Option<PathBuf>,
    /// Leave sessions' files there; each is fetched when its session needs it
    #[arg(long)]
    lazy: bool,
}

pub(crate) async fn run(args: RestoreArgs, cx: &mut Context) -> Done {
    let opener = match (&args.key_file, &args.passphrase_file) {
        (Some(file), _) => Opener::KeyFile(file.clone()),
        (None, Some(file)) => Opener::Passphrase(secret::read_file(file)?),
        (None, None) => Opener::Passphrase(passphrase_in(&cx.settings).ok_or_else(|| {
            let text = "say what opens the backup: --key-file or --passphrase-file";
            Failure::Usage(text.to_owned())
        })?),
    };
    let place = absolute(&args.place)?;
    let (step, steps) = watch::channel("opening the backup");
    let restoring = snapshots::restore(&cx.settings, &place, args.backup, opener, args.lazy, step);
    let restored = cx.ui.wait_steps(&steps, restoring).await?;
    if cx.json {
        cx.ui.json(&restored)?;
        return Ok(Exit::OK);
    }
    cx.ui.say(&format!(
        "restored {} sessions as they were at {} on {} ({} ms)",
        restored.sessions, restored.at, restored.host, restored.millis
    ));
    if restored.missing > 0 {
        let text = format!("{} layers were missing when the backup was made", restored.missing);
        cx.ui.warn(&text);
    }
    cx.ui.note("`rclaude init` installs the agent; `rclaude serve` brings the sessions back");
    Ok(Exit::OK)
}
