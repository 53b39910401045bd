//! Running the host's git: fixed configuration, bounded output, no prompts, no leftovers.
//!
//! A git that is no longer wanted (its caller went away or gave up) is asked to end together with
//! its helpers, as a process group; SIGTERM lets it remove its own lock files.

use std::{
    ffi::OsStr,
    io,
    os::unix::ffi::OsStrExt,
    path::{Path, PathBuf},
    process::Stdio,
};

use rustix::process::{Pid, Signal, kill_process_group};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWriteExt},
    process::Command,
};

use super::RepoError;

/// What git says while it works.
pub(super) type Progress<'a> = dyn FnMut(&str) + Send + 'a;

/// Our configuration, in place of the user's and the system's. `safe.directory` because the
/// server may read repositories of other owners; it must be a file, as git does not hand `-c`
/// options on to the process that reads the other repository. `sharedRepository` because agents
/// read the mirror's objects, whatever this process's umask is.
const CONFIG: &str = "\
[safe]\n\tdirectory = *\n\
[core]\n\thooksPath = /dev/null\n\tfsmonitor = false\n\tsharedRepository = 0644\n\
[gc]\n\tauto = 0\n[maintenance]\n\tauto = false\n\
[fetch]\n\tunpackLimit = 1\n\
[checkout]\n\tworkers = 0\n\
[index]\n\tversion = 2\n\
[credential]\n\thelper =\n\
[uploadpack]\n\tallowAnySHA1InWant = true\n\
[http]\n\tlowSpeedLimit = 100\n\tlowSpeedTime = 60\n\
[advice]\n\tdefaultBranchName = false\n[init]\n\tdefaultBranch = main\n";

/// Variables of a caller's repository that must not steer ours.
const FOREIGN: &[&str] = &[
    "GIT_ALTERNATE_OBJECT_DIRECTORIES",
    "GIT_ATTR_SOURCE",
    "GIT_COMMON_DIR",
    "GIT_CONFIG",
    "GIT_CONFIG_COUNT",
    "GIT_CONFIG_PARAMETERS",
    "GIT_DIR",
    "GIT_EXTERNAL_DIFF",
    "GIT_INDEX_FILE",
    "GIT_NAMESPACE",
    "GIT_OBJECT_DIRECTORY",
    "GIT_PREFIX",
    "GIT_REPLACE_REF_BASE",
    "GIT_SHALLOW_FILE",
    "GIT_TEMPLATE_DIR",
    "GIT_TRACE",
    "GIT_TRACE2",
    "GIT_WORK_TREE",
];

/// The most that is taken from a git's standard output. A listing of a million refs is 80 MB.
const OUTPUT_LIMIT: u64 = 256 << 20;

/// Runs git.
#[derive(Debug, Clone)]
pub(super) struct Git {
    program: PathBuf,
    config: PathBuf,
}

/// One invocation.
#[derive(Debug)]
pub(super) struct Invocation {
    command: Command,
    input: Vec<u8>,
    what: String,
}

/// A git that ended with an error.
#[derive(Debug)]
pub(super) struct Failure {
    /// Its last line that says why, without credentials.
    pub(super) reason: String,
    /// All that it said last, for looking closer.
    pub(super) said: String,
}

impl Git {
    /// A git whose configuration is kept in `dir`.
    pub(super) fn new(program: PathBuf, dir: &Path) -> io::Result<Self> {
        let config = dir.join("gitconfig");
        if std::fs::read(&config).ok().as_deref() != Some(CONFIG.as_bytes()) {
            let draft = tempfile::NamedTempFile::new_in(dir)?;
            std::fs::write(draft.path(), CONFIG)?;
            // Git may run as a repository's owner, who has to read this too.
            std::fs::set_permissions(
                draft.path(),
                std::os::unix::fs::PermissionsExt::from_mode(0o644),
            )?;
            draft.persist(&config)?;
        }
        Ok(Self { program, config })
    }

    /// `git …`, allowed to speak these protocols (colon-separated), if any.
    pub(super) fn invoke(&self, protocols: &str, what: impl Into<String>) -> Invocation {
        let mut invocation = self.bare(what);
        invocation
            .env("GIT_CONFIG_GLOBAL", &self.config)
            .env("GIT_CONFIG_NOSYSTEM", "1")
            .env("GIT_ALLOW_PROTOCOL", protocols);
        invocation
    }

    /// `git …` in a work tree of the host's user, with that user's own configuration (what is
    /// ignored and how line ends are kept is said there), and nothing that runs programs of its
    /// own accord.
    pub(super) fn invoke_as_user(&self, what: impl Into<String>) -> Invocation {
        let mut invocation = self.bare(what);
        invocation.args(["-c", "core.fsmonitor=false", "-c", "core.hooksPath=/dev/null"]);
        invocation
    }

    fn bare(&self, what: impl Into<String>) -> Invocation {
        let mut command = Command::new(&self.program);
        for name in FOREIGN {
            command.env_remove(name);
        }
        command
            .env("LC_ALL", "C")
            .env("GIT_TERMINAL_PROMPT", "0")
            .env("GIT_OPTIONAL_LOCKS", "0")
            .env("GIT_NO_REPLACE_OBJECTS", "1")
            .env("GIT_ASKPASS", "true")
            .env("SSH_ASKPASS_REQUIRE", "never")
            .env("GIT_SSH_COMMAND", "ssh -oBatchMode=yes")
            .env("GIT_DEFAULT_REF_FORMAT", "files")
            .current_dir("/")
            .process_group(0)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        Invocation { command, input: Vec::new(), what: what.into() }
    }
}

impl Invocation {
    /// Adds an argument.
    pub(super) fn arg(&mut self, arg: impl AsRef<OsStr>) -> &mut Self {
        self.command.arg(arg);
        self
    }

    /// Adds arguments.
    pub(super) fn args<S: AsRef<OsStr>>(&mut self, args: impl IntoIterator<Item = S>) -> &mut Self {
        self.command.args(args);
        self
    }

    /// Sets a variable.
    pub(super) fn env(&mut self, name: &str, value: impl AsRef<OsStr>) -> &mut Self {
        self.command.env(name, value);
        self
    }

    /// Bytes for its standard input.
    pub(super) fn input(&mut self, input: Vec<u8>) -> &mut Self {
        self.input = input;
        self
    }

    /// Runs as another user, where that user is not already ours.
    pub(super) fn owned_by(&mut self, uid: u32, gid: u32) -> &mut Self {
        if uid != rustix::process::geteuid().as_raw() {
            self.command.gid(gid).uid(uid).env("HOME", "/nonexistent");
            self.command.env_remove("XDG_CONFIG_HOME");
        }
        self
    }

    /// Runs it. The outer error is ours, the inner one git's.
    pub(super) async fn run(
        &mut self,
        progress: &mut Progress<'_>,
    ) -> Result<Result<Vec<u8>, Failure>, RepoError> {
        self.command.stdin(if self.input.is_empty() { Stdio::null() } else { Stdio::piped() });
        let mut child = self.command.spawn().map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => RepoError::Unavailable(
                "git is not installed on the server; install it to use repositories".to_owned(),
            ),
            _ => RepoError::io(format!("starting git for {}", self.what))(error),
        })?;
        let group = Group(child.id().and_then(|id| Pid::from_raw(id.try_into().ok()?)));
        let (stdin, stdout, stderr) =
            (child.stdin.take(), child.stdout.take(), child.stderr.take());
        let input = std::mem::take(&mut self.input);
        let feed = async move {
            if let Some(mut stdin) = stdin {
                // A git that stopped reading says why on its standard error.
                let _ = stdin.write_all(&input).await;
            }
        };
        let collect = async move {
            let mut bytes = Vec::new();
            if let Some(stdout) = stdout {
                stdout.take(OUTPUT_LIMIT).read_to_end(&mut bytes).await?;
            }
            io::Result::Ok(bytes)
        };
        let (output, said, ()) = tokio::join!(collect, listen(stderr, progress), feed);
        let status = child.wait().await;
        group.ended();
        let broken = || RepoError::io(format!("running git for {}", self.what));
        let (output, status) = (output.map_err(broken())?, status.map_err(broken())?);
        if status.success() {
            return Ok(Ok(output));
        }
        let said = redact(&said);
        if said.contains("No space left on device") {
            return Err(RepoError::DiskFull(self.what.clone()));
        }
        Ok(Err(Failure { reason: reason(&said, status), said }))
    }

    /// Runs something that cannot fail but for reasons of the repository.
    pub(super) async fn expect(&mut self) -> Result<Vec<u8>, RepoError> {
        self.run(&mut |_| ()).await?.map_err(|failure| {
            RepoError::Unavailable(format!("{} failed: {}", self.what, failure.reason))
        })
    }
}

/// Ends git and its helpers when dropped before they have ended by themselves.
struct Group(Option<Pid>);

impl Group {
    fn ended(mut self) {
        self.0 = None;
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        if let Some(pid) = self.0 {
            // Already gone is as good.
            let _ = kill_process_group(pid, Signal::TERM);
        }
    }
}

/// Passes each line of progress on and keeps the last few.
async fn listen(stderr: Option<impl AsyncRead + Unpin>, progress: &mut Progress<'_>) -> String {
    const KEPT: usize = 16 << 10;
    let Some(mut stderr) = stderr else { return String::new() };
    let (mut said, mut line, mut buffer) = (String::new(), Vec::new(), vec![0; 4096]);
    while let Ok(read) = stderr.read(&mut buffer).await
        && read > 0
    {
        for byte in &buffer[..read] {
            if !matches!(byte, b'\r' | b'\n') {
                // A line longer than this is nobody's to read.
                if line.len() < 2048 {
                    line.push(*byte);
                }
                continue;
            }
            let text = redact(String::from_utf8_lossy(&line).trim_end());
            line.clear();
            if text.is_empty() {
                continue;
            }
            progress(&text);
            if *byte == b'\n' {
                said.push_str(&text);
                said.push('\n');
            }
            if said.len() > KEPT {
                let from = said.len() - KEPT / 2;
                let from = said[from..].find('\n').map_or(said.len(), |at| from + at + 1);
                said.drain(..from);
            }
        }
    }
    said.push_str(&String::from_utf8_lossy(&line));
    said
}

/// The line that says why: git's `fatal:`, else the last one. Where git only says that the other
/// side hung up, the line before is the other side's (or ssh's) reason.
fn reason(said: &str, status: std::process::ExitStatus) -> String {
    let lines = said.lines().map(str::trim).filter(|line| !line.is_empty()).collect::<Vec<_>>();
    let last = |start: &str| lines.iter().rposition(|line| line.starts_with(start));
    let said_last = || lines.len().checked_sub(1);
    let Some(at) = last("fatal:").or_else(|| last("error:")).or_else(said_last) else {
        return format!("git ended with {status}");
    };
    match lines[..at].last() {
        Some(before) if lines[at].contains("Could not read from remote repository") => {
            format!("{} {before}", lines[at])
        }
        _ => lines[at].to_owned(),
    }
}

/// Takes `user:password@` out of every URL in a text.
fn redact(text: &str) -> String {
    let mut clean = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find("://") {
        let (before, after) = rest.split_at(at + 3);
        clean.push_str(before);
        let end = after
            .find(|c: char| c == '/' || c.is_whitespace() || matches!(c, '\'' | '"'))
            .unwrap_or(after.len());
        rest = after[..end].rfind('@').map_or(after, |sign| &after[sign + 1..]);
    }
    clean.push_str(rest);
    clean
}

/// A path from git's bytes.
pub(super) fn path(bytes: &[u8]) -> &Path {
    Path::new(OsStr::from_bytes(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_line_that_says_why_is_found() {
        let failed = std::process::ExitStatus::default();
        for (said, wanted) in [
            ("warning: x\nfatal: no such thing\nhint: y\n", "fatal: no such thing"),
            ("one\ntwo\n", "two"),
            (
                "Host key verification failed.\nfatal: Could not read from remote repository.\n\n\
                 Please make sure you have the correct access rights\n",
                "fatal: Could not read from remote repository. Host key verification failed.",
            ),
        ] {
            assert_eq!(reason(said, failed), wanted);
        }
    }

    #[test]
    fn credentials_never_show() {
        assert_eq!(
            redact("fatal: 'https://me:se@cret@example.org/x' and ssh://git@h/y"),
            "fatal: 'https://example.org/x' and ssh://h/y"
        );
    }
}
