//! What a new session is given: the flags that `run` and `start` share.

use clap::{Args, ValueHint};
use rclaude_types::{
    CreateSession, CreateTurn, LifePolicy, PermissionMode, RepositorySource, Resources,
};

use crate::{
    config::is_loopback,
    exit::Failure,
    local_repository::{self, Repository},
    values,
};

use super::{Context, life::LifeOptions, setup};

/// Flags that describe a new session.
#[derive(Debug, Default, Args)]
#[expect(clippy::struct_excessive_bools, reason = "each is a flag of its own")]
pub(crate) struct SessionOptions {
    /// Where the files come from: a directory here, a URL, or owner/name; an empty workspace if
    /// absent
    #[arg(long, value_name = "PATH|URL|OWNER/NAME", value_hint = ValueHint::DirPath)]
    pub(crate) repo: Option<String>,
    /// Branch, tag or commit to start from [default: the repository's own]
    #[arg(long, value_name = "REVISION", requires = "repo")]
    pub(crate) branch: Option<String>,
    /// Bring uncommitted and untracked files of a directory along
    #[arg(long, requires = "repo", conflicts_with = "no_include_uncommitted")]
    pub(crate) include_uncommitted: bool,
    /// Leave uncommitted files behind, without asking
    #[arg(long)]
    pub(crate) no_include_uncommitted: bool,
    /// What to call the session [default: made up]
    #[arg(long, value_parser = values::session_name)]
    pub(crate) name: Option<String>,
    /// The model, in the agent's words [default: the agent's own]
    #[arg(long)]
    pub(crate) model: Option<String>,
    /// What the agent may do without asking: default, acceptEdits, bypassPermissions, plan or
    /// dontAsk
    #[arg(long, value_name = "MODE", value_parser = values::permission_mode)]
    pub(crate) permission_mode: Option<PermissionMode>,
    /// Let the agent do everything without asking: the sandbox is the wall (same as
    /// --permission-mode bypassPermissions)
    #[arg(long, conflicts_with = "permission_mode")]
    pub(crate) yolo: bool,
    /// An environment variable for every process of the session
    #[arg(long, short, value_name = "KEY=VALUE", value_parser = values::pair)]
    pub(crate) env: Vec<(String, String)>,
    /// CPUs: 2, 0.5 or 1500m [default: 2]
    #[arg(long, value_name = "N", value_parser = values::cpu)]
    pub(crate) cpu: Option<u32>,
    /// Memory: 512M, 4G [default: 4G]
    #[arg(long, value_name = "SIZE", value_parser = values::memory)]
    pub(crate) memory: Option<u32>,
    /// What the sandbox's system is made of [default: host]
    #[arg(long, value_name = "NAME")]
    pub(crate) template: Option<String>,
    /// Let processes run as the sandbox's root (never this host's)
    #[arg(long)]
    pub(crate) allow_root: bool,
    /// A label to find the session by
    #[arg(long, value_name = "KEY=VALUE", value_parser = values::pair)]
    pub(crate) label: Vec<(String, String)>,
    /// A shell script to run in the workspace before the first prompt: a file, or the script
    /// itself. What it installs is part of the session
    #[arg(long, value_name = "FILE|SCRIPT", value_hint = ValueHint::FilePath)]
    pub(crate) setup: Option<String>,
    #[command(flatten)]
    pub(crate) life: LifeOptions,
}

impl SessionOptions {
    /// The request these flags and the settings make. May ask about uncommitted files.
    pub(crate) async fn request(
        self,
        cx: &mut Context,
        prompt: Option<String>,
    ) -> Result<CreateSession, Failure> {
        // Settings were checked when they were loaded; a default stands in for what is absent.
        let setting = |name| cx.settings.value(name);
        let parsed = |name, parse: fn(&str) -> Result<u32, String>, otherwise| {
            cx.settings.value(name).and_then(|text| parse(&text).ok()).unwrap_or(otherwise)
        };
        let resources = Resources::default();
        let mode = match (self.permission_mode, self.yolo) {
            (_, true) => PermissionMode::BypassPermissions,
            (Some(mode), _) => mode,
            (None, false) => setting("permission_mode")
                .and_then(|text| values::permission_mode(&text).ok())
                .unwrap_or_default(),
        };
        let resources = Resources {
            cpu_millis: self
                .cpu
                .unwrap_or_else(|| parsed("cpu", values::cpu, resources.cpu_millis)),
            memory_mib: self
                .memory
                .unwrap_or_else(|| parsed("memory", values::memory, resources.memory_mib)),
            ..resources
        };
        let model = self.model.or_else(|| setting("model"));
        let template = self.template.or_else(|| setting("template"));
        let uncommitted = match (self.include_uncommitted, self.no_include_uncommitted) {
            (true, _) => Some(true),
            (_, true) => Some(false),
            _ => None,
        };
        let repository = match self.repo {
            Some(text) => Some(repository(cx, &text, self.branch, uncommitted).await?),
            None => None,
        };
        Ok(CreateSession {
            name: self.name,
            repository,
            prompt: prompt.map(|text| CreateTurn { text, steer: false }),
            model,
            permission_mode: mode,
            env: self.env.into_iter().collect(),
            resources,
            template,
            allow_root: self.allow_root,
            labels: self.label.into_iter().collect(),
            setup: self.setup.as_deref().map(setup::read).transpose()?,
            life: self.life.over(LifePolicy::default()),
            ..CreateSession::default()
        })
    }
}

async fn repository(
    cx: &mut Context,
    text: &str,
    branch: Option<String>,
    uncommitted: Option<bool>,
) -> Result<RepositorySource, Failure> {
    let path = match local_repository::read(text, &cx.settings.environment)? {
        Repository::Remote(_) if uncommitted == Some(true) => {
            return Err(Failure::Usage(
                "--include-uncommitted needs --repo to be a directory here".to_owned(),
            ));
        }
        Repository::Remote(url) => {
            return Ok(RepositorySource { url, branch, include_uncommitted: false });
        }
        Repository::Path(path) => path,
    };
    let server = cx.settings.connection()?.url;
    if !is_loopback(&server) {
        return Err(Failure::Usage(format!(
            "{} is on this host and the server is not ({server}); push it and give its URL",
            path.display()
        )));
    }
    let count = match uncommitted {
        Some(true) => 0,
        _ => local_repository::uncommitted(&path)?,
    };
    let files = if count == 1 { "file is" } else { "files are" };
    let include = match uncommitted {
        Some(choice) => choice,
        None if count == 0 => false,
        None => {
            let question =
                format!("{count} {files} not committed in {}. Bring them along?", path.display());
            cx.ui.confirm(&question, false).await
        }
    };
    if count > 0 && !include {
        cx.ui.note(&format!(
            "{count} uncommitted {files} left out; --include-uncommitted brings them along"
        ));
    }
    let url = path
        .to_str()
        .ok_or_else(|| Failure::Usage("the path of --repo is not UTF-8".to_owned()))?
        .to_owned();
    Ok(RepositorySource { url, branch, include_uncommitted: include })
}
