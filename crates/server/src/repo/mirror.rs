//! The bare mirror of one repository: made once, brought up to date when the repository says
//! something new, never collected, since sessions borrow its objects.

use std::{
    collections::HashSet,
    fs,
    path::{Path, PathBuf},
};

use super::{
    RepoError,
    checkout::blocking,
    git::{Failure, Git, Invocation, Progress},
    listing::{Found, Listing},
    lock,
    source::Source,
    tree::{self, Draft},
};

/// One repository's room in the cache.
#[derive(Debug, Clone)]
pub(super) struct Mirror {
    pub(super) dir: PathBuf,
}

impl Mirror {
    /// Where git's own directory is.
    pub(super) fn git_dir(&self) -> PathBuf {
        self.dir.join("mirror.git")
    }

    /// Where the objects are that sessions borrow.
    pub(super) fn objects(&self) -> PathBuf {
        self.git_dir().join("objects")
    }

    /// The URL that sessions see as `origin`; none for a repository of this host.
    pub(super) fn url(&self) -> Option<String> {
        fs::read_to_string(self.dir.join("url")).ok()
    }

    /// Makes the room.
    pub(super) fn open(dir: PathBuf, source: &Source) -> Result<Self, RepoError> {
        let mirror = Self { dir };
        if let Source::Remote(remote) = source
            && mirror.url().as_ref() != Some(&remote.url)
        {
            mirror.write("url", &remote.url)?;
        } else {
            let made = fs::create_dir_all(&mirror.dir);
            made.map_err(RepoError::at("making", &mirror.dir))?;
        }
        Ok(mirror)
    }

    /// Writes a small file whole or not at all.
    fn write(&self, name: &str, text: &str) -> Result<(), RepoError> {
        let place = self.dir.join(name);
        let write = || {
            fs::create_dir_all(&self.dir)?;
            let draft = tempfile::NamedTempFile::new_in(&self.dir)?;
            fs::write(draft.path(), text)?;
            draft.persist(&place)?;
            Ok(())
        };
        write().map_err(RepoError::at("writing", &place))
    }

    /// What the mirror is known to hold.
    pub(super) fn fetched(&self) -> Option<Listing> {
        fs::read(self.dir.join("fetched")).ok().map(|text| Listing::parse(&text))
    }

    /// Asks the repository what it has.
    pub(super) async fn list(
        &self,
        git: &Git,
        source: &Source,
        progress: &mut Progress<'_>,
    ) -> Result<Listing, RepoError> {
        let what = format!("reading {}", source.shown());
        let mut ask = git.invoke(source.protocols(), &what);
        let Source::Local(local) = source else {
            progress(&what);
            carry_credentials(source, &mut ask);
            ask.args(["ls-remote", "--symref", "--"]).arg(source.address());
            ask.args(["HEAD", "refs/heads/*", "refs/tags/*"]);
            let told = ask.run(progress).await?.map_err(|failure| cannot_read(source, &failure))?;
            return Ok(Listing::parse(&told));
        };
        ask.arg("--git-dir").arg(&local.git_dir).args(["show-ref", "--head", "--dereference"]);
        let mut listing = match ask.run(&mut |_| ()).await? {
            Ok(told) => Listing::parse(&told),
            // No refs at all is an exit code without words.
            Err(failure) if failure.said.trim().is_empty() => Listing::default(),
            Err(failure) => return Err(cannot_read(source, &failure)),
        };
        let head = fs::read_to_string(local.git_dir.join("HEAD")).unwrap_or_default();
        listing.head_branch = head.trim_end().strip_prefix("ref: refs/heads/").map(str::to_owned);
        Ok(listing)
    }

    /// Has every object that `listing` speaks of in the mirror, and `wanted`, if it can be had.
    pub(super) async fn bring(
        &self,
        git: &Git,
        source: &Source,
        listing: &Listing,
        wanted: &Found,
        progress: &mut Progress<'_>,
    ) -> Result<(), RepoError> {
        if self.holds(git, listing, wanted).await? {
            return Ok(());
        }
        let _lock = lock::lock(&self.dir.join("mirror.lock")).await?;
        // Whoever had the lock may have brought it.
        if self.holds(git, listing, wanted).await? {
            return Ok(());
        }
        if !self.git_dir().exists() {
            self.make(git, source, listing, progress).await?;
        } else if !self.knows(listing) {
            self.clear_remains();
            self.fetch(git, source, &self.git_dir(), listing, progress).await?;
        }
        self.write("fetched", &listing.to_text())?;
        if let Found::Known { id, .. } = wanted
            && !self.has(git, id).await?
        {
            // Reachable from no branch or tag: a pull request's commit, say.
            let mut one = git.invoke(source.protocols(), format!("fetching {id}"));
            carry_credentials(source, &mut one);
            one.arg("--git-dir").arg(self.git_dir());
            one.args(["fetch", "--progress", "--no-tags", "--no-write-fetch-head", "--"]);
            one.arg(source.address()).arg(format!("+{id}:refs/rclaude/commits/{id}"));
            // Not to be had is for the caller to say, who knows what was asked for.
            let _ = one.run(progress).await?;
        }
        Ok(())
    }

    async fn holds(&self, git: &Git, listing: &Listing, wanted: &Found) -> Result<bool, RepoError> {
        if !self.git_dir().exists() || !self.knows(listing) {
            return Ok(false);
        }
        match wanted {
            Found::Known { id, .. } if !listing.ids().contains(id.as_str()) => {
                self.has(git, id).await
            }
            _ => Ok(true),
        }
    }

    fn knows(&self, listing: &Listing) -> bool {
        let Some(fetched) = self.fetched() else { return false };
        fetched == *listing || listing.ids().is_subset(&fetched.ids())
    }

    /// Makes the mirror under a temporary name and puts it in place when it is whole.
    async fn make(
        &self,
        git: &Git,
        source: &Source,
        listing: &Listing,
        progress: &mut Progress<'_>,
    ) -> Result<(), RepoError> {
        let place = self.git_dir();
        let at = || RepoError::at("making the mirror", &place);
        tree::clear_unfinished(&place).map_err(at())?;
        let draft = Draft::new(&place).map_err(at())?;
        match source {
            // Packs are linked, or copied where they are on another disk (`--local` would insist on
            // links), not packed anew. Not where objects are themselves borrowed from elsewhere:
            // the mirror has to stand alone.
            Source::Local(local)
                if !local.common_dir.join("objects/info/alternates").exists()
                    && !local.common_dir.join("shallow").exists() =>
            {
                let mut clone = git.invoke("file", format!("mirroring {}", source.shown()));
                clone.args(["clone", "--quiet", "--mirror", "--template=", "--"]);
                clone.arg(&local.common_dir).arg(draft.path());
                let made = clone.run(progress).await?;
                made.map_err(|failure| cannot_read(source, &failure))?;
                // Git syncs what it packs, but not what it copies.
                let objects = draft.path().join("objects");
                blocking(move || tree::sync_unshared(&objects)).await.map_err(at())?;
            }
            _ => {
                let format = if listing.is_sha256() { "sha256" } else { "sha1" };
                let mut init = git.invoke("", "making a mirror");
                init.args(["init", "--quiet", "--bare", "--template="]);
                init.arg(format!("--object-format={format}")).arg(draft.path());
                init.expect().await?;
            }
        }
        if listing.head.is_some() || !listing.ids().is_empty() {
            self.fetch(git, source, draft.path(), listing, progress).await?;
        }
        draft.finish().map_err(at())?;
        Ok(())
    }

    async fn fetch(
        &self,
        git: &Git,
        source: &Source,
        git_dir: &Path,
        listing: &Listing,
        progress: &mut Progress<'_>,
    ) -> Result<(), RepoError> {
        let what = format!("fetching {}", source.shown());
        progress(&what);
        let mut fetch = git.invoke(source.protocols(), what);
        carry_credentials(source, &mut fetch);
        fetch.arg("--git-dir").arg(git_dir).args([
            "fetch",
            "--progress",
            "--prune",
            "--no-tags",
            "--no-write-fetch-head",
            "--no-recurse-submodules",
            "--update-shallow",
            "--",
        ]);
        fetch
            .arg(source.address())
            .args(["+refs/heads/*:refs/heads/*", "+refs/tags/*:refs/tags/*"]);
        if listing.head.is_some() {
            fetch.arg("+HEAD:refs/rclaude/head");
        }
        fetch.run(progress).await?.map(drop).map_err(|failure| cannot_read(source, &failure))
    }

    /// Removes what a fetch that was killed leaves behind. Our lock is held, so nobody is writing.
    fn clear_remains(&self) {
        let dirs = [self.git_dir(), self.objects().join("pack")];
        for entry in dirs.iter().filter_map(|dir| fs::read_dir(dir).ok()).flatten().flatten() {
            let name = entry.file_name();
            let name = name.to_string_lossy();
            if name.ends_with(".lock") || name.starts_with("tmp_") || name.starts_with(".tmp-") {
                // What cannot be removed, git complains of.
                let _ = fs::remove_file(entry.path());
            }
        }
        remove_ref_locks(&self.git_dir().join("refs"));
    }

    /// Whether the mirror holds an object.
    async fn has(&self, git: &Git, id: &str) -> Result<bool, RepoError> {
        let mut look = git.invoke("", "looking for a commit");
        look.arg("--git-dir").arg(self.git_dir()).args(["cat-file", "-e", id]);
        Ok(look.run(&mut |_| ()).await?.is_ok())
    }

    /// The commit that a revision stands for, if the mirror has it.
    pub(super) async fn commit(&self, git: &Git, expr: &str) -> Result<Option<String>, RepoError> {
        let mut resolve = git.invoke("", "looking for a commit");
        resolve.arg("--git-dir").arg(self.git_dir());
        resolve.args(["rev-parse", "--verify", "--end-of-options"]);
        resolve.arg(format!("{expr}^{{commit}}"));
        Ok(match resolve.run(&mut |_| ()).await? {
            Ok(id) => Some(String::from_utf8_lossy(&id).trim().to_owned()),
            Err(failure) if failure.said.contains("ambiguous") => {
                return Err(RepoError::RevisionNotFound(format!(
                    "several commits start with {expr}; give more of its digits"
                )));
            }
            Err(_) => None,
        })
    }
}

/// Hands the URL's credentials to git by its environment.
fn carry_credentials(source: &Source, git: &mut Invocation) {
    if let Some((name, value)) = source.credentials() {
        git.env("GIT_CONFIG_COUNT", "1");
        git.env("GIT_CONFIG_KEY_0", name).env("GIT_CONFIG_VALUE_0", value);
    }
}

fn cannot_read(source: &Source, failure: &Failure) -> RepoError {
    let hint = if failure.said.contains("could not read Username")
        || failure.said.contains("Authentication failed")
    {
        "; it is private or does not exist"
    } else {
        ""
    };
    RepoError::Unavailable(format!("cannot read {}: {}{hint}", source.shown(), failure.reason))
}

fn remove_ref_locks(dir: &Path) {
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            remove_ref_locks(&entry.path());
        } else if entry.file_name().as_encoded_bytes().ends_with(b".lock") {
            let _ = fs::remove_file(entry.path());
        }
    }
}

/// Names from a listing for an error to offer.
pub(super) fn offer(listing: &Listing) -> String {
    let text = listing.to_text();
    let branches = text.lines().filter_map(|line| line.split_once("\trefs/heads/"));
    let names = branches.map(|(_, name)| name).collect::<HashSet<_>>();
    let mut names = names.into_iter().collect::<Vec<_>>();
    names.sort_unstable();
    let more = if names.len() > 8 { ", …" } else { "" };
    names.truncate(8);
    format!("{}{more}", names.join(", "))
}
