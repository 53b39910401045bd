//! Sealing what is being written, by programs that do not know and by some that do.

use std::{collections::BTreeMap, time::Duration};

use rclaude_sandbox::provider::{Layering as _, SandboxProvider as _, SandboxRef, SandboxSpec};
use rclaude_types::LayerId;

use super::view::{Stack, assert_same, view, view_of};
use crate::rig::{Rig, spec};

/// Appends the next number to one of many files after the other, without end; now and then to a
/// mapped one and to one that is replaced as a whole.
const COUNT: &str = r#"
import mmap, os, struct
files = [open(f"count-{i}", "ab", buffering=0) for i in range(40)]
with open("mapped", "wb") as f: f.write(bytes(4096))
mapped = mmap.mmap(os.open("mapped", os.O_RDWR), 4096)
n = 0
while True:
    n += 1
    for f in files: f.write(struct.pack("<I", n))
    mapped[0:4] = struct.pack("<I", n)
    with open("new", "wb") as f: f.write(struct.pack("<I", n))
    os.rename("new", "replaced")
    if n == 20: open("ready", "w").close()
"#;

/// The last number in each file, and whether the numbers before it are all there.
const READ: &str = r#"
import struct
def numbers(name):
    with open(name, "rb") as f: data = f.read()
    assert len(data) % 4 == 0
    return list(struct.unpack(f"<{len(data) // 4}I", data))
last = []
for i in range(40):
    found = numbers(f"count-{i}")
    assert found == list(range(1, len(found) + 1)), (i, len(found))
    last.append(found[-1])
assert all(a >= b for a, b in zip(last, last[1:])) and last[0] - last[-1] <= 1, last
print(last[-1], numbers("mapped")[0], numbers("replaced")[0])
"#;

async fn until_ready(rig: &Rig, sandbox: &SandboxRef) {
    let mut tries = 0..1000;
    while rig.sh(sandbox, "test -e ready").await.status != 0 {
        assert!(tries.next().is_some(), "the program in the sandbox does not start");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn all_files_of_a_state_are_of_one_moment_while_they_are_written() {
    let rig = Rig::new().await;
    let sandbox = rig.sandbox().await;
    let writer = rig.begin(&sandbox, 1000, &["python3", "-c", COUNT]);
    until_ready(&rig, &sandbox).await;
    let mut stack = Stack::default();
    let mut before = 0;
    for round in 0..6 {
        stack.seal(&rig, &sandbox, round % 2 == 0).await;
        let spec = SandboxSpec { stack: stack.0.clone(), ..spec() };
        let fork = rig.provider.create(&spec).await.unwrap();
        let read = rig.run(&fork, 1000, &["python3", "-c", READ]).await;
        assert_eq!(read.status, 0, "round {round}: {}", read.out);
        let numbers: Vec<u32> = read.out.split(' ').map(|number| number.parse().unwrap()).collect();
        let [counted, mapped, replaced] = numbers[..] else { panic!("{numbers:?}") };
        for (name, number) in [("mapped", mapped), ("replaced", replaced)] {
            assert!(counted.abs_diff(number) <= 1, "{name} is of another moment: {numbers:?}");
        }
        assert!(counted > before, "the writer went on");
        before = counted;
        rig.provider.destroy(&fork).await.unwrap();
    }
    rig.provider.destroy(&sandbox).await.unwrap();
    let _ = tokio::time::timeout(Duration::from_secs(5), writer).await;
    rig.finish().await;
}

/// Swaps directories for links to where the host's secrets are, as fast as it can.
const SWAP: &str = r#"
import ctypes, os
libc = ctypes.CDLL(None)
os.makedirs("dir/etc"); open("dir/etc/shadow", "w").write("mine"); open("dir/shadow", "w").write("mine")
os.symlink("/etc", "link"); os.symlink("../../../../../../../../etc", "link2")
open("file", "w").write("mine")
open("ready", "w").close()
while True:
    for a, b in ((b"dir", b"link"), (b"dir/etc", b"link2"), (b"file", b"link")):
        libc.renameat2(-100, a, -100, b, 2)
"#;

#[tokio::test]
async fn a_sandbox_that_swaps_directories_for_links_gets_nothing_of_the_host() {
    let rig = Rig::new().await;
    let sandbox = rig.sandbox().await;
    let swapper = rig.begin(&sandbox, 1000, &["python3", "-c", SWAP]);
    until_ready(&rig, &sandbox).await;
    let mut stack = Stack::default();
    for _ in 0..8 {
        stack.seal(&rig, &sandbox, true).await;
    }
    for layer in &stack.0 {
        let tree = rig.provider.layer(layer).await.unwrap().unwrap();
        let find = ["-type", "f", "-name", "shadow", "-size", "+4c"];
        let found = std::process::Command::new("find").arg(&tree).args(find).output().unwrap();
        assert_eq!(String::from_utf8_lossy(&found.stdout), "");
        let find = ["-type", "f", "-exec", "grep", "-l", "root:", "{}", "+"];
        let found = std::process::Command::new("find")
            .arg(tree.join("workspace"))
            .args(find)
            .output()
            .unwrap();
        assert_eq!(String::from_utf8_lossy(&found.stdout), "");
    }
    rig.provider.destroy(&sandbox).await.unwrap();
    let _ = tokio::time::timeout(Duration::from_secs(5), swapper).await;
    rig.finish().await;
}

#[tokio::test]
async fn odd_names_deep_trees_and_holes_come_out_as_they_went_in() {
    let rig = Rig::new().await;
    let sandbox = rig.sandbox().await;
    let line = r#"
import os, socket
os.chdir("/workspace")
for name in (b"\xff\xfe", b"line\nfeed", b" ", b"-rf", b"x" * 255, "né".encode()):
    with open(name, "w") as f: f.write("x")
with open("holes", "wb") as f: f.truncate(1 << 40); f.seek(1 << 30); f.write(b"in the middle")
os.mkdir("closed"); open("closed/in", "w").close(); os.chmod("closed/in", 0); os.chmod("closed", 0)
socket.socket(socket.AF_UNIX).bind("socket")
for i in range(300):
    os.mkdir("a-directory"); os.chdir("a-directory")
with open("deep", "w") as f: f.write("deep")
"#;
    assert_eq!(rig.run(&sandbox, 0, &["python3", "-c", line]).await.out, "");
    let look = r#"
import os
os.chdir("/workspace")
print(sorted(os.listdir(b".")), oct(os.stat("closed").st_mode), oct(os.stat("closed/in").st_mode))
s = os.stat("holes"); f = open("holes", "rb"); f.seek(1 << 30); print(s.st_size, s.st_blocks < 100, f.read(13))
depth = 0
while os.path.isdir("a-directory"): os.chdir("a-directory"); depth += 1
print(depth, open("deep").read())
"#;
    let wanted = rig.run(&sandbox, 0, &["python3", "-c", look]).await.out;
    assert!(wanted.contains("300 deep") && wanted.contains("1099511627776 True"), "{wanted}");
    let wanted = wanted.replace(", b'socket'", "");
    let mut stack = Stack::default();
    stack.seal(&rig, &sandbox, true).await;
    rig.run(&sandbox, 0, &["sh", "-c", "echo more >> ' '"]).await;
    stack.seal(&rig, &sandbox, false).await;
    let flat = LayerId::generate();
    rig.provider.flatten(&stack.0, &flat).await.unwrap();
    for stack in [stack.0.clone(), vec![flat]] {
        let spec = SandboxSpec { stack, ..spec() };
        let fork = rig.provider.create(&spec).await.unwrap();
        let found = rig.run(&fork, 0, &["python3", "-c", look]).await.out;
        assert_eq!(found.replace(", b'socket'", ""), wanted);
        rig.provider.destroy(&fork).await.unwrap();
    }
    rig.provider.destroy(&sandbox).await.unwrap();
    rig.finish().await;
}

#[tokio::test]
async fn what_was_prepared_by_another_life_is_not_used_and_goes_at_the_next_start() {
    let rig = Rig::new().await;
    let sandbox = rig.sandbox().await;
    rig.sh(&sandbox, "echo one > file").await;
    let layer = LayerId::generate();
    let stale = rig.path().join("layers").join(format!("{layer}.draft"));
    std::fs::create_dir_all(stale.join("tree/workspace")).unwrap();
    std::fs::write(stale.join("tree/workspace/ghost"), "x").unwrap();
    rig.provider.seal(&sandbox, &layer, None).await.unwrap();
    assert!(!stale.exists());
    let wanted = view(&rig, &sandbox).await;
    assert_same(&view_of(&rig, &spec(), std::slice::from_ref(&layer)).await, &wanted, "done over");
    // Once more under the same name, as after a crash that nobody was told of.
    rig.sh(&sandbox, "echo two > file").await;
    rig.provider.seal(&sandbox, &layer, None).await.unwrap();
    let wanted = view(&rig, &sandbox).await;
    assert_same(&view_of(&rig, &spec(), &[layer]).await, &wanted, "sealed again");
    rig.provider.destroy(&sandbox).await.unwrap();
    rig.finish().await;
}

#[tokio::test]
async fn layers_that_a_power_cut_may_have_torn_are_gone_at_the_next_start() {
    let rig = Rig::new().await;
    let sandbox = rig.sandbox().await;
    let mut layers = BTreeMap::new();
    for state in ["sound", "torn"] {
        let layer = LayerId::generate();
        rig.provider.seal(&sandbox, &layer, None).await.unwrap();
        layers.insert(state, layer);
    }
    let note =
        |state: &str| rig.path().join("layers").join(layers[state].as_str()).join("unwritten");
    std::fs::write(note("torn"), "another boot").unwrap();
    let later = rig.reopened().await;
    assert!(later.layer(&layers["sound"]).await.unwrap().is_some());
    assert!(later.layer(&layers["torn"]).await.unwrap().is_none());
    while note("sound").exists() {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    rig.provider.destroy(&sandbox).await.unwrap();
    rig.finish().await;
}
