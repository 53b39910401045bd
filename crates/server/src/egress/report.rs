//! Telling the session's owner what was refused: each place once, and not a flood of them.

use std::{
    collections::{HashSet, VecDeque},
    time::Duration,
};

use tokio::time::Instant;

/// How something was tried.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Protocol {
    /// HTTP, in the clear.
    Http,
    /// A proxy's `CONNECT`; most likely for HTTPS.
    Connect,
    /// TLS.
    Tls,
    /// SSH.
    Ssh,
    /// Git's own protocol.
    Git,
    /// Anything else over TCP.
    Tcp,
}

/// Something that the sandbox was not let through to. Host and protocol are what the sandbox
/// said: text to show, nothing to rely on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// A name if one is known, else an address; printable, at most 255 characters.
    pub host: String,
    /// Port.
    pub port: u16,
    /// How it was tried.
    pub protocol: Protocol,
}

/// The most places that are remembered as told.
const REMEMBERED: usize = 1024;
/// The most that is told in [`WINDOW`].
const BURST: usize = 20;
const WINDOW: Duration = Duration::from_mins(1);

/// Decides which refusals are told.
#[derive(Debug, Default)]
pub(super) struct Told {
    places: HashSet<(String, u16)>,
    order: VecDeque<(String, u16)>,
    times: VecDeque<Instant>,
}

impl Told {
    /// Whether to tell of this one. One that is held back for being one of too many is told when
    /// it is tried again later.
    pub(super) fn is_news(&mut self, refusal: &Refusal, now: Instant) -> bool {
        let place = (refusal.host.clone(), refusal.port);
        if self.places.contains(&place) {
            return false;
        }
        while self.times.front().is_some_and(|time| now.duration_since(*time) >= WINDOW) {
            self.times.pop_front();
        }
        if self.times.len() >= BURST {
            return false;
        }
        self.times.push_back(now);
        if self.order.len() == REMEMBERED
            && let Some(oldest) = self.order.pop_front()
        {
            self.places.remove(&oldest);
        }
        self.order.push_back(place.clone());
        self.places.insert(place)
    }
}

/// A host's name as it may be shown.
pub(super) fn printable(host: &str) -> String {
    host.chars().filter(char::is_ascii_graphic).take(255).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_place_is_told_once_and_a_flood_is_held_back() {
        let mut told = Told::default();
        let now = Instant::now();
        let refusal = |n: u16| Refusal { host: "h".into(), port: n, protocol: Protocol::Tcp };
        assert!(told.is_news(&refusal(0), now));
        assert!(!told.is_news(&refusal(0), now));
        let news = (1..5000).filter(|n| told.is_news(&refusal(*n), now)).count();
        assert_eq!(news, BURST - 1);
        assert!(told.is_news(&refusal(4999), now + WINDOW));
        assert!(told.order.len() <= REMEMBERED && told.times.len() <= BURST);
    }
}
