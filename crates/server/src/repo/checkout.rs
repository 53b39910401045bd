//! Prepared checkouts: a commit's files with a git directory that already knows them.
//!
//! A checkout is made once per commit and shared by every session that starts there. Its git
//! directory holds what is the same for all of them; a session's own `HEAD` and branch are seeded
//! over it, the remote's branches come as a layer of their own ([`refs`]), since they move while
//! the commit does not.

use std::{
    fs, io,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

use super::{
    RepoError,
    git::Git,
    index,
    listing::Listing,
    lock,
    mirror::Mirror,
    source::short_hash,
    tree::{self, Draft},
};

/// Where a session finds its repository's objects.
pub(super) const OBJECTS_INSIDE: &str = "/opt/rclaude/repo/objects";

/// The directory of a root-relative tree that is the session's working directory.
pub(super) const WORKSPACE: &str = "workspace";

/// How far in the past a checkout's files are put, in seconds. Enough for no clock's grain to
/// make a session's first edit look like the file it replaced.
const PAST: i64 = 10;

/// A checkout that is ready to be a layer.
#[derive(Debug)]
pub(super) struct Prepared {
    /// The root-relative tree.
    pub(super) layer: PathBuf,
    /// What its user should know of it.
    pub(super) notices: Vec<String>,
}

/// Finds the checkout of `commit` (none: an unborn branch), or makes it. Whoever comes while it
/// is being made waits for it.
pub(super) async fn checkout(
    git: &Git,
    mirror: &Mirror,
    commit: Option<&str>,
) -> Result<Prepared, RepoError> {
    let name = commit.unwrap_or("unborn");
    let room = mirror.dir.join("checkouts");
    let place = room.join(name);
    let at = || RepoError::at("preparing", &place);
    fs::create_dir_all(&room).map_err(at())?;
    // A lock for every 1/256 of all commits: enough to work side by side, and no file per commit.
    let _lock = lock::lock(&room.join(format!("{}.lock", &name[..2]))).await?;
    if !(tree::touch(&place).map_err(at())? && tree::is_whole(&place).map_err(at())?) {
        tree::remove(&place).map_err(at())?;
        tree::clear_unfinished(&place).map_err(at())?;
        let draft = Draft::new(&place).map_err(at())?;
        let work_tree = draft.path().join("layer").join(WORKSPACE);
        let dot_git = work_tree.join(".git");
        fs::create_dir_all(&dot_git).map_err(at())?;
        if let Some(commit) = commit {
            let mut fill = git.invoke("", format!("checking out {commit}"));
            fill.env("GIT_INDEX_FILE", dot_git.join("index"));
            fill.arg("-C").arg(&work_tree).arg("--git-dir").arg(mirror.git_dir());
            fill.arg("--work-tree").arg(&work_tree);
            fill.args(["read-tree", "--reset", "-u", commit]).expect().await?;
        }
        let (mirror, head) = (mirror.clone(), commit.map(str::to_owned));
        blocking(move || {
            finish(draft.path(), &mirror, head.as_deref())?;
            tree::sync_later(draft.finish()?)
        })
        .await
        .map_err(at())?;
    }
    let notices = fs::read_to_string(place.join("notices")).unwrap_or_default();
    let notices = notices.lines().map(str::to_owned).collect();
    Ok(Prepared { layer: place.join("layer"), notices })
}

/// Everything after git has written the files.
fn finish(draft: &Path, mirror: &Mirror, commit: Option<&str>) -> io::Result<()> {
    let layer = draft.join("layer");
    let work_tree = layer.join(WORKSPACE);
    let dot_git = work_tree.join(".git");
    let mut notices = Vec::new();
    let mut times = None;
    let index = dot_git.join("index");
    if let (Some(commit), true) = (commit, index.exists()) {
        let then = index.metadata()?.mtime() - PAST;
        let mut bytes = fs::read(&index)?;
        let seconds = u32::try_from(then).unwrap_or(1);
        let submodules = index::set_times(&mut bytes, seconds, commit.len() / 2)?;
        fs::write(&index, bytes)?;
        times = Some(i64::from(seconds));
        if !submodules.is_empty() {
            notices.push(format!("submodules are not fetched: {}", submodules.join(", ")));
        }
    }
    if uses_lfs(&work_tree.join(".gitattributes")) {
        notices.push("files in Git LFS are left as pointers".to_owned());
    }
    for dir in
        ["objects/info", "objects/pack", "refs/heads/rclaude", "refs/remotes/origin", "refs/tags"]
    {
        fs::create_dir_all(dot_git.join(dir))?;
    }
    let head = match commit {
        Some(commit) => format!("{commit}\n"),
        None => "ref: refs/heads/main\n".to_owned(),
    };
    fs::write(dot_git.join("HEAD"), head)?;
    let sha256 = commit.is_some_and(|id| id.len() == 64);
    fs::write(dot_git.join("config"), config(mirror.url().as_deref(), sha256))?;
    fs::write(dot_git.join("objects/info/alternates"), format!("{OBJECTS_INSIDE}\n"))?;
    // A mirror of a shallow clone lacks the same ancestors.
    let shallow = mirror.git_dir().join("shallow");
    if shallow.exists() {
        fs::copy(shallow, dot_git.join("shallow"))?;
    }
    tree::settle(&layer, times)?;
    if let Some(seconds) = times {
        tree::set_mtime(&index, seconds + PAST / 2)?;
    }
    fs::write(draft.join("notices"), notices.join("\n"))?;
    tree::sign(draft)
}

/// Whether an attributes file speaks of Git LFS. The file is a stranger's: it may be a link to
/// anywhere, or endless.
fn uses_lfs(attributes: &Path) -> bool {
    let plain =
        attributes.symlink_metadata().is_ok_and(|meta| meta.is_file() && meta.len() < 1 << 20);
    plain && fs::read_to_string(attributes).is_ok_and(|text| text.contains("filter=lfs"))
}

fn config(url: Option<&str>, sha256: bool) -> String {
    let (version, format) =
        if sha256 { (1, "[extensions]\n\tobjectFormat = sha256\n") } else { (0, "") };
    let remote = url.map_or_else(String::new, |url| {
        let url = url.replace('\\', "\\\\").replace('"', "\\\"");
        format!(
            "[remote \"origin\"]\n\turl = \"{url}\"\n\tfetch = +refs/heads/*:refs/remotes/origin/*\n"
        )
    });
    format!(
        "[core]\n\trepositoryFormatVersion = {version}\n\tfileMode = true\n\tbare = false\n\
         \tlogAllRefUpdates = true\n\tcheckStat = minimal\n\ttrustCTime = false\n\
         {format}{remote}[push]\n\tdefault = current\n\tautoSetupRemote = true\n"
    )
}

/// Finds or makes the layer with the remote's branches and tags, as `packed-refs`.
pub(super) async fn refs(
    mirror: &Mirror,
    listing: &Listing,
    branch: Option<&str>,
) -> Result<PathBuf, RepoError> {
    let packed = listing.packed_refs(branch);
    let default = listing.default_branch().unwrap_or_default().to_owned();
    let name = short_hash(format!("{default}\n{packed}").as_bytes());
    let place = mirror.dir.join("refs").join(name);
    let layer = place.join("layer");
    let at = || RepoError::at("preparing", &place);
    let _lock = lock::lock(&mirror.dir.join("refs.lock")).await?;
    if tree::touch(&place).map_err(at())? {
        return Ok(layer);
    }
    tree::clear_unfinished(&place).map_err(at())?;
    let target = place.clone();
    blocking(move || {
        let draft = Draft::new(&target)?;
        let layer = draft.path().join("layer");
        let dot_git = layer.join(WORKSPACE).join(".git");
        let origin = dot_git.join("refs/remotes/origin");
        fs::create_dir_all(&origin)?;
        if packed.contains(&format!(" refs/remotes/origin/{default}\n")) {
            fs::write(origin.join("HEAD"), format!("ref: refs/remotes/origin/{default}\n"))?;
        }
        fs::write(dot_git.join("packed-refs"), packed)?;
        tree::settle(&layer, None)?;
        tree::sync_unshared(&dot_git)?;
        draft.finish()
    })
    .await
    .map_err(at())?;
    Ok(layer)
}

/// Runs file system work where it may block.
pub(super) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> io::Result<T> {
    tokio::task::spawn_blocking(work).await.unwrap_or_else(|error| Err(io::Error::other(error)))
}
