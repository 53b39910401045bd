//! Moving a frozen sandbox's memory to the host's swap.
//!
//! By `process_madvise(MADV_PAGEOUT)` over the writable private maps of its processes: half the
//! time of `memory.force_empty` in version 1, and of any version. `memory.reclaim` of version 2
//! does it where the former is not allowed. Either is done in pieces, with a look at the freezer
//! between them: a sandbox that is wanted again does not have to fight for its own memory.

use std::{fs, io, ops::Range};

use rustix::process::{Pid, PidfdFlags, pidfd_open};

use super::{
    cgroup::{Place, Placement},
    sys,
};

/// How much is moved between two looks at the freezer: some 70 ms of compressing into zram.
const PIECE: usize = 64 << 20;

/// Whether the host has room in swap.
pub(super) fn host_can_swap() -> bool {
    let text = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    text.lines().any(|line| {
        let free = line.strip_prefix("SwapFree:").map(str::trim);
        free.is_some_and(|free| free != "0 kB")
    })
}

/// Whether this process may move others' memory. Tried on a process that is made for it.
pub(super) fn can_page_out() -> bool {
    let attempt = |pid: Pid| {
        let range = writable_private(pid).into_iter().next();
        let range = range.ok_or(io::ErrorKind::NotFound)?;
        // So little that nobody misses it.
        page_out(pid, &(range.start..range.start + 4096))
    };
    let child = std::process::Command::new("sleep").arg("10").spawn();
    child.is_ok_and(|mut child| {
        let pid = Pid::from_child(&child);
        let allowed = !attempt(pid).is_err_and(|error| is_refused(&error));
        let _ = child.kill();
        let _ = child.wait();
        allowed
    })
}

/// Moves what can be moved; returns how many bytes of the processes' memory are in swap that were
/// not before.
pub(super) fn reclaim(cgroups: &Placement) -> io::Result<u64> {
    let Some(freezer) = cgroups.freezer() else { return Ok(0) };
    let processes = freezer.processes()?;
    let before: u64 = processes.iter().map(|pid| swapped(*pid)).sum();
    'processes: for &pid in &processes {
        for range in pieces(&writable_private(pid)) {
            if !cgroups.is_frozen() {
                break 'processes;
            }
            match page_out(pid, &range) {
                Err(error) if is_refused(&error) => {
                    by_the_kernel(cgroups)?;
                    break 'processes;
                }
                // Killed meanwhile, or a map that cannot be moved (locked, a device's).
                Ok(()) | Err(_) => {}
            }
        }
    }
    let after: u64 = processes.iter().map(|pid| swapped(*pid)).sum();
    Ok(after.saturating_sub(before))
}

fn page_out(pid: Pid, range: &Range<usize>) -> io::Result<()> {
    let process = pidfd_open(pid, PidfdFlags::empty())?;
    sys::page_out(&process, range.clone())
}

/// Version 2: has the kernel choose what to move.
fn by_the_kernel(cgroups: &Placement) -> io::Result<()> {
    let here = |place: &&Place| place.unified && place.dir.join("memory.reclaim").exists();
    let Some(place) = cgroups.0.iter().find(here) else { return Ok(()) };
    let current = fs::read_to_string(place.dir.join("memory.current"))?;
    let mut left: usize = current.trim().parse().unwrap_or(0);
    while left > 0 && cgroups.is_frozen() {
        let piece = left.min(PIECE);
        match fs::write(place.dir.join("memory.reclaim"), piece.to_string()) {
            // Less could be moved than was asked for: that was all.
            Err(error) if error.raw_os_error() == Some(libc::EAGAIN) => break,
            other => other?,
        }
        left -= piece;
    }
    Ok(())
}

/// Where a process keeps what is its own alone.
fn writable_private(pid: Pid) -> Vec<Range<usize>> {
    let path = format!("/proc/{}/maps", pid.as_raw_nonzero());
    fs::read_to_string(path).unwrap_or_default().lines().filter_map(parse_map).collect()
}

fn parse_map(line: &str) -> Option<Range<usize>> {
    let mut fields = line.split(' ');
    let (range, rights) = (fields.next()?, fields.next()?);
    let (start, end) = range.split_once('-')?;
    let number = |text| usize::from_str_radix(text, 16).ok();
    (rights.as_bytes().get(1) == Some(&b'w') && rights.ends_with('p'))
        .then_some(number(start)?..number(end)?)
}

fn pieces(ranges: &[Range<usize>]) -> impl Iterator<Item = Range<usize>> {
    ranges.iter().flat_map(|range| {
        let end = range.end;
        range.clone().step_by(PIECE).map(move |start| start..end.min(start.saturating_add(PIECE)))
    })
}

/// How much of a process is in swap, in bytes.
fn swapped(pid: Pid) -> u64 {
    let path = format!("/proc/{}/status", pid.as_raw_nonzero());
    let text = fs::read_to_string(path).unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix("VmSwap:"));
    let number = line.and_then(|line| line.trim().strip_suffix(" kB")?.parse::<u64>().ok());
    number.unwrap_or(0) << 10
}

/// Not for this process, whatever it is asked to move.
fn is_refused(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EPERM | libc::EACCES | libc::ENOSYS))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_writable_and_private_is_moved_and_in_pieces() {
        let maps = "\
55d0c1a00000-55d0c1a21000 rw-p 00000000 00:00 0                          [heap]
7f0000000000-7f0009000000 rw-p 00000000 00:00 0 
7f1000000000-7f1000001000 r-xp 00000000 fe:00 1 /usr/lib/libc.so.6
7f1100000000-7f1100001000 rw-s 00000000 00:01 5 /dev/shm/x
";
        let found: Vec<_> = maps.lines().filter_map(parse_map).collect();
        assert_eq!(found, [0x55d0_c1a0_0000..0x55d0_c1a2_1000, 0x7f00_0000_0000..0x7f00_0900_0000]);
        let cut: Vec<_> = pieces(&found).map(|range| range.len()).collect();
        assert_eq!(cut, [0x2_1000, PIECE, PIECE, 0x100_0000]);
    }

    #[test]
    fn the_kernel_is_asked_for_all_in_pieces_while_the_sandbox_is_frozen() {
        let dir = tempfile::tempdir().unwrap();
        let file = |name: &str| dir.path().join(name);
        fs::write(file("memory.current"), format!("{}\n", PIECE + 7)).unwrap();
        fs::write(file("memory.reclaim"), "").unwrap();
        let asked = || fs::read_to_string(file("memory.reclaim")).unwrap();
        let place = Place { dir: dir.path().to_owned(), unified: true, controllers: Vec::new() };
        let cgroups = Placement(vec![place]);
        fs::write(file("cgroup.freeze"), "0\n").unwrap();
        by_the_kernel(&cgroups).unwrap();
        assert_eq!(asked(), "");
        fs::write(file("cgroup.freeze"), "1\n").unwrap();
        by_the_kernel(&cgroups).unwrap();
        assert_eq!(asked(), "7");
    }
}
