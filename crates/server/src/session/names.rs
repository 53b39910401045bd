//! Names for sessions that were given none: two short words, easy to say and to type.

const FIRST: [&str; 48] = [
    "amber", "ample", "brave", "brisk", "calm", "clear", "clever", "coral", "crisp", "deft",
    "eager", "early", "fair", "fleet", "fresh", "gentle", "glad", "golden", "grand", "green",
    "happy", "honest", "jolly", "keen", "kind", "lively", "lucid", "lucky", "mellow", "merry",
    "nimble", "noble", "plain", "proud", "quick", "quiet", "rapid", "ready", "silver", "simple",
    "steady", "sunny", "swift", "tidy", "vivid", "warm", "wise", "witty",
];
const SECOND: [&str; 48] = [
    "acorn", "anchor", "badger", "beacon", "birch", "brook", "canyon", "cedar", "comet", "crane",
    "delta", "dune", "ember", "falcon", "fern", "finch", "fjord", "garnet", "glade", "harbor",
    "heron", "island", "jasper", "kestrel", "lagoon", "lantern", "larch", "lynx", "maple",
    "meadow", "meteor", "orchid", "otter", "pebble", "pine", "quartz", "raven", "reef", "river",
    "robin", "sparrow", "spruce", "summit", "thistle", "tulip", "valley", "willow", "wren",
];

/// A name picked by `entropy`; with `crowded` a number is added, for when the plain one is taken.
pub(super) fn suggest(entropy: u64, crowded: bool) -> String {
    let pick = |words: &[&'static str; 48], shift: u32| {
        words[usize::try_from((entropy >> shift) % 48).unwrap_or(0)]
    };
    let (first, second) = (pick(&FIRST, 0), pick(&SECOND, 16));
    if crowded {
        format!("{first}-{second}-{}", (entropy >> 32) % 10_000)
    } else {
        format!("{first}-{second}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_is_one_the_api_would_take() {
        for entropy in (0..5_000_u64).map(|n| n.wrapping_mul(0x9E37_79B9_7F4A_7C15)) {
            for crowded in [false, true] {
                let name = suggest(entropy, crowded);
                assert!(
                    name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
                );
                assert!(name.len() <= 63, "{name}");
            }
        }
    }
}
