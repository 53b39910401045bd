//! Any tree, packed and unpacked again.

#![expect(clippy::unwrap_used, reason = "a helper that cannot go on fails its test")]

use std::{
    collections::BTreeMap,
    ffi::OsStr,
    fs::{self, File, Permissions},
    os::unix::{
        ffi::{OsStrExt, OsStringExt},
        fs::{MetadataExt, PermissionsExt, symlink},
    },
    path::{Path, PathBuf},
    time::{Duration, UNIX_EPOCH},
};

use proptest::prelude::*;
use rclaude_tree::{Pack, Unpack};

/// What may stand in a directory.
#[derive(Debug, Clone)]
enum Node {
    File { mode: u32, seconds: u32, nanos: u32, content: Vec<u8> },
    Link(Vec<u8>),
    Directory { mode: u32, entries: BTreeMap<Vec<u8>, Node> },
}

/// A name: any bytes but those that are no name's.
fn name() -> impl Strategy<Value = Vec<u8>> {
    let byte = prop_oneof![any::<u8>(), Just(b' '), Just(b'\n'), Just(b'.')];
    prop::collection::vec(byte.prop_filter("no name has it", |b| !b"/\0".contains(b)), 1..120)
        .prop_filter("a way up or nowhere", |name| name != b"." && name != b"..")
}

fn node() -> impl Strategy<Value = Node> {
    let file = (0..0o1000_u32, any::<u32>(), 0..1_000_000_000_u32, any::<Vec<u8>>()).prop_map(
        |(mode, seconds, nanos, content)| Node::File {
            mode: mode | 0o400,
            seconds,
            nanos,
            content,
        },
    );
    let leaf = prop_oneof![3 => file, 1 => name().prop_map(Node::Link)];
    leaf.prop_recursive(4, 30, 6, |inner| {
        (0..0o1000_u32, prop::collection::btree_map(name(), inner, 0..6))
            .prop_map(|(mode, entries)| Node::Directory { mode: mode | 0o700, entries })
    })
}

fn plant(at: &Path, entries: &BTreeMap<Vec<u8>, Node>) {
    for (name, node) in entries {
        let path = at.join(OsStr::from_bytes(name));
        match node {
            Node::File { mode, seconds, nanos, content } => {
                fs::write(&path, content).unwrap();
                fs::set_permissions(&path, Permissions::from_mode(*mode)).unwrap();
                let time = UNIX_EPOCH + Duration::new((*seconds).into(), *nanos);
                File::open(&path).unwrap().set_modified(time).unwrap();
            }
            Node::Link(target) => symlink(OsStr::from_bytes(target), &path).unwrap(),
            Node::Directory { mode, entries } => {
                fs::create_dir(&path).unwrap();
                plant(&path, entries);
                fs::set_permissions(&path, Permissions::from_mode(*mode)).unwrap();
            }
        }
    }
}

/// Mode, time and content of everything.
fn seen(path: &Path) -> BTreeMap<PathBuf, (u32, i64, i64, Vec<u8>)> {
    let (mut found, mut left) = (BTreeMap::new(), vec![path.to_owned()]);
    while let Some(directory) = left.pop() {
        for entry in fs::read_dir(directory).unwrap() {
            let at = entry.unwrap().path();
            let meta = fs::symlink_metadata(&at).unwrap();
            let content = if meta.is_symlink() {
                fs::read_link(&at).unwrap().into_os_string().into_vec()
            } else if meta.is_dir() {
                left.push(at.clone());
                Vec::new()
            } else {
                fs::read(&at).unwrap()
            };
            let name = at.strip_prefix(path).unwrap().to_owned();
            found.insert(name, (meta.mode(), meta.mtime(), meta.mtime_nsec(), content));
        }
    }
    found
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]

    #[test]
    fn any_tree_comes_out_as_it_went_in(
        entries in prop::collection::btree_map(name(), node(), 0..8)
    ) {
        let directory = tempfile::tempdir().unwrap();
        let (from, to) = (directory.path().join("from"), directory.path().join("to"));
        fs::create_dir(&from).unwrap();
        plant(&from, &entries);
        let before = seen(&from);
        let mut archive = Vec::new();
        Pack { exact_times: true, ..Pack::default() }.pack(&from, &mut archive).unwrap();
        let unpack = Unpack { any_links: true, ..Unpack::default() };
        unpack.unpack(&to, archive.as_slice()).unwrap();
        prop_assert_eq!(seen(&to), before.clone());
        // Over itself, and cut off anywhere: what is there stays whole.
        let cut = archive.len() / 2;
        let _cut_off = unpack.unpack(&to, &archive[..cut]);
        let left: Vec<_> = seen(&to).into_keys().collect();
        prop_assert_eq!(left, before.into_keys().collect::<Vec<_>>());
    }
}
