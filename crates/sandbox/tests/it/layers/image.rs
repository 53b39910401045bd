//! A file system of the engine's own.
#![expect(clippy::unwrap_used, reason = "what breaks in a helper breaks the test that called")]

use std::path::Path;

use rclaude_sandbox::provider::{
    ErrorClass, Layering as _, Observed, SandboxProvider as _, SandboxSpec,
};
use rclaude_types::{LayerId, SealMethod};

use super::disks::in_own_mounts;
use crate::rig::{Rig, kill, spec, supervisor_of};

const INSIDE: &str = "RCLAUDE_TEST_IN_OWN_MOUNTS";
const SIZE: u64 = 1 << 30;

/// Runs itself again where what it mounts is seen by nobody else.
#[tokio::test]
async fn it_is_made_found_again_and_unmounted() {
    if std::env::vars().all(|(name, _)| name != INSIDE) {
        let name = "layers::image::it_is_made_found_again_and_unmounted";
        let inside = [(INSIDE, "1".to_owned())];
        in_own_mounts("exec \"$@\"", &["--exact", name], &inside);
        return;
    }
    let rig = Rig::with_image(SIZE).await;
    assert_eq!(rig.provider.method(), SealMethod::Btrfs);
    let sandbox = rig.sandbox().await;
    rig.sh(&sandbox, "echo kept > file").await;
    let layer = LayerId::generate();
    let sealed = rig.provider.seal(&sandbox, &layer, None).await.unwrap();
    assert!(sealed.whole && sealed.bytes > 0, "{sealed:?}");
    assert_eq!(loops_of(&rig.path()).len(), 1);

    // Another server on the directory, and another supervisor, find what there is.
    kill(supervisor_of(&rig.path())).await;
    let later = rig.reopened().await;
    assert_eq!(later.inspect(&sandbox).await.unwrap(), Observed::Running);
    let on_it = SandboxSpec { stack: vec![layer.clone()], ..spec() };
    let fork = later.create(&on_it).await.unwrap();
    assert_eq!(rig.sh(&fork, "cat file").await.out, "kept");
    assert_eq!(loops_of(&rig.path()).len(), 1, "never two");

    let refused = later.unmount().await.unwrap_err();
    assert!(matches!(refused.class, ErrorClass::Rejected(_)), "{refused}");
    for sandbox in [&sandbox, &fork] {
        later.destroy(sandbox).await.unwrap();
    }
    later.unmount().await.unwrap();
    until_none(&rig.path()).await;
    let again = rig.reopened().await;
    assert!(again.layer(&layer).await.unwrap().is_some(), "mounted again");
    again.remove_layer(&layer).await.unwrap();
    assert_eq!(again.layers(true).await.unwrap(), []);
    again.unmount().await.unwrap();
    until_none(&rig.path()).await;
}

/// The loop devices with a file of the engine's.
fn loops_of(engine: &Path) -> Vec<String> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir("/sys/block").unwrap() {
        let file = entry.unwrap().path().join("loop/backing_file");
        let text = std::fs::read_to_string(file).unwrap_or_default();
        if Path::new(text.trim()).starts_with(engine) {
            found.push(text);
        }
    }
    found
}

async fn until_none(engine: &Path) {
    let mut tries = 0..400;
    while !loops_of(engine).is_empty() {
        assert!(tries.next().is_some(), "the loop device stays");
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
}
