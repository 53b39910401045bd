//! Files by `sftp`, `scp` and `rsync`.

use std::{
    collections::BTreeMap,
    fs,
    io::Write,
    os::unix::fs::{MetadataExt, PermissionsExt, symlink},
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use super::{Ssh, output, text};

#[tokio::test(flavor = "multi_thread")]
async fn sftp_puts_gets_and_changes_files_of_any_name_with_their_modes() {
    let ssh = Ssh::start().await;
    let here = ssh.platform.scratch().to_owned();
    let content: Vec<u8> = (0..3_000_000_u32).flat_map(u32::to_le_bytes).collect();
    fs::write(here.join("with space"), &content).unwrap();
    fs::write(here.join("new\nline"), "two lines\n").unwrap();
    fs::write(here.join("empty"), "").unwrap();
    fs::set_permissions(here.join("with space"), fs::Permissions::from_mode(0o751)).unwrap();
    let batch = |lines: &str| {
        let mut command = ssh.program("sftp", &["-q", "-b", "-", "box"]);
        let mut child = command.stdin(Stdio::piped()).spawn().unwrap();
        child.stdin.take().unwrap().write_all(lines.as_bytes()).unwrap();
        tokio::task::spawn_blocking(|| child.wait_with_output().unwrap())
    };
    let done = batch(
        "put -p \"with space\" \"it's here\"\nput empty\nmkdir d\nrename empty d/empty\n\
         chmod 600 d/empty\nsymlink \"it's here\" link\nget link back\nls -l\nls d\nput empty\n",
    );
    let done = done.await.unwrap();
    assert!(done.status.success(), "{done:?}\n{}", ssh.platform.log());
    assert!(fs::read(here.join("back")).unwrap() == content);
    let list = text(&done.stdout);
    assert!(list.contains("-rwxr-x--x") && list.contains("it's here"), "{list}");
    assert_eq!(ssh.ok("stat -c '%a %s' \"it's here\" d/empty").await, "751 12000000\n600 0\n");
    assert_eq!(ssh.ok("readlink link").await, "it's here\n");
    let local = fs::metadata(here.join("with space")).unwrap().mtime();
    assert_eq!(ssh.ok("stat -c %Y \"it's here\"").await, format!("{local}\n"));

    // A name that no batch can say, both ways.
    ssh.done("scp", &["-q", "new\nline", "box:"]).await;
    assert_eq!(ssh.ok("cat 'new\nline'").await, "two lines\n");

    // What is not allowed, or not there, is said, and nothing is changed.
    for (line, said) in [
        ("get nonesuch", "not found"),
        ("put empty nonesuch/empty", "No such file"),
        ("put empty /etc/empty", "Permission denied"),
        ("rm d", "d"),
        ("rmdir d", "d"),
        ("mkdir d", "d"),
    ] {
        let refused = batch(&format!("{line}\n")).await.unwrap();
        assert_eq!(refused.status.code(), Some(1), "{line}: {refused:?}");
        assert!(text(&refused.stderr).contains(said), "{line}: {refused:?}");
    }
    let done = batch("rm d/empty\nrmdir d\nrm link\n").await.unwrap();
    assert!(done.status.success(), "{done:?}");
    assert_eq!(ssh.ok("ls").await, "empty\nit's here\nnew\nline\n");
    ssh.platform.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn scp_takes_a_tree_there_and_back_byte_for_byte() {
    let ssh = Ssh::start().await;
    let here = ssh.platform.scratch();
    let tree = here.join("tree");
    grow(&tree);
    ssh.done("scp", &["-q", "-p", "-r", "tree", "box:there"]).await;
    ssh.done("scp", &["-q", "-p", "-r", "box:there", "back"]).await;
    assert_eq!(facts(&here.join("back")), facts(&tree));
    // The older protocol is a program in the sandbox, if it has it.
    if ssh.run("command -v scp").await.status.success() {
        ssh.done("scp", &["-O", "-q", "-p", "-r", "box:there", "older"]).await;
        assert_eq!(facts(&here.join("older")), facts(&tree));
    }
    ssh.platform.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn rsync_takes_what_changed_and_the_second_time_nothing() {
    let ssh = Ssh::start().await;
    let here = ssh.platform.scratch();
    let tree = here.join("tree");
    grow(&tree);
    symlink("file 1", tree.join("link")).unwrap();
    let shell = format!("ssh -F {}", ssh.config.display());
    let transferred = async |from: &str, to: &str| {
        let mut command = Command::new("rsync");
        command.args(["-a", "--delete", "--stats", "-e", &shell, from, to]);
        let done = output(ssh.at_home(command)).await;
        assert!(done.status.success(), "{done:?}");
        let stats = text(&done.stdout);
        let line = stats.lines().find(|line| line.contains("files transferred")).unwrap();
        line.rsplit(' ').next().unwrap().replace(',', "").parse::<usize>().unwrap()
    };
    assert_eq!(transferred("tree/", "box:there/").await, 60);
    assert_eq!(transferred("tree/", "box:there/").await, 0);
    ssh.ok("echo more >> 'there/file 1'; rm 'there/file 2'").await;
    assert_eq!(transferred("box:there/", "tree/").await, 1);
    assert!(fs::read_to_string(tree.join("file 1")).unwrap().ends_with("more\n"));
    assert!(!tree.join("file 2").exists());
    assert_eq!(transferred("box:there/", "tree/").await, 0);
    ssh.platform.end().await;
}

/// Makes a tree of sixty files: of several sizes, modes and depths, empty ones too.
fn grow(tree: &Path) {
    for n in 0..60_u32 {
        let directory =
            tree.join(if n < 20 { String::new() } else { format!("d{}/é {}", n % 3, n % 5) });
        fs::create_dir_all(&directory).unwrap();
        let path = directory.join(format!("file {n}"));
        let content: Vec<u8> = (0..n * n * 300).map(|at| (at * 7 + n).to_le_bytes()[1]).collect();
        fs::write(&path, content).unwrap();
        let mode = [0o644, 0o600, 0o755, 0o640][n as usize % 4];
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
    }
}

/// All files of a tree: mode, time and content.
fn facts(tree: &Path) -> BTreeMap<PathBuf, (u32, i64, Vec<u8>)> {
    let mut facts = BTreeMap::new();
    let mut left = vec![tree.to_owned()];
    while let Some(directory) = left.pop() {
        for entry in fs::read_dir(&directory).unwrap() {
            let path = entry.unwrap().path();
            let meta = fs::symlink_metadata(&path).unwrap();
            if meta.is_dir() {
                left.push(path);
            } else {
                let name = path.strip_prefix(tree).unwrap().to_owned();
                facts.insert(name, (meta.mode() & 0o7777, meta.mtime(), fs::read(&path).unwrap()));
            }
        }
    }
    facts
}
