//! Starting a program.
//!
//! A child that shares the daemon's memory until it has become the program (`CLONE_VM |
//! CLONE_VFORK`) costs the same however large the daemon is, and can say why it failed by writing
//! it where the daemon reads. In return it may do nothing but system calls: everything it needs
//! is laid out before it starts, it allocates nothing, takes no lock, and runs on a stack of its
//! own while the daemon's only other user of that memory, the thread that called, stands still.
//! (File threads run on; the child touches nothing of theirs.)
#![expect(unsafe_code, reason = "the child of a clone is outside what Rust can check")]

use std::{
    ffi::{CString, c_char, c_int, c_void},
    io,
    os::fd::{AsRawFd, BorrowedFd},
    ptr,
};

/// What to start.
pub(crate) struct Launch<'a> {
    /// Files to try, in order, as a shell tries the places along `PATH`.
    pub(crate) programs: &'a [CString],
    pub(crate) argv: &'a [CString],
    pub(crate) env: &'a [CString],
    pub(crate) cwd: &'a CString,
    /// Uid and gid to become, with no groups and no capabilities; or stay what the daemon is.
    pub(crate) identity: Option<(u32, u32)>,
    /// Standard input, output and error; none of them below 3.
    pub(crate) stdio: [BorrowedFd<'a>; 3],
    /// Whether standard input is a terminal that shall control the session.
    pub(crate) controlled: bool,
}

/// How far a child came that did not become its program.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stage {
    /// Making the process at all.
    Clone,
    /// Giving up the daemon's rights.
    Rights,
    /// Entering the working directory.
    Directory,
    /// Becoming the program.
    Program,
}

/// A program that could not be started.
#[derive(Debug)]
pub(crate) struct Failure {
    pub(crate) stage: Stage,
    pub(crate) error: io::Error,
}

/// Bytes of stack for the child: it calls nothing but thin wrappers of system calls.
const STACK: usize = 32 * 1024;

/// Highest capability the kernel could know (the sets have 64 bits).
const LAST_CAPABILITY: libc::c_ulong = 63;

/// What the child reads and, where it fails, writes.
struct Orders {
    programs: *const *const c_char,
    argv: *const *const c_char,
    env: *const *const c_char,
    cwd: *const c_char,
    identity: Option<(u32, u32)>,
    stdio: [c_int; 3],
    controlled: bool,
    failed: Option<(Stage, c_int)>,
}

/// Starts a program in a session and group of its own and returns its process id.
pub(crate) fn spawn(launch: &Launch<'_>) -> Result<i32, Failure> {
    let pointers = |strings: &[CString]| -> Vec<*const c_char> {
        strings.iter().map(|it| it.as_ptr()).chain([ptr::null()]).collect()
    };
    let programs = pointers(launch.programs);
    let argv = pointers(launch.argv);
    let env = pointers(launch.env);
    let mut orders = Orders {
        programs: programs.as_ptr(),
        argv: argv.as_ptr(),
        env: env.as_ptr(),
        cwd: launch.cwd.as_ptr(),
        identity: launch.identity,
        stdio: launch.stdio.map(|fd| fd.as_raw_fd()),
        controlled: launch.controlled,
        failed: None,
    };
    let mut stack = Vec::<u128>::with_capacity(STACK / size_of::<u128>());
    let flags = libc::CLONE_VM | libc::CLONE_VFORK | libc::SIGCHLD;
    // SAFETY: the stack's end is one past its last element, aligned to 16 bytes, and grows down
    // into memory that stays allocated; `orders` and all it points to outlive the call, which
    // returns only when the child has become its program or ended.
    let pid = unsafe {
        let top = stack.as_mut_ptr().add(stack.capacity()).cast::<c_void>();
        libc::clone(child, top, flags, (&raw mut orders).cast::<c_void>())
    };
    if pid < 0 {
        return Err(Failure { stage: Stage::Clone, error: io::Error::last_os_error() });
    }
    // SAFETY: `orders` is live; the read is volatile because the child wrote it unseen by the
    // compiler.
    let failed = unsafe { ptr::read_volatile(&raw const orders.failed) };
    match failed {
        None => Ok(pid),
        Some((stage, errno)) => {
            // SAFETY: `pid` is a child of ours that has ended and was waited for by nobody.
            unsafe { libc::waitpid(pid, ptr::null_mut(), 0) };
            Err(Failure { stage, error: io::Error::from_raw_os_error(errno) })
        }
    }
}

/// What the child does. Returns only if it failed; the return ends it.
extern "C" fn child(orders: *mut c_void) -> c_int {
    let orders = orders.cast::<Orders>();
    // SAFETY: the parent stands still until this ends, so nothing else uses `orders`. Only system
    // calls are made, with pointers the parent laid out and keeps alive.
    unsafe {
        let failure = become_program(&*orders);
        ptr::write_volatile(&raw mut (*orders).failed, Some(failure));
    }
    127
}

/// Never returns but with what failed.
///
/// # Safety
/// Only in a fresh child, with orders whose pointers are null-terminated arrays of C strings.
unsafe fn become_program(orders: &Orders) -> (Stage, c_int) {
    // SAFETY: system calls with numbers, or with pointers the caller vouches for.
    unsafe {
        libc::setsid();
        for (number, fd) in (0..).zip(orders.stdio) {
            if libc::dup2(fd, number) < 0 {
                return (Stage::Rights, errno());
            }
        }
        if orders.controlled && libc::ioctl(0, libc::TIOCSCTTY, 0) != 0 {
            return (Stage::Rights, errno());
        }
        // All is close-on-exec already; this holds also for what some library opened otherwise.
        libc::syscall(libc::SYS_close_range, 3, c_int::MAX, libc::CLOSE_RANGE_CLOEXEC);
        if let Some((uid, gid)) = orders.identity
            && let Err(errno) = give_up_rights(uid, gid)
        {
            return (Stage::Rights, errno);
        }
        if libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0 {
            return (Stage::Rights, errno());
        }
        // A daemon that is not PID 1 takes its processes with it all the same.
        libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL, 0, 0, 0);
        // Ignored signals and the mask are inherited by programs; handlers are not.
        libc::signal(libc::SIGPIPE, libc::SIG_DFL);
        let mut none = std::mem::zeroed::<libc::sigset_t>();
        libc::sigemptyset(&raw mut none);
        libc::sigprocmask(libc::SIG_SETMASK, &raw const none, ptr::null_mut());
        if libc::chdir(orders.cwd) != 0 {
            return (Stage::Directory, errno());
        }
        // As `execvp`: look on where there is nothing, remember where it was not allowed.
        let mut reason = libc::ENOENT;
        let mut next = orders.programs;
        while !(*next).is_null() {
            libc::execve(*next, orders.argv, orders.env);
            match errno() {
                libc::ENOENT | libc::ENOTDIR => {}
                libc::EACCES => reason = libc::EACCES,
                other => return (Stage::Program, other),
            }
            next = next.add(1);
        }
        (Stage::Program, reason)
    }
}

/// Becomes an ordinary user for good. Bare system calls: the C library's act on all threads.
///
/// # Safety
/// Only in a fresh child.
unsafe fn give_up_rights(uid: u32, gid: u32) -> Result<(), c_int> {
    // SAFETY: system calls on numbers and on locals of the layout the kernel defines
    // (capset(2): a header of version and pid, two elements of three words each).
    unsafe {
        libc::prctl(libc::PR_CAP_AMBIENT, libc::PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0);
        // Refused without CAP_SETPCAP; then no_new_privs alone keeps the bounding set unusable.
        for capability in 0..=LAST_CAPABILITY {
            if libc::prctl(libc::PR_CAPBSET_DROP, capability, 0, 0, 0) != 0 {
                break;
            }
        }
        // Where the agent is the daemon's own user, as in a namespace of one id, there are only
        // capabilities to lose, and no right to touch groups.
        let is_other = (uid, gid) != (libc::geteuid(), libc::getegid());
        if is_other
            && (libc::syscall(libc::SYS_setgroups, 0, ptr::null::<u32>()) != 0
                || libc::syscall(libc::SYS_setresgid, gid, gid, gid) != 0
                || libc::syscall(libc::SYS_setresuid, uid, uid, uid) != 0)
        {
            return Err(errno());
        }
        let header: [u32; 2] = [0x2008_0522, 0];
        let none = [0_u32; 6];
        if libc::syscall(libc::SYS_capset, header.as_ptr(), none.as_ptr()) != 0 {
            return Err(errno());
        }
    }
    Ok(())
}

fn errno() -> c_int {
    // SAFETY: the location is this thread's (the child's: its parent's, which stands still).
    unsafe { *libc::__errno_location() }
}
