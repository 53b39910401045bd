//! The supervisor's own mount namespace, and trees cut out of it for sandboxes.
//!
//! Nothing here may ever touch the host's mounts: [`enter_private_namespace`] is called before
//! any other function of this module and checks that it worked.

use std::{
    fs, io,
    os::fd::{AsFd as _, BorrowedFd, OwnedFd},
    os::unix::fs::symlink,
    path::{Path, PathBuf},
};

use rustix::mount::{
    MountFlags, MountPropagationFlags, OpenTreeFlags, UnmountFlags, mount, mount_bind,
    mount_change, open_tree, unmount,
};

use super::super::sys;

/// Devices a sandbox has.
const DEVICES: [&str; 6] = ["null", "zero", "full", "random", "urandom", "tty"];
/// Kinds of file system that hold nothing a sandbox could be made of, but of which a busy host
/// has hundreds, each copied into every new mount namespace.
const USELESS: [&str; 12] = [
    "overlay",
    "nsfs",
    "squashfs",
    "tracefs",
    "debugfs",
    "securityfs",
    "bpf",
    "pstore",
    "configfs",
    "mqueue",
    "hugetlbfs",
    "fuse.lxcfs",
];

/// Leaves the host's mount namespace for a copy from which nothing propagates back.
pub(super) fn enter_private_namespace(more: libc::c_int) -> io::Result<()> {
    let host = fs::read_link("/proc/self/ns/mnt")?;
    sys::unshare(libc::CLONE_NEWNS | more)?;
    if fs::read_link("/proc/self/ns/mnt")? == host {
        return Err(io::Error::other("the mount namespace is still the host's"));
    }
    let private = MountPropagationFlags::PRIVATE | MountPropagationFlags::REC;
    Ok(mount_change("/", private)?)
}

/// Drops mounts that no sandbox needs, except on the way to or under `needed`.
pub(super) fn strip(needed: &[&Path]) -> io::Result<()> {
    for (point, kind) in mounts()?.into_iter().rev() {
        let related = point == Path::new("/")
            || needed.iter().any(|path| path.starts_with(&point) || point.starts_with(path));
        if !related && USELESS.contains(&kind.as_str()) {
            // Busy or locked ones stay; they cost time, nothing else.
            let _ = unmount(&point, UnmountFlags::DETACH);
        }
    }
    Ok(())
}

fn mounts() -> io::Result<Vec<(PathBuf, String)>> {
    let text = fs::read_to_string("/proc/self/mountinfo")?;
    Ok(text
        .lines()
        .filter_map(|line| {
            let (left, right) = line.split_once(" - ")?;
            // Blanks in paths are written in octal; such a path does not match and stays.
            Some((PathBuf::from(left.split(' ').nth(4)?), right.split(' ').next()?.to_owned()))
        })
        .collect())
}

/// The supervisor's scaffold: where the device template is and where sandboxes, each for
/// itself, put up theirs.
#[derive(Debug)]
pub(super) struct Scaffold {
    devices: PathBuf,
}

impl Scaffold {
    /// Puts it up on `at`, seen in this mount namespace only.
    pub(super) fn build(at: &Path) -> io::Result<Self> {
        let flags = MountFlags::NOSUID | MountFlags::NODEV;
        mount("tmpfs", at, "tmpfs", flags, c"mode=755,size=1m")?;
        let scaffold = Self { devices: at.join("dev") };
        // Where children find themselves: an empty directory to mount on.
        fs::create_dir(at.join("base"))?;
        fs::create_dir(&scaffold.devices)?;
        mount("tmpfs", &scaffold.devices, "tmpfs", MountFlags::NOSUID, c"mode=755,size=64k")?;
        for name in DEVICES {
            let file = scaffold.devices.join(name);
            fs::write(&file, "")?;
            mount_bind(Path::new("/dev").join(name), &file)?;
        }
        for name in ["pts", "shm"] {
            fs::create_dir(scaffold.devices.join(name))?;
        }
        for (name, target) in [
            ("ptmx", "pts/ptmx"),
            ("fd", "/proc/self/fd"),
            ("stdin", "/proc/self/fd/0"),
            ("stdout", "/proc/self/fd/1"),
            ("stderr", "/proc/self/fd/2"),
        ] {
            symlink(target, scaffold.devices.join(name))?;
        }
        std::env::set_current_dir(at.join("base"))?;
        Ok(scaffold)
    }

    /// A `/dev` for one sandbox.
    pub(super) fn devices(&self) -> io::Result<OwnedFd> {
        let tree = cut(&self.devices)?;
        let set = libc::MOUNT_ATTR_RDONLY | libc::MOUNT_ATTR_NOSUID | libc::MOUNT_ATTR_NOEXEC;
        sys::mount_setattr(tree.as_fd(), set, None, true)?;
        Ok(tree)
    }
}

/// A copy of the mounts at and under `path`, attached nowhere.
fn cut(path: &Path) -> io::Result<OwnedFd> {
    let flags = OpenTreeFlags::OPEN_TREE_CLONE
        | OpenTreeFlags::OPEN_TREE_CLOEXEC
        | OpenTreeFlags::AT_RECURSIVE;
    Ok(open_tree(rustix::fs::CWD, path, flags)?)
}

/// A tree of the host for one sandbox's writable disk, owners translated by `idmap`.
pub(super) fn writable(path: &Path, idmap: Option<BorrowedFd<'_>>) -> io::Result<OwnedFd> {
    let tree = cut(path)?;
    let set = libc::MOUNT_ATTR_NOSUID | libc::MOUNT_ATTR_NODEV;
    sys::mount_setattr(tree.as_fd(), set, idmap, false)?;
    Ok(tree)
}

/// A tree of the host that a sandbox may read, owners translated by `idmap` where the file
/// system can; elsewhere everything in it belongs to nobody, which readers seldom mind.
pub(super) fn readable(path: &Path, idmap: Option<BorrowedFd<'_>>) -> io::Result<OwnedFd> {
    let tree = cut(path)?;
    let set = libc::MOUNT_ATTR_RDONLY | libc::MOUNT_ATTR_NOSUID | libc::MOUNT_ATTR_NODEV;
    match sys::mount_setattr(tree.as_fd(), set, idmap, true) {
        Err(error) if idmap.is_some() && error.raw_os_error() == Some(libc::EINVAL) => {
            sys::mount_setattr(tree.as_fd(), set, None, true)?;
        }
        other => other?,
    }
    Ok(tree)
}
