//! Starting one sandbox.
//!
//! The order is what makes a crash at any point harmless: the child waits until its identity is
//! written down, and ends by itself if the supervisor ends first.

use std::{
    fs::File,
    io::{self, Read as _, Write as _},
    os::fd::{AsFd as _, AsRawFd as _, OwnedFd},
    path::Path,
};

use rclaude_types::SandboxId;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};

use super::{
    super::{
        cgroup::Placement,
        layout::{AGENTD_SOCKET, SandboxDir},
        protocol::{Failure, FailureClass, While as _},
        record::{self, ProcessIdentity, StoredSpec, StoredState},
        sys::{self, Cloned},
    },
    KILL_WAIT, Sandbox, Supervisor,
    child::{self, Plan},
    idmap::{Mapping, SLOTS},
    mounts,
    verify::verify,
};

/// How many connections to a daemon may wait to be accepted.
const BACKLOG: i32 = 128;
/// The exit status of what a signal ended is this and the signal's number.
const SIGNALLED: i32 = 128;

impl Supervisor {
    /// Starts a sandbox that does not run.
    pub(super) fn start(&mut self, id: &SandboxId) -> Result<Sandbox, Failure> {
        let dir = self.engine.sandbox(id);
        let spec: StoredSpec =
            record::read(&dir.spec()).during("read what was asked for")?.ok_or_else(|| {
                let text = "the sandbox was never completed; create it again";
                Failure::new(FailureClass::Rejected, text)
            })?;
        let mapping = self.free_mapping()?;
        let placement =
            self.hierarchies.make(id, &spec.resources).during("make the sandbox's cgroups")?;
        let started = self.start_in(placement.clone(), id, &dir, &spec, mapping);
        if started.is_err() {
            // Nothing runs in them. The next attempt makes them anew.
            let _ = placement.remove();
        }
        started
    }

    /// Starts it in its cgroups.
    fn start_in(
        &mut self,
        placement: Placement,
        id: &SandboxId,
        dir: &SandboxDir,
        spec: &StoredSpec,
        mapping: Mapping,
    ) -> Result<Sandbox, Failure> {
        let entrance = placement.entrance().during("open the sandbox's cgroups")?;
        let (release, mut go) = io::pipe().during("make a pipe")?;
        let (mut complaints, complaint) = io::pipe().during("make a pipe")?;
        let plan = Plan { tasks: entrance.tasks, release, ..self.plan(id, dir, spec, mapping)? };

        let namespaces = libc::CLONE_NEWUSER
            | libc::CLONE_NEWNS
            | libc::CLONE_NEWPID
            | libc::CLONE_NEWNET
            | libc::CLONE_NEWIPC
            | libc::CLONE_NEWUTS;
        let unified = entrance.unified.as_ref().map(OwnedFd::as_fd);
        #[expect(unsafe_code, reason = "clones a process; the supervisor has one thread")]
        // SAFETY: the supervisor never starts a second thread, so its copy may do anything.
        let cloned = unsafe { sys::clone_process(namespaces, unified) };
        let (pid, pidfd) = match cloned.map_err(|error| unsupported("clone namespaces", &error))? {
            Cloned::Child => {
                drop((go, complaints));
                child::become_agentd(plan, complaint)
            }
            Cloned::Parent { pid, pidfd } => (pid, pidfd),
        };
        // Their ends in the child must be the only ones, for ends of file to mean anything.
        drop((plan, complaint));
        let mut sandbox = Sandbox {
            state: StoredState {
                process: ProcessIdentity::of(pid).during("look at the new process")?,
                slot: match mapping {
                    Mapping::Slot(slot) => slot,
                    Mapping::Single => 0,
                },
                cgroups: placement,
                redirect: false,
                whole: false,
                ended: None,
            },
            pidfd,
            own: true,
            sockets: None,
        };
        let started = self.bring_up(dir, mapping, &mut sandbox, &mut go, &mut complaints);
        match started {
            Ok(()) => Ok(sandbox),
            Err(failure) => {
                // What could not be done with a process that was killed says nothing about the
                // sandbox. On its way out it already lacks what was looked for.
                let killed = failure.class == FailureClass::Unexpected
                    && sandbox.has_ended(KILL_WAIT)
                    && sandbox.reap() >= SIGNALLED;
                drop(go);
                sandbox.kill_and_reap();
                if killed {
                    let text = "the sandbox's first process was killed while it started";
                    return Err(Failure::new(FailureClass::Unavailable, text));
                }
                Err(failure)
            }
        }
    }

    /// What the supervisor does for the child while and after it builds its own walls.
    fn bring_up(
        &self,
        dir: &SandboxDir,
        mapping: Mapping,
        sandbox: &mut Sandbox,
        go: &mut io::PipeWriter,
        complaints: &mut io::PipeReader,
    ) -> Result<(), Failure> {
        let pid = sandbox.state.process.pid;
        mapping.apply(pid).map_err(|error| unsupported("map the sandbox's users", &error))?;
        record::write(&dir.state(), &sandbox.state).during("write down what runs")?;
        go.write_all(b"!").during("release the child")?;
        let (sockets, redirect) = self.home.set_up(pid).during("set up the sandbox's network")?;
        sandbox.sockets = Some(sockets);
        sandbox.state.redirect = redirect;
        // Ends when the daemon has taken over, since the pipe closes at exec.
        let mut complaint = Vec::new();
        complaints.read_to_end(&mut complaint).during("wait for the daemon")?;
        if !complaint.is_empty() {
            let failure = serde_json::from_slice(&complaint).unwrap_or_else(|_| {
                Failure::new(FailureClass::Unexpected, "the sandbox's first process was cut short")
            });
            return Err(failure);
        }
        verify(pid, mapping)?;
        sandbox.state.whole = true;
        record::write(&dir.state(), &sandbox.state).during("write down what runs")
    }

    /// Opens or makes everything the child needs.
    fn plan(
        &mut self,
        id: &SandboxId,
        dir: &SandboxDir,
        spec: &StoredSpec,
        mapping: Mapping,
    ) -> Result<Plan<'_>, Failure> {
        let listener = listen(dir.path()).during("listen for the daemon")?;
        let (token, mut writer) = io::pipe().during("make a pipe")?;
        // Fits the pipe's buffer: nobody reads yet.
        writer.write_all(spec.token.0.as_bytes()).during("write the daemon's token")?;
        drop(writer);
        let agentd = mounts::readable(&spec.agentd, None).during("open the daemon")?;
        let idmap = match mapping {
            Mapping::Slot(slot) => Some(self.idmaps.of(slot).during("map a range of users")?),
            Mapping::Single => None,
        };
        let cut =
            |path: &Path| mounts::readable(path, idmap).map_err(|error| missing(path, &error));
        let disk = mounts::writable(&dir.disk(), idmap).map_err(|error| {
            if error.raw_os_error() == Some(libc::EINVAL) {
                let text = "the file system of the data directory cannot map owners; put the data \
                            directory on ext4, xfs, btrfs or tmpfs";
                Failure::new(FailureClass::Unsupported, text)
            } else {
                Failure::io("open the sandbox's disk", &error)
            }
        })?;
        let layers = spec.layers.iter().chain([&spec.skeleton]).map(|path| cut(path));
        let layers = layers.collect::<Result<_, _>>()?;
        let mut shown = Vec::new();
        for path in &spec.system {
            shown.push((cut(path)?, path.clone()));
        }
        for bind in &spec.binds {
            shown.push((cut(&bind.source)?, bind.target.clone()));
        }
        let duplicate = |file: &File| file.try_clone().map(OwnedFd::from).during("open the log");
        Ok(Plan {
            mapping,
            tasks: Vec::new(),
            disk,
            layers,
            devices: self.scaffold.devices().during("make /dev")?,
            shown,
            hostname: hostname(id),
            memory_mib: spec.resources.memory_mib,
            listener,
            token: token.into(),
            allow_root: spec.allow_root,
            null: duplicate(&self.null)?,
            log: duplicate(&self.log)?,
            agentd,
            filters: &self.filters,
            release: io::pipe().during("make a pipe")?.0,
        })
    }

    /// A range of users that no running sandbox has.
    fn free_mapping(&self) -> Result<Mapping, Failure> {
        if self.rootless {
            return Ok(Mapping::Single);
        }
        let taken = |slot: &u32| self.sandboxes.values().any(|sandbox| sandbox.state.slot == *slot);
        (0..SLOTS).find(|slot| !taken(slot)).map(Mapping::Slot).ok_or_else(|| {
            Failure::new(FailureClass::Exhausted, "no range of user ids is left for a sandbox")
        })
    }
}

/// Makes the daemon's socket. Through `/proc`, because the path of a socket may have no more
/// than 107 bytes.
fn listen(dir: &Path) -> io::Result<OwnedFd> {
    let directory = File::open(dir)?;
    let path = format!("/proc/self/fd/{}/{AGENTD_SOCKET}", directory.as_raw_fd());
    match std::fs::remove_file(&path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = rustix::net::socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
    rustix::net::bind(&socket, &SocketAddrUnix::new(path)?)?;
    rustix::net::listen(&socket, BACKLOG)?;
    Ok(socket)
}

/// A short name for the machine: the end of the id, which is the random part.
fn hostname(id: &SandboxId) -> String {
    let text = id.as_str();
    format!("sandbox-{}", &text[text.len() - 8..])
}

fn unsupported(what: &str, error: &io::Error) -> Failure {
    match error.raw_os_error() {
        Some(libc::EPERM | libc::ENOSYS | libc::EINVAL | libc::EACCES) => Failure::new(
            FailureClass::Unsupported,
            format!(
                "could not {what} ({error}); allow user namespaces: `sysctl -w \
                     user.max_user_namespaces=65536`, and on Ubuntu `sysctl -w \
                     kernel.apparmor_restrict_unprivileged_userns=0`; `rclaude doctor` tells more"
            ),
        ),
        Some(libc::ENOSPC | libc::EUSERS | libc::EAGAIN) => {
            Failure::new(FailureClass::Exhausted, format!("could not {what}: {error}"))
        }
        _ => Failure::io(what, error),
    }
}

fn missing(path: &Path, error: &io::Error) -> Failure {
    let what = format!("show {} in the sandbox", path.display());
    match error.kind() {
        io::ErrorKind::NotFound => Failure::new(FailureClass::Rejected, format!("{what}: {error}")),
        _ => Failure::io(&what, error),
    }
}
