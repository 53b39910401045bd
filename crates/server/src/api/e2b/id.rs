//! Names: E2B's are lower-case letters and digits without a dash, since its host names part at
//! dashes. Ours are written so that each gives the other.

use rclaude_types::{CheckpointId, SessionId};

/// Begins every sandbox's name; `s` for session.
const SANDBOX: &str = "s";
/// Begins every snapshot's name.
const SNAPSHOT: &str = "snap";

/// A session's name as a sandbox.
pub(super) fn sandbox(id: &SessionId) -> String {
    format!("{SANDBOX}{}", digits(id.as_str()))
}

/// The session that a sandbox's name stands for. Old clients add their own name behind a dash.
pub(super) fn session(text: &str) -> Option<SessionId> {
    let name = text.split_once('-').map_or(text, |(name, _)| name);
    format!("ses_{}", name.strip_prefix(SANDBOX)?).parse().ok()
}

/// A checkpoint's name as a snapshot, and so as a template.
pub(super) fn snapshot(id: &CheckpointId) -> String {
    format!("{SNAPSHOT}{}", digits(id.as_str()))
}

/// The checkpoint that a snapshot's name stands for. Clients may name a build of a template
/// behind a colon.
pub(super) fn checkpoint(text: &str) -> Option<CheckpointId> {
    let name = text.split_once(':').map_or(text, |(name, _)| name);
    format!("ckp_{}", name.strip_prefix(SNAPSHOT)?).parse().ok()
}

fn digits(id: &str) -> &str {
    id.split_once('_').map_or(id, |(_, digits)| digits)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_gives_back_what_it_was_made_of_and_has_no_dash() {
        let (id, kept) = (SessionId::generate(), CheckpointId::generate());
        let (name, state) = (sandbox(&id), snapshot(&kept));
        assert!(name.bytes().chain(state.bytes()).all(|b| b.is_ascii_alphanumeric()), "{name}");
        assert_eq!(session(&name), Some(id.clone()));
        assert_eq!(session(&format!("{name}-client")), Some(id));
        assert_eq!(checkpoint(&state), Some(kept.clone()));
        assert_eq!(checkpoint(&format!("{state}:default")), Some(kept));
    }

    #[test]
    fn other_text_names_nothing() {
        for text in ["", "s", "ixyz", "s0", "ses_019a2b3c4d5e7f8091a2b3c4d5e6f708", "s../../etc"] {
            assert_eq!(session(text), None, "{text}");
            assert_eq!(checkpoint(text), None, "{text}");
        }
    }
}
