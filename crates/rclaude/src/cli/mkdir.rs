//! `rclaude mkdir`: directories in a session.

use std::ffi::OsString;

use clap::Args;

use super::{Context, Done, place::Place};
use crate::exit::{Exit, Failure};

/// Make directories in a session
///
/// With those on the way to them; one that is there is fine. With --json: each as the API has it.
#[derive(Debug, Args)]
pub(crate) struct MkdirArgs {
    /// The directories
    #[arg(required = true, value_name = "SESSION:PATH")]
    directories: Vec<OsString>,
}

pub(crate) async fn run(args: MkdirArgs, cx: &mut Context) -> Done {
    let directories = args.directories.iter().map(|it| Place::remote(it, "mkdir"));
    let directories = directories.collect::<Result<Vec<_>, Failure>>()?;
    let client = cx.client().await?;
    for directory in &directories {
        let making = client.make_directory(&directory.session, directory.path());
        let made = cx.ui.wait(&format!("making {directory}"), making).await?;
        if cx.json {
            cx.ui.json(&made.raw)?;
        }
    }
    Ok(Exit::OK)
}
