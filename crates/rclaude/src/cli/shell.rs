//! `rclaude shell`: a terminal in a session.

use std::{convert::Infallible, io::Read, thread};

use clap::Args;
use rclaude_types::{CreateTerminal, ErrorCode, Problem, Terminal, TerminalId, TerminalState};
use tokio::{
    signal::unix::{SignalKind, signal},
    sync::mpsc,
};
use uuid::Uuid;

use super::{Context, Done, exec::exit_code};
use crate::{
    client::{Client, Doing, Ending, Place, Teller, Told, attach},
    exit::{Exit, Failure},
    screen::{self, Alternate, Leaving, Raw},
    ui::clean_line,
    values,
};

/// Bytes of typing read at a time.
const CHUNK: usize = 16 * 1024;

/// A terminal in a session, that outlives whoever looks at it
///
/// Goes back to the session's shell if one runs that nobody is attached to, and else starts one, or
/// COMMAND. Enter, then ~, then . leaves it running (--detach-keys); come back from here or another
/// machine with the same command, to the screen as it is. A lost connection is made again by
/// itself; what was typed meanwhile is sent then. The shell's exit code becomes ours (128+N if
/// signal N ended it). Standard input must be a terminal: `rclaude exec` is for pipes and scripts.
#[derive(Debug, Args)]
pub(crate) struct ShellArgs {
    /// The session: id, unique start of an id, or name
    session: String,
    /// Start another one, whatever runs
    #[arg(long, conflicts_with_all = ["terminal", "read_only"])]
    new: bool,
    /// This one, also if others are attached to it
    #[arg(long, value_name = "ID")]
    terminal: Option<TerminalId>,
    /// Look on without typing, at the one given or the newest that runs; ctrl-c leaves
    #[arg(long)]
    read_only: bool,
    /// The keys that leave: `ctrl-]`, `ctrl-p,ctrl-q`, or `none`
    #[arg(long, value_name = "KEYS", default_value = "enter,~,.", value_parser = str::parse::<Leaving>)]
    detach_keys: Leaving,
    /// Run as the sandbox's root, where the session allows it
    #[arg(long, conflicts_with_all = ["terminal", "read_only"])]
    root: bool,
    /// Where to start it [default: the workspace]
    #[arg(long, short = 'C', value_name = "DIR", conflicts_with_all = ["terminal", "read_only"])]
    cwd: Option<String>,
    /// Environment on top of the session's
    #[arg(long, short, value_name = "KEY=VALUE", value_parser = values::pair, conflicts_with_all = ["terminal", "read_only"])]
    env: Vec<(String, String)>,
    /// Program and arguments, in place of a shell
    #[arg(last = true, value_name = "COMMAND", conflicts_with_all = ["terminal", "read_only"])]
    command: Vec<String>,
}

pub(crate) async fn run(args: ShellArgs, cx: &mut Context) -> Done {
    if cx.json {
        let why = "`shell` shows a terminal and has no --json; `rclaude exec --json` has";
        return Err(Failure::Usage(why.to_owned()));
    }
    if !Raw::is_possible() {
        let why = "`shell` wants a terminal at standard input and output; for pipes and scripts \
                   there is `rclaude exec SESSION -- COMMAND`";
        return Err(Failure::Usage(why.to_owned()));
    }
    let client = cx.client().await?;
    let finding = find(&client, &args);
    let found = cx.ui.wait("waking the session", finding).await?;
    for note in &found.notes {
        cx.ui.note(note);
    }
    if args.detach_keys.is_possible() {
        cx.ui.note(&format!("{} leaves it running", args.detach_keys.words()));
    }
    let place = Place {
        session: args.session.clone(),
        terminal: found.terminal,
        read_only: args.read_only,
        writer: Uuid::now_v7().simple().to_string(),
    };
    let mut window = Window { has_begun: found.is_new, alternate: Alternate::default() };
    let offset = found.is_new.then_some(0);
    let ending = {
        let _raw = Raw::begin()?;
        let (tell, mut doing) = mpsc::channel(16);
        hear(args.detach_keys.clone(), args.read_only, tell.clone());
        let signals = heed(tell)?;
        tokio::select! {
            ending = attach(&client, &place, screen::size(), offset, &mut doing, &mut window) => ending,
            never = signals => match never {},
        }
    };
    Ok(say_how_it_ended(cx, &args, ending?))
}

/// The terminal to attach to.
struct Found {
    terminal: TerminalId,
    is_new: bool,
    notes: Vec<String>,
}

async fn find(client: &Client, args: &ShellArgs) -> Result<Found, Failure> {
    let found = |terminal, is_new, notes| Found { terminal, is_new, notes };
    if let Some(terminal) = &args.terminal {
        return Ok(found(terminal.clone(), false, Vec::new()));
    }
    let plain = args.command.is_empty()
        && args.cwd.is_none()
        && args.env.is_empty()
        && !args.root
        && !args.new;
    let mut notes = Vec::new();
    if plain {
        let terminals = client.terminals(&args.session).await?.value.data;
        let runs = |it: &&Terminal| it.state == TerminalState::Running;
        let mut running = terminals.iter().filter(runs);
        let wanted = |it: &&Terminal| args.read_only || it.viewers == 0;
        if let Some(terminal) = running.clone().find(wanted) {
            return Ok(found(terminal.id.clone(), false, notes));
        }
        if args.read_only {
            let why = format!("no terminal runs in {}", args.session);
            return Err(Failure::Problem(Problem::new(ErrorCode::TerminalNotFound, why)));
        }
        if let Some(terminal) = running.next() {
            let id = &terminal.id;
            notes.push(format!("somebody is attached to {id} (--terminal {id} joins); a new one:"));
        }
    }
    let terminal = TerminalId::generate();
    let request = CreateTerminal {
        command: args.command.clone(),
        cwd: args.cwd.clone(),
        env: args.env.iter().cloned().collect(),
        root: args.root,
        size: screen::size(),
    };
    client.open_terminal(&args.session, &terminal, &request).await?;
    Ok(found(terminal, true, notes))
}

/// Tells what the user types, until that is to leave.
fn hear(mut leaving: Leaving, read_only: bool, keys: mpsc::Sender<Doing>) {
    // Not a task: a runtime waits for its blocking tasks, and this one waits for a person.
    thread::spawn(move || {
        let mut stdin = std::io::stdin().lock();
        let mut buffer = vec![0; CHUNK];
        while let Ok(count @ 1..) = stdin.read(&mut buffer) {
            let heard = leaving.hear(&buffer[..count]);
            let leaves = heard.leaves || (read_only && heard.keys.contains(&0x03));
            if !heard.keys.is_empty()
                && !read_only
                && keys.blocking_send(Doing::Typed(heard.keys)).is_err()
            {
                return;
            }
            if leaves {
                let _over = keys.blocking_send(Doing::Left);
                return;
            }
        }
        let _over = keys.blocking_send(Doing::Left);
    });
}

/// Tells of another size of the window, and of its end.
fn heed(tell: mpsc::Sender<Doing>) -> Result<impl Future<Output = Infallible>, Failure> {
    let mut resized = signal(SignalKind::window_change())?;
    let mut ended = signal(SignalKind::terminate())?;
    let mut hung_up = signal(SignalKind::hangup())?;
    // Not ctrl-c, which is a key like any other here.
    let mut interrupted = signal(SignalKind::interrupt())?;
    Ok(async move {
        loop {
            let doing = tokio::select! {
                _ = resized.recv() => Doing::Resized(screen::size()),
                _ = ended.recv() => Doing::Left,
                _ = hung_up.recv() => Doing::Left,
                _ = interrupted.recv() => Doing::Left,
            };
            if tell.send(doing).await.is_err() {
                // Nobody listens any more.
                std::future::pending::<()>().await;
            }
        }
    })
}

/// The user's terminal while it shows another.
struct Window {
    /// Something of the other is on it.
    has_begun: bool,
    alternate: Alternate,
}

impl Teller for Window {
    fn tell(&mut self, told: Told) -> Result<(), Failure> {
        match told {
            Told::View(view) => {
                if !self.has_begun && view.snapshot_bytes > 0 {
                    // What is on the screen goes up, where the terminal keeps it.
                    let rows = usize::from(screen::size().rows);
                    screen::show("\r\n".repeat(rows).as_bytes())?;
                }
                self.has_begun = true;
            }
            Told::Bytes(bytes) => {
                self.alternate.pass(&bytes);
                screen::show(&bytes)?;
            }
            Told::Lost(reason) => {
                note(&format!("connection lost ({}); connecting again …", clean_line(&reason)))?;
            }
            Told::Restored => note("connected again")?,
            Told::KeysLost => note("some of what was typed was lost")?,
        }
        Ok(())
    }

    fn wants_screen(&self) -> bool {
        self.alternate.is_on()
    }
}

/// Says something between what the other terminal shows. A program that has the whole screen gets
/// it back when the connection is there again.
fn note(text: &str) -> Result<(), Failure> {
    Ok(screen::show(format!("\x1b[0m\r\n\x1b[2m[rclaude: {text}]\x1b[0m\r\n").as_bytes())?)
}

fn say_how_it_ended(cx: &mut Context, args: &ShellArgs, ending: Ending) -> Exit {
    let session = &args.session;
    match ending {
        Ending::Exited { reason: Some(reason), .. } => {
            cx.ui.warn(&format!("the terminal is over: {}", clean_line(&reason)));
            Exit::UNAVAILABLE
        }
        Ending::Exited { code, signal, reason: None } => exit_code(code, signal),
        Ending::Left => {
            cx.ui.say("");
            cx.ui.note(&format!("left the terminal running; `rclaude shell {session}` comes back"));
            Exit::OK
        }
        Ending::Paused => {
            cx.ui.say("");
            cx.ui.note(&format!("{session} was set aside; `rclaude shell {session}` wakes it"));
            Exit::OK
        }
    }
}
