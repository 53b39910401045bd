//! A file system of the engine's own, where the host's makes checkpoints slow: a btrfs in a
//! sparse file, on a loop device.
//!
//! Nothing is remembered about it. The file being there says that it is in use; whether it is
//! mounted, and on which loop device, the kernel says, so that a server that was killed at any
//! point, or a host that was started again, is followed by one that finds or does what is missing.
//! The device is told to detach itself when nobody uses it any more: while the file system is
//! mounted anywhere (here, in the supervisor's namespace, in a sandbox's) it stays, and after that
//! it cannot be left over. A second device on the same file would tear it, so one is looked for
//! before any is made; mounting the same device twice is one file system in two places.
#![expect(unsafe_code, reason = "requests to loop devices that no safe library offers")]

use std::{
    fs::{self, File},
    io,
    os::{
        fd::AsRawFd as _,
        unix::fs::{MetadataExt as _, PermissionsExt as _},
    },
    path::{Path, PathBuf},
    process::Command,
    time::{Duration, Instant},
};

use rclaude_types::SealMethod;
use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};

use super::{
    super::{
        protocol::{Failure, FailureClass, While as _},
        template::is_root,
    },
    way,
};

/// A btrfs of less has hardly room for its own books.
const SMALLEST: u64 = 512 << 20;
const WHAT: &str = "set up the engine's own file system";
/// How long something in this process may still be busy in it when it is to go.
const PATIENCE: Duration = Duration::from_secs(3);

/// Makes sure that the engine's own file system is mounted, if it has one or is to have one of
/// `bytes`. Says whether it has one.
pub(in super::super) fn ensure(dir: &Path, bytes: Option<u64>) -> Result<bool, Failure> {
    let (image, point) = (dir.join("disk.img"), dir.join("disk"));
    if !image.exists() {
        let Some(bytes) = bytes else { return Ok(false) };
        if way::find(dir).during(WHAT)? == SealMethod::Btrfs {
            return Ok(false);
        }
        make(&image, bytes)?;
    }
    if !is_root() {
        let text = "only root can mount the engine's own file system (disk.img); run the server \
                    as root, or remove the file and the setting";
        return Err(Failure::new(FailureClass::Unsupported, text));
    }
    match fs::create_dir(&point) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(error).during(WHAT)?,
        _ => {}
    }
    if is_mounted(&point).during(WHAT)? {
        return Ok(true);
    }
    let (device, path) = match find(&image).during(WHAT)? {
        Some(found) => found,
        None => attach(&image).map_err(|error| no_loop(&error))?,
    };
    let flags = MountFlags::NOATIME | MountFlags::NOSUID | MountFlags::NODEV;
    mount(&path, &point, "btrfs", flags, c"user_subvol_rm_allowed").during(WHAT)?;
    drop(device);
    for kind in ["sandboxes", "layers", "trash"] {
        fs::create_dir_all(point.join(kind)).during(WHAT)?;
    }
    // As the engine's directory: others may pass through.
    fs::set_permissions(&point, fs::Permissions::from_mode(0o711)).during(WHAT)?;
    Ok(true)
}

/// Whether a process has it mounted where it lives.
pub(in super::super) fn is_seen_by(pid: u32, dir: &Path) -> bool {
    let mounts = fs::read_to_string(format!("/proc/{pid}/mountinfo")).unwrap_or_default();
    let point = dir.join("disk");
    mounts.lines().any(|line| line.split(' ').nth(4) == point.to_str())
}

/// Unmounts it, if it is mounted. The loop device goes once nobody uses it.
pub(in super::super) fn release(dir: &Path) -> io::Result<()> {
    let point = dir.join("disk");
    let begun = Instant::now();
    while point.exists() && is_mounted(&point)? {
        match unmount(&point, UnmountFlags::empty()) {
            Err(rustix::io::Errno::BUSY) if begun.elapsed() < PATIENCE => {
                std::thread::sleep(Duration::from_millis(20));
            }
            other => other?,
        }
    }
    Ok(())
}

fn make(image: &Path, bytes: u64) -> Result<(), Failure> {
    let refuse = |text: String| Err(Failure::new(FailureClass::Rejected, text));
    if bytes < SMALLEST {
        return refuse(format!("the engine's own file system needs {} MiB", SMALLEST >> 20));
    }
    let room = rustix::fs::statvfs(image.parent().unwrap_or(image)).during(WHAT)?;
    if bytes > room.f_bavail * room.f_frsize {
        // It would be told of room that is not there, and break when it uses it.
        return refuse(format!("the disk has no {} MiB for it", bytes >> 20));
    }
    let unfinished = image.with_extension("unfinished");
    let file = File::create(&unfinished).during(WHAT)?;
    file.set_permissions(fs::Permissions::from_mode(0o600)).during(WHAT)?;
    file.set_len(bytes).during(WHAT)?;
    match Command::new("mkfs.btrfs").args(["--quiet", "--force"]).arg(&unfinished).output() {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let text = "mkfs.btrfs is not installed; install btrfs-progs";
            return Err(Failure::new(FailureClass::Unsupported, text));
        }
        Err(error) => return Err(error).during(WHAT),
        Ok(run) if !run.status.success() => {
            let said = String::from_utf8_lossy(&run.stderr).trim().to_owned();
            return Err(Failure::new(FailureClass::Unexpected, format!("mkfs.btrfs: {said}")));
        }
        Ok(_) => {}
    }
    fs::rename(&unfinished, image).during(WHAT)
}

fn is_mounted(point: &Path) -> io::Result<bool> {
    let outside = point.parent().unwrap_or(point);
    Ok(fs::metadata(point)?.dev() != fs::metadata(outside)?.dev())
}

fn no_loop(error: &io::Error) -> Failure {
    let text = format!(
        "no loop device for the engine's own file system ({error}); `modprobe loop`, and in a \
         container give it /dev/loop-control and loop devices"
    );
    Failure::new(FailureClass::Unsupported, text)
}

/// `struct loop_info64` of `linux/loop.h`.
#[repr(C)]
struct Info {
    device: u64,
    inode: u64,
    numbers: [u64; 3],
    number: u32,
    encryption: [u32; 2],
    flags: u32,
    names: [u8; 64 + 64 + 32],
    rest: [u64; 2],
}

/// `struct loop_config`.
#[repr(C)]
struct Config {
    fd: u32,
    block_size: u32,
    info: Info,
    reserved: [u64; 8],
}

const GET_STATUS64: libc::c_ulong = 0x4c05;
const CONFIGURE: libc::c_ulong = 0x4c0a;
const CTL_GET_FREE: libc::c_ulong = 0x4c82;
const AUTOCLEAR: u32 = 4;

impl Info {
    fn empty() -> Self {
        Self {
            device: 0,
            inode: 0,
            numbers: [0; 3],
            number: 0,
            encryption: [0; 2],
            flags: 0,
            names: [0; 160],
            rest: [0; 2],
        }
    }
}

/// The loop device that has the image, opened.
fn find(image: &Path) -> io::Result<Option<(File, PathBuf)>> {
    let wanted = fs::metadata(image)?;
    for entry in fs::read_dir("/sys/block")? {
        let name = entry?.file_name();
        let path = Path::new("/dev").join(&name);
        let used = Path::new("/sys/block").join(&name).join("loop/backing_file").exists();
        if !used {
            continue;
        }
        let Ok(device) = File::options().read(true).write(true).open(&path) else { continue };
        let mut info = Info::empty();
        const { assert!(size_of::<Info>() == 232) };
        // SAFETY: the kernel writes one structure of the size asserted.
        let told = unsafe { libc::ioctl(device.as_raw_fd(), GET_STATUS64, &raw mut info) };
        if told == 0 && info.device == wanted.dev() && info.inode == wanted.ino() {
            return Ok(Some((device, path)));
        }
    }
    Ok(None)
}

/// Attaches the image to a free loop device.
fn attach(image: &Path) -> io::Result<(File, PathBuf)> {
    let control = File::options().read(true).write(true).open("/dev/loop-control")?;
    let file = File::options().read(true).write(true).open(image)?;
    loop {
        // SAFETY: takes nothing, answers a number.
        let number = unsafe { libc::ioctl(control.as_raw_fd(), CTL_GET_FREE) };
        if number < 0 {
            return Err(io::Error::last_os_error());
        }
        let path = PathBuf::from(format!("/dev/loop{number}"));
        let device = File::options().read(true).write(true).open(&path)?;
        let config = Config {
            fd: file.as_raw_fd().cast_unsigned(),
            block_size: 0,
            info: Info { flags: AUTOCLEAR, ..Info::empty() },
            reserved: [0; 8],
        };
        const { assert!(size_of::<Config>() == 304) };
        // SAFETY: the kernel only reads the structure of the size asserted.
        if unsafe { libc::ioctl(device.as_raw_fd(), CONFIGURE, &raw const config) } == 0 {
            return Ok((device, path));
        }
        let error = io::Error::last_os_error();
        // Somebody else took it first.
        if error.raw_os_error() != Some(libc::EBUSY) {
            return Err(error);
        }
    }
}
