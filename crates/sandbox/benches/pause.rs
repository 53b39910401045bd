//! How long a sandbox takes to stand still, to go on, and to come back from its disk alone;
//! beside the bare writes to the cgroups of one process that echoes, and beside other engines
//! where they are installed. Then: what many frozen sandboxes cost.
//!
//! `cargo bench -p rclaude-sandbox --bench pause [-- <how many>]`, as root.
#![expect(
    unsafe_code,
    clippy::print_stdout,
    reason = "bare system calls, and a table for a reader"
)]

mod shared;

use std::{
    fs,
    io::{Read as _, Write as _},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use rclaude_sandbox::{
    agentd::{Client, Output},
    local::{LocalConfig, LocalProvider},
    provider::{Pausing as _, SandboxProvider as _, SandboxRef},
};
use rclaude_types::{
    ExecId,
    agentd::{ProcessSpec, Stdin, User},
};
use tokio_stream::StreamExt as _;
use tokio_util::task::TaskTracker;

use shared::{TOKEN, hide_the_unified_tree, root, show, spec};

const ROUNDS: usize = 100;
const SLOW_ROUNDS: usize = 20;
/// Between two rounds, so that each begins with an idle machine.
const IDLE: Duration = Duration::from_millis(10);
/// How long the frozen are watched.
const WATCHED: Duration = Duration::from_secs(2);

type Rows = Vec<(String, Vec<Duration>)>;

fn main() {
    let many = std::env::args().find_map(|argument| argument.parse().ok()).unwrap_or(200_u32);
    let mut rows = Rows::new();
    for (name, base, file, words) in [
        ("version 2", "/sys/fs/cgroup/unified", "cgroup.freeze", ["1", "0"]),
        ("version 2", "/sys/fs/cgroup", "cgroup.freeze", ["1", "0"]),
        ("version 1", "/sys/fs/cgroup/freezer", "freezer.state", ["FROZEN", "THAWED"]),
    ] {
        if Path::new(base).join("cgroup.procs").exists() {
            rows.extend(Bare::new(base, file, words).measure(name));
        }
    }
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .expect("threads can be started");
    let (ours, cost) = runtime.block_on(ours(many));
    rows.extend(ours);
    drop(runtime);
    hide_the_unified_tree();
    let (peers, absent) = podman();
    rows.extend(peers);
    println!("{:58} {:>18}", "milliseconds, p50 (p90)", "");
    for (name, times) in rows {
        println!("{name:58} {:>18}", show(times));
    }
    if let Some(why) = absent {
        println!("{:58} {why}", "podman");
    }
    for line in cost {
        println!("{line}");
    }
}

/// One process in one cgroup, and nothing in the way.
struct Bare {
    dir: PathBuf,
    file: &'static str,
    words: [&'static str; 2],
    echo: Child,
}

impl Bare {
    fn new(base: &str, file: &'static str, words: [&'static str; 2]) -> Self {
        let dir = Path::new(base).join(format!("rclaude-bench-{}", std::process::id()));
        fs::create_dir(&dir).expect("a cgroup can be made");
        let echo = Command::new("cat").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn();
        let echo = echo.expect("there is a program that echoes");
        fs::write(dir.join("cgroup.procs"), echo.id().to_string()).expect("it can be moved");
        Self { dir, file, words, echo }
    }

    fn measure(mut self, name: &str) -> Rows {
        let (mut freezes, mut thaws) = (vec![], vec![]);
        for round in 0..=ROUNDS {
            std::thread::sleep(IDLE);
            let begun = Instant::now();
            fs::write(self.dir.join(self.file), self.words[0]).expect("it can be frozen");
            while !self.is_frozen() {}
            let frozen = begun.elapsed();
            std::thread::sleep(IDLE);
            let begun = Instant::now();
            fs::write(self.dir.join(self.file), self.words[1]).expect("it can be thawed");
            self.echo();
            if round > 0 {
                freezes.push(frozen);
                thaws.push(begun.elapsed());
            }
        }
        let _ = self.echo.kill();
        let _ = self.echo.wait();
        while fs::remove_dir(&self.dir).is_err() {
            std::thread::sleep(IDLE);
        }
        vec![
            (format!("bare write, {name}, until frozen (the limit)"), freezes),
            (format!("bare write, {name}, thaw until an echo (the limit)"), thaws),
        ]
    }

    fn is_frozen(&self) -> bool {
        let (file, sign) = match self.file {
            "cgroup.freeze" => ("cgroup.events", "frozen 1"),
            other => (other, "FROZEN"),
        };
        fs::read_to_string(self.dir.join(file)).is_ok_and(|text| text.contains(sign))
    }

    fn echo(&mut self) {
        let (to, from) = (self.echo.stdin.as_mut(), self.echo.stdout.as_mut());
        to.expect("a pipe").write_all(b"!").expect("it listens");
        from.expect("a pipe").read_exact(&mut [0]).expect("it echoes");
    }
}

/// Ours, and what so many of ours cost while they are frozen.
async fn ours(many: u32) -> (Rows, Vec<String>) {
    let dir = tempfile::tempdir().expect("a directory can be made");
    let config = LocalConfig::new(dir.path(), env!("CARGO_BIN_EXE_rclaude-test-supervisor"));
    let provider = LocalProvider::open(config).await.expect("the engine opens");
    let sandbox = provider.create(&spec()).await.expect("a sandbox can be made");
    let mut rows = memory_kept(&provider, &sandbox).await;
    rows.extend(disk_kept(&provider, &sandbox).await);
    provider.destroy(&sandbox).await.expect("it can be destroyed");
    let cost = cost_of_frozen(&provider, many).await;
    provider.release_supervisor().await.expect("the supervisor leaves");
    (rows, cost)
}

async fn memory_kept(provider: &LocalProvider, sandbox: &SandboxRef) -> Rows {
    let client = connect(provider, sandbox).await;
    let (mut freezes, mut thaws, mut answers) = (vec![], vec![], vec![]);
    for round in 0..=ROUNDS {
        tokio::time::sleep(IDLE).await;
        let begun = Instant::now();
        provider.freeze(sandbox).await.expect("it can be frozen");
        let frozen = begun.elapsed();
        tokio::time::sleep(IDLE).await;
        let begun = Instant::now();
        provider.resume(sandbox).await.expect("it can be thawed");
        let thawed = begun.elapsed();
        client.health().await.expect("it answers");
        if round > 0 {
            freezes.push(frozen);
            thaws.push(thawed);
            answers.push(begun.elapsed());
        }
    }
    vec![
        ("freeze".to_owned(), freezes),
        ("resume of a frozen one".to_owned(), thaws),
        ("resume of a frozen one, until the daemon answers".to_owned(), answers),
    ]
}

async fn disk_kept(provider: &LocalProvider, sandbox: &SandboxRef) -> Rows {
    let (mut stops, mut frozen_stops) = (vec![], vec![]);
    let (mut starts, mut answers, mut commands) = (vec![], vec![], vec![]);
    for round in 0..=2 * SLOW_ROUNDS {
        let frozen = round % 2 == 1;
        if frozen {
            provider.freeze(sandbox).await.expect("it can be frozen");
        }
        let begun = Instant::now();
        provider.stop(sandbox).await.expect("it can be stopped");
        let stopped = begun.elapsed();
        tokio::time::sleep(IDLE).await;
        let begun = Instant::now();
        provider.resume(sandbox).await.expect("it starts again");
        let started = begun.elapsed();
        let client = connect(provider, sandbox).await;
        client.health().await.expect("it answers");
        let answered = begun.elapsed();
        run_true(&client).await;
        if round > 0 {
            if frozen { &mut frozen_stops } else { &mut stops }.push(stopped);
            starts.push(started);
            answers.push(answered);
            commands.push(begun.elapsed());
        }
    }
    vec![
        ("stop of a running one, orderly".to_owned(), stops),
        ("stop of a frozen one, orderly".to_owned(), frozen_stops),
        ("resume of a stopped one".to_owned(), starts),
        ("resume of a stopped one, until the daemon answers".to_owned(), answers),
        ("resume of a stopped one, until `true` has run".to_owned(), commands),
    ]
}

async fn connect(provider: &LocalProvider, sandbox: &SandboxRef) -> Client {
    let stream = provider.dial(sandbox).await.expect("its daemon listens");
    Client::connect(stream, TOKEN, &TaskTracker::new()).await.expect("it speaks HTTP/2")
}

async fn run_true(client: &Client) {
    let spec = ProcessSpec {
        argv: vec!["/bin/true".to_owned()],
        env: std::collections::BTreeMap::new(),
        cwd: "/".to_owned(),
        user: User::Agent,
        stdin: Stdin::Closed,
        timeout_seconds: None,
        keep: false,
        attended: false,
    };
    let mut output = client.run(&ExecId::generate(), &spec).await.expect("it starts");
    while let Some(piece) = output.next().await {
        if matches!(piece.expect("it is told of"), Output::End(_)) {
            return;
        }
    }
}

async fn cost_of_frozen(provider: &LocalProvider, many: u32) -> Vec<String> {
    let before = available();
    let mut sandboxes = Vec::new();
    for _ in 0..many {
        sandboxes.push(provider.create(&spec()).await.expect("a sandbox can be made"));
    }
    let begun = Instant::now();
    for sandbox in &sandboxes {
        provider.freeze(sandbox).await.expect("it can be frozen");
    }
    let each = begun.elapsed().as_secs_f64() * 1e3 / f64::from(many);
    let used = measure(provider, &sandboxes).await;
    tokio::time::sleep(WATCHED).await;
    let later = measure(provider, &sandboxes).await.0 - used.0;
    let taken = before.saturating_sub(available());
    for sandbox in &sandboxes {
        provider.destroy(sandbox).await.expect("it can be destroyed");
    }
    let of = |kib: u64| kib / u64::from(many);
    vec![
        format!("{many} frozen sandboxes, frozen one after the other in {each:.3} ms each:"),
        format!("  processor time of all in {} s: {later} us", WATCHED.as_secs()),
        format!(
            "  memory of each: {} KiB by its cgroup, {} KiB of the host's",
            of(used.1),
            of(taken)
        ),
    ]
}

/// Processor time in microseconds and memory in KiB of them all.
async fn measure(provider: &LocalProvider, sandboxes: &[SandboxRef]) -> (u64, u64) {
    let mut sum = (0, 0);
    for sandbox in sandboxes {
        let stats = provider.stats(sandbox).await.expect("it can be measured");
        sum = (sum.0 + stats.cpu_micros, sum.1 + stats.memory_bytes / 1024);
    }
    sum
}

/// The host's available memory, in KiB.
fn available() -> u64 {
    let text = fs::read_to_string("/proc/meminfo").expect("it can be read");
    let line = text.lines().find_map(|line| line.strip_prefix("MemAvailable:"));
    line.and_then(|line| line.trim().strip_suffix(" kB")?.parse().ok()).unwrap_or(0)
}

/// The same of a container by its command line, or why not.
fn podman() -> (Rows, Option<String>) {
    const NAME: &str = "rclaude-bench-pause";
    let dir = tempfile::tempdir().expect("a directory can be made");
    root(dir.path());
    let begin = format!(
        "run --detach --name={NAME} --network=none --ulimit=nofile=1024:1024 \
         --ulimit=nproc=1024:1024 --volume=/usr:/usr:ro --rootfs {} /bin/sleep 1000",
        dir.path().display()
    );
    let result = run_podman(&begin).and_then(|_| {
        let mut rows = Rows::new();
        for (name, pairs) in [
            ("pause", [format!("pause {NAME}"), format!("unpause {NAME}")]),
            ("stop --time=0", [format!("stop --time=0 {NAME}"), format!("start {NAME}")]),
        ] {
            let (mut down, mut up, mut first) = (vec![], vec![], vec![]);
            for _ in 0..SLOW_ROUNDS / 2 {
                down.push(run_podman(&pairs[0])?);
                let begun = Instant::now();
                up.push(run_podman(&pairs[1])?);
                run_podman(&format!("exec {NAME} /bin/true"))?;
                first.push(begun.elapsed());
            }
            let back = pairs[1].split(' ').next().unwrap_or_default();
            rows.push((format!("podman {name}"), down));
            rows.push((format!("podman {back}"), up));
            rows.push((format!("podman {back}, until `podman exec true` has run"), first));
        }
        Ok(rows)
    });
    let _ = run_podman(&format!("rm --force --time=0 {NAME}"));
    match result {
        Ok(rows) => (rows, None),
        Err(why) => (Rows::new(), Some(why)),
    }
}

fn run_podman(arguments: &str) -> Result<Duration, String> {
    let begun = Instant::now();
    let mut command = Command::new("podman");
    let run = command.args(arguments.split_whitespace()).stdin(Stdio::null()).output();
    let took = begun.elapsed();
    match run {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            Err("is not installed".to_owned())
        }
        Err(error) => Err(error.to_string()),
        Ok(run) if run.status.success() => Ok(took),
        Ok(run) => {
            let said = String::from_utf8_lossy(&run.stderr);
            Err(format!("refuses on this host: {}", said.lines().last().unwrap_or_default()))
        }
    }
}
