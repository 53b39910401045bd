//! How much room the host has.

use std::{fs, path::Path};

/// Thousandths of memory that are free or can be freed at once.
pub(crate) fn free_memory() -> Option<u32> {
    let text = fs::read_to_string("/proc/meminfo").ok()?;
    let number = |name: &str| {
        let line = text.lines().find(|line| line.starts_with(name))?;
        line.split_ascii_whitespace().nth(1)?.parse::<u64>().ok()
    };
    thousandths(number("MemAvailable:")?, number("MemTotal:")?)
}

/// Thousandths of the disk under `path` that are free.
pub(crate) fn free_disk(path: &Path) -> Option<u32> {
    let disk = rustix::fs::statvfs(path).ok()?;
    thousandths(disk.f_bavail, disk.f_blocks)
}

fn thousandths(part: u64, whole: u64) -> Option<u32> {
    u32::try_from((part * 1000).checked_div(whole)?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_host_has_some_room() {
        assert!(free_memory().is_some_and(|free| free <= 1000));
        assert!(free_disk(Path::new("/")).is_some_and(|free| free <= 1000));
        assert_eq!(thousandths(1, 0), None);
    }
}
