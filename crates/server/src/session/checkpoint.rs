//! Making the checkpoints that were asked for, and what is to follow in the same transaction.
//!
//! A checkpoint is wanted first (a row), made second, and sealed in one transaction with its entry
//! in the log and with what it was made for. Whatever a crash leaves half made is made again under
//! the same name; a layer that no row speaks of is the sweep's.

use std::{path::PathBuf, time::Duration};

use rclaude_sandbox::provider::{Layering, Result as ProviderResult, SandboxRef, Sealed};
use rclaude_store::{
    Result as StoreResult, Tx, agent as agent_rows,
    checkpoint::{self, CheckpointRow, NewCheckpoint, Position, SealedCheckpoint, Sequel},
    clock, exec, sandbox, session, turn,
};
use rclaude_types::{
    CheckpointId, CheckpointKind, EventBody, LayerId, NoticeLevel, Phase, RewindScope, SessionId,
    Timestamp,
};
use tokio::{task::JoinHandle, time::Instant};

use super::{
    actor::{Actor, INSPECTION, Next, TickError},
    agent_life::Death,
    manager::sessions::new_sandbox,
    policy::elapsed,
    run_state::Ending,
};
use crate::{agent, chain::chain, crash};

/// How long an agent may take to write down the last words of a turn it has already told us of.
const WRITING: Duration = Duration::from_millis(150);
/// Attempts at a checkpoint before it is given up.
const ATTEMPTS: u32 = 4;

/// A checkpoint that is being made while the sandbox goes on.
#[derive(Debug)]
pub(super) struct Sealing {
    id: CheckpointId,
    /// Copies ahead; its failure only means that the sandbox stands still for longer.
    ahead: JoinHandle<()>,
}

impl Sealing {
    /// Until all is copied that can be copied ahead.
    pub(super) async fn prepared(&mut self) {
        if !self.ahead.is_finished() {
            let _ = (&mut self.ahead).await;
        }
    }
}

/// What a checkpoint is made with and comes to.
struct Made {
    row: CheckpointRow,
    sealed: SealedCheckpoint,
    /// Bytes the session keeps on the local disk now.
    kept: u64,
}

impl Actor {
    /// Asks for an automatic checkpoint, if none is wanted already and states can be kept here.
    pub(super) async fn want_checkpoint(&self, kind: CheckpointKind) -> Result<(), TickError> {
        if self.engine.provider.layering().is_none() {
            return Ok(());
        }
        let new = self.new_checkpoint(kind);
        self.engine
            .store
            .write(async move |tx| {
                if checkpoint::wanted(tx, &new.session).await?.is_none() {
                    checkpoint::want(tx, &new).await?;
                }
                Ok(())
            })
            .await?;
        Ok(())
    }

    /// An automatic checkpoint to ask for.
    pub(super) fn new_checkpoint(&self, kind: CheckpointKind) -> NewCheckpoint {
        new_checkpoint(&self.session.id, kind, self.engine.now())
    }

    /// Makes the checkpoint that is wanted, if there is one.
    pub(super) async fn mind_checkpoints(&mut self) -> Result<Next, TickError> {
        let mut conn = self.engine.store.read().await?;
        let wanted = checkpoint::wanted(&mut conn, &self.session.id).await?;
        drop(conn);
        self.keeping = wanted.is_some();
        let Some(row) = wanted else {
            self.sealing = None;
            return Ok(Next::Wait(INSPECTION));
        };
        let provider = self.engine.provider.clone();
        let Some(layering) = provider.layering() else {
            let why = "this provider cannot keep states of a sandbox";
            return self.give_up(&row, why).await;
        };
        if self.sandbox.phase == Phase::Archived {
            return self.without_files(layering, row).await;
        }
        let mut conn = self.engine.store.read().await?;
        let (session, sandbox) = (&self.session.id, &self.sandbox.id);
        let before = checkpoint::latest_of_sandbox(&mut conn, session, sandbox).await?;
        drop(conn);
        // The layer of this sandbox that the next may build on.
        let since = before.as_ref().and_then(|before| before.stack.first());
        if self.sandbox.phase == Phase::Running {
            if !self.is_prepared(&row, since) {
                return Ok(Next::Wait(INSPECTION));
            }
            let unwritten = self.turn_ended.and_then(|at| WRITING.checked_sub(at.elapsed()));
            if let Some(left) = unwritten {
                return Ok(Next::Wait(left));
            }
        }
        self.sealing = None;
        match self.make(layering, row.clone(), before).await? {
            Ok(()) => {
                self.kept_at = Instant::now();
                self.attempts = 0;
                Ok(Next::Again)
            }
            Err(why) if self.attempts + 1 < ATTEMPTS => {
                tracing::warn!(session.id = %self.session.id, why, "will try the checkpoint again");
                Ok(Next::Wait(self.backoff()))
            }
            Err(why) => self.give_up(&row, &why).await,
        }
    }

    /// Asks for a checkpoint when work has gone on for long enough since the last one.
    pub(super) async fn mind_interval(&mut self, working: bool) -> Result<(), TickError> {
        let every = self.engine.policy.checkpoint(&self.session.settings.life);
        if let Some(every) = every
            && working
            && self.kept_at.elapsed() >= every
        {
            self.kept_at = Instant::now();
            self.want_checkpoint(CheckpointKind::Interval).await?;
            self.handle.nudge();
        }
        Ok(())
    }

    /// Whether what can be copied ahead is copied; sees to it that it is.
    fn is_prepared(&mut self, row: &CheckpointRow, since: Option<&LayerId>) -> bool {
        if let Some(sealing) = &self.sealing
            && sealing.id == row.checkpoint.id
        {
            return sealing.ahead.is_finished();
        }
        let (provider, cancel) = (self.engine.provider.clone(), self.engine.cancel.clone());
        let (reference, layer, since) = (self.reference(), row.layer.clone(), since.cloned());
        let session = self.session.id.clone();
        let ahead = self.engine.tracker.spawn(async move {
            let Some(layering) = provider.layering() else { return };
            crash::point("before prepare seal");
            let copy = layering.prepare_seal(&reference, &layer, since.as_ref());
            if let Some(Err(error)) = cancel.run_until_cancelled(copy).await {
                tracing::info!(session.id = %session, error = chain(&error), "not copied ahead");
            }
            crash::point("after prepare seal");
        });
        self.sealing = Some(Sealing { id: row.checkpoint.id.clone(), ahead });
        false
    }

    /// Seals files, then all the rest in one transaction. The inner error is for the session's
    /// owner.
    async fn make(
        &mut self,
        layering: &dyn Layering,
        row: CheckpointRow,
        before: Option<CheckpointRow>,
    ) -> Result<Result<(), String>, TickError> {
        let mut conn = self.engine.store.read().await?;
        // Before the files: whatever happens meanwhile is not among what the checkpoint includes.
        let session = session::get(&mut conn, &self.session.id).await?;
        let link = agent_rows::get(&mut conn, &self.session.id).await?;
        let current = turn::current(&mut conn, &self.session.id).await?;
        let last = turn::last_begun(&mut conn, &self.session.id, 1).await?;
        let undone = turn::undone(&mut conn, &self.session.id).await?;
        drop(conn);
        let reference = self.reference();
        let since = before.as_ref().and_then(|before| before.stack.first());
        let taken = seal(layering, &reference, &row.layer, since).await;
        let (taken, kept) = match taken {
            Ok(done) => done,
            Err(error) => return Ok(Err(chain(&error))),
        };
        let below = match before {
            Some(before) if !taken.whole => before.stack,
            _ => self.sandbox.stack.clone(),
        };
        let stack = [vec![row.layer.clone()], below].concat();
        let sealed = SealedCheckpoint {
            seq: session.last_seq,
            turn: current.map(|row| row.turn.id).or_else(|| last.into_iter().next()),
            sandbox: self.sandbox.id.clone(),
            stack,
            position: Position {
                conversation: session.agent_session_id.clone(),
                stdout_offset: link.as_ref().map_or(0, |link| link.stdout_offset),
                stderr_offset: link.as_ref().map_or(0, |link| link.stderr_offset),
                settings: session.settings.clone(),
                undone,
                generation: self.sandbox.generation,
            },
            method: layering.method(),
            bytes: taken.bytes,
            frozen_micros: u64::try_from(taken.frozen.as_micros()).unwrap_or(u64::MAX),
        };
        self.finish(layering, Made { row, sealed, kept }).await
    }

    /// A checkpoint of a session that lies in the snapshot store: nothing has changed, so it is
    /// the last one under another name.
    async fn without_files(
        &mut self,
        layering: &dyn Layering,
        row: CheckpointRow,
    ) -> Result<Next, TickError> {
        let mut conn = self.engine.store.read().await?;
        let latest = checkpoint::latest(&mut conn, &self.session.id).await?;
        drop(conn);
        let Some(latest) = latest else {
            return self.give_up(&row, "the session has no state left").await;
        };
        let wanted = row.clone();
        let sealed = SealedCheckpoint {
            seq: self.session.last_seq,
            turn: latest.checkpoint.turn,
            sandbox: self.sandbox.id.clone(),
            stack: latest.stack,
            position: latest.position,
            method: latest.checkpoint.method,
            bytes: 0,
            frozen_micros: 0,
        };
        match self.finish(layering, Made { row, sealed, kept: 0 }).await? {
            Ok(()) => Ok(Next::Again),
            Err(why) => self.give_up(&wanted, &why).await,
        }
    }

    /// The one transaction: checkpoint, log, and what it was made for.
    async fn finish(
        &mut self,
        layering: &dyn Layering,
        made: Made,
    ) -> Result<Result<(), String>, TickError> {
        let Made { row, sealed, kept } = made;
        let (id, now) = (row.checkpoint.id.clone(), self.engine.now());
        let Some(Sequel::Rewind { to, scope }) = row.sequel else {
            let session = self.session.id.clone();
            crash::point("before checkpoint");
            self.engine
                .commit(&self.session.id, async move |tx, log| {
                    let row = checkpoint::seal(tx, &id, &sealed).await?;
                    log.push(None, created(row));
                    clock::keeps(tx, &session, kept, now).await
                })
                .await?;
            crash::point("after checkpoint");
            return Ok(Ok(()));
        };
        let back = match self.way_back(layering, &sealed, to, scope).await? {
            Ok(back) => back,
            Err(why) => return Ok(Err(why)),
        };
        // What the agent is at belongs to what is taken back.
        if let Some(turn) = self.current_turn().await? {
            let mut conn = self.engine.store.read().await?;
            let link = agent_rows::get(&mut conn, &self.session.id).await?;
            drop(conn);
            let reason = Some("the session was rewound".to_owned());
            let death = link.map(|link| Death::of(link.exec, reason));
            self.run = None;
            self.finish_turn(&turn.turn.id, Ending::interrupted(), death).await?;
        }
        let session = self.session.id.clone();
        let next = new_sandbox(&session, self.engine.provider.kind(), back.stack.clone(), now);
        let left = self.sandbox.id.clone();
        crash::point("before rewind");
        self.engine
            .commit(&self.session.id, async move |tx, log| {
                let row = checkpoint::seal(tx, &id, &sealed).await?;
                log.push(None, created(row));
                // They go with the machine that is left.
                for row in exec::mark_lost(tx, &left, now).await? {
                    let (id, reason) = (row.exec.id, Some("the session was rewound".to_owned()));
                    let (exit_code, signal) = (None, None);
                    log.push(None, EventBody::ExecEnded { id, exit_code, signal, reason });
                }
                log.push(None, EventBody::Rewound { to: back.to.clone(), before: id, scope });
                back.write(tx, &session, now).await?;
                let next = sandbox::insert(tx, &next).await?;
                // What it goes on from is a state of its own: where it comes back to should its
                // new machine be lost, and what a turn made there is taken back to.
                let row = session::get(tx, &session).await?;
                let entries = i64::try_from(log.entries().len()).unwrap_or(i64::MAX);
                let after = SealedCheckpoint {
                    seq: row.last_seq + entries,
                    turn: None,
                    sandbox: next.id,
                    stack: back.stack,
                    position: Position {
                        conversation: back.conversation,
                        undone: turn::undone(tx, &session).await?,
                        generation: next.generation,
                        stdout_offset: 0,
                        stderr_offset: 0,
                        ..sealed.position
                    },
                    bytes: 0,
                    frozen_micros: 0,
                    ..sealed
                };
                went_on_from(tx, &session, &after, now).await
            })
            .await?;
        crash::point("after rewind");
        self.drop_link();
        self.engine.sweep.notify_one();
        Ok(Ok(()))
    }

    /// What a rewind makes of the session. The inner error is for its owner.
    async fn way_back(
        &self,
        layering: &dyn Layering,
        present: &SealedCheckpoint,
        to: Option<CheckpointId>,
        scope: RewindScope,
    ) -> Result<Result<Back, String>, TickError> {
        let mut conn = self.engine.store.read().await?;
        let past = match &to {
            Some(to) => Some(checkpoint::get(&mut conn, to).await?),
            None => None,
        };
        drop(conn);
        // Without a checkpoint: how it began. What began with a state has that as its first one.
        let (stack, conversation, seq, undone) = past.map_or_else(Default::default, |past| {
            let Position { conversation, undone, .. } = past.position;
            (past.stack, conversation, past.checkpoint.seq, undone)
        });
        for stack in [&stack, &present.stack] {
            if let Err(why) = self.engine.snapshots.fetch(stack).await {
                return Ok(Err(why));
            }
        }
        let graft = async |files: Vec<LayerId>, from: &[LayerId]| -> ProviderResult<Vec<LayerId>> {
            let adapter = agent::adapter(self.session.settings.agent);
            let paths: Vec<PathBuf> = vec![adapter.conversations().into()];
            let layer = LayerId::generate();
            crash::point("before graft");
            layering.graft(from, &files, &paths, &layer).await?;
            crash::point("after graft");
            Ok([vec![layer], files].concat())
        };
        let now = present.position.conversation.clone();
        let (stack, conversation, turns) = match scope {
            RewindScope::All => (Ok(stack), conversation, Some((seq, undone))),
            RewindScope::Files => (graft(stack, &present.stack).await, now, None),
            RewindScope::Conversation => {
                let stack = graft(present.stack.clone(), &stack).await;
                (stack, conversation, Some((seq, undone)))
            }
        };
        Ok(match stack {
            Ok(stack) => Ok(Back { to, stack, conversation, turns }),
            Err(error) => Err(chain(&error)),
        })
    }

    /// A wanted checkpoint cannot be made: says why. One that nobody asked for is missed quietly
    /// but not silently.
    async fn give_up(&mut self, row: &CheckpointRow, why: &str) -> Result<Next, TickError> {
        tracing::warn!(session.id = %self.session.id, why, "no checkpoint");
        let (id, why) = (row.checkpoint.id.clone(), why.to_owned());
        self.sealing = None;
        self.given_up.failed(Instant::now());
        // Half a layer is room that the next attempt, under another name, may be in want of.
        let provider = self.engine.provider.clone();
        if let Some(layering) = provider.layering()
            && let Err(error) = layering.remove_layer(&row.layer).await
        {
            tracing::info!(session.id = %self.session.id, error = chain(&error), "left to the sweep");
        }
        self.engine
            .commit(&self.session.id, async move |tx, log| {
                checkpoint::fail(tx, &id, &why).await?;
                let text = format!("a checkpoint could not be made: {why}");
                log.notice(None, NoticeLevel::Warning, "checkpoint_failed", text);
                Ok(())
            })
            .await?;
        self.attempts = 0;
        Ok(Next::Again)
    }

    /// How long the sandbox has been on its rung.
    pub(super) fn rested(&self) -> Duration {
        elapsed(self.sandbox.updated_at, self.engine.now())
    }
}

/// What a rewind makes of a session.
struct Back {
    to: Option<CheckpointId>,
    stack: Vec<LayerId>,
    conversation: Option<String>,
    /// Where the log stood and which turns had been taken back, if the conversation goes back.
    turns: Option<(i64, Vec<i64>)>,
}

impl Back {
    async fn write(&self, tx: &mut Tx, session: &SessionId, now: Timestamp) -> StoreResult<()> {
        if let Some(link) = agent_rows::get(tx, session).await? {
            agent_rows::end(tx, session, &link.exec).await?;
        }
        if let Some((seq, undone)) = &self.turns {
            turn::taken_back(tx, session, *seq, undone).await?;
        }
        session::set_agent_session(tx, session, self.conversation.as_deref(), now).await
    }
}

/// A checkpoint to ask for, with the names of what it will be.
pub(super) fn new_checkpoint(
    session: &SessionId,
    kind: CheckpointKind,
    at: Timestamp,
) -> NewCheckpoint {
    NewCheckpoint {
        id: CheckpointId::generate(),
        session: session.clone(),
        kind,
        note: None,
        sequel: None,
        layer: LayerId::generate(),
        at,
    }
}

/// Writes down the state that a session goes on from: what it comes back to should its machine be
/// lost before there is another, and what its first turn there is taken back to.
pub(super) async fn went_on_from(
    tx: &mut Tx,
    session: &SessionId,
    state: &SealedCheckpoint,
    at: Timestamp,
) -> StoreResult<()> {
    let new = new_checkpoint(session, CheckpointKind::Origin, at);
    checkpoint::insert_sealed(tx, &new, state).await.map(drop)
}

fn created(row: CheckpointRow) -> EventBody {
    EventBody::CheckpointCreated { checkpoint: Box::new(row.checkpoint) }
}

/// Takes the files; with what the sandbox's own disk holds.
async fn seal(
    layering: &dyn Layering,
    sandbox: &SandboxRef,
    layer: &LayerId,
    since: Option<&LayerId>,
) -> ProviderResult<(Sealed, u64)> {
    crash::point("before seal");
    let sealed = layering.seal(sandbox, layer, since).await?;
    crash::point("after seal");
    let disk = layering.disk_bytes(sandbox).await?;
    Ok((sealed, disk))
}
