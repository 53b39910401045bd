//! `rclaude config`: the client's settings.

use clap::{Args, Subcommand};
use serde_json::json;

use super::{Context, Done};
use crate::{
    config::{KEYS, Key, Source, key},
    exit::{Exit, Failure},
    ui::table,
};

/// Show and change this client's settings
///
/// A flag beats the environment, the environment beats the file, the file beats what is found on
/// this host.
#[derive(Debug, Args)]
pub(crate) struct ConfigArgs {
    #[command(subcommand)]
    verb: ConfigVerb,
}

#[derive(Debug, Subcommand)]
enum ConfigVerb {
    /// Print a setting's value
    ///
    /// With --json: `{"key", "value", "source", "description"}`.
    Get {
        /// Which
        key: String,
    },
    /// Write a setting into the file
    Set {
        /// Which
        key: String,
        /// To this; `-` reads it from standard input, so that it is in no shell's history
        value: String,
    },
    /// Take a setting out of the file
    Unset {
        /// Which
        key: String,
    },
    /// Show every setting, its value and where that comes from
    ///
    /// With --json: one setting a line.
    List,
}

pub(crate) fn run(args: ConfigArgs, cx: &mut Context) -> Done {
    match args.verb {
        ConfigVerb::Get { key: name } => {
            let (value, source) = effective(cx, key(&name)?)?;
            if cx.json {
                cx.ui.json(&describe(key(&name)?, value.as_deref(), &source))?;
            } else if let Some(value) = value {
                cx.ui.print(&value)?;
            } else {
                cx.ui.note(&format!("{name} is not set"));
                return Ok(Exit::FAILED);
            }
        }
        ConfigVerb::Set { key: name, value } => {
            let value = match value.as_str() {
                "-" => std::io::read_to_string(std::io::stdin())?.trim().to_owned(),
                _ => value,
            };
            cx.settings.set(key(&name)?, &value)?;
            cx.ui.note(&format!("{name} is set in {}", cx.settings.path.display()));
        }
        ConfigVerb::Unset { key: name } => {
            let was = cx.settings.unset(key(&name)?)?;
            let what = if was { "is no longer" } else { "was not" };
            cx.ui.note(&format!("{name} {what} in {}", cx.settings.path.display()));
        }
        ConfigVerb::List => list(cx)?,
    }
    Ok(Exit::OK)
}

fn list(cx: &mut Context) -> Result<(), Failure> {
    let mut rows = Vec::new();
    for key in KEYS {
        let (value, source) = effective(cx, key)?;
        let shown = value.map(|value| if key.secret { redacted(&value) } else { value });
        if cx.json {
            cx.ui.json(&describe(key, shown.as_deref(), &source))?;
        }
        let from = if shown.is_some() { source.to_string() } else { String::new() };
        let shown = shown.unwrap_or_else(|| "-".to_owned());
        rows.push([key.name.to_owned(), shown, from, key.description.to_owned()]);
    }
    if !cx.json {
        let text = table(cx.ui.out(), ["SETTING", "VALUE", "FROM", "WHAT IT IS"], &rows);
        cx.ui.print(&text)?;
        cx.ui.note(&format!("file: {}", cx.settings.path.display()));
    }
    Ok(())
}

/// The value that counts, including what is found on this host.
fn effective(cx: &Context, key: &Key) -> Result<(Option<String>, Source), Failure> {
    if let Some((value, source)) = cx.settings.get(key) {
        return Ok((Some(value), source));
    }
    Ok(match key.name {
        "url" => {
            let connection = cx.settings.connection()?;
            (Some(connection.url.to_string()), connection.source)
        }
        "token" => (cx.settings.connection()?.token, Source::LocalServer),
        "listen" => (Some(cx.settings.listen().to_string()), Source::Default),
        "data_dir" => (Some(cx.settings.data_dir().display().to_string()), Source::Default),
        _ => (None, Source::Default),
    })
}

fn describe(key: &Key, value: Option<&str>, source: &Source) -> serde_json::Value {
    json!({
        "key": key.name,
        "value": value,
        "source": value.map(|_| source.to_string()),
        "description": key.description,
        "environment": key.variable,
    })
}

/// The start of a secret, to tell it by.
fn redacted(secret: &str) -> String {
    format!("{}…", secret.chars().take(8.min(secret.chars().count() / 2)).collect::<String>())
}
