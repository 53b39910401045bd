//! Without privilege: weaker, but walled. The same engine, run by a user who may do nothing.

use std::{
    os::unix::{fs::chown, process::CommandExt as _},
    process::Command,
};

use rclaude_sandbox::provider::{
    ErrorClass, Kept, Layering as _, Observed, Outbound as _, Pausing as _, SandboxProvider as _,
    SandboxSpec,
};
use rclaude_types::LayerId;
use tokio::io::AsyncWriteExt as _;

use crate::rig::{Rig, kill, spec, supervisor_of};

/// A user who owns nothing else here.
const USER: u32 = 54_321;

/// Runs this very test again as [`USER`] when it is run as root.
#[tokio::test]
async fn a_user_without_privilege_gets_sandboxes_too() {
    if rustix::process::geteuid().is_root() {
        let home = tempfile::tempdir().unwrap();
        chown(home.path(), Some(USER), Some(USER)).unwrap();
        // Where programs were built need not be open to others, so they come along.
        let programs = ["it", "rclaude-test-supervisor", "rclaude-test-daemon"];
        let sources = [
            std::env::current_exe().unwrap(),
            env!("CARGO_BIN_EXE_rclaude-test-supervisor").into(),
            env!("CARGO_BIN_EXE_rclaude-test-daemon").into(),
        ];
        for (name, source) in programs.iter().zip(sources) {
            std::fs::copy(source, home.path().join(name)).unwrap();
        }
        let output = Command::new(home.path().join("it"))
            .args(["--exact", "rootless::a_user_without_privilege_gets_sandboxes_too"])
            .env("TMPDIR", home.path())
            .current_dir(home.path())
            .uid(USER)
            .gid(USER)
            .output()
            .unwrap();
        let text = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success() && text.contains("1 passed"), "{text}");
        return;
    }
    let programs = std::env::current_exe().unwrap();
    let rig = Rig::with_programs(programs.parent().unwrap()).await;
    let sandbox = rig.sandbox().await;
    let outcome =
        rig.sh(&sandbox, "id -un; cat /proc/self/uid_map | tr -s ' '; echo x > file").await;
    assert_eq!(outcome.out, "agent\n 1000 0 1");
    for (what, error) in [
        ("mount=/mnt", "1"),
        ("unshare_user", "1"),
        ("open_read=/etc/shadow", "2"),
        // The daemon's file belongs to the same user here; it may not be opened all the same.
        ("open_write=/proc/1/exe", "13"),
        ("create=/usr/x", "30"),
    ] {
        assert_eq!(rig.attempt(&sandbox, 1000, what).await, error, "{what}");
    }
    let sockets = rig.provider.sockets(&sandbox).await.unwrap();
    let line = "exec 3<>/dev/tcp/203.0.113.7/4444; head -c 2 <&3";
    let dialled = rig.begin(&sandbox, 1000, &["bash", "-c", line]);
    let (mut connection, _) = sockets.tcp[0].accept().await.unwrap();
    connection.write_all(b"hi").await.unwrap();
    assert_eq!(dialled.await.unwrap().out, "hi");
    // A user who may make no cgroups gets pauses that keep the disk, and is told so beforehand.
    assert_eq!(rig.provider.keeps(), Kept::Disk);
    let refused = rig.provider.freeze(&sandbox).await.unwrap_err();
    assert!(matches!(refused.class, ErrorClass::Unsupported(_)), "{refused}");
    kill(supervisor_of(&rig.path())).await;
    assert_eq!(rig.provider.inspect(&sandbox).await.unwrap(), Observed::Running);
    rig.provider.stop(&sandbox).await.unwrap();
    rig.provider.resume(&sandbox).await.unwrap();
    assert_eq!(rig.sh(&sandbox, "cat file; mkdir -m 0 closed").await.out, "x");
    // What it may not read itself is kept all the same.
    let line = "echo y > closed-file; chmod 0 closed-file; chmod 755 closed; echo z > closed/in; \
                chmod 0 closed/in; chmod 0 closed; rm ~/.profile";
    rig.sh(&sandbox, line).await;
    let [first, second, flat] = [(); 3].map(|()| LayerId::generate());
    rig.provider.prepare_seal(&sandbox, &first, None).await.unwrap();
    assert!(rig.provider.seal(&sandbox, &first, None).await.unwrap().whole);
    rig.sh(&sandbox, "rm file; echo more > other").await;
    assert!(!rig.provider.seal(&sandbox, &second, Some(&first)).await.unwrap().whole);
    rig.provider.flatten(&[second.clone(), first.clone()], &flat).await.unwrap();
    for stack in [vec![second.clone(), first.clone()], vec![flat.clone()]] {
        let fork = rig.provider.create(&SandboxSpec { stack, ..spec() }).await.unwrap();
        let line = "stat -c '%a %n' *; chmod 755 closed closed-file; chmod 644 closed/in; \
                    cat closed-file closed/in other; ls ~/.profile";
        let found = rig.sh(&fork, line).await.out;
        let wanted = "0 closed\n0 closed-file\n644 other\ny\nz\nmore\nls: ";
        assert!(found.starts_with(wanted), "{found}");
        rig.provider.destroy(&fork).await.unwrap();
    }
    for layer in [&first, &second, &flat] {
        rig.provider.remove_layer(layer).await.unwrap();
    }
    rig.provider.destroy(&sandbox).await.unwrap();
    assert_eq!(rig.provider.list().await.unwrap(), []);
    rig.finish().await;
}
