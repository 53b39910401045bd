//! Messages to the kernel's routing and packet filter, encoded by hand: six of them are needed,
//! all constant but for a port, and a library for each protocol would be larger than this file.
//!
//! A netlink message is a header (length, type, flags, sequence number, sender), a fixed part
//! that depends on the type, and attributes: length, type, payload, padded to four bytes, nested
//! at will. See netlink(7), rtnetlink(7) and the kernel's `nf_tables.h`.

use std::{io, os::fd::OwnedFd};

use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, netlink};

const REQUEST: u16 = 0x1;
const ACKNOWLEDGE: u16 = 0x4;
const CREATE: u16 = 0x400;
const APPEND: u16 = 0x800;
const NESTED: u16 = 0x8000;
const NLMSG_ERROR: u16 = 2;

/// Brings the loopback device up and makes every address a local one.
pub(super) fn make_everything_local() -> io::Result<()> {
    const NEW_LINK: u16 = 16;
    const NEW_ROUTE: u16 = 24;
    const LOOPBACK: u32 = 1;
    let mut link = Message::new(NEW_LINK, REQUEST | ACKNOWLEDGE);
    // struct ifinfomsg: family, padding, type, index, flags, which flags change.
    link.bytes(&[0, 0, 0, 0]).number(LOOPBACK).number(1).number(1);
    let route = |family: i32| {
        const LOCAL_TABLE: u8 = 255;
        const BY_ADMINISTRATOR: u8 = 4;
        const HOST_SCOPE: u8 = 254;
        const LOCAL_TYPE: u8 = 2;
        const OUT_INTERFACE: u16 = 4;
        let mut route = Message::new(NEW_ROUTE, REQUEST | ACKNOWLEDGE | CREATE);
        // struct rtmsg: family, destination and source lengths (0: default), service, table,
        // protocol, scope, type, flags.
        let family = u8::try_from(family).expect("families are small numbers");
        route
            .bytes(&[family, 0, 0, 0, LOCAL_TABLE, BY_ADMINISTRATOR, HOST_SCOPE, LOCAL_TYPE])
            .number(0)
            .attribute(OUT_INTERFACE, &LOOPBACK.to_ne_bytes());
        route
    };
    let socket = open(None)?;
    exchange(&socket, &[link])?;
    exchange(&socket, &[route(libc::AF_INET)])?;
    // A kernel without IPv6 has nothing to route there.
    match exchange(&socket, &[route(libc::AF_INET6)]) {
        Err(error)
            if matches!(error.raw_os_error(), Some(libc::EAFNOSUPPORT | libc::EOPNOTSUPP)) =>
        {
            Ok(())
        }
        other => other,
    }
}

/// Has the kernel redirect whatever TCP leaves for elsewhere to `port`, and DNS queries to any
/// server to port 53, both here.
pub(super) fn redirect(port: u16) -> io::Result<()> {
    let socket = open(Some(netlink::NETFILTER))?;
    exchange(&socket, &ruleset(libc::AF_INET, port))?;
    exchange(&socket, &ruleset(libc::AF_INET6, port))
}

fn ruleset(family: i32, port: u16) -> Vec<Message> {
    const NEW_TABLE: u16 = 0;
    const NEW_CHAIN: u16 = 3;
    const NEW_RULE: u16 = 6;
    const LOCAL_OUT: u32 = 3;
    const NAT_PRIORITY: i32 = -100;
    const NAME: &[u8] = b"rclaude\0";
    const TCP: u8 = 6;
    const UDP: u8 = 17;

    let mut table = filter_message(NEW_TABLE, family, CREATE);
    table.attribute(1, NAME);
    let mut chain = filter_message(NEW_CHAIN, family, CREATE);
    chain
        .attribute(1, NAME)
        .attribute(3, NAME)
        .nest(4, |hook| {
            hook.attribute(1, &LOCAL_OUT.to_be_bytes());
            hook.attribute(2, &NAT_PRIORITY.to_be_bytes());
        })
        .attribute(7, b"nat\0");
    let rule = |protocol: u8, to: u16, port: u16| {
        let mut rule = filter_message(NEW_RULE, family, CREATE | APPEND);
        rule.attribute(1, NAME).attribute(2, NAME).nest(4, |list| {
            list.protocol_is(protocol).not_to_itself(family);
            if to != 0 {
                list.destination_port_is(to);
            }
            list.redirect_to(port);
        });
        rule
    };
    vec![batch_mark(16), table, chain, rule(TCP, 0, port), rule(UDP, 53, 53), batch_mark(17)]
}

/// Begin (16) or end (17) of a batch that is applied as a whole or not at all.
fn batch_mark(kind: u16) -> Message {
    let mut mark = Message::new(kind, REQUEST);
    // struct nfgenmsg: family, version, the subsystem in network order.
    mark.bytes(&[0, 0, 0, NF_TABLES.to_be_bytes()[1]]);
    mark
}

const NF_TABLES: u16 = 10;

fn filter_message(kind: u16, family: i32, flags: u16) -> Message {
    let mut message = Message::new(NF_TABLES << 8 | kind, REQUEST | ACKNOWLEDGE | flags);
    message.bytes(&[u8::try_from(family).expect("families are small numbers"), 0, 0, 0]);
    message
}

/// One message under construction.
#[derive(Debug, Clone)]
struct Message(Vec<u8>);

impl Message {
    fn new(kind: u16, flags: u16) -> Self {
        let mut header = vec![0; 4];
        header.extend(kind.to_ne_bytes());
        header.extend(flags.to_ne_bytes());
        header.extend([0; 8]);
        Self(header)
    }

    fn bytes(&mut self, bytes: &[u8]) -> &mut Self {
        self.0.extend(bytes);
        self
    }

    fn number(&mut self, number: u32) -> &mut Self {
        self.bytes(&number.to_ne_bytes())
    }

    fn attribute(&mut self, kind: u16, payload: &[u8]) -> &mut Self {
        self.nest_as(kind, |message| {
            message.bytes(payload);
        })
    }

    fn nest(&mut self, kind: u16, fill: impl FnOnce(&mut Self)) -> &mut Self {
        self.nest_as(kind | NESTED, fill)
    }

    fn nest_as(&mut self, kind: u16, fill: impl FnOnce(&mut Self)) -> &mut Self {
        let start = self.0.len();
        self.bytes(&[0, 0]).bytes(&kind.to_ne_bytes());
        fill(self);
        let length = u16::try_from(self.0.len() - start).expect("messages here are short");
        self.0[start..start + 2].copy_from_slice(&length.to_ne_bytes());
        self.0.resize(self.0.len().next_multiple_of(4), 0);
        self
    }

    /// An expression of a rule; they share register 1.
    fn expression(&mut self, name: &[u8], fill: impl FnOnce(&mut Self)) -> &mut Self {
        self.nest(1, |element| {
            element.attribute(1, name).nest(2, fill);
        })
    }

    fn compare(&mut self, differs: bool, value: &[u8]) -> &mut Self {
        self.expression(b"cmp\0", |cmp| {
            cmp.attribute(1, &REGISTER).attribute(2, &u32::from(differs).to_be_bytes()).nest(
                3,
                |data| {
                    data.attribute(1, value);
                },
            );
        })
    }

    fn load_packet(&mut self, base: u32, offset: u32, length: u32) -> &mut Self {
        self.expression(b"payload\0", |payload| {
            payload
                .attribute(1, &REGISTER)
                .attribute(2, &base.to_be_bytes())
                .attribute(3, &offset.to_be_bytes())
                .attribute(4, &length.to_be_bytes());
        })
    }

    fn protocol_is(&mut self, protocol: u8) -> &mut Self {
        const TRANSPORT_PROTOCOL: u32 = 16;
        self.expression(b"meta\0", |meta| {
            meta.attribute(1, &REGISTER).attribute(2, &TRANSPORT_PROTOCOL.to_be_bytes());
        })
        .compare(false, &[protocol])
    }

    /// Not to `127.0.0.0/8` or `::1`.
    fn not_to_itself(&mut self, family: i32) -> &mut Self {
        const NETWORK_HEADER: u32 = 1;
        if family == libc::AF_INET {
            self.load_packet(NETWORK_HEADER, 16, 1).compare(true, &[127])
        } else {
            let itself = std::net::Ipv6Addr::LOCALHOST.octets();
            self.load_packet(NETWORK_HEADER, 24, 16).compare(true, &itself)
        }
    }

    fn destination_port_is(&mut self, port: u16) -> &mut Self {
        const TRANSPORT_HEADER: u32 = 2;
        self.load_packet(TRANSPORT_HEADER, 2, 2).compare(false, &port.to_be_bytes())
    }

    fn redirect_to(&mut self, port: u16) -> &mut Self {
        self.expression(b"immediate\0", |immediate| {
            immediate.attribute(1, &REGISTER).nest(2, |data| {
                data.attribute(1, &port.to_be_bytes());
            });
        })
        .expression(b"redir\0", |redirect| {
            redirect.attribute(1, &REGISTER);
        })
    }

    /// The message with its length filled in, and whether it asks for an answer.
    fn finish(mut self) -> (Vec<u8>, bool) {
        let length = u32::try_from(self.0.len()).expect("messages here are short");
        self.0[..4].copy_from_slice(&length.to_ne_bytes());
        let flags = u16::from_ne_bytes([self.0[6], self.0[7]]);
        (self.0, flags & ACKNOWLEDGE != 0)
    }
}

/// Register 1, in network order.
const REGISTER: [u8; 4] = [0, 0, 0, 1];

fn open(protocol: Option<rustix::net::Protocol>) -> io::Result<OwnedFd> {
    let flags = SocketFlags::CLOEXEC;
    Ok(rustix::net::socket_with(AddressFamily::NETLINK, SocketType::RAW, flags, protocol)?)
}

/// Sends messages as one batch and reads their answers; the first error ends it.
fn exchange(socket: &OwnedFd, messages: &[Message]) -> io::Result<()> {
    let mut batch = Vec::new();
    let mut answers = 0;
    for message in messages {
        let (bytes, asks) = message.clone().finish();
        batch.extend(bytes);
        answers += usize::from(asks);
    }
    rustix::net::send(socket, &batch, SendFlags::empty())?;
    let mut buffer = [0; 8192];
    while answers > 0 {
        // The kernel has answered by the time the send returned.
        let (length, _) = rustix::net::recv(socket, &mut buffer, RecvFlags::DONTWAIT)?;
        let mut rest = &buffer[..length];
        while let Some((kind, code, next)) = answer(rest) {
            if kind == NLMSG_ERROR {
                if code != 0 {
                    return Err(io::Error::from_raw_os_error(-code));
                }
                answers = answers.saturating_sub(1);
            }
            rest = next;
        }
    }
    Ok(())
}

/// Type and error number of the first message, and what follows it.
fn answer(bytes: &[u8]) -> Option<(u16, i32, &[u8])> {
    let length = u32::from_ne_bytes(bytes.get(..4)?.try_into().ok()?) as usize;
    let kind = u16::from_ne_bytes(bytes.get(4..6)?.try_into().ok()?);
    let code = i32::from_ne_bytes(bytes.get(16..20)?.try_into().ok()?);
    Some((kind, code, bytes.get(length.next_multiple_of(4)..).unwrap_or(&[])))
}
