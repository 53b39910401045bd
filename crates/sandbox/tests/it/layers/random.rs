//! Whatever processes do to a disk between two seals, the sealed states show it.
#![expect(clippy::unwrap_used, reason = "what breaks here breaks the test that called")]

use std::fmt::Write as _;

use proptest::{
    prelude::*,
    test_runner::{Config, TestCaseError, TestRunner},
};
use rclaude_sandbox::provider::{Layering as _, SandboxProvider as _, SandboxSpec};
use rclaude_types::LayerId;

use super::view::{Stack, assert_same, view, view_of};
use crate::rig::{Rig, spec};

/// Does what it is told, line by line, as far as it goes.
const DO: &str = r#"
import ctypes, os, shutil, stat, sys
libc = ctypes.CDLL(None, use_errno=True)
def gone(p):
    if os.path.isdir(p) and not os.path.islink(p): shutil.rmtree(p)
    else: os.unlink(p)
def put(p, text, how):
    # A pipe would be waited at for ever.
    if os.path.exists(p) and not os.path.isfile(p): return
    with open(p, how) as f: f.write(text)
def replace(p, text):
    put(p + ".new", text, "w"); os.rename(p + ".new", p)
def swap(p, q):
    libc.renameat2(-100, p.encode(), -100, q.encode(), 2)
def link(p, q):
    # The kernel goes on showing the lower layer's inode number for a file that it copied up to link
    # it, under that name only, until it forgets: so it is copied by us.
    if os.path.isfile(p) and os.lstat(p).st_nlink == 1:
        shutil.copy2(p, p + ".new", follow_symlinks=False); os.rename(p + ".new", p)
    os.link(p, q, follow_symlinks=False)
def sparse(p, text):
    if not os.path.isfile(p): return
    with open(p, "r+b") as f: f.seek(300000); f.write(text.encode())
deeds = {
    "write": lambda p, t: put(p, t, "w"),
    "append": lambda p, t: put(p, t, "a"),
    "replace": replace,
    "sparse": sparse,
    "truncate": lambda p, t: os.truncate(p, len(t)),
    "mkdir": lambda p: os.mkdir(p),
    "remove": gone,
    "again": lambda p: (gone(p), os.mkdir(p)),
    "move": lambda p, q: shutil.move(p, q, copy_function=shutil.copy2) if not os.path.lexists(q) else os.rename(p, q),
    "swap": swap,
    "link": link,
    "symlink": lambda p, q: os.symlink(p, q),
    "fifo": lambda p: os.mkfifo(p),
    "chmod": lambda p, t: os.chmod(p, 0o700 + len(t) * 8),
    "chown": lambda p, t: os.chown(p, 1000, len(t), follow_symlinks=False),
    "attribute": lambda p, t: os.setxattr(p, "user.note", t.encode()),
    "opaque": lambda p: os.setxattr(p, "user.overlay.opaque", b"y"),
    "time": lambda p, t: os.utime(p, ns=(5, len(t) * 1000000007)),
}
os.chdir("/workspace")
for line in sys.argv[1].split("\n"):
    deed, *words = line.split(" ")
    try: deeds[deed](*words)
    except (OSError, shutil.Error, ValueError): pass
"#;

/// Few names, so that they meet often; some are in the layer below.
fn path() -> impl Strategy<Value = String> {
    prop::collection::vec(prop::sample::select(vec!["a", "b", "c"]), 1..4)
        .prop_map(|parts| parts.join("/"))
}

fn deed() -> impl Strategy<Value = String> {
    let with_text = prop::sample::select(vec![
        "write",
        "append",
        "replace",
        "sparse",
        "truncate",
        "chmod",
        "chown",
        "attribute",
        "time",
    ]);
    let with_path = prop::sample::select(vec!["move", "move", "swap", "link", "symlink"]);
    let alone =
        prop::sample::select(vec!["mkdir", "mkdir", "remove", "remove", "again", "fifo", "opaque"]);
    prop_oneof![
        3 => (with_text, path(), "[a-z]{1,9}").prop_map(|(deed, path, text)| format!("{deed} {path} {text}")),
        2 => (with_path, path(), path()).prop_map(|(deed, from, to)| format!("{deed} {from} {to}")),
        3 => (alone, path()).prop_map(|(deed, path)| format!("{deed} {path}")),
    ]
}

#[derive(Debug, Clone)]
struct Round {
    deeds: Vec<String>,
    ahead: bool,
    /// Which of the layers there are then are made one of, by share of their number.
    flattened: Option<(f64, f64)>,
    /// Whether it goes on in a new sandbox on that state.
    forked: bool,
}

fn rounds() -> impl Strategy<Value = Vec<Round>> {
    let round = (
        prop::collection::vec(deed(), 1..14),
        any::<bool>(),
        prop::option::of((0.0..1.0, 0.0..1.0)),
        prop::bool::weighted(0.2),
    );
    let round = round.prop_map(|(deeds, ahead, flattened, forked)| Round {
        deeds,
        ahead,
        flattened,
        forked,
    });
    prop::collection::vec(round, 2..6)
}

/// What lies below: a checkout, as it were.
fn base(dir: &std::path::Path) {
    for path in ["a/a", "a/b/c", "b/a/a", "b/b", "c/c/a", "c/c/b"] {
        let path = dir.join("workspace").join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, path.as_os_str().as_encoded_bytes()).unwrap();
    }
}

#[test]
fn every_sealed_state_shows_what_the_sandbox_showed_then() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let below = tempfile::tempdir().unwrap();
    base(below.path());
    let spec = SandboxSpec { layers: vec![below.path().to_owned()], ..spec() };
    // The default is far too many for real sandboxes; more with PROPTEST_CASES.
    let cases = std::env::vars().find(|(name, _)| name == "PROPTEST_CASES");
    let cases = cases.and_then(|(_, count)| count.parse().ok()).unwrap_or(8);
    let config =
        Config { cases, failure_persistence: None, max_shrink_iters: 60, ..Config::default() };
    let story = |rounds: Vec<Round>| {
        // A disk of its own for each: what one story leaves behind must not look like another's.
        runtime.block_on(async {
            let rig = Rig::new().await;
            tell(&rig, &spec, rounds).await;
            rig.finish().await;
        });
        Ok::<_, TestCaseError>(())
    };
    TestRunner::new(config).run(&rounds(), story).unwrap();
}

async fn tell(rig: &Rig, spec: &SandboxSpec, rounds: Vec<Round>) {
    let spec = SandboxSpec { id: crate::rig::spec().id, ..spec.clone() };
    let mut sandbox = rig.provider.create(&spec).await.unwrap();
    let mut stack = Stack::default();
    let mut states = Vec::new();
    let mut told = String::new();
    for round in rounds {
        let deeds = round.deeds.join("\n");
        let _ = write!(
            told,
            "\n{deeds}\n-- seal, {} --",
            if round.ahead { "ahead" } else { "at once" }
        );
        let done = rig.run(&sandbox, 0, &["python3", "-c", DO, &deeds]).await;
        assert_eq!(done.status, 0, "{}", done.out);
        stack.seal(rig, &sandbox, round.ahead).await;
        states.push((stack.0.clone(), view(rig, &sandbox).await));
        if let Some((from, to)) = round.flattened {
            #[expect(
                clippy::cast_possible_truncation,
                clippy::cast_sign_loss,
                clippy::cast_precision_loss,
                reason = "a share of a few"
            )]
            let at = |share: f64| (share * stack.0.len() as f64) as usize;
            let (first, last) = (at(from.min(to)), at(from.max(to)));
            let into = LayerId::generate();
            rig.provider.flatten(&stack.0[first..=last], &into).await.unwrap();
            stack.0.splice(first..=last, [into]);
            let _ = write!(told, "\n-- flatten {first} to {last} --");
            states.push((stack.0.clone(), states[states.len() - 1].1.clone()));
        }
        if round.forked {
            told.push_str("\n-- fork --");
            rig.provider.destroy(&sandbox).await.unwrap();
            let id = crate::rig::spec().id;
            let fork = SandboxSpec { id, stack: stack.0.clone(), ..spec.clone() };
            sandbox = rig.provider.create(&fork).await.unwrap();
            stack = Stack::on(&stack.0);
        }
    }
    rig.provider.destroy(&sandbox).await.unwrap();
    for (number, (stack, wanted)) in states.iter().enumerate() {
        let found = view_of(rig, &spec, stack).await;
        assert_same(&found, wanted, &format!("state {number} after:{told}\nstack {stack:?}"));
    }
    for (stack, _) in &states {
        for layer in stack {
            rig.provider.remove_layer(layer).await.unwrap();
        }
    }
    assert_eq!(rig.provider.layers(false).await.unwrap(), []);
}
