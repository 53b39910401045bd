//! Somebody who is there, and keeps a session awake by it.

use rclaude_types::SessionId;

use super::{Result, SessionManager};
use crate::session::live::Viewer;

/// Keeps a session from being set aside as idle for as long as it is kept.
#[derive(Debug)]
pub(crate) struct Presence {
    _viewer: Viewer,
}

impl SessionManager {
    /// Somebody comes, and stays for as long as the answer is kept.
    pub(crate) async fn presence(&self, id: &SessionId) -> Result<Presence> {
        Ok(Presence { _viewer: self.handle(id).await?.watch() })
    }
}
