//! What this host can isolate, and what to do where it cannot.
//!
//! Kernel features are tried, not looked up: each attempt runs in a short-lived process that
//! enters namespaces of its own, so nothing of it remains.

use std::{fs, io, path::Path};

use rclaude_types::{HostCheck, HostCheckLevel, SealMethod};

use super::{cgroup::Hierarchies, layers, reclaim, supervisor::probe, sys, template::is_root};

/// Below this much room sessions soon fail; in bytes.
const LITTLE_DISK: u64 = 2 << 30;
/// Below this much memory one agent and its compiler hardly fit; in KiB.
const LITTLE_MEMORY: u64 = 2 << 20;

/// Looks at the host, for an engine in `dir` (which need not exist yet).
pub fn checks(dir: &Path) -> Vec<HostCheck> {
    // What is asked about a directory that is yet to be made is asked about where it will be.
    let place = dir.ancestors().find(|path| path.exists()).unwrap_or_else(|| Path::new("/"));
    vec![
        privilege(),
        user_namespaces(),
        overlay(),
        idmapped(place),
        cgroups(place),
        pausing(place),
        seccomp(),
        landlock(),
        redirection(),
        file_system(place),
        checkpoints(place),
        disk(place),
        memory(),
    ]
}

fn check(name: &str, level: HostCheckLevel, detail: impl Into<String>) -> HostCheck {
    HostCheck { name: name.to_owned(), level, detail: detail.into(), fix: None }
}

/// Adds what to do about it.
trait Fix {
    fn fix(self, text: &str) -> Self;
}

impl Fix for HostCheck {
    fn fix(mut self, text: &str) -> Self {
        self.fix = Some(text.to_owned());
        self
    }
}

fn privilege() -> HostCheck {
    if is_root() {
        check("privilege", HostCheckLevel::Ok, "runs as root; every sandbox gets users of its own")
    } else {
        check(
            "privilege",
            HostCheckLevel::Weaker,
            "runs without root: all sandboxes share this user's id, the agent could disturb the \
             daemon in its own sandbox, and limits hold only where cgroups are delegated",
        )
        .fix("run the server as root, or in a systemd unit with `Delegate=yes` for the limits")
    }
}

fn user_namespaces() -> HostCheck {
    const NAME: &str = "user namespaces";
    match sys::in_scratch_process(probe::namespaces) {
        Ok(()) => check(NAME, HostCheckLevel::Ok, "namespaces of all kinds can be made"),
        Err(error) => check(NAME, HostCheckLevel::Missing, format!("cannot be made: {error}")).fix(
            "sysctl -w user.max_user_namespaces=65536; on Debian also `sysctl -w \
             kernel.unprivileged_userns_clone=1`, on Ubuntu `sysctl -w \
             kernel.apparmor_restrict_unprivileged_userns=0`; in a container, run it privileged",
        ),
    }
}

fn overlay() -> HostCheck {
    const NAME: &str = "overlay file system";
    match sys::in_scratch_process(probe::overlay) {
        Ok(()) => check(NAME, HostCheckLevel::Ok, "can be mounted in a user namespace"),
        Err(error) => check(
            NAME,
            HostCheckLevel::Missing,
            format!("cannot be mounted in a user namespace: {error}"),
        )
        .fix("use Linux 5.11 or newer, and load the module: modprobe overlay"),
    }
}

fn idmapped(place: &Path) -> HostCheck {
    const NAME: &str = "mapped owners";
    if !is_root() {
        return check(NAME, HostCheckLevel::Weaker, "not used without root")
            .fix("run the server as root");
    }
    match sys::in_scratch_process(|| probe::idmapped(place)) {
        Ok(()) => check(NAME, HostCheckLevel::Ok, "the data directory can be mounted idmapped"),
        Err(error) => check(
            NAME,
            HostCheckLevel::Missing,
            format!("the data directory cannot be mounted idmapped: {error}"),
        )
        .fix("put the data directory on ext4, xfs or btrfs, with Linux 5.19 or newer"),
    }
}

fn cgroups(place: &Path) -> HostCheck {
    const NAME: &str = "limits (cgroups)";
    let hierarchies = Hierarchies::detect(place);
    let (mut found, mut absent) = (Vec::new(), Vec::new());
    for controller in ["cpu", "memory", "pids"] {
        match hierarchies.version_of(controller) {
            Some(version) => found.push(format!("{controller} (v{version})")),
            None => absent.push(controller),
        }
    }
    if absent.is_empty() {
        return check(NAME, HostCheckLevel::Ok, found.join(", "));
    }
    let detail = format!("sandboxes have no limit on: {}", absent.join(", "));
    check(NAME, HostCheckLevel::Weaker, detail).fix(
        "run as root with /sys/fs/cgroup writable, or in a systemd unit with `Delegate=yes` (and \
         `KillMode=process`, so that sandboxes outlive a restart)",
    )
}

fn pausing(place: &Path) -> HostCheck {
    const NAME: &str = "pause (freezer)";
    let Some(version) = Hierarchies::detect(place).freezer() else {
        return check(
            NAME,
            HostCheckLevel::Weaker,
            "no cgroup can be frozen: a pause ends the session's processes and keeps its disk",
        )
        .fix(
            "run as root with /sys/fs/cgroup writable, or in a systemd unit with `Delegate=yes`, \
             on Linux 5.2 or newer",
        );
    };
    let frozen = format!("a paused session stands still (cgroup v{version}), using no processor");
    match (reclaim::host_can_swap(), reclaim::can_page_out()) {
        (true, true) => {
            let detail = format!("{frozen}; its memory can go to swap");
            check(NAME, HostCheckLevel::Ok, detail)
        }
        (false, _) => {
            let detail = format!(
                "{frozen}, but its memory stays in use until it hibernates: the host has no swap"
            );
            check(NAME, HostCheckLevel::Weaker, detail).fix(
                "add swap, best compressed in memory: zramctl --find --size 8G, mkswap, swapon",
            )
        }
        (true, false) => {
            let detail = format!(
                "{frozen}, but its memory stays in use until the host runs short: this process \
                 may not move it to swap"
            );
            check(NAME, HostCheckLevel::Weaker, detail)
                .fix("run as root, with CAP_SYS_NICE and CAP_SYS_PTRACE in a container")
        }
    }
}

fn seccomp() -> HostCheck {
    const NAME: &str = "seccomp";
    if Path::new("/proc/sys/kernel/seccomp/actions_avail").exists() {
        check(NAME, HostCheckLevel::Ok, "system calls can be filtered")
    } else {
        check(NAME, HostCheckLevel::Missing, "the kernel cannot filter system calls")
            .fix("use a kernel with CONFIG_SECCOMP_FILTER")
    }
}

fn landlock() -> HostCheck {
    const NAME: &str = "Landlock";
    if let Some(version) = sys::landlock_version() {
        let detail = format!("version {version}; programs in sandboxes can confine themselves");
        return check(NAME, HostCheckLevel::Ok, detail);
    }
    let detail = "not there; programs in sandboxes cannot confine themselves further";
    check(NAME, HostCheckLevel::Weaker, detail).fix("boot with lsm=landlock,…")
}

fn redirection() -> HostCheck {
    const NAME: &str = "redirection (nf_tables)";
    match sys::in_scratch_process(probe::redirection) {
        Ok(()) => check(NAME, HostCheckLevel::Ok, "every port a program dials reaches the server"),
        Err(error) => check(
            NAME,
            HostCheckLevel::Weaker,
            format!("only the usual ports reach the server, others refuse ({error})"),
        )
        .fix("modprobe nft_redir nft_chain_nat"),
    }
}

fn file_system(place: &Path) -> HostCheck {
    const NAME: &str = "file system";
    const EXT4: i64 = 0xef53;
    const XFS: i64 = 0x5846_5342;
    const BTRFS: i64 = 0x9123_683e;
    const TMPFS: i64 = 0x0102_1994;
    const OVERLAY: i64 = 0x794c_7630;
    match rustix::fs::statfs(place).map(|found| found.f_type) {
        Ok(BTRFS) => check(NAME, HostCheckLevel::Ok, "btrfs"),
        Ok(XFS) => check(NAME, HostCheckLevel::Ok, "xfs"),
        Ok(EXT4) => check(NAME, HostCheckLevel::Ok, "ext4"),
        Ok(TMPFS) => {
            check(NAME, HostCheckLevel::Weaker, "memory: gone after a restart of the host")
                .fix("put the data directory on a disk")
        }
        Ok(OVERLAY) => check(NAME, HostCheckLevel::Missing, "overlay, which cannot carry another")
            .fix("mount a volume (ext4, xfs or btrfs) and put the data directory there"),
        Ok(kind) => {
            let detail = format!("of a kind that was not tried (0x{kind:x})");
            check(NAME, HostCheckLevel::Weaker, detail).fix("use ext4, xfs or btrfs")
        }
        Err(error) => check(NAME, HostCheckLevel::Missing, format!("cannot be read: {error}")),
    }
}

/// Which way of keeping a sandbox's state there is here: tried, where the engine will be.
fn checkpoints(place: &Path) -> HostCheck {
    const NAME: &str = "checkpoints";
    // Once the engine has a file system of its own, it is there that counts.
    let own = place.join("disk");
    let place = if own.join("layers").exists() { &own } else { place };
    match layers::way::find(place) {
        Ok(SealMethod::Btrfs) => check(
            NAME,
            HostCheckLevel::Ok,
            "snapshots (btrfs): a sandbox stands still for some milliseconds, whatever its size",
        ),
        Ok(SealMethod::Reflink) => check(
            NAME,
            HostCheckLevel::Ok,
            "what changed, sharing blocks (the file system can clone files): a sandbox stands \
             still while its files are looked through, a few milliseconds for each thousand, and \
             a checkpoint takes little room",
        ),
        Ok(SealMethod::Copy) => check(
            NAME,
            HostCheckLevel::Weaker,
            "what changed is copied (the file system can neither clone files nor make \
             snapshots): a sandbox stands still while its files are looked through, a few \
             milliseconds for each thousand, and a checkpoint takes time and room for what changed",
        )
        .fix(
            "put the data directory on xfs or, better, btrfs; or let the engine make itself a \
             btrfs in a file (needs root, loop devices and btrfs-progs)",
        ),
        Err(error) => check(NAME, HostCheckLevel::Weaker, format!("could not be tried: {error}"))
            .fix("let the server's user write to the data directory, and look again"),
    }
}

fn disk(place: &Path) -> HostCheck {
    const NAME: &str = "disk space";
    match rustix::fs::statvfs(place) {
        Ok(found) => {
            let free = found.f_bavail * found.f_frsize;
            let detail = format!("{} MiB free", free >> 20);
            if free < LITTLE_DISK {
                check(NAME, HostCheckLevel::Weaker, detail).fix("free 2 GiB or more")
            } else {
                check(NAME, HostCheckLevel::Ok, detail)
            }
        }
        Err(error) => check(NAME, HostCheckLevel::Missing, format!("cannot be read: {error}")),
    }
}

fn memory() -> HostCheck {
    const NAME: &str = "memory";
    match available_memory() {
        Ok(free) => {
            let detail = format!("{} MiB available", free >> 10);
            if free < LITTLE_MEMORY {
                check(NAME, HostCheckLevel::Weaker, detail).fix("have 2 GiB or more available")
            } else {
                check(NAME, HostCheckLevel::Ok, detail)
            }
        }
        Err(error) => check(NAME, HostCheckLevel::Weaker, format!("cannot be read: {error}")),
    }
}

/// In KiB.
fn available_memory() -> io::Result<u64> {
    let text = fs::read_to_string("/proc/meminfo")?;
    text.lines()
        .find_map(|line| {
            line.strip_prefix("MemAvailable:")?.trim().strip_suffix(" kB")?.parse().ok()
        })
        .ok_or_else(|| io::ErrorKind::InvalidData.into())
}
