//! The supervisor: the small process that makes sandboxes and holds their sockets.
//!
//! One thread, one loop: requests from the server (one per connection) and the ends of sandboxes'
//! first processes. It works in a mount namespace of its own, where it may mount what it likes.
//! It knows nothing that is not also written down, so it may be killed at any time: sandboxes go
//! on, and the next supervisor finds them by their `state.json`. Only sockets are lost with it,
//! and made anew when the server asks.

mod child;
mod idmap;
mod mounts;
mod netlink;
mod network;
pub(super) mod probe;
mod seccomp;
mod start;
mod verify;

use std::{
    collections::BTreeMap,
    fs::{self, File},
    io,
    os::fd::{AsFd as _, AsRawFd as _, OwnedFd},
    os::unix::fs::MetadataExt as _,
    path::Path,
    time::{Duration, Instant},
};

use rclaude_types::SandboxId;
use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    fs::FlockOperation,
    net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, sockopt},
    process::{PidfdFlags, Resource, Signal, WaitId, WaitIdOptions, getrlimit},
};
use seccompiler::BpfProgram;

use self::{
    idmap::IdMaps,
    mounts::Scaffold,
    network::{Home, Sockets},
};
use super::{
    cgroup::Hierarchies,
    layout::EngineDir,
    protocol::{self, Failure, FailureClass, PROTOCOL, Reply, Request, While as _},
    record::{self, StoredState},
    sys,
    template::is_root,
};

/// How long a supervisor without sandboxes waits for a request before it leaves; the server
/// starts another when it needs one.
const IDLE: Duration = Duration::from_mins(10);
/// How often it looks whether it is still of use.
const LOOK_AROUND: Timespec = Timespec { tv_sec: 5, tv_nsec: 0 };
/// How long a client may take to say what it wants.
const PATIENCE: Duration = Duration::from_secs(1);
/// How long a kill waits for the sandbox's first process to be gone.
const KILL_WAIT: Duration = Duration::from_millis(500);

/// Runs a supervisor for the engine in `dir`.
///
/// Call it at the very start of a process of its own, before any thread: it moves that process
/// into other namespaces and forks. It returns once a supervisor answers, either one it left
/// behind in the background or one that was there already.
pub fn run_supervisor(dir: &Path) -> io::Result<()> {
    let engine = EngineDir::new(&fs::canonicalize(dir)?);
    let lock =
        File::options().create(true).truncate(false).write(true).open(engine.supervisor_lock())?;
    match rustix::fs::flock(&lock, FlockOperation::NonBlockingLockExclusive) {
        // Whoever holds it serves, or is about to.
        Err(rustix::io::Errno::WOULDBLOCK) => return Ok(()),
        other => other?,
    }
    let mut supervisor = Supervisor::set_up(engine)?;
    #[expect(unsafe_code, reason = "leaves the caller's process in the background")]
    // SAFETY: this process has one thread.
    if unsafe { sys::fork()? }.is_some() {
        return Ok(());
    }
    rustix::process::setsid()?;
    for (fd, number) in [(&supervisor.null, 0), (&supervisor.log, 1), (&supervisor.log, 2)] {
        sys::inherit_as(fd.as_fd(), number)?;
    }
    let result = supervisor.serve();
    drop(lock);
    result
}

/// A sandbox that runs.
#[derive(Debug)]
struct Sandbox {
    state: StoredState,
    pidfd: OwnedFd,
    /// Whether it is this process's child, whose exit status can be had.
    own: bool,
    sockets: Option<Sockets>,
}

#[derive(Debug)]
struct Supervisor {
    engine: EngineDir,
    rootless: bool,
    directory: File,
    listener: OwnedFd,
    null: File,
    log: File,
    scaffold: Scaffold,
    home: Home,
    hierarchies: Hierarchies,
    idmaps: IdMaps,
    filters: [BpfProgram; 2],
    sandboxes: BTreeMap<SandboxId, Sandbox>,
}

impl Supervisor {
    /// Enters its namespaces, finds what runs, and begins to listen.
    fn set_up(engine: EngineDir) -> io::Result<Self> {
        let rootless = !is_root();
        let log = File::options().create(true).append(true).open(engine.supervisor_log())?;
        if rootless {
            enter_own_user_namespace()?;
        } else {
            mounts::enter_private_namespace(0)?;
        }
        // A sandbox on a deep stack is started from as many open trees as it has layers.
        let most = getrlimit(Resource::Nofile).maximum.unwrap_or(u64::MAX).min(1 << 20);
        sys::limit(Resource::Nofile, most, most)?;
        let directory = File::open(engine.path())?;
        mounts::strip(&[
            engine.path(),
            Path::new("/usr"),
            Path::new("/lib"),
            Path::new("/lib64"),
            Path::new("/dev"),
            Path::new("/proc"),
            Path::new("/sys/fs/cgroup"),
        ])?;
        let filters = seccomp::filters().map_err(|error| io::Error::other(error.to_string()))?;
        fs::create_dir_all(engine.scaffold())?;
        let mut supervisor = Self {
            rootless,
            scaffold: Scaffold::build(&engine.scaffold())?,
            listener: listen(&engine, &directory)?,
            null: File::options().read(true).write(true).open("/dev/null")?,
            log,
            home: Home::here()?,
            hierarchies: Hierarchies::detect(engine.path()),
            idmaps: IdMaps::default(),
            filters,
            sandboxes: BTreeMap::new(),
            directory,
            engine,
        };
        supervisor.find_sandboxes()?;
        Ok(supervisor)
    }

    /// Finds the sandboxes that an earlier supervisor left running.
    fn find_sandboxes(&mut self) -> io::Result<()> {
        let ids = self.engine.sandbox_ids()?;
        self.hierarchies.remove_unknown(&ids);
        for id in ids {
            let Some(state) = record::read::<StoredState>(&self.engine.sandbox(&id).state())?
            else {
                continue;
            };
            let pid = rustix::process::Pid::from_raw(state.process.pid);
            let Some(Ok(pidfd)) =
                pid.map(|pid| rustix::process::pidfd_open(pid, PidfdFlags::empty()))
            else {
                continue;
            };
            // Looked at after opening: the descriptor now holds on to the process looked at.
            if !state.process.is_alive() {
                continue;
            }
            let whole = state.whole;
            let sandbox = Sandbox { state, pidfd, own: false, sockets: None };
            if whole {
                self.sandboxes.insert(id, sandbox);
            } else {
                // Its start was cut short: nobody was told of it, and whoever wanted it will ask
                // again. Half a network would be all it ever had.
                sandbox.kill_and_reap();
                let _slow = sandbox.has_ended(KILL_WAIT);
            }
        }
        Ok(())
    }

    fn serve(&mut self) -> io::Result<()> {
        let mut last_request = Instant::now();
        loop {
            let (asked, ended) = self.wait()?;
            for id in ended {
                self.reap(&id);
            }
            if asked {
                last_request = Instant::now();
                if !self.answer() {
                    self.hierarchies.remove_group();
                    return Ok(());
                }
            }
            let deserted = self.directory.metadata()?.nlink() == 0;
            let idle = self.sandboxes.is_empty() && last_request.elapsed() > IDLE;
            if deserted {
                // Their disks are gone, and nobody could name them any more.
                for sandbox in self.sandboxes.values() {
                    sandbox.kill_and_reap();
                    let _ = sandbox.state.cgroups.remove();
                }
            }
            if deserted || idle {
                self.hierarchies.remove_group();
                return Ok(());
            }
        }
    }

    /// Waits for a request, the end of sandboxes, or a while.
    fn wait(&self) -> io::Result<(bool, Vec<SandboxId>)> {
        let mut watched = vec![PollFd::new(&self.listener, PollFlags::IN)];
        watched.extend(self.sandboxes.values().map(|it| PollFd::new(&it.pidfd, PollFlags::IN)));
        match poll(&mut watched, Some(&LOOK_AROUND)) {
            Err(rustix::io::Errno::INTR) => return Ok((false, Vec::new())),
            other => other?,
        };
        let ready = |fd: &PollFd<'_>| !fd.revents().is_empty();
        let ended = self.sandboxes.keys().zip(&watched[1..]);
        let ended = ended.filter(|(_, fd)| ready(fd)).map(|(id, _)| id.clone()).collect();
        Ok((ready(&watched[0]), ended))
    }

    /// Takes note of a sandbox that ended.
    fn reap(&mut self, id: &SandboxId) {
        let Some(mut sandbox) = self.sandboxes.remove(id) else { return };
        sandbox.state.ended = Some(sandbox.reap());
        // Its directory may be on its way out, too.
        let state = self.engine.sandbox(id).state();
        if state.exists() {
            let _ = record::write(&state, &sandbox.state);
        }
    }

    /// Serves one connection; `false` says to leave.
    fn answer(&mut self) -> bool {
        let Ok(peer) = rustix::net::accept_with(&self.listener, SocketFlags::CLOEXEC) else {
            return true;
        };
        let same_user = sockopt::socket_peercred(&peer)
            .is_ok_and(|peer| peer.uid == rustix::process::geteuid());
        let timed = sockopt::set_socket_timeout(&peer, sockopt::Timeout::Recv, Some(PATIENCE));
        if !same_user || timed.is_err() {
            return true;
        }
        let Ok((request, _)) = protocol::receive::<Request>(&peer) else { return true };
        let leave = matches!(request, Request::Leave);
        let reply = self.perform(request).unwrap_or_else(Reply::Failed);
        // The server may have gone meanwhile; it will ask again.
        let _ = match &reply {
            Reply::Sockets { .. } => Ok(()),
            reply => protocol::send(&peer, reply, &[]),
        };
        if let Reply::Sockets { id, .. } = &reply
            && let Some(sockets) = self.sandboxes.get(id).and_then(|it| it.sockets.as_ref())
        {
            let _ = protocol::send(&peer, &reply, &sockets.descriptors());
        }
        !leave
    }

    fn perform(&mut self, request: Request) -> Result<Reply, Failure> {
        match request {
            Request::Hello => Ok(Reply::Here { protocol: PROTOCOL, pid: std::process::id() }),
            Request::Leave => Ok(Reply::Done { running: false }),
            Request::Start { id } => {
                match self.running(&id) {
                    Some(sandbox) if sandbox.state.process.is_alive() => {}
                    Some(_) => {
                        let text = "the processes that ran in the sandbox are not gone yet";
                        return Err(Failure::new(FailureClass::Unavailable, text));
                    }
                    None => {
                        let sandbox = self.start(&id)?;
                        self.sandboxes.insert(id, sandbox);
                    }
                }
                Ok(Reply::Done { running: true })
            }
            Request::Terminate { id } => {
                let Some(sandbox) = self.running(&id) else {
                    return Ok(Reply::Done { running: false });
                };
                sandbox.signal(Signal::TERM).during("ask the daemon to end")?;
                Ok(Reply::Done { running: true })
            }
            Request::Kill { id } => {
                let Some(sandbox) = self.running(&id) else {
                    return Ok(Reply::Done { running: false });
                };
                sandbox.signal(Signal::KILL).during("end the sandbox")?;
                // In version 1, what is frozen does not even die.
                sandbox.state.cgroups.thaw().during("end the sandbox")?;
                let running = !sandbox.has_ended(KILL_WAIT);
                if !running {
                    self.reap(&id);
                }
                Ok(Reply::Done { running })
            }
            Request::Forget { id } => {
                if self.running(&id).is_some() {
                    return Ok(Reply::Done { running: true });
                }
                let state: Option<StoredState> =
                    record::read(&self.engine.sandbox(&id).state()).during("read what ran")?;
                if let Some(state) = state {
                    state.cgroups.remove().during("remove the sandbox's cgroups")?;
                }
                Ok(Reply::Done { running: false })
            }
            Request::Sockets { id } => self.sockets(id),
        }
    }

    fn sockets(&mut self, id: SandboxId) -> Result<Reply, Failure> {
        if self.running(&id).is_none() {
            return Err(Failure::new(FailureClass::Rejected, "the sandbox does not run"));
        }
        let sandbox = self.sandboxes.get_mut(&id).expect("it was found running just now");
        if sandbox.sockets.is_none() {
            let pid = sandbox.state.process.pid;
            let made = self.home.reopen(pid, sandbox.state.redirect);
            sandbox.sockets = Some(made.during("make the sandbox's sockets anew")?);
        }
        let sockets = sandbox.sockets.as_ref().expect("they were made if they were missing");
        Ok(Reply::Sockets { tcp: sockets.tcp.len(), udp: sockets.udp.len(), id })
    }

    /// The sandbox, if its first process has not ended meanwhile.
    fn running(&mut self, id: &SandboxId) -> Option<&Sandbox> {
        let sandbox = self.sandboxes.get(id)?;
        // A process on its way out is seen to be so, by whoever asks us to start the sandbox
        // again, before its descriptor tells.
        let leaving = !sandbox.state.process.is_alive();
        if sandbox.has_ended(if leaving { KILL_WAIT } else { Duration::ZERO }) {
            self.reap(id);
        }
        self.sandboxes.get(id)
    }
}

impl Sandbox {
    fn signal(&self, signal: Signal) -> io::Result<()> {
        match rustix::process::pidfd_send_signal(&self.pidfd, signal) {
            // Ended, but not reaped yet.
            Err(rustix::io::Errno::SRCH) => Ok(()),
            other => Ok(other?),
        }
    }

    /// Waits at most `patience` for the first process, and so all others, to be gone.
    fn has_ended(&self, patience: Duration) -> bool {
        let timeout = Timespec {
            tv_sec: patience.as_secs().cast_signed(),
            tv_nsec: i64::from(patience.subsec_nanos()),
        };
        poll(&mut [PollFd::new(&self.pidfd, PollFlags::IN)], Some(&timeout)).is_ok_and(|n| n > 0)
    }

    /// Collects the exit status of a process that ended; 0 for one that is another's child.
    fn reap(&self) -> i32 {
        if !self.own {
            return 0;
        }
        match rustix::process::waitid(WaitId::PidFd(self.pidfd.as_fd()), WaitIdOptions::EXITED) {
            Ok(Some(status)) => match (status.exit_status(), status.terminating_signal()) {
                (Some(code), _) => code,
                (_, Some(signal)) => 128 + signal,
                _ => 0,
            },
            _ => 0,
        }
    }

    fn kill_and_reap(&self) {
        if self.signal(Signal::KILL).is_ok() {
            let _ = self.state.cgroups.thaw();
            self.reap();
        }
    }
}

/// Without privilege: becomes root of a user namespace of its own, with mounts and a network of
/// its own to come home to.
fn enter_own_user_namespace() -> io::Result<()> {
    let (user, group) = (rustix::process::geteuid(), rustix::process::getegid());
    mounts::enter_private_namespace(libc::CLONE_NEWUSER | libc::CLONE_NEWNET)?;
    fs::write("/proc/self/setgroups", "deny")?;
    fs::write("/proc/self/uid_map", format!("0 {} 1", user.as_raw()))?;
    fs::write("/proc/self/gid_map", format!("0 {} 1", group.as_raw()))
}

/// Listens for the server. Whoever holds the lock owns the socket's name.
fn listen(engine: &EngineDir, directory: &File) -> io::Result<OwnedFd> {
    match fs::remove_file(engine.supervisor_socket()) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = rustix::net::socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None)?;
    let path = format!("/proc/self/fd/{}/supervisor.sock", directory.as_raw_fd());
    rustix::net::bind(&socket, &SocketAddrUnix::new(path)?)?;
    rustix::net::listen(&socket, 128)?;
    Ok(socket)
}
