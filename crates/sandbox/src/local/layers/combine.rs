//! Layers made of layers.

use std::{fs, io, os::fd::AsFd as _, path::PathBuf};

use rclaude_types::LayerId;

use super::{
    super::{
        layout::LayerDir,
        protocol::{Failure, FailureClass},
        provider::Inner,
        remove::remove_tree,
        sys::open_own,
    },
    graft,
    rights::with_rights,
    union,
};

/// Makes one layer that shows what these show together. It describes as much of the sandbox's
/// tree as the uppermost does, and so has its index.
pub(super) fn flatten(inner: &Inner, layers: &[LayerId], into: &LayerId) -> Result<(), Failure> {
    if layers.is_empty() {
        return Err(Failure::new(FailureClass::Rejected, "no layers are given"));
    }
    let dirs = find(inner, layers)?;
    make(inner, into, |draft, contents| {
        let trees: Vec<_> = dirs.iter().map(LayerDir::tree).collect();
        let (dir, copies) = (open_own(draft.path())?, open_own(contents)?);
        union::flatten(&trees, dir.as_fd(), copies.as_fd())?;
        match dirs.first().map(|top| fs::copy(top.index(), draft.index())) {
            Some(Err(error)) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    })
}

/// Makes a layer of what these show at `paths`, to lie `over` those.
pub(super) fn graft(
    inner: &Inner,
    from: &[LayerId],
    over: &[LayerId],
    paths: &[PathBuf],
    into: &LayerId,
) -> Result<(), Failure> {
    let trees = |layers| -> Result<Vec<_>, Failure> {
        Ok(find(inner, layers)?.iter().map(LayerDir::tree).collect())
    };
    let (trees, over) = (trees(from)?, trees(over)?);
    make(inner, into, |draft, contents| {
        graft::graft(&trees, &over, paths, inner.skeleton(), draft.path(), contents)
    })
}

fn find(inner: &Inner, layers: &[LayerId]) -> Result<Vec<LayerDir>, Failure> {
    let find = |layer: &LayerId| {
        inner.shelf.find(layer).ok_or_else(|| {
            Failure::new(FailureClass::Rejected, format!("the layer {layer} is not here"))
        })
    };
    layers.iter().map(find).collect()
}

/// Makes a layer; what went wrong leaves nothing.
fn make(
    inner: &Inner,
    layer: &LayerId,
    fill: impl Fn(&LayerDir, &std::path::Path) -> io::Result<()>,
) -> Result<(), Failure> {
    let draft = inner.shelf.new_draft(layer)?;
    let filled = || {
        let contents = draft.path().join("contents");
        fs::create_dir(&contents)?;
        with_rights(|| fill(&draft, &contents))?;
        remove_tree(&contents)
    };
    let filled = filled().map_err(|error| match error.kind() {
        io::ErrorKind::InvalidInput => Failure::new(FailureClass::Rejected, error.to_string()),
        _ => Failure::io("put the layer together", &error),
    });
    let made = filled.and_then(|()| inner.shelf.complete(layer));
    if made.is_err() {
        inner.shelf.remove(layer)?;
    }
    made
}
