//! What a checkpoint costs, and what starting from one does: a workspace of 30,000 files and
//! 1 GB, sealed at first and after 1 % of it changed, on each file system that seals in a way of
//! its own, beside what one would otherwise do (`btrfs subvolume snapshot`, `cp`, `tar | zstd`,
//! `restic`); then 1, 10 and 100 sandboxes started on it.
//!
//! `cargo bench -p rclaude-sandbox --bench checkpoint [-- --files 30000 --megabytes 1000 --on
//! ext4,xfs,btrfs --peers no]`, as root. Disks of other kinds are made in images, in a mount namespace of this
//! program's own. `ext4` stands for whatever the directory for temporary files lies on.
#![expect(clippy::print_stdout, reason = "a table for a reader")]

use std::{
    fs,
    io::Write as _,
    os::unix::fs::{PermissionsExt as _, chown},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use rclaude_sandbox::{
    agentd::Client,
    local::{LocalConfig, LocalProvider},
    provider::{Bootstrap, Layering as _, SandboxProvider as _, SandboxRef, SandboxSpec, Sealed},
};
use rclaude_types::{LayerId, Resources, SandboxId};
use tokio_util::task::TaskTracker;

const CHANGES: usize = 7;

/// What to do, from the command line.
#[derive(Debug, Clone)]
struct Plan {
    files: usize,
    bytes: u64,
    on: Vec<String>,
    /// Whether the others are measured, too, which takes far longer.
    peers: bool,
}

impl Plan {
    fn read() -> Self {
        let mut plan = Self {
            files: 30_000,
            bytes: 1_000_000_000,
            on: ["ext4", "xfs", "btrfs"].map(str::to_owned).into(),
            peers: true,
        };
        let words: Vec<_> = std::env::args().collect();
        for pair in words.windows(2) {
            match pair[0].as_str() {
                "--files" => plan.files = pair[1].parse().expect("a number of files"),
                "--megabytes" => {
                    plan.bytes = pair[1].parse::<u64>().expect("a number") * 1_000_000;
                }
                "--on" => plan.on = pair[1].split(',').map(str::to_owned).collect(),
                "--peers" => plan.peers = pair[1] != "no",
                _ => {}
            }
        }
        plan
    }
}

fn main() {
    let plan = Plan::read();
    if std::env::vars().all(|(name, _)| name != "BENCH_DISK") {
        for kind in &plan.on {
            run_on(kind);
        }
        return;
    }
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .expect("threads can be started");
    runtime.block_on(measure(&plan));
}

/// Runs this program once more with all temporary files on a disk of that kind.
fn run_on(kind: &str) {
    let home = tempfile::tempdir().expect("a directory can be made");
    let script = match kind {
        "ext4" => "mkdir disk && TMPDIR=$PWD/disk exec \"$@\"",
        _ => {
            "truncate -s 12G disk.img && mkdir disk && mkfs.$BENCH_DISK -q disk.img && \
             mount -o loop,noatime disk.img disk && TMPDIR=$PWD/disk exec \"$@\""
        }
    };
    let status = Command::new("unshare")
        .args(["--mount", "--propagation", "private", "sh", "-c", script, "sh"])
        .arg(std::env::current_exe().expect("this program"))
        .args(std::env::args().skip(1))
        .env("BENCH_DISK", kind)
        .current_dir(home.path())
        .status();
    if !status.is_ok_and(|status| status.success()) {
        println!("{kind}: cannot be measured here");
    }
}

async fn measure(plan: &Plan) {
    let dir = tempfile::tempdir().expect("a directory can be made");
    let config =
        LocalConfig::new(dir.path().join("engine"), env!("CARGO_BIN_EXE_rclaude-test-supervisor"));
    let provider = LocalProvider::open(config).await.expect("the engine opens");
    println!(
        "\n{} files, {} MB, sealed by {:?}",
        plan.files,
        plan.bytes / 1_000_000,
        provider.method()
    );

    // The workspace is written where a sandbox's writes end up, as if by it.
    let sandbox = provider.create(&spec(&[])).await.expect("a sandbox can be made");
    let workspace = upper(dir.path(), &sandbox).join("workspace");
    let begun = Instant::now();
    fill(&workspace, plan);
    println!("{:52} {:>9.0} ms", "(writing it)", millis(begun.elapsed()));
    Command::new("sync").status().expect("sync");

    let first = LayerId::generate();
    report("first seal, copied ahead", &seal(&provider, &sandbox, &first, None, true).await);
    let again = LayerId::generate();
    report("first seal, all at once", &seal(&provider, &sandbox, &again, None, false).await);
    provider.remove_layer(&first).await.expect("a layer can be removed");
    let mut top = again;
    let mut stack = vec![top.clone()];
    for (name, ahead) in [("1 % changed, copied ahead", true), ("1 % changed, all at once", false)]
    {
        let mut seals = Vec::new();
        for round in 0..CHANGES {
            change(&workspace, plan, round);
            let layer = LayerId::generate();
            let sealed = seal(&provider, &sandbox, &layer, Some(&top), ahead).await;
            if sealed.1.whole {
                stack.clear();
            }
            stack.insert(0, layer.clone());
            top = layer;
            seals.push(sealed);
        }
        seals.sort_by_key(|(whole, _)| *whole);
        report(name, &seals[CHANGES / 2]);
    }
    let mut idle = Vec::new();
    for _ in 0..CHANGES {
        let layer = LayerId::generate();
        idle.push(seal(&provider, &sandbox, &layer, Some(&top), false).await);
        stack.insert(0, layer.clone());
        if idle.last().is_some_and(|(_, sealed)| sealed.whole) {
            stack.truncate(1);
        }
        top = layer;
    }
    idle.sort_by_key(|(whole, _)| *whole);
    report("nothing changed", &idle[CHANGES / 2]);
    let begun = Instant::now();
    let flat = LayerId::generate();
    provider.flatten(&stack, &flat).await.expect("layers can be flattened");
    println!(
        "{:52} {:>9.1} ms",
        format!("flatten {} layers", stack.len()),
        millis(begun.elapsed())
    );
    forks(&provider, &stack).await;
    if plan.peers {
        peers(dir.path(), &upper(dir.path(), &sandbox));
    }
    provider.destroy(&sandbox).await.expect("it can be destroyed");
    provider.release_supervisor().await.expect("the supervisor leaves");
}

fn millis(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

/// Total time, and what came of it.
type Timed = (Duration, Sealed);

async fn seal(
    provider: &LocalProvider,
    sandbox: &SandboxRef,
    layer: &LayerId,
    since: Option<&LayerId>,
    ahead: bool,
) -> Timed {
    let begun = Instant::now();
    if ahead {
        provider.prepare_seal(sandbox, layer, since).await.expect("it can be prepared");
    }
    let sealed = provider.seal(sandbox, layer, since).await.expect("it can be sealed");
    (begun.elapsed(), sealed)
}

fn report(name: &str, (whole, sealed): &Timed) {
    println!(
        "{name:52} {:>9.1} ms, frozen {:>8.2} ms, {:>7.1} MB",
        millis(*whole),
        millis(sealed.frozen),
        Duration::from_micros(sealed.bytes).as_secs_f64()
    );
}

async fn forks(provider: &LocalProvider, stack: &[LayerId]) {
    let tasks = TaskTracker::new();
    for count in [1, 10, 100] {
        let begun = Instant::now();
        let one = || async {
            let begun = Instant::now();
            let sandbox = provider.create(&spec(stack)).await.expect("a fork can be made");
            let stream = provider.dial(&sandbox).await.expect("its daemon listens");
            let client = Client::connect(stream, "token", &tasks).await.expect("it speaks");
            client.health().await.expect("it answers");
            (sandbox, begun.elapsed())
        };
        let (mut sandboxes, mut times) = (Vec::new(), Vec::new());
        for _ in 0..count {
            let (sandbox, time) = one().await;
            sandboxes.push(sandbox);
            times.push(time);
        }
        let all = begun.elapsed();
        times.sort();
        let name = format!("{count} forks of {} layers, until the daemon answers", stack.len());
        println!("{name:52} {:>9.1} ms, p50 {:>8.2} ms", millis(all), millis(times[count / 2]));
        for sandbox in sandboxes {
            provider.destroy(&sandbox).await.expect("a fork can be destroyed");
        }
    }
}

fn spec(stack: &[LayerId]) -> SandboxSpec {
    SandboxSpec {
        id: SandboxId::generate(),
        template: "host".to_owned(),
        resources: Resources::default(),
        bootstrap: Bootstrap { token: "token".to_owned() },
        layers: Vec::new(),
        stack: stack.to_vec(),
        binds: Vec::new(),
        files: Vec::new(),
        allow_root: false,
    }
}

/// Where a sandbox's writes end up.
fn upper(dir: &Path, sandbox: &SandboxRef) -> PathBuf {
    let dir = dir.join("engine/sandboxes").join(&sandbox.0);
    let snapshot = dir.join("disk/upper");
    if snapshot.exists() { snapshot } else { dir.join("upper") }
}

/// Ten files to a directory, ten directories to one above, sizes as in a project: most are small,
/// few hold most of the bytes.
fn path_of(workspace: &Path, number: usize) -> PathBuf {
    workspace.join(format!("{}/{}/{number}.txt", number / 1000, number / 10 % 100))
}

fn size_of(plan: &Plan, number: usize) -> usize {
    let mean = usize::try_from(plan.bytes).expect("fits") / plan.files;
    if number.is_multiple_of(10) { mean * 7 } else { mean / 3 }
}

fn fill(workspace: &Path, plan: &Plan) {
    fs::create_dir_all(workspace).expect("a directory");
    let noise = noise(plan.bytes.min(8_000_000));
    for number in 0..plan.files {
        let path = path_of(workspace, number);
        if number.is_multiple_of(10) {
            fs::create_dir_all(path.parent().expect("it has one")).expect("a directory");
        }
        write(&path, size_of(plan, number), &noise, number);
        if number.is_multiple_of(100) {
            fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).expect("a mode");
        }
    }
    for path in [workspace.to_owned(), path_of(workspace, 0)] {
        chown(path, Some(1000), Some(1000)).expect("an owner");
    }
}

/// Writes one file of a hundred anew.
fn change(workspace: &Path, plan: &Plan, round: usize) {
    let noise = noise(plan.bytes.min(8_000_000));
    for number in (round..plan.files).step_by(100) {
        write(&path_of(workspace, number), size_of(plan, number), &noise, number + round + 1);
    }
}

fn write(path: &Path, size: usize, noise: &[u8], seed: usize) {
    let mut file = fs::File::create(path).expect("a file");
    let mut left = size;
    let mut at = seed * 7919 % (noise.len() / 2);
    while left > 0 {
        let piece = left.min(noise.len() - at);
        file.write_all(&noise[at..at + piece]).expect("room on the disk");
        left -= piece;
        at = 0;
    }
}

/// Bytes that compress to about half, like programs and their sources.
fn noise(size: u64) -> Vec<u8> {
    let mut state = 88_172_645_463_325_252_u64;
    let mut bytes = Vec::new();
    while (bytes.len() as u64) < size {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend(&state.to_le_bytes()[..4]);
        bytes.extend(b"text");
    }
    bytes
}

/// What one would otherwise do with the same files.
fn peers(dir: &Path, upper: &Path) {
    let (dir, upper) = (dir.display(), upper.display());
    let commands = [
        (
            "btrfs subvolume snapshot -r (CLI)",
            format!("btrfs subvolume snapshot -r {upper}/.. {dir}/peer-1"),
        ),
        ("cp -a --reflink=always", format!("cp -a --reflink=always {upper} {dir}/peer-2")),
        ("cp -a --reflink=never", format!("cp -a --reflink=never {upper} {dir}/peer-3")),
        ("tar | zstd -1 -T2", format!("tar -C {upper} -c . | zstd -1 -T2 -q > {dir}/peer-4")),
        (
            "restic, first",
            format!(
                "RESTIC_PASSWORD=x restic init -q -r {dir}/restic && RESTIC_PASSWORD=x restic -q -r {dir}/restic backup {upper}"
            ),
        ),
        (
            "restic, nothing changed",
            format!("RESTIC_PASSWORD=x restic -q -r {dir}/restic backup {upper}"),
        ),
    ];
    for (name, command) in commands {
        let begun = Instant::now();
        let run = Command::new("sh").args(["-c", &command]).stdout(Stdio::null()).output();
        let took = begun.elapsed();
        match run {
            Ok(run) if run.status.success() => {
                println!("{name:52} {:>9.1} ms", millis(took));
            }
            Ok(run) => {
                let said = String::from_utf8_lossy(&run.stderr);
                println!("{name:52} {}", said.lines().next().unwrap_or("failed"));
            }
            Err(error) => println!("{name:52} {error}"),
        }
        for peer in ["peer-1", "peer-2", "peer-3", "peer-4"] {
            let path = format!("{dir}/{peer}");
            let _ = Command::new("sh")
                .args(["-c", &format!("btrfs subvolume delete {path} || rm -rf {path}")])
                .output();
        }
    }
}
