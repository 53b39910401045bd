//! The same on the file systems that checkpoints are quicker on.
#![expect(clippy::unwrap_used, reason = "what breaks in a helper breaks the test that called")]

use std::{path::Path, process::Command};

use rclaude_types::SealMethod;

/// Tells the tests that run on another disk which method they must find there.
const METHOD: &str = "RCLAUDE_TEST_METHOD";

/// Fails if another method was found than the disk was made for.
pub(super) fn assert_method(found: SealMethod) {
    let wanted = std::env::vars().find(|(name, _)| name == METHOD);
    if let Some((_, wanted)) = wanted {
        assert_eq!(format!("{found:?}"), wanted);
    }
}

#[test]
fn on_xfs_blocks_are_shared() {
    everything_on("xfs", SealMethod::Reflink);
}

#[test]
fn on_btrfs_a_snapshot_is_taken() {
    everything_on("btrfs", SealMethod::Btrfs);
}

#[expect(clippy::print_stdout, reason = "a test that checks less must say so")]
fn say_less(what: &str) {
    println!("CHECKED LESS: {what}");
}

/// Runs the other tests of layers once more, with a disk of this kind for all temporary files,
/// in a mount namespace of their own with which the disk goes.
fn everything_on(kind: &str, method: SealMethod) {
    let script = "truncate -s 3G disk.img && mkdir disk && mkfs.$KIND -q disk.img && \
                  mount -o loop,noatime disk.img disk && chmod 755 disk && \
                  TMPDIR=$PWD/disk exec \"$@\"";
    let arguments =
        ["layers::", "--skip", "layers::disks::", "--skip", "layers::image::", "--test-threads=1"];
    let variables = [
        ("KIND", kind.to_owned()),
        (METHOD, format!("{method:?}")),
        ("PROPTEST_CASES", "3".to_owned()),
    ];
    in_own_mounts(script, &arguments, &variables);
}

/// Runs tests of this program in a mount namespace of their own, prepared by `script`.
pub(super) fn in_own_mounts(script: &str, arguments: &[&str], variables: &[(&str, String)]) {
    if !rustix::process::geteuid().is_root() || !Path::new("/dev/loop-control").exists() {
        say_less(&format!("{arguments:?} was not run, for want of root or of loop devices"));
        return;
    }
    let home = tempfile::tempdir().unwrap();
    let output = Command::new("unshare")
        .args(["--mount", "--propagation", "private", "sh", "-c", script, "sh"])
        .arg(std::env::current_exe().unwrap())
        .args(arguments)
        .envs(variables.iter().cloned())
        .current_dir(home.path())
        .output()
        .unwrap();
    let text = [output.stdout, output.stderr].concat();
    let text = String::from_utf8_lossy(&text);
    let ran = text.contains("test result: ok.") && !text.contains(" 0 passed");
    assert!(output.status.success() && ran, "{text}");
}
