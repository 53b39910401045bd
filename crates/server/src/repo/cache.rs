//! The door: a repository in, the layers of a session's disk out.

use std::{
    collections::HashSet,
    fs, io,
    path::{Path, PathBuf},
    time::Duration,
};

use rclaude_sandbox::provider::{ReadOnlyBind, SeedFile};
use rclaude_types::{RepositorySource, Timestamp};
use serde::{Deserialize, Serialize};

use super::{
    RepoError, checkout,
    git::{Git, Progress},
    listing::{Found, Listing, is_full_id},
    lock,
    mirror::{self, Mirror},
    source::{DEFAULT_FORGE, Source},
    tree, uncommitted,
};

/// Mirrors and checkouts under one directory. Cheap to clone; many may work at once, in one
/// process or several.
#[derive(Debug, Clone)]
pub struct RepoCache {
    pub(super) dir: PathBuf,
    git: Git,
    forge: String,
}

/// What a session wants of its checkout.
#[derive(Debug, Clone)]
pub struct PrepareOptions {
    /// The session's name: its branch is `rclaude/<session>`.
    pub session: String,
    /// How long reading the repository may take in all.
    pub timeout: Duration,
}

impl PrepareOptions {
    /// For a session of this name, with half an hour to clone in.
    pub fn new(session: impl Into<String>) -> Self {
        Self { session: session.into(), timeout: Duration::from_mins(30) }
    }
}

/// A session's repository, ready to be mounted. Kept with the session: its layers stay valid for
/// as long as [`RepoCache::prune`] is told that they are in use.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Checkout {
    /// The commit it starts from; none in a repository without commits.
    pub base_commit: Option<String>,
    /// The session's branch, `rclaude/<session>`.
    pub branch: String,
    /// The branch it starts from, if it was one.
    pub base_branch: Option<String>,
    /// The branch the repository's `HEAD` names.
    pub default_branch: Option<String>,
    /// Trees with `workspace/…` in them, uppermost first.
    pub layers: Vec<PathBuf>,
    /// The mirror's objects.
    pub binds: Vec<ReadOnlyBind>,
    /// The session's own `HEAD` and branch.
    pub files: Vec<SeedFile>,
    /// What its owner should know: submodules not fetched, files left behind.
    pub notices: Vec<String>,
}

impl RepoCache {
    /// Opens the cache in `dir`, making it if missing; `git` is the program to run.
    pub fn new(dir: impl Into<PathBuf>, git: impl Into<PathBuf>) -> Result<Self, RepoError> {
        let dir = dir.into();
        let open = || {
            fs::create_dir_all(&dir)?;
            let dir = dir.canonicalize()?;
            let git = Git::new(git.into(), &dir)?;
            Ok(Self { dir, git, forge: DEFAULT_FORGE.to_owned() })
        };
        open().map_err(RepoError::at("opening the repository cache", &dir))
    }

    /// Looks for `owner/name` under another URL than [`DEFAULT_FORGE`].
    #[must_use]
    pub fn with_forge(self, base_url: impl Into<String>) -> Self {
        Self { forge: base_url.into(), ..self }
    }

    /// Makes a session's working tree ready. `progress` hears git's own progress lines.
    ///
    /// May be dropped at any point: whatever was begun is cleared away by the next call.
    ///
    /// # Errors
    /// [`RepoError::Invalid`] for a source that makes no sense, [`RepoError::Unavailable`] for a
    /// repository that is not there or cannot be read, [`RepoError::RevisionNotFound`].
    pub async fn prepare(
        &self,
        source: &RepositorySource,
        options: &PrepareOptions,
        progress: &mut Progress<'_>,
    ) -> Result<Checkout, RepoError> {
        let work = self.prepare_in_time(source, options, progress);
        tokio::time::timeout(options.timeout, work).await.unwrap_or_else(|_| {
            let seconds = options.timeout.as_secs();
            Err(RepoError::Unavailable(format!("reading the repository took over {seconds} s")))
        })
    }

    async fn prepare_in_time(
        &self,
        asked: &RepositorySource,
        options: &PrepareOptions,
        progress: &mut Progress<'_>,
    ) -> Result<Checkout, RepoError> {
        let wanted = asked.branch.as_deref().map(revision).transpose()?;
        // It becomes part of a path and of a ref.
        let session = revision(&options.session)?;
        if session.contains('/') {
            return Err(RepoError::Invalid(format!("{session:?} cannot name a session")));
        }
        let (url, forge) = (asked.url.clone(), self.forge.clone());
        let source = tokio::task::spawn_blocking(move || Source::parse(&url, &forge))
            .await
            .map_err(|error| RepoError::io("reading the source")(io::Error::other(error)))??;
        let mirror = Mirror::open(self.dir.join(source.hash()), &source)?;

        let (listing, found) = self.resolve(&mirror, &source, wanted, progress).await?;
        let (commit, branch) = match found {
            Found::Known { id, branch } => (Some(id), branch),
            Found::Expression(id) => (Some(id), None),
            Found::Unborn => (None, None),
        };
        let base = checkout::checkout(&self.git, &mirror, commit.as_deref()).await?;
        let refs = checkout::refs(&mirror, &listing, branch.as_deref()).await?;
        let mut layers = vec![refs, base.layer];
        let mut notices = base.notices;
        if asked.include_uncommitted {
            let Source::Local(local) = &source else {
                return Err(RepoError::Invalid(
                    "only a repository on the server's host has uncommitted files".to_owned(),
                ));
            };
            if local.bare {
                let top = local.top.display();
                return Err(RepoError::Invalid(format!("{top} is bare: it has no files")));
            }
            let (session, base) = (&options.session, &layers[1]);
            let on_top =
                uncommitted::layer(&self.git, &mirror, local, commit.as_deref(), base, session);
            let on_top = on_top.await?;
            layers.splice(0..0, on_top.layer);
            notices.extend(on_top.notices);
        }
        let session_branch = format!("rclaude/{session}");
        Ok(Checkout {
            files: seeds(&session_branch, commit.as_deref()),
            base_commit: commit,
            branch: session_branch,
            base_branch: branch,
            default_branch: listing.default_branch().map(str::to_owned),
            layers,
            binds: vec![ReadOnlyBind {
                source: mirror.objects(),
                target: checkout::OBJECTS_INSIDE.into(),
            }],
            notices,
        })
    }

    /// Finds the commit, having the mirror fetch what it lacks. What is found is always a commit
    /// that the mirror holds.
    async fn resolve(
        &self,
        mirror: &Mirror,
        source: &Source,
        wanted: Option<&str>,
        progress: &mut Progress<'_>,
    ) -> Result<(Listing, Found), RepoError> {
        let ready = |id: &str| mirror.dir.join("checkouts").join(id).exists();
        if let Some(id) = wanted.filter(|id| is_full_id(id) && ready(id))
            && let Some(listing) = mirror.fetched()
        {
            // A commit never changes: there is nothing to ask anyone.
            return Ok((listing, Found::Known { id: id.to_owned(), branch: None }));
        }
        let mut listing = mirror.list(&self.git, source, progress).await?;
        // Again, if the repository moved on between being listed and being fetched.
        for last in [false, true] {
            let found = listing.find(wanted).ok_or_else(|| not_found(wanted, source, &listing))?;
            mirror.bring(&self.git, source, &listing, &found, progress).await?;
            let (expr, branch) = match found {
                Found::Known { ref id, .. } if ready(id) => return Ok((listing, found)),
                Found::Unborn => return Ok((listing, found)),
                Found::Known { id, branch } => (id, branch),
                Found::Expression(expr) => (expr, None),
            };
            if let Some(id) = mirror.commit(&self.git, &expr).await? {
                return Ok((listing, Found::Known { id, branch }));
            }
            if !last {
                listing = mirror.list(&self.git, source, progress).await?;
            }
        }
        Err(not_found(wanted, source, &listing))
    }

    /// Makes sure that a checkout prepared earlier is still there and whole, before it is mounted
    /// again: a power cut may have taken files that had not reached the disk. Needs neither the
    /// repository nor the network.
    pub async fn restore(&self, checkout: &Checkout) -> Result<(), RepoError> {
        for layer in &checkout.layers {
            // repos/<hash>/checkouts/<commit>/layer
            let (room, kind) = (layer.ancestors().nth(3), layer.ancestors().nth(2));
            if let Some(room) = room.filter(|room| room.starts_with(&self.dir))
                && kind.is_some_and(|kind| kind.ends_with("checkouts"))
            {
                let (mirror, commit) = (Mirror { dir: room.to_owned() }, &checkout.base_commit);
                checkout::checkout(&self.git, &mirror, commit.as_deref()).await?;
            } else if !layer.exists() {
                let lost = format!("{} is gone", layer.display());
                return Err(RepoError::Unavailable(lost));
            }
        }
        Ok(())
    }

    /// Removes checkouts that no session uses: those whose trees are not among `in_use` and that
    /// nobody was given since `unused_since` (a moment ago, as a session being created has not
    /// stored its checkout yet). Mirrors stay.
    pub async fn prune(
        &self,
        in_use: impl IntoIterator<Item = &Checkout>,
        unused_since: Timestamp,
    ) -> Result<(), RepoError> {
        let in_use = in_use.into_iter().flat_map(|checkout| checkout.layers.iter().cloned());
        let (in_use, dir) = (in_use.collect::<HashSet<_>>(), self.dir.clone());
        let sweep = move || {
            for room in children(&dir)? {
                for kind in ["checkouts", "refs", "uncommitted"] {
                    for place in children(&room.join(kind))? {
                        if !in_use.contains(&place.join("layer")) {
                            remove_if_idle(&room, kind, &place, unused_since)?;
                        }
                    }
                }
            }
            Ok(())
        };
        checkout::blocking(sweep).await.map_err(RepoError::io("removing unused checkouts"))
    }
}

/// A revision that git cannot take for an option, and that is one name.
fn revision(text: &str) -> Result<&str, RepoError> {
    let plain = |c: char| !c.is_control() && !matches!(c, ' ' | ':' | '?' | '*' | '[' | '\\');
    let fine = !text.is_empty()
        && text.len() <= 255
        && !text.starts_with('-')
        && !text.contains("..")
        && !text.contains("@{")
        && text.chars().all(plain);
    if !fine {
        return Err(RepoError::Invalid(format!("{text:?} cannot name a branch, tag or commit")));
    }
    Ok(text)
}

fn not_found(wanted: Option<&str>, source: &Source, listing: &Listing) -> RepoError {
    let shown = source.shown();
    let branches = mirror::offer(listing);
    RepoError::RevisionNotFound(match wanted {
        Some(wanted) => {
            format!("{shown} has no branch, tag or commit {wanted:?}; its branches: {branches}")
        }
        None => format!("{shown} has no default branch; name one of: {branches}"),
    })
}

/// What a session's git directory has of its own.
fn seeds(branch: &str, commit: Option<&str>) -> Vec<SeedFile> {
    let seed = |name: &str, content: String| SeedFile {
        path: Path::new("/").join(checkout::WORKSPACE).join(".git").join(name),
        content: content.into_bytes(),
        mode: 0o644,
        uid: tree::AGENT,
    };
    let mut files = vec![seed("HEAD", format!("ref: refs/heads/{branch}\n"))];
    files.extend(commit.map(|id| seed(&format!("refs/heads/{branch}"), format!("{id}\n"))));
    files
}

/// A directory's subdirectories; none if it is not there.
fn children(dir: &Path) -> io::Result<Vec<PathBuf>> {
    let entries = match fs::read_dir(dir) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        other => other?,
    };
    let mut found = Vec::new();
    for entry in entries {
        let entry = entry?;
        if entry.file_type()?.is_dir() && !tree::is_unfinished(&entry.file_name()) {
            found.push(entry.path());
        }
    }
    Ok(found)
}

/// Removes a tree unless it was handed out since, under the lock that those who hand it out take.
fn remove_if_idle(room: &Path, kind: &str, place: &Path, since: Timestamp) -> io::Result<()> {
    use std::os::unix::fs::MetadataExt;

    let name = place.file_name().unwrap_or_default().to_string_lossy();
    let lock = match kind {
        "checkouts" => room.join(kind).join(format!("{}.lock", name.get(..2).unwrap_or_default())),
        _ => room.join("refs.lock"),
    };
    let Some(lock) = lock::try_lock(&lock).map_err(io::Error::other)? else { return Ok(()) };
    let touched = place.metadata()?;
    if touched.mtime() * 1_000_000 + touched.mtime_nsec() / 1000 >= since.as_micros() {
        return Ok(());
    }
    let removed = tree::remove(place);
    drop(lock);
    removed
}
