//! What is started, as the protocol has it.

use std::collections::BTreeMap;

use rclaude_types::TerminalSize;
use serde::{Deserialize, Serialize};

use crate::api::e2b::{
    connect::{Error, Result},
    envd::desk::Selector,
};

/// A command.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub(in crate::api::e2b::envd) struct ProcessConfig {
    pub(super) cmd: String,
    pub(super) args: Vec<String>,
    pub(super) envs: BTreeMap<String, String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) cwd: Option<String>,
}

impl ProcessConfig {
    /// As much as the daemon tells of a command that somebody else started.
    pub(in crate::api::e2b::envd) fn told(argv: &[String]) -> Self {
        let (cmd, args) = argv
            .split_first()
            .map_or_else(Default::default, |(cmd, args)| (cmd.clone(), args.to_vec()));
        Self { cmd, args, ..Self::default() }
    }
}

/// A terminal's shape.
#[derive(Debug, Clone, Deserialize)]
pub(super) struct Pty {
    size: Option<Size>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(default)]
struct Size {
    cols: u32,
    rows: u32,
}

impl Default for Size {
    fn default() -> Self {
        let TerminalSize { rows, cols } = TerminalSize::default();
        Self { cols: cols.into(), rows: rows.into() }
    }
}

impl Pty {
    pub(super) fn size(&self) -> Result<TerminalSize> {
        let Size { cols, rows } = self.size.clone().unwrap_or_default();
        let fits = |number: u32| u16::try_from(number).ok();
        let size = fits(rows).zip(fits(cols)).map(|(rows, cols)| TerminalSize { rows, cols });
        size.filter(|size| size.is_possible()).ok_or_else(|| {
            Error::invalid(format!("a terminal cannot have {cols} columns and {rows} rows"))
        })
    }
}

/// What `Start` is asked.
#[derive(Debug, Deserialize)]
pub(super) struct Start {
    #[serde(default)]
    pub(super) process: ProcessConfig,
    pub(super) pty: Option<Pty>,
    pub(super) tag: Option<String>,
    /// Whether it can be written to. Old clients do not say, and may write.
    pub(super) stdin: Option<bool>,
}

/// What calls about one process are asked.
#[derive(Debug, Deserialize)]
pub(super) struct About {
    pub(super) process: Option<Selector>,
}
