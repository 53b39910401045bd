//! One client's connection: who it is, what its channels are for.

use std::{
    collections::HashMap,
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use rclaude_types::{Problem, SshKeyId};
use russh::{
    Channel as Opened, ChannelId, ChannelOpenFailure, Error, Pty, Sig,
    keys::PublicKey,
    server::{Auth, ChannelOpenHandle, Handler, Msg, PublicKeyOffer, Session, VerifiedPublicKey},
};
use tokio::sync::watch;

use super::{
    channel::{Channel, Target, Work, size},
    command, forward,
    input::Excess,
    keys,
    outlet::signal_number,
    serve::Shared,
    sftp, terminal,
};

/// Channels that a connection may have open.
const MAX_CHANNELS: usize = 64;

/// The longest command, as the kernel bounds an argument (`MAX_ARG_STRLEN`).
const MAX_COMMAND: usize = 131_071;

/// How long one packet waits for room. Then it is taken all the same, so that the connection's
/// other packets get their turn, its end among them, which stands behind what the kernels hold.
const WAIT: Duration = Duration::from_millis(64);

/// Beyond so much, each waits for longer.
const MUCH: usize = 16 * 1024 * 1024;
const LONG_WAIT: Duration = Duration::from_secs(1);

/// Beyond so much, after about half an hour, a connection is broken off.
const TOO_MUCH: usize = 64 * 1024 * 1024;

type Channels = Arc<Mutex<HashMap<ChannelId, Channel>>>;

/// The server's side of a connection.
pub(super) struct Connection {
    shared: Arc<Shared>,
    peer: SocketAddr,
    /// What its channels hold beyond their room.
    excess: Excess,
    /// The key that opened it, once it is.
    opened: watch::Sender<Option<SshKeyId>>,
    session: Option<Result<Target, Problem>>,
    channels: Channels,
}

impl Connection {
    pub(super) fn new(
        shared: Arc<Shared>,
        peer: SocketAddr,
        opened: watch::Sender<Option<SshKeyId>>,
    ) -> Self {
        let channels = Channels::default();
        Self { shared, peer, excess: Excess::default(), opened, session: None, channels }
    }

    /// The key's id, if it opens anything.
    async fn known(&self, key: &PublicKey) -> Option<SshKeyId> {
        match self.shared.keys.find(key).await {
            Ok(found) => found,
            Err(error) => {
                tracing::error!(%error, "an SSH key cannot be looked up");
                None
            }
        }
    }

    fn channels(&self) -> MutexGuard<'_, HashMap<ChannelId, Channel>> {
        lock(&self.channels)
    }

    /// Answers a request about a channel.
    fn answer(session: &mut Session, id: ChannelId, done: bool) -> Result<(), Error> {
        if done { session.channel_success(id) } else { session.channel_failure(id) }
    }

    /// Begins what runs on a channel, or tells there why nothing does.
    fn begin<Running>(
        &self,
        id: ChannelId,
        session: &mut Session,
        run: impl FnOnce(Target, Work, bool) -> Running,
    ) -> Result<(), Error>
    where
        Running: Future<Output = ()> + Send + 'static,
    {
        let begun = self.channels().get_mut(&id).and_then(|channel| {
            let has_terminal = channel.has_terminal();
            Some((channel.begin(session.handle(), &self.excess)?, has_terminal))
        });
        let (Some((work, has_terminal)), Some(target)) = (begun, &self.session) else {
            return session.channel_failure(id);
        };
        session.channel_success(id)?;
        match target {
            Ok(target) => self.spawn(id, run(target.clone(), work, has_terminal)),
            Err(problem) => {
                let problem = problem.clone();
                self.spawn(id, async move {
                    let Work { out, gone, .. } = work;
                    gone.run_until_cancelled(out.refuse(&problem)).await;
                });
            }
        }
        Ok(())
    }

    /// Does what a channel is for; it is forgotten then.
    fn spawn(&self, id: ChannelId, running: impl Future<Output = ()> + Send + 'static) {
        let open = self.channels.clone();
        self.shared.tasks.spawn(async move {
            running.await;
            lock(&open).remove(&id);
        });
    }

    /// Runs a command, or a shell, with a terminal or without.
    fn run(
        &self,
        id: ChannelId,
        session: &mut Session,
        command: Option<String>,
    ) -> Result<(), Error> {
        self.begin(id, session, async move |target, work, has_terminal| {
            if has_terminal {
                terminal::run(target, work, command).await;
            } else {
                command::run(target, work, command).await;
            }
        })
    }
}

fn lock(channels: &Channels) -> MutexGuard<'_, HashMap<ChannelId, Channel>> {
    channels.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Drop for Connection {
    fn drop(&mut self) {
        // What runs on them holds the map as well.
        self.channels().clear();
    }
}

impl Handler for Connection {
    type Error = Error;

    async fn auth_publickey_offered(
        &mut self,
        user: &str,
        offer: PublicKeyOffer<'_>,
    ) -> Result<Auth, Error> {
        if self.known(offer.public_key).await.is_some() {
            return Ok(Auth::Accept);
        }
        let key = keys::fingerprint(offer.public_key);
        tracing::warn!(peer = %self.peer, user, key, "an SSH client's key was refused");
        Ok(Auth::reject())
    }

    async fn auth_publickey(
        &mut self,
        user: &str,
        key: VerifiedPublicKey<'_>,
    ) -> Result<Auth, Error> {
        // It may have been removed since it was offered.
        let Some(id) = self.known(key.public_key).await else { return Ok(Auth::reject()) };
        tracing::info!(peer = %self.peer, user, ssh_key.id = %id, "an SSH client was let in");
        self.shared.keys.note_use(&id).await;
        // Whoever has a key may know which sessions there are; what is wrong is told on the
        // channel, as this refusal could not say it.
        let sessions = &self.shared.sessions;
        let found = match sessions.resolve(user).await {
            Ok(session) => sessions.presence(&session).await.map(|it| (session, Arc::new(it))),
            Err(problem) => Err(problem),
        };
        self.session = Some(found.map(|(session, presence)| Target {
            sessions: sessions.clone(),
            session,
            _presence: presence,
        }));
        self.opened.send_replace(Some(id));
        Ok(Auth::Accept)
    }

    async fn channel_open_session(
        &mut self,
        channel: Opened<Msg>,
        reply: ChannelOpenHandle,
        _: &mut Session,
    ) -> Result<(), Error> {
        let id = channel.id();
        let has_room = {
            let mut channels = self.channels();
            let has_room = channels.len() < MAX_CHANNELS;
            if has_room {
                channels.insert(id, Channel::new(channel.split().1));
            }
            has_room
        };
        if has_room {
            reply.accept().await;
        } else {
            reply.reject(ChannelOpenFailure::ResourceShortage).await;
        }
        Ok(())
    }

    async fn channel_open_direct_tcpip(
        &mut self,
        opened: Opened<Msg>,
        host: &str,
        port: u32,
        _: &str,
        _: u32,
        reply: ChannelOpenHandle,
        session: &mut Session,
    ) -> Result<(), Error> {
        let target = match &self.session {
            Some(Ok(target)) => forward::port(host, port).map(|port| (target.clone(), port)),
            Some(Err(problem)) => Err(forward::failed(problem)),
            None => Err(ChannelOpenFailure::AdministrativelyProhibited),
        };
        let (target, port) = match target {
            Ok(target) => target,
            Err(failure) => {
                reply.reject(failure).await;
                return Ok(());
            }
        };
        let id = opened.id();
        let mut channel = Channel::new(opened.split().1);
        let work = channel.begin(session.handle(), &self.excess);
        let work = work.filter(|_| {
            let mut channels = self.channels();
            let has_room = channels.len() < MAX_CHANNELS;
            if has_room {
                channels.insert(id, channel);
            }
            has_room
        });
        let Some(work) = work else {
            reply.reject(ChannelOpenFailure::ResourceShortage).await;
            return Ok(());
        };
        // Not waited for: it may take its time to be accepted there.
        self.spawn(id, forward::run(target, work, port, reply));
        Ok(())
    }

    async fn pty_request(
        &mut self,
        id: ChannelId,
        term: &str,
        cols: u32,
        rows: u32,
        _: u32,
        _: u32,
        _: &[(Pty, u32)],
        session: &mut Session,
    ) -> Result<(), Error> {
        let done =
            self.channels().get_mut(&id).is_some_and(|it| it.want_terminal(term, size(cols, rows)));
        Self::answer(session, id, done)
    }

    async fn env_request(
        &mut self,
        id: ChannelId,
        name: &str,
        value: &str,
        session: &mut Session,
    ) -> Result<(), Error> {
        let done = self.channels().get_mut(&id).is_some_and(|it| it.set(name, value));
        Self::answer(session, id, done)
    }

    async fn shell_request(&mut self, id: ChannelId, session: &mut Session) -> Result<(), Error> {
        self.run(id, session, None)
    }

    async fn exec_request(
        &mut self,
        id: ChannelId,
        command: &[u8],
        session: &mut Session,
    ) -> Result<(), Error> {
        match String::from_utf8(command.to_vec()) {
            Ok(command) if command.len() <= MAX_COMMAND && !command.contains('\0') => {
                self.run(id, session, Some(command))
            }
            _ => session.channel_failure(id),
        }
    }

    async fn subsystem_request(
        &mut self,
        id: ChannelId,
        name: &str,
        session: &mut Session,
    ) -> Result<(), Error> {
        if name != "sftp" {
            return session.channel_failure(id);
        }
        self.begin(id, session, async |target, work, _| sftp::run(target, work).await)
    }

    async fn window_change_request(
        &mut self,
        id: ChannelId,
        cols: u32,
        rows: u32,
        _: u32,
        _: u32,
        _: &mut Session,
    ) -> Result<(), Error> {
        if let Some(channel) = self.channels().get_mut(&id) {
            channel.resize(size(cols, rows));
        }
        Ok(())
    }

    async fn signal(&mut self, id: ChannelId, signal: Sig, _: &mut Session) -> Result<(), Error> {
        if let (Some(channel), Some(number)) = (self.channels().get(&id), signal_number(&signal)) {
            channel.signal(number);
        }
        Ok(())
    }

    async fn x11_request(
        &mut self,
        id: ChannelId,
        _: bool,
        _: &str,
        _: &str,
        _: u32,
        session: &mut Session,
    ) -> Result<(), Error> {
        session.channel_failure(id)
    }

    async fn data(&mut self, id: ChannelId, data: &[u8], _: &mut Session) -> Result<(), Error> {
        let input = self.channels().get(&id).and_then(Channel::input);
        let Some(input) = input else { return Ok(()) };
        let waiting = self.excess.bytes();
        let wait = if waiting < MUCH { WAIT } else { LONG_WAIT };
        if tokio::time::timeout(wait, input.send(data)).await.is_ok() {
            return Ok(());
        }
        if waiting >= TOO_MUCH {
            let peer = self.peer;
            tracing::warn!(%peer, "an SSH client sends what nobody reads, and is broken off");
            return Err(Error::HUP);
        }
        input.exceed(data);
        Ok(())
    }

    async fn channel_eof(&mut self, id: ChannelId, _: &mut Session) -> Result<(), Error> {
        if let Some(channel) = self.channels().get_mut(&id) {
            channel.end_input();
        }
        Ok(())
    }

    async fn channel_close(&mut self, id: ChannelId, _: &mut Session) -> Result<(), Error> {
        self.channels().remove(&id);
        Ok(())
    }
}
