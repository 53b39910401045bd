//! What a repository says it has: its refs and where its `HEAD` points, as one text. The text of
//! the last fetch is kept beside the mirror; while the repository still says the same, there is
//! nothing to fetch.

use std::{
    collections::{BTreeMap, HashSet},
    fmt::Write as _,
};

/// A repository's refs.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Listing {
    /// The commit that `HEAD` stands for; none in a repository without commits.
    pub(super) head: Option<String>,
    /// The branch that `HEAD` names.
    pub(super) head_branch: Option<String>,
    /// Full names of branches and tags, with what they point at.
    refs: BTreeMap<String, Target>,
}

/// What a ref points at.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Target {
    id: String,
    /// The commit behind an annotated tag.
    peeled: Option<String>,
}

/// A revision as it was asked for, found among the refs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Found {
    /// This object; from this branch, if it was one.
    Known { id: String, branch: Option<String> },
    /// Not a ref: for git to say, in the mirror.
    Expression(String),
    /// There is nothing at all in the repository.
    Unborn,
}

impl Listing {
    /// Reads the output of `git ls-remote --symref` or `git show-ref --head --dereference`.
    /// Other people wrote it: names that are not well-formed are left out.
    pub(super) fn parse(text: &[u8]) -> Self {
        let mut listing = Self::default();
        for line in text.split(|byte| *byte == b'\n') {
            let Ok(line) = std::str::from_utf8(line) else { continue };
            let Some((id, name)) = line.split_once(['\t', ' ']) else { continue };
            if id == "ref:" {
                if let Some((branch, "HEAD")) = name.split_once('\t') {
                    listing.head_branch = branch_of(branch);
                }
            } else if !is_full_id(id) {
            } else if name == "HEAD" {
                listing.head = Some(id.to_owned());
            } else if let Some(tag) = name.strip_suffix("^{}") {
                if let Some(target) = listing.refs.get_mut(tag) {
                    target.peeled = Some(id.to_owned());
                }
            } else if is_safe_ref(name) {
                listing.refs.insert(name.to_owned(), Target { id: id.to_owned(), peeled: None });
            }
        }
        listing
    }

    /// The listing as text that [`parse`](Self::parse) reads.
    pub(super) fn to_text(&self) -> String {
        let mut text = String::new();
        if let Some(branch) = &self.head_branch {
            let _ = writeln!(text, "ref: refs/heads/{branch}\tHEAD");
        }
        if let Some(head) = &self.head {
            let _ = writeln!(text, "{head}\tHEAD");
        }
        for (name, target) in &self.refs {
            let _ = writeln!(text, "{}\t{name}", target.id);
            if let Some(peeled) = &target.peeled {
                let _ = writeln!(text, "{peeled}\t{name}^{{}}");
            }
        }
        text
    }

    /// Every object named.
    pub(super) fn ids(&self) -> HashSet<&str> {
        self.refs.values().map(|target| target.id.as_str()).chain(self.head.as_deref()).collect()
    }

    /// Whether ids are SHA-256.
    pub(super) fn is_sha256(&self) -> bool {
        self.ids().iter().any(|id| id.len() == 64)
    }

    /// The branch a session starts from if nobody says.
    pub(super) fn default_branch(&self) -> Option<&str> {
        self.head_branch.as_deref()
    }

    /// Finds a revision: branch before tag before commit, as git's own `switch` does.
    pub(super) fn find(&self, wanted: Option<&str>) -> Option<Found> {
        let Some(wanted) = wanted else {
            return match (&self.head, &self.head_branch) {
                (Some(id), branch) => Some(Found::Known {
                    id: id.clone(),
                    branch: branch.clone().filter(|name| self.branch(name) == Some(id)),
                }),
                // A remote HEAD that names a branch nobody made, beside branches that exist.
                (None, _) => {
                    match ["main", "master"].into_iter().find(|b| self.branch(b).is_some()) {
                        Some(branch) => self.find(Some(branch)),
                        None if self.refs.is_empty() => Some(Found::Unborn),
                        None => None,
                    }
                }
            };
        };
        if let Some(id) = self.branch(wanted) {
            return Some(Found::Known { id: id.to_owned(), branch: Some(wanted.to_owned()) });
        }
        let full = [wanted.to_owned(), format!("refs/tags/{wanted}"), format!("refs/{wanted}")];
        if let Some((name, target)) = full.iter().find_map(|name| self.refs.get_key_value(name)) {
            let id = target.peeled.as_ref().unwrap_or(&target.id).clone();
            return Some(Found::Known { id, branch: branch_of(name) });
        }
        if is_full_id(wanted) {
            return Some(Found::Known { id: wanted.to_owned(), branch: None });
        }
        // `main~2`: our mirror's branches may be newer or older than this listing.
        if let Some(at) = wanted.find(['~', '^']) {
            let (base, steps) = wanted.split_at(at);
            return match self.find(Some(base))? {
                Found::Known { id, .. } => Some(Found::Expression(format!("{id}{steps}"))),
                Found::Expression(base) => Some(Found::Expression(format!("{base}{steps}"))),
                Found::Unborn => None,
            };
        }
        let short = wanted.len() >= 4 && wanted.bytes().all(|byte| byte.is_ascii_hexdigit());
        short.then(|| Found::Expression(wanted.to_ascii_lowercase()))
    }

    fn branch(&self, name: &str) -> Option<&String> {
        self.refs.get(&format!("refs/heads/{name}")).map(|target| &target.id)
    }

    /// The refs as a session sees them, in git's `packed-refs` format: the remote's branches
    /// under `origin/`, its tags, and the branch it started from.
    pub(super) fn packed_refs(&self, branch: Option<&str>) -> String {
        let mut shown = BTreeMap::new();
        for (name, target) in &self.refs {
            if let Some(name) = name.strip_prefix("refs/heads/") {
                shown.insert(format!("refs/remotes/origin/{name}"), target);
                // A branch called `rclaude` cannot stand beside the session's `rclaude/<name>`.
                if branch == Some(name) && name != "rclaude" && !name.starts_with("rclaude/") {
                    shown.insert(format!("refs/heads/{name}"), target);
                }
            } else {
                shown.insert(name.clone(), target);
            }
        }
        let mut text = String::from("# pack-refs with: peeled fully-peeled sorted \n");
        for (name, target) in shown {
            let _ = writeln!(text, "{} {name}", target.id);
            if let Some(peeled) = &target.peeled {
                let _ = writeln!(text, "^{peeled}");
            }
        }
        text
    }
}

/// Whether it is a whole object id.
pub(super) fn is_full_id(text: &str) -> bool {
    matches!(text.len(), 40 | 64)
        && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

fn branch_of(name: &str) -> Option<String> {
    name.strip_prefix("refs/heads/").filter(|_| is_safe_ref(name)).map(str::to_owned)
}

/// A branch or tag whose name follows git's own rules (git-check-ref-format).
fn is_safe_ref(name: &str) -> bool {
    (name.starts_with("refs/heads/") || name.starts_with("refs/tags/"))
        && name.len() < 1024
        && !name.contains("..")
        && !name.contains("@{")
        && !name.ends_with('.')
        && !name.bytes().any(|byte| byte <= b' ' || byte == 0x7f || b"~^:?*[\\".contains(&byte))
        && name.split('/').all(|part| {
            !part.is_empty() && !part.starts_with('.') && !part.as_bytes().ends_with(b".lock")
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: &str = "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";
    const B: &str = "bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb";

    fn listing() -> Listing {
        Listing::parse(
            format!(
                "ref: refs/heads/main\tHEAD\n{A}\tHEAD\n{A}\trefs/heads/main\n\
                 {B}\trefs/heads/v1\n{A}\trefs/heads/../../x\n{B}\trefs/tags/v1\n\
                 {B}\trefs/tags/v2\n{A}\trefs/tags/v2^{{}}\n{A}\trefs/pull/1/head\n"
            )
            .as_bytes(),
        )
    }

    fn known(id: &str, branch: Option<&str>) -> Found {
        Found::Known { id: id.to_owned(), branch: branch.map(str::to_owned) }
    }

    #[test]
    fn a_branch_comes_before_a_tag_and_a_tag_is_peeled() {
        let refs = listing();
        assert_eq!(refs.find(None), Some(known(A, Some("main"))));
        assert_eq!(refs.find(Some("v1")), Some(known(B, Some("v1"))));
        assert_eq!(refs.find(Some("refs/tags/v1")), Some(known(B, None)));
        assert_eq!(refs.find(Some("v2")), Some(known(A, None)));
        assert_eq!(refs.find(Some(B)), Some(known(B, None)));
        assert_eq!(refs.find(Some("main~2")), Some(Found::Expression(format!("{A}~2"))));
        assert_eq!(refs.find(Some("abcd")), Some(Found::Expression("abcd".to_owned())));
        assert_eq!(refs.find(Some("nothing")), None);
        assert_eq!(Listing::parse(b"").find(None), Some(Found::Unborn));
    }

    #[test]
    fn a_listing_reads_back_from_its_own_text_and_drops_unsafe_names() {
        let refs = listing();
        let text = refs.to_text();
        assert!(!text.contains("..") && !text.contains("pull"));
        assert_eq!(Listing::parse(text.as_bytes()), refs);
    }

    #[test]
    fn a_session_sees_remote_branches_tags_and_the_branch_it_started_from() {
        assert_eq!(
            listing().packed_refs(Some("main")),
            format!(
                "# pack-refs with: peeled fully-peeled sorted \n{A} refs/heads/main\n\
                 {A} refs/remotes/origin/main\n{B} refs/remotes/origin/v1\n{B} refs/tags/v1\n\
                 {B} refs/tags/v2\n^{A}\n"
            )
        );
    }
}
