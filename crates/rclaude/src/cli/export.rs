//! `rclaude export`: a session as a file.

use std::{
    fs,
    io::Write,
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
};

use clap::Args;
use reqwest::Response;

use super::{Context, Done, secret};
use crate::{
    client::{ArchiveKey, Client},
    exit::{Exit, Failure},
    ui::bytes,
};

/// Write a session into one encrypted file that any server can import
///
/// Its files with the repository they stand on, its conversation, its history; not its bill.
/// Without a passphrase a key is made and printed once, alone on standard output: `rclaude import`
/// wants it. With --json: `{"file", "bytes", "key"}`.
#[derive(Debug, Args)]
pub(crate) struct ExportArgs {
    /// The session: id, unique start of an id, or name
    session: String,
    /// Where to write it
    file: PathBuf,
    #[arg(
        long,
        help = "A file with the passphrase to lock it with [RCLAUDE_ARCHIVE_PASSPHRASE]",
        value_name = "FILE"
    )]
    passphrase_file: Option<PathBuf>,
    /// Ask for a passphrase
    #[arg(long, conflicts_with = "passphrase_file")]
    passphrase: bool,
}

pub(crate) async fn run(args: ExportArgs, cx: &mut Context) -> Done {
    let passphrase = match (&args.passphrase_file, args.passphrase) {
        (Some(file), _) => Some(secret::read_file(file)?),
        (None, true) => {
            let first = secret::ask("passphrase")?;
            if secret::ask("the same again")? != first {
                return Err(Failure::Usage("those were two passphrases".to_owned()));
            }
            Some(first)
        }
        (None, false) => cx.settings.environment.get(secret::ARCHIVE).map(str::to_owned),
    };
    let passphrase = passphrase.map(ArchiveKey::Passphrase);
    let client = cx.client().await?;
    // Where nothing can be written the server need not work for nothing.
    let part = part_of(&args.file)?;
    let written = async {
        let (answer, key) = client.export(&args.session, passphrase.as_ref()).await?;
        let length = receive(&client, answer, &part).await?;
        fs::rename(&part, &args.file)?;
        Ok::<_, Failure>((length, key))
    };
    let done = cx.ui.wait("exporting the session", written).await;
    if done.is_err() {
        let _ = fs::remove_file(&part);
    }
    let (length, key) = done?;
    if cx.json {
        cx.ui.json(&serde_json::json!({ "file": args.file, "bytes": length, "key": key }))?;
        return Ok(Exit::OK);
    }
    cx.ui.say(&format!("wrote {} ({})", args.file.display(), bytes(length)));
    if let Some(key) = key {
        cx.ui.print(&format!("key: {key}"))?;
        cx.ui.note("keep it now: it is not shown again, and nothing else opens the file");
    }
    Ok(Exit::OK)
}

/// Where the file is written until it is whole; there already, and empty.
fn part_of(file: &Path) -> Result<PathBuf, Failure> {
    let name = file
        .file_name()
        .ok_or_else(|| Failure::Usage(format!("{} is no file's name", file.display())))?;
    let part = file.with_file_name(format!("{}.part", name.to_string_lossy()));
    let made =
        fs::OpenOptions::new().create(true).truncate(true).write(true).mode(0o600).open(&part);
    made.map_err(|error| Failure::Usage(format!("cannot write {}: {error}", part.display())))?;
    Ok(part)
}

async fn receive(client: &Client, mut answer: Response, part: &Path) -> Result<u64, Failure> {
    let mut file = fs::OpenOptions::new().write(true).open(part)?;
    let mut length = 0;
    while let Some(chunk) = answer.chunk().await.map_err(|error| client.broke_off(&error))? {
        file.write_all(&chunk)?;
        length += chunk.len() as u64;
    }
    file.sync_all()?;
    Ok(length)
}
