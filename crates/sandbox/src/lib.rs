//! Sandboxes: where they run and how to reach into them.
//!
//! [`provider`] is the narrow waist: make a sandbox, find it, reach its daemon, set it aside, end
//! it. Everything done *inside* a sandbox (processes, files) is spoken to its daemon by
//! [`agentd::Client`], written once for every provider. This room knows no users, no sessions'
//! meaning and no rows.

pub mod agentd;
pub mod local;
pub mod provider;
