//! A server's clock that can be set: Debian's `faketime` between the server and its C library.
//! Only what time it is, not how time passes.

use std::{
    fs,
    path::{Path, PathBuf},
};

/// Where Debian puts the library, on the architectures we know.
const LIBRARIES: [&str; 2] = [
    "/usr/lib/x86_64-linux-gnu/faketime/libfaketimeMT.so.1",
    "/usr/lib/aarch64-linux-gnu/faketime/libfaketimeMT.so.1",
];

/// Sets a server's clock by a file that the library reads again and again.
#[derive(Debug)]
pub(super) struct Skew {
    library: &'static str,
    file: PathBuf,
}

impl Skew {
    /// With the library, if it is installed; the clock is right to begin with.
    pub(super) fn find(dir: &Path) -> Option<Self> {
        let library = LIBRARIES.into_iter().find(|library| Path::new(library).exists())?;
        let skew = Self { library, file: dir.join("clock") };
        skew.set(0);
        Some(skew)
    }

    /// Sets it so many minutes on, or back.
    pub(super) fn set(&self, minutes: i32) {
        let unfinished = self.file.with_extension("new");
        fs::write(&unfinished, format!("{minutes:+}m\n")).unwrap();
        fs::rename(unfinished, &self.file).unwrap();
    }

    pub(super) fn environment(&self) -> Vec<(String, String)> {
        let file = self.file.to_string_lossy();
        [
            ("LD_PRELOAD", self.library),
            ("FAKETIME_TIMESTAMP_FILE", &file),
            ("FAKETIME_DONT_FAKE_MONOTONIC", "1"),
            ("FAKETIME_CACHE_DURATION", "1"),
            // Nothing is shared between processes, and a killed one would leave it behind.
            ("FAKETIME_DISABLE_SHM", "1"),
        ]
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .into()
    }
}
