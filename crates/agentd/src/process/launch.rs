//! From a spec to a running process.

use std::{
    cell::Cell,
    collections::BTreeMap,
    ffi::CString,
    os::fd::{AsFd, OwnedFd},
    path::Path,
    rc::Rc,
    time::Duration,
};

use rclaude_types::{
    ErrorCode, ExecId,
    agentd::{ProcessInfo, ProcessSpec, ProcessState, Stdin, User},
};
use rustix::{
    fs::{Gid, Mode, OFlags, Uid, fchown, open},
    io::ioctl_fionbio,
    pipe::{PipeFlags, pipe_with},
    process::Pid,
};
use tokio::{
    io::{Interest, unix::AsyncFd},
    sync::{Mutex, watch},
    task::spawn_local,
};

use super::{Attendance, Process, Registry, Stream, pump::pump};
use crate::{
    clock,
    refusal::{Doing, Refusal, Result},
    sys::{
        spawn::{Failure, Launch, Stage, spawn},
        watch::watch,
    },
};

/// Where programs are looked for if the spec has no `PATH`.
const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// How much of a command is told when asked about it: long ones are shortened.
const TOLD_ARGV_BYTES: usize = 4096;

/// Longest time limit, in seconds: a year.
const MAX_TIMEOUT: u32 = 365 * 24 * 3600;

impl Registry {
    /// Starts a process, or returns the one that already has this name.
    /// `identity` is who it becomes.
    pub(crate) fn start(
        self: &Rc<Self>,
        id: &ExecId,
        spec: &ProcessSpec,
        identity: Option<(u32, u32)>,
    ) -> Result<(Rc<Process>, bool)> {
        if let Some(process) = self.get(id) {
            return Ok((process, false));
        }
        let command = Command::check(&spec.argv, &spec.env, &spec.cwd)?;
        check_timeout(spec.timeout_seconds)?;
        match self.start_journalled(id, spec, identity, &command) {
            Ok(process) => Ok((process, true)),
            Err(refusal) => {
                // Nothing was started, so there is nothing to tell of.
                let _left = self.journal.forget(id);
                Err(refusal)
            }
        }
    }

    fn start_journalled(
        self: &Rc<Self>,
        id: &ExecId,
        spec: &ProcessSpec,
        identity: Option<(u32, u32)>,
        command: &Command,
    ) -> Result<Rc<Process>> {
        let mut info = ProcessInfo {
            id: id.clone(),
            argv: told(&spec.argv),
            state: ProcessState::Lost,
            started_at: clock::now(),
            stdout_bytes: 0,
            stderr_bytes: 0,
            stdin_accepted: 0,
            journal_full: false,
            keep: spec.keep,
        };
        self.journal.started(&info).doing(|| "write the journal".to_owned())?;
        let (stdin, theirs_in) = match spec.stdin {
            Stdin::Open => {
                let (theirs, ours) = pipe(identity)?;
                (Some(watched(ours, Interest::WRITABLE)?), theirs)
            }
            Stdin::Closed => {
                let null = open("/dev/null", OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty());
                (None, null.doing(|| "open /dev/null".to_owned())?)
            }
        };
        let (out, theirs_out) = pipe(identity)?;
        let (err, theirs_err) = pipe(identity)?;
        let pipes = (watched(out, Interest::READABLE)?, watched(err, Interest::READABLE)?);
        let pid = spawn(&Launch {
            programs: &command.programs,
            argv: &command.argv,
            env: &command.env,
            cwd: &command.cwd,
            identity,
            stdio: [theirs_in.as_fd(), theirs_out.as_fd(), theirs_err.as_fd()],
            controlled: false,
        })
        .map_err(|failure| refusal(&spec.argv, &spec.cwd, &failure))?;
        let pid = Pid::from_raw(pid).ok_or_else(|| Refusal::internal("no process id"))?;
        info.state = ProcessState::Running { pid: pid.as_raw_nonzero().get().unsigned_abs() };
        let process = Rc::new(Process {
            id: info.id,
            argv: info.argv,
            started_at: info.started_at,
            keep: info.keep,
            journal: Rc::clone(&self.journal),
            state: Cell::new(info.state),
            ended: Cell::new(None),
            undrained: Cell::new(2),
            timed_out: Cell::new(false),
            stdout_bytes: Cell::new(0),
            stderr_bytes: Cell::new(0),
            journal_full: Cell::new(false),
            attendance: spec.attended.then(Attendance::default),
            stdin_accepted: Cell::new(0),
            stdin: Mutex::new(stdin),
            changed: watch::channel(()).0,
        });
        self.insert(pid, &process);
        for (stream, pipe) in [(Stream::Stdout, pipes.0), (Stream::Stderr, pipes.1)] {
            spawn_local(pump(Rc::clone(&process), Rc::clone(self), stream, pipe));
        }
        if let Some(seconds) = spec.timeout_seconds {
            spawn_local(limit(Rc::clone(self), Rc::clone(&process), seconds));
        }
        Ok(process)
    }
}

/// Ends a process whose time is up.
async fn limit(registry: Rc<Registry>, process: Rc<Process>, seconds: u32) {
    let time = Duration::from_secs(seconds.into());
    if tokio::time::timeout(time, process.finished()).await.is_err() {
        process.timed_out.set(true);
        registry.end(&process.id).await;
    }
}

fn check_timeout(seconds: Option<u32>) -> Result<()> {
    if seconds.is_some_and(|seconds| seconds == 0 || seconds > MAX_TIMEOUT) {
        return Err(Refusal::invalid(format!("timeout_seconds must be 1 to {MAX_TIMEOUT}")));
    }
    Ok(())
}

/// A command in the kernel's terms.
pub(crate) struct Command {
    pub(crate) programs: Vec<CString>,
    pub(crate) argv: Vec<CString>,
    pub(crate) env: Vec<CString>,
    pub(crate) cwd: CString,
}

impl Command {
    pub(crate) fn check(
        argv: &[String],
        env: &BTreeMap<String, String>,
        cwd: &str,
    ) -> Result<Self> {
        let c =
            |text: String| CString::new(text).map_err(|_| Refusal::invalid("a NUL in the command"));
        let Some(program) = argv.first().filter(|program| !program.is_empty()) else {
            return Err(Refusal::invalid("argv names no program"));
        };
        if !Path::new(cwd).is_absolute() {
            return Err(Refusal::invalid("cwd must be an absolute path"));
        }
        if env.keys().any(|name| name.is_empty() || name.contains('=')) {
            return Err(Refusal::invalid("a variable's name must not be empty or hold '='"));
        }
        let programs: Vec<String> = if program.contains('/') {
            vec![program.clone()]
        } else {
            let path = env.get("PATH").map_or(DEFAULT_PATH, String::as_str);
            path.split(':')
                .filter(|it| it.starts_with('/'))
                .map(|it| format!("{it}/{program}"))
                .collect()
        };
        Ok(Self {
            programs: programs.into_iter().map(c).collect::<Result<_>>()?,
            argv: argv.iter().cloned().map(c).collect::<Result<_>>()?,
            env: env.iter().map(|(k, v)| c(format!("{k}={v}"))).collect::<Result<_>>()?,
            cwd: c(cwd.to_owned())?,
        })
    }
}

/// A pipe: the end to read and the end to write. It belongs to the process's user, who may then
/// open it again by name (`/dev/stderr`).
fn pipe(identity: Option<(u32, u32)>) -> Result<(OwnedFd, OwnedFd)> {
    let doing = || "make a pipe".to_owned();
    let (read, write) = pipe_with(PipeFlags::CLOEXEC).doing(doing)?;
    if let Some((uid, gid)) = identity {
        fchown(&read, Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid))).doing(doing)?;
    }
    Ok((read, write))
}

/// The daemon's end of a pipe, never waited on but by the loop.
fn watched(fd: OwnedFd, interest: Interest) -> Result<AsyncFd<OwnedFd>> {
    let doing = || "watch a pipe".to_owned();
    ioctl_fionbio(&fd, true).doing(doing)?;
    watch(fd, interest).doing(doing)
}

/// A command as it is told: arguments until there is enough of them.
pub(crate) fn told(argv: &[String]) -> Vec<String> {
    let mut left = TOLD_ARGV_BYTES;
    let mut told = Vec::new();
    for argument in argv {
        if argument.len() > left {
            let end = argument.floor_char_boundary(left);
            told.push(format!("{}…", &argument[..end]));
            break;
        }
        left = left.saturating_sub(argument.len() + 1);
        told.push(argument.clone());
    }
    told
}

/// Why a program could not be started, in words for its starter.
pub(crate) fn refusal(argv: &[String], cwd: &str, failure: &Failure) -> Refusal {
    let program = argv.first().map_or("", String::as_str);
    let errno = failure.error.raw_os_error();
    match (failure.stage, errno) {
        (Stage::Program, Some(libc::ENOENT)) => Refusal::new(
            ErrorCode::FileNotFound,
            format!("no such program: {program} (or the interpreter it names)"),
        ),
        (Stage::Program, Some(libc::ENOEXEC)) => Refusal::new(
            ErrorCode::InvalidRequest,
            format!("{program} is not a program this machine can run"),
        ),
        (Stage::Program, _) => Refusal::from_io(&format!("run {program}"), &failure.error),
        (Stage::Directory, _) => Refusal::from_io(&format!("enter {cwd}"), &failure.error),
        (Stage::Rights, _) => Refusal::from_io("give up the daemon's rights", &failure.error),
        (Stage::Clone, _) => Refusal::from_io("make another process", &failure.error),
    }
}

/// Whose identity a process of `user` takes. A daemon that is not root has none to give up.
pub(crate) fn identity(user: User, agent: (u32, u32)) -> Option<(u32, u32)> {
    (user == User::Agent && rustix::process::geteuid().is_root()).then_some(agent)
}
