//! A sandbox's first process, from its first step to the daemon's.
//!
//! It begins as a copy of the supervisor in new namespaces, with all capabilities over those and
//! none over anything else, and gives them up one by one. Everything of the host that will be
//! seen inside has been cut out beforehand and is held as an open tree; no path of the host is
//! looked up once the root has changed, so that a link left on the disk by an earlier life of
//! the sandbox leads nowhere but into the sandbox.

use std::{
    convert::Infallible,
    ffi::CString,
    fmt::Write as _,
    fs, io,
    io::{Read as _, Write as _},
    os::fd::{AsFd as _, OwnedFd},
    path::{Path, PathBuf},
};

use rustix::mount::{
    MountFlags, MountPropagationFlags, MoveMountFlags, UnmountFlags, mount, mount_bind,
    mount_change, mount_remount, move_mount, unmount,
};
use seccompiler::BpfProgram;

use super::{
    super::{
        protocol::{Failure, While as _},
        sys,
    },
    idmap::Mapping,
};

/// Capabilities the daemon keeps, by their numbers: to start processes as the agent and manage
/// its files and processes.
pub(super) const KEPT_CAPABILITIES: u64 = bit(CAP_CHOWN)
    | bit(CAP_DAC_OVERRIDE)
    | bit(CAP_FOWNER)
    | bit(CAP_KILL)
    | bit(CAP_SETGID)
    | bit(CAP_SETUID);
const CAP_CHOWN: u32 = 0;
const CAP_DAC_OVERRIDE: u32 = 1;
const CAP_FOWNER: u32 = 3;
const CAP_KILL: u32 = 5;
const CAP_SETGID: u32 = 6;
const CAP_SETUID: u32 = 7;

const fn bit(capability: u32) -> u64 {
    1 << capability
}

/// Parts of `/proc` that speak of the host, or to it.
const PROC_READ_ONLY: [&str; 4] = ["/proc/sys", "/proc/irq", "/proc/bus", "/proc/fs"];
const PROC_HIDDEN: [&str; 8] = [
    "/proc/kcore",
    "/proc/keys",
    "/proc/kmsg",
    "/proc/latency_stats",
    "/proc/sched_debug",
    "/proc/sysrq-trigger",
    "/proc/timer_list",
    "/proc/kpagecount",
];

/// Numbers of the descriptors the daemon inherits.
const LISTENER: i32 = 3;
const TOKEN: i32 = 4;

/// From the directory under a fresh mount into that mount.
const SCAFFOLD_REENTERED: &str = "../base";

/// What a child needs, all of it opened or made by the supervisor before the clone.
#[derive(Debug)]
pub(super) struct Plan<'a> {
    pub mapping: Mapping,
    pub tasks: Vec<fs::File>,
    /// The sandbox's directory, holding `upper` and `work`.
    pub disk: OwnedFd,
    /// Lower layers, uppermost first.
    pub layers: Vec<OwnedFd>,
    pub devices: OwnedFd,
    /// Trees shown read-only, and where.
    pub shown: Vec<(OwnedFd, PathBuf)>,
    pub hostname: String,
    pub memory_mib: u32,
    pub listener: OwnedFd,
    pub token: OwnedFd,
    pub allow_root: bool,
    pub null: OwnedFd,
    pub log: OwnedFd,
    pub agentd: OwnedFd,
    pub filters: &'a [BpfProgram],
    /// Readable once the supervisor has done its part; ends if the supervisor does.
    pub release: io::PipeReader,
}

/// Becomes the daemon, or reports through `complaint` why not, and ends.
pub(super) fn become_agentd(plan: Plan<'_>, complaint: io::PipeWriter) -> ! {
    // Above the numbers that the daemon's descriptors will take.
    let complaint = sys::move_above(&complaint.into(), 16);
    let failure = match run(plan) {
        Ok(never) => match never {},
        Err(failure) => failure,
    };
    if let (Ok(complaint), Ok(text)) = (complaint, serde_json::to_vec(&failure)) {
        // Nobody to tell: the supervisor sees the process end all the same.
        let _ = fs::File::from(complaint).write_all(&text);
    }
    sys::exit_now(1)
}

fn run(mut plan: Plan<'_>) -> Result<Infallible, Failure> {
    if plan.release.read(&mut [0]).during("wait for the supervisor")? == 0 {
        return Err(Failure::io("wait for the supervisor", &io::ErrorKind::UnexpectedEof.into()));
    }
    rustix::process::setsid().during("begin a session")?;
    for tasks in &mut plan.tasks {
        tasks.write_all(b"0").during("join a cgroup")?;
    }
    // After joining, so that its own cgroup is the root of what it sees.
    sys::unshare(libc::CLONE_NEWCGROUP).during("enter a cgroup namespace")?;
    let with_groups = plan.mapping != Mapping::Single;
    sys::become_user(plan.mapping.first_user(), with_groups).during("become the first user")?;
    change_root(&plan)?;
    fill_root(&plan)?;
    unmount(".", UnmountFlags::DETACH).during("detach the old root")?;
    std::env::set_current_dir("/").during("enter the root")?;
    if rustix::fs::statvfs("/")
        .during("look at the root")?
        .f_flag
        .contains(rustix::fs::StatVfsMountFlags::RDONLY)
    {
        return Err(Failure::io("check the root", &io::ErrorKind::ReadOnlyFilesystem.into()));
    }
    rustix::system::sethostname(plan.hostname.as_bytes()).during("set the host name")?;
    set_limits().during("set resource limits")?;
    rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o022));
    let agentd = hand_over(&plan).during("hand over descriptors")?;
    drop_privileges(plan.filters)?;
    let environment = [c"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"];
    let arguments: &[_] =
        if plan.allow_root { &[c"agentd", c"--allow-root"] } else { &[c"agentd"] };
    Err(Failure::io("start the daemon", &sys::exec(agentd.as_fd(), arguments, &environment)))
}

/// Puts the layers together and makes the result the root, with the old root still on top of it,
/// reachable as `.` only.
fn change_root(plan: &Plan<'_>) -> Result<(), Failure> {
    let private = MountPropagationFlags::PRIVATE | MountPropagationFlags::REC;
    mount_change("/", private).during("make mounts private")?;
    let flags = MountFlags::NOSUID | MountFlags::NODEV;
    // The supervisor stands in an empty directory of its scaffold. It is never called by its full
    // path: directories above it may be closed to the user we are now.
    mount("tmpfs", ".", "tmpfs", flags, c"mode=755,size=1m").during("mount the scaffold")?;
    std::env::set_current_dir(SCAFFOLD_REENTERED).during("enter the scaffold")?;
    attach(&plan.disk, Path::new("disk")).during("attach the writable disk")?;
    // Short relative names: all options together must fit a page.
    let mut options = String::from("userxattr,upperdir=disk/upper,workdir=disk/work,lowerdir=");
    for (index, layer) in plan.layers.iter().enumerate() {
        let name = index.to_string();
        attach(layer, Path::new(&name)).during("attach a layer")?;
        if index > 0 {
            options.push(':');
        }
        let _ = write!(options, "{name}");
    }
    fs::create_dir("root").during("make the root")?;
    let options = CString::new(options).expect("numbers and names without NUL");
    mount("overlay", "root", "overlay", flags, &*options).during("mount the overlay")?;
    std::env::set_current_dir("root").during("enter the root")?;
    rustix::process::pivot_root(".", ".").during("change the root")
}

/// Mounts what belongs into the root. The old one is still there, because the kernel lets a user
/// namespace mount `/proc` only where one is already to be seen.
fn fill_root(plan: &Plan<'_>) -> Result<(), Failure> {
    let quiet = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
    for (tree, target) in &plan.shown {
        attach(tree, target).during("show a tree of the host")?;
    }
    attach(&plan.devices, Path::new("/dev")).during("attach /dev")?;
    let pts = match plan.mapping {
        Mapping::Slot(_) => c"newinstance,ptmxmode=0666,mode=0620,gid=5",
        Mapping::Single => c"newinstance,ptmxmode=0666,mode=0620",
    };
    let no_exec = MountFlags::NOSUID | MountFlags::NOEXEC;
    mount("devpts", "/dev/pts", "devpts", no_exec, pts).during("mount /dev/pts")?;
    let size = CString::new(format!("mode=1777,size={}m", plan.memory_mib.div_ceil(2)));
    let size = size.expect("a number without NUL");
    let no_devices = MountFlags::NOSUID | MountFlags::NODEV;
    mount("tmpfs", "/dev/shm", "tmpfs", no_devices, &*size).during("mount /dev/shm")?;
    mount("tmpfs", "/run", "tmpfs", no_devices, c"mode=755,size=64m").during("mount /run")?;
    fs::create_dir("/run/lock").during("make /run/lock")?;
    mount("proc", "/proc", "proc", quiet, None).during("mount /proc")?;
    for path in PROC_READ_ONLY {
        if mount_bind(path, path).is_ok() {
            let flags = quiet | MountFlags::RDONLY | MountFlags::BIND;
            mount_remount(path, flags, c"").during("protect a part of /proc")?;
        }
    }
    for path in PROC_HIDDEN {
        match mount_bind("/dev/null", path) {
            // Not every kernel has every file.
            Err(rustix::io::Errno::NOENT) => {}
            other => other.during("hide a part of /proc")?,
        }
    }
    Ok(())
}

/// Attaches a tree, making the place for it if need be.
fn attach(tree: &OwnedFd, target: &Path) -> io::Result<()> {
    let attach = || {
        let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH;
        move_mount(tree, "", rustix::fs::CWD, target, flags)
    };
    match attach() {
        Err(rustix::io::Errno::NOENT) => {}
        other => return Ok(other?),
    }
    if rustix::fs::FileType::from_raw_mode(rustix::fs::fstat(tree)?.st_mode).is_dir() {
        fs::create_dir_all(target)?;
    } else {
        if let Some(parent) = target.parent() {
            fs::create_dir_all(parent)?;
        }
        fs::write(target, "")?;
    }
    Ok(attach()?)
}

fn set_limits() -> io::Result<()> {
    use rustix::process::{Resource, getrlimit};
    sys::limit(Resource::Core, 0, 0)?;
    // The hard limit is what select(2) users and old daemons loop over; it need not be the host's.
    let most = getrlimit(Resource::Nofile).maximum.unwrap_or(u64::MAX).min(1 << 20);
    sys::limit(Resource::Nofile, most.min(1 << 16), most)
}

/// Arranges descriptors: 0 to 2 say nothing and log, 3 listens, 4 has the token; all others
/// close at exec.
fn hand_over(plan: &Plan<'_>) -> io::Result<OwnedFd> {
    // Out of the way first: any of them may be sitting on a number that is about to be taken.
    let clear = |fd| sys::move_above(fd, 16);
    let [null, log] = [clear(&plan.null)?, clear(&plan.log)?];
    let [listener, token] = [clear(&plan.listener)?, clear(&plan.token)?];
    let agentd = clear(&plan.agentd)?;
    for (fd, number) in [(&null, 0), (&log, 1), (&log, 2), (&listener, LISTENER), (&token, TOKEN)] {
        sys::inherit_as(fd.as_fd(), number)?;
    }
    sys::close_from_on_exec(5)?;
    Ok(agentd)
}

fn drop_privileges(filters: &[BpfProgram]) -> Result<(), Failure> {
    let last = fs::read_to_string("/proc/sys/kernel/cap_last_cap")
        .during("read the last capability")?
        .trim()
        .parse()
        .unwrap_or(63);
    for capability in (0..=last).filter(|&number| KEPT_CAPABILITIES & bit(number) == 0) {
        sys::drop_from_bounding_set(capability).during("drop a capability")?;
    }
    sys::clear_ambient_set().during("drop ambient capabilities")?;
    rustix::thread::set_no_new_privs(true).during("give up new privileges")?;
    for filter in filters {
        seccompiler::apply_filter(filter)
            .map_err(|error| io::Error::other(error.to_string()))
            .during("filter system calls")?;
    }
    Ok(())
}
