//! `rclaude forward`: a session's ports on this machine.

use std::{io, net::Ipv4Addr, str::FromStr};

use clap::Args;
use rclaude_types::ErrorCode;
use serde::Serialize;
use tokio::{
    net::{TcpListener, TcpStream},
    signal::unix::{SignalKind, signal},
    sync::mpsc,
    task::JoinSet,
};

use super::{Context, Done};
use crate::{
    client::{Client, relay},
    exit::{Exit, Failure},
};

/// What connections tell the terminal may wait a little.
const WAITING: usize = 16;

/// Bring ports of a session to this machine
///
/// Whatever connects to the port here talks to the program that listens in the session; a paused
/// session wakes for it. Here only this machine can connect. Goes on until Ctrl-C, through
/// restarts of the server and pauses of the session: each connection is made anew. With --json:
/// one forwarded port a line.
#[derive(Debug, Args)]
pub(crate) struct ForwardArgs {
    /// The session: id, unique start of an id, or name
    session: String,
    /// The port in the session, and the one here if that is to be another: 3000, 3000:8080; 0
    /// here is any that is free
    #[arg(required = true, value_name = "PORT[:HERE]")]
    ports: Vec<Mapping>,
}

/// A port there and a port here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Mapping {
    there: u16,
    here: u16,
}

impl FromStr for Mapping {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (there, here) = text.split_once(':').unwrap_or((text, text));
        let port =
            |text: &str| text.parse().map_err(|_| format!("`{text}` is no port: 1 to 65535"));
        let mapping = Self { there: port(there)?, here: port(here)? };
        if mapping.there == 0 { Err("`0` is no port: 1 to 65535".to_owned()) } else { Ok(mapping) }
    }
}

/// A port that was brought here, for programs.
#[derive(Debug, Serialize)]
struct Forwarded<'a> {
    session: &'a str,
    port: u16,
    address: String,
}

/// What a connection came to.
type News = (u16, Failure);

pub(crate) async fn run(args: ForwardArgs, cx: &mut Context) -> Done {
    let mut interrupted = signal(SignalKind::interrupt())?;
    let mut terminated = signal(SignalKind::terminate())?;
    let client = cx.client().await?;
    // Before anything is promised: is there such a session?
    let session = cx.ui.wait("asking the server", client.session(&args.session)).await?;
    let name = session.value.name;
    let (tell, mut news) = mpsc::channel::<News>(WAITING);
    let mut doors = JoinSet::new();
    for mapping in args.ports {
        let door = listen(mapping).await?;
        let address = door.local_addr()?.to_string();
        if cx.json {
            cx.ui.json(&Forwarded { session: &name, port: mapping.there, address })?;
        } else {
            cx.ui.note(&format!("http://{address} leads to port {} of {name}", mapping.there));
        }
        let place = Place { client: client.clone(), session: args.session.clone(), mapping };
        doors.spawn(place.serve(door, tell.clone()));
    }
    loop {
        tokio::select! {
            Some(came) = news.recv() => told(came, cx)?,
            _ = interrupted.recv() => break,
            _ = terminated.recv() => break,
        }
    }
    // What happened before is told before we leave.
    while let Ok(came) = news.try_recv() {
        told(came, cx)?;
    }
    Ok(Exit::INTERRUPTED)
}

/// Tells what a connection came to; an error if nothing will ever come through.
fn told((port, failure): News, cx: &mut Context) -> Result<(), Failure> {
    match failure {
        Failure::Problem(problem) if problem.code == ErrorCode::PortClosed => {
            cx.ui.warn(&problem.detail);
        }
        // Deleted, or out of our reach.
        Failure::Problem(problem) if matches!(problem.status, 401 | 403 | 404) => {
            return Err(Failure::Problem(problem));
        }
        other => cx.ui.warn(&format!("port {port}: {}", describe(&other))),
    }
    Ok(())
}

fn describe(failure: &Failure) -> String {
    match failure {
        Failure::Problem(problem) => problem.detail.clone(),
        Failure::Unreachable { reason, .. } => reason.clone(),
        other => other.to_string(),
    }
}

async fn listen(mapping: Mapping) -> Result<TcpListener, Failure> {
    let Mapping { there, here } = mapping;
    TcpListener::bind((Ipv4Addr::LOCALHOST, here)).await.map_err(|error| match error.kind() {
        io::ErrorKind::AddrInUse | io::ErrorKind::PermissionDenied => Failure::Usage(format!(
            "port {here} here cannot be had ({error}); choose another: {there}:8080, or {there}:0 \
             for any"
        )),
        _ => Failure::Failed(format!("cannot listen on port {here}: {error}")),
    })
}

/// What one port here leads to.
#[derive(Clone)]
struct Place {
    client: Client,
    session: String,
    mapping: Mapping,
}

impl Place {
    /// Takes connections for ever; those under way end with it.
    async fn serve(self, door: TcpListener, tell: mpsc::Sender<News>) {
        let mut connections = JoinSet::new();
        loop {
            tokio::select! {
                arrived = door.accept() => {
                    if let Ok((here, _)) = arrived {
                        connections.spawn(self.clone().connect(here, tell.clone()));
                    }
                }
                Some(_) = connections.join_next() => {}
            }
        }
    }

    async fn connect(self, here: TcpStream, tell: mpsc::Sender<News>) {
        match self.client.connect_port(&self.session, self.mapping.there).await {
            Ok(there) => relay(here, there).await,
            Err(failure) => {
                // Nobody answers: broken, not ended.
                let _kept = here.set_zero_linger();
                // A terminal that is behind has been told as much already.
                let _told = tell.try_send((self.mapping.there, failure));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_is_the_same_here_unless_another_is_named() {
        let of = |text: &str| text.parse::<Mapping>().map(|it| (it.there, it.here));
        assert_eq!(of("3000"), Ok((3000, 3000)));
        assert_eq!(of("3000:8080"), Ok((3000, 8080)));
        assert_eq!(of("3000:0"), Ok((3000, 0)));
        for bad in ["", "0", "0:80", "x", "3000:", ":80", "70000", "1:2:3", "-1"] {
            assert!(of(bad).is_err(), "{bad}");
        }
    }
}
