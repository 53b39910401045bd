//! A sandbox as the control plane shows it.

use std::collections::BTreeMap;

use rclaude_store::lease::{AtEnd, Lease};
use rclaude_types::{SessionId, Timestamp};
use serde::Serialize;

use crate::{
    api::{
        Api,
        e2b::{ENVD_VERSION, id},
    },
    session::manager::leases::Lent,
};

/// What E2B once called the node; clients want a word.
const CLIENT: &str = "rclaude";
/// Bytes of a MiB.
const MIB: u64 = 1 << 20;

/// A sandbox that was made, or connected to.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Made {
    #[serde(rename = "templateID")]
    template: String,
    #[serde(rename = "sandboxID")]
    sandbox: String,
    #[serde(rename = "clientID")]
    client: &'static str,
    envd_version: &'static str,
    envd_access_token: String,
    /// Where sandboxes are reached is the client's own setting.
    domain: Option<String>,
    traffic_access_token: Option<String>,
}

impl Made {
    pub(super) fn of(api: &Api, lease: &Lease) -> Self {
        Self {
            template: lease.template.clone(),
            sandbox: id::sandbox(&lease.session),
            client: CLIENT,
            envd_version: ENVD_VERSION,
            envd_access_token: api.e2b.tokens.mint(&lease.session),
            domain: None,
            traffic_access_token: None,
        }
    }
}

/// A sandbox in a list.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Listed {
    #[serde(rename = "templateID")]
    template: String,
    #[serde(rename = "sandboxID")]
    sandbox: String,
    #[serde(rename = "clientID")]
    client: &'static str,
    envd_version: &'static str,
    started_at: Timestamp,
    end_at: Timestamp,
    cpu_count: u32,
    #[serde(rename = "memoryMB")]
    memory_mb: u32,
    #[serde(rename = "diskSizeMB")]
    disk_size_mb: u64,
    state: &'static str,
    metadata: BTreeMap<String, String>,
}

impl Listed {
    /// `disk` is how large the sandbox's disk is, where that was asked.
    pub(super) fn of(lent: &Lent, disk: Option<u64>) -> Self {
        let (lease, resources) = (&lent.lease, lent.settings().resources);
        Self {
            template: lease.template.clone(),
            sandbox: id::sandbox(&lease.session),
            client: CLIENT,
            envd_version: ENVD_VERSION,
            started_at: lease.created_at,
            end_at: lease.ends_at,
            cpu_count: resources.cpu_millis.div_ceil(1000),
            memory_mb: resources.memory_mib,
            disk_size_mb: disk.unwrap_or(0) / MIB,
            state: if lent.is_running() { "running" } else { "paused" },
            metadata: lease.metadata.clone(),
        }
    }
}

/// A sandbox with all that is known of it.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Detailed {
    #[serde(flatten)]
    listed: Listed,
    envd_access_token: String,
    domain: Option<String>,
    lifecycle: Lifecycle,
}

/// What becomes of it when its time is up.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Lifecycle {
    auto_resume: bool,
    on_timeout: &'static str,
}

impl Detailed {
    pub(super) fn of(api: &Api, session: &SessionId, lent: &Lent, disk: Option<u64>) -> Self {
        Self {
            listed: Listed::of(lent, disk),
            envd_access_token: api.e2b.tokens.mint(session),
            domain: None,
            lifecycle: Lifecycle {
                auto_resume: lent.lease.auto_resume,
                on_timeout: match lent.lease.at_end {
                    AtEnd::Delete => "kill",
                    AtEnd::Freeze | AtEnd::Hibernate => "pause",
                },
            },
        }
    }
}
