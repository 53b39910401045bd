//! How long saving and restoring a workspace takes, and by how much the vault grows, beside restic
//! where it is installed: the same tree, the same disk, the same run, caches warm.
//!
//! `cargo bench -p rclaude-vault --bench vault -- [files] [megabytes]`; 30000 and 1000 make the
//! tree of a large checkout with its dependencies.
#![expect(clippy::print_stdout, reason = "a table for a reader")]

use std::{
    fs::{self, OpenOptions},
    io::{ErrorKind, Write as _},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use rclaude_vault::{Key, Location, Vault, digest};

const FILES: u64 = 6000;
const MEGABYTES: u64 = 200;
const KEY: Key = Key::Random([7; 32]);

/// What was measured of a step.
#[derive(Clone, Copy)]
struct Step {
    took: Duration,
    /// By how many bytes what is stored grew.
    grew: u64,
}

fn main() {
    let mut numbers = std::env::args().skip(1).filter_map(|argument| argument.parse().ok());
    let files = numbers.next().unwrap_or(FILES);
    let megabytes = numbers.next().unwrap_or(MEGABYTES);
    let dir = tempfile::tempdir().expect("a directory can be made");
    let tree = dir.path().join("tree");
    make(&tree, files, megabytes << 20);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .expect("threads can be started");

    let vault = runtime.block_on(open(dir.path()));
    let (ours, small) = runtime.block_on(ours(&vault, &tree, files, dir.path()));
    // The same change again elsewhere, so that both find the tree as it was before it.
    let restic = restic(&tree, files, dir.path());

    println!("{files} files, {megabytes} MB");
    println!("{:28} {:>22} {:>22}", "seconds (MB added)", "vault", "restic");
    for (number, name) in
        ["first save", "nothing changed", "1 % of the files changed", "restore"].iter().enumerate()
    {
        let ours = show(ours[number]);
        let theirs = match &restic {
            Ok(steps) => show(steps[number]),
            Err(why) => why.clone(),
        };
        println!("{name:28} {ours:>22} {theirs:>22}");
    }
    println!();
    for (name, took) in small {
        println!("{name:28} {:>19.1} ms", took.as_secs_f64() * 1e3);
    }
}

fn show(step: Step) -> String {
    let megabytes = u32::try_from(step.grew >> 10).map_or(f64::NAN, f64::from) / 1024.0;
    format!("{:.2} ({megabytes:.1})", step.took.as_secs_f64())
}

async fn open(dir: &Path) -> Vault {
    let place = Location::Dir(dir.join("vault"));
    Vault::open_or_create(&place, &KEY).await.expect("a vault can be made")
}

async fn ours(
    vault: &Vault,
    tree: &Path,
    files: u64,
    dir: &Path,
) -> ([Step; 4], Vec<(&'static str, Duration)>) {
    let mut steps = Vec::new();
    let mut last = None;
    for round in 0..3 {
        if round == 2 {
            change(tree, files, round);
        }
        let before = vault.size().await.expect("it has a size");
        let begun = Instant::now();
        last = Some(vault.save(tree, "layer").await.expect("it can be saved").id);
        let took = begun.elapsed();
        let grew = vault.size().await.expect("it has a size") - before;
        steps.push(Step { took, grew });
    }
    let id = last.expect("three were saved");
    let begun = Instant::now();
    vault.restore(&id, &dir.join("back")).await.expect("it can be restored");
    steps.push(Step { took: begun.elapsed(), grew: 0 });

    let mut small = Vec::new();
    let mut time = |name, begun: Instant| small.push((name, begun.elapsed()));
    let begun = Instant::now();
    let one = digest(tree).expect("it can be read");
    time("digest of the tree", begun);
    assert_eq!(digest(&dir.join("back")).expect("it can be read"), one, "the restore is true");
    let begun = Instant::now();
    open(dir).await;
    time("open", begun);
    let begun = Instant::now();
    vault.put("manifest", vec![b'x'; 10_000]).await.expect("it can be put");
    time("put a document", begun);
    let begun = Instant::now();
    vault.get("manifest").await.expect("it can be got");
    time("get a document", begun);
    let begun = Instant::now();
    assert!(vault.verify(true).await.expect("it can be verified").is_sound());
    time("verify all data", begun);
    let begun = Instant::now();
    vault.prune(Duration::from_hours(24)).await.expect("it can be pruned");
    time("prune, nothing to do", begun);
    fs::remove_dir_all(dir.join("back")).expect("it can be removed");
    (steps.try_into().unwrap_or_else(|_| unreachable!("four steps")), small)
}

/// The same with restic, or why not.
fn restic(tree: &Path, files: u64, dir: &Path) -> Result<[Step; 4], String> {
    let run = |arguments: &[&str]| -> Result<Duration, String> {
        let begun = Instant::now();
        let run = Command::new("restic")
            .args(["--quiet", "--repo"])
            .arg(dir.join("restic"))
            .arg("--cache-dir")
            .arg(dir.join("cache"))
            .args(arguments)
            .env("RESTIC_PASSWORD", "password")
            .current_dir(tree)
            .stdin(Stdio::null())
            .output();
        let took = begun.elapsed();
        match run {
            Err(error) if error.kind() == ErrorKind::NotFound => Err("not installed".to_owned()),
            Err(error) => Err(error.to_string()),
            Ok(run) if run.status.success() => Ok(took),
            Ok(run) => Err(String::from_utf8_lossy(&run.stderr).trim().to_owned()),
        }
    };
    run(&["init"])?;
    let mut steps = Vec::new();
    for round in 0..3 {
        if round == 2 {
            change(tree, files, round + 1);
        }
        let before = size(&dir.join("restic"));
        let took = run(&["backup", "."])?;
        steps.push(Step { took, grew: size(&dir.join("restic")) - before });
    }
    let target = dir.join("restic-back");
    let target = target.to_str().ok_or("an odd path")?;
    steps.push(Step { took: run(&["restore", "latest", "--target", target])?, grew: 0 });
    steps.try_into().map_err(|_| "not four steps".to_owned())
}

fn size(dir: &Path) -> u64 {
    let entries =
        fs::read_dir(dir).expect("it can be listed").map(|entry| entry.expect("an entry"));
    entries
        .map(|entry| {
            let found = entry.metadata().expect("it is there");
            if found.is_dir() { size(&entry.path()) } else { found.len() }
        })
        .sum()
}

fn path(tree: &Path, number: u64) -> PathBuf {
    tree.join(format!("part{}/module{}/file{number}.txt", number % 17, number % 311))
}

/// A tree of many small files of something like text and a few large ones that do not compress.
fn make(tree: &Path, files: u64, bytes: u64) {
    let (small, large) = (files - files / 100, files / 100);
    let each_small = bytes / 4 / small;
    let each_large = bytes * 3 / 4 / large.max(1);
    let mut random = Random(1);
    for number in 0..files {
        let path = path(tree, number);
        fs::create_dir_all(path.parent().expect("it is in a directory")).expect("directories");
        let mut content = Vec::new();
        if number < small {
            let length = each_small / 2 + random.next() % each_small.max(1);
            while (content.len() as u64) < length {
                writeln!(content, "let value_{} = call({});", random.next() % 999, random.next())
                    .expect("memory");
            }
        } else {
            while (content.len() as u64) < each_large {
                content.extend(random.next().to_le_bytes());
            }
        }
        fs::write(path, content).expect("a file");
    }
}

/// Adds a line to one file in a hundred.
fn change(tree: &Path, files: u64, round: u64) {
    for number in (0..files).step_by(100) {
        let path = path(tree, number + round % 100);
        let mut file = OpenOptions::new().append(true).open(path).expect("a file");
        writeln!(file, "// changed in round {round}").expect("a line");
    }
}

struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }
}
