//! The few system calls that no safe library offers.
#![expect(unsafe_code, reason = "raw system calls; each block says why it is sound")]

use std::{
    ffi::CStr,
    io,
    os::fd::{AsRawFd as _, BorrowedFd, FromRawFd as _, OwnedFd, RawFd},
};

/// Which side of [`clone_process`] one is on.
#[derive(Debug)]
pub(super) enum Cloned {
    /// In the new process.
    Child,
    /// In the caller.
    Parent {
        /// The child's process id, as the caller sees it.
        pid: i32,
        /// Becomes readable when the child ends.
        pidfd: OwnedFd,
    },
}

/// Clones this process into new namespaces, like `fork`: the child has a copy of all memory.
///
/// # Safety
/// The caller must have no other threads, or else the child may only make async-signal-safe
/// calls.
pub(super) unsafe fn clone_process(
    namespaces: libc::c_int,
    cgroup: Option<BorrowedFd<'_>>,
) -> io::Result<Cloned> {
    let mut pidfd: libc::c_int = -1;
    let mut flags = u64::from(namespaces.cast_unsigned()) | libc::CLONE_PIDFD as u64;
    let into = cgroup.map_or(0, |fd| {
        // libc declares the constant with a type it does not fit.
        flags |= 0x2_0000_0000;
        fd.as_raw_fd().cast_unsigned()
    });
    let mut arguments = [0_u64; 11];
    arguments[0] = flags;
    arguments[1] = std::ptr::from_mut(&mut pidfd) as u64;
    arguments[4] = libc::SIGCHLD as u64;
    arguments[10] = u64::from(into);
    // SAFETY: `arguments` is a `struct clone_args` of the size given; without CLONE_VM the child
    // runs on its own copy of this stack. Threads are the caller's promise.
    let result = unsafe {
        libc::syscall(libc::SYS_clone3, arguments.as_mut_ptr(), std::mem::size_of_val(&arguments))
    };
    match result {
        -1 => Err(io::Error::last_os_error()),
        0 => Ok(Cloned::Child),
        pid => Ok(Cloned::Parent {
            pid: i32::try_from(pid).expect("the kernel's process ids fit in i32"),
            // SAFETY: on success the kernel stored a new descriptor that nobody else owns.
            pidfd: unsafe { OwnedFd::from_raw_fd(pidfd) },
        }),
    }
}

/// Splits off a process that shares nothing but open files with this one.
///
/// # Safety
/// As [`clone_process`].
pub(super) unsafe fn fork() -> io::Result<Option<i32>> {
    // SAFETY: threads are the caller's promise.
    match unsafe { libc::fork() } {
        -1 => Err(io::Error::last_os_error()),
        0 => Ok(None),
        pid => Ok(Some(pid)),
    }
}

/// Leaves without running destructors: the end of a cloned child that could not exec.
pub(super) fn exit_now(code: i32) -> ! {
    // SAFETY: ends the process; nothing can be observed after it.
    unsafe { libc::_exit(code) }
}

/// Moves this process into new namespaces.
pub(super) fn unshare(namespaces: libc::c_int) -> io::Result<()> {
    // SAFETY: none of the namespaces used here touches memory or descriptors.
    check(unsafe { libc::unshare(namespaces) })
}

/// Sets attributes of the mounts under `tree`, optionally mapping the owners of files as the
/// user namespace `idmap` does.
pub(super) fn mount_setattr(
    tree: BorrowedFd<'_>,
    set: u64,
    idmap: Option<BorrowedFd<'_>>,
    recursive: bool,
) -> io::Result<()> {
    let attributes = libc::mount_attr {
        attr_set: set | if idmap.is_some() { libc::MOUNT_ATTR_IDMAP } else { 0 },
        attr_clr: 0,
        propagation: 0,
        userns_fd: idmap.map_or(0, |fd| u64::from(fd.as_raw_fd().cast_unsigned())),
    };
    let flags = libc::AT_EMPTY_PATH | if recursive { libc::AT_RECURSIVE } else { 0 };
    // SAFETY: both pointers are valid for the call and the size is the structure's.
    let result = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            tree.as_raw_fd(),
            c"".as_ptr(),
            flags,
            &raw const attributes,
            size_of::<libc::mount_attr>(),
        )
    };
    check(result)
}

/// Replaces this process with the program behind `program`.
pub(super) fn exec(
    program: BorrowedFd<'_>,
    arguments: &[&CStr],
    environment: &[&CStr],
) -> io::Error {
    let pointers = |list: &[&CStr]| -> Vec<_> {
        list.iter().map(|entry| entry.as_ptr()).chain([std::ptr::null()]).collect()
    };
    let (arguments, variables) = (pointers(arguments), pointers(environment));
    // SAFETY: both lists end in null and their strings live until the call returns, if it does.
    unsafe {
        libc::syscall(
            libc::SYS_execveat,
            program.as_raw_fd(),
            c"".as_ptr(),
            arguments.as_ptr(),
            variables.as_ptr(),
            libc::AT_EMPTY_PATH,
        );
    }
    io::Error::last_os_error()
}

/// Opens a directory of the engine's own, whose path nobody else can change.
pub(super) fn open_own(path: &std::path::Path) -> io::Result<OwnedFd> {
    use rustix::fs::{Mode, OFlags};
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    Ok(rustix::fs::open(path, flags, Mode::empty())?)
}

/// Makes `fd` known by the number `number` and inherited across exec.
pub(super) fn inherit_as(fd: BorrowedFd<'_>, number: RawFd) -> io::Result<()> {
    // SAFETY: the caller runs right before exec and owns the whole table.
    check(unsafe { libc::dup2(fd.as_raw_fd(), number) })
}

/// Moves `fd` to some number at or above `floor`, closed on exec.
pub(super) fn move_above(fd: &OwnedFd, floor: RawFd) -> io::Result<OwnedFd> {
    // SAFETY: duplicates an open descriptor; the result is new and ours.
    unsafe {
        let moved = libc::fcntl(fd.as_raw_fd(), libc::F_DUPFD_CLOEXEC, floor);
        check(moved)?;
        Ok(OwnedFd::from_raw_fd(moved))
    }
}

/// Closes every descriptor from `first` on at exec.
pub(super) fn close_from_on_exec(first: u32) -> io::Result<()> {
    // SAFETY: only marks descriptors; nothing is closed under anybody's feet.
    let result =
        unsafe { libc::syscall(libc::SYS_close_range, first, u32::MAX, libc::CLOSE_RANGE_CLOEXEC) };
    check(result)
}

/// Takes capability `number` out of the bounding set.
pub(super) fn drop_from_bounding_set(number: u32) -> io::Result<()> {
    // SAFETY: takes plain numbers.
    check(unsafe { libc::prctl(libc::PR_CAPBSET_DROP, libc::c_ulong::from(number), 0, 0, 0) })
}

/// Empties the ambient set.
pub(super) fn clear_ambient_set() -> io::Result<()> {
    // SAFETY: takes plain numbers.
    check(unsafe { libc::prctl(libc::PR_CAP_AMBIENT, libc::PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0) })
}

/// Makes this process its namespace's `user`, with no other groups.
pub(super) fn become_user(user: u32, with_groups: bool) -> io::Result<()> {
    // SAFETY: takes plain numbers; the null list goes with length zero. Raw calls change only
    // the calling thread, which is the only one.
    unsafe {
        if with_groups {
            check(libc::syscall(libc::SYS_setgroups, 0, std::ptr::null::<u32>()))?;
        }
        check(libc::syscall(libc::SYS_setresgid, user, user, user))?;
        check(libc::syscall(libc::SYS_setresuid, user, user, user))
    }
}

/// Sets soft and hard limit of a resource.
pub(super) fn limit(resource: rustix::process::Resource, soft: u64, hard: u64) -> io::Result<()> {
    let limit = rustix::process::Rlimit { current: Some(soft), maximum: Some(hard) };
    Ok(rustix::process::setrlimit(resource, limit)?)
}

fn check(result: impl Into<i64>) -> io::Result<()> {
    if result.into() < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Tries something in a process of its own, which may enter namespaces and mount without trace.
/// Works in a process with threads, too: `attempt` may allocate, but must take no lock that
/// another thread could hold.
pub(super) fn in_scratch_process(attempt: impl FnOnce() -> io::Result<()>) -> io::Result<()> {
    // SAFETY: the C library's fork leaves its allocator usable; other locks are `attempt`'s duty.
    match unsafe { fork()? } {
        None => {
            let code = match attempt() {
                Ok(()) => 0,
                Err(error) => error.raw_os_error().unwrap_or(255),
            };
            exit_now(code)
        }
        Some(pid) => {
            let pid = rustix::process::Pid::from_raw(pid);
            let options = rustix::process::WaitOptions::empty();
            let status = rustix::process::waitpid(pid, options)?.map(|(_, status)| status);
            match status.and_then(rustix::process::WaitStatus::exit_status) {
                Some(0) => Ok(()),
                Some(code) => Err(io::Error::from_raw_os_error(code)),
                None => Err(io::Error::other("the attempt was killed")),
            }
        }
    }
}

/// The version of Landlock's interface, if the kernel has it.
pub(super) fn landlock_version() -> Option<i64> {
    const VERSION: u32 = 1;
    let nothing = std::ptr::null::<libc::c_void>();
    // SAFETY: with this flag the call only answers a number.
    let version =
        unsafe { libc::syscall(libc::SYS_landlock_create_ruleset, nothing, 0_usize, VERSION) };
    (version > 0).then_some(version)
}

/// Has the kernel move a part of a process's memory to swap, as far as it can.
pub(super) fn page_out(process: &OwnedFd, range: std::ops::Range<usize>) -> io::Result<()> {
    let part = libc::iovec { iov_base: range.start as *mut libc::c_void, iov_len: range.len() };
    // SAFETY: changes where memory is kept, not what is in it; the address is the other process's
    // and is not followed here.
    check(unsafe {
        libc::syscall(
            libc::SYS_process_madvise,
            process.as_raw_fd(),
            &raw const part,
            1_usize,
            libc::MADV_PAGEOUT,
            0_u32,
        )
    })
}
