//! `rclaude key`: keys for the API.

use clap::{Args, Subcommand};
use rclaude_types::{ApiKey, KeyId, Timestamp};

use super::{Context, Done};
use crate::{
    client,
    exit::Exit,
    ui::{self, Paint, age, clean_line, table},
};

/// Make, list and revoke API keys
#[derive(Debug, Args)]
pub(crate) struct KeyArgs {
    #[command(subcommand)]
    verb: KeyVerb,
}

#[derive(Debug, Subcommand)]
enum KeyVerb {
    /// Make a key; its secret is printed once, alone on standard output
    ///
    /// With --json: the key with its secret.
    Create {
        /// What it is for
        name: String,
    },
    /// List keys
    ///
    /// With --json: one key a line.
    Ls,
    /// Revoke a key: from now on it opens nothing
    Revoke {
        /// Its id
        #[arg(value_parser = clap::value_parser!(KeyId))]
        id: KeyId,
    },
}

pub(crate) async fn run(args: KeyArgs, cx: &mut Context) -> Done {
    let server = cx.client().await?;
    match args.verb {
        KeyVerb::Create { name } => {
            let key = cx.ui.wait("making the key", server.create_key(&name)).await?;
            if cx.json {
                cx.ui.json(&key.raw)?;
            } else {
                cx.ui.note("keep it now: it is not shown again");
                cx.ui.print(&key.secret)?;
                cx.ui.note("use it with RCLAUDE_TOKEN, or `rclaude config set token -` there");
            }
        }
        KeyVerb::Ls => {
            let keys = cx.ui.wait("listing the keys", server.keys()).await?;
            if cx.json {
                for key in &keys.data {
                    cx.ui.json(key)?;
                }
            } else {
                let keys: Result<Vec<ApiKey>, _> =
                    keys.data.iter().map(|raw| client::read(raw)).collect();
                let text = render(cx.ui.out(), &keys?, ui::now());
                cx.ui.print(&text)?;
            }
        }
        KeyVerb::Revoke { id } => {
            cx.ui.wait("revoking the key", server.revoke_key(&id)).await?;
            if !cx.json {
                cx.ui.say(&format!("revoked {id}"));
            }
        }
    }
    Ok(Exit::OK)
}

fn render(paint: Paint, keys: &[ApiKey], now: Timestamp) -> String {
    let ago = |moment| format!("{} ago", age(moment, now));
    let rows: Vec<_> = keys
        .iter()
        .map(|key| {
            [
                key.id.to_string(),
                clean_line(&key.name),
                format!("{}…", clean_line(&key.hint)),
                ago(key.created_at),
                match (key.revoked_at, key.last_used_at) {
                    (Some(moment), _) => format!("revoked {}", ago(moment)),
                    (None, Some(moment)) => format!("used {}", ago(moment)),
                    (None, None) => "never used".to_owned(),
                },
            ]
        })
        .collect();
    table(paint, ["ID", "NAME", "STARTS WITH", "MADE", "USE"], &rows)
}
