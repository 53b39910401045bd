//! What a sandbox shows, and sandboxes that are to show the same.
#![expect(clippy::unwrap_used, reason = "what breaks here breaks the test that called")]

use rclaude_sandbox::provider::{Layering as _, SandboxProvider as _, SandboxRef, SandboxSpec};
use rclaude_types::LayerId;

use crate::rig::{Rig, spec};

/// Prints one line for everything under `/` that is on the sandbox's disk: type and permissions,
/// owner, size, time of change, content, target, attributes, other names.
const SHOW: &str = r#"
import hashlib, os, stat, sys
skip = {b"/proc", b"/dev", b"/sys", b"/run", b"/usr", b"/bin", b"/sbin", b"/lib", b"/lib64"}
names, lines = {}, []
def show(path):
    s = os.lstat(path)
    what = [repr(path), oct(s.st_mode), str(s.st_uid), str(s.st_gid), str(s.st_mtime_ns)]
    if stat.S_ISREG(s.st_mode):
        with open(path, "rb") as f: what += [str(s.st_size), hashlib.sha1(f.read()).hexdigest()]
    if stat.S_ISLNK(s.st_mode): what += [repr(os.readlink(path))]
    # What it is too: on btrfs, files of two layers may have the same inode number.
    if not stat.S_ISDIR(s.st_mode): what += [repr(names.setdefault((s.st_ino, *what[1:]), path))]
    if not stat.S_ISLNK(s.st_mode):
        what += [repr((n, os.getxattr(path, n, follow_symlinks=False))) for n in sorted(os.listxattr(path, follow_symlinks=False)) if n.startswith(("user.", "system.posix"))]
    lines.append(" ".join(what))
    if stat.S_ISDIR(s.st_mode):
        for name in sorted(os.listdir(path)):
            inner = os.path.join(path, name)
            if inner not in skip: show(inner)
sys.setrecursionlimit(100000)
show(b"/")
print("\n".join(lines))
"#;

/// Everything on a sandbox's disk, as root sees it inside. Its own mounts of the moment and the
/// daemon's are left out.
pub(super) async fn view(rig: &Rig, sandbox: &SandboxRef) -> String {
    let shown = rig.run(sandbox, 0, &["python3", "-c", SHOW]).await;
    assert_eq!(shown.status, 0, "{}", shown.out);
    shown.out
}

/// What a new sandbox on `stack` shows.
pub(super) async fn view_of(rig: &Rig, like: &SandboxSpec, stack: &[LayerId]) -> String {
    let spec = SandboxSpec { id: spec().id, stack: stack.to_vec(), ..like.clone() };
    let sandbox = rig.provider.create(&spec).await.unwrap();
    let shown = view(rig, &sandbox).await;
    rig.provider.destroy(&sandbox).await.unwrap();
    shown
}

/// Fails with the lines that differ.
pub(super) fn assert_same(found: &str, wanted: &str, what: &str) {
    let differing = |of: &str, from: &str| -> Vec<String> {
        let other: std::collections::HashSet<_> = from.lines().collect();
        of.lines().filter(|line| !other.contains(line)).map(str::to_owned).collect()
    };
    let (more, less) = (differing(found, wanted), differing(wanted, found));
    assert!(more.is_empty() && less.is_empty(), "{what}: shown {more:#?}, wanted {less:#?}");
}

/// A sandbox's states sealed one on another, as the server keeps them.
#[derive(Debug, Clone, Default)]
pub(super) struct Stack(pub Vec<LayerId>, Vec<LayerId>);

impl Stack {
    /// Of a sandbox that began with `layers`.
    pub(super) fn on(layers: &[LayerId]) -> Self {
        Self(layers.to_vec(), layers.to_vec())
    }

    /// Seals, with copying ahead if `ahead`.
    pub(super) async fn seal(&mut self, rig: &Rig, sandbox: &SandboxRef, ahead: bool) {
        let layer = LayerId::generate();
        let since = self.0.first().cloned();
        if ahead {
            rig.provider.prepare_seal(sandbox, &layer, since.as_ref()).await.unwrap();
        }
        let sealed = rig.provider.seal(sandbox, &layer, since.as_ref()).await.unwrap();
        if sealed.whole {
            self.0.clone_from(&self.1);
        }
        self.0.insert(0, layer);
    }
}
