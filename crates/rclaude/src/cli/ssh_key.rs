//! `rclaude ssh-key`: public keys that open sessions over SSH.

use clap::{Args, Subcommand};
use rclaude_types::{SshKey, SshKeyId, Timestamp};

use super::{Context, Done};
use crate::{
    client,
    exit::{Exit, Failure},
    ui::{self, Paint, age, clean_line, table},
};

/// Add, list and remove the public keys that open sessions over SSH
///
/// A key opens every session. `rclaude ssh-config` makes and adds one by itself.
#[derive(Debug, Args)]
pub(crate) struct SshKeyArgs {
    #[command(subcommand)]
    verb: SshKeyVerb,
}

#[derive(Debug, Subcommand)]
enum SshKeyVerb {
    /// Add a public key: Ed25519 or ECDSA
    ///
    /// With --json: the key.
    Add {
        /// The file, such as `~/.ssh/id_ed25519.pub`; `-` for standard input
        file: String,
        /// Whose it is; the key's own comment if not said
        #[arg(long)]
        name: Option<String>,
    },
    /// List keys
    ///
    /// With --json: one key a line.
    Ls,
    /// Remove a key: connections that it opened end
    Rm {
        /// Its id
        #[arg(value_parser = clap::value_parser!(SshKeyId))]
        id: SshKeyId,
    },
}

pub(crate) async fn run(args: SshKeyArgs, cx: &mut Context) -> Done {
    match args.verb {
        SshKeyVerb::Add { file, name } => {
            let text = read(&file, cx).await?;
            let server = cx.client().await?;
            let adding = server.add_ssh_key(&text, name.as_deref());
            let key = cx.ui.wait("adding the key", adding).await?;
            if cx.json {
                cx.ui.json(&key.raw)?;
            } else {
                cx.ui.say(&format!("{} opens sessions now ({})", key.fingerprint, key.id));
            }
        }
        SshKeyVerb::Ls => {
            let server = cx.client().await?;
            let keys = cx.ui.wait("listing the keys", server.ssh_keys()).await?;
            if cx.json {
                for key in &keys.data {
                    cx.ui.json(key)?;
                }
            } else {
                let keys: Result<Vec<SshKey>, _> =
                    keys.data.iter().map(|raw| client::read(raw)).collect();
                let text = render(cx.ui.out(), &keys?, ui::now());
                cx.ui.print(&text)?;
            }
        }
        SshKeyVerb::Rm { id } => {
            let server = cx.client().await?;
            cx.ui.wait("removing the key", server.remove_ssh_key(&id)).await?;
            if !cx.json {
                cx.ui.say(&format!("removed {id}"));
            }
        }
    }
    Ok(Exit::OK)
}

/// The text of a public key. A private one goes nowhere.
async fn read(file: &str, cx: &mut Context) -> Result<String, Failure> {
    let text = if file == "-" {
        cx.text(file).await?
    } else {
        let path = cx.settings.environment.expand(file);
        std::fs::read_to_string(&path)
            .map_err(|error| Failure::Failed(format!("cannot read {}: {error}", path.display())))?
    };
    if text.contains("PRIVATE KEY") {
        let why = "this is a private key, which stays where it is; give the file beside it that \
                   ends in .pub";
        return Err(Failure::Usage(why.to_owned()));
    }
    Ok(text.trim().to_owned())
}

fn render(paint: Paint, keys: &[SshKey], now: Timestamp) -> String {
    let ago = |moment| format!("{} ago", age(moment, now));
    let rows: Vec<_> = keys
        .iter()
        .map(|key| {
            [
                key.id.to_string(),
                clean_line(&key.name),
                clean_line(&key.fingerprint),
                ago(key.created_at),
                key.last_used_at
                    .map_or_else(|| "never used".to_owned(), |at| format!("used {}", ago(at))),
            ]
        })
        .collect();
    table(paint, ["ID", "NAME", "FINGERPRINT", "ADDED", "USE"], &rows)
}
