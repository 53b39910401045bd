//! Letting the user's editor change a text.

use std::io::Write;

use crate::{config::Environment, exit::Failure};

/// The text as it is after the user's editor has had it.
pub(super) async fn edit(environment: &Environment, text: &str) -> Result<String, Failure> {
    let editor = ["VISUAL", "EDITOR"].iter().find_map(|name| environment.get(name)).unwrap_or("vi");
    let mut file = tempfile::Builder::new().prefix("rclaude-").suffix(".json").tempfile()?;
    file.write_all(text.as_bytes())?;
    file.flush()?;
    // Through a shell, as editors come with arguments: EDITOR="code --wait".
    let status = tokio::process::Command::new("sh")
        .arg("-c")
        .arg(format!("{editor} \"$1\""))
        .arg("sh")
        .arg(file.path())
        .status()
        .await
        .map_err(|error| Failure::Failed(format!("cannot run `{editor}`: {error}")))?;
    if !status.success() {
        return Err(Failure::Failed(format!("`{editor}` failed ({status}); nothing was sent")));
    }
    // Read by name: many editors write a new file and rename it over the old one.
    Ok(std::fs::read_to_string(file.path())?)
}
