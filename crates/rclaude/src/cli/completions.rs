//! `rclaude completions`: for shells.

use clap::{Args, CommandFactory};
use clap_complete::Shell;

use super::{Cli, Context, Done};
use crate::exit::Exit;

/// Print what a shell needs to complete commands
///
/// bash: `rclaude completions bash > ~/.local/share/bash-completion/completions/rclaude`
#[derive(Debug, Args)]
pub(crate) struct CompletionsArgs {
    /// Which shell
    shell: Shell,
}

pub(crate) fn run(args: &CompletionsArgs, cx: &mut Context) -> Done {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "rclaude", &mut script);
    cx.ui.data(&script)?;
    Ok(Exit::OK)
}
