//! Setting sessions aside, keeping their states, and going back to them.

use rclaude_types::{
    Checkpoint, CheckpointId, CreateCheckpoint, Fork, Page, PauseSession, Rewind, Session, Turn,
    UpdateSession,
};
use reqwest::Method;
use serde_json::value::RawValue;

use super::{Answer, Client};
use crate::exit::Failure;

impl Client {
    pub(crate) async fn pause(
        &self,
        reference: &str,
        pause: PauseSession,
    ) -> Result<Answer<Session>, Failure> {
        self.post(&["sessions", reference, "pause"], &pause).await
    }

    pub(crate) async fn update_session(
        &self,
        reference: &str,
        change: &UpdateSession,
    ) -> Result<Answer<Session>, Failure> {
        self.send_json(Method::PATCH, &["sessions", reference], change).await
    }

    pub(crate) async fn create_checkpoint(
        &self,
        reference: &str,
        request: &CreateCheckpoint,
    ) -> Result<Answer<Checkpoint>, Failure> {
        self.post(&["sessions", reference, "checkpoints"], request).await
    }

    pub(crate) async fn checkpoint(
        &self,
        reference: &str,
        id: &CheckpointId,
    ) -> Result<Answer<Checkpoint>, Failure> {
        self.get(&["sessions", reference, "checkpoints", id.as_str()], &[]).await
    }

    /// A page, newest first.
    pub(crate) async fn checkpoints(
        &self,
        reference: &str,
        limit: u32,
        cursor: Option<&str>,
    ) -> Result<Answer<Page<Box<RawValue>>>, Failure> {
        let limit = limit.to_string();
        let mut query = vec![("limit", limit.as_str())];
        query.extend(cursor.map(|cursor| ("cursor", cursor)));
        self.get(&["sessions", reference, "checkpoints"], &query).await
    }

    /// A page, oldest first.
    pub(crate) async fn turns(
        &self,
        reference: &str,
        limit: u32,
        cursor: Option<&str>,
    ) -> Result<Answer<Page<Turn>>, Failure> {
        let limit = limit.to_string();
        let mut query = vec![("limit", limit.as_str())];
        query.extend(cursor.map(|cursor| ("cursor", cursor)));
        self.get(&["sessions", reference, "turns"], &query).await
    }

    pub(crate) async fn rewind(
        &self,
        reference: &str,
        request: &Rewind,
    ) -> Result<Answer<Checkpoint>, Failure> {
        self.post(&["sessions", reference, "rewind"], request).await
    }

    pub(crate) async fn fork(
        &self,
        reference: &str,
        request: &Fork,
    ) -> Result<Answer<Page<Box<RawValue>>>, Failure> {
        self.post(&["sessions", reference, "fork"], request).await
    }
}
