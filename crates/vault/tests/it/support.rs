//! Vaults and trees to try things with.

use std::{
    ffi::OsStr,
    fs::{self, File},
    io::Write as _,
    os::unix::{
        ffi::OsStrExt as _,
        fs::{FileExt as _, PermissionsExt as _, chown, lchown, symlink},
    },
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use rclaude_vault::{Key, Location, Vault};
use rustix::fs::{CWD, FileType, Mode, XattrFlags, lsetxattr, mknodat};

pub(crate) const KEY: Key = Key::Random([7; 32]);

/// A directory for a vault and trees.
pub(crate) struct Rig {
    pub(crate) dir: tempfile::TempDir,
}

impl Rig {
    pub(crate) fn new() -> Self {
        Self { dir: tempfile::tempdir().unwrap() }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub(crate) fn location(&self) -> Location {
        Location::Dir(self.path("vault"))
    }

    pub(crate) async fn vault(&self) -> Vault {
        Vault::open_or_create(&self.location(), &KEY).await.unwrap()
    }

    /// The files of a kind in the vault: `data`, `index`, `snapshots`, `keys`.
    pub(crate) fn files(&self, kind: &str) -> Vec<PathBuf> {
        let mut found = Vec::new();
        let mut todo = vec![self.path("vault").join(kind)];
        while let Some(dir) = todo.pop() {
            let Ok(entries) = fs::read_dir(dir) else { continue };
            for entry in entries {
                let path = entry.unwrap().path();
                if path.is_dir() { todo.push(path) } else { found.push(path) }
            }
        }
        found.sort();
        found
    }
}

pub(crate) fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// Bytes that look random and are the same for the same seed.
pub(crate) fn noise(seed: u64, length: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut bytes = Vec::with_capacity(length + 8);
    while bytes.len() < length {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend(state.to_le_bytes());
    }
    bytes.truncate(length);
    bytes
}

pub(crate) fn write(path: &Path, content: impl AsRef<[u8]>) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, content).unwrap();
}

pub(crate) fn set_xattr(path: &Path, name: &str, value: &[u8]) {
    lsetxattr(path, name, value, XattrFlags::empty()).unwrap();
}

pub(crate) fn set_time(path: &Path, seconds: u64, nanoseconds: u32) {
    let time = SystemTime::UNIX_EPOCH + Duration::new(seconds, nanoseconds);
    File::open(path).unwrap().set_modified(time).unwrap();
}

fn node(path: &Path, kind: FileType, device: u64) {
    mknodat(CWD, path, kind, Mode::from_raw_mode(0o640), device).unwrap();
}

/// A tree with one of everything that this user may make.
pub(crate) fn everything(root: &Path) {
    write(&root.join("plain"), "plain");
    write(&root.join("empty"), "");
    write(&root.join("dir/below/file"), noise(1, 100_000));
    write(&root.join("large"), noise(2, 3_000_000));
    write(&root.join("dir/zeros"), vec![0; 300_000]);
    fs::create_dir_all(root.join("dir/empty")).unwrap();
    write(&root.join(OsStr::from_bytes(b"name \xff\n\\\" \xc3\xa9")), "odd");
    fs::hard_link(root.join("plain"), root.join("dir/linked")).unwrap();
    symlink("../no/where", root.join("link")).unwrap();
    symlink(OsStr::from_bytes(b"/to/\xfe"), root.join("dir/odd link")).unwrap();
    node(&root.join("fifo"), FileType::Fifo, 0);
    // A whiteout: the kernel lets everybody make this one device.
    node(&root.join("dir/whiteout"), FileType::CharacterDevice, 0);
    fs::hard_link(root.join("dir/whiteout"), root.join("whiteout too")).unwrap();
    drop(std::os::unix::net::UnixListener::bind(root.join("socket")).unwrap());
    let sparse = File::create(root.join("sparse")).unwrap();
    sparse.set_len(16 << 20).unwrap();
    sparse.write_all_at(b"island", 9 << 20).unwrap();
    set_xattr(&root.join("dir"), "user.overlay.opaque", b"y");
    set_xattr(&root.join("plain"), "user.note", &[0, 1, 255]);
    fs::set_permissions(root.join("dir/below"), fs::Permissions::from_mode(0o1770)).unwrap();
    fs::set_permissions(root.join("dir/below/file"), fs::Permissions::from_mode(0o4711)).unwrap();
    fs::set_permissions(root.join("empty"), fs::Permissions::from_mode(0o400)).unwrap();
    if is_root() {
        chown(root.join("dir/below"), Some(536_870_912), Some(7)).unwrap();
        fs::set_permissions(root.join("dir/below"), fs::Permissions::from_mode(0o1770)).unwrap();
        lchown(root.join("link"), Some(536_870_913), Some(536_870_914)).unwrap();
        chown(root.join("dir/below/file"), Some(536_870_912), Some(536_870_912)).unwrap();
        fs::set_permissions(root.join("dir/below/file"), fs::Permissions::from_mode(0o6711))
            .unwrap();
        node(&root.join("disk"), FileType::BlockDevice, rustix::fs::makedev(250, 3));
        // cap_net_raw=ep, as `setcap` writes it.
        let capability = [1, 0, 0, 2, 0, 32, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
        set_xattr(&root.join("large"), "security.capability", &capability);
    }
    set_time(&root.join("plain"), 1_000_000_000, 123_456_789);
    set_time(&root.join("dir/empty"), 86_400, 1);
    set_time(&root.join("dir"), 1_700_000_000, 999_999_999);
    File::open(root).unwrap().flush().unwrap();
}
