//! How a verb can end: the exit codes, and what is said with each.

use std::{fmt, io};

use rclaude_types::{ErrorCode, Problem};

/// What the program tells the shell. [`EXIT_CODES`] documents them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Exit(pub(crate) u8);

impl Exit {
    pub(crate) const OK: Self = Self(0);
    pub(crate) const FAILED: Self = Self(1);
    pub(crate) const USAGE: Self = Self(2);
    pub(crate) const UNREACHABLE: Self = Self(3);
    pub(crate) const NOT_FOUND: Self = Self(4);
    pub(crate) const DENIED: Self = Self(5);
    pub(crate) const CONFLICT: Self = Self(6);
    pub(crate) const UNAVAILABLE: Self = Self(7);
    pub(crate) const INTERRUPTED: Self = Self(130);
    /// As if SIGPIPE had ended us: whoever read our output stopped reading.
    const PIPE_CLOSED: Self = Self(141);
}

/// The table of exit codes, shown by `rclaude --help`.
pub(crate) const EXIT_CODES: &str = "\
Exit codes:
  0    done; a followed turn completed
  1    it failed; a followed turn failed
  2    the command line or a value in it is wrong
  3    the server cannot be reached
  4    no such session, turn, approval, checkpoint, backup, key or file
  5    credentials are missing, wrong, or do not reach this far
  6    not possible now: name taken, several match, wrong state, allowance or quota used up
  7    the server cannot do it: no agent, no model API, no snapshot store, host, disk, shutting
       down
  130  interrupted: a followed turn was interrupted, or you detached with Ctrl-C
  `rclaude exec` and `rclaude shell` pass on the command's own code, 128+N if signal N ended it.";

/// Why a verb did not do what it was asked.
#[derive(Debug)]
pub(crate) enum Failure {
    /// The server said no.
    Problem(Problem),
    /// No server answers.
    Unreachable {
        /// Where we looked.
        url: String,
        /// What happened.
        reason: String,
    },
    /// What was typed cannot be meant.
    Usage(String),
    /// Anything else, in words for the user.
    Failed(String),
    /// Whoever read our output stopped reading; nothing is left to say.
    PipeClosed,
}

impl Failure {
    /// The exit code.
    pub(crate) const fn exit(&self) -> Exit {
        match self {
            Self::Problem(problem) => match (problem.code, problem.status) {
                (ErrorCode::WrongKey, _) | (_, 401 | 403) => Exit::DENIED,
                (_, 404) => Exit::NOT_FOUND,
                (ErrorCode::QuotaExceeded, _) | (_, 409 | 412) => Exit::CONFLICT,
                (_, 400 | 422) => Exit::USAGE,
                (_, 500..) => Exit::UNAVAILABLE,
                _ => Exit::FAILED,
            },
            Self::Unreachable { .. } => Exit::UNREACHABLE,
            Self::Usage(_) => Exit::USAGE,
            Self::Failed(_) => Exit::FAILED,
            Self::PipeClosed => Exit::PIPE_CLOSED,
        }
    }

    /// What to type to get further, where we know.
    pub(crate) fn hint(&self) -> Option<&'static str> {
        match self {
            // The server may have said it already.
            Self::Problem(problem) if problem.detail.contains("`rclaude ") => None,
            Self::Problem(problem) => hint_for(problem.code),
            Self::Unreachable { .. } => Some(
                "start one with `rclaude serve`, let this command do it with --start-server, or \
                 name another with --url (RCLAUDE_URL, `rclaude config set url …`)",
            ),
            Self::Usage(_) | Self::Failed(_) | Self::PipeClosed => None,
        }
    }

    /// The failure as one JSON object: the server's problem as it came, ours in the same shape.
    pub(crate) fn to_json(&self) -> serde_json::Value {
        let (code, title) = match self {
            Self::Problem(problem) => return serde_json::json!(problem),
            Self::Unreachable { .. } => ("server_unreachable", "The server cannot be reached"),
            Self::Usage(_) => ("usage", "The command line is not valid"),
            Self::Failed(_) | Self::PipeClosed => ("failed", "The command failed"),
        };
        serde_json::json!({
            "type": format!("urn:rclaude:error:{code}"),
            "title": title,
            "code": code,
            "detail": self.to_string(),
        })
    }
}

const fn hint_for(code: ErrorCode) -> Option<&'static str> {
    Some(match code {
        ErrorCode::SessionNotFound => "`rclaude ls` lists the sessions",
        ErrorCode::SessionAmbiguous => "give more of the id, or the name (`rclaude ls`)",
        ErrorCode::ApprovalNotFound => "`rclaude show SESSION` lists what the agent waits for",
        ErrorCode::TerminalNotFound => {
            "`rclaude shell SESSION` goes to the session's shell, or starts one"
        }
        ErrorCode::CheckpointNotFound => "`rclaude checkpoints SESSION` lists those there are",
        ErrorCode::AllowanceExhausted => {
            "`rclaude set SESSION --ttl …` or `--max-hours …` raises it"
        }
        ErrorCode::QuotaExceeded => {
            "`rclaude rm` removes sessions; `rclaude serve --max-sessions N` allows more"
        }
        ErrorCode::SshKeyNotFound => "`rclaude ssh-key ls` lists the keys",
        ErrorCode::KeyNotFound => "`rclaude key ls` lists the keys",
        ErrorCode::NameTaken => "choose another --name, or leave it out",
        ErrorCode::Unauthenticated => {
            "set RCLAUDE_TOKEN or `rclaude config set token …`; `rclaude key create NAME` on the \
             server's host makes one"
        }
        ErrorCode::AgentNotInstalled => "`rclaude init` on the server's host installs it",
        ErrorCode::LlmNotConfigured => {
            "start the server with ANTHROPIC_API_KEY set, or with --llm-url"
        }
        ErrorCode::RepositoryUnavailable => {
            "check the URL or path; the server reads it with its own git, its own user and that \
             user's credentials"
        }
        ErrorCode::RevisionNotFound => {
            "`git ls-remote REPOSITORY` lists the branches and tags; leave --branch out for the \
             default one"
        }
        ErrorCode::HostUnsupported => "`rclaude doctor` on the server's host says what is missing",
        _ => return None,
    })
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Problem(problem) => {
                f.write_str(&problem.detail)?;
                // Only where nobody could mend it without the server's log.
                match (&problem.request_id, problem.code) {
                    (Some(request), ErrorCode::Internal) => write!(f, " (request {request})"),
                    _ => Ok(()),
                }
            }
            Self::Unreachable { url, reason } => {
                write!(f, "no server answers at {url}: {reason}")
            }
            Self::Usage(text) | Self::Failed(text) => f.write_str(text),
            Self::PipeClosed => f.write_str("the reader of the output has gone"),
        }
    }
}

impl From<Problem> for Failure {
    fn from(problem: Problem) -> Self {
        Self::Problem(problem)
    }
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::BrokenPipe => Self::PipeClosed,
            _ => Self::Failed(error.to_string()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_problem_of_the_server_has_a_documented_exit_code() {
        for code in ErrorCode::ALL {
            let Exit(exit) = Failure::Problem(Problem::new(*code, "why")).exit();
            let documented =
                EXIT_CODES.lines().any(|line| line.trim().starts_with(&exit.to_string()));
            assert!(documented, "{code} ends with {exit}");
        }
    }

    #[test]
    fn what_can_be_mended_by_waiting_or_raising_is_not_a_wrong_command_line() {
        let exit = |code| Failure::Problem(Problem::new(code, "why")).exit();
        assert_eq!(exit(ErrorCode::CheckpointNotFound), Exit::NOT_FOUND);
        assert_eq!(exit(ErrorCode::AllowanceExhausted), Exit::CONFLICT);
        assert_eq!(exit(ErrorCode::QuotaExceeded), Exit::CONFLICT);
        assert_eq!(exit(ErrorCode::WrongKey), Exit::DENIED);
        assert_eq!(exit(ErrorCode::ArchiveInvalid), Exit::USAGE);
        assert_eq!(exit(ErrorCode::SnapshotsUnavailable), Exit::UNAVAILABLE);
    }

    #[test]
    fn our_own_failures_read_like_problems_in_json() {
        let failure = Failure::Unreachable { url: "http://x".into(), reason: "refused".into() };
        assert_eq!(failure.to_json()["code"], "server_unreachable");
        assert_eq!(failure.to_json()["detail"], "no server answers at http://x: refused");
    }
}
