//! The nouns of Remote Claude: what the API, the daemon and the store speak of.
//!
//! Everything here is plain data with serde derives. No sockets, no files, no clocks: a type
//! moves here when its second user appears. With the feature `openapi` the API's shapes also
//! describe themselves, so that the published contract is generated from what the code uses.

mod approval;
mod backup;
mod checkpoint;
mod event;
mod exec;
mod file;
mod ids;
mod key;
mod lifecycle;
mod money;
mod page;
mod policy;
mod port;
mod problem;
mod server;
mod session;
mod ssh;
mod storage;
mod terminal;
mod time;
mod turn;
mod usage;

pub mod agentd;

pub use approval::{Approval, ApprovalKind, ApprovalState, Decision, Question, QuestionOption};
pub use backup::{Backup, BackupVerdict, CreateBackup, VerifyBackup};
pub use checkpoint::{
    Checkpoint, CheckpointKind, CreateCheckpoint, Fork, Origin, Rewind, RewindScope, SealMethod,
};
pub use event::{
    Event, EventBody, ExecStream, FileDiff, NoticeLevel, PlanEntry, PlanStatus, Role, Seq,
    ToolKind, ToolLocation,
};
pub use exec::{CreateExec, Exec, ExecFrame, ExecInput, ExecState, Signal, SignalExec};
pub use file::{
    ChangeFile, FileChange, FileEntry, FileEvent, FileKind, FileList, FileMatch, FileSearch,
    SearchStop,
};
pub use ids::{
    ApprovalId, CheckpointId, ExecId, IdError, KeyId, LayerId, RepositoryId, SandboxId, SessionId,
    SshKeyId, TerminalId, TurnId, UsageId, continue_after,
};
pub use key::{ApiKey, CreateKey, CreatedKey};
pub use lifecycle::{Desired, FailureReason, Generation, Phase, SessionStatus, TurnState};
pub use money::MicroUsd;
pub use page::Page;
pub use policy::{Depth, LifePolicy, OnInterrupted, PauseSession};
pub use port::{CreatePortLink, Port, PortLink, Preview, SessionPort};
pub use problem::{ErrorCode, Problem};
pub use server::{HostCheck, HostCheckLevel, ServerStatus};
pub use session::{
    AgentKind, CreateSession, DiffFormat, DiffStat, DiffStatFile, PermissionMode, RepositorySource,
    Resources, Session, SessionDiff, UpdateSession,
};
pub use ssh::{CreateSshKey, SshDoor, SshKey};
pub use storage::{DiskUse, Prune, Pruned, SessionDiskUse};
pub use terminal::{
    CreateTerminal, Terminal, TerminalControl, TerminalFrame, TerminalModes, TerminalSize,
    TerminalState, TerminalView,
};
pub use time::Timestamp;
pub use turn::{CreateTurn, Turn, TurnOutcome};
pub use usage::{TimeUsage, TokenUsage, UsageByModel, UsageSummary};
