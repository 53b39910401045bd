//! Sessions lent out as sandboxes through the E2B door: made, found, extended, used.

use std::collections::BTreeMap;

use rclaude_sandbox::{
    agentd,
    provider::{SandboxRef, SandboxStats},
};
use rclaude_store::{
    StoreError, Tx, checkpoint,
    lease::{self, AtEnd, Lease},
    sandbox,
    session::{self, SessionRow, SessionSettings},
};
use rclaude_types::{CheckpointId, Desired, ErrorCode, Problem, SessionId, Timestamp};
use tokio::sync::watch;

use super::{Result, SessionManager, no_session, problems::from_store};
use crate::session::{inside::environment, live::Viewer};

/// What a session is lent out for.
#[derive(Debug, Clone)]
pub(crate) struct Terms {
    pub(crate) template: String,
    pub(crate) metadata: BTreeMap<String, String>,
    pub(crate) env: BTreeMap<String, String>,
    /// For how long.
    pub(crate) seconds: u32,
    pub(crate) at_end: AtEnd,
    pub(crate) auto_resume: bool,
}

/// A session that is lent out, with its lease.
#[derive(Debug)]
pub(crate) struct Lent {
    pub(crate) lease: Lease,
    pub(crate) session: SessionRow,
}

impl Lent {
    /// Whether it is wanted running; otherwise it is set aside.
    pub(crate) fn is_running(&self) -> bool {
        self.session.desired == Desired::Running
    }

    pub(crate) fn settings(&self) -> &SessionSettings {
        &self.session.settings
    }

    /// The environment of what is started in it through the door.
    pub(crate) fn environment(&self) -> BTreeMap<String, String> {
        let mut env = environment(&self.session.settings.env);
        env.extend(self.lease.env.clone());
        env
    }
}

/// The way into a sandbox that is up.
#[derive(Debug)]
pub(crate) struct Open {
    pub(crate) client: agentd::Client,
    /// Loses the daemon when the session is set aside: what stands still sends no end.
    link: watch::Receiver<Option<agentd::Client>>,
    /// Keeps the session awake.
    _viewer: Viewer,
}

impl Open {
    /// Until the sandbox is set aside or cannot be reached.
    pub(crate) fn gone(&self) -> impl Future<Output = ()> + Send + use<> {
        let mut link = self.link.clone();
        async move {
            let closed =
                |link: &Option<agentd::Client>| link.as_ref().is_none_or(agentd::Client::is_closed);
            let _ended = link.wait_for(closed).await;
        }
    }
}

/// Which leases a list wants.
#[derive(Debug, Clone, Default)]
pub(crate) struct LeaseFilter {
    pub(crate) metadata: BTreeMap<String, String>,
    /// Only those that run, or only those that are set aside; both if absent.
    pub(crate) running: Option<bool>,
    pub(crate) template: Option<String>,
    /// Only those lent out after this.
    pub(crate) started_after: Option<Timestamp>,
    pub(crate) oldest_first: bool,
    /// The last of the page before.
    pub(crate) after: Option<SessionId>,
    pub(crate) limit: u32,
}

/// Leases looked at for one page.
const BATCH: u32 = 200;

impl SessionManager {
    /// Lends a session out from now on.
    pub(crate) async fn lend(&self, id: &SessionId, terms: Terms) -> Result<Lease> {
        let now = self.engine.now();
        let Terms { template, metadata, env, seconds, at_end, auto_resume } = terms;
        let lease = Lease {
            session: id.clone(),
            template,
            metadata,
            env,
            ends_at: after(now, seconds),
            armed: true,
            at_end,
            auto_resume,
            created_at: now,
        };
        let new = lease.clone();
        let write = async move |tx: &mut Tx| {
            lease::insert(tx, &new).await?;
            keep_awake(tx, &new.session, seconds, now).await
        };
        self.engine.store.write(write).await.map_err(from_store)?;
        self.engine.leases.notify_one();
        Ok(lease)
    }

    /// A session that is lent out; `session_not_found` for any other.
    pub(crate) async fn lent(&self, id: &SessionId) -> Result<Lent> {
        let mut conn = self.engine.store.read().await.map_err(from_store)?;
        let lease = lease::get(&mut conn, id).await.map_err(from_store)?;
        let session = session::get(&mut conn, id).await.map_err(from_store)?;
        if session.desired == Desired::Deleted {
            return Err(no_session(id));
        }
        Ok(Lent { lease, session })
    }

    /// A page of them, and whether there are more.
    pub(crate) async fn leases(&self, filter: &LeaseFilter) -> Result<(Vec<Lent>, bool)> {
        let mut conn = self.engine.store.read().await.map_err(from_store)?;
        let (mut found, mut after) = (Vec::new(), filter.after.clone());
        loop {
            let page = lease::page(&mut conn, after.as_ref(), filter.oldest_first, BATCH).await;
            let page = page.map_err(from_store)?;
            let last = page.len() < BATCH as usize;
            for lease in page {
                after = Some(lease.session.clone());
                if !filter.takes(&lease) {
                    continue;
                }
                let session = session::get(&mut conn, &lease.session).await.map_err(from_store)?;
                let lent = Lent { lease, session };
                if filter.running.is_some_and(|wanted| wanted != lent.is_running()) {
                    continue;
                }
                if found.len() == filter.limit as usize {
                    return Ok((found, true));
                }
                found.push(lent);
            }
            if last {
                return Ok((found, false));
            }
        }
    }

    /// Has a lease end so many seconds from now, or, with `only_later`, not before that.
    pub(crate) async fn extend(
        &self,
        id: &SessionId,
        seconds: u32,
        only_later: bool,
    ) -> Result<Lease> {
        let (session, now) = (id.clone(), self.engine.now());
        let write = async move |tx: &mut Tx| {
            let before = lease::get(tx, &session).await?;
            let wanted = after(now, seconds);
            let ends_at =
                if only_later && before.armed { wanted.max(before.ends_at) } else { wanted };
            lease::set_end(tx, &session, ends_at, true).await?;
            keep_awake(tx, &session, seconds, now).await?;
            Ok(Lease { ends_at, armed: true, ..before })
        };
        let lease = self.engine.store.write(write).await.map_err(from_store)?;
        self.engine.leases.notify_one();
        if let Some(handle) = self.engine.live.get(id) {
            handle.nudge();
        }
        Ok(lease)
    }

    /// Forgets a lease's end if the session is set aside, and was not brought back meanwhile.
    pub(crate) async fn disarm(&self, id: &SessionId) -> Result<()> {
        let session = id.clone();
        let write = async move |tx: &mut Tx| {
            if session::get(tx, &session).await?.desired == Desired::Running {
                return Ok(());
            }
            let before = lease::get(tx, &session).await?;
            lease::set_end(tx, &session, before.ends_at, false).await
        };
        self.engine.store.write(write).await.map_err(from_store)
    }

    /// The way into a session's sandbox, once it is up.
    pub(crate) async fn open(&self, id: &SessionId) -> Result<Open> {
        let client = self.client(id).await?;
        let handle = self.handle(id).await?;
        let (link, viewer) = (handle.link(), handle.watch());
        Ok(Open { client, link, _viewer: viewer })
    }

    /// What a session's sandbox used, as the host sees it.
    pub(crate) async fn used(&self, id: &SessionId) -> Result<SandboxStats> {
        let mut conn = self.engine.store.read().await.map_err(from_store)?;
        let row = sandbox::current(&mut conn, id).await.map_err(from_store)?;
        drop(conn);
        let reference = SandboxRef(row.provider_ref.unwrap_or_default());
        self.engine.provider.stats(&reference).await.map_err(|error| {
            let text = format!("the sandbox cannot be measured: {error}");
            Problem::new(ErrorCode::SandboxUnavailable, text)
        })
    }

    /// Which session a checkpoint is of.
    pub(crate) async fn session_of(&self, id: &CheckpointId) -> Result<SessionId> {
        let mut conn = self.engine.store.read().await.map_err(from_store)?;
        let row = checkpoint::get(&mut conn, id).await.map_err(from_store)?;
        let session = session::get(&mut conn, &row.checkpoint.session).await.map_err(from_store)?;
        if session.desired == Desired::Deleted {
            let text = format!("the session of checkpoint {id} is deleted, and it with it");
            return Err(Problem::new(ErrorCode::CheckpointNotFound, text));
        }
        Ok(row.checkpoint.session)
    }
}

impl LeaseFilter {
    fn takes(&self, lease: &Lease) -> bool {
        let has = |(key, value): (&String, &String)| lease.metadata.get(key) == Some(value);
        self.metadata.iter().all(has)
            && self.template.as_ref().is_none_or(|wanted| *wanted == lease.template)
            && self.started_after.is_none_or(|moment| lease.created_at > moment)
    }
}

/// Idleness does not set it aside while it is lent out.
async fn keep_awake(
    tx: &mut Tx,
    id: &SessionId,
    seconds: u32,
    now: Timestamp,
) -> Result<(), StoreError> {
    let row = session::get(tx, id).await?;
    let mut settings = row.settings.clone();
    settings.life.keep_alive_seconds = Some(seconds);
    settings.life_since = Some(now);
    session::update_settings(tx, id, row.generation, &row.name, &settings, now).await.map(drop)
}

fn after(now: Timestamp, seconds: u32) -> Timestamp {
    Timestamp::from_micros(now.as_micros() + i64::from(seconds) * 1_000_000)
}
