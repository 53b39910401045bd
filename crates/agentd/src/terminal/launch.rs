//! From a spec to a program before a terminal.

use std::{
    cell::{Cell, RefCell},
    collections::BTreeMap,
    os::{
        fd::{AsFd, OwnedFd},
        unix::fs::PermissionsExt,
    },
    rc::Rc,
};

use rclaude_types::{
    ErrorCode, TerminalId, TerminalSize,
    agentd::{ProcessState, TerminalSpec},
};
use rustix::{
    fs::{Mode, Uid, fchmod, fchown},
    io::ioctl_fionbio,
    process::Pid,
    pty::{OpenptFlags, ioctl_tiocgptpeer, openpt, unlockpt},
    termios::{InputModes, OptionalActions, tcgetattr, tcsetattr, tcsetwinsize},
};
use tokio::{
    io::{Interest, unix::AsyncFd},
    sync::watch,
    task::spawn_local,
};

use super::{Journal, Line, Screen, Terminal, Terminals, check_size, pump::pump, winsize};
use crate::{
    clock,
    process::{Command, refusal, told},
    refusal::{Doing, Refusal, Result},
    sys::{
        spawn::{Launch, spawn},
        watch::watch,
    },
};

/// Terminals that may run at once. Each costs memory for its screen and disk for its journal.
const MAX_RUNNING: usize = 32;

/// Shells, in the order in which they are looked for where `SHELL` names none that is there.
const SHELLS: [&str; 2] = ["/bin/bash", "/bin/sh"];

impl Terminals {
    /// Opens a terminal, or returns the one that already has this name. `identity` is who its
    /// program becomes.
    pub(crate) fn open_new(
        &self,
        id: &TerminalId,
        spec: &TerminalSpec,
        identity: Option<(u32, u32)>,
    ) -> Result<(Rc<Terminal>, bool)> {
        if let Some(terminal) = self.get(id) {
            return Ok((terminal, false));
        }
        check_size(spec.size)?;
        if self.running() >= MAX_RUNNING {
            let detail = format!("{MAX_RUNNING} terminals run already; end one first");
            return Err(Refusal::new(ErrorCode::Conflict, detail));
        }
        let argv = if spec.argv.is_empty() { shell(&spec.env) } else { spec.argv.clone() };
        let command = Command::check(&argv, &spec.env, &spec.cwd)?;
        let directory = self.directory(id);
        let started = self.start(id, spec, &argv, &command, identity);
        if started.is_err() {
            // Nothing was started, so there is nothing to tell of.
            let _left = std::fs::remove_dir_all(directory);
        }
        started.map(|terminal| (terminal, true))
    }

    fn start(
        &self,
        id: &TerminalId,
        spec: &TerminalSpec,
        argv: &[String],
        command: &Command,
        identity: Option<(u32, u32)>,
    ) -> Result<Rc<Terminal>> {
        let directory = self.directory(id);
        let journal = Journal::create(&directory).doing(|| "write the journal".to_owned())?;
        let (near, far) = pair(spec.size, identity)?;
        let pid = spawn(&Launch {
            programs: &command.programs,
            argv: &command.argv,
            env: &command.env,
            cwd: &command.cwd,
            identity,
            stdio: [far.as_fd(), far.as_fd(), far.as_fd()],
            controlled: true,
        })
        .map_err(|failure| refusal(argv, &spec.cwd, &failure))?;
        let pid = Pid::from_raw(pid).ok_or_else(|| Refusal::internal("no process id"))?;
        let near = Rc::new(near);
        let terminal = Rc::new(Terminal {
            id: id.clone(),
            argv: told(argv),
            started_at: clock::now(),
            directory,
            state: Cell::new(ProcessState::Running {
                pid: pid.as_raw_nonzero().get().unsigned_abs(),
            }),
            ended: Cell::new(None),
            size: Cell::new(spec.size),
            line: RefCell::new(Some(Line { near: Rc::clone(&near), _far: far })),
            journal: RefCell::new(journal),
            screen: RefCell::new(Some(Screen::new(spec.size, 0))),
            printed: Cell::new(None),
            viewers: Cell::new(0),
            writers: RefCell::default(),
            changed: watch::channel(()).0,
        });
        terminal.write_down();
        self.insert(pid, &terminal);
        spawn_local(pump(Rc::clone(&terminal), near));
        Ok(terminal)
    }
}

/// The shell of a user who logs in. Not as a login shell: those read `/etc/profile`, which puts a
/// `PATH` of its own in the place of the session's.
fn shell(env: &BTreeMap<String, String>) -> Vec<String> {
    let is_there = |path: &&str| {
        path.starts_with('/')
            && std::fs::metadata(path)
                .is_ok_and(|meta| meta.is_file() && meta.permissions().mode() & 0o111 != 0)
    };
    let own = env.get("SHELL").map(String::as_str);
    let shell = own.into_iter().chain(SHELLS).find(is_there).unwrap_or("/bin/sh");
    vec![shell.to_owned()]
}

/// A new terminal of the kernel's: the daemon's end, and the program's.
fn pair(size: TerminalSize, identity: Option<(u32, u32)>) -> Result<(AsyncFd<OwnedFd>, OwnedFd)> {
    let doing = || "open a terminal".to_owned();
    let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
    let near = openpt(flags).doing(doing)?;
    unlockpt(&near).doing(doing)?;
    let far = ioctl_tiocgptpeer(&near, flags).doing(doing)?;
    if let Some((uid, _)) = identity {
        // So that its user may open it by name; the group stays what the mount says.
        fchown(&far, Some(Uid::from_raw(uid)), None).doing(doing)?;
        fchmod(&far, Mode::from_raw_mode(0o620)).doing(doing)?;
    }
    tcsetwinsize(&near, winsize(size)).doing(doing)?;
    // Erasing takes away a whole character, not its last byte.
    let mut attributes = tcgetattr(&far).doing(doing)?;
    attributes.input_modes |= InputModes::IUTF8;
    tcsetattr(&far, OptionalActions::Now, &attributes).doing(doing)?;
    ioctl_fionbio(&near, true).doing(doing)?;
    let near = watch(near, Interest::READABLE | Interest::WRITABLE).doing(doing)?;
    Ok((near, far))
}
