//! Where a session came from, what of it was kept, and what was taken back, as text.

use rclaude_types::{
    Checkpoint, CheckpointId, CheckpointKind, Origin, RewindScope, SessionId, SessionStatus,
};

use super::{Renderer, word};
use crate::ui::text::{bytes, clean_line, short_id};

impl Renderer {
    pub(super) fn created(&mut self, name: &str, origin: Option<&Origin>) -> String {
        let name = clean_line(name);
        let from = origin.map_or_else(String::new, |origin| {
            let (session, checkpoint) = (short_id(&origin.session), short_id(&origin.checkpoint));
            format!(", forked from {session} at {checkpoint}")
        });
        let line = self.err.dim(&format!("session {name}{from}"));
        self.session.get_or_insert(name);
        line
    }

    pub(super) fn status(&self, status: SessionStatus, reason: Option<&str>) -> String {
        let reason = reason.map(clean_line);
        let because = reason.map(|reason| format!(": {reason}")).unwrap_or_default();
        match status {
            SessionStatus::Failed => {
                format!("{} the session failed{because}", self.err.red("error:"))
            }
            SessionStatus::Paused => {
                self.err.dim(&format!("paused{because}; its processes stand still"))
            }
            SessionStatus::Hibernated => {
                self.err.dim(&format!("hibernated{because}; its files are kept, no process runs"))
            }
            SessionStatus::Archived => {
                self.err.dim(&format!("archived{because}; it lies in the snapshot store"))
            }
            SessionStatus::Deleted => self.err.dim(&format!("deleted{because}")),
            _ if self.verbose || !because.is_empty() => {
                self.err.dim(&format!("{}{because}", word(status).replace('_', " ")))
            }
            _ => String::new(),
        }
    }

    /// What somebody asked for is always told, the rest to those who want to know all.
    pub(super) fn checkpoint(&self, checkpoint: &Checkpoint) -> String {
        if !self.verbose && checkpoint.kind != CheckpointKind::Manual {
            return String::new();
        }
        let note = checkpoint.note.as_deref().map(clean_line);
        let note = note.map(|note| format!(": {note}")).unwrap_or_default();
        let kind = match checkpoint.kind {
            CheckpointKind::Manual => String::new(),
            kind => format!(" ({})", word(kind)),
        };
        let frozen = checkpoint.frozen_micros.div_ceil(1_000);
        self.err.dim(&format!(
            "◆ checkpoint {}{kind}{note} · {}, {frozen} ms still",
            short_id(&checkpoint.id),
            bytes(checkpoint.bytes),
        ))
    }

    /// What was taken back, to what, and how to have it again.
    pub(super) fn rewound(
        &self,
        to: Option<&CheckpointId>,
        before: &CheckpointId,
        scope: RewindScope,
    ) -> String {
        let what = match scope {
            RewindScope::All => "files and conversation",
            RewindScope::Files => "files",
            RewindScope::Conversation => "conversation",
        };
        let to = to.map_or_else(|| "how the session began".to_owned(), short_id);
        let name = self.session.as_deref().unwrap_or("SESSION");
        let scope = match scope {
            RewindScope::All => String::new(),
            scope => format!(" --{}", word(scope)),
        };
        let undo = format!("rclaude rewind {name} --to {}{scope}", short_id(before));
        format!(
            "{} {what} taken back to {to}{}",
            self.err.yellow("↶"),
            self.err.dim(&format!(" · undo: {undo}")),
        )
    }

    pub(super) fn forked(&self, checkpoint: &CheckpointId, session: &SessionId) -> String {
        let (session, checkpoint) = (short_id(session), short_id(checkpoint));
        self.err.dim(&format!("⑂ session {session} was forked off at {checkpoint}"))
    }
}
