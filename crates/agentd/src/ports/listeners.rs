//! What listens, read from the kernel when asked (`proc_net_tcp` of the kernel's documentation).

use std::{
    collections::{BTreeMap, HashMap},
    fs,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    path::Path,
};

use rclaude_types::Port;

/// `TCP_LISTEN` of `net/tcp_states.h`.
const LISTEN: &str = "0A";

/// A socket that listens, as the kernel's table has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Socket {
    address: IpAddr,
    port: u16,
    inode: u64,
}

/// A process that has a socket open.
#[derive(Debug, Clone)]
pub(crate) struct Holder {
    pid: u32,
    name: String,
}

/// Who has which socket open, by inode.
pub(crate) type Holders = HashMap<u64, Holder>;

/// All sockets that listen in the sandbox's network.
pub(crate) fn sockets() -> Vec<Socket> {
    ["/proc/net/tcp", "/proc/net/tcp6"]
        .into_iter()
        .filter_map(|table| fs::read_to_string(table).ok())
        .flat_map(|text| text.lines().skip(1).filter_map(listening).collect::<Vec<_>>())
        .collect()
}

/// The ports of those that somebody in the sandbox has open, by number. The others are the host's
/// ends of the sandbox's network.
pub(crate) fn ports(sockets: Vec<Socket>, holders: &Holders) -> Vec<Port> {
    let mut ports: BTreeMap<u16, Port> = BTreeMap::new();
    for socket in sockets {
        let Some(holder) = holders.get(&socket.inode) else { continue };
        let port = ports.entry(socket.port).or_insert_with(|| Port {
            port: socket.port,
            addresses: Vec::new(),
            process: holder.name.clone(),
            pid: holder.pid,
        });
        if !port.addresses.contains(&socket.address) {
            port.addresses.push(socket.address);
        }
    }
    ports.into_values().collect()
}

/// Reads a line of the table: `sl local remote state tx:rx tr:when retrans uid timeout inode …`.
fn listening(line: &str) -> Option<Socket> {
    let words: Vec<&str> = line.split_ascii_whitespace().collect();
    let (address, port) = words.get(1)?.split_once(':')?;
    if *words.get(3)? != LISTEN {
        return None;
    }
    Some(Socket {
        address: parse_address(address)?,
        port: u16::from_str_radix(port, 16).ok()?,
        inode: words.get(9)?.parse().ok()?,
    })
}

/// An address as the kernel prints it: words of 32 bits in the host's order, in hexadecimal.
fn parse_address(text: &str) -> Option<IpAddr> {
    let word = |at: usize| {
        let word = text.get(at * 8..at * 8 + 8)?;
        u32::from_str_radix(word, 16).ok().map(u32::to_ne_bytes)
    };
    match text.len() {
        8 => Some(Ipv4Addr::from(word(0)?).into()),
        32 => {
            let mut bytes = [0; 16];
            for (at, place) in bytes.chunks_exact_mut(4).enumerate() {
                place.copy_from_slice(&word(at)?);
            }
            // A socket of both families, bound to an address of the older one.
            let address = Ipv6Addr::from(bytes);
            Some(address.to_ipv4_mapped().map_or_else(|| address.into(), IpAddr::from))
        }
        _ => None,
    }
}

/// Who has these open, as far as may be seen in the rights of the calling thread: a user's own
/// processes, to whoever is not all-powerful. The first process is taken: children inherit.
pub(crate) fn holders(sockets: &[Socket]) -> Holders {
    let mut holders = HashMap::new();
    let mut pids: Vec<u32> = fs::read_dir("/proc")
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .collect();
    pids.sort_unstable();
    for pid in pids {
        if holders.len() == sockets.len() {
            break;
        }
        let process = Path::new("/proc").join(pid.to_string());
        for descriptor in fs::read_dir(process.join("fd")).into_iter().flatten().flatten() {
            let Ok(target) = fs::read_link(descriptor.path()) else { continue };
            let inode = target
                .to_str()
                .and_then(|text| text.strip_prefix("socket:[")?.strip_suffix(']')?.parse().ok());
            let Some(inode) = inode else { continue };
            if sockets.iter().any(|socket| socket.inode == inode) {
                let name = fs::read_to_string(process.join("comm")).unwrap_or_default();
                let name = name.trim_end().to_owned();
                holders.entry(inode).or_insert(Holder { pid, name });
            }
        }
    }
    holders
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_of_the_kernels_table_is_read() {
        let line = "   0: 0100007F:0BB8 00000000:0000 0A 00000000:00000000 00:00000000 00000000  \
                    1000        0 48521 1 0000000000000000 100 0 0 10 0";
        let address = Ipv4Addr::LOCALHOST.into();
        let socket = Socket { address, port: 3000, inode: 48521 };
        assert_eq!(listening(line), Some(socket));
        assert_eq!(listening(&line.replace(" 0A ", " 01 ")), None);
        for cut in 0..line.len() {
            let _never_panics = listening(&line[..cut]);
        }
    }

    #[test]
    fn addresses_are_words_in_the_hosts_order() {
        let of = |text: &str| parse_address(text).map(|address| address.to_string());
        assert_eq!(of("00000000000000000000000001000000").as_deref(), Some("::1"));
        assert_eq!(of("00000000000000000000000000000000").as_deref(), Some("::"));
        assert_eq!(of("0000000000000000FFFF00000100007F").as_deref(), Some("127.0.0.1"));
        assert_eq!(of("7F"), None);
        assert_eq!(of("zzzzzzzz"), None);
    }
}
