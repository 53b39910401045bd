//! Where layers stand, complete and not, and how they come to be there and go.
//!
//! A layer is made as `<id>.draft` and gets its name by one rename when it is complete, so
//! whatever bears a layer's name is one. That much holds when processes are killed. When the host
//! itself stops, files may be lost that were written but not yet on disk; so a layer bears a note
//! of the boot it was made in until everything has been written out, which happens a few seconds
//! later, for all new layers at once. One that still bears the note of an earlier boot is removed
//! at the next start: a checkpoint that is missing can be dealt with, one with holes cannot.

use std::{
    collections::HashMap,
    ffi::OsStr,
    fs, io,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, OnceLock, PoisonError},
    time::Duration,
};

use rclaude_types::{LayerId, SandboxId, SealMethod};
use rustix::time::{ClockId, clock_gettime};

use super::{
    super::{
        layout::{EngineDir, LayerDir},
        protocol::{Failure, While as _},
        record,
        remove::set_aside,
        sys::open_own,
    },
    seal::Prepared,
    size::{Sizes, bytes_under},
};

/// Ends the name of what is yet to become a layer.
const DRAFT: &str = ".draft";
/// The note of the boot in which a layer was made.
const UNWRITTEN: &str = "unwritten";
/// How long new layers may wait to be written out together.
const GATHER: Duration = Duration::from_secs(5);

/// What was prepared for a layer; locked by whoever works on it.
pub(super) type Slot = Arc<Mutex<Option<Prepared>>>;

/// The engine's layers.
#[derive(Debug)]
pub(in super::super) struct Shelf {
    engine: EngineDir,
    /// How the disks of new sandboxes are sealed.
    pub(super) method: SealMethod,
    pub(super) sizes: Sizes,
    slots: Mutex<HashMap<LayerId, Slot>>,
    unwritten: Arc<Mutex<Unwritten>>,
}

#[derive(Debug, Default)]
struct Unwritten {
    layers: Vec<PathBuf>,
    /// Whether a thread waits to write them out.
    awaited: bool,
}

impl Shelf {
    /// Opens the shelf, and clears it of what others left unfinished.
    pub(in super::super) fn open(engine: EngineDir, method: SealMethod) -> io::Result<Self> {
        let (sizes, slots, unwritten) = Default::default();
        let shelf = Self { engine, method, sizes, slots, unwritten };
        let now = record::boot_id()?;
        let begun = this_process_began();
        for entry in shelf.engine.layer_entries()? {
            let (name, path) = (entry.file_name(), entry.path());
            if is_draft(&name) {
                // Otherwise somebody in this process may be filling it.
                let found = fs::symlink_metadata(&path)?;
                if (found.ctime(), found.ctime_nsec()) < begun {
                    set_aside(&path, &shelf.engine)?;
                }
                continue;
            }
            match fs::read_to_string(path.join(UNWRITTEN)) {
                Ok(boot) if boot == now => shelf.write_out(path),
                Ok(_) => set_aside(&path, &shelf.engine)?,
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
        }
        Ok(shelf)
    }

    /// Whether the disks of new sandboxes are to be subvolumes.
    pub(in super::super) fn makes_snapshots(&self) -> bool {
        self.method == SealMethod::Btrfs
    }

    /// Forgets a sandbox that is gone.
    pub(in super::super) fn forget_sandbox(&self, id: &SandboxId) {
        self.sizes.forget(id);
    }

    /// The complete layer.
    pub(in super::super) fn find(&self, layer: &LayerId) -> Option<LayerDir> {
        let dir = self.engine.layer(layer);
        dir.path().exists().then_some(dir)
    }

    /// What this process prepared for a layer. Waits for whoever prepares it right now.
    pub(super) fn slot(&self, layer: &LayerId) -> Slot {
        let mut slots = self.slots.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(slots.entry(layer.clone()).or_default())
    }

    pub(super) fn forget_slot(&self, layer: &LayerId) {
        self.slots.lock().unwrap_or_else(PoisonError::into_inner).remove(layer);
    }

    pub(in super::super) fn forget_slots(&self) {
        self.slots.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }

    pub(super) fn draft(&self, layer: &LayerId) -> LayerDir {
        let path = self.engine.layer(layer).path().to_owned();
        LayerDir::at(path.with_added_extension(&DRAFT[1..]))
    }

    /// An empty draft; what an earlier attempt left is gone, and the layer, too, if it is there.
    pub(super) fn new_draft(&self, layer: &LayerId) -> Result<LayerDir, Failure> {
        self.remove(layer)?;
        let draft = self.draft(layer);
        fs::create_dir(draft.path()).during("make room for the layer")?;
        Ok(draft)
    }

    /// Makes a layer of its draft.
    pub(super) fn complete(&self, layer: &LayerId) -> Result<(), Failure> {
        let (draft, dir) = (self.draft(layer), self.engine.layer(layer));
        let note = || fs::write(draft.path().join(UNWRITTEN), record::boot_id()?);
        note().during("finish the layer")?;
        fs::rename(draft.path(), dir.path()).during("finish the layer")?;
        self.write_out(dir.path().to_owned());
        Ok(())
    }

    /// Removes a layer, complete or not.
    pub(super) fn remove(&self, layer: &LayerId) -> Result<(), Failure> {
        for path in [self.engine.layer(layer).path(), self.draft(layer).path()] {
            match set_aside(path, &self.engine) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                other => other.during("remove the layer")?,
            }
        }
        Ok(())
    }

    /// Every layer, complete or not.
    pub(super) fn list(&self, sizes: bool) -> io::Result<Vec<(LayerId, u64)>> {
        let mut found = HashMap::<LayerId, u64>::new();
        for entry in self.engine.layer_entries()? {
            let name = entry.file_name();
            let Some(text) = name.to_str() else { continue };
            let Ok(layer) = text.strip_suffix(DRAFT).unwrap_or(text).parse() else { continue };
            let bytes = match open_own(&entry.path()) {
                Ok(dir) if sizes => bytes_under(dir)?,
                Ok(_) => 0,
                // On its way out.
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                Err(error) => return Err(error),
            };
            *found.entry(layer).or_default() += bytes;
        }
        let mut found: Vec<_> = found.into_iter().collect();
        found.sort();
        Ok(found)
    }

    /// Has a layer written to disk soon, and then its note removed.
    fn write_out(&self, layer: PathBuf) {
        let mut unwritten = self.unwritten.lock().unwrap_or_else(PoisonError::into_inner);
        unwritten.layers.push(layer);
        if !unwritten.awaited {
            unwritten.awaited = true;
            let waiting = Arc::clone(&self.unwritten);
            std::thread::spawn(move || {
                std::thread::sleep(GATHER);
                let layers = {
                    let mut unwritten = waiting.lock().unwrap_or_else(PoisonError::into_inner);
                    unwritten.awaited = false;
                    std::mem::take(&mut unwritten.layers)
                };
                for layer in layers {
                    // One that is gone meanwhile needs nothing, and one that cannot be written
                    // keeps its note.
                    let _ = write_out(&layer);
                }
            });
        }
    }
}

fn write_out(layer: &Path) -> io::Result<()> {
    rustix::fs::syncfs(open_own(layer)?)?;
    fs::remove_file(layer.join(UNWRITTEN))
}

fn is_draft(name: &OsStr) -> bool {
    name.as_encoded_bytes().ends_with(DRAFT.as_bytes())
}

/// When this process first opened a shelf: seconds and nanoseconds.
fn this_process_began() -> (i64, i64) {
    static BEGUN: OnceLock<(i64, i64)> = OnceLock::new();
    *BEGUN.get_or_init(|| {
        let now = clock_gettime(ClockId::RealtimeCoarse);
        (now.tv_sec, now.tv_nsec)
    })
}
