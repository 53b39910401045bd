//! From create to destroy.

use rclaude_sandbox::provider::{
    Capabilities, ErrorClass, Kept, Layering as _, Observed, Pausing as _, ReadOnlyBind,
    SandboxProvider as _, SandboxRef, SandboxSpec, SeedFile,
};

use crate::rig::{Rig, spec};

#[tokio::test]
async fn a_sandbox_runs_commands_as_the_agent_and_leaves_nothing() {
    let rig = Rig::new().await;
    let sandbox = rig.sandbox().await;
    let outcome = rig.sh(&sandbox, "id -u; id -gn; pwd; ls -d /home/*").await;
    assert_eq!(outcome.out, "1000\nagent\n/workspace\n/home/agent\n/home/user");
    assert_eq!(rig.provider.inspect(&sandbox).await.unwrap(), Observed::Running);
    assert_ne!(crate::rig::cgroups_of(&sandbox.0), 0);
    rig.provider.destroy(&sandbox).await.unwrap();
    assert_eq!(crate::rig::cgroups_of(&sandbox.0), 0);
    assert_eq!(rig.provider.inspect(&sandbox).await.unwrap(), Observed::Absent);
    rig.provider.destroy(&sandbox).await.unwrap();
    rig.finish().await;
}

#[tokio::test]
async fn creating_twice_adopts_the_first() {
    let rig = Rig::new().await;
    let spec = spec();
    let (first, second) = tokio::join!(rig.provider.create(&spec), rig.provider.create(&spec));
    let sandbox = first.unwrap();
    assert_eq!(second.unwrap(), sandbox);
    rig.sh(&sandbox, "echo kept > file").await;
    assert_eq!(rig.provider.create(&spec).await.unwrap(), sandbox);
    assert_eq!(rig.sh(&sandbox, "cat file").await.out, "kept");
    assert_eq!(rig.provider.find(&spec.id).await.unwrap(), Some(sandbox.clone()));
    assert_eq!(rig.provider.list().await.unwrap().len(), 1);
    rig.provider.destroy(&sandbox).await.unwrap();
    rig.finish().await;
}

#[tokio::test]
async fn stopping_ends_processes_and_keeps_files_and_their_owners() {
    let rig = Rig::new().await;
    let sandbox = rig.sandbox().await;
    rig.sh(&sandbox, "echo mine > file; sleep 1000 >/dev/null 2>&1 &").await;
    rig.run(&sandbox, 0, &["sh", "-c", "echo roots > /var/lib/agentd/x"]).await;
    rig.provider.stop(&sandbox).await.unwrap();
    assert_eq!(rig.provider.inspect(&sandbox).await.unwrap(), Observed::Stopped);
    assert!(rig.provider.dial(&sandbox).await.is_err());
    rig.provider.stop(&sandbox).await.unwrap();
    assert_eq!(rig.provider.resume(&sandbox).await.unwrap(), sandbox);
    assert_eq!(rig.provider.resume(&sandbox).await.unwrap(), sandbox);
    let outcome = rig.sh(&sandbox, "cat file; stat -c %U:%G file; pgrep sleep").await;
    assert_eq!(outcome.out, "mine\nagent:agent");
    let outcome = rig.run(&sandbox, 0, &["stat", "-c", "%U", "/var/lib/agentd/x"]).await;
    assert_eq!(outcome.out, "root");
    rig.provider.destroy(&sandbox).await.unwrap();
    rig.finish().await;
}

#[tokio::test]
async fn layers_binds_and_seed_files_are_where_they_were_asked_for() {
    let rig = Rig::new().await;
    let host = tempfile::tempdir().unwrap();
    for (path, text) in [
        ("upper/workspace/both", "upper"),
        ("lower/workspace/both", "lower"),
        ("lower/workspace/one", "1"),
    ] {
        let path = host.path().join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }
    for layer in ["upper", "lower"] {
        let workspace = host.path().join(layer).join("workspace");
        std::os::unix::fs::chown(workspace, Some(1000), Some(1000)).unwrap();
    }
    std::fs::create_dir(host.path().join("bound")).unwrap();
    std::fs::write(host.path().join("bound/file"), "bound").unwrap();
    let spec = SandboxSpec {
        layers: vec![host.path().join("upper"), host.path().join("lower")],
        binds: vec![ReadOnlyBind {
            source: host.path().join("bound"),
            target: "/opt/rclaude/agents/some/deep".into(),
        }],
        files: vec![SeedFile {
            path: "/home/agent/.config/settings".into(),
            content: b"seed".to_vec(),
            mode: 0o600,
            uid: 1000,
        }],
        ..spec()
    };
    let sandbox = rig.provider.create(&spec).await.unwrap();
    let outcome = rig
        .sh(
            &sandbox,
            "cat both one /opt/rclaude/agents/some/deep/file /home/agent/.config/settings; echo; \
             stat -c %U:%a /home/agent /home/agent/.config /home/agent/.config/settings /workspace; \
             echo x > new && rm one && ls; echo x > /opt/rclaude/agents/some/deep/file",
        )
        .await;
    assert_eq!(
        outcome.out,
        "upper1boundseed\nagent:750\nagent:755\nagent:600\nagent:755\nboth\nnew\n\
         sh: 1: cannot create /opt/rclaude/agents/some/deep/file: Read-only file system"
    );
    rig.provider.destroy(&sandbox).await.unwrap();
    assert_eq!(std::fs::read_to_string(host.path().join("lower/workspace/one")).unwrap(), "1");
    rig.finish().await;
}

#[tokio::test]
async fn what_cannot_be_is_refused_with_a_reason() {
    let rig = Rig::new().await;
    let unknown = SandboxSpec { template: "moon".to_owned(), ..spec() };
    let error = rig.provider.create(&unknown).await.unwrap_err();
    assert!(matches!(&error.class, ErrorClass::Rejected(text) if text.contains("moon")), "{error}");
    assert_eq!(rig.provider.list().await.unwrap(), []);

    let gone = SandboxSpec { layers: vec!["/no/such/layer".into()], ..spec() };
    let error = rig.provider.create(&gone).await.unwrap_err();
    assert!(matches!(&error.class, ErrorClass::Rejected(text) if text.contains("/no/such/layer")));
    assert_eq!(crate::rig::cgroups_of(gone.id.as_str()), 0, "a failed start leaves no cgroup");
    rig.provider.destroy(&SandboxRef(gone.id.to_string())).await.unwrap();

    let nobody = SandboxRef("sbx_x".to_owned());
    assert_eq!(rig.provider.inspect(&nobody).await.unwrap(), Observed::Absent);
    rig.provider.destroy(&nobody).await.unwrap();
    assert!(rig.provider.resume(&nobody).await.is_err());
    let capabilities = Capabilities::of(&rig.provider);
    assert_eq!(
        capabilities,
        Capabilities {
            pause: Some(Kept::Memory),
            layers: Some(rig.provider.method()),
            outbound: true
        }
    );
    rig.finish().await;
}

#[tokio::test]
async fn twenty_at_once_are_twenty_apart() {
    let rig = Rig::new().await;
    let specs: Vec<_> = (0..20).map(|_| spec()).collect();
    let created =
        futures::future::join_all(specs.iter().map(|spec| rig.provider.create(spec))).await;
    let sandboxes: Vec<_> = created.into_iter().map(Result::unwrap).collect();
    let orders = sandboxes.iter().map(|sandbox| {
        rig.sh(sandbox, "ls; touch x; cut -d' ' -f 8- /proc/self/uid_map; cat /proc/self/uid_map")
    });
    let mut tables: Vec<_> =
        futures::future::join_all(orders).await.into_iter().map(|outcome| outcome.out).collect();
    tables.sort();
    tables.dedup();
    assert_eq!(tables.len(), 20, "every sandbox has users of its own: {tables:?}");
    let ends = sandboxes.iter().map(|sandbox| rig.provider.destroy(sandbox));
    for end in futures::future::join_all(ends).await {
        end.unwrap();
    }
    assert_eq!(rig.provider.list().await.unwrap(), []);
    rig.finish().await;
}
