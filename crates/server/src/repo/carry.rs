//! What of the cache has to be kept so that sessions' checkouts can be had again on another
//! machine: mirrors, and the trees that cannot be made anew from them.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs, io,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

use super::{Checkout, RepoCache, RepoError, checkout::blocking, lock, tree};

/// A room's trees where they hold still, and its small files.
#[derive(Debug)]
pub struct StagedRoom {
    /// Where each tree is, by its path in the room.
    pub trees: Vec<(String, PathBuf)>,
    /// Small files by name.
    pub files: BTreeMap<String, String>,
}

/// A room's small files.
const FILES: [&str; 2] = ["url", "fetched"];

impl RepoCache {
    /// Where the cache is.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// The rooms that checkouts stand on, by name.
    pub fn rooms<'a>(&self, checkouts: impl IntoIterator<Item = &'a Checkout>) -> BTreeSet<String> {
        let mut rooms = BTreeSet::new();
        for checkout in checkouts {
            let binds = checkout.binds.iter().map(|bind| &bind.source);
            for path in checkout.layers.iter().chain(binds) {
                rooms.extend(self.room_of(path).map(|(room, _)| room));
            }
        }
        rooms
    }

    fn room_of<'a>(&self, path: &'a Path) -> Option<(String, &'a Path)> {
        let inside = path.strip_prefix(&self.dir).ok()?;
        let room = inside.iter().next()?;
        Some((room.to_str()?.to_owned(), inside.strip_prefix(room).ok()?))
    }

    /// Has a room's mirror hold still: a copy of it under `into` that shares its files, which git
    /// never changes once they are there. Trees that checkouts use and that no mirror can bring
    /// back (the refs of a moment, what was uncommitted) hold still by themselves.
    pub async fn stage(
        &self,
        room: &str,
        checkouts: &[Checkout],
        into: &Path,
    ) -> Result<StagedRoom, RepoError> {
        let place = self.dir.join(room);
        let mut trees = Vec::new();
        for layer in checkouts.iter().flat_map(|checkout| &checkout.layers) {
            let Some((of, inside)) = self.room_of(layer) else { continue };
            let kind = inside.iter().next().and_then(|kind| kind.to_str());
            let path = inside.to_string_lossy().into_owned();
            if of == room
                && matches!(kind, Some("refs" | "uncommitted"))
                && layer.exists()
                && trees.iter().all(|(known, _)| *known != path)
            {
                trees.push((path, layer.clone()));
            }
        }
        let mut files = BTreeMap::new();
        let mirror = place.join("mirror.git");
        if mirror.exists() {
            let staged = into.join(room).join("mirror.git");
            let _lock = lock::lock(&place.join("mirror.lock")).await?;
            for name in FILES {
                if let Ok(text) = fs::read_to_string(place.join(name)) {
                    files.insert(name.to_owned(), text);
                }
            }
            let target = staged.clone();
            let linked = blocking(move || link_tree(&mirror, &target)).await;
            linked.map_err(RepoError::at("holding the mirror of", &place))?;
            trees.push(("mirror.git".to_owned(), staged));
        }
        Ok(StagedRoom { trees, files })
    }
}

impl RepoCache {
    /// A mirror's objects where they hold still, under `into`.
    pub async fn hold_still(&self, objects: &Path, into: &Path) -> Result<PathBuf, RepoError> {
        let Some((room, _)) = self.room_of(objects) else { return Ok(objects.to_owned()) };
        let staged = into.join(&room).join("objects");
        let _lock = lock::lock(&self.dir.join(&room).join("mirror.lock")).await?;
        let (from, to) = (objects.to_owned(), staged.clone());
        let linked = blocking(move || link_tree(&from, &to)).await;
        linked.map_err(RepoError::at("holding still", objects))?;
        Ok(staged)
    }
}

/// A copy of a mirror that shares its files. What git had not finished is left out.
fn link_tree(from: &Path, to: &Path) -> io::Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let (name, kind) = (entry.file_name(), entry.file_type()?);
        let text = name.to_string_lossy();
        if text.starts_with("tmp_") || text.ends_with(".lock") || tree::is_unfinished(&name) {
            continue;
        }
        let (source, target) = (entry.path(), to.join(&name));
        if kind.is_dir() {
            link_tree(&source, &target)?;
        } else if kind.is_file() {
            // Where the cache is on another disk.
            if fs::hard_link(&source, &target).is_err() {
                fs::copy(&source, &target)?;
                tree::set_mtime(&target, source.metadata()?.mtime())?;
            }
        }
    }
    Ok(())
}
