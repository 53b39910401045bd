//! How long a sandbox takes from being asked for to its daemon answering, beside the limit: the
//! bare system calls for the same walls (all namespaces, an overlay root, `/dev`, `/proc`,
//! `pivot_root`, a loopback device, a cgroup of each version 1 controller, exec) with a static
//! program that does nothing, and beside other engines where they are installed.
//!
//! `cargo bench -p rclaude-sandbox --bench create`, as root.
#![expect(
    unsafe_code,
    clippy::print_stdout,
    reason = "bare system calls, and a table for a reader"
)]

mod shared;

use std::{
    ffi::{CStr, CString},
    fs,
    io::{ErrorKind::NotFound, Read as _, Write as _},
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use rclaude_sandbox::{
    agentd::Client,
    local::{LocalConfig, LocalProvider},
    provider::SandboxProvider as _,
};
use tokio_util::task::TaskTracker;

use shared::{TOKEN, hide_the_unified_tree, root, show, spec};

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
    drop(runtime);
    let bundle = bundle();
    hide_the_unified_tree();
    let mut absent = Vec::new();
    for (name, command) in peers(bundle.path()) {
        match peer(&command) {
            Ok(times) => rows.push((name, times)),
            Err(why) => absent.push((name, why)),
        }
    }
    println!("{:44} {:>18} {:>18}", "milliseconds, p50 (p90)", "after 150 ms idle", "back to back");
    for (name, [idle, hot]) in rows {
        println!("{name:44} {:>18} {:>18}", show(idle), show(hot));
    }
    for (name, why) in absent {
        println!("{name:44} {why}");
    }
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
            let client = Client::connect(stream, TOKEN, &tasks).await.expect("it speaks HTTP/2");
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

/// The same walls without anything around them.
struct Limit {
    dir: tempfile::TempDir,
    cgroups: Vec<PathBuf>,
}

/// The smallest program there is: a header, one segment, `exit(0)`.
#[cfg(target_arch = "x86_64")]
fn nothing() -> Vec<u8> {
    const LOAD: u64 = 0x40_0000;
    const CODE: [u8; 9] = [0xb8, 60, 0, 0, 0, 0x31, 0xff, 0x0f, 0x05];
    let size = 64 + 56 + CODE.len() as u64;
    let mut elf = vec![0x7f, b'E', b'L', b'F', 2, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    elf.extend([2, 0, 62, 0, 1, 0, 0, 0]);
    for number in [LOAD + 120, 64, 0] {
        elf.extend(u64::to_le_bytes(number));
    }
    elf.extend([0, 0, 0, 0, 64, 0, 56, 0, 1, 0, 0, 0, 0, 0, 0, 0]);
    elf.extend([1, 0, 0, 0, 5, 0, 0, 0]);
    for number in [0, LOAD, LOAD, size, size, 0x1000] {
        elf.extend(u64::to_le_bytes(number));
    }
    elf.extend(CODE);
    elf
}

#[cfg(not(target_arch = "x86_64"))]
fn nothing() -> Vec<u8> {
    fs::read("/bin/true").expect("there is one")
}

impl Limit {
    fn set_up() -> Self {
        let dir = tempfile::tempdir().expect("a directory can be made");
        for name in ["lower/proc", "lower/dev", "lower/usr", "mnt"] {
            fs::create_dir_all(dir.path().join(name)).expect("directories can be made");
        }
        for name in ["bin", "lib", "lib64"] {
            let target = Path::new("usr").join(name);
            std::os::unix::fs::symlink(target, dir.path().join("lower").join(name)).expect("links");
        }
        let program = dir.path().join("lower/nothing");
        fs::write(&program, nothing()).expect("a program");
        fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).expect("a program");
        let cgroups = ["cpu,cpuacct", "memory", "pids", "freezer"]
            .map(|name| Path::new("/sys/fs/cgroup").join(name))
            .into_iter()
            .filter(|path| path.join("tasks").exists())
            .collect();
        Self { dir, cgroups }
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
        let cgroups: Vec<_> = self
            .cgroups
            .iter()
            .map(|path| path.join(disk.path().file_name().expect("a name")))
            .collect();
        let tasks = cgroups.iter().map(|cgroup| {
            fs::create_dir(cgroup).expect("a cgroup");
            fs::File::options().write(true).open(cgroup.join("tasks")).expect("its tasks")
        });
        let tasks: Vec<_> = tasks.collect();
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
            for mut tasks in tasks {
                tasks.write_all(b"0").expect("a cgroup can be joined");
            }
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
        let took = begun.elapsed();
        assert_eq!(status, 0, "the bare sandbox ran");
        for cgroup in cgroups {
            // Busy for a moment after its last process ended.
            while fs::remove_dir(&cgroup).is_err_and(|error| error.kind() != NotFound) {}
        }
        took
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
            let mount =
                |source: &CStr, target: &CStr, kind: &CStr, flags, data: *const libc::c_char| {
                    let (source, target, kind) = (source.as_ptr(), target.as_ptr(), kind.as_ptr());
                    if libc::mount(source, target, kind, flags, data.cast()) != 0 {
                        libc::_exit(9);
                    }
                };
            libc::setresgid(0, 0, 0);
            libc::setresuid(0, 0, 0);
            mount(c"", c"/", c"", private, std::ptr::null());
            mount(c"overlay", &root, c"overlay", 0, options.as_ptr());
            libc::chdir(root.as_ptr());
            mount(c"/usr", c"usr", c"", libc::MS_BIND | libc::MS_REC, std::ptr::null());
            mount(c"tmpfs", c"dev", c"tmpfs", 0, std::ptr::null());
            mount(c"proc", c"proc", c"proc", 0, std::ptr::null());
            let socket = libc::socket(libc::AF_INET, libc::SOCK_DGRAM, 0);
            let mut loopback = std::mem::zeroed::<libc::ifreq>();
            loopback.ifr_name[0] = libc::c_char::try_from(b'l').unwrap_or_default();
            loopback.ifr_name[1] = libc::c_char::try_from(b'o').unwrap_or_default();
            loopback.ifr_ifru.ifru_flags =
                libc::c_short::try_from(libc::IFF_UP).unwrap_or_default();
            if libc::ioctl(socket, libc::SIOCSIFFLAGS, &raw const loopback) != 0 {
                libc::_exit(7);
            }
            libc::syscall(libc::SYS_pivot_root, c".".as_ptr(), c".".as_ptr());
            libc::umount2(c".".as_ptr(), libc::MNT_DETACH);
            libc::execve(
                c"/nothing".as_ptr(),
                [c"nothing".as_ptr(), std::ptr::null()].as_ptr(),
                [std::ptr::null()].as_ptr(),
            );
            libc::_exit(8)
        }
    }
}

const RANGE: u32 = 0x2000_0000;

/// A root for engines that want one, and what they are to do with it: run a program that does
/// nothing, walled in by all namespaces but that of users, which not all of them can use so.
fn bundle() -> tempfile::TempDir {
    let dir = tempfile::tempdir().expect("a directory can be made");
    root(&dir.path().join("rootfs"));
    fs::write(
        dir.path().join("config.json"),
        r#"{"ociVersion":"1.0.2","root":{"path":"rootfs","readonly":true},"hostname":"bench",
        "process":{"cwd":"/","args":["/bin/true"],"env":["PATH=/usr/bin:/bin"],
          "user":{"uid":0,"gid":0},"noNewPrivileges":true,"capabilities":{}},
        "mounts":[
          {"destination":"/proc","type":"proc","source":"proc"},
          {"destination":"/dev","type":"tmpfs","source":"tmpfs","options":["mode=755","size=64k"]},
          {"destination":"/usr","type":"bind","source":"/usr","options":["rbind","ro"]}],
        "linux":{"resources":{"memory":{"limit":2147483648},"pids":{"limit":512}},
          "namespaces":[{"type":"pid"},{"type":"network"},{"type":"ipc"},{"type":"uts"},
            {"type":"mount"}]}}"#,
    )
    .expect("a configuration");
    dir
}

/// Other engines, each told to run a program that does nothing on the host's own system.
fn peers(bundle: &Path) -> Vec<(&'static str, Vec<String>)> {
    let bundle = bundle.display();
    let commands = [
        ("unshare(1) of util-linux", "unshare -mpinuCUf --map-root-user /bin/true".to_owned()),
        (
            "bubblewrap",
            "bwrap --unshare-all --ro-bind /usr /usr --symlink usr/lib /lib --symlink usr/lib64 \
             /lib64 --proc /proc --dev /dev --tmpfs /tmp /usr/bin/true"
                .to_owned(),
        ),
        ("crun run", format!("crun run --bundle {bundle} rclaude-bench-crun")),
        ("runc run", format!("runc run --bundle {bundle} rclaude-bench-runc")),
        (
            "podman run, the host's files",
            format!(
                "podman run --rm --network=none --ulimit=nofile=1024:1024 --ulimit=nproc=1024:1024 --volume=/usr:/usr:ro \
                 --rootfs {bundle}/rootfs /bin/true"
            ),
        ),
    ];
    let words = |line: String| line.split_whitespace().map(str::to_owned).collect();
    commands.into_iter().map(|(name, line)| (name, words(line))).collect()
}

/// Measures an engine, or says why it cannot be.
fn peer(command: &[String]) -> Result<[Vec<Duration>; 2], String> {
    let (program, arguments) = command.split_first().ok_or("no command")?;
    let once = || {
        let begun = Instant::now();
        let run = Command::new(program).args(arguments).stdin(Stdio::null()).output();
        let took = begun.elapsed();
        match run {
            Err(error) if error.kind() == NotFound => Err("is not installed".to_owned()),
            Err(error) => Err(error.to_string()),
            Ok(run) if run.status.success() => Ok(took),
            Ok(run) => {
                let said = String::from_utf8_lossy(&run.stderr);
                let said = said.lines().next().unwrap_or_default();
                Err(format!("refuses on this host: {said}"))
            }
        }
    };
    once()?;
    let round = |idle: Duration| {
        let rounds = (0..ROUNDS / 3).map(|_| {
            std::thread::sleep(idle);
            once()
        });
        rounds.collect::<Result<Vec<_>, _>>()
    };
    Ok([round(IDLE)?, round(Duration::ZERO)?])
}
