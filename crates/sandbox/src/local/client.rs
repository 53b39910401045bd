//! The server's side of the conversation with the supervisor.
//!
//! Calls block, and belong on a thread that may; each opens its own connection, so there is
//! nothing to reconnect: a supervisor that was replaced meanwhile is simply the one that answers.

use std::{
    fs::{self, File},
    io::{self, Read as _},
    os::{
        fd::{AsRawFd as _, OwnedFd},
        unix::process::ExitStatusExt as _,
    },
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, sockopt};

use rclaude_types::SandboxId;

use super::{
    config::LocalConfig,
    layout::EngineDir,
    protocol::{self, Failure, FailureClass, PROTOCOL, Reply, Request, While as _},
};

/// No request takes the supervisor longer, but for the ones in front of it.
const PATIENCE: Duration = Duration::from_mins(1);
/// How long processes that were killed may take to be gone, on a host that is busy.
const LEAVING: Duration = Duration::from_secs(10);
const STILL_LEAVING: Duration = Duration::from_millis(200);
/// How often, and how long after each other, it is tried to reach a supervisor.
const ATTEMPTS: u32 = 200;
const PAUSE: Duration = Duration::from_millis(10);

#[derive(Debug, Clone)]
pub(super) struct Client {
    engine: EngineDir,
    config: LocalConfig,
}

impl Client {
    pub(super) fn new(engine: EngineDir, config: LocalConfig) -> Self {
        Self { engine, config }
    }

    /// Makes sure that a supervisor of our protocol answers, starting one if need be.
    pub(super) fn ensure(&self) -> Result<(), Failure> {
        for _ in 0..ATTEMPTS {
            match self.try_ask(&Request::Hello) {
                Ok((Reply::Here { protocol: PROTOCOL, .. }, _)) => return Ok(()),
                // Another version's. Sandboxes live on without it.
                Ok(_) => {
                    let _ = self.try_ask(&Request::Leave);
                }
                Err(_) => self.spawn()?,
            }
            if self.try_ask(&Request::Hello).is_err() {
                std::thread::sleep(PAUSE);
            }
        }
        Err(Failure::new(FailureClass::Unavailable, "the supervisor does not answer"))
    }

    /// Asks, and starts a supervisor first if there is none.
    pub(super) fn ask(&self, request: &Request) -> Result<(Reply, Vec<OwnedFd>), Failure> {
        let answer = match self.try_ask(request) {
            Err(_) => {
                self.ensure()?;
                self.try_ask(request).map_err(|error| {
                    // It died once more: the next one may live.
                    let text = format!("ask the supervisor: {error}");
                    Failure::new(FailureClass::Unavailable, text)
                })?
            }
            Ok(answer) => answer,
        };
        match answer {
            (Reply::Failed(failure), _) => Err(failure),
            answer => Ok(answer),
        }
    }

    /// Starts a sandbox. One whose processes have been killed and are not gone yet is waited for
    /// here, where it holds up nobody else.
    pub(super) fn start(&self, id: &SandboxId) -> Result<(), Failure> {
        let until = Instant::now() + LEAVING;
        loop {
            match self.ask(&Request::Start { id: id.clone() }) {
                Err(failure)
                    if failure.class == FailureClass::Unavailable && Instant::now() < until =>
                {
                    std::thread::sleep(STILL_LEAVING);
                }
                answer => return answer.map(drop),
            }
        }
    }

    /// Asks something whose answer only says whether the sandbox runs.
    pub(super) fn ask_running(&self, request: &Request) -> Result<bool, Failure> {
        match self.ask(request)? {
            (Reply::Done { running }, _) => Ok(running),
            (other, _) => {
                let text = format!("the supervisor answered {other:?} to {request:?}");
                Err(Failure::new(FailureClass::Unexpected, text))
            }
        }
    }

    /// Asks the supervisor that is there, if any.
    pub(super) fn try_ask(&self, request: &Request) -> io::Result<(Reply, Vec<OwnedFd>)> {
        let directory = File::open(self.engine.path())?;
        let flags = SocketFlags::CLOEXEC;
        let kind = SocketType::SEQPACKET;
        let socket = rustix::net::socket_with(AddressFamily::UNIX, kind, flags, None)?;
        // The path of a socket may have no more than 107 bytes.
        let path = format!("/proc/self/fd/{}/supervisor.sock", directory.as_raw_fd());
        rustix::net::connect(&socket, &SocketAddrUnix::new(path)?)?;
        sockopt::set_socket_timeout(&socket, sockopt::Timeout::Recv, Some(PATIENCE))?;
        protocol::send(&socket, request, &[])?;
        protocol::receive(&socket)
    }

    /// Starts a supervisor; one that lost the race to another leaves by itself.
    fn spawn(&self) -> Result<(), Failure> {
        let (program, arguments) = self.config.supervisor.split_first().ok_or_else(|| {
            Failure::new(FailureClass::Unexpected, "no command to start a supervisor is set")
        })?;
        let mut child = Command::new(program)
            .args(arguments)
            .arg("--dir")
            .arg(self.engine.path())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .during("start the supervisor")?;
        let mut complaint = String::new();
        if let Some(stderr) = &mut child.stderr {
            stderr.read_to_string(&mut complaint).during("start the supervisor")?;
        }
        let status = child.wait().during("start the supervisor")?;
        if status.success() {
            return Ok(());
        }
        let refused = ["(os error 1)", "(os error 38)", "(os error 28)"];
        let class = if refused.iter().any(|code| complaint.contains(code)) {
            FailureClass::Unsupported
        } else if status.signal().is_some() {
            // Somebody killed it: nothing that the next one must meet with too.
            FailureClass::Unavailable
        } else {
            FailureClass::Unexpected
        };
        let log = fs::canonicalize(self.engine.supervisor_log());
        let text = format!(
            "the supervisor did not start ({}): {}{}; `rclaude doctor` tells what the host lacks",
            status,
            complaint.trim(),
            log.map_or_else(|_| String::new(), |log| format!(" (log: {})", log.display())),
        );
        Err(Failure::new(class, text))
    }
}
