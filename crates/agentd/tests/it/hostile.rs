//! Somebody in the sandbox who works against the daemon while it works.

use std::{
    fs,
    os::unix::fs::{MetadataExt, PermissionsExt, symlink},
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
};

use rclaude_sandbox::agentd::{Condition, Listing, Part, Search, Untar, WriteOptions};
use rclaude_types::ErrorCode;

use crate::{
    files::binary,
    harness::{Daemon, pieces},
};

/// Makes `path` a directory and a link to `target` in turn, as fast as it can, until dropped.
struct Swapper {
    stop: Arc<AtomicBool>,
    thread: Option<thread::JoinHandle<u32>>,
}

impl Swapper {
    fn start(path: &Path, target: &Path) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let (path, target, stopped) = (path.to_owned(), target.to_owned(), Arc::clone(&stop));
        let (link, aside) = (path.with_extension("link"), path.with_extension("aside"));
        symlink(&target, &link).unwrap();
        let thread = thread::spawn(move || {
            let mut rounds = 0;
            while !stopped.load(Ordering::Relaxed) {
                let _ = fs::rename(&path, &aside);
                let _ = fs::rename(&link, &path);
                let _ = fs::rename(&path, &link);
                let _ = fs::rename(&aside, &path);
                rounds += 1;
            }
            rounds
        });
        Self { stop, thread: Some(thread) }
    }

    /// How often it swapped.
    fn end(mut self) -> u32 {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.take().unwrap().join().unwrap()
    }
}

#[tokio::test]
async fn a_directory_that_becomes_a_link_meanwhile_leads_nobody_out() {
    let daemon = Daemon::start();
    if fs::metadata("/proc/self").unwrap().uid() != 0 {
        return; // There is nothing that the daemon could reach and its user could not.
    }
    let client = daemon.client().await;
    // What the daemon may read and write, and the agent may not.
    let secret = daemon.path("secret");
    fs::create_dir(&secret).unwrap();
    fs::write(secret.join("file"), "a secret that is long enough").unwrap();
    fs::set_permissions(&secret, fs::Permissions::from_mode(0o700)).unwrap();
    let base = daemon.path("base");
    let swapped = base.join("sub");
    client.write(swapped.join("file"), "mine".into(), &WriteOptions::default()).await.unwrap();
    fs::set_permissions(&base, fs::Permissions::from_mode(0o777)).unwrap();
    let archive = client.tar(&base, false).await.unwrap().bytes(1_000_000).await.unwrap();
    let swapper = Swapper::start(&swapped, &secret);
    for round in 0..150 {
        if let Ok(content) = client.read(swapped.join("file"), Part::default()).await {
            assert_eq!(content.bytes(1000).await.unwrap(), "mine");
        }
        let options = WriteOptions::default();
        let _ = client.write(swapped.join("new"), "new".into(), &options).await;
        let _ = client.untar(&base, pieces(&archive), Untar::default()).await;
        let _ = client.remove(swapped.join("file"), false).await;
        let _ = client.copy(&swapped, base.join("copy"), true, &Condition::None).await;
        let _ = client.remove(base.join("copy"), true).await;
        let tar = client.tar(&base, false).await.unwrap().bytes(1_000_000).await;
        if let Ok(tar) = tar {
            assert!(!tar.windows(8).any(|it| it == b"a secret"), "round {round}");
        }
        let search = Search { pattern: "secret".to_owned(), ..Search::default() };
        if let Ok(found) = client.search(&base, &search).await {
            assert_eq!(found.data, [], "round {round}");
        }
        let listing = Listing { depth: 5, ..Listing::default() };
        let _ = client.list(&base, &listing).await;
        let _ = client.watch(&base, true, 10).await;
    }
    assert!(swapper.end() > 100, "it did swap");
    let left: Vec<_> = fs::read_dir(&secret).unwrap().map(|it| it.unwrap().file_name()).collect();
    assert_eq!(left, ["file"]);
    assert_eq!(fs::read(secret.join("file")).unwrap(), b"a secret that is long enough");
}

#[tokio::test]
async fn a_file_is_the_old_or_the_new_one_also_if_the_daemon_is_killed() {
    let mut directory = tempfile::tempdir().unwrap();
    let (old, new) = (vec![b'o'; 2_000_000], binary(8_000_000));
    for round in 0..6_u64 {
        let daemon = Daemon::start_in(directory, &[]);
        let client = daemon.client().await;
        let path = daemon.path("file");
        let options = WriteOptions::default();
        // What the killed one left is in nobody's way.
        client.write(&path, old.clone().into(), &options).await.unwrap();
        let body = pieces(&new);
        let writing = {
            let (client, path) = (client.clone(), path.clone());
            async move { client.write_stream(&path, body, &WriteOptions::default()).await }
        };
        let kill = async {
            // From at once to when it is mostly done.
            tokio::time::sleep(std::time::Duration::from_millis(round * 4)).await;
            daemon.kill()
        };
        let (written, left) = tokio::join!(writing, kill);
        directory = left;
        let now = fs::read(&path).unwrap();
        assert!(now == old || now == new, "round {round}: {} bytes", now.len());
        if written.is_ok() {
            assert!(now == new, "what was acknowledged is there");
        }
    }
}

#[tokio::test]
async fn a_full_disk_is_told_as_one() {
    if fs::metadata("/proc/self").unwrap().uid() != 0 {
        return; // Mounting takes root.
    }
    let directory = tempfile::tempdir().unwrap();
    // A mount namespace of its own, in which the daemon has a small disk.
    let files = directory.path().join("files");
    fs::create_dir(&files).unwrap();
    let mount = format!(
        "mount -t tmpfs -o size=1m,mode=777 none {} && exec \"$0\" \"$@\"",
        files.display()
    );
    let wrapper = ["unshare", "--mount", "--propagation", "private", "sh", "-c", &mount];
    let daemon = Daemon::start_in(directory, &wrapper);
    let client = daemon.client().await;
    let data = binary(3_000_000);
    let options = WriteOptions::default();
    let write = client.write_stream(daemon.path("f"), pieces(&data), &options).await;
    assert_eq!(write.unwrap_err().problem().unwrap().code, ErrorCode::DiskFull);
    let append = client.append(daemon.path("g"), pieces(&data), None, None, false).await;
    assert_eq!(append.unwrap_err().problem().unwrap().code, ErrorCode::DiskFull);
    client.remove(daemon.path("g"), false).await.unwrap();
    let small = client.write(daemon.path("f"), "fits".into(), &options).await;
    assert_eq!(small.unwrap().size, 4, "what did not fit is gone again");
}
