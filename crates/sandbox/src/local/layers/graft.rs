//! Parts of a state, as a layer that shows them over anything.
//!
//! At each path the layer has what the given layers show there together: a file as it is, a
//! directory with the opaque flag, so that nothing else shines through, a whiteout where there is
//! nothing. What lies *below* the given layers is not looked at: a directory that they only add to
//! appears with the additions alone. Callers graft what belongs to the session itself.

use std::{
    collections::BTreeMap,
    ffi::{CStr, CString},
    fs, io,
    os::{
        fd::{AsFd as _, BorrowedFd, OwnedFd},
        unix::ffi::OsStrExt as _,
    },
    path::{Component, Path, PathBuf},
};

use super::{
    super::sys::open_own,
    build::make_whiteout,
    ladder::open_directory,
    meta::{Meta, is_whiteout},
    union::{Union, is_dir, look, remove_at},
};

/// Where a path's part is put together.
const PART: &CStr = c"part";

/// Makes `tree` in `draft` of what `trees` (uppermost first) show at `paths`. Directories on the
/// way look as in the trees, or else as in those that it will lie `over`, or else as in `skeleton`.
pub(super) fn graft(
    trees: &[PathBuf],
    over: &[PathBuf],
    paths: &[PathBuf],
    skeleton: &Path,
    draft: &Path,
    contents: &Path,
) -> io::Result<()> {
    let copies = open_own(contents)?;
    let mut union = Union::new(copies.as_fd());
    let mut parents = BTreeMap::new();
    let mut parts = Vec::new();
    for (number, path) in distinct(trees, paths)?.into_iter().enumerate() {
        let place = contents.join(format!("part-{number}"));
        fs::create_dir(&place)?;
        let part = open_own(&place)?;
        for tree in over.iter().rev() {
            pass(tree, &path, &mut parents)?;
        }
        for tree in trees.iter().rev() {
            lay(&mut union, tree, &path, part.as_fd(), &mut parents)?;
        }
        for parent in path.ancestors().skip(1) {
            if let Some(meta) = plain(skeleton, parent)? {
                parents.entry(parent.to_owned()).or_insert(meta);
            }
        }
        parts.push((path, place, part));
    }
    let tree = draft.join("tree");
    fs::create_dir(&tree)?;
    for (path, place, part) in parts {
        let target = tree.join(&path);
        let found = look(part.as_fd(), PART)?;
        let is_somewhere = path.parent().is_none_or(|parent| parents.contains_key(parent));
        if found.is_none() && !is_somewhere {
            // Nothing is there, nor below: a directory made to say so would have to be somebody's.
            continue;
        }
        if let Some(parent) = target.parent() {
            fs::create_dir_all(parent)?;
        }
        match found {
            None => make_whiteout(rustix::fs::CWD, &text(&target)?)?,
            Some(found) => {
                if is_dir(&found) {
                    let dir = open_directory(part.as_fd(), PART)?;
                    let mut meta = Meta::read(&found, &dir)?;
                    meta.set_opaque(true);
                    meta.give_to(dir)?;
                }
                fs::rename(place.join("part"), &target)?;
            }
        }
        for parent in path.ancestors().skip(1) {
            parents.entry(parent.to_owned()).or_insert_with(Meta::plain_directory);
        }
    }
    // From the deepest up: a directory's right to be entered goes last.
    for (parent, meta) in parents.iter().rev() {
        if let Ok(dir) = open_own(&tree.join(parent)) {
            meta.give_to(dir)?;
        }
    }
    Ok(())
}

/// Notes how one tree shows the directories on the way to `path`.
fn pass(tree: &Path, path: &Path, parents: &mut BTreeMap<PathBuf, Meta>) -> io::Result<()> {
    let mut here = open_own(tree)?;
    let mut at = PathBuf::new();
    note(&at, &here, parents)?;
    let mut way = names(path)?;
    way.pop();
    for name in way {
        match look(here.as_fd(), &name)? {
            Some(found) if is_dir(&found) => here = open_directory(here.as_fd(), &name)?,
            _ => break,
        }
        at.push(std::ffi::OsStr::from_bytes(name.to_bytes()));
        note(&at, &here, parents)?;
    }
    Ok(())
}

/// Notes how a directory on the way looks; whether it hides what lies below.
fn note(at: &Path, dir: &OwnedFd, parents: &mut BTreeMap<PathBuf, Meta>) -> io::Result<bool> {
    let mut meta = Meta::read(&rustix::fs::fstat(dir)?, dir)?;
    let opaque = meta.is_opaque();
    meta.set_opaque(false);
    parents.insert(at.to_owned(), meta);
    Ok(opaque)
}

/// Lays what one tree has at `path` over `part`, and notes how it shows the directories on the
/// way.
fn lay(
    union: &mut Union<'_>,
    tree: &Path,
    path: &Path,
    part: BorrowedFd<'_>,
    parents: &mut BTreeMap<PathBuf, Meta>,
) -> io::Result<()> {
    let mut here = open_own(tree)?;
    let mut at = PathBuf::new();
    let mut parts = names(path)?.into_iter().peekable();
    note(&at, &here, parents)?;
    while let Some(name) = parts.next() {
        if parts.peek().is_none() {
            return union.lay(true, (here.as_fd(), &name), (part, PART));
        }
        let Some(found) = look(here.as_fd(), &name)? else { return Ok(()) };
        if !is_dir(&found) {
            // Hides what the trees below have there.
            return remove_at(part, PART);
        }
        here = open_directory(here.as_fd(), &name)?;
        at.push(std::ffi::OsStr::from_bytes(name.to_bytes()));
        if note(&at, &here, parents)? {
            remove_at(part, PART)?;
        }
    }
    Ok(())
}

/// The paths relative to the root, none in another. One that leads through something that is no
/// directory (a link that the sandbox made of it) stands for that.
fn distinct(trees: &[PathBuf], paths: &[PathBuf]) -> io::Result<Vec<PathBuf>> {
    let mut found: Vec<PathBuf> = Vec::new();
    for path in paths {
        let invalid = || {
            let text = format!("{} is not an absolute path without `..`", path.display());
            io::Error::new(io::ErrorKind::InvalidInput, text)
        };
        let inside = path.strip_prefix("/").map_err(|_| invalid())?;
        let plain = inside.components().all(|part| matches!(part, Component::Normal(_)));
        if inside.as_os_str().is_empty() || !plain {
            return Err(invalid());
        }
        let mut steps: Vec<_> =
            inside.ancestors().filter(|at| !at.as_os_str().is_empty()).collect();
        steps.reverse();
        let mut shown = inside;
        for step in steps {
            if is_file(trees, step)? {
                shown = step;
                break;
            }
        }
        found.push(shown.to_owned());
    }
    // Shorter ones come first and take in what is in them.
    found.sort();
    found.dedup_by(|later, earlier| later.starts_with(earlier));
    Ok(found)
}

/// Whether the trees show something at `path` that is neither a directory nor nothing.
fn is_file(trees: &[PathBuf], path: &Path) -> io::Result<bool> {
    for tree in trees {
        let mut here = open_own(tree)?;
        let mut parts = names(path)?.into_iter().peekable();
        let mut hides = false;
        while let Some(name) = parts.next() {
            let Some(found) = look(here.as_fd(), &name)? else { break };
            let last = parts.peek().is_none();
            if !is_dir(&found) {
                return Ok(last && !is_whiteout(&found));
            }
            if last {
                return Ok(false);
            }
            here = open_directory(here.as_fd(), &name)?;
            hides = Meta::read(&found, &here)?.is_opaque() || hides;
        }
        if hides {
            return Ok(false);
        }
    }
    Ok(false)
}

fn plain(skeleton: &Path, parent: &Path) -> io::Result<Option<Meta>> {
    let Ok(dir) = open_own(&skeleton.join(parent)) else { return Ok(None) };
    Ok(Some(Meta::read(&rustix::fs::fstat(&dir)?, &dir)?))
}

fn names(path: &Path) -> io::Result<Vec<CString>> {
    let bytes = path.iter().map(|name| CString::new(name.as_bytes()));
    Ok(bytes.collect::<Result<_, _>>()?)
}

fn text(path: &Path) -> io::Result<CString> {
    Ok(CString::new(path.as_os_str().as_bytes())?)
}
