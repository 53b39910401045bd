//! Parts of a state, laid over another.

use rclaude_sandbox::provider::{ErrorClass, Layering as _, SandboxProvider as _, SandboxSpec};
use rclaude_types::LayerId;

use super::view::Stack;
use crate::rig::{Rig, spec};

#[tokio::test]
async fn a_graft_shows_parts_of_one_state_over_another_and_nothing_else() {
    let rig = Rig::new().await;
    let sandbox = rig.sandbox().await;
    let line = "mkdir -p ~/.claude/projects ~/kept ~/gone; chmod 711 ~; cd ~/.claude; \
                echo one > projects/a; echo two > projects/b; echo old > ~/settings; \
                echo x > ~/gone/x; echo 1 > /workspace/file";
    rig.sh(&sandbox, line).await;
    let mut stack = Stack::default();
    stack.seal(&rig, &sandbox, false).await;
    rig.sh(&sandbox, "rm ~/.claude/projects/a; echo more >> ~/.claude/projects/b; rm -r ~/gone")
        .await;
    stack.seal(&rig, &sandbox, false).await;

    let other = rig.sandbox().await;
    let line = "mkdir -p ~/.claude/projects ~/kept ~/gone; echo 3 > ~/.claude/projects/c; \
                echo new > ~/settings; echo x > ~/gone/y; echo 2 > /workspace/file; echo x > ~/none";
    rig.sh(&other, line).await;
    let mut below = Stack::default();
    below.seal(&rig, &other, false).await;

    let graft = LayerId::generate();
    let paths = [
        "/home/agent/.claude/projects",
        "/home/agent/settings",
        "/home/agent/gone",
        "/home/agent/none",
        "/home/agent/.claude/projects/b",
    ];
    let paths = paths.map(Into::into);
    rig.provider.graft(&stack.0, &below.0, &paths, &graft).await.unwrap();
    let spec = SandboxSpec { stack: [vec![graft], below.0].concat(), ..spec() };
    let third = rig.provider.create(&spec).await.unwrap();
    let shown = rig
        .sh(&third, "cd ~; stat -c '%n %a %U' . .claude; ls -A . .claude/projects; cat .claude/projects/b settings /workspace/file")
        .await;
    assert_eq!(
        shown.out,
        ". 711 agent\n.claude 755 agent\n.:\n.bashrc\n.claude\n.profile\nkept\nsettings\n\n\
         .claude/projects:\nb\ntwo\nmore\nold\n2"
    );
    for sandbox in [&sandbox, &other, &third] {
        rig.provider.destroy(sandbox).await.unwrap();
    }

    let paths = ["/home/../etc".into()];
    let bad = rig.provider.graft(&stack.0, &[], &paths, &LayerId::generate()).await;
    assert!(matches!(bad.unwrap_err().class, ErrorClass::Rejected(_)));
    let missing = LayerId::generate();
    let bad = rig.provider.flatten(std::slice::from_ref(&missing), &LayerId::generate()).await;
    assert!(
        matches!(bad.unwrap_err().class, ErrorClass::Rejected(text) if text.contains(missing.as_str()))
    );
    rig.finish().await;
}

#[tokio::test]
async fn a_graft_of_nothing_takes_away_and_leaves_the_directories_on_the_way_as_they_were() {
    let rig = Rig::new().await;
    let sandbox = rig.sandbox().await;
    let line = "mkdir -p ~/.claude/projects; echo one > ~/.claude/projects/a; \
                echo kept > ~/.claude/settings; chmod 700 ~/.claude";
    rig.sh(&sandbox, line).await;
    let mut stack = Stack::default();
    stack.seal(&rig, &sandbox, false).await;

    let graft = LayerId::generate();
    let paths = ["/home/agent/.claude/projects".into()];
    rig.provider.graft(&[], &stack.0, &paths, &graft).await.unwrap();
    let spec = SandboxSpec { stack: [vec![graft], stack.0].concat(), ..spec() };
    let other = rig.provider.create(&spec).await.unwrap();
    let line = "cd ~; stat -c '%n %a %U' .claude; mkdir .claude/projects; ls -A .claude/projects; \
                cat .claude/settings";
    assert_eq!(rig.sh(&other, line).await.out, ".claude 700 agent\nkept");
    for sandbox in [&sandbox, &other] {
        rig.provider.destroy(sandbox).await.unwrap();
    }
    rig.finish().await;
}

#[tokio::test]
async fn a_graft_of_nothing_over_nothing_leaves_the_place_to_whoever_comes() {
    let rig = Rig::new().await;
    let graft = LayerId::generate();
    let paths = ["/home/agent/.claude/projects".into()];
    rig.provider.graft(&[], &[], &paths, &graft).await.unwrap();
    let sandbox = rig.provider.create(&SandboxSpec { stack: vec![graft], ..spec() }).await.unwrap();
    let line = "cd ~; test ! -e .claude && mkdir -p .claude/projects && ls -d .claude/projects";
    let made = rig.sh(&sandbox, line).await;
    assert_eq!((made.status, made.out.as_str()), (0, ".claude/projects"));
    rig.provider.destroy(&sandbox).await.unwrap();
    rig.finish().await;
}

#[tokio::test]
async fn what_is_gone_is_not_listed_where_nothing_lies_below() {
    let rig = Rig::new().await;
    let sandbox = rig.sandbox().await;
    rig.sh(&sandbox, "mkdir -p d/e; touch d/e/gone d/e/kept d/f").await;
    let mut stack = Stack::default();
    stack.seal(&rig, &sandbox, false).await;
    rig.sh(&sandbox, "rm d/e/gone d/f").await;
    stack.seal(&rig, &sandbox, false).await;
    let flat = LayerId::generate();
    rig.provider.flatten(&stack.0, &flat).await.unwrap();
    for stack in [stack.0, vec![flat]] {
        let fork = rig.provider.create(&SandboxSpec { stack, ..spec() }).await.unwrap();
        assert_eq!(rig.sh(&fork, "ls -R d").await.out, "d:\ne\n\nd/e:\nkept");
        rig.provider.destroy(&fork).await.unwrap();
    }
    rig.provider.destroy(&sandbox).await.unwrap();
    rig.finish().await;
}

#[tokio::test]
async fn a_state_may_have_two_hundred_layers() {
    let rig = Rig::new().await;
    let mut stack = Vec::new();
    for number in 0..200 {
        let layer = LayerId::generate();
        let workspace = rig.provider.draft(&layer).await.unwrap().join("workspace");
        std::fs::create_dir(&workspace).unwrap();
        std::os::unix::fs::chown(&workspace, Some(1000), Some(1000)).unwrap();
        std::fs::write(workspace.join(format!("file-{number}")), "x").unwrap();
        std::fs::write(workspace.join("last"), number.to_string()).unwrap();
        rig.provider.finish(&layer).await.unwrap();
        stack.insert(0, layer);
    }
    let deep = SandboxSpec { stack: stack.clone(), ..spec() };
    let sandbox = rig.provider.create(&deep).await.unwrap();
    assert_eq!(rig.sh(&sandbox, "ls | wc -l; cat last; echo x > new").await.out, "201\n199");
    rig.provider.destroy(&sandbox).await.unwrap();

    let into = LayerId::generate();
    rig.provider.flatten(&stack, &into).await.unwrap();
    let flat = SandboxSpec { stack: vec![into], ..spec() };
    let sandbox = rig.provider.create(&flat).await.unwrap();
    assert_eq!(rig.sh(&sandbox, "ls | wc -l; cat last").await.out, "201\n199");
    rig.provider.destroy(&sandbox).await.unwrap();

    let too_many = SandboxSpec { stack: vec![stack[0].clone(); 500], ..spec() };
    let refused = rig.provider.create(&too_many).await.unwrap_err();
    assert!(
        matches!(&refused.class, ErrorClass::Rejected(text) if text.contains("501")),
        "{refused}"
    );
    rig.finish().await;
}
