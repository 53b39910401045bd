//! `rclaude cat`: a session's files on standard output.

use std::ffi::OsString;

use clap::Args;

use super::{Context, Done, cp, place::Place};
use crate::{
    exit::{Exit, Failure},
    ui::Counter,
};

/// Write files of sessions to standard output
///
/// Byte for byte, one after the other; --json changes nothing.
#[derive(Debug, Args)]
pub(crate) struct CatArgs {
    /// The files
    #[arg(required = true, value_name = "SESSION:PATH")]
    files: Vec<OsString>,
}

pub(crate) async fn run(args: CatArgs, cx: &mut Context) -> Done {
    let files = args.files.iter().map(|file| Place::remote(file, "cat"));
    let files = files.collect::<Result<Vec<_>, Failure>>()?;
    let client = cx.client().await?;
    for file in &files {
        cp::to_standard_output(&client, file, &Counter::default()).await?;
    }
    Ok(Exit::OK)
}
