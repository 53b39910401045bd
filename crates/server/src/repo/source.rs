//! What a caller may call a repository, and what it is: a directory of this host or a clean URL.

use std::{
    fmt::Write as _,
    os::unix::{ffi::OsStrExt, fs::MetadataExt},
    path::{Path, PathBuf},
};

use base64::{Engine as _, prelude::BASE64_STANDARD};
use sha2::{Digest, Sha256};
use url::Url;

use super::RepoError;

/// Where `owner/name` is looked for, unless the settings say otherwise.
pub const DEFAULT_FORGE: &str = "https://github.com";

/// A repository, found or at least well-formed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Source {
    /// A repository on this host.
    Local(LocalRepository),
    /// A repository behind a URL.
    Remote(RemoteRepository),
}

/// A repository on this host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct LocalRepository {
    /// The work tree's top, or the bare repository.
    pub(super) top: PathBuf,
    /// Where `HEAD` is.
    pub(super) git_dir: PathBuf,
    /// Where objects and refs are: the same, but for linked work trees.
    pub(super) common_dir: PathBuf,
    /// Without files of its own.
    pub(super) bare: bool,
    /// Its owner and group.
    pub(super) owner: (u32, u32),
}

/// A repository behind a URL.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct RemoteRepository {
    /// What git is given and everybody may see.
    pub(super) url: String,
    /// The URL in one spelling, for the mirror's name.
    key: String,
    /// `user:password` of the URL, which travels apart from it.
    credentials: Option<String>,
}

impl std::fmt::Debug for RemoteRepository {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RemoteRepository").field("url", &self.url).finish_non_exhaustive()
    }
}

impl Source {
    /// Understands `text`; a path is looked at.
    pub(super) fn parse(text: &str, forge: &str) -> Result<Self, RepoError> {
        let text = text.trim();
        if text.is_empty() || text.starts_with('-') || text.chars().any(char::is_control) {
            return Err(RepoError::Invalid(format!("{text:?} cannot name a repository")));
        }
        if text.starts_with('/') {
            return LocalRepository::find(Path::new(text)).map(Self::Local);
        }
        if let Some(rest) = text.strip_prefix("file://") {
            let path =
                Url::parse(&format!("file://{rest}")).ok().and_then(|u| u.to_file_path().ok());
            let path = path.ok_or_else(|| RepoError::Invalid(format!("{text} is not a path")))?;
            return LocalRepository::find(&path).map(Self::Local);
        }
        if text.contains("://") {
            return RemoteRepository::from_url(text).map(Self::Remote);
        }
        if let Some(remote) = RemoteRepository::from_scp(text)? {
            return Ok(Self::Remote(remote));
        }
        RemoteRepository::from_short(text, forge).map(Self::Remote)
    }

    /// What names its mirror: the same for every spelling, without credentials.
    pub(super) fn hash(&self) -> String {
        match self {
            Self::Local(local) => short_hash(local.common_dir.as_os_str().as_bytes()),
            Self::Remote(remote) => short_hash(remote.key.as_bytes()),
        }
    }

    /// What errors call it.
    pub(super) fn shown(&self) -> String {
        match self {
            Self::Local(local) => local.top.display().to_string(),
            Self::Remote(remote) => remote.url.clone(),
        }
    }

    /// What git is told to read from.
    pub(super) fn address(&self) -> &std::ffi::OsStr {
        match self {
            Self::Local(local) => local.top.as_os_str(),
            Self::Remote(remote) => remote.url.as_ref(),
        }
    }

    /// What git may speak to get there.
    pub(super) fn protocols(&self) -> &'static str {
        match self {
            Self::Local(_) => "file",
            Self::Remote(_) => "https:http:ssh:git",
        }
    }

    /// Configuration that carries the credentials: name and value. Given to git by its
    /// environment, which unlike its arguments only the same user can see, and only for this
    /// host.
    pub(super) fn credentials(&self) -> Option<(String, String)> {
        let Self::Remote(RemoteRepository { url, credentials: Some(credentials), .. }) = self
        else {
            return None;
        };
        let origin = Url::parse(url).ok()?.origin().ascii_serialization();
        let value = format!("Authorization: Basic {}", BASE64_STANDARD.encode(credentials));
        Some((format!("http.{origin}/.extraHeader"), value))
    }
}

impl LocalRepository {
    /// Finds the repository that `path` is, or is inside of.
    fn find(path: &Path) -> Result<Self, RepoError> {
        let shown = path.display();
        let real = path
            .canonicalize()
            .map_err(|error| RepoError::Unavailable(format!("cannot open {shown}: {error}")))?;
        real.ancestors().find_map(Self::at).ok_or_else(|| {
            RepoError::Unavailable(format!(
                "{shown} is not a git repository; make it one with `git init` and a first commit, \
                 or name another"
            ))
        })
    }

    fn at(dir: &Path) -> Option<Self> {
        let looks_right = |dir: &Path| {
            dir.join("HEAD").symlink_metadata().is_ok() && dir.join("objects").is_dir()
        };
        let dot_git = dir.join(".git");
        let (git_dir, bare) = if dot_git.is_dir() {
            (dot_git, false)
        } else if let Ok(pointer) = std::fs::read_to_string(&dot_git) {
            (dir.join(pointer.strip_prefix("gitdir:")?.trim()).canonicalize().ok()?, false)
        } else {
            (dir.to_owned(), true)
        };
        let common_dir = match std::fs::read_to_string(git_dir.join("commondir")) {
            Ok(pointer) => git_dir.join(pointer.trim()).canonicalize().ok()?,
            Err(_) => git_dir.clone(),
        };
        let found = git_dir.join("HEAD").symlink_metadata().is_ok() && looks_right(&common_dir);
        let owner = dir.metadata().ok()?;
        let owner = (owner.uid(), owner.gid());
        found.then(|| Self { top: dir.to_owned(), git_dir, common_dir, bare, owner })
    }
}

impl RemoteRepository {
    fn from_url(text: &str) -> Result<Self, RepoError> {
        let wrong =
            |why: &str| Err(RepoError::Invalid(format!("not a usable repository URL: {why}")));
        let Ok(mut url) = Url::parse(text) else {
            return wrong("it cannot be parsed");
        };
        let scheme = url.scheme().to_owned();
        if !matches!(scheme.as_str(), "https" | "http" | "ssh" | "git") {
            return wrong(&format!("{scheme}: is not one of https, http, ssh, git, file"));
        }
        let Some(host) = url.host_str().filter(|host| !host.is_empty() && !host.starts_with('-'))
        else {
            return wrong("it names no host");
        };
        let host = host.to_ascii_lowercase();
        if url.path().trim_matches('/').is_empty() {
            return wrong("it names no repository on that host");
        }
        url.set_query(None);
        url.set_fragment(None);
        let mut credentials = None;
        if scheme == "ssh" {
            if url.password().is_some() {
                return wrong("a password in an ssh: URL is not supported; use a key");
            }
            if url.username().starts_with('-') {
                return wrong("the user name is not one");
            }
        } else if !url.username().is_empty() || url.password().is_some() {
            let decode = |text: &str| percent_decode(text);
            let (user, password) = (decode(url.username()), decode(url.password().unwrap_or("")));
            credentials = Some(format!("{user}:{password}"));
            // Only URLs without a host refuse these, and this one has a host.
            let _ = url.set_username("");
            let _ = url.set_password(None);
        }
        let path = url.path().trim_end_matches('/');
        let key = format!(
            "{scheme}://{}@{host}:{}{}",
            url.username(),
            url.port_or_known_default().unwrap_or(if scheme == "ssh" { 22 } else { 9418 }),
            path.strip_suffix(".git").unwrap_or(path)
        );
        Ok(Self { url: url.to_string(), key, credentials })
    }

    /// `user@host:path`, as ssh's copy program writes it.
    fn from_scp(text: &str) -> Result<Option<Self>, RepoError> {
        let Some((left, path)) = text.split_once(':') else { return Ok(None) };
        if left.contains('/') {
            return Ok(None);
        }
        let (user, host) = left.rsplit_once('@').unwrap_or(("", left));
        let plain = |text: &str| {
            !text.starts_with('-')
                && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b))
        };
        // `ext::command` would have git run the command.
        if host.is_empty()
            || !plain(host)
            || !plain(user)
            || path.is_empty()
            || path.starts_with(':')
        {
            return Err(RepoError::Invalid(format!("{text:?} cannot name a repository")));
        }
        let at = if user.is_empty() { "" } else { "@" };
        let path = path.trim_end_matches('/');
        // Without a leading slash it is relative to the user's home over there.
        let home = if path.starts_with('/') { "" } else { "/~/" };
        let key = format!(
            "ssh://{user}@{}:22{home}{}",
            host.to_ascii_lowercase(),
            path.strip_suffix(".git").unwrap_or(path)
        );
        Ok(Some(Self { url: format!("{user}{at}{host}:{path}"), key, credentials: None }))
    }

    /// `owner/name` on the default forge, or `host.example/owner/name`.
    fn from_short(text: &str, forge: &str) -> Result<Self, RepoError> {
        let word = |word: &str| {
            !matches!(word, "" | "." | "..")
                && !word.starts_with('-')
                && word.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b))
        };
        let words = text.split('/').collect::<Vec<_>>();
        if words.len() < 2 || !words.iter().all(|part| word(part)) {
            return Err(RepoError::Invalid(format!(
                "{text:?} is neither a URL, nor owner/name, nor an absolute path on the server"
            )));
        }
        if words.len() > 2 && words[0].contains('.') {
            return Self::from_url(&format!("https://{text}"));
        }
        Self::from_url(&format!("{}/{text}", forge.trim_end_matches('/')))
    }
}

/// The first half of a SHA-256 in hexadecimal digits: enough to never meet twice.
pub(super) fn short_hash(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().take(16).fold(String::new(), |mut hex, byte| {
        // Writing to a string cannot fail.
        let _ = write!(hex, "{byte:02x}");
        hex
    })
}

fn percent_decode(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, tail @ ..] = rest {
        let hex = tail.get(..2).and_then(|two| std::str::from_utf8(two).ok());
        match hex.and_then(|hex| u8::from_str_radix(hex, 16).ok()) {
            Some(byte) if *first == b'%' => {
                bytes.push(byte);
                rest = &tail[2..];
            }
            _ => {
                bytes.push(*first);
                rest = tail;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn remote(text: &str) -> RemoteRepository {
        match Source::parse(text, DEFAULT_FORGE).unwrap() {
            Source::Remote(remote) => remote,
            Source::Local(local) => panic!("{local:?}"),
        }
    }

    fn hash(text: &str) -> String {
        Source::Remote(remote(text)).hash()
    }

    #[test]
    fn spellings_of_one_repository_share_a_mirror() {
        let wanted = hash("https://github.com/acme/widgets");
        for other in [
            "acme/widgets",
            "github.com/acme/widgets",
            "https://GitHub.com:443/acme/widgets.git/",
            "https://token:x@github.com/acme/widgets.git",
        ] {
            assert_eq!(hash(other), wanted, "{other}");
        }
        assert_eq!(hash("git@example.org:/a/b.git"), hash("ssh://git@Example.org:22/a/b"));
        assert_ne!(hash("acme/widgets"), hash("acme/gadgets"));
    }

    #[test]
    fn credentials_leave_the_url_and_return_as_a_header_for_that_host() {
        let source = Source::Remote(remote("https://me:p%40ss@example.org/a/b.git"));
        assert_eq!(source.shown(), "https://example.org/a/b.git");
        let (name, value) = source.credentials().unwrap();
        assert_eq!(name, "http.https://example.org/.extraHeader");
        assert_eq!(value, format!("Authorization: Basic {}", BASE64_STANDARD.encode("me:p@ss")));
        assert!(!format!("{source:?}").contains("p@ss"));
    }

    #[test]
    fn what_git_would_take_for_an_option_or_a_command_is_refused() {
        for text in [
            "--upload-pack=touch /tmp/x",
            "-oProxyCommand=x/y",
            "ext::sh -c x",
            "ext::x/y",
            "ssh://-oProxyCommand=x/y",
            "-x@host:y",
            "user@-host:y",
            "https://host/a\nb",
            "ftp://host/a",
            "ext://host/a",
            "a/../../b",
            "owner/-name",
            "relative",
            "./relative/path",
            "https:///x",
            "https://example.org/",
            "",
            " ",
        ] {
            let error = Source::parse(text, DEFAULT_FORGE).unwrap_err();
            assert!(matches!(error, RepoError::Invalid(_)), "{text}: {error}");
        }
    }
}
