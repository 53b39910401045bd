//! Being told of changes.

use std::{fs, path::Path};

use futures::StreamExt;
use rclaude_sandbox::agentd::{Client, Content};
use rclaude_types::{ErrorCode, FileChange, FileEvent};

use crate::{files::code, harness::Daemon};

/// A watch that has begun, and what it told.
struct Watch {
    content: Content,
    rest: Vec<u8>,
}

impl Watch {
    async fn begin(client: &Client, path: &Path, recursive: bool) -> Self {
        let content = client.watch(path, recursive, 20).await.unwrap();
        let mut watch = Self { content, rest: Vec::new() };
        assert_eq!(watch.next().await, Some(FileEvent::Ready));
        watch
    }

    /// The next event; `None` at the end.
    async fn next(&mut self) -> Option<FileEvent> {
        loop {
            if let Some(end) = self.rest.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = self.rest.drain(..=end).collect();
                return Some(serde_json::from_slice(&line).unwrap());
            }
            self.rest.extend_from_slice(&self.content.next().await?.unwrap());
        }
    }

    /// Reads on until the event comes; everything until then, and it.
    async fn until(&mut self, wanted: &FileEvent) -> Vec<FileEvent> {
        let mut seen = Vec::new();
        loop {
            let event = self.next().await.expect("the watch goes on");
            seen.push(event);
            if seen.last() == Some(wanted) {
                return seen;
            }
        }
    }
}

fn change(path: &Path, directory: bool) -> FileChange {
    FileChange { path: path.to_str().unwrap().to_owned(), path_base64: None, directory }
}

#[tokio::test]
async fn changes_are_told_also_in_directories_that_appear() {
    let daemon = Daemon::start();
    let client = daemon.client().await;
    let tree = daemon.path("tree");
    fs::create_dir_all(tree.join("old")).unwrap();
    fs::write(tree.join("old/file"), "x").unwrap();
    let mut watch = Watch::begin(&client, &tree, true).await;

    fs::write(tree.join("old/file"), "y").unwrap();
    watch.until(&FileEvent::Modified(change(&tree.join("old/file"), false))).await;

    // Made at once: what is in it is there before it can be watched.
    fs::create_dir_all(tree.join("new/deeper/deepest")).unwrap();
    fs::write(tree.join("new/deeper/deepest/file"), "x").unwrap();
    let last = tree.join("new/deeper/deepest/file");
    let seen = watch.until(&FileEvent::Created(change(&last, false))).await;
    for directory in ["new", "new/deeper", "new/deeper/deepest"] {
        let wanted = FileEvent::Created(change(&tree.join(directory), true));
        assert_eq!(seen.iter().filter(|it| **it == wanted).count(), 1, "{directory}: {seen:?}");
    }
    // Made later, where nothing was when the watch began.
    fs::write(tree.join("new/deeper/later"), "x").unwrap();
    watch.until(&FileEvent::Created(change(&tree.join("new/deeper/later"), false))).await;

    // Followed to where it goes.
    fs::rename(tree.join("new/deeper"), tree.join("moved")).unwrap();
    watch.until(&FileEvent::Created(change(&tree.join("moved/later"), false))).await;
    fs::write(tree.join("moved/deepest/file"), "longer").unwrap();
    let told = FileEvent::Modified(change(&tree.join("moved/deepest/file"), false));
    watch.until(&told).await;

    fs::remove_file(tree.join("old/file")).unwrap();
    watch.until(&FileEvent::Removed(change(&tree.join("old/file"), false))).await;

    fs::remove_dir_all(&tree).unwrap();
    watch.until(&FileEvent::Removed(change(&tree, true))).await;
    assert_eq!(watch.next().await, None, "there is nothing left to watch");
}

#[tokio::test]
async fn a_file_that_is_written_and_renamed_into_place_is_told_once() {
    let daemon = Daemon::start();
    let client = daemon.client().await;
    let tree = daemon.path("tree");
    fs::create_dir_all(tree.join("sub")).unwrap();
    let mut watch = Watch::begin(&client, &tree, false).await;
    fs::write(tree.join("sub/unseen"), "x").unwrap();
    for text in ["a", "b", "c"] {
        fs::write(tree.join("temporary"), text).unwrap();
        fs::rename(tree.join("temporary"), tree.join("file")).unwrap();
    }
    fs::write(tree.join("end"), "x").unwrap();
    let seen = watch.until(&FileEvent::Created(change(&tree.join("end"), false))).await;
    assert!(seen.contains(&FileEvent::Created(change(&tree.join("file"), false))), "{seen:?}");
    let unseen = tree.join("sub/unseen");
    let unseen = unseen.to_str().unwrap();
    assert!(!format!("{seen:?}").contains(unseen), "not recursive: {seen:?}");
}

#[tokio::test]
async fn what_the_queue_cannot_hold_is_told_as_an_overflow() {
    let daemon = Daemon::start();
    let client = daemon.client().await;
    let tree = daemon.path("tree");
    fs::create_dir_all(&tree).unwrap();
    let content = client.watch(&tree, true, 20).await.unwrap();
    let mut watch = Watch { content, rest: Vec::new() };
    assert_eq!(watch.next().await, Some(FileEvent::Ready));
    // More than the kernel keeps (fs.inotify.max_queued_events, 16,384 as it comes) and than is
    // told at once.
    let queue = fs::read_to_string("/proc/sys/fs/inotify/max_queued_events").unwrap();
    let queue: u32 = queue.trim().parse().unwrap();
    assert!(queue <= 100_000, "this test would make {queue} files");
    // It stands still meanwhile, however quick it is.
    let pid = rustix::process::Pid::from_raw(daemon.pid().try_into().unwrap()).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::STOP).unwrap();
    for n in 0..queue.max(20_000) + 10 {
        fs::File::create(tree.join(n.to_string())).unwrap();
    }
    rustix::process::kill_process(pid, rustix::process::Signal::CONT).unwrap();
    watch.until(&FileEvent::Overflow).await;
    // And it goes on after that.
    fs::create_dir(tree.join("after")).unwrap();
    fs::write(tree.join("after/file"), "x").unwrap();
    watch.until(&FileEvent::Created(change(&tree.join("after/file"), false))).await;
}

#[tokio::test]
async fn only_so_many_watches_are_kept_and_given_up_ones_are_free_again() {
    let daemon = Daemon::start();
    let client = daemon.client().await;
    let tree = daemon.path("tree");
    fs::create_dir_all(&tree).unwrap();
    assert_eq!(code(client.watch(tree.join("no"), true, 20).await), ErrorCode::FileNotFound);
    let mut watches = Vec::new();
    let refused = loop {
        match client.watch(&tree, true, 20).await {
            Ok(watch) => watches.push(watch),
            Err(refused) => break refused,
        }
        assert!(watches.len() <= 32);
    };
    assert_eq!(refused.problem().unwrap().code, ErrorCode::QuotaExceeded);
    drop(watches);
    for _ in 0..2000 {
        if client.watch(&tree, true, 20).await.is_ok() {
            return;
        }
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
    panic!("watches that nobody reads are kept");
}
