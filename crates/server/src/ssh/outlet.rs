//! What goes out on a channel.

use bytes::Bytes;
use rclaude_types::Problem;
use russh::{
    ChannelWriteHalf, Sig,
    server::{Handle, Msg},
};

/// `SSH_EXTENDED_DATA_STDERR` (RFC 4254, section 5.2).
const STDERR: u32 = 1;

/// The exit status of what could not be begun or was lost, as `ssh` has it for its own errors.
const FAILED: u32 = 255;

/// The client has gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Gone;

/// How a command ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ending {
    /// With this code.
    Code(i32),
    /// By this signal.
    Signal(i32),
    /// It is not known.
    Lost,
}

/// A channel's way to its client. What is sent waits for the client's window.
pub(super) struct Outlet {
    half: ChannelWriteHalf<Msg>,
    handle: Handle,
}

impl Outlet {
    pub(super) fn new(half: ChannelWriteHalf<Msg>, handle: Handle) -> Self {
        Self { half, handle }
    }

    /// Sends standard output.
    pub(super) async fn send(&self, bytes: Bytes) -> Result<(), Gone> {
        self.half.data_bytes(bytes).await.map_err(|_| Gone)
    }

    /// Sends standard error.
    pub(super) async fn send_error(&self, bytes: Bytes) -> Result<(), Gone> {
        self.half.extended_data_bytes(STDERR, bytes).await.map_err(|_| Gone)
    }

    /// Says why nothing came of what was asked for, and ends.
    pub(super) async fn refuse(&self, problem: &Problem) {
        self.say(&problem.detail).await;
        self.end(Ending::Lost).await;
    }

    /// Says something of our own, where a person sees it.
    pub(super) async fn say(&self, text: &str) {
        let text: String = text.chars().filter(|it| !it.is_control()).collect();
        // Whoever has gone need not be told.
        let _ = self.send_error(format!("rclaude: {text}\r\n").into()).await;
    }

    /// Says how it ended, and closes the channel.
    pub(super) async fn end(&self, ending: Ending) {
        let id = self.half.id();
        // Each fails only once the client has gone.
        let _ = match ending {
            Ending::Code(code) => self.handle.exit_status_request(id, code.cast_unsigned()).await,
            Ending::Signal(number) => {
                let name = signal_name(number);
                let none = String::new;
                self.handle.exit_signal_request(id, name, false, none(), none()).await
            }
            Ending::Lost => self.handle.exit_status_request(id, FAILED).await,
        };
        self.close().await;
    }

    /// Says that no more comes.
    pub(super) async fn end_output(&self) {
        // Fails only once the client has gone.
        let _ = self.half.eof().await;
    }

    /// Closes the channel.
    pub(super) async fn close(&self) {
        self.end_output().await;
        let _ = self.half.close().await;
    }
}

/// A signal's name (RFC 4254, section 6.10); those it does not name are marked as local.
fn signal_name(number: i32) -> Sig {
    match number {
        libc::SIGABRT => Sig::ABRT,
        libc::SIGALRM => Sig::ALRM,
        libc::SIGFPE => Sig::FPE,
        libc::SIGHUP => Sig::HUP,
        libc::SIGILL => Sig::ILL,
        libc::SIGINT => Sig::INT,
        libc::SIGKILL => Sig::KILL,
        libc::SIGPIPE => Sig::PIPE,
        libc::SIGQUIT => Sig::QUIT,
        libc::SIGSEGV => Sig::SEGV,
        libc::SIGTERM => Sig::TERM,
        libc::SIGUSR1 => Sig::USR1,
        other => Sig::Custom(format!("{other}@linux")),
    }
}

/// The number of a signal that a client names.
pub(super) fn signal_number(signal: &Sig) -> Option<i32> {
    Some(match signal {
        Sig::ABRT => libc::SIGABRT,
        Sig::ALRM => libc::SIGALRM,
        Sig::FPE => libc::SIGFPE,
        Sig::HUP => libc::SIGHUP,
        Sig::ILL => libc::SIGILL,
        Sig::INT => libc::SIGINT,
        Sig::KILL => libc::SIGKILL,
        Sig::PIPE => libc::SIGPIPE,
        Sig::QUIT => libc::SIGQUIT,
        Sig::SEGV => libc::SIGSEGV,
        Sig::TERM => libc::SIGTERM,
        Sig::USR1 => libc::SIGUSR1,
        Sig::Custom(name) => match name.as_str() {
            "USR2" => libc::SIGUSR2,
            "CONT" => libc::SIGCONT,
            "STOP" => libc::SIGSTOP,
            _ => return None,
        },
    })
}
