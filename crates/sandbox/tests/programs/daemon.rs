//! A stand-in for the daemon, as small as can be: it runs what it is told, as whom it is told,
//! and it tries things that must not work.
//!
//! One JSON line in (`{"token", "uid", "argv"}`), one JSON line out (`{"status", "out"}`).
#![expect(unsafe_code, reason = "tries system calls that are forbidden")]

use std::{
    ffi::CString,
    fs,
    io::{self, BufRead as _, BufReader, Read as _, Write as _},
    os::{
        fd::{FromRawFd as _, IntoRawFd as _},
        unix::{net::UnixListener, net::UnixStream, process::CommandExt as _},
    },
    process::Command,
};

use serde::{Deserialize, Serialize};

#[derive(Deserialize)]
struct Order {
    token: String,
    uid: u32,
    argv: Vec<String>,
}

#[derive(Serialize)]
struct Outcome {
    status: i32,
    out: String,
}

fn main() -> io::Result<()> {
    let arguments: Vec<_> = std::env::args().collect();
    if arguments.get(1).is_some_and(|verb| verb == "attempt") {
        return io::stdout().write_all(attempt(&arguments[2]).as_bytes());
    }
    // SAFETY: the engine passes these two descriptors and nobody else uses them.
    let (listener, mut pipe) = unsafe { (UnixListener::from_raw_fd(3), fs::File::from_raw_fd(4)) };
    // SAFETY: the handler only ends the process.
    unsafe { libc::signal(libc::SIGTERM, end as *const () as libc::sighandler_t) };
    let mut token = String::new();
    pipe.read_to_string(&mut token)?;
    listener.set_nonblocking(false)?;
    for stream in listener.incoming() {
        let token = token.clone();
        std::thread::spawn(move || serve(&stream?, &token));
    }
    Ok(())
}

extern "C" fn end(_: libc::c_int) {
    // SAFETY: `_exit` may be called from a signal handler.
    unsafe { libc::_exit(0) }
}

fn serve(stream: &UnixStream, token: &str) -> io::Result<()> {
    let mut line = String::new();
    BufReader::new(stream).read_line(&mut line)?;
    let order: Order = serde_json::from_str(&line)?;
    if order.token != token {
        return Err(io::Error::other("wrong token"));
    }
    let mut command = Command::new(&order.argv[0]);
    command.args(&order.argv[1..]).env("HOME", "/home/agent").current_dir("/workspace");
    // SAFETY: asks for plain numbers.
    if unsafe { libc::geteuid() } == 0 {
        command.uid(order.uid).gid(order.uid);
    }
    let outcome = match command.output() {
        Ok(output) => Outcome {
            status: output.status.code().unwrap_or(-1),
            out: String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned(),
        },
        Err(error) => Outcome { status: -1, out: error.to_string() },
    };
    let mut bytes = serde_json::to_vec(&outcome)?;
    bytes.push(b'\n');
    (&*stream).write_all(&bytes)
}

/// Tries one forbidden thing; says `ok` if it worked.
fn attempt(what: &str) -> String {
    let (name, argument) = what.split_once('=').unwrap_or((what, ""));
    let path = CString::new(argument).unwrap_or_default();
    let none = std::ptr::null::<libc::c_char>();
    // SAFETY: each call has valid or null pointers, and at worst fails.
    let result: i64 = unsafe {
        match name {
            "mount" => {
                libc::mount(none, path.as_ptr(), c"tmpfs".as_ptr(), 0, std::ptr::null()).into()
            }
            "remount" => {
                let flags = libc::MS_REMOUNT | libc::MS_BIND;
                libc::mount(none, path.as_ptr(), none, flags, std::ptr::null()).into()
            }
            "umount" => libc::umount2(path.as_ptr(), libc::MNT_DETACH).into(),
            "unshare_user" => libc::unshare(libc::CLONE_NEWUSER).into(),
            "unshare_mount" => libc::unshare(libc::CLONE_NEWNS).into(),
            "clone_user" => {
                let flags = libc::CLONE_NEWUSER | libc::SIGCHLD;
                match libc::syscall(libc::SYS_clone, flags, 0, 0, 0, 0) {
                    0 => libc::_exit(0),
                    result => result,
                }
            }
            "clone3" => libc::syscall(libc::SYS_clone3, 0, 0),
            "setns" => match fs::File::open("/proc/1/ns/mnt") {
                Ok(file) => libc::setns(file.into_raw_fd(), 0).into(),
                Err(_) => -1,
            },
            "chroot" => libc::chroot(c"/tmp".as_ptr()).into(),
            "pivot_root" => libc::syscall(libc::SYS_pivot_root, c".".as_ptr(), c".".as_ptr()),
            "mknod" => {
                let file = c"/tmp/disk".as_ptr();
                libc::mknod(file, libc::S_IFBLK | 0o666, libc::makedev(254, 0)).into()
            }
            "ptrace_init" => libc::ptrace(libc::PTRACE_ATTACH, 1, 0, 0),
            "bpf" => libc::syscall(libc::SYS_bpf, 0, 0, 0),
            "perf" => libc::syscall(libc::SYS_perf_event_open, 0, 0, 0, 0, 0),
            "keyctl" => libc::syscall(libc::SYS_keyctl, 0, 0, 0, 0, 0),
            "io_uring" => libc::syscall(libc::SYS_io_uring_setup, 1, 0),
            "userfaultfd" => libc::syscall(libc::SYS_userfaultfd, 0),
            "handle" => libc::syscall(libc::SYS_open_by_handle_at, 0, 0, 0),
            "reboot" => libc::reboot(libc::RB_DISABLE_CAD).into(),
            "settime" => libc::clock_settime(0, &libc::timespec { tv_sec: 0, tv_nsec: 0 }).into(),
            "hostname" => libc::sethostname(c"x".as_ptr(), 1).into(),
            "module" => libc::syscall(libc::SYS_init_module, 0, 0, 0),
            "raw_socket" => libc::socket(libc::AF_INET, libc::SOCK_RAW, 1).into(),
            "packet_socket" => libc::socket(libc::AF_PACKET, libc::SOCK_RAW, 0).into(),
            "vsock" => libc::socket(libc::AF_VSOCK, libc::SOCK_STREAM, 0).into(),
            "setuid" => libc::setuid(0).into(),
            "tiocsti" => libc::ioctl(0, libc::TIOCSTI, c"x".as_ptr()).into(),
            "open_write" => libc::open(path.as_ptr(), libc::O_WRONLY | libc::O_CLOEXEC).into(),
            "open_read" => libc::open(path.as_ptr(), libc::O_RDONLY | libc::O_CLOEXEC).into(),
            "create" => libc::open(path.as_ptr(), libc::O_WRONLY | libc::O_CREAT, 0o600).into(),
            _ => return format!("no such attempt: {name}"),
        }
    };
    if result == -1 {
        io::Error::last_os_error().raw_os_error().map_or_else(String::new, |code| code.to_string())
    } else {
        "ok".to_owned()
    }
}
