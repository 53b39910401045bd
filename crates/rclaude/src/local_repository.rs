//! What `--repo` means: a path here becomes the top of its git tree, anything else goes to the
//! server as it is.

use std::{
    path::{Path, PathBuf},
    process::Command,
};

use crate::{config::Environment, exit::Failure};

/// What was given as `--repo`.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Repository {
    /// A URL, or `owner/name` on the server's forge.
    Remote(String),
    /// A directory on this host, absolute.
    Path(PathBuf),
}

/// Reads a `--repo`. What looks like a path is one; `owner/name` never is, so that a directory of
/// that name in the current directory does not change what a command means.
pub(crate) fn read(text: &str, environment: &Environment) -> Result<Repository, Failure> {
    let is_path = matches!(text, "." | ".." | "~")
        || ["/", "./", "../", "~/"].iter().any(|p| text.starts_with(p));
    if is_path {
        return top_level(&environment.expand(text)).map(Repository::Path);
    }
    let is_url = text.contains("://") || text.contains(':');
    let is_forge = text.split('/').count() == 2 && !text.split('/').any(str::is_empty);
    if is_url || is_forge {
        return Ok(Repository::Remote(text.to_owned()));
    }
    if Path::new(text).is_dir() {
        return top_level(Path::new(text)).map(Repository::Path);
    }
    Err(Failure::Usage(format!(
        "`{text}` is neither a directory here, a URL nor owner/name; a path starts with ./ or /"
    )))
}

/// The top of the git tree that a directory is in.
fn top_level(path: &Path) -> Result<PathBuf, Failure> {
    if !path.is_dir() {
        return Err(Failure::Usage(format!("there is no directory {}", path.display())));
    }
    let output = git(path, &["rev-parse", "--show-toplevel"])?;
    if !output.status.success() {
        return Err(Failure::Usage(format!(
            "{} is not in a git repository; `git init` makes it one",
            path.display()
        )));
    }
    let top = String::from_utf8_lossy(&output.stdout);
    Path::new(top.trim_end_matches('\n')).canonicalize().map_err(Failure::from)
}

/// How many files differ from the last commit, untracked ones included, ignored ones not.
pub(crate) fn uncommitted(top: &Path) -> Result<usize, Failure> {
    let output =
        git(top, &["status", "--porcelain", "-z", "--untracked-files=all", "--no-renames"])?;
    if !output.status.success() {
        return Err(Failure::Failed(format!(
            "git status in {} failed: {}",
            top.display(),
            String::from_utf8_lossy(&output.stderr).trim()
        )));
    }
    Ok(output.stdout.split(|byte| *byte == 0).filter(|entry| !entry.is_empty()).count())
}

fn git(directory: &Path, arguments: &[&str]) -> Result<std::process::Output, Failure> {
    Command::new("git")
        .arg("-C")
        .arg(directory)
        .args(arguments)
        .output()
        .map_err(|error| Failure::Failed(format!("cannot run git: {error}; is it installed?")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_becomes_the_top_of_its_tree() {
        let dir = tempfile::tempdir().unwrap();
        assert!(git(dir.path(), &["init", "-q"]).unwrap().status.success());
        let inner = dir.path().join("src/deep");
        std::fs::create_dir_all(&inner).unwrap();
        let read = read(&inner.display().to_string(), &Environment::default()).unwrap();
        assert_eq!(read, Repository::Path(dir.path().canonicalize().unwrap()));
    }

    #[test]
    fn untracked_files_count_as_uncommitted_and_ignored_ones_do_not() {
        let dir = tempfile::tempdir().unwrap();
        assert!(git(dir.path(), &["init", "-q"]).unwrap().status.success());
        assert_eq!(uncommitted(dir.path()).unwrap(), 0);
        for (name, text) in [(".gitignore", "ignored"), ("ignored", ""), ("new", "")] {
            std::fs::write(dir.path().join(name), text).unwrap();
        }
        assert_eq!(uncommitted(dir.path()).unwrap(), 2);
    }

    #[test]
    fn urls_and_forge_names_go_to_the_server_as_they_are() {
        for text in ["rust-lang/log", "https://host/x.git", "git@host:a/b.git", "file:///srv/x"] {
            let read = read(text, &Environment::default()).unwrap();
            assert_eq!(read, Repository::Remote(text.to_owned()));
        }
    }

    #[test]
    fn what_is_none_of_these_is_refused_with_words() {
        let dir = tempfile::tempdir().unwrap();
        let outside = read(&dir.path().display().to_string(), &Environment::default());
        assert!(outside.unwrap_err().to_string().contains("git init"));
        assert!(read("no-such-thing", &Environment::default()).is_err());
        assert!(read("./no-such-thing", &Environment::default()).is_err());
    }
}
