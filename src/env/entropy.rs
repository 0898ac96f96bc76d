//! Randomness, one stream a purpose: a purpose that draws more in one run than in another does not
//! move the others. Streams are cryptographic generators; what they are seeded from decides
//! whether they are secret (the operating system) or repeatable (a simulation's seed).

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use rand::SeedableRng as _;
use rand::rngs::StdRng;
use sha2::{Digest as _, Sha256};

/// A cryptographic random generator (`rand::RngCore`).
pub type Stream = StdRng;

/// The source of all randomness of one node.
#[derive(Clone)]
pub struct Entropy(Source);

#[derive(Clone)]
enum Source {
    System,
    /// `taken` counts a purpose's streams, so that no two are the same.
    Seeded {
        seed: u64,
        taken: Arc<Mutex<BTreeMap<String, u64>>>,
    },
}

impl Entropy {
    /// Seeded by the operating system, each stream anew.
    pub fn system() -> Self {
        Self(Source::System)
    }

    /// The same streams for the same `seed`. Never for a node that keeps secrets.
    pub fn seeded(seed: u64) -> Self {
        Self(Source::Seeded { seed, taken: Arc::default() })
    }

    /// Whether the streams are repeatable.
    pub fn is_seeded(&self) -> bool {
        matches!(self.0, Source::Seeded { .. })
    }

    /// A new stream for `purpose`: the second one for the same purpose is another one.
    pub fn stream(&self, purpose: &str) -> Stream {
        match &self.0 {
            Source::System => StdRng::from_os_rng(),
            Source::Seeded { seed, taken } => {
                let mut taken = taken.lock().unwrap_or_else(PoisonError::into_inner);
                let count = taken.entry(purpose.to_owned()).or_insert(0);
                let hash = Sha256::new()
                    .chain_update(seed.to_be_bytes())
                    .chain_update(count.to_be_bytes())
                    .chain_update(purpose)
                    .finalize();
                *count += 1;
                StdRng::from_seed(hash.into())
            }
        }
    }
}

impl fmt::Debug for Entropy {
    /// Shows whether it is repeatable, and no seed.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.is_seeded() { "Entropy(seeded)" } else { "Entropy(system)" })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::RngCore as _;

    #[test]
    fn a_seed_and_a_purpose_give_the_same_streams_in_every_run() {
        let (a, b) = (Entropy::seeded(7), Entropy::seeded(7));
        let _ = b.stream("something else").next_u64();
        let first = a.stream("origin").next_u64();
        assert_eq!(first, b.stream("origin").next_u64());
        let second = a.stream("origin").next_u64();
        assert_eq!(second, b.stream("origin").next_u64());
        assert_ne!(first, second);
        assert_ne!(first, Entropy::seeded(8).stream("origin").next_u64());
    }

    #[test]
    fn the_systems_streams_differ() {
        let entropy = Entropy::system();
        assert_ne!(entropy.stream("origin").next_u64(), entropy.stream("origin").next_u64());
    }
}
