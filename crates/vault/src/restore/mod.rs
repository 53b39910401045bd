//! Restoring a tree.
//!
//! In four steps: directories are made and files planned; contents are written, pack by pack, in
//! parallel; links, devices and other names of files follow; and last, deepest first, everything
//! gets its owner, attributes, mode and times. Links come after contents, so that nothing is ever
//! written through one, and directories keep the times they are given.
//!
//! A vault may come from somebody else: names are checked, and two entries of one name refused.
//!
//! Run by root, what cannot be restored is an error. Run by others, what the system keeps from
//! them (owners, devices, some attributes) is left out and counted.

mod contents;
mod place;
mod settle;

use std::{
    collections::{HashMap, HashSet},
    ffi::OsStr,
    fs,
    os::unix::ffi::OsStrExt as _,
    path::{Path, PathBuf},
};

use rustic_core::{
    IndexedFull, Repository,
    repofile::{Node, SnapshotFile},
};

pub(crate) use place::Place;

use self::{contents::Plan, settle::Settler};
use crate::{
    Result, VaultError,
    open::Inner,
    session::Session,
    snapshot::{self, Shape, SnapshotId},
    tree::{Facts, Kind, node::to_facts},
};

/// What was restored.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Restored {
    /// Entries besides directories.
    pub files: u64,
    /// The size of all files.
    pub total_bytes: u64,
    /// How many owners, devices and attributes the system kept from this process, which is not
    /// root's. Always 0 for root.
    pub not_permitted: u64,
}

/// A node with where it is and what there is to know of it.
struct Item {
    path: PathBuf,
    facts: Facts,
    blobs: Vec<rustic_core::DataId>,
}

/// Restores a tree into a directory that is empty or does not exist.
pub(crate) fn tree(inner: &Inner, id: SnapshotId, into: &Path) -> Result<Restored> {
    let snapshot = find(inner, id, Shape::Tree)?;
    let place = Place::new(into)?;
    let (session, repository) = inner.readable()?;
    let mut restored = Restored::default();
    let mut plan = Plan::default();
    // The first name of each file that has several.
    let mut first: HashMap<(u64, u64), PathBuf> = HashMap::new();
    walk(&session, &repository, &snapshot, |item| {
        let Item { path, facts, blobs } = item;
        if facts.kind == Kind::Dir {
            return place.make_dir(&path);
        }
        restored.files += 1;
        restored.total_bytes += facts.size;
        if let Some(link) = facts.link {
            if first.contains_key(&link) {
                return Ok(());
            }
            first.insert(link, path.clone());
        }
        if facts.kind == Kind::File {
            plan.file(&session, &repository, &path, facts.size, &blobs)?;
        }
        Ok(())
    })?;
    plan.write(&session, &repository, &place, inner.store.parallel())?;
    let mut settler = Settler::new(&place);
    walk(&session, &repository, &snapshot, |item| {
        let Item { path, facts, .. } = item;
        match facts.link.and_then(|link| first.get(&link)) {
            Some(first) if *first != path => settler.name(first, &path),
            _ => settler.entry(path, facts),
        }
    })?;
    restored.not_permitted = settler.finish()?;
    Ok(restored)
}

/// Writes a saved file's content to a file that does not exist.
pub(crate) fn file(inner: &Inner, id: SnapshotId, to: &Path) -> Result<Restored> {
    use std::io::Write as _;
    let snapshot = find(inner, id, Shape::File)?;
    let mut written = 0;
    let mut out = fs::File::create_new(to).map_err(VaultError::tree("create", to))?;
    let result = content(inner, &snapshot, |piece| {
        written += piece.len() as u64;
        out.write_all(piece).map_err(VaultError::tree("write", to))
    });
    let result = result.and_then(|()| out.sync_all().map_err(VaultError::tree("write", to)));
    if let Err(error) = result {
        // Half a database is worse than none.
        let _ = fs::remove_file(to);
        return Err(error);
    }
    Ok(Restored { files: 1, total_bytes: written, not_permitted: 0 })
}

/// Hands over the content of a snapshot that is one file, in order.
pub(crate) fn content(
    inner: &Inner,
    snapshot: &SnapshotFile,
    mut take: impl FnMut(&[u8]) -> Result<()>,
) -> Result<()> {
    let (session, repository) = inner.readable()?;
    let node = top(&session, &repository, snapshot)?;
    contents::read(&session, &repository, node.content.as_deref().unwrap_or_default(), &mut take)
}

fn find(inner: &Inner, id: SnapshotId, shape: Shape) -> Result<SnapshotFile> {
    let snapshot = snapshot::one(inner, id)?;
    match Shape::of(&snapshot) {
        Some(found) if found == shape => Ok(snapshot),
        Some(found) => Err(VaultError::Invalid(format!(
            "snapshot {id} holds a {}, not a {}",
            found.name(),
            shape.name()
        ))),
        None => Err(VaultError::damaged(format!("snapshot {id} holds nothing that is known"))),
    }
}

/// The one entry at a snapshot's top.
pub(crate) fn top(
    session: &Session,
    repository: &Repository<impl IndexedFull>,
    snapshot: &SnapshotFile,
) -> Result<Node> {
    let tree = repository.get_tree(&snapshot.tree).map_err(|error| session.explain(&error))?;
    match <[Node; 1]>::try_from(tree.nodes) {
        Ok([node]) => Ok(node),
        Err(_) => Err(VaultError::damaged(format!(
            "snapshot {} has not one entry at its top",
            SnapshotId::of(&snapshot.id)
        ))),
    }
}

/// Goes through a saved tree in the order of [`crate::tree::Walk`].
fn walk(
    session: &Session,
    repository: &Repository<impl IndexedFull>,
    snapshot: &SnapshotFile,
    mut visit: impl FnMut(Item) -> Result<()>,
) -> Result<()> {
    let mut todo = vec![(PathBuf::new(), top(session, repository, snapshot)?)];
    while let Some((path, node)) = todo.pop() {
        let subtree = node.subtree;
        let facts = to_facts(&node)?;
        let is_dir = facts.kind == Kind::Dir;
        visit(Item { path: path.clone(), facts, blobs: node.content.unwrap_or_default() })?;
        let Some(subtree) = subtree.filter(|_| is_dir) else { continue };
        let tree = repository.get_tree(&subtree).map_err(|error| session.explain(&error))?;
        let mut names = HashSet::new();
        let begin = todo.len();
        for node in tree.nodes {
            let name = node.name().into_owned();
            if !is_plain(&name) || !names.insert(name.clone()) {
                return Err(VaultError::damaged(format!(
                    "{} in a snapshot has an entry called {}, which cannot be",
                    path.display(),
                    name.display()
                )));
            }
            todo.push((path.join(name), node));
        }
        todo[begin..].sort_unstable_by(|(one, _), (other, _)| {
            other.as_os_str().as_bytes().cmp(one.as_os_str().as_bytes())
        });
    }
    Ok(())
}

/// Whether a name stays in its directory.
fn is_plain(name: &OsStr) -> bool {
    let bytes = name.as_bytes();
    !matches!(bytes, b"" | b"." | b"..") && !bytes.contains(&b'/') && !bytes.contains(&0)
}

/// The digest of a saved tree, as [`crate::digest`] has it of one on disk.
pub(crate) fn digest(inner: &Inner, id: SnapshotId) -> Result<crate::TreeDigest> {
    let snapshot = find(inner, id, Shape::Tree)?;
    let (session, repository) = inner.readable()?;
    let mut digester = crate::tree::digest::Digester::default();
    walk(&session, &repository, &snapshot, |item| {
        if digester.entry(&item.path, &item.facts) {
            let mut take = |piece: &[u8]| {
                digester.content(piece);
                Ok(())
            };
            contents::read(&session, &repository, &item.blobs, &mut take)?;
        }
        Ok(())
    })?;
    Ok(digester.finish())
}

#[cfg(test)]
mod tests {
    use std::{
        fs, io,
        path::{Path, PathBuf},
        vec,
    };

    use rustic_core::{
        BackupOptions, ReadSource, ReadSourceEntry, RusticResult,
        repofile::{Node, SnapshotFile, StringList},
    };

    use super::{digest, tree};
    use crate::{
        Key, Location, VaultError,
        open::{Inner, open_or_create},
        snapshot::SnapshotId,
        tree::{Facts, Kind, node::to_node},
    };

    /// A tree as nobody's disk has it.
    struct Forged(Vec<Node>);

    impl ReadSource for Forged {
        type Open = io::Empty;
        type Iter = vec::IntoIter<RusticResult<ReadSourceEntry<io::Empty>>>;

        fn size(&self) -> RusticResult<Option<u64>> {
            Ok(None)
        }

        fn entries(&self) -> Self::Iter {
            let root = to_node("tree".as_ref(), &facts(Kind::Dir)).unwrap();
            let mut entries = vec![(PathBuf::from("tree"), root)];
            let inside = |node: &Node| (PathBuf::from("tree/entry"), node.clone());
            entries.extend(self.0.iter().map(inside));
            let entry = |(path, node)| Ok(ReadSourceEntry { path, node, open: None });
            entries.into_iter().map(entry).collect::<Vec<_>>().into_iter()
        }
    }

    fn facts(kind: Kind) -> Facts {
        Facts { kind, mode: 0o700, ..Facts::plain(0) }
    }

    fn link(name: &str) -> Node {
        to_node(name.as_ref(), &facts(Kind::Symlink(b"/etc/passwd".to_vec()))).unwrap()
    }

    fn save(inner: &Inner, nodes: Vec<Node>) -> SnapshotId {
        let (session, repository) = inner.session().unwrap();
        let repository = repository.to_indexed_ids().unwrap();
        let mut paths = StringList::default();
        paths.add("tree".to_owned());
        let blank = SnapshotFile { paths, ..SnapshotFile::default() };
        let mut options = BackupOptions::default();
        options.parent_opts.force = true;
        let path = [PathBuf::from("tree")];
        let made = repository.archive(&options, &Forged(nodes), blank, &path).unwrap();
        session.commit().unwrap();
        SnapshotId::of(&made.id)
    }

    #[test]
    fn nothing_in_a_forged_vault_leads_out_of_the_directory() {
        let dir = tempfile::tempdir().unwrap();
        let location = Location::Dir(dir.path().join("vault"));
        let inner = open_or_create(&location, &Key::Random([1; 32])).unwrap();
        let forgeries = [
            vec![link("..")],
            vec![link(".")],
            vec![link("../escaped")],
            vec![link("/tmp/escaped")],
            vec![link("in/between")],
            vec![link("twice"), link("twice")],
        ];
        for (number, nodes) in forgeries.into_iter().enumerate() {
            let id = save(&inner, nodes.clone());
            let into = dir.path().join(format!("back/{number}"));
            let refused = tree(&inner, id, &into).unwrap_err();
            assert!(matches!(refused, VaultError::Damaged { .. }), "{nodes:?}: {refused}");
            let refused = digest(&inner, id).unwrap_err();
            assert!(matches!(refused, VaultError::Damaged { .. }), "{nodes:?}: {refused}");
            assert_eq!(entries(&into), 0);
        }
        assert_eq!(entries(dir.path()), 2, "the vault and the directory with the attempts");
        let id = save(&inner, vec![link("one"), link("other")]);
        tree(&inner, id, &dir.path().join("back/well")).unwrap();
    }

    fn entries(dir: &Path) -> usize {
        fs::read_dir(dir).unwrap().count()
    }
}
