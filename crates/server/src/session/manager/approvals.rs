//! Answering what the agent asks.

use rclaude_store::{StoreError, agent as agent_rows, approval, session, turn};
use rclaude_types::{
    Approval, ApprovalId, ApprovalKind, Decision, ErrorCode, EventBody, Problem, SessionId,
};

use super::{Result, SessionManager, problems::from_store};
use crate::{agent, crash};

impl SessionManager {
    /// What the agent waits for.
    pub async fn approvals(&self, id: &SessionId) -> Result<Vec<Approval>> {
        let mut conn = self.engine.store.read().await.map_err(from_store)?;
        let rows = approval::pending(&mut conn, id).await.map_err(from_store)?;
        Ok(rows.into_iter().map(|row| row.approval).collect())
    }

    /// Answers it. The same answer twice is fine, another one is a conflict.
    pub async fn decide(
        &self,
        id: &SessionId,
        approval: &ApprovalId,
        decision: Decision,
    ) -> Result<Approval> {
        let mut conn = self.engine.store.read().await.map_err(from_store)?;
        let row = approval::get(&mut conn, approval).await.map_err(from_store)?;
        drop(conn);
        if row.approval.session != *id {
            let detail = format!("there is no approval {approval} in this session");
            return Err(Problem::new(ErrorCode::ApprovalNotFound, detail));
        }
        check(&row.approval, &decision)?;
        let (session, asked, now) = (id.clone(), approval.clone(), self.engine.now());
        let wanted = decision.clone();
        crash::point("before answer");
        let resolved = self
            .engine
            .commit(id, async move |tx, log| {
                // The answer, its event and the line that tells the agent: all or nothing.
                let row = approval::resolve(tx, &asked, &decision, now).await?;
                let agent = session::get(tx, &session).await?.settings.agent;
                if let Some(link) = agent_rows::get(tx, &session).await? {
                    let line = agent::adapter(agent).decision(&row.agent_payload, &decision);
                    agent_rows::push_input(tx, &session, &link.exec, &line).await?;
                }
                let message = match &decision {
                    Decision::Deny { message, .. } => message.clone(),
                    Decision::Allow { .. } => None,
                };
                let (turn, state) = (row.approval.turn.clone(), row.approval.state);
                log.push(turn, EventBody::ApprovalResolved { id: asked, state, message });
                if approval::pending(tx, &session).await?.is_empty()
                    && let Some(current) = turn::current(tx, &session).await?
                {
                    turn::set_awaiting(tx, &current.turn.id, false).await?;
                }
                Ok(row.approval)
            })
            .await;
        crash::point("after answer");
        match resolved {
            Ok(approval) => {
                self.handle(id).await?.nudge();
                Ok(approval)
            }
            Err(StoreError::AlreadyResolved(before)) if before.decision == Some(wanted) => {
                Ok(before.approval)
            }
            Err(StoreError::AlreadyResolved(before)) => Err(Problem::new(
                ErrorCode::Conflict,
                format!("it was answered already: {:?}", before.approval.state).to_lowercase(),
            )),
            Err(error) => Err(from_store(error)),
        }
    }
}

/// Refuses an answer that does not fit what was asked.
fn check(approval: &Approval, decision: &Decision) -> Result<()> {
    let invalid = |detail: String| Err(Problem::new(ErrorCode::InvalidRequest, detail));
    let Decision::Allow { always, answers, .. } = decision else { return Ok(()) };
    if *always && !approval.can_always {
        return invalid(
            "always: the agent does not offer that for this request; allow it once".to_owned(),
        );
    }
    match (approval.kind, answers) {
        (ApprovalKind::Question, Some(answers)) => {
            let asked = |text: &String| approval.questions.iter().any(|q| q.question == *text);
            match answers.keys().find(|text| !asked(text)) {
                Some(stray) => invalid(format!("answers: {stray:?} was not asked")),
                None => Ok(()),
            }
        }
        (ApprovalKind::Question, None) => {
            invalid("answers: a question needs an answer, by its text".to_owned())
        }
        (_, Some(_)) => invalid("answers: this is not a question".to_owned()),
        (_, None) => Ok(()),
    }
}
