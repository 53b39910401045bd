//! Commands in a session, and what changed in it.

use std::{fs, io::Write, process::Stdio};

use rclaude_types::{ExecFrame, SessionDiff};

use super::{lines, one};
use crate::platform::{Platform, git, repository};

#[tokio::test(flavor = "multi_thread")]
async fn a_command_runs_as_if_it_ran_here() {
    let platform = Platform::start().await;
    platform.done(&["start", "--name", "box", "-e", "FROM=session"]).await;
    platform.done(&["start", "--name", "rooted", "--allow-root"]).await;
    let sh = |text: &'static str| ["exec", "box", "--", "sh", "-c", text];
    let both = platform.run(&sh("echo out; echo err >&2; exit 7")).await;
    assert_eq!((both.code, &*both.stdout, &*both.stderr), (Some(7), "out\n", "err\n"));
    assert_eq!(platform.run(&sh("kill -KILL $$")).await.code, Some(137));
    assert_eq!(platform.run(&sh("kill -TERM $$")).await.code, Some(143));

    let placed =
        ["exec", "--cwd", "/tmp", "-e", "A=b c", "box", "--", "sh", "-c", "pwd; echo $A $FROM"];
    assert_eq!(platform.run(&placed).await.stdout, "/tmp\nb c session\n");
    assert_eq!(platform.run(&sh("pwd; id -un")).await.stdout, "/workspace\nagent\n");
    let slow = platform.run(&["exec", "--timeout", "1s", "box", "--", "sleep", "60"]).await;
    assert_eq!(slow.code, Some(143));
    assert!(slow.stderr.contains("took longer than 1s"), "{slow:?}");

    // Bytes as they are, both ways, and more of them than any buffer holds.
    let mut input = vec![0_u8; 5 << 20];
    for (place, byte) in input.iter_mut().enumerate() {
        *byte = u8::try_from((place * 7 + place / 251) % 256).unwrap();
    }
    let (code, out, stderr) = platform.feed(&["exec", "box", "--", "cat"], input.clone()).await;
    assert_eq!(code, Some(0), "{stderr}");
    assert!(out == input, "{} of {} bytes came back", out.len(), input.len());
    let (code, out, _) = platform.feed(&["exec", "-n", "box", "--", "cat"], input.clone()).await;
    assert_eq!((code, out.len()), (Some(0), 0), "-n passes nothing on");
    let (code, out, _) = platform.feed(&["exec", "box", "--", "head", "-c", "3"], input).await;
    assert_eq!((code, out.len()), (Some(0), 3), "a command need not read it all");

    let frames: Vec<ExecFrame> =
        lines(&platform.run(&["exec", "--json", "box", "--", "echo", "x"]).await);
    assert!(matches!(frames.first(), Some(ExecFrame::Started { .. })), "{frames:?}");
    assert!(matches!(frames.last(), Some(ExecFrame::Exited { code: Some(0), .. })), "{frames:?}");

    let root = platform.run(&["exec", "--root", "rooted", "--", "id", "-u"]).await;
    assert_eq!((root.code, &*root.stdout), (Some(0), "0\n"), "{root:?}");
    let refused = platform.run(&["exec", "--root", "box", "--", "id", "-u"]).await;
    assert_eq!((refused.code, &*refused.stdout), (Some(5), ""));
    assert!(refused.stderr.contains("--allow-root"), "{refused:?}");
    let nothing = platform.run(&["exec", "box", "--", "no-such-program"]).await;
    assert_eq!((nothing.code, &*nothing.stdout), (Some(4), ""));
    assert!(nothing.stderr.contains("no-such-program"), "{nothing:?}");
    platform.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn output_is_shown_while_the_command_runs() {
    let platform = Platform::start().await;
    platform.done(&["start", "--name", "box"]).await;
    let text = "echo begun; read line; echo got $line";
    let mut command = platform.cli(&["exec", "box", "--", "sh", "-c", text]);
    command.stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let talk = move || {
        use std::io::{BufRead, BufReader, Read};
        let mut out = BufReader::new(child.stdout.take().unwrap());
        let mut line = String::new();
        out.read_line(&mut line).unwrap();
        assert_eq!(line, "begun\n");
        child.stdin.take().unwrap().write_all(b"word\n").unwrap();
        line.clear();
        out.read_to_string(&mut line).unwrap();
        assert_eq!(line, "got word\n");
        assert!(child.wait().unwrap().success());
    };
    tokio::task::spawn_blocking(talk).await.unwrap();
    platform.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_diff_is_for_reading_for_counting_and_for_git() {
    let platform = Platform::start().await;
    let dir = platform.scratch().join("repo");
    let repo = repository(&dir, &[("a.txt", "one\n"), ("gone.txt", "gone\n")]);
    platform.done(&["start", "--name", "fix", "--repo", &repo]).await;
    platform.done(&["start", "--name", "bare"]).await;
    let none = platform.done(&["diff", "fix"]).await;
    assert_eq!(none.stdout, "", "{none:?}");
    assert!(none.stderr.contains("no changes"), "{none:?}");
    let bare = platform.done(&["diff", "bare"]).await;
    assert!(bare.stderr.contains("no repository"), "{bare:?}");

    let change = "echo two >> a.txt; rm gone.txt; head -c 5000 /dev/urandom > random.bin; \
                  printf 'caf\\351\\n' > latin1.txt; mkdir d; echo deep > 'd/with space.txt'";
    platform.done(&["exec", "fix", "--", "sh", "-c", change]).await;
    let stat = platform.done(&["diff", "fix", "--stat"]).await.stdout;
    assert!(stat.contains(" random.bin       | bin") && stat.contains("5 files changed"), "{stat}");
    let full: SessionDiff = one(&platform.done(&["diff", "fix", "--json"]).await);
    assert_eq!(full.stat.files.len(), 5);
    assert!(full.patch.is_none() && full.patch_base64.is_some(), "it is not all UTF-8");
    let counts: SessionDiff = one(&platform.done(&["diff", "fix", "--stat", "--json"]).await);
    assert_eq!((counts.stat, counts.patch_base64), (full.stat, None));

    let (code, patch, _) = platform.feed(&["diff", "fix", "--patch"], Vec::new()).await;
    assert_eq!(code, Some(0));
    assert_eq!(platform.feed(&["diff", "fix"], Vec::new()).await.1, patch);
    fs::write(platform.scratch().join("patch"), patch).unwrap();
    git(&dir, &["apply", "../patch"]);
    for file in ["a.txt", "random.bin", "latin1.txt", "d/with space.txt"] {
        let (_, inside, _) = platform.feed(&["exec", "fix", "--", "cat", file], Vec::new()).await;
        assert!(fs::read(dir.join(file)).unwrap() == inside, "{file} differs");
    }
    assert!(!dir.join("gone.txt").exists());
    platform.end().await;
}
