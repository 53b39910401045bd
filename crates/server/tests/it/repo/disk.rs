//! A prepared checkout, mounted and used as a sandbox would.

use std::{
    fs,
    io::Write as _,
    os::unix::fs::PermissionsExt,
    path::Path,
    process::{Command, Output, Stdio},
};

use rclaude_server::repo::{Checkout, diff};
use rclaude_types::DiffFormat;
use tempfile::TempDir;

use super::host::git_command;

/// A session's disk: the layers with a writable one on top, mounted in a user and mount namespace
/// of their own for each command, as a sandbox mounts them, and used by the agent's user.
pub(super) struct Disk<'a> {
    checkout: &'a Checkout,
    dir: TempDir,
}

const MOUNT: &str = r#"
set -e
root=$1 lower=$2 upper=$3 work=$4 objects=$5 target=$6 user=$7
shift 7
mount -t overlay overlay -o "userxattr,lowerdir=$lower,upperdir=$upper,workdir=$work" "$root"
for d in bin sbin lib lib64 usr etc dev proc; do
    if [ -e /$d ]; then mkdir -p "$root/$d"; mount --rbind /$d "$root/$d"; fi
done
mkdir -p -m 1777 "$root/tmp"
mkdir -p "$root$target"
mount --bind "$objects" "$root$target"
exec chroot $user "$root" sh -c 'cd /workspace && exec sh -c "$@"' sh "$@"
"#;

impl<'a> Disk<'a> {
    pub(super) fn new(checkout: &'a Checkout) -> Self {
        let dir = TempDir::new().unwrap();
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
        for name in ["upper", "work", "root"] {
            fs::create_dir(dir.path().join(name)).unwrap();
        }
        let own = |path: &Path| {
            if rustix::process::geteuid().is_root() {
                std::os::unix::fs::chown(path, Some(1000), Some(1000)).unwrap();
            }
        };
        for file in &checkout.files {
            let mut path = dir.path().join("upper");
            for part in file.path.strip_prefix("/").unwrap().parent().unwrap() {
                path.push(part);
                if fs::create_dir(&path).is_ok() {
                    own(&path);
                }
            }
            path.push(file.path.file_name().unwrap());
            fs::write(&path, &file.content).unwrap();
            own(&path);
        }
        Self { checkout, dir }
    }

    /// Runs a script in `/workspace`.
    pub(super) fn run(&self, script: &str, args: &[String]) -> Output {
        let layers = self.checkout.layers.iter().map(|l| l.display().to_string());
        let root = rustix::process::geteuid().is_root();
        let user = if root { "--userspec=1000:1000" } else { "" };
        let mut command = Command::new("unshare");
        // Whoever execs before the namespace has its map of users has no rights in it; so read
        // first, exec then.
        command.arg(if root { "-Um" } else { "-Urm" });
        command.args(["sh", "-c", "read go; exec sh -c \"$@\"", "sh"]);
        command.args([MOUNT, "sh"]).arg(self.dir.path().join("root"));
        command.arg(layers.collect::<Vec<_>>().join(":"));
        command.arg(self.dir.path().join("upper")).arg(self.dir.path().join("work"));
        command.arg(&self.checkout.binds[0].source).arg(&self.checkout.binds[0].target);
        command.arg(user).arg(script).args(args);
        for (name, value) in git_command(Path::new("/")).get_envs() {
            command.env(name, value.unwrap());
        }
        command.env("HOME", "/tmp").env("TMPDIR", "/tmp").stdin(Stdio::piped());
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        if root {
            let namespace = |pid: &str| fs::read_link(format!("/proc/{pid}/ns/user")).ok();
            let pid = child.id().to_string();
            while namespace(&pid) == namespace("self") && child.try_wait().unwrap().is_none() {
                std::thread::yield_now();
            }
            for map in ["uid_map", "gid_map"] {
                fs::write(format!("/proc/{pid}/{map}"), "0 0 65536").unwrap();
            }
        }
        child.stdin.take().unwrap().write_all(b"go\n").unwrap();
        child.wait_with_output().unwrap()
    }

    pub(super) fn sh(&self, script: &str) -> String {
        let out = self.run(script, &[]);
        assert!(out.status.success(), "{script}: {}", String::from_utf8_lossy(&out.stderr));
        String::from_utf8_lossy(&out.stdout).into_owned()
    }

    /// The session's diff, as the server asks for it.
    pub(super) fn diff(&self) -> rclaude_types::SessionDiff {
        let base = self.checkout.base_commit.as_deref();
        let command = diff::command(base, DiffFormat::Full);
        let out = self.run(&command[2], &command[3..]);
        assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
        diff::parse(&out.stdout, base, DiffFormat::Full).unwrap()
    }
}
