//! Repositories as layers, with the real git and real overlay mounts.

mod disk;
mod host;

use std::{
    ffi::OsStr,
    fs,
    os::unix::{
        ffi::OsStrExt,
        fs::{PermissionsExt, symlink},
    },
    path::Path,
    process::Command,
    time::Duration,
};

use rclaude_server::repo::{Checkout, PrepareOptions, RepoCache, RepoError, diff};
use rclaude_types::{DiffFormat, ErrorCode, RepositorySource, Timestamp};
use tempfile::TempDir;

use self::{
    disk::Disk,
    host::{Repo, forge, git_in},
};

fn source(url: impl AsRef<OsStr>) -> RepositorySource {
    let url = url.as_ref().to_str().unwrap().to_owned();
    RepositorySource { url, branch: None, include_uncommitted: false }
}

fn at(repo: &Repo, branch: &str) -> RepositorySource {
    RepositorySource { branch: Some(branch.to_owned()), ..source(&repo.dir) }
}

fn uncommitted(repo: &Repo) -> RepositorySource {
    RepositorySource { include_uncommitted: true, ..source(&repo.dir) }
}

fn cache(dir: &TempDir) -> RepoCache {
    RepoCache::new(dir.path().join("repos"), "git").unwrap()
}

async fn prepare(cache: &RepoCache, source: &RepositorySource) -> Result<Checkout, RepoError> {
    cache.prepare(source, &PrepareOptions::new("test"), &mut |_| ()).await
}

#[tokio::test]
async fn a_repository_on_another_disk_than_the_servers_data_is_copied() {
    let dir = TempDir::new().unwrap();
    let elsewhere = TempDir::new_in("/dev/shm").unwrap();
    let repo = Repo::new(&elsewhere.path().join("repo"));
    repo.write("first", "1\n");
    repo.commit("one");
    let checkout = prepare(&cache(&dir), &source(&repo.dir)).await.unwrap();
    assert!(checkout.base_commit.is_some());
}

#[tokio::test]
async fn a_session_starts_clean_with_all_history_and_keeps_its_commits_to_itself() {
    let dir = TempDir::new().unwrap();
    let repo = Repo::new(&dir.path().join("repo"));
    repo.write("first", "1\n");
    repo.commit("one");
    repo.git(&["tag", "-a", "v1", "-m", "v1"]);
    repo.import(3000, |n| format!("{n}\n"));
    repo.write("run.sh", "#!/bin/sh\n");
    fs::set_permissions(repo.dir.join("run.sh"), fs::Permissions::from_mode(0o755)).unwrap();
    symlink("run.sh", repo.dir.join("link")).unwrap();
    symlink("/nowhere", repo.dir.join("dangling")).unwrap();
    repo.write("-dash", "-");
    repo.write("new\nline", "x");
    repo.write(Path::new(OsStr::from_bytes(b"latin-\xe9")), "y");
    repo.git(&["add", "--ignore-removal", "."]);
    repo.git(&["commit", "-qm", "two"]);
    let tip = repo.git(&["rev-parse", "HEAD"]);

    let checkout = prepare(&cache(&dir), &source(&repo.dir)).await.unwrap();
    assert_eq!(checkout.base_commit.as_deref(), Some(tip.as_str()));
    assert_eq!(checkout.branch, "rclaude/test");
    assert_eq!(checkout.base_branch.as_deref(), Some("main"));
    let disk = Disk::new(&checkout);
    assert_eq!(disk.sh("git status --porcelain; git stash list"), "");
    assert_eq!(disk.sh("git branch --show-current"), "rclaude/test\n");
    assert_eq!(disk.sh("git log --format=%s origin/main"), "two\nbulk\none\n");
    assert_eq!(disk.sh("git describe --tags main~2; git diff --stat main v1~0 -- first"), "v1\n");
    assert_eq!(disk.sh("git rev-parse --abbrev-ref origin/HEAD"), "origin/main\n");
    assert_eq!(disk.sh("git fsck --connectivity-only --no-dangling 2>&1"), "");
    assert_eq!(disk.sh("readlink link dangling; test -x run.sh && ./link"), "run.sh\n/nowhere\n");
    let config = disk.sh("cat .git/config; cat .git/packed-refs .git/objects/info/alternates");
    assert!(!config.contains(&dir.path().display().to_string()), "no path of the host: {config}");
    // Nothing has to be read to know that nothing changed: not even what cannot be.
    assert_eq!(
        disk.sh("chmod a-r dir7/* run.sh; git status --porcelain; chmod a+r dir7/* run.sh"),
        ""
    );

    disk.sh("echo more >> first; git add -A; git commit -qm three; echo new > untracked");
    assert_eq!(disk.sh("git log --format=%s -2; git status --short"), "three\ntwo\n?? untracked\n");
    assert_eq!(disk.sh("git gc -q; git log --format=%s | wc -l"), "4\n");
    assert_eq!(repo.git(&["log", "--format=%s"]), "two\nbulk\none", "the host's is untouched");
}

#[tokio::test]
async fn an_edit_of_the_same_size_right_after_the_start_is_seen() {
    let dir = TempDir::new().unwrap();
    let repo = Repo::new(&dir.path().join("repo"));
    repo.write("file", "aaaa");
    repo.commit("one");
    let checkout = prepare(&cache(&dir), &source(&repo.dir)).await.unwrap();
    let disk = Disk::new(&checkout);
    assert_eq!(disk.sh("printf bbbb > file; git status --short"), " M file\n");
}

#[tokio::test]
async fn sessions_of_two_commits_prepared_at_once_all_get_theirs() {
    let dir = TempDir::new().unwrap();
    let repo = Repo::new(&dir.path().join("repo"));
    repo.write("file", "one");
    let one = repo.commit("one");
    repo.import(300, |n| format!("{n}\n"));
    let two = repo.git(&["rev-parse", "main"]);
    let cache = cache(&dir);
    let work = (0..8).map(|n| {
        let (cache, wanted) = (cache.clone(), at(&repo, [&one, &two][n % 2]));
        async move { prepare(&cache, &wanted).await.unwrap() }
    });
    let checkouts = futures::future::join_all(work).await;
    for (n, checkout) in checkouts.iter().enumerate() {
        assert_eq!(checkout.base_commit.as_ref(), Some([&one, &two][n % 2]));
        assert_eq!(checkout.layers, checkouts[n % 2].layers);
    }
    for checkout in &checkouts[..2] {
        assert_eq!(Disk::new(checkout).sh("git status --porcelain"), "");
    }
    let room = checkouts[0].layers[1].ancestors().nth(2).unwrap();
    let unfinished = fs::read_dir(room)
        .unwrap()
        .filter(|entry| entry.as_ref().unwrap().file_name().to_string_lossy().contains(".tmp-"));
    assert_eq!(unfinished.count(), 0);
}

#[tokio::test]
async fn a_branch_a_tag_and_parts_of_a_commit_lead_to_the_same_place() {
    let dir = TempDir::new().unwrap();
    let repo = Repo::new(&dir.path().join("repo"));
    let one = repo.commit("one");
    repo.git(&["tag", "-a", "v1", "-m", "v1"]);
    repo.git(&["branch", "feature/x"]);
    repo.commit("two");
    let cache = cache(&dir);
    for wanted in ["v1", "feature/x", &one, &one[..8], "main~1", "refs/tags/v1", "heads/feature/x"]
    {
        let checkout = prepare(&cache, &at(&repo, wanted)).await.unwrap();
        assert_eq!(checkout.base_commit.as_ref(), Some(&one), "{wanted}");
    }
    // By subdirectory, by file URL, bare, and from a work tree linked to it.
    repo.write("sub/dir/file", "x");
    let three = repo.commit("three");
    git_in(dir.path(), &["clone", "-q", "--bare", "repo", "bare"]);
    repo.git(&["worktree", "add", "-q", "--detach", "../linked", &one]);
    for (path, wanted) in [
        (repo.dir.join("sub/dir").display().to_string(), &three),
        (format!("file://{}", repo.dir.display()), &three),
        (dir.path().join("bare").display().to_string(), &three),
        (dir.path().join("linked").display().to_string(), &one),
    ] {
        let checkout = prepare(&cache, &source(&path)).await.unwrap();
        assert_eq!(checkout.base_commit.as_ref(), Some(wanted), "{path}");
    }
}

#[tokio::test]
async fn what_cannot_be_used_is_refused_with_a_reason() {
    let dir = TempDir::new().unwrap();
    let repo = Repo::new(&dir.path().join("repo"));
    repo.commit("one");
    let plain = dir.path().join("plain");
    fs::create_dir(&plain).unwrap();
    let cache = cache(&dir);
    let bare = dir.path().join("bare");
    git_in(dir.path(), &["clone", "-q", "--bare", "repo", "bare"]);
    let missing = "e".repeat(40);
    for (wanted, code, says) in [
        (source(&plain), ErrorCode::RepositoryUnavailable, "git init"),
        (source(dir.path().join("absent")), ErrorCode::RepositoryUnavailable, "No such file"),
        (source("http://127.0.0.1:1/a/b"), ErrorCode::RepositoryUnavailable, "fatal: "),
        (at(&repo, "absent"), ErrorCode::RevisionNotFound, "its branches: main"),
        (at(&repo, &missing), ErrorCode::RevisionNotFound, "no branch, tag or commit"),
        (at(&repo, "abcdef12"), ErrorCode::RevisionNotFound, "no branch, tag or commit"),
        (at(&repo, "--upload-pack=x"), ErrorCode::InvalidRequest, "cannot name"),
        (at(&repo, "a..b"), ErrorCode::InvalidRequest, "cannot name"),
        (source("ext::sh -c true"), ErrorCode::InvalidRequest, "cannot name"),
        (
            RepositorySource { include_uncommitted: true, ..source(&bare) },
            ErrorCode::InvalidRequest,
            "bare",
        ),
    ] {
        let error = prepare(&cache, &wanted).await.unwrap_err();
        assert_eq!(error.code(), code, "{wanted:?}: {error}");
        assert!(error.to_string().contains(says), "{wanted:?}: {error}");
    }
    let slash = PrepareOptions::new("../elsewhere");
    let error = cache.prepare(&source(&repo.dir), &slash, &mut |_| ()).await.unwrap_err();
    assert_eq!(error.code(), ErrorCode::InvalidRequest);
    let hidden = source("http://me:secret@127.0.0.1:1/a/b");
    assert!(!prepare(&cache, &hidden).await.unwrap_err().to_string().contains("secret"));
}

#[tokio::test]
async fn a_repository_without_commits_gives_an_unborn_branch() {
    let dir = TempDir::new().unwrap();
    let repo = Repo::new(&dir.path().join("repo"));
    repo.write("draft", "x\n");
    let cache = cache(&dir);
    let checkout = prepare(&cache, &source(&repo.dir)).await.unwrap();
    assert_eq!(checkout.base_commit, None);
    let disk = Disk::new(&checkout);
    assert_eq!(disk.sh("git status --short; ls"), "");
    disk.sh("echo hi > file; git add file; git commit -qm first");
    assert_eq!(disk.sh("git log --format=%D"), "HEAD -> rclaude/test\n");
    assert_eq!(disk.diff().stat.files[0].path, "file");

    let checkout = prepare(&cache, &uncommitted(&repo)).await.unwrap();
    assert_eq!(Disk::new(&checkout).sh("git status --short; cat draft"), "?? draft\nx\n");
    // Its first commit is found when it comes.
    let first = repo.commit("first");
    let checkout = prepare(&cache, &source(&repo.dir)).await.unwrap();
    assert_eq!(checkout.base_commit, Some(first));
}

#[tokio::test]
async fn a_force_pushed_branch_moves_on_and_its_old_commit_stays_usable() {
    let dir = TempDir::new().unwrap();
    let repo = Repo::new(&dir.path().join("repo"));
    repo.commit("one");
    repo.write("file", "old");
    let old = repo.commit("old");
    repo.git(&["branch", "topic/a"]);
    let cache = cache(&dir);
    let before = prepare(&cache, &source(&repo.dir)).await.unwrap();
    repo.git(&["reset", "-q", "--hard", "HEAD~1"]);
    repo.write("file", "new");
    let new = repo.commit("new");
    // A directory of refs becomes a ref and one goes away.
    repo.git(&["branch", "-D", "topic/a"]);
    repo.git(&["branch", "topic"]);
    repo.git(&["reflog", "expire", "--expire=now", "--all"]);
    repo.git(&["gc", "-q", "--prune=now"]);
    let after = prepare(&cache, &source(&repo.dir)).await.unwrap();
    assert_eq!(after.base_commit, Some(new));
    assert_eq!(
        Disk::new(&after).sh("git branch -r --format='%(refname:short)'"),
        "origin\norigin/main\norigin/topic\n"
    );
    assert_eq!(Disk::new(&before).sh("cat file; git log --format=%s"), "oldold\none\n");
    let again = prepare(&cache, &at(&repo, &old)).await.unwrap();
    assert_eq!(again.base_commit, Some(old));
}

#[tokio::test]
async fn uncommitted_files_come_along_and_stand_as_they_stood() {
    let dir = TempDir::new().unwrap();
    let repo = Repo::new(&dir.path().join("repo"));
    for name in [
        "same",
        "edited",
        "staged",
        "both",
        "deleted",
        "unstaged",
        "swap/inner",
        "flat",
        "mode",
        "dir/a",
        "dir/b",
    ] {
        repo.write(name, format!("{name}\n"));
    }
    repo.write(".gitignore", "ignored\n");
    repo.commit("one");
    repo.write("edited", "EDITED\n");
    repo.write("staged", "STAGED\n");
    repo.write("both", "BOTH1\n");
    repo.write("added", "added\n");
    repo.git(&["add", "staged", "both", "added"]);
    repo.write("both", "BOTH2\n");
    fs::remove_file(repo.dir.join("deleted")).unwrap();
    repo.git(&["rm", "-q", "--cached", "unstaged"]);
    repo.git(&["rm", "-q", "dir/a"]);
    fs::remove_dir_all(repo.dir.join("swap")).unwrap();
    symlink("/etc", repo.dir.join("swap")).unwrap();
    fs::remove_file(repo.dir.join("flat")).unwrap();
    repo.write("flat/deep/new", "x\n");
    fs::set_permissions(repo.dir.join("mode"), fs::Permissions::from_mode(0o755)).unwrap();
    repo.write("ignored", "no\n");
    repo.write("untracked dir/new\nfile", "yes\n");
    repo.write(Path::new(OsStr::from_bytes(b"latin-\xe9")), "y");
    Repo::new(&repo.dir.join("nested")).commit("inner");

    let status = ["-c", "core.quotePath=true", "status", "--porcelain=v2", "-uall", "--no-renames"];
    let shown = repo
        .git(&status)
        .lines()
        .filter(|line| !line.contains("nested"))
        .fold(String::new(), |all, line| all + line + "\n");
    let cache = cache(&dir);
    let checkout = prepare(&cache, &uncommitted(&repo)).await.unwrap();
    assert_eq!(checkout.notices, ["the nested repository nested/ is left behind"]);
    let disk = Disk::new(&checkout);
    assert_eq!(disk.sh("git status --porcelain=v2 -uall --no-renames"), shown);
    assert_eq!(
        disk.sh("cat edited both; git show :both; readlink swap"),
        "EDITED\nBOTH2\nBOTH1\n/etc\n"
    );
    assert_eq!(
        disk.sh("git commit -qm staged; git show --format= --name-status --no-renames"),
        "A\tadded\nM\tboth\nD\tdir/a\nM\tstaged\nD\tunstaged\n"
    );

    let plain = prepare(&cache, &source(&repo.dir)).await.unwrap();
    assert_eq!(Disk::new(&plain).sh("git status --short; cat edited"), "edited\n");
    repo.git(&["branch", "other", "HEAD"]);
    repo.git(&["commit", "-q", "--allow-empty", "-m", "next"]);
    let elsewhere = RepositorySource { branch: Some("other".into()), ..uncommitted(&repo) };
    let error = prepare(&cache, &elsewhere).await.unwrap_err();
    assert_eq!(error.code(), ErrorCode::InvalidRequest, "{error}");
}

#[tokio::test]
async fn a_diff_applied_elsewhere_gives_the_same_tree() {
    let dir = TempDir::new().unwrap();
    let repo = Repo::new(&dir.path().join("repo"));
    repo.write("edit", "one\ntwo\nthree\n");
    repo.write("gone", "gone\n");
    repo.write("moved", "a line\n".repeat(50));
    repo.write("binary", [0, 1, 2, 255]);
    repo.write("mode", "x\n");
    repo.write("file", "becomes a directory\n");
    repo.write("dir/inner", "becomes a file\n");
    repo.write("no newline", "end");
    repo.write(".gitignore", "ignored\n");
    symlink("edit", repo.dir.join("link")).unwrap();
    repo.commit("one");
    let checkout = prepare(&cache(&dir), &source(&repo.dir)).await.unwrap();
    let disk = Disk::new(&checkout);
    assert_eq!(disk.diff().patch.as_deref(), Some(""));
    disk.sh("echo committed > committed; git add committed; git commit -qm work
        printf 'one\\n2\\nthree\\n' > edit; rm gone; mkdir -p to; mv moved to/; chmod +x mode
        head -c 70000 /dev/urandom > binary; rm file; mkdir file; echo y > file/y
        rm -r dir; echo z > dir; ln -sfn mode link; printf other > 'no newline'
        echo staged > staged; git add staged; echo untracked > \"$(printf 'new\\nline')\"
        printf q > \"$(printf 'latin-\\351')\"; echo -n > empty; echo no > ignored; echo - > -dash
        git init -q nested; git config core.fsmonitor 'touch /tmp/ran;:'
        git config diff.noprefix true; git config color.ui always; git config diff.external false");
    let index = disk.sh("sha256sum .git/index");
    let diff = disk.diff();
    assert_eq!(disk.sh("sha256sum .git/index; ls -A /tmp"), index, "nothing changed, nothing left");
    let files = diff.stat.files.iter().map(|f| f.path.as_str()).collect::<Vec<_>>();
    assert!(files.contains(&"to/moved") && files.contains(&"latin-\u{fffd}"), "{files:?}");
    let binary = diff.stat.files.iter().find(|f| f.path == "binary").unwrap();
    assert_eq!((binary.insertions, binary.deletions), (None, None));

    let elsewhere = dir.path().join("elsewhere");
    git_in(dir.path(), &["clone", "-q", "repo", "elsewhere"]);
    fs::write(dir.path().join("patch"), diff.patch.unwrap()).unwrap();
    git_in(&elsewhere, &["apply", "--index", "--whitespace=nowarn", "../patch"]);
    let tree = git_in(&elsewhere, &["write-tree"]);
    disk.sh("rm -rf nested");
    assert_eq!(disk.sh("git -c core.fsmonitor= add -A; git write-tree").trim_end(), tree);

    let gone = disk.run("rm -rf .git; exec \"$0\" \"$@\"", &diff::command(None, DiffFormat::Stat));
    assert!(!gone.status.success());
}

#[tokio::test]
async fn a_clone_given_up_halfway_leaves_nothing_and_the_next_one_succeeds() {
    let dir = TempDir::new().unwrap();
    let repo = Repo::new(&dir.path().join("repo"));
    repo.import(2000, |n| format!("{n}\n").repeat(200));
    let cache = cache(&dir);
    for wait in [1, 5, 20, 60, 150] {
        let _ =
            tokio::time::timeout(Duration::from_millis(wait), prepare(&cache, &source(&repo.dir)))
                .await;
    }
    let checkout = prepare(&cache, &source(&repo.dir)).await.unwrap();
    assert_eq!(Disk::new(&checkout).sh("git status --porcelain; git ls-files | wc -l"), "2000\n");
}

#[tokio::test]
async fn what_a_killed_server_left_behind_is_in_nobodys_way() {
    let dir = TempDir::new().unwrap();
    let repo = Repo::new(&dir.path().join("repo"));
    repo.commit("one");
    let cache = cache(&dir);
    let first = prepare(&cache, &source(&repo.dir)).await.unwrap();
    let room = first.layers[1].ancestors().nth(3).unwrap();
    let next = repo.commit("two");
    let mirror = room.join("mirror.git");
    for name in ["packed-refs.lock", "HEAD.lock", "refs/heads/main.lock", "objects/pack/tmp_pack_x"]
    {
        fs::create_dir_all(mirror.join(name).parent().unwrap()).unwrap();
        fs::write(mirror.join(name), "").unwrap();
    }
    let half = room.join(format!("checkouts/{next}.tmp-dead"));
    fs::create_dir_all(half.join("layer/workspace")).unwrap();
    let second = prepare(&cache, &source(&repo.dir)).await.unwrap();
    assert_eq!(second.base_commit, Some(next));
    assert!(!half.exists());
    assert!(!mirror.join("objects/pack/tmp_pack_x").exists());
}

#[tokio::test]
async fn a_checkout_that_a_power_cut_emptied_is_made_again() {
    let dir = TempDir::new().unwrap();
    let repo = Repo::new(&dir.path().join("repo"));
    repo.write("file", "precious\n");
    repo.commit("one");
    let cache = cache(&dir);
    let checkout = prepare(&cache, &source(&repo.dir)).await.unwrap();
    let made = checkout.layers[1].parent().unwrap();
    while !made.join("durable").exists() {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let empty = || {
        fs::write(checkout.layers[1].join("workspace/file"), "").unwrap();
        fs::write(made.join("boot"), "an earlier start").unwrap();
    };
    let content = || fs::read_to_string(checkout.layers[1].join("workspace/file")).unwrap();
    empty();
    fs::remove_file(made.join("durable")).unwrap();
    fs::remove_dir_all(&repo.dir).unwrap();
    cache.restore(&checkout).await.unwrap();
    assert_eq!(content(), "precious\n");
    assert_eq!(Disk::new(&checkout).sh("git status --short"), "");
    // One that had reached the disk, or was made since the machine started, is left alone.
    while !made.join("durable").exists() {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    empty();
    cache.restore(&checkout).await.unwrap();
    assert_eq!(content(), "");
}

#[tokio::test]
async fn unusual_repositories_work_too() {
    let dir = TempDir::new().unwrap();
    let repo = Repo::new(&dir.path().join("repo"));
    repo.write("a", "1");
    repo.commit("one");
    repo.write("a", "2");
    let two = repo.commit("two");
    let url = format!("file://{}", repo.dir.display());
    git_in(dir.path(), &["clone", "-q", "--depth=1", &url, "shallow"]);
    git_in(dir.path(), &["clone", "-q", "--shared", "repo", "shared"]);
    git_in(dir.path(), &["init", "-q", "--object-format=sha256", "-b", "main", "sha256"]);
    let sha256 = Repo { dir: dir.path().join("sha256") };
    sha256.write("a", "x");
    let long = sha256.commit("long");
    let cache = cache(&dir);
    for (name, commit, log) in
        [("shallow", &two, "two\n"), ("shared", &two, "two\none\n"), ("sha256", &long, "long\n")]
    {
        let checkout = prepare(&cache, &source(dir.path().join(name))).await.unwrap();
        assert_eq!(checkout.base_commit.as_ref(), Some(commit), "{name}");
        let disk = Disk::new(&checkout);
        assert_eq!(disk.sh("git status --short; git log --format=%s"), log, "{name}");
        disk.sh("echo 3 > a; git commit -qam three");
        assert_eq!(disk.diff().stat.insertions, 1, "{name}");
    }
    // Detached, on a commit that no branch leads to; with a submodule, Git LFS, a branch in the
    // way of the session's own.
    repo.git(&["branch", "rclaude"]);
    repo.git(&["checkout", "-q", "--detach"]);
    repo.write(".gitattributes", "*.bin filter=lfs\n");
    let module = format!("160000,{two},module");
    repo.git(&["update-index", "--add", "--cacheinfo", &module]);
    repo.git(&["add", ".gitattributes"]);
    repo.git(&["commit", "-qm", "three"]);
    let checkout = prepare(&cache, &source(&repo.dir)).await.unwrap();
    assert_eq!(checkout.base_commit, Some(repo.git(&["rev-parse", "HEAD"])));
    assert_eq!(checkout.base_branch, None);
    assert_eq!(
        checkout.notices,
        ["submodules are not fetched: module", "files in Git LFS are left as pointers"]
    );
    assert_eq!(Disk::new(&checkout).sh("git status --short; git log --format=%s -1"), "three\n");
    let named = prepare(&cache, &at(&repo, "rclaude")).await.unwrap();
    assert_eq!(Disk::new(&named).sh("git branch --format='%(refname:short)'"), "rclaude/test\n");
}

#[tokio::test]
async fn a_work_tree_of_another_user_is_read_as_that_user() {
    if !rustix::process::geteuid().is_root() {
        // Only root may become somebody else; git itself refuses everyone else.
        return;
    }
    let dir = TempDir::new().unwrap();
    fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let repo = Repo::new(&dir.path().join("repo"));
    repo.write("file", "one\n");
    repo.write(".gitattributes", "file filter=spy\n");
    repo.commit("one");
    repo.write("file", "two\n");
    let seen = dir.path().join("seen");
    fs::write(&seen, "").unwrap();
    fs::set_permissions(&seen, fs::Permissions::from_mode(0o666)).unwrap();
    let spy = format!("id -u >> {}; cat", seen.display());
    repo.git(&["config", "filter.spy.clean", &spy]);
    assert!(
        Command::new("chown").args(["-R", "1234:1234"]).arg(&repo.dir).status().unwrap().success()
    );
    let checkout = prepare(&cache(&dir), &uncommitted(&repo)).await.unwrap();
    assert_eq!(Disk::new(&checkout).sh("git status --short; cat file"), " M file\ntwo\n");
    let seen = fs::read_to_string(seen).unwrap();
    assert!(seen.lines().all(|uid| uid == "1234") && !seen.is_empty(), "{seen:?}");
}

#[tokio::test]
async fn a_forge_is_cloned_once_and_asked_for_news() {
    let dir = TempDir::new().unwrap();
    let repo = Repo::new(&dir.path().join("acme/widgets"));
    repo.write("file", "one\n");
    let one = repo.commit("one");
    let url = forge(dir.path().to_owned()).await;
    let cache = cache(&dir).with_forge(url.clone());
    let widgets = source("acme/widgets/.git");
    let first = prepare(&cache, &widgets).await.unwrap();
    assert_eq!(first.base_commit.as_ref(), Some(&one));
    let disk = Disk::new(&first);
    let clean = url.replace("me:p%40ss@", "");
    assert_eq!(disk.sh("git config remote.origin.url"), format!("{clean}/acme/widgets/.git\n"));
    assert_eq!(disk.sh("git status --short --branch"), "## rclaude/test\n");
    let config =
        fs::read_to_string(first.binds[0].source.parent().unwrap().join("config")).unwrap();
    assert!(!config.contains("p%40ss") && !config.contains("p@ss"), "{config}");

    repo.git(&["checkout", "-q", "-b", "next"]);
    let two = repo.commit("two");
    let mut heard = Vec::new();
    let options = PrepareOptions::new("test");
    let second = cache.prepare(&widgets, &options, &mut |line| heard.push(line.to_owned())).await;
    let second = second.unwrap();
    assert_eq!(second.base_commit.as_ref(), Some(&two));
    assert_eq!(second.default_branch.as_deref(), Some("next"));
    assert!(heard.iter().any(|line| line.contains("fetching")), "{heard:?}");
    assert!(!heard.iter().any(|line| line.contains("p%40ss")), "{heard:?}");

    // A commit that no branch leads to any more.
    repo.git(&["reset", "-q", "--hard", &one]);
    let lost = repo.commit("lost");
    repo.git(&["reset", "-q", "--hard", &one]);
    let pinned = RepositorySource { branch: Some(lost.clone()), ..widgets.clone() };
    assert_eq!(prepare(&cache, &pinned).await.unwrap().base_commit, Some(lost));

    let error = prepare(&cache, &source(format!("{clean}/acme/widgets/.git"))).await.unwrap_err();
    assert_eq!(error.code(), ErrorCode::RepositoryUnavailable, "{error}");
    assert!(error.to_string().contains("private or does not exist"), "{error}");
    let error = prepare(&cache, &source("acme/absent")).await.unwrap_err();
    assert!(error.to_string().contains("not found"), "{error}");
}

#[tokio::test]
async fn pruning_takes_what_nobody_uses_and_nothing_else() {
    let dir = TempDir::new().unwrap();
    let repo = Repo::new(&dir.path().join("repo"));
    repo.commit("one");
    let cache = cache(&dir);
    let one = prepare(&cache, &source(&repo.dir)).await.unwrap();
    repo.commit("two");
    let two = prepare(&cache, &source(&repo.dir)).await.unwrap();
    let there = |checkout: &Checkout| checkout.layers.iter().all(|layer| layer.exists());

    cache.prune([], Timestamp::from_micros(0)).await.unwrap();
    assert!(there(&one) && there(&two), "both were only just given out");
    let later = Timestamp::from_micros(i64::MAX);
    cache.prune([&two], later).await.unwrap();
    assert!(!there(&one) && there(&two));
    let again = prepare(&cache, &at(&repo, one.base_commit.as_ref().unwrap())).await.unwrap();
    assert!(there(&again));
}
