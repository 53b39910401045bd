//! `rclaude import`: a session from a file.

use std::path::PathBuf;

use clap::Args;
use tokio_util::io::ReaderStream;

use super::{Context, Done, secret};
use crate::{
    client::ArchiveKey,
    exit::{Exit, Failure},
    values,
};

/// Make a session of a file that `rclaude export` wrote
///
/// It goes on where it was exported. With --json: the session.
#[derive(Debug, Args)]
pub(crate) struct ImportArgs {
    /// The file
    file: PathBuf,
    /// What to call the session; what it was called if that is free
    #[arg(long, value_parser = values::session_name)]
    name: Option<String>,
    /// The key that the export printed
    #[arg(long, value_name = "KEY")]
    key: Option<String>,
    /// A file with that key
    #[arg(long, value_name = "FILE", conflicts_with = "key")]
    key_file: Option<PathBuf>,
    #[arg(
        long,
        help = "A file with the passphrase it was locked with [RCLAUDE_ARCHIVE_PASSPHRASE; else \
                it is asked for]",
        value_name = "FILE",
        conflicts_with_all = ["key", "key_file"]
    )]
    passphrase_file: Option<PathBuf>,
}

pub(crate) async fn run(args: ImportArgs, cx: &mut Context) -> Done {
    let file = tokio::fs::File::open(&args.file)
        .await
        .map_err(|error| Failure::Usage(format!("cannot read {}: {error}", args.file.display())))?;
    let environment = cx.settings.environment.get(secret::ARCHIVE).map(str::to_owned);
    let plain = |text: String| text.trim().trim_start_matches("key: ").to_owned();
    let key = match (args.key, args.key_file, args.passphrase_file, environment) {
        (Some(key), ..) => ArchiveKey::Key(plain(key)),
        (None, Some(file), ..) => ArchiveKey::Key(plain(secret::read_file(&file)?)),
        (None, None, Some(file), _) => ArchiveKey::Passphrase(secret::read_file(&file)?),
        (None, None, None, Some(passphrase)) => ArchiveKey::Passphrase(passphrase),
        (None, None, None, None) => ArchiveKey::Passphrase(secret::ask("passphrase")?),
    };
    let client = cx.client().await?;
    let archive = reqwest::Body::wrap_stream(ReaderStream::with_capacity(file, 256 << 10));
    let importing = client.import(args.name.as_deref(), &key, archive);
    let session = cx.ui.wait("importing the session", importing).await?;
    if cx.json {
        cx.ui.json(&session.raw)?;
    } else {
        cx.ui.print(&session.name)?;
        cx.ui.note(&format!("`rclaude attach {}` goes on with it", session.name));
    }
    Ok(Exit::OK)
}
