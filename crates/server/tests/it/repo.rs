//! Repositories as layers, with the real git and real overlay mounts.

use std::{
    ffi::OsStr,
    fs,
    os::unix::{
        ffi::OsStrExt,
        fs::{MetadataExt, PermissionsExt, symlink},
    },
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
    time::Duration,
};

use rclaude_server::repo::{Checkout, PrepareOptions, RepoCache, RepoError, diff};
use rclaude_types::{DiffFormat, ErrorCode, RepositorySource, Timestamp};
use tempfile::TempDir;

/// A repository of the host's user.
struct Repo {
    dir: PathBuf,
}

impl Repo {
    fn new(dir: &Path) -> Self {
        fs::create_dir_all(dir).unwrap();
        let repo = Self { dir: dir.to_owned() };
        repo.git(&["init", "-q", "-b", "main"]);
        repo
    }

    fn git(&self, args: &[&str]) -> String {
        git_in(&self.dir, args)
    }

    fn write(&self, path: impl AsRef<Path>, content: impl AsRef<[u8]>) {
        let path = self.dir.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }

    fn commit(&self, message: &str) -> String {
        self.git(&["add", "-A"]);
        self.git(&["commit", "-q", "--allow-empty", "-m", message]);
        self.git(&["rev-parse", "HEAD"])
    }
}

fn git_in(dir: &Path, args: &[&str]) -> String {
    let out = git_command(dir).args(args).output().unwrap();
    assert!(out.status.success(), "git {args:?}: {}", String::from_utf8_lossy(&out.stderr));
    String::from_utf8_lossy(&out.stdout).trim_end().to_owned()
}

fn git_command(dir: &Path) -> Command {
    let mut git = Command::new("git");
    git.current_dir(dir)
        .env("GIT_CONFIG_GLOBAL", "/dev/null")
        .env("GIT_CONFIG_NOSYSTEM", "1")
        .env("GIT_AUTHOR_NAME", "a")
        .env("GIT_AUTHOR_EMAIL", "a@example.org")
        .env("GIT_COMMITTER_NAME", "a")
        .env("GIT_COMMITTER_EMAIL", "a@example.org");
    git
}

fn source(url: impl AsRef<OsStr>) -> RepositorySource {
    let url = url.as_ref().to_str().unwrap().to_owned();
    RepositorySource { url, branch: None, include_uncommitted: false }
}

fn at(repo: &Repo, branch: &str) -> RepositorySource {
    RepositorySource { branch: Some(branch.to_owned()), ..source(&repo.dir) }
}

fn uncommitted(repo: &Repo) -> RepositorySource {
    RepositorySource { include_uncommitted: true, ..source(&repo.dir) }
}

fn cache(dir: &TempDir) -> RepoCache {
    RepoCache::new(dir.path().join("repos"), "git").unwrap()
}

async fn prepare(cache: &RepoCache, source: &RepositorySource) -> Result<Checkout, RepoError> {
    cache.prepare(source, &PrepareOptions::new("test"), &mut |_| ()).await
}

/// A session's disk: the layers with a writable one on top, mounted in a user and mount namespace
/// of their own for each command, as a sandbox mounts them.
struct Disk<'a> {
    checkout: &'a Checkout,
    dir: TempDir,
}

impl<'a> Disk<'a> {
    fn new(checkout: &'a Checkout) -> Self {
        let dir = TempDir::new().unwrap();
        for name in ["upper", "work", "root"] {
            fs::create_dir(dir.path().join(name)).unwrap();
        }
        for file in &checkout.files {
            let path = dir.path().join("upper").join(file.path.strip_prefix("/").unwrap());
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, &file.content).unwrap();
        }
        Self { checkout, dir }
    }

    /// Runs a script in `/workspace`, with the session's disk over the host's root for that.
    fn run(&self, script: &str, args: &[&str]) -> Output {
        let at = |name: &str| self.dir.path().join(name).display().to_string();
        let layers = self.checkout.layers.iter().map(|l| l.display().to_string());
        let lower = layers.collect::<Vec<_>>().join(":");
        let objects = &self.checkout.binds[0];
        let mount = format!(
            "set -e\n\
             mount -t overlay overlay -o 'userxattr,lowerdir={lower},upperdir={},workdir={}' '{root}'\n\
             for d in bin sbin lib lib64 usr etc dev proc; do \
               [ -e /$d ] || continue; mkdir -p '{root}'/$d; mount --rbind /$d '{root}'/$d; done\n\
             mkdir -p '{root}/tmp' '{root}{}'; mount --bind '{}' '{root}{}'\n\
             unset GIT_CONFIG_GLOBAL\n\
             exec chroot '{root}' sh -c 'cd /workspace && exec \"$@\"' sh \"$@\"",
            at("upper"),
            at("work"),
            objects.target.display(),
            objects.source.display(),
            objects.target.display(),
            root = at("root"),
        );
        let mut command = git_command(Path::new("/"));
        command.args(["unshare", "-Urm", "sh", "-c", &mount, "sh", "sh", "-c", script, "sh"]);
        let mut command = {
            let mut real = Command::new("unshare");
            real.args(command.get_args().skip(1));
            for (name, value) in command.get_envs() {
                real.env(name, value.unwrap());
            }
            real
        };
        // The files belong to a user that this namespace does not know.
        command.env("GIT_CONFIG_COUNT", "1");
        command.env("GIT_CONFIG_KEY_0", "safe.directory").env("GIT_CONFIG_VALUE_0", "*");
        command.env("HOME", "/tmp").env("TMPDIR", "/tmp").args(args).output().unwrap()
    }

    fn sh(&self, script: &str) -> String {
        let out = self.run(script, &[]);
        assert!(out.status.success(), "{script}: {}", String::from_utf8_lossy(&out.stderr));
        String::from_utf8_lossy(&out.stdout).into_owned()
    }
}
