//! A local work tree's changes as one more layer: changed and new files copied, deleted ones as
//! overlay whiteouts, and an index that has staged what was staged. `git status` in the session
//! then says what it says on the host.

use std::{
    fs::{self, File},
    io::{self, ErrorKind},
    os::unix::fs::{MetadataExt, PermissionsExt, symlink},
    path::{Component, Path, PathBuf},
};

use rustix::fs::{
    CWD, FileType, Mode, OFlags, ResolveFlags, Timespec, Timestamps, fstat, futimens, makedev,
    mknodat, openat2, readlinkat,
};

use super::{
    RepoError,
    checkout::{WORKSPACE, blocking},
    git::{self, Git},
    mirror::Mirror,
    source::{LocalRepository, Source},
    tree::{self, Draft},
};

/// What `git status` said of one path.
#[derive(Debug, PartialEq, Eq)]
struct Change {
    path: PathBuf,
    /// The index's mode and object, where they are not the commit's.
    staged: Option<(String, String)>,
}

/// All that it said.
#[derive(Debug, Default, PartialEq, Eq)]
struct Status {
    head: Option<String>,
    changes: Vec<Change>,
    notices: Vec<String>,
}

/// The layer, and what its user should know.
pub(super) struct Uncommitted {
    /// The root-relative tree; none if there is nothing uncommitted.
    pub(super) layer: Option<PathBuf>,
    /// What could not be brought along.
    pub(super) notices: Vec<String>,
}

/// Copies what is uncommitted in `local` on top of the checkout at `base`.
pub(super) async fn layer(
    git: &Git,
    mirror: &Mirror,
    local: &LocalRepository,
    commit: Option<&str>,
    base: &Path,
    session: &str,
) -> Result<Uncommitted, RepoError> {
    let status = status(git, local).await?;
    if status.head.as_deref() != commit {
        return Err(RepoError::Invalid(format!(
            "uncommitted changes belong to what is checked out in {}; leave the branch out, or \
             leave them behind",
            local.top.display()
        )));
    }
    let Status { changes, notices, .. } = status;
    if changes.is_empty() {
        return Ok(Uncommitted { layer: None, notices });
    }
    let room = mirror.dir.join("uncommitted");
    let at = || RepoError::at("copying uncommitted files to", &room);
    // A name of its own: an earlier session of the same name may still be there.
    let unique = rclaude_types::SandboxId::generate();
    let draft = Draft::new(&room.join(format!("{session}-{unique}"))).map_err(at())?;
    let work_tree = draft.path().join("layer").join(WORKSPACE);
    fs::create_dir_all(work_tree.join(".git")).map_err(at())?;
    stage(git, mirror, local, &changes, base, &work_tree).await?;
    let (top, base) = (local.top.clone(), base.join(WORKSPACE));
    let place = blocking(move || {
        copy(&top, &base, &work_tree, &changes)?;
        tree::settle(&draft.path().join("layer"), None)?;
        draft.finish()
    })
    .await
    .map_err(at())?;
    Ok(Uncommitted { layer: Some(place.join("layer")), notices })
}

/// Asks git, as the work tree's owner: its configuration (filters, ignore files) is the owner's,
/// and so is what that makes git do.
async fn status(git: &Git, local: &LocalRepository) -> Result<Status, RepoError> {
    let mut ask = git.invoke_as_user(format!("git status in {}", local.top.display()));
    if rustix::process::geteuid().is_root() {
        ask.owned_by(local.owner.0, local.owner.1);
    }
    ask.arg("-C").arg(&local.top).args([
        "status",
        "--porcelain=v2",
        "--branch",
        "-z",
        "--untracked-files=all",
        "--no-renames",
        "--ignore-submodules=all",
    ]);
    Ok(Status::parse(&ask.expect().await?))
}

impl Status {
    /// Reads porcelain v2 (git-status(1)).
    fn parse(text: &[u8]) -> Self {
        let mut status = Self::default();
        for record in text.split(|byte| *byte == 0).filter(|record| !record.is_empty()) {
            // The path is the last field and may hold spaces.
            let fields = match record[0] {
                b'1' => 9,
                b'u' => 11,
                b'#' => 3,
                _ => 2,
            };
            let fields = record.splitn(fields, |byte| *byte == b' ').collect::<Vec<_>>();
            let word = |at: usize| String::from_utf8_lossy(fields.get(at).unwrap_or(&&b""[..]));
            let path = git::path(fields.last().copied().unwrap_or_default()).to_owned();
            match record[0] {
                b'#' if word(1) == "branch.oid" && word(2) != "(initial)" => {
                    status.head = Some(word(2).into_owned());
                }
                b'1' if word(2).starts_with('S') => status.leave("the changed submodule", &path),
                b'1' => {
                    let staged = !word(1).starts_with('.');
                    let staged = staged.then(|| (word(4).into_owned(), word(7).into_owned()));
                    status.changes.push(Change { path, staged });
                }
                b'u' => {
                    status.notices.push(format!(
                        "{} is in conflict; it is brought along as it stands in the work tree",
                        path.display()
                    ));
                    status.changes.push(Change { path, staged: None });
                }
                b'?' if record.ends_with(b"/") => status.leave("the nested repository", &path),
                b'?' => status.changes.push(Change { path, staged: None }),
                _ => {}
            }
        }
        status
    }

    fn leave(&mut self, what: &str, path: &Path) {
        self.notices.push(format!("{what} {} is left behind", path.display()));
    }
}

/// Repeats what is staged in a copy of the checkout's index; its objects go to the mirror.
async fn stage(
    git: &Git,
    mirror: &Mirror,
    local: &LocalRepository,
    changes: &[Change],
    base: &Path,
    work_tree: &Path,
) -> Result<(), RepoError> {
    use std::os::unix::ffi::OsStrExt;

    let (mut entries, mut objects) = (Vec::new(), Vec::new());
    for Change { path, staged } in changes {
        let Some((mode, id)) = staged else { continue };
        entries.extend(format!("{mode} {id}\t").bytes());
        entries.extend(path.as_os_str().as_bytes());
        entries.push(0);
        if mode != "000000" {
            objects.extend(format!("{id}\n").bytes());
        }
    }
    if entries.is_empty() {
        return Ok(());
    }
    if !objects.is_empty() {
        let mut fetch = git.invoke("file", "reading staged files");
        fetch.arg("--git-dir").arg(mirror.git_dir()).input(objects);
        fetch.args(["fetch", "--quiet", "--no-tags", "--no-write-fetch-head", "--stdin", "--"]);
        fetch.arg(Source::Local(local.clone()).address()).expect().await?;
    }
    let index = work_tree.join(".git/index");
    match fs::copy(base.join(WORKSPACE).join(".git/index"), &index) {
        Err(error) if error.kind() != ErrorKind::NotFound => {
            return Err(RepoError::at("copying the index to", &index)(error));
        }
        _ => {}
    }
    let mut update = git.invoke("", "staging what is staged");
    update.env("GIT_INDEX_FILE", &index).input(entries);
    update.arg("--git-dir").arg(mirror.git_dir()).args(["update-index", "-z", "--index-info"]);
    update.expect().await.map(drop)
}

/// Copies every changed path from `top` to `to`, or marks it deleted where `base` has it.
fn copy(top: &Path, base: &Path, to: &Path, changes: &[Change]) -> io::Result<()> {
    let from = File::open(top)?;
    let mut gone = Vec::new();
    for Change { path, .. } in changes {
        if !copy_one(&from, base, to, path)? {
            gone.push(path);
        }
    }
    for path in gone {
        // Under a file that took a directory's place there is nothing left to delete.
        if base.join(path).symlink_metadata().is_ok() && make_parents(to, path)? {
            let target = to.join(path);
            if target.symlink_metadata().is_err() {
                let mode = Mode::empty();
                mknodat(CWD, &target, FileType::CharacterDevice, mode, makedev(0, 0))?;
            }
        }
    }
    Ok(())
}

/// Copies one file or link; `false` if it is not there. Links are never followed: the work tree
/// may be another user's, and change while it is read.
fn copy_one(from: &File, base: &Path, to: &Path, path: &Path) -> io::Result<bool> {
    let within = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS;
    let open = |flags| openat2(from, path, flags | OFlags::CLOEXEC, Mode::empty(), within);
    let found = match open(OFlags::PATH | OFlags::NOFOLLOW) {
        Err(rustix::io::Errno::NOENT | rustix::io::Errno::NOTDIR | rustix::io::Errno::LOOP) => {
            return Ok(false);
        }
        other => other?,
    };
    let stat = fstat(&found)?;
    if !make_parents(to, path)? {
        return Ok(true);
    }
    let target = to.join(path);
    match FileType::from_raw_mode(stat.st_mode) {
        FileType::Symlink => {
            let link = readlinkat(&found, "", Vec::new())?;
            symlink(git::path(link.as_bytes()), &target)?;
            tree::set_mtime(&target, distinct(stat.st_mtime, base, path))?;
        }
        FileType::RegularFile => {
            let mut source = File::from(open(OFlags::RDONLY | OFlags::NONBLOCK)?);
            let mut copy = File::create(&target)?;
            io::copy(&mut source, &mut copy)?;
            copy.set_permissions(fs::Permissions::from_mode(stat.st_mode & 0o777))?;
            let at = Timespec { tv_sec: distinct(stat.st_mtime, base, path), tv_nsec: 0 };
            futimens(&copy, &Timestamps { last_access: at, last_modification: at })?;
        }
        // A directory in a file's place comes with what is in it.
        _ => {}
    }
    Ok(true)
}

/// A time that git cannot mistake for the checkout's.
fn distinct(mtime: i64, base: &Path, path: &Path) -> i64 {
    let same = base.join(path).symlink_metadata().is_ok_and(|meta| meta.mtime() == mtime);
    mtime + i64::from(same)
}

/// Makes the directories above `path`; `false` if something else stands in the way.
fn make_parents(root: &Path, path: &Path) -> io::Result<bool> {
    let mut dir = root.to_owned();
    for part in path.parent().into_iter().flat_map(Path::components) {
        let Component::Normal(part) = part else { return Err(ErrorKind::InvalidInput.into()) };
        dir.push(part);
        match dir.symlink_metadata() {
            Ok(meta) if meta.is_dir() => {}
            Ok(_) => return Ok(false),
            Err(_) => fs::create_dir(&dir)?,
        }
    }
    Ok(true)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_reads_whatever_the_path_is_called() {
        let id = "a".repeat(40);
        let text = format!(
            "# branch.oid {id}\0# branch.head main\0\
             1 .M N... 100644 100644 100644 {id} {id} with space\nand line\0\
             1 D. N... 100644 000000 000000 {id} 0000 gone\0\
             1 .M S.M. 160000 160000 160000 {id} {id} sub\0? new\0? nested/\0"
        );
        let change = |path: &str, staged: Option<(&str, &str)>| Change {
            path: path.into(),
            staged: staged.map(|(mode, id)| (mode.to_owned(), id.to_owned())),
        };
        assert_eq!(
            Status::parse(text.as_bytes()),
            Status {
                head: Some(id),
                changes: vec![
                    change("with space\nand line", None),
                    change("gone", Some(("000000", "0000"))),
                    change("new", None),
                ],
                notices: vec![
                    "the changed submodule sub is left behind".to_owned(),
                    "the nested repository nested/ is left behind".to_owned(),
                ],
            }
        );
    }
}
