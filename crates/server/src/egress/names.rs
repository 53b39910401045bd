//! Addresses that stand for names.
//!
//! Nothing inside a sandbox can reach an address anyway, so its DNS gives every name one of its
//! own from 198.18.0.0/15 (set aside for tests by RFC 2544, so nobody's real one), and a
//! connection to it is known by its name again. An address is derived from its name's hash: it
//! stays the same over a restart of the server, while programs in the sandbox remember it.

use std::{
    collections::{BTreeMap, HashMap},
    net::{IpAddr, Ipv4Addr},
};

use sha2::{Digest, Sha256};

/// Where the gateway and the proxy seem to be.
pub const GATEWAY_ADDRESS: Ipv4Addr = Ipv4Addr::new(100, 64, 0, 1);

/// The first address of the range.
const BASE: u32 = u32::from_be_bytes([198, 18, 0, 0]);
/// How many addresses a /15 has.
const SIZE: u32 = 1 << 17;
/// How many names a session is remembered by. More than any build looks up, and less than 1 MiB.
const CAPACITY: usize = 4096;

/// A session's names and their addresses; the least recently used are forgotten.
#[derive(Debug, Default)]
pub struct Names {
    by_name: HashMap<String, Entry>,
    by_offset: HashMap<u32, String>,
    by_use: BTreeMap<u64, String>,
    uses: u64,
}

#[derive(Debug)]
struct Entry {
    offset: u32,
    used: u64,
}

impl Names {
    /// The address that stands for `name` (lower case, without the last dot).
    pub fn address(&mut self, name: &str) -> Ipv4Addr {
        self.uses += 1;
        let used = self.uses;
        if let Some(entry) = self.by_name.get_mut(name) {
            self.by_use.remove(&entry.used);
            entry.used = used;
            self.by_use.insert(used, name.to_owned());
            return Ipv4Addr::from_bits(BASE + entry.offset);
        }
        if self.by_name.len() == CAPACITY
            && let Some((_, oldest)) = self.by_use.pop_first()
            && let Some(entry) = self.by_name.remove(&oldest)
        {
            self.by_offset.remove(&entry.offset);
        }
        let digest = Sha256::digest(name);
        let mut offset = u32::from_be_bytes([digest[0], digest[1], digest[2], digest[3]]) % SIZE;
        // There are 32 times more addresses than names: this ends, and soon.
        while offset == 0 || self.by_offset.contains_key(&offset) {
            offset = (offset + 1) % SIZE;
        }
        self.by_name.insert(name.to_owned(), Entry { offset, used });
        self.by_offset.insert(offset, name.to_owned());
        self.by_use.insert(used, name.to_owned());
        Ipv4Addr::from_bits(BASE + offset)
    }

    /// The name that an address stands for.
    pub fn name(&self, address: IpAddr) -> Option<&str> {
        let IpAddr::V4(address) = address.to_canonical() else { return None };
        let offset = address.to_bits().checked_sub(BASE)?;
        self.by_offset.get(&offset).map(String::as_str)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_keeps_its_address_and_is_found_by_it() {
        let mut names = Names::default();
        let address = names.address("example.org");
        assert_eq!(names.address("example.org"), address);
        assert_eq!(names.name(address.into()), Some("example.org"));
        assert_eq!(Names::default().address("example.org"), address, "over a restart, too");
        assert_eq!(&address.octets()[..1], &[198]);
        assert_eq!(names.name("10.0.0.1".parse().unwrap()), None);
    }

    #[test]
    fn only_the_most_recently_used_names_are_remembered() {
        let mut names = Names::default();
        let kept = names.address("kept");
        let first = names.address("name0");
        for n in 1..CAPACITY + 10 {
            names.address(&format!("name{n}"));
            assert_eq!(names.address("kept"), kept);
        }
        assert_eq!(names.name(first.into()), None);
        assert_eq!(names.by_name.len(), CAPACITY);
        assert_eq!(names.by_offset.len(), CAPACITY);
        assert_eq!(names.by_use.len(), CAPACITY);
    }
}
