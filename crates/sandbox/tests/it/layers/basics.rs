//! From one seal to many, kept, found, removed.

use rclaude_sandbox::provider::{
    ErrorClass, Layering as _, Observed, Pausing as _, SandboxProvider as _, SandboxSpec, SeedFile,
};
use rclaude_types::{LayerId, SealMethod};

use super::view::{Stack, assert_same, view, view_of};
use crate::rig::{Rig, spec};

#[tokio::test]
async fn a_sealed_state_is_where_others_begin_and_the_live_one_goes_on() {
    let rig = Rig::new().await;
    super::disks::assert_method(rig.provider.method());
    let spec = SandboxSpec {
        files: vec![SeedFile {
            path: "/home/agent/seed".into(),
            content: b"first".to_vec(),
            mode: 0o600,
            uid: 1000,
        }],
        ..spec()
    };
    let sandbox = rig.provider.create(&spec).await.unwrap();
    rig.sh(&sandbox, "echo one > one; mkdir d; echo in > d/in; ln one two; echo own > ~/seed")
        .await;
    let mut stack = Stack::default();
    stack.seal(&rig, &sandbox, false).await;
    let first = (stack.clone(), view(&rig, &sandbox).await);
    rig.sh(&sandbox, "rm -r d; echo more >> two; mkdir -p e/f; rm ~/.bashrc").await;
    stack.seal(&rig, &sandbox, true).await;
    let second = (stack.clone(), view(&rig, &sandbox).await);
    let builds_on = if rig.provider.method() == SealMethod::Btrfs { 1 } else { 2 };
    assert_eq!(stack.0.len(), builds_on, "the second builds on the first");
    for (stack, wanted) in [&first, &second] {
        assert_same(&view_of(&rig, &spec, &stack.0).await, wanted, "a new sandbox");
    }
    assert_eq!(rig.provider.inspect(&sandbox).await.unwrap(), Observed::Running);

    // One that stands on a state and is sealed itself begins a stack of its own on that.
    let fork = SandboxSpec { id: crate::rig::spec().id, stack: stack.0.clone(), ..spec.clone() };
    let forked = rig.provider.create(&fork).await.unwrap();
    assert_eq!(
        rig.sh(&forked, "cat one e/f/x ~/seed; echo 2 > e/f/x").await.out,
        "one\nmore\nown\ncat: e/f/x: No such file or directory"
    );
    let layer = LayerId::generate();
    let sealed = rig.provider.seal(&forked, &layer, stack.0.first()).await.unwrap();
    assert!(sealed.whole, "another sandbox's layer is nothing to build on");
    let whole = [vec![layer], stack.0.clone()].concat();
    assert_same(&view_of(&rig, &spec, &whole).await, &view(&rig, &forked).await, "a fork's fork");

    rig.provider.stop(&forked).await.unwrap();
    rig.provider.resume(&forked).await.unwrap();
    assert_eq!(rig.sh(&forked, "cat e/f/x").await.out, "2");
    for sandbox in [&sandbox, &forked] {
        rig.provider.destroy(sandbox).await.unwrap();
    }
    rig.finish().await;
}

#[tokio::test]
async fn layers_are_found_filled_by_others_and_removed() {
    let rig = Rig::new().await;
    let layer = LayerId::generate();
    assert_eq!(rig.provider.layer(&layer).await.unwrap(), None);
    let draft = rig.provider.draft(&layer).await.unwrap();
    std::fs::create_dir(draft.join("workspace")).unwrap();
    std::os::unix::fs::chown(draft.join("workspace"), Some(1000), Some(1000)).unwrap();
    std::fs::write(draft.join("workspace/file"), "restored").unwrap();
    assert_eq!(rig.provider.layer(&layer).await.unwrap(), None, "not before it is finished");
    assert_eq!(rig.provider.layers(false).await.unwrap(), [(layer.clone(), 0)]);
    rig.provider.finish(&layer).await.unwrap();
    rig.provider.finish(&layer).await.unwrap();
    assert!(rig.provider.layer(&layer).await.unwrap().unwrap().join("workspace/file").exists());
    assert!(rig.provider.layers(true).await.unwrap()[0].1 >= 4096);

    let spec = SandboxSpec { stack: vec![layer.clone()], ..spec() };
    let sandbox = rig.provider.create(&spec).await.unwrap();
    assert_eq!(rig.sh(&sandbox, "cat file").await.out, "restored");
    assert!(rig.provider.disk_bytes(&sandbox).await.unwrap() < 100_000);
    rig.sh(&sandbox, "head -c 1000000 /dev/urandom > big").await;
    assert!(rig.provider.disk_bytes(&sandbox).await.unwrap() > 1_000_000);
    // What has no index gives nothing to compare with.
    let next = LayerId::generate();
    let sealed = rig.provider.seal(&sandbox, &next, Some(&layer)).await.unwrap();
    assert!(sealed.whole && sealed.bytes >= 1_000_000, "{sealed:?}");
    rig.provider.destroy(&sandbox).await.unwrap();

    for layer in [&layer, &next, &layer] {
        rig.provider.remove_layer(layer).await.unwrap();
    }
    assert_eq!(rig.provider.layers(true).await.unwrap(), []);
    let error = rig.provider.create(&spec).await.unwrap_err();
    assert!(matches!(&error.class, ErrorClass::Rejected(text) if text.contains(layer.as_str())));
    assert!(rig.provider.finish(&layer).await.is_err());
    rig.finish().await;
}
