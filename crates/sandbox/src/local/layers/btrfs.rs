//! The four requests to btrfs that make and remove subvolumes.
#![expect(unsafe_code, reason = "requests that no safe library offers")]

use std::{
    ffi::CStr,
    io,
    os::fd::{AsFd, AsRawFd as _, BorrowedFd},
};

/// `struct btrfs_ioctl_vol_args_v2` of `linux/btrfs.h`.
#[repr(C)]
struct Named {
    fd: i64,
    transaction: u64,
    flags: u64,
    unused: [u64; 4],
    name: [u8; 4040],
}

/// `struct btrfs_ioctl_vol_args`.
#[repr(C)]
struct Old {
    fd: i64,
    name: [u8; 4088],
}

const SNAP_DESTROY: u64 = 0x5000_940f;
const SNAP_CREATE_V2: u64 = 0x5000_9417;
const SUBVOL_CREATE_V2: u64 = 0x5000_9418;
const READ_ONLY: u64 = 1 << 1;
/// Inode of every subvolume's root (`BTRFS_FIRST_FREE_OBJECTID`).
const ROOT_INODE: u64 = 256;
const MAGIC: u64 = 0x9123_683e;

/// Makes an empty subvolume.
pub(in super::super) fn create(dir: impl AsFd, name: &CStr) -> io::Result<()> {
    request(dir.as_fd(), SUBVOL_CREATE_V2, &named(name, 0, 0)?)
}

/// Makes a read-only snapshot of a subvolume. What was written to it before is in the snapshot,
/// on disk or not.
pub(super) fn snapshot(of: impl AsFd, dir: impl AsFd, name: &CStr) -> io::Result<()> {
    let of = i64::from(of.as_fd().as_raw_fd());
    request(dir.as_fd(), SNAP_CREATE_V2, &named(name, of, READ_ONLY)?)
}

/// Removes a subvolume with all in it. Its blocks are freed in the background.
pub(in super::super) fn destroy(dir: impl AsFd, name: &CStr) -> io::Result<()> {
    let mut arguments = Old { fd: 0, name: [0; 4088] };
    fill(&mut arguments.name, name)?;
    request(dir.as_fd(), SNAP_DESTROY, &arguments)
}

/// Whether a directory is a subvolume's root.
pub(in super::super) fn is_subvolume(dir: impl AsFd) -> io::Result<bool> {
    let inode = rustix::fs::fstat(dir.as_fd())?.st_ino;
    Ok(inode == ROOT_INODE && rustix::fs::fstatfs(dir.as_fd())?.f_type.cast_unsigned() == MAGIC)
}

fn named(name: &CStr, fd: i64, flags: u64) -> io::Result<Named> {
    let mut arguments = Named { fd, transaction: 0, flags, unused: [0; 4], name: [0; 4040] };
    fill(&mut arguments.name, name)?;
    Ok(arguments)
}

fn fill(space: &mut [u8], name: &CStr) -> io::Result<()> {
    let name = name.to_bytes();
    let place = space.get_mut(..name.len()).ok_or(io::ErrorKind::InvalidFilename)?;
    place.copy_from_slice(name);
    Ok(())
}

fn request<T>(dir: BorrowedFd<'_>, number: u64, arguments: &T) -> io::Result<()> {
    const { assert!(size_of::<T>() == 4096) };
    // SAFETY: the kernel only reads the structure, whose size is part of the number.
    match unsafe { libc::ioctl(dir.as_raw_fd(), number, std::ptr::from_ref(arguments)) } {
        -1 => Err(io::Error::last_os_error()),
        _ => Ok(()),
    }
}
