//! A sandbox's network: a loopback device on which every address of the world is local.
//!
//! Whatever a program dials arrives at sockets that the supervisor made inside the sandbox's
//! network namespace and that the server holds. There is no device to the outside and no route
//! that could be found around them. Where the kernel has `nf_tables`, one listener takes all
//! ports; elsewhere there is one for each usual port, and other ports refuse.

use std::{
    fs::File,
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    os::fd::{AsFd, BorrowedFd, OwnedFd},
};

use rustix::{
    net::{AddressFamily, SocketFlags, SocketType, sockopt},
    thread::{LinkNameSpaceType, move_into_link_name_space},
};

use super::netlink;

/// Where redirected connections arrive: a port that no service is known to use.
const CATCH_ALL: u16 = 65_533;
/// What has a listener of its own where the kernel cannot redirect.
const USUAL_PORTS: [u16; 9] = [22, 53, 80, 443, 3128, 8080, 8443, 9418, 5000];
/// Where the resolver is told to ask.
const RESOLVER: Ipv4Addr = Ipv4Addr::new(100, 64, 0, 2);
/// How many connections may wait while the server is away.
const BACKLOG: i32 = 1024;

/// The host's ends of a sandbox's network.
#[derive(Debug)]
pub(super) struct Sockets {
    pub tcp: Vec<OwnedFd>,
    pub udp: Vec<OwnedFd>,
}

/// The network namespace this process is at home in.
#[derive(Debug)]
pub(super) struct Home(File);

impl Home {
    pub(super) fn here() -> io::Result<Self> {
        File::open("/proc/self/ns/net").map(Self)
    }

    /// Does something inside another process's network namespace.
    fn visit<T>(&self, pid: i32, act: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
        let there = File::open(format!("/proc/{pid}/ns/net"))?;
        enter(there.as_fd())?;
        let result = act();
        if let Err(error) = enter(self.0.as_fd()) {
            // Going on in a sandbox's network would put the next sandbox's sockets into it.
            tracing::error!(%error, "cannot return from a sandbox's network");
            super::super::sys::exit_now(70);
        }
        result
    }

    /// Sets a new sandbox's network up; says also whether the kernel redirects all ports.
    pub(super) fn set_up(&self, pid: i32) -> io::Result<(Sockets, bool)> {
        self.visit(pid, || {
            netlink::make_everything_local()?;
            let redirects = netlink::redirect(CATCH_ALL).is_ok();
            Ok((Sockets::open(redirects)?, redirects))
        })
    }

    /// Makes new sockets for a sandbox whose old ones were lost with an earlier supervisor.
    pub(super) fn reopen(&self, pid: i32, redirects: bool) -> io::Result<Sockets> {
        self.visit(pid, || Sockets::open(redirects))
    }
}

fn enter(namespace: BorrowedFd<'_>) -> io::Result<()> {
    Ok(move_into_link_name_space(namespace, Some(LinkNameSpaceType::Network))?)
}

impl Sockets {
    fn open(redirects: bool) -> io::Result<Self> {
        let ports: &[u16] = if redirects { &[CATCH_ALL] } else { &USUAL_PORTS };
        let mut sockets = Self { tcp: Vec::new(), udp: Vec::new() };
        for &port in ports {
            for any in [IpAddr::V4(Ipv4Addr::UNSPECIFIED), IpAddr::V6(Ipv6Addr::UNSPECIFIED)] {
                if let Some(socket) = open(SocketType::STREAM, SocketAddr::new(any, port))? {
                    rustix::net::listen(&socket, BACKLOG)?;
                    sockets.tcp.push(socket);
                }
            }
        }
        // Answers must come from the address that was asked: its own, and loopback for queries
        // that were redirected on their way to some other server.
        for address in [RESOLVER.into(), Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()] {
            sockets.udp.extend(open(SocketType::DGRAM, SocketAddr::new(address, 53))?);
        }
        Ok(sockets)
    }

    /// All descriptors, TCP first.
    pub(super) fn descriptors(&self) -> Vec<BorrowedFd<'_>> {
        self.tcp.iter().chain(&self.udp).map(AsFd::as_fd).collect()
    }
}

/// Opens and binds; `None` where the kernel has no such family.
fn open(kind: SocketType, address: SocketAddr) -> io::Result<Option<OwnedFd>> {
    let family = if address.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = match rustix::net::socket_with(family, kind, flags, None) {
        Err(rustix::io::Errno::AFNOSUPPORT) => return Ok(None),
        other => other?,
    };
    // A server that asks again may still hold the sockets it was given before.
    sockopt::set_socket_reuseport(&socket, true)?;
    if address.is_ipv6() {
        sockopt::set_ipv6_v6only(&socket, true)?;
    }
    match rustix::net::bind(&socket, &address) {
        Err(rustix::io::Errno::ADDRNOTAVAIL) if address.is_ipv6() => Ok(None),
        other => {
            other?;
            Ok(Some(socket))
        }
    }
}
