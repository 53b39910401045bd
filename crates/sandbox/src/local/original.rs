//! Where a redirected connection was meant to go.

use std::{io, net::SocketAddr};

use tokio::net::TcpStream;

/// Where whoever opened this connection meant it to go. A connection that the kernel redirected
/// remembers it; one that arrived at a listener on its own port has it as its local address,
/// since in a sandbox every address is local.
pub fn original_destination(stream: &TcpStream) -> io::Result<SocketAddr> {
    let local = stream.local_addr()?;
    let redirected = match local {
        SocketAddr::V4(_) => rustix::net::sockopt::ip_original_dst(stream).map(SocketAddr::V4),
        SocketAddr::V6(_) => rustix::net::sockopt::ipv6_original_dst(stream).map(SocketAddr::V6),
    };
    Ok(redirected.unwrap_or(local))
}
