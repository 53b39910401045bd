//! The command line: one file per verb.
//!
//! A verb takes its arguments and a [`Context`], asks the server, and prints through the context's
//! terminal. With `--json` it prints the API's own JSON: one object, or one a line for streams.

mod approve;
mod attach;
mod backup;
mod cat;
mod checkpoint;
mod checkpoints;
mod completions;
mod config;
mod context;
mod cp;
mod deny;
mod diff;
mod doctor;
mod du;
mod edit;
mod emulator;
mod exec;
mod export;
mod fork;
mod forward;
mod import;
mod init;
mod interrupt;
mod key;
mod life;
mod logs;
mod ls;
mod ls_files;
mod mkdir;
mod mv;
mod open;
mod options;
mod pause;
mod place;
mod ports;
mod prune;
mod restore;
mod resume;
mod rewind;
mod rm;
mod run;
mod rungs;
mod secret;
mod send;
pub(crate) mod serve;
mod set;
mod setup;
mod shell;
mod show;
mod ssh_config;
mod ssh_key;
mod start;
mod status;
mod stop;

use std::{collections::BTreeMap, path::PathBuf, process::ExitCode};

use clap::{Args, Parser, Subcommand};

pub(crate) use context::Context;

use crate::{
    config::{Environment, Settings},
    exit::{EXIT_CODES, Exit, Failure},
    platform,
    ui::Ui,
};

/// What a verb comes to.
pub(crate) type Done = Result<Exit, Failure>;

/// Coding agents in sandboxes that outlive their connections.
#[derive(Debug, Parser)]
#[command(
    name = "rclaude",
    version = env!("RCLAUDE_VERSION"),
    after_help = EXIT_CODES,
    propagate_version = true,
    disable_help_subcommand = true,
    max_term_width = 100,
)]
pub(crate) struct Cli {
    #[command(flatten)]
    global: Global,
    #[command(subcommand)]
    command: Command,
}

/// Flags that every verb takes.
#[derive(Debug, Args)]
struct Global {
    #[arg(
        long,
        help = "The server to speak to [RCLAUDE_URL; else one found on this host]",
        global = true,
        value_name = "URL",
        help_heading = "Global options"
    )]
    url: Option<String>,
    #[arg(
        long,
        help = "The API key to send [RCLAUDE_TOKEN; else the local server's own]",
        global = true,
        value_name = "KEY",
        help_heading = "Global options"
    )]
    token: Option<String>,
    #[arg(
        long,
        help = "Where a server on this host keeps its state [RCLAUDE_DATA_DIR; else ~/.local/share/rclaude]",
        global = true,
        value_name = "DIR",
        help_heading = "Global options"
    )]
    data_dir: Option<String>,
    /// Print the API's own JSON: one object, or one a line. Failures are one object on standard
    /// error
    #[arg(long, global = true, help_heading = "Global options")]
    json: bool,
    /// Show more of what happens
    #[arg(long, short, global = true, help_heading = "Global options")]
    verbose: bool,
    /// Start a server on this host if none answers, without asking
    #[arg(long, global = true, help_heading = "Global options")]
    start_server: bool,
}

#[derive(Debug, Subcommand)]
enum Command {
    Init(init::InitArgs),
    Serve(serve::ServeArgs),
    Run(run::RunArgs),
    Start(start::StartArgs),
    Ls(ls::LsArgs),
    Show(show::ShowArgs),
    Attach(attach::AttachArgs),
    Send(send::SendArgs),
    Logs(logs::LogsArgs),
    Interrupt(interrupt::InterruptArgs),
    Approve(approve::ApproveArgs),
    Deny(deny::DenyArgs),
    Exec(exec::ExecArgs),
    Cp(cp::CpArgs),
    Cat(cat::CatArgs),
    Edit(edit::EditArgs),
    Mv(mv::MvArgs),
    Mkdir(mkdir::MkdirArgs),
    Shell(shell::ShellArgs),
    SshConfig(ssh_config::SshConfigArgs),
    Ports(ports::PortsArgs),
    Forward(forward::ForwardArgs),
    Open(open::OpenArgs),
    Diff(diff::DiffArgs),
    Pause(pause::PauseArgs),
    Stop(stop::StopArgs),
    Resume(resume::ResumeArgs),
    Set(set::SetArgs),
    Checkpoint(checkpoint::CheckpointArgs),
    Checkpoints(checkpoints::CheckpointsArgs),
    Rewind(rewind::RewindArgs),
    Fork(fork::ForkArgs),
    Rm(rm::RmArgs),
    Export(export::ExportArgs),
    Import(import::ImportArgs),
    Backup(backup::BackupArgs),
    Restore(restore::RestoreArgs),
    Du(du::DuArgs),
    Prune(prune::PruneArgs),
    Status(status::StatusArgs),
    Key(key::KeyArgs),
    SshKey(ssh_key::SshKeyArgs),
    Config(config::ConfigArgs),
    Doctor(doctor::DoctorArgs),
    Completions(completions::CompletionsArgs),
    Emulator(emulator::EmulatorArgs),
    /// The local engine's supervisor; the server starts it
    #[command(name = platform::SUPERVISOR, hide = true)]
    Supervisor {
        /// The engine's directory
        #[arg(long)]
        dir: PathBuf,
    },
}

/// The program: reads the command line, does what it says, answers with an exit code.
pub(crate) fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            // Help and version are errors to clap, and go to standard output.
            let _ = error.print();
            return ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(Exit::USAGE.0));
        }
    };
    let json = cli.global.json;
    let environment = Environment::of_process();
    let mut ui = Ui::new(&environment);
    let command = match cli.command {
        // Before anything else: it forks, and wants nothing of ours.
        Command::Supervisor { dir } => {
            return match platform::supervisor(&dir) {
                Ok(()) => ExitCode::SUCCESS,
                Err(failure) => {
                    ui.failure(&failure, false);
                    ExitCode::from(failure.exit().0)
                }
            };
        }
        command => command,
    };
    let settings = match Settings::load(environment, cli.global.settings()) {
        Ok(settings) => settings,
        Err(failure) => {
            ui.failure(&failure, json);
            return ExitCode::from(failure.exit().0);
        }
    };
    let (verbose, start_server) = (cli.global.verbose, cli.global.start_server);
    let mut cx = Context { settings, ui, json, verbose, start_server };
    let exit = match dispatch(command, &mut cx) {
        Ok(exit) => exit,
        Err(failure) => {
            cx.ui.failure(&failure, json);
            failure.exit()
        }
    };
    ExitCode::from(exit.0)
}

fn dispatch(command: Command, cx: &mut Context) -> Done {
    let command = match command {
        // The server makes its own runtime.
        Command::Serve(args) => return serve::run(&args, cx),
        command => command,
    };
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?
        .block_on(Box::pin(perform(command, cx)))
}

async fn perform(command: Command, cx: &mut Context) -> Done {
    match command {
        Command::Init(args) => init::run(args, cx).await,
        Command::Run(args) => Box::pin(run::run(args, cx)).await,
        Command::Start(args) => start::run(args, cx).await,
        Command::Ls(args) => ls::run(args, cx).await,
        Command::Show(args) => show::run(args, cx).await,
        Command::Attach(args) => Box::pin(attach::run(args, cx)).await,
        Command::Send(args) => Box::pin(send::run(args, cx)).await,
        Command::Logs(args) => Box::pin(logs::run(args, cx)).await,
        Command::Interrupt(args) => interrupt::run(args, cx).await,
        Command::Approve(args) => approve::run(args, cx).await,
        Command::Deny(args) => deny::run(args, cx).await,
        Command::Exec(args) => exec::run(args, cx).await,
        Command::Cp(args) => Box::pin(cp::run(args, cx)).await,
        Command::Cat(args) => Box::pin(cat::run(args, cx)).await,
        Command::Edit(args) => Box::pin(edit::run(args, cx)).await,
        Command::Mv(args) => mv::run(args, cx).await,
        Command::Mkdir(args) => mkdir::run(args, cx).await,
        Command::Shell(args) => Box::pin(shell::run(args, cx)).await,
        Command::SshConfig(args) => ssh_config::run(args, cx).await,
        Command::Ports(args) => ports::run(args, cx).await,
        Command::Forward(args) => Box::pin(forward::run(args, cx)).await,
        Command::Open(args) => open::run(args, cx).await,
        Command::Diff(args) => diff::run(args, cx).await,
        Command::Pause(args) => pause::run(args, cx).await,
        Command::Stop(args) => stop::run(args, cx).await,
        Command::Resume(args) => resume::run(args, cx).await,
        Command::Set(args) => set::run(args, cx).await,
        Command::Checkpoint(args) => checkpoint::run(args, cx).await,
        Command::Checkpoints(args) => checkpoints::run(args, cx).await,
        Command::Rewind(args) => rewind::run(args, cx).await,
        Command::Fork(args) => Box::pin(fork::run(args, cx)).await,
        Command::Rm(args) => rm::run(args, cx).await,
        Command::Export(args) => export::run(args, cx).await,
        Command::Import(args) => import::run(args, cx).await,
        Command::Backup(args) => backup::run(args, cx).await,
        Command::Restore(args) => Box::pin(restore::run(args, cx)).await,
        Command::Du(args) => du::run(args, cx).await,
        Command::Prune(args) => prune::run(args, cx).await,
        Command::Status(args) => status::run(args, cx).await,
        Command::SshKey(args) => ssh_key::run(args, cx).await,
        Command::Key(args) => key::run(args, cx).await,
        Command::Config(args) => config::run(args, cx),
        Command::Doctor(args) => doctor::run(args, cx).await,
        Command::Completions(args) => completions::run(&args, cx),
        Command::Emulator(args) => emulator::run(&args, cx).await,
        Command::Serve(_) | Command::Supervisor { .. } => Ok(Exit::OK),
    }
}

impl Global {
    /// The flags that are settings.
    fn settings(&self) -> BTreeMap<&'static str, String> {
        [("url", &self.url), ("token", &self.token), ("data_dir", &self.data_dir)]
            .into_iter()
            .filter_map(|(name, value)| Some((name, value.clone()?)))
            .collect()
    }
}

#[cfg(test)]
mod tests;
#[cfg(test)]
pub(crate) use tests::session as example_session;
