//! What the supervisor will do, tried once without consequence; for `doctor`. Each function
//! wants a process of its own.

use std::{fs, io, os::fd::AsFd as _, path::Path};

use rustix::mount::{MountFlags, mount};

use super::{
    super::sys,
    idmap::IdMaps,
    mounts::{self, enter_private_namespace},
    netlink,
};

/// Enters namespaces of all kinds.
pub(in super::super) fn namespaces() -> io::Result<()> {
    let rest = libc::CLONE_NEWPID | libc::CLONE_NEWIPC | libc::CLONE_NEWUTS | libc::CLONE_NEWCGROUP;
    sys::unshare(libc::CLONE_NEWUSER | libc::CLONE_NEWNS | libc::CLONE_NEWNET | rest)
}

/// Mounts an overlay as a sandbox does.
pub(in super::super) fn overlay() -> io::Result<()> {
    let (user, group) = (rustix::process::geteuid(), rustix::process::getegid());
    enter_private_namespace(libc::CLONE_NEWUSER)?;
    fs::write("/proc/self/setgroups", "deny")?;
    fs::write("/proc/self/uid_map", format!("0 {} 1", user.as_raw()))?;
    fs::write("/proc/self/gid_map", format!("0 {} 1", group.as_raw()))?;
    // Seen by this process only: it left the host's mount namespace above.
    mount("tmpfs", "/tmp", "tmpfs", MountFlags::empty(), None)?;
    std::env::set_current_dir("/tmp")?;
    for name in ["lower", "upper", "work", "root"] {
        fs::create_dir(name)?;
    }
    let options = c"userxattr,lowerdir=lower,upperdir=upper,workdir=work";
    mount("overlay", "root", "overlay", MountFlags::empty(), options)?;
    fs::write("root/file", "")
}

/// Cuts out a tree with its owners mapped.
pub(in super::super) fn idmapped(place: &Path) -> io::Result<()> {
    enter_private_namespace(0)?;
    let mut maps = IdMaps::default();
    mounts::writable(place, Some(maps.of(0)?.as_fd())).map(drop)
}

/// Sets up a network as a sandbox's.
pub(in super::super) fn redirection() -> io::Result<()> {
    sys::unshare(libc::CLONE_NEWUSER | libc::CLONE_NEWNET)?;
    netlink::make_everything_local()?;
    netlink::redirect(1)
}
