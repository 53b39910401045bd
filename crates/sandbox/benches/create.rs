//! How long a sandbox takes from being asked for to its daemon answering, beside the limit: the
//! bare system calls for the same walls (all namespaces, an overlay root, `/proc`, `pivot_root`,
//! exec) with a program that does nothing, and beside other engines where they are installed.
//!
//! `cargo bench -p rclaude-sandbox --bench create`, as root.
#![expect(
    unsafe_code,
    clippy::print_stdout,
    reason = "bare system calls, and a table for a reader"
)]

use std::{
    ffi::CString,
    fs,
    io::{Read as _, Write as _},
    path::Path,
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use rclaude_sandbox::{
    agentd::Client,
    local::{LocalConfig, LocalProvider},
    provider::{Bootstrap, SandboxProvider as _, SandboxSpec},
};
use rclaude_types::{Resources, SandboxId};
use tokio_util::task::TaskTracker;

const ROUNDS: usize = 60;
const IDLE: Duration = Duration::from_millis(150);

fn main() {
    // The limit clones this process, so it goes before there are threads, and in a process whose
    // memory is small.
    let limit = Limit::set_up();
    let bare = [limit.measure(IDLE), limit.measure(Duration::ZERO)];
    let mut rows = vec![("bare system calls (the limit)", bare)];
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .expect("threads can be started");
    rows.extend(runtime.block_on(ours()));
    for (name, command) in PEERS {
        if let Some(times) = peer(command) {
            rows.push((name, times));
        }
    }
    println!("{:44} {:>18} {:>18}", "milliseconds, p50 (p90)", "after 150 ms idle", "back to back");
    for (name, [idle, hot]) in rows {
        println!("{name:44} {:>18} {:>18}", show(idle), show(hot));
    }
}

fn show(mut times: Vec<Duration>) -> String {
    times.sort();
    let at = |percent: usize| times[times.len() * percent / 100].as_secs_f64() * 1e3;
    format!("{:.2} ({:.2})", at(50), at(90))
}

/// `create` until the daemon answers its first request, and `destroy`.
async fn ours() -> Vec<(&'static str, [Vec<Duration>; 2])> {
    let dir = tempfile::tempdir().expect("a directory can be made");
    let config = LocalConfig::new(dir.path(), env!("CARGO_BIN_EXE_rclaude-test-supervisor"));
    let provider = LocalProvider::open(config).await.expect("the engine opens");
    let tasks = TaskTracker::new();
    let (mut creates, mut answers, mut destroys) =
        ([vec![], vec![]], [vec![], vec![]], [vec![], vec![]]);
    for (kind, idle) in [(0, IDLE), (1, Duration::ZERO)] {
        for round in 0..=ROUNDS {
            tokio::time::sleep(idle).await;
            let spec = spec();
            let begun = Instant::now();
            let sandbox = provider.create(&spec).await.expect("a sandbox can be made");
            let returned = begun.elapsed();
            let stream = provider.dial(&sandbox).await.expect("its daemon listens");
            let client = Client::connect(stream, "token", &tasks).await.expect("it speaks HTTP/2");
            client.health().await.expect("it answers");
            let answered = begun.elapsed();
            let begun = Instant::now();
            provider.destroy(&sandbox).await.expect("it can be destroyed");
            if round > 0 {
                creates[kind].push(returned);
                answers[kind].push(answered);
                destroys[kind].push(begun.elapsed());
            }
        }
    }
    provider.release_supervisor().await.expect("the supervisor leaves");
    vec![
        ("create returned", creates),
        ("create, until the daemon answers", answers),
        ("destroy", destroys),
    ]
}

fn spec() -> SandboxSpec {
    SandboxSpec {
        id: SandboxId::generate(),
        template: "host".to_owned(),
        resources: Resources::default(),
        bootstrap: Bootstrap { token: "token".to_owned() },
        layers: Vec::new(),
        binds: Vec::new(),
        files: Vec::new(),
        allow_root: false,
    }
}

/// The same walls without anything around them.
struct Limit {
    dir: tempfile::TempDir,
}

impl Limit {
    fn set_up() -> Self {
        let dir = tempfile::tempdir().expect("a directory can be made");
        for name in ["lower/proc", "lower/usr", "mnt"] {
            fs::create_dir_all(dir.path().join(name)).expect("directories can be made");
        }
        for name in ["bin", "lib", "lib64"] {
            let target = Path::new("usr").join(name);
            std::os::unix::fs::symlink(target, dir.path().join("lower").join(name)).expect("links");
        }
        Self { dir }
    }

    fn measure(&self, idle: Duration) -> Vec<Duration> {
        (0..ROUNDS)
            .map(|_| {
                std::thread::sleep(idle);
                self.once()
            })
            .collect()
    }

    /// From nothing to a program that ran in the new root.
    fn once(&self) -> Duration {
        let begun = Instant::now();
        let (mut released, mut release) = std::io::pipe().expect("a pipe");
        let disk = tempfile::tempdir_in(self.dir.path()).expect("a disk");
        for name in ["upper", "work"] {
            fs::create_dir(disk.path().join(name)).expect("a disk");
            std::os::unix::fs::chown(disk.path().join(name), Some(RANGE), Some(RANGE))
                .expect("owner");
        }
        let flags = libc::CLONE_NEWUSER
            | libc::CLONE_NEWNS
            | libc::CLONE_NEWPID
            | libc::CLONE_NEWNET
            | libc::CLONE_NEWIPC
            | libc::CLONE_NEWUTS
            | libc::CLONE_NEWCGROUP;
        let mut arguments = [0_u64; 11];
        arguments[0] = u64::from(flags.cast_unsigned());
        arguments[4] = u64::from(libc::SIGCHLD.cast_unsigned());
        // SAFETY: a plain clone of a process with one thread.
        let pid = unsafe { libc::syscall(libc::SYS_clone3, arguments.as_mut_ptr(), 88) };
        if pid == 0 {
            drop(release);
            let _ = released.read(&mut [0]);
            self.child(disk.path());
        }
        assert!(pid > 0, "clone3 works here");
        for map in ["uid_map", "gid_map"] {
            fs::write(format!("/proc/{pid}/{map}"), format!("0 {RANGE} 65536")).expect("a map");
        }
        release.write_all(b"!").expect("the child waits");
        let mut status = 0;
        // SAFETY: waits for the child made above.
        unsafe { libc::waitpid(pid.try_into().expect("a process id"), &raw mut status, 0) };
        assert_eq!(status, 0, "the bare sandbox ran");
        begun.elapsed()
    }

    fn child(&self, disk: &Path) -> ! {
        let text =
            |path: &Path| CString::new(path.to_str().expect("a plain path")).expect("no NUL");
        let root = text(&self.dir.path().join("mnt"));
        let options = format!(
            "userxattr,lowerdir={},upperdir={}/upper,workdir={}/work",
            self.dir.path().join("lower").display(),
            disk.display(),
            disk.display()
        );
        let options = CString::new(options).expect("no NUL");
        let private = libc::MS_REC | libc::MS_PRIVATE;
        // SAFETY: in new namespaces of all kinds; strings end in NUL and live long enough.
        unsafe {
            let mount = |source: &std::ffi::CStr,
                         target: &std::ffi::CStr,
                         kind: &std::ffi::CStr,
                         flags,
                         data: *const libc::c_char| {
                let done = libc::mount(
                    source.as_ptr(),
                    target.as_ptr(),
                    kind.as_ptr(),
                    flags,
                    data.cast(),
                );
                if done != 0 {
                    libc::_exit(9);
                }
            };
            libc::setresgid(0, 0, 0);
            libc::setresuid(0, 0, 0);
            mount(c"", c"/", c"", private, std::ptr::null());
            mount(c"overlay", &root, c"overlay", 0, options.as_ptr());
            libc::chdir(root.as_ptr());
            mount(c"/usr", c"usr", c"", libc::MS_BIND | libc::MS_REC, std::ptr::null());
            mount(c"proc", c"proc", c"proc", 0, std::ptr::null());
            libc::syscall(libc::SYS_pivot_root, c".".as_ptr(), c".".as_ptr());
            libc::umount2(c".".as_ptr(), libc::MNT_DETACH);
            libc::execve(
                c"/bin/true".as_ptr(),
                [c"true".as_ptr(), std::ptr::null()].as_ptr(),
                [std::ptr::null()].as_ptr(),
            );
            libc::_exit(8)
        }
    }
}

const RANGE: u32 = 0x2000_0000;

/// Other engines, each told to run a program that does nothing on the host's own system.
const PEERS: [(&str, &[&str]); 3] = [
    ("unshare(1) of util-linux", &["unshare", "-mpinuCUf", "--map-root-user", "true"]),
    (
        "bubblewrap",
        &[
            "bwrap",
            "--unshare-all",
            "--ro-bind",
            "/usr",
            "/usr",
            "--symlink",
            "usr/lib",
            "/lib",
            "--symlink",
            "usr/lib64",
            "/lib64",
            "--proc",
            "/proc",
            "--dev",
            "/dev",
            "--tmpfs",
            "/tmp",
            "/usr/bin/true",
        ],
    ),
    ("podman, host's root", &["podman", "run", "--rm", "--network=none", "--rootfs", "/", "true"]),
];

fn peer(command: &[&str]) -> Option<[Vec<Duration>; 2]> {
    let once = || {
        let begun = Instant::now();
        let (program, arguments) = command.split_first()?;
        let quiet = Command::new(program).args(arguments).stderr(Stdio::null()).status();
        quiet.ok()?.success().then(|| begun.elapsed())
    };
    let round = |idle: Duration| {
        let rounds = (0..ROUNDS / 3).map(|_| {
            std::thread::sleep(idle);
            once()
        });
        rounds.collect::<Option<Vec<_>>>()
    };
    Some([round(IDLE)?, round(Duration::ZERO)?])
}
