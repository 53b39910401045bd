//! DNS as a sandbox sees it: every name exists and has one IPv4 address, and nothing else.

use std::net::Ipv4Addr;

use hickory_proto::{
    op::{Edns, Message, MessageType, OpCode, ResponseCode},
    rr::{DNSClass, Name, RData, Record, RecordType},
};

use super::names::{GATEWAY_ADDRESS, Names};

/// How long an answer may be remembered, in seconds. It could be long: an answer never changes.
const TTL: u32 = 60;

/// Answers a query; `None` for what deserves no answer. The bytes come from the sandbox.
pub fn answer(query: &[u8], names: &mut Names) -> Option<Vec<u8>> {
    let Ok(query) = Message::from_vec(query) else {
        // A header that can be read gets told so; anything shorter is noise.
        let id = u16::from_be_bytes([*query.first()?, *query.get(1)?]);
        let is_query = query.len() >= 12 && query[2] & 0x80 == 0;
        return is_query.then(|| error(id, OpCode::Query, ResponseCode::FormErr)).flatten();
    };
    let head = query.metadata;
    if head.message_type != MessageType::Query {
        return None;
    }
    if head.op_code != OpCode::Query {
        return error(head.id, head.op_code, ResponseCode::NotImp);
    }
    let [question] = query.queries.as_slice() else {
        return error(head.id, head.op_code, ResponseCode::FormErr);
    };
    let mut reply = Message::response(head.id, OpCode::Query);
    reply.metadata.recursion_desired = head.recursion_desired;
    reply.metadata.recursion_available = true;
    reply.add_query(question.clone());
    if query.edns.is_some() {
        reply.set_edns(Edns::new());
    }
    if question.query_class() != DNSClass::IN {
        reply.metadata.response_code = ResponseCode::Refused;
        return reply.to_vec().ok();
    }
    let name = question.name().to_ascii().trim_end_matches('.').to_ascii_lowercase();
    match (question.query_type(), resolve(&name, names)) {
        (_, None) => reply.metadata.response_code = ResponseCode::NXDomain,
        (RecordType::A, Some(address)) => {
            let data = RData::A(address.into());
            reply.add_answer(Record::from_rdata(question.name().clone(), TTL, data));
        }
        (RecordType::PTR, _) => {
            let address = question.name().parse_arpa_name().ok().map(|net| net.addr());
            let known = address.and_then(|address| names.name(address));
            if let Some(target) = known.and_then(|name| Name::from_ascii(format!("{name}.")).ok()) {
                let data = RData::PTR(hickory_proto::rr::rdata::PTR(target));
                reply.add_answer(Record::from_rdata(question.name().clone(), TTL, data));
            }
        }
        // The name exists, but not with this: so nobody asks elsewhere or waits.
        _ => {}
    }
    reply.to_vec().ok()
}

/// The one address of a name; `None` if there is no such name.
fn resolve(name: &str, names: &mut Names) -> Option<Ipv4Addr> {
    match name {
        "gateway.rclaude" | "proxy.rclaude" => Some(GATEWAY_ADDRESS),
        "localhost" => Some(Ipv4Addr::LOCALHOST),
        _ if name.ends_with(".localhost") => Some(Ipv4Addr::LOCALHOST),
        _ if name == "rclaude" || name.ends_with(".rclaude") => None,
        // Not to be connected to; saying that it exists is enough.
        "" => Some(Ipv4Addr::UNSPECIFIED),
        _ if name.rsplit('.').next() == Some("arpa") => Some(Ipv4Addr::UNSPECIFIED),
        _ => Some(names.address(name)),
    }
}

fn error(id: u16, op_code: OpCode, code: ResponseCode) -> Option<Vec<u8>> {
    Message::error_msg(id, op_code, code).to_vec().ok()
}

#[cfg(test)]
mod tests {
    use std::str::FromStr;

    use hickory_proto::op::Query;
    use proptest::prelude::*;

    use super::*;

    fn ask(name: &str, kind: RecordType, names: &mut Names) -> Message {
        let mut query = Message::query();
        query.add_query(Query::query(Name::from_str(name).unwrap(), kind));
        query.set_edns(Edns::new());
        let reply = Message::from_vec(&answer(&query.to_vec().unwrap(), names).unwrap()).unwrap();
        assert_eq!(reply.metadata.id, query.metadata.id);
        assert_eq!(reply.queries, query.queries);
        reply
    }

    fn address(reply: &Message) -> Option<Ipv4Addr> {
        match &reply.answers.first()?.data {
            RData::A(address) => Some(address.0),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn every_name_has_an_address_and_the_gateway_its_own() {
        let mut names = Names::default();
        let reply = ask("gateway.rclaude.", RecordType::A, &mut names);
        assert_eq!(address(&reply), Some(GATEWAY_ADDRESS));
        let reply = ask("Example.ORG.", RecordType::A, &mut names);
        let found = address(&reply).unwrap();
        assert_eq!(names.name(found.into()), Some("example.org"));
        assert_eq!(address(&ask("example.org.", RecordType::A, &mut names)), Some(found));
        let [a, b, c, d] = found.octets();
        let reply = ask(&format!("{d}.{c}.{b}.{a}.in-addr.arpa."), RecordType::PTR, &mut names);
        assert_eq!(reply.answers[0].data.to_string(), "example.org.");
    }

    #[test]
    fn what_a_name_does_not_have_is_an_empty_answer() {
        let mut names = Names::default();
        for kind in [RecordType::AAAA, RecordType::MX, RecordType::TXT, RecordType::HTTPS] {
            let reply = ask("example.org.", kind, &mut names);
            assert_eq!(reply.metadata.response_code, ResponseCode::NoError);
            assert!(reply.answers.is_empty());
        }
        let reply = ask("absent.rclaude.", RecordType::A, &mut names);
        assert_eq!(reply.metadata.response_code, ResponseCode::NXDomain);
    }

    proptest! {
        #[test]
        fn no_packet_is_too_strange(packet: Vec<u8>, at in 0_usize..40, byte: u8) {
            let mut names = Names::default();
            let _ = answer(&packet, &mut names);
            let mut query = Message::query();
            query.add_query(Query::query(Name::from_str("a.example.").unwrap(), RecordType::A));
            let mut bytes = query.to_vec().unwrap();
            if let Some(place) = bytes.get_mut(at) {
                *place = byte;
            }
            bytes.extend(packet);
            let _ = answer(&bytes, &mut names);
        }
    }
}
