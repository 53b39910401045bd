//! The engine as the server sees it.

use std::{
    collections::{HashMap, hash_map::DefaultHasher},
    fs::{self, File},
    hash::{Hash as _, Hasher as _},
    io,
    os::{fd::AsRawFd as _, unix::fs::PermissionsExt as _},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use async_trait::async_trait;
use rclaude_types::{LayerId, SandboxId};

use super::{
    EMBEDDED_AGENTD,
    cgroup::Hierarchies,
    client::Client,
    config::LocalConfig,
    freeze::Held,
    layers::{self, Shelf},
    layout::{AGENTD_SOCKET, EngineDir, SandboxDir},
    prepare::{Beginning, is_complete, prepare},
    protocol::{Failure, FailureClass, Reply, Request, While as _},
    record::{self, Secret, StoredSpec, StoredState},
    remove,
    template::{self, Template},
};
use crate::provider::{
    AgentStream, ErrorClass, Kept, Layering, Observed, Outbound, OutboundSockets, Pausing,
    ProviderError, ProviderKind, Result, SandboxProvider, SandboxRef, SandboxSpec, SandboxStats,
};

/// The most lower layers an overlay takes (`OVL_MAX_STACK`).
const MOST_LAYERS: usize = 500;

/// Sandboxes as namespaces on this host. Cheap to clone; clones share everything.
#[derive(Debug, Clone)]
pub struct LocalProvider {
    inner: Arc<Inner>,
}

#[derive(Debug)]
pub(super) struct Inner {
    pub(super) engine: EngineDir,
    pub(super) config: LocalConfig,
    pub(super) client: Client,
    agentd: PathBuf,
    host: Template,
    /// The most a pause keeps: what was found out when the engine was opened.
    pub(super) keeps: Kept,
    pub(super) held: Held,
    pub(super) shelf: Shelf,
    /// One at a time for each sandbox: a create and a destroy of the same id must not mix.
    busy: Mutex<HashMap<SandboxId, Arc<Mutex<()>>>>,
}

impl LocalProvider {
    /// Opens the engine: makes its directory, the daemon's file and the `host` template, and
    /// finishes removals that were interrupted. The supervisor is started when first needed.
    pub async fn open(config: LocalConfig) -> Result<Self> {
        let opened = tokio::task::spawn_blocking(move || Inner::open(config)).await;
        let inner = opened.map_err(|error| broken("open the engine", error))?;
        Ok(Self { inner: Arc::new(inner.map_err(|error| failed("open the engine", error))?) })
    }

    /// Ends the supervisor, if one runs. Sandboxes live on, and the next call that needs a
    /// supervisor starts one that finds them.
    pub async fn release_supervisor(&self) -> Result<()> {
        self.run("end the supervisor", |inner| {
            // Nobody there is what is wanted.
            let _ = inner.client.try_ask(&Request::Leave);
            Ok(())
        })
        .await
    }

    /// Unmounts the engine's own file system, where it has one. No sandbox may run. Opening the
    /// engine again mounts it.
    pub async fn unmount(&self) -> Result<()> {
        self.run("unmount the engine's own file system", |inner| {
            for id in inner.engine.sandbox_ids().during("read the engine's directory")? {
                if inner.alive(&id).during("read what is known of a sandbox")?.is_some() {
                    let text = format!("the sandbox {id} runs on it; stop it first");
                    return Err(Failure::new(FailureClass::Rejected, text));
                }
            }
            let _ = inner.client.try_ask(&Request::Leave);
            inner.shelf.forget_slots();
            layers::image::release(inner.engine.path()).during("unmount it")
        })
        .await
    }

    pub(super) fn inner(&self) -> &Inner {
        &self.inner
    }

    /// Does blocking work for a call.
    pub(super) async fn run<T: Send + 'static>(
        &self,
        operation: &'static str,
        work: impl FnOnce(&Inner) -> Result<T, Failure> + Send + 'static,
    ) -> Result<T> {
        let inner = Arc::clone(&self.inner);
        let done = tokio::task::spawn_blocking(move || work(&inner)).await;
        done.map_err(|error| broken(operation, error))?.map_err(|error| failed(operation, error))
    }

    /// The same, for a call that changes a sandbox.
    pub(super) async fn change<T: Send + 'static>(
        &self,
        operation: &'static str,
        id: SandboxId,
        work: impl FnOnce(&Inner, &SandboxId) -> Result<T, Failure> + Send + 'static,
    ) -> Result<T> {
        self.run(operation, move |inner| {
            let gate = inner.gate(&id);
            let done = {
                let _held = gate.lock().unwrap_or_else(PoisonError::into_inner);
                work(inner, &id)
            };
            inner.leave_gate(&id, gate);
            done
        })
        .await
    }
}

#[async_trait]
impl SandboxProvider for LocalProvider {
    fn kind(&self) -> ProviderKind {
        ProviderKind::Local
    }

    fn templates(&self) -> &[&'static str] {
        &["host"]
    }

    async fn create(&self, spec: &SandboxSpec) -> Result<SandboxRef> {
        let spec = spec.clone();
        self.change("create the sandbox", spec.id.clone(), move |inner, _| inner.create(&spec))
            .await
    }

    async fn inspect(&self, sandbox: &SandboxRef) -> Result<Observed> {
        let Some(id) = parse(sandbox) else { return Ok(Observed::Absent) };
        self.run("look at the sandbox", move |inner| {
            inner.observe(&id).during("read what is known of the sandbox")
        })
        .await
    }

    async fn stats(&self, sandbox: &SandboxRef) -> Result<SandboxStats> {
        let id = known(sandbox, "measure the sandbox")?;
        self.run("measure the sandbox", move |inner| {
            let state = inner.state(&id).during("read what is known of the sandbox")?;
            Ok(state.map(|state| state.cgroups.stats()).unwrap_or_default())
        })
        .await
    }

    async fn dial(&self, sandbox: &SandboxRef) -> Result<AgentStream> {
        const OPERATION: &str = "reach the sandbox's daemon";
        let id = known(sandbox, OPERATION)?;
        let reach = || async {
            // The kernel would take the connection for a daemon that cannot answer it.
            if self.inner.observe(&id)? == Observed::Paused {
                return Err(io::Error::other("the sandbox is frozen; resume it first"));
            }
            let directory = File::open(self.inner.engine.sandbox(&id).path())?;
            // The path of a socket may have no more than 107 bytes.
            let path = format!("/proc/self/fd/{}/{AGENTD_SOCKET}", directory.as_raw_fd());
            tokio::net::UnixStream::connect(path).await
        };
        match reach().await {
            Ok(stream) => Ok(Box::new(stream)),
            Err(error) => Err(ProviderError {
                kind: ProviderKind::Local,
                operation: OPERATION,
                class: ErrorClass::Unavailable { retry_after: None },
                source: Some(Arc::new(error)),
            }),
        }
    }

    async fn list(&self) -> Result<Vec<(SandboxId, SandboxRef, Observed)>> {
        self.run("list sandboxes", |inner| {
            let ids = inner.engine.sandbox_ids().during("read the engine's directory")?;
            let look = |id: SandboxId| {
                let observed = inner.observe(&id).during("read what is known of a sandbox")?;
                Ok((id.clone(), SandboxRef(id.to_string()), observed))
            };
            ids.into_iter().map(look).collect()
        })
        .await
    }

    async fn destroy(&self, sandbox: &SandboxRef) -> Result<()> {
        let Some(id) = parse(sandbox) else { return Ok(()) };
        self.change("destroy the sandbox", id, Inner::destroy).await
    }

    fn pausing(&self) -> Option<&dyn Pausing> {
        Some(self)
    }

    fn layering(&self) -> Option<&dyn Layering> {
        Some(self)
    }

    fn outbound(&self) -> Option<&dyn Outbound> {
        Some(self)
    }
}

#[async_trait]
impl Outbound for LocalProvider {
    async fn sockets(&self, sandbox: &SandboxRef) -> Result<OutboundSockets> {
        const OPERATION: &str = "take the sandbox's network";
        let id = known(sandbox, OPERATION)?;
        let (reply, mut descriptors) =
            self.run(OPERATION, move |inner| inner.client.ask(&Request::Sockets { id })).await?;
        let (tcp, udp) = match reply {
            Reply::Sockets { tcp, udp, .. } if tcp + udp == descriptors.len() => (tcp, udp),
            _ => {
                let text = "the supervisor handed over something else";
                return Err(failed(OPERATION, Failure::new(FailureClass::Unexpected, text)));
            }
        };
        let wrap = |error| failed(OPERATION, Failure::io("use the sockets", &error));
        let dns = descriptors.split_off(tcp).into_iter();
        let dns = dns.map(|fd| tokio::net::UdpSocket::from_std(fd.into()));
        let listeners = descriptors.into_iter();
        let listeners = listeners.map(|fd| tokio::net::TcpListener::from_std(fd.into()));
        let sockets = OutboundSockets {
            tcp: listeners.collect::<io::Result<_>>().map_err(wrap)?,
            dns: dns.collect::<io::Result<_>>().map_err(wrap)?,
        };
        debug_assert_eq!(sockets.dns.len(), udp);
        Ok(sockets)
    }
}

impl Inner {
    pub(super) fn open(mut config: LocalConfig) -> Result<Self, Failure> {
        let what = "make the engine's directory";
        fs::create_dir_all(&config.dir).during(what)?;
        config.dir = fs::canonicalize(&config.dir).during(what)?;
        let own_disk = layers::image::ensure(&config.dir, config.image)?;
        let engine = EngineDir::new(&config.dir);
        // Sandboxes' disks and tokens are in it. Others may pass through, because a sandbox's
        // users are others; they may not look around.
        fs::set_permissions(engine.path(), fs::Permissions::from_mode(0o711)).during(what)?;
        for dir in engine.shelves().into_iter().chain([engine.scaffold()]) {
            fs::create_dir_all(&dir).during(what)?;
            fs::set_permissions(&dir, fs::Permissions::from_mode(0o711)).during(what)?;
        }
        let agentd = match &config.agentd {
            Some(path) => fs::canonicalize(path).during("find the daemon")?,
            None => install_agentd(engine.path()).during("install the daemon")?,
        };
        let host = template::host(&engine).during("build the host template")?;
        for entry in engine.trash_entries().during("empty the trash")? {
            remove::empty(&entry.path()).during("empty the trash")?;
        }
        let shelf = "open the directory of layers";
        let method = layers::way::find(&engine.new_layers()).during(shelf)?;
        let shelf = Shelf::open(engine.clone(), method).during(shelf)?;
        let client = Client::new(engine.clone(), config.clone());
        if own_disk
            && let Ok((Reply::Here { pid, .. }, _)) = client.try_ask(&Request::Hello)
            && !layers::image::is_seen_by(pid, engine.path())
        {
            // It left this namespace before that was mounted. Another finds its sandboxes.
            let _ = client.try_ask(&Request::Leave);
        }
        // As the supervisor will find it, which makes the cgroups and is started by this process.
        let freezer = Hierarchies::detect(engine.path()).freezer();
        let keeps = if freezer.is_some() { Kept::Memory } else { Kept::Disk };
        let (held, busy) = Default::default();
        Ok(Self { engine, config, client, agentd, host, keeps, held, shelf, busy })
    }

    fn gate(&self, id: &SandboxId) -> Arc<Mutex<()>> {
        let mut busy = self.busy.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(busy.entry(id.clone()).or_default())
    }

    fn leave_gate(&self, id: &SandboxId, gate: Arc<Mutex<()>>) {
        let mut busy = self.busy.lock().unwrap_or_else(PoisonError::into_inner);
        drop(gate);
        if busy.get(id).is_some_and(|gate| Arc::strong_count(gate) == 1) {
            busy.remove(id);
        }
    }

    fn create(&self, spec: &SandboxSpec) -> Result<SandboxRef, Failure> {
        let template = match spec.template.as_str() {
            "host" => &self.host,
            other => {
                let text = format!("there is no template {other:?}; this engine has \"host\"");
                return Err(Failure::new(FailureClass::Rejected, text));
            }
        };
        let dir = self.engine.sandbox(&spec.id);
        // One that is there needs nothing that it was made of.
        let there = is_complete(&dir).during("read what was asked for")?;
        let stack = if there { Vec::new() } else { self.stack(spec)? };
        let beginning = match stack.first() {
            Some(top) => Beginning::State(&top.clone()),
            None => Beginning::Files(&spec.files),
        };
        let stored = StoredSpec {
            skeleton: template.skeleton.clone(),
            system: template.system.clone(),
            layers: stack.into_iter().chain(spec.layers.iter().cloned()).collect(),
            binds: spec.binds.clone(),
            resources: spec.resources,
            agentd: self.agentd.clone(),
            token: Secret(spec.bootstrap.token.clone()),
            allow_root: spec.allow_root,
        };
        let snapshots = self.shelf.makes_snapshots();
        prepare(&dir, &stored, &beginning, snapshots).map_err(|error| match error.kind() {
            io::ErrorKind::InvalidInput => Failure::new(FailureClass::Rejected, error.to_string()),
            _ => Failure::io("make the sandbox's disk", &error),
        })?;
        self.client.start(&spec.id)?;
        Ok(SandboxRef(spec.id.to_string()))
    }

    /// The template's own tree, lowest of all.
    pub(super) fn skeleton(&self) -> &Path {
        &self.host.skeleton
    }

    /// The trees of the layers it begins with, uppermost first.
    fn stack(&self, spec: &SandboxSpec) -> Result<Vec<PathBuf>, Failure> {
        let count = spec.stack.len() + spec.layers.len() + 1;
        if count > MOST_LAYERS {
            let text = format!("{count} layers are more than the {MOST_LAYERS} an overlay takes");
            return Err(Failure::new(FailureClass::Rejected, text));
        }
        let find = |layer: &LayerId| {
            self.shelf.find(layer).map(|dir| dir.tree()).ok_or_else(|| {
                let text = format!("the layer {layer} of the state to begin with is not here");
                Failure::new(FailureClass::Rejected, text)
            })
        };
        spec.stack.iter().map(find).collect()
    }

    pub(super) fn state(&self, id: &SandboxId) -> io::Result<Option<StoredState>> {
        record::read(&self.engine.sandbox(id).state())
    }

    pub(super) fn observe(&self, id: &SandboxId) -> io::Result<Observed> {
        if !self.engine.sandbox(id).path().exists() {
            return Ok(Observed::Absent);
        }
        Ok(match self.alive(id)? {
            Some(state) if self.held.is_paused(id, &state) => Observed::Paused,
            Some(_) => Observed::Running,
            None => Observed::Stopped,
        })
    }

    fn destroy(&self, id: &SandboxId) -> Result<(), Failure> {
        let dir: SandboxDir = self.engine.sandbox(id);
        if !dir.path().exists() {
            return Ok(());
        }
        self.stop(id, Duration::ZERO)?;
        self.client.ask_running(&Request::Forget { id: id.clone() })?;
        self.shelf.forget_sandbox(id);
        remove::set_aside(dir.path(), &self.engine).during("remove the sandbox's disk")
    }
}

/// Writes the embedded daemon where it can be executed, under a name that tells its content, so
/// that sandboxes of another version keep theirs.
fn install_agentd(engine: &Path) -> io::Result<PathBuf> {
    let mut hasher = DefaultHasher::new();
    EMBEDDED_AGENTD.hash(&mut hasher);
    let path = engine.join(format!("agentd-{:016x}", hasher.finish()));
    if !path.exists() {
        let unfinished = path.with_extension("unfinished");
        fs::write(&unfinished, EMBEDDED_AGENTD)?;
        fs::set_permissions(&unfinished, fs::Permissions::from_mode(0o555))?;
        fs::rename(&unfinished, &path)?;
    }
    Ok(path)
}

fn parse(sandbox: &SandboxRef) -> Option<SandboxId> {
    sandbox.0.parse().ok()
}

pub(super) fn known(sandbox: &SandboxRef, operation: &'static str) -> Result<SandboxId> {
    parse(sandbox).ok_or_else(|| {
        failed(operation, Failure::new(FailureClass::Rejected, "there is no such sandbox"))
    })
}

fn failed(operation: &'static str, failure: Failure) -> ProviderError {
    let mut source: Option<Arc<dyn std::error::Error + Send + Sync>> = None;
    let class = match failure.class {
        FailureClass::Unsupported => ErrorClass::Unsupported(failure.message),
        FailureClass::Rejected => ErrorClass::Rejected(failure.message),
        FailureClass::Exhausted => ErrorClass::Exhausted(failure.message),
        FailureClass::Unavailable => {
            source = Some(Arc::new(io::Error::other(failure.message)));
            ErrorClass::Unavailable { retry_after: None }
        }
        FailureClass::Unexpected => ErrorClass::Unexpected(failure.message),
    };
    ProviderError { kind: ProviderKind::Local, operation, class, source }
}

fn broken(operation: &'static str, error: tokio::task::JoinError) -> ProviderError {
    let class = ErrorClass::Unexpected("a thread of the engine panicked".to_owned());
    ProviderError { kind: ProviderKind::Local, operation, class, source: Some(Arc::new(error)) }
}
