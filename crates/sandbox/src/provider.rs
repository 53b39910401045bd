//! The narrow waist between the session engine and whatever runs a sandbox.
//!
//! A provider answers six questions: make one, how is it, take me to its daemon, which ones are
//! mine, find one by our name, end it. Whatever only some providers can do is a separate small
//! trait reached through an accessor that returns `Option`; what is published as a capability is
//! computed from the accessors, so the report and the behaviour agree.

use std::{fmt, net::SocketAddr, path::PathBuf, sync::Arc, time::Duration};

use async_trait::async_trait;
use rclaude_types::{LayerId, Resources, SandboxId, SealMethod};
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncRead, AsyncWrite};

/// Which implementation serves a sandbox. Stored with the row; append-only.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ProviderKind {
    /// Namespaces on this host.
    Local,
    /// In memory, for tests of what stands above.
    Fake,
}

impl ProviderKind {
    /// Its name, as it is stored.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Local => "local",
            Self::Fake => "fake",
        }
    }
}

/// The provider's name for a sandbox. Opaque to everything above the provider.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct SandboxRef(pub String);

/// What is asked for.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct SandboxSpec {
    /// Our name for the sandbox, chosen before anybody is asked, so that a repeated `create`
    /// adopts what the first one made.
    pub id: SandboxId,
    /// What its system is made of, in the provider's vocabulary (`host`).
    pub template: String,
    /// What it may use.
    pub resources: Resources,
    /// What its daemon needs to recognise this server.
    pub bootstrap: Bootstrap,
    /// Trees laid over the template, uppermost first. Each is a directory on the server's host
    /// that holds a root-relative tree (`workspace/…`), is never changed while in use, and
    /// stores owners as the sandbox sees them (0 root, 1000 agent).
    pub layers: Vec<PathBuf>,
    /// Sealed layers over those trees, uppermost first: the state it begins with.
    pub stack: Vec<LayerId>,
    /// Directories of the host shown read-only inside.
    pub binds: Vec<ReadOnlyBind>,
    /// Small files put in place before the first start, over layers and template.
    pub files: Vec<SeedFile>,
    /// Lets the daemon start processes as the sandbox's root.
    pub allow_root: bool,
}

/// A directory (or file) of the host shown read-only in the sandbox.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReadOnlyBind {
    /// Where it is on the host.
    pub source: PathBuf,
    /// Where it appears; absolute.
    pub target: PathBuf,
}

/// A file put in place before the first start.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SeedFile {
    /// Where; absolute, missing directories are made.
    pub path: PathBuf,
    /// Its content.
    pub content: Vec<u8>,
    /// Permission bits.
    pub mode: u32,
    /// Owner and group, as the sandbox sees them.
    pub uid: u32,
}

/// What the daemon is started with.
#[derive(Clone, Serialize, Deserialize)]
pub struct Bootstrap {
    /// Secret that the server presents with every request.
    pub token: String,
}

impl fmt::Debug for Bootstrap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Bootstrap { token: <redacted> }")
    }
}

/// What a provider says about a sandbox right now. Facts only, never intent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Observed {
    /// Being brought up.
    Starting,
    /// Up; `dial` is expected to succeed.
    Running,
    /// Frozen with its memory kept.
    Paused,
    /// Not running, disk kept.
    Stopped,
    /// The provider knows nothing under this name.
    Absent,
}

/// What a sandbox has used and what its limits did to it. Zero where the host cannot tell.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SandboxStats {
    /// Processor time, in microseconds.
    pub cpu_micros: u64,
    /// Memory in use, in bytes.
    pub memory_bytes: u64,
    /// The most memory ever in use, in bytes.
    pub memory_peak_bytes: u64,
    /// Processes and threads.
    pub pids: u64,
    /// Processes the kernel ended for want of memory.
    pub oom_kills: u64,
    /// Times a new process was refused by the limit.
    pub pids_refused: u64,
}

/// A byte stream that reaches the daemon. The provider hides how.
pub trait Duplex: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Duplex for T {}
/// See [`Duplex`].
pub type AgentStream = Box<dyn Duplex>;

/// Result of a provider call.
pub type Result<T, E = ProviderError> = std::result::Result<T, E>;

/// Runs sandboxes somewhere. Every call is safe to repeat.
#[async_trait]
pub trait SandboxProvider: fmt::Debug + Send + Sync + 'static {
    /// Which implementation this is.
    fn kind(&self) -> ProviderKind;

    /// What a sandbox's system can be made of, by name.
    fn templates(&self) -> &[&'static str];

    /// Brings a sandbox up with its daemon in it. Calling it again with the same `spec.id`
    /// returns the sandbox that is already there.
    async fn create(&self, spec: &SandboxSpec) -> Result<SandboxRef>;

    /// The sandbox's condition. Something gone is `Ok(Observed::Absent)`.
    async fn inspect(&self, sandbox: &SandboxRef) -> Result<Observed>;

    /// What it used.
    async fn stats(&self, sandbox: &SandboxRef) -> Result<SandboxStats>;

    /// Opens a stream to the sandbox's daemon. Fails at once if it is frozen: it could not answer.
    async fn dial(&self, sandbox: &SandboxRef) -> Result<AgentStream>;

    /// Every sandbox this server made, for the sweep.
    async fn list(&self) -> Result<Vec<(SandboxId, SandboxRef, Observed)>>;

    /// Looks a sandbox up by our name, for when a crash lost the provider's.
    async fn find(&self, id: &SandboxId) -> Result<Option<SandboxRef>> {
        let mine = self.list().await?;
        Ok(mine.into_iter().find_map(|(found, at, _)| (found == *id).then_some(at)))
    }

    /// Ends the sandbox and its disk. Something already gone is `Ok`.
    async fn destroy(&self, sandbox: &SandboxRef) -> Result<()>;

    /// Pause and resume, where the provider has them.
    fn pausing(&self) -> Option<&dyn Pausing> {
        None
    }

    /// Keeping its states, where the provider can.
    fn layering(&self) -> Option<&dyn Layering> {
        None
    }

    /// The sandbox's way out, where the provider lets this server be it.
    fn outbound(&self) -> Option<&dyn Outbound> {
        None
    }
}

/// Providers that can set a sandbox aside and bring it back.
#[async_trait]
pub trait Pausing: Send + Sync {
    /// The most that a pause can keep here.
    fn keeps(&self) -> Kept;
    /// Lets every process stand still, memory and all. `Unsupported` where [`keeps`](Self::keeps)
    /// says so, `Rejected` where it does not run, `Unavailable` where some process cannot stand
    /// still now; they all go on then. Idempotent.
    async fn freeze(&self, sandbox: &SandboxRef) -> Result<()>;
    /// Ends its processes, frozen or not, and keeps its disk. Idempotent.
    async fn stop(&self, sandbox: &SandboxRef) -> Result<()>;
    /// Brings it back: frozen processes go on, a stopped sandbox starts; its name may change.
    async fn resume(&self, sandbox: &SandboxRef) -> Result<SandboxRef>;
    /// Gives a frozen sandbox's memory back to the host as far as the host has somewhere to put
    /// it. Returns how many bytes; 0 where there is no swap.
    async fn reclaim(&self, sandbox: &SandboxRef) -> Result<u64>;
}

/// Providers that can keep states of a sandbox's writable disk as layers that never change, and
/// start others on top of them.
///
/// A layer is either *whole* (all of the writable disk) or holds what changed since another one.
/// Which it is depends on the method; the caller only keeps the stack that [`Sealed`] speaks of.
#[async_trait]
pub trait Layering: Send + Sync {
    /// How a layer is taken here.
    fn method(&self) -> SealMethod;
    /// Does what can be done of [`seal`](Self::seal) while the sandbox goes on, so that it stands
    /// still for less. May take as long as copying what changed. Leaving it out is harmless.
    async fn prepare_seal(
        &self,
        sandbox: &SandboxRef,
        layer: &LayerId,
        since: Option<&LayerId>,
    ) -> Result<()>;
    /// Keeps the writable disk as it is at one moment as `layer`. A running sandbox is frozen
    /// meanwhile (where it can be) and goes on; a frozen or stopped one stays as it is. `since`
    /// is the layer of the same sandbox that the new one may build on. What an earlier attempt
    /// with the same `layer` left is done over.
    async fn seal(
        &self,
        sandbox: &SandboxRef,
        layer: &LayerId,
        since: Option<&LayerId>,
    ) -> Result<Sealed>;
    /// Makes one layer that shows what these show together, uppermost first.
    async fn flatten(&self, layers: &[LayerId], into: &LayerId) -> Result<()>;
    /// Makes a layer that, laid over `over`, shows at each of `paths` (absolute, as inside)
    /// exactly what `from` shows there (nothing, if there are none), and changes nothing else.
    /// Both uppermost first.
    async fn graft(
        &self,
        from: &[LayerId],
        over: &[LayerId],
        paths: &[PathBuf],
        into: &LayerId,
    ) -> Result<()>;
    /// The layer's tree, where it is there and complete.
    async fn layer(&self, layer: &LayerId) -> Result<Option<PathBuf>>;
    /// An empty directory to fill with a layer's tree; [`finish`](Self::finish) makes it one.
    async fn draft(&self, layer: &LayerId) -> Result<PathBuf>;
    /// Makes a layer of a filled draft. Idempotent.
    async fn finish(&self, layer: &LayerId) -> Result<()>;
    /// Every layer here, complete or not, with its size in bytes where `sizes` is asked for.
    async fn layers(&self, sizes: bool) -> Result<Vec<(LayerId, u64)>>;
    /// Removes a layer. The caller makes sure that nothing stands on it. Idempotent.
    async fn remove_layer(&self, layer: &LayerId) -> Result<()>;
    /// Bytes on a sandbox's writable disk.
    async fn disk_bytes(&self, sandbox: &SandboxRef) -> Result<u64>;
}

/// What sealing came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sealed {
    /// The layer holds all of the writable disk: below it come the layers the sandbox started
    /// with. Otherwise below it comes `since`, with all below that.
    pub whole: bool,
    /// Bytes it holds.
    pub bytes: u64,
    /// How long the sandbox stood still.
    pub frozen: Duration,
}

/// What survives a pause.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kept {
    /// Disk and memory: processes carry on.
    Memory,
    /// Disk only: the daemon starts afresh.
    Disk,
}

/// Providers whose sandboxes reach the world through this server alone.
#[async_trait]
pub trait Outbound: Send + Sync {
    /// The sockets on which whatever the sandbox dials arrives. Asked for again after a restart
    /// of this server; connections made meanwhile wait in the backlog.
    async fn sockets(&self, sandbox: &SandboxRef) -> Result<OutboundSockets>;
}

/// The host's ends of a sandbox's network.
#[derive(Debug)]
pub struct OutboundSockets {
    /// Accepts every TCP connection the sandbox makes to somewhere that is not itself.
    pub tcp: Vec<tokio::net::TcpListener>,
    /// Receives the sandbox's DNS queries.
    pub dns: Vec<tokio::net::UdpSocket>,
}

/// Where a connection accepted from [`OutboundSockets::tcp`] was really meant to go.
pub type OriginalDestination = SocketAddr;

/// What a provider can do, as the API reports it; always computed from the accessors.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Capabilities {
    /// What a pause keeps, or `null` where there is none.
    pub pause: Option<Kept>,
    /// How its states are kept, or `null` where they cannot be.
    pub layers: Option<SealMethod>,
    /// Whether the sandbox's network passes through this server.
    pub outbound: bool,
}

impl Capabilities {
    /// Reads a provider's capabilities.
    pub fn of(provider: &dyn SandboxProvider) -> Self {
        Self {
            pause: provider.pausing().map(Pausing::keeps),
            layers: provider.layering().map(Layering::method),
            outbound: provider.outbound().is_some(),
        }
    }
}

/// A failed provider call: what was being done, what class of failure it was.
#[derive(Debug, Clone, thiserror::Error)]
#[error("could not {operation}: {class}")]
pub struct ProviderError {
    /// Which provider.
    pub kind: ProviderKind,
    /// What was being done, as a verb phrase.
    pub operation: &'static str,
    /// What class of failure.
    pub class: ErrorClass,
    /// The provider's own error.
    #[source]
    pub source: Option<Arc<dyn std::error::Error + Send + Sync>>,
}

/// The classes of failure a caller acts on differently.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ErrorClass {
    /// Try again, after the delay if there is one.
    #[error("temporarily unavailable")]
    Unavailable {
        /// How long the provider asked us to wait.
        retry_after: Option<Duration>,
    },
    /// No room: quota, memory, disk.
    #[error("out of quota or capacity: {0}")]
    Exhausted(String),
    /// The credentials were refused.
    #[error("credentials refused")]
    Unauthenticated,
    /// The host lacks something sandboxes need; the text names it and the fix.
    #[error("this host cannot do it: {0}")]
    Unsupported(String),
    /// The request cannot succeed as it stands.
    #[error("rejected: {0}")]
    Rejected(String),
    /// A bug, here or there.
    #[error("unexpected: {0}")]
    Unexpected(String),
}

impl ErrorClass {
    /// Whether doing the same thing again can help.
    pub fn is_retryable(&self) -> bool {
        matches!(self, Self::Unavailable { .. } | Self::Exhausted(_))
    }
}
