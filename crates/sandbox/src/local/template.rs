//! The `host` template: this host's programs, none of its secrets.
//!
//! Programs and libraries (`/usr` and what belongs to it) are shown read-only as they are. All
//! else comes from a *skeleton*, a small tree built once: a system's usual directories, an
//! `/etc` that is partly written here and partly copied from the host by a list of what is known
//! to be harmless, and a `/sys` that says how many processors there are and nothing else.

use std::{
    collections::hash_map::DefaultHasher,
    fs,
    hash::{Hash as _, Hasher as _},
    io,
    os::unix::fs::{MetadataExt as _, PermissionsExt as _, chown, symlink},
    path::{Path, PathBuf},
};

use super::{layout::EngineDir, remove::remove_tree};

/// Raised when skeletons are built differently.
const EDITION: u32 = 2;
/// The agent's user and group.
pub(super) const AGENT: u32 = 1000;

/// What of the host's `/etc` is copied, where it exists: what programs need to start, to find
/// their libraries and certificates, and to speak the user's language. Never what might hold a
/// credential (`npmrc`, `pip.conf`, `gitconfig`, `ssh`, `ssl/private`, `shadow`).
const FROM_HOST: [&str; 43] = [
    "alternatives",
    "bash.bashrc",
    "bash_completion.d",
    "bindresvport.blacklist",
    "ca-certificates",
    "ca-certificates.conf",
    "crypto-policies",
    "debian_version",
    "fonts",
    "gai.conf",
    "host.conf",
    "inputrc",
    "issue",
    "java-11-openjdk",
    "java-17-openjdk",
    "java-21-openjdk",
    "ld.so.cache",
    "ld.so.conf",
    "ld.so.conf.d",
    "locale.alias",
    "locale.conf",
    "localtime",
    "login.defs",
    "lsb-release",
    "magic",
    "magic.mime",
    "mailcap",
    "mime.types",
    "os-release",
    "perl",
    "pki/ca-trust/extracted",
    "pki/tls/cert.pem",
    "pki/tls/certs",
    "pki/tls/openssl.cnf",
    "profile",
    "profile.d",
    "protocols",
    "python3",
    "rpc",
    "services",
    "shells",
    "ssl/certs",
    "ssl/openssl.cnf",
];

/// Files of `/etc` that are the same in every sandbox.
const WRITTEN: [(&str, &str); 9] = [
    (
        "passwd",
        "root:x:0:0:root:/root:/bin/bash\n\
         daemon:x:1:1:daemon:/usr/sbin:/usr/sbin/nologin\n\
         bin:x:2:2:bin:/bin:/usr/sbin/nologin\n\
         agent:x:1000:1000:Agent:/home/agent:/bin/bash\n\
         nobody:x:65534:65534:nobody:/nonexistent:/usr/sbin/nologin\n",
    ),
    (
        "group",
        "root:x:0:\ndaemon:x:1:\nbin:x:2:\ntty:x:5:\nstaff:x:50:\nagent:x:1000:\n\
         nogroup:x:65534:\n",
    ),
    (
        "hosts",
        "127.0.0.1 localhost\n::1 localhost ip6-localhost ip6-loopback\n\
         100.64.0.1 gateway.rclaude proxy.rclaude\n",
    ),
    ("resolv.conf", "nameserver 100.64.0.2\noptions timeout:2 attempts:2\n"),
    (
        "nsswitch.conf",
        "passwd: files\ngroup: files\nshadow: files\nhosts: files dns\nnetworks: files\n\
         protocols: files\nservices: files\nrpc: files\n",
    ),
    ("fstab", ""),
    ("environment", "PATH=\"/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin\"\n"),
    ("machine-id", "00000000000000000000000000000000\n"),
    ("networks", "loopback 127.0.0.0\n"),
];

/// Directories of the skeleton with their modes; the agent's own ones are in [`AGENTS_OWN`].
const DIRECTORIES: [(&str, u32); 28] = [
    ("dev", 0o755),
    ("etc", 0o755),
    ("home", 0o755),
    ("media", 0o755),
    ("mnt", 0o755),
    ("opt", 0o755),
    ("opt/rclaude", 0o755),
    ("opt/rclaude/agents", 0o755),
    ("opt/rclaude/repo", 0o755),
    ("proc", 0o555),
    ("root", 0o700),
    ("run", 0o755),
    ("srv", 0o755),
    ("sys", 0o555),
    ("sys/devices/system/cpu", 0o555),
    ("sys/fs/cgroup", 0o555),
    ("tmp", 0o1777),
    ("var", 0o755),
    ("var/cache", 0o755),
    ("var/empty", 0o555),
    ("var/lib", 0o755),
    ("var/lib/agentd", 0o700),
    ("var/local", 0o755),
    ("var/log", 0o755),
    ("var/mail", 0o755),
    ("var/opt", 0o755),
    ("var/spool", 0o755),
    ("var/tmp", 0o1777),
];
const AGENTS_OWN: [(&str, u32); 2] = [("home/agent", 0o750), ("workspace", 0o755)];

/// Links of the skeleton. Programs written for E2B sandboxes know their files by `/home/user`.
const LINKS: [(&str, &str); 4] = [
    ("var/run", "/run"),
    ("var/lock", "/run/lock"),
    ("etc/mtab", "/proc/mounts"),
    ("home/user", "/workspace"),
];

/// Where programs and libraries are. On a host with merged `/usr` all but it are links.
const SYSTEM: [&str; 7] = ["usr", "bin", "sbin", "lib", "lib32", "lib64", "libx32"];

/// A template ready for use.
#[derive(Debug, Clone)]
pub(super) struct Template {
    /// The lowest layer.
    pub skeleton: PathBuf,
    /// Directories of the host shown at the same path.
    pub system: Vec<PathBuf>,
}

/// Makes the `host` template, or finds the one made before.
pub(super) fn host(engine: &EngineDir) -> io::Result<Template> {
    let system = SYSTEM
        .iter()
        .map(|name| Path::new("/").join(name))
        .filter(|path| fs::symlink_metadata(path).is_ok_and(|found| found.is_dir()))
        .collect();
    let skeleton = engine.templates().join(format!("host-{:016x}", fingerprint()));
    if !skeleton.exists() {
        fs::create_dir_all(engine.templates())?;
        let unfinished = engine.templates().join(".unfinished");
        remove_tree(&unfinished)?;
        build(&unfinished)?;
        fs::rename(&unfinished, &skeleton)?;
    }
    Ok(Template { skeleton, system })
}

/// Changes when the host's copied files do.
fn fingerprint() -> u64 {
    let mut hasher = DefaultHasher::new();
    (EDITION, is_root(), processors()).hash(&mut hasher);
    for name in FROM_HOST {
        if let Ok(found) = fs::symlink_metadata(Path::new("/etc").join(name)) {
            (name, found.mtime(), found.len()).hash(&mut hasher);
        }
    }
    hasher.finish()
}

fn build(root: &Path) -> io::Result<()> {
    make_dir(root, 0o755)?;
    for (name, mode) in DIRECTORIES {
        make_dir(&root.join(name), mode)?;
    }
    for (name, mode) in AGENTS_OWN {
        make_dir(&root.join(name), mode)?;
        give(&root.join(name), AGENT)?;
    }
    for (link, target) in LINKS {
        symlink(target, root.join(link))?;
    }
    for name in SYSTEM {
        match fs::symlink_metadata(Path::new("/").join(name)) {
            Ok(found) if found.is_symlink() => {
                symlink(fs::read_link(Path::new("/").join(name))?, root.join(name))?;
            }
            Ok(found) if found.is_dir() => make_dir(&root.join(name), 0o755)?,
            _ => {}
        }
    }
    for name in FROM_HOST {
        let target = root.join("etc").join(name);
        if let Some(parent) = target.parent() {
            fs::create_dir_all(parent)?;
        }
        copy_public(&Path::new("/etc").join(name), &target)?;
    }
    for (name, text) in WRITTEN {
        fs::write(root.join("etc").join(name), text)?;
    }
    for name in [".bashrc", ".profile"] {
        let target = root.join("home/agent").join(name);
        copy_public(&Path::new("/etc/skel").join(name), &target)?;
        if target.exists() {
            give(&target, AGENT)?;
        }
    }
    let online = match processors() {
        1 => "0\n".to_owned(),
        count => format!("0-{}\n", count - 1),
    };
    for name in ["online", "possible", "present"] {
        let file = root.join("sys/devices/system/cpu").join(name);
        fs::write(file, &online)?;
    }
    Ok(())
}

fn processors() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

pub(super) fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

fn make_dir(path: &Path, mode: u32) -> io::Result<()> {
    fs::create_dir_all(path)?;
    fs::set_permissions(path, fs::Permissions::from_mode(mode | 0o200))
}

/// Makes `user` the owner, where this process may give files away.
pub(super) fn give(path: &Path, user: u32) -> io::Result<()> {
    if is_root() { chown(path, Some(user), Some(user)) } else { Ok(()) }
}

/// Copies what everybody on the host may read; leaves out the rest, and what is not there.
fn copy_public(from: &Path, to: &Path) -> io::Result<()> {
    let Ok(found) = fs::symlink_metadata(from) else { return Ok(()) };
    let readable = found.mode() & 0o004 != 0;
    if found.is_symlink() {
        symlink(fs::read_link(from)?, to)
    } else if found.is_dir() && readable {
        fs::create_dir_all(to)?;
        for entry in fs::read_dir(from)? {
            let name = entry?.file_name();
            copy_public(&from.join(&name), &to.join(&name))?;
        }
        Ok(())
    } else if found.is_file() && readable {
        fs::write(to, fs::read(from)?)?;
        fs::set_permissions(to, fs::Permissions::from_mode(found.mode() & 0o755 | 0o200))
    } else {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_skeleton_has_what_programs_need_and_no_secret() {
        let dir = tempfile::tempdir().unwrap();
        let engine = EngineDir::new(dir.path());
        let template = host(&engine).unwrap();
        let etc = template.skeleton.join("etc");
        assert!(fs::read_to_string(etc.join("hosts")).unwrap().contains("gateway.rclaude"));
        for name in ["shadow", "gshadow", "ssh", "ssl/private", "sudoers", "npmrc", "gitconfig"] {
            assert!(!etc.join(name).exists(), "{name}");
        }
        assert!(template.system.contains(&PathBuf::from("/usr")));
        assert_eq!(host(&engine).unwrap().skeleton, template.skeleton);
    }
}
