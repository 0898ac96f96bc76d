//! The hash over everything that happened in a run: every datagram, every byte between clients and
//! nodes, every record. Two runs with the same hash were the same run.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use sha2::{Digest as _, Sha256};

/// The hash so far. Clones are one.
#[derive(Clone, Default)]
pub(crate) struct Trace(Arc<Mutex<Sha256>>);

/// What an entry is about, so that no two kinds can be mistaken for each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Subject {
    /// A datagram between nodes.
    Datagram = 1,
    /// Bytes between a client and a node.
    Stream = 2,
    /// Something done to the world.
    World = 3,
    /// An event that a node logged.
    Event = 4,
    /// A record of the history.
    Record = 5,
}

impl Trace {
    /// Adds an entry: numbers that say when, who and what, and bytes.
    pub(crate) fn add(&self, subject: Subject, numbers: &[u64], bytes: &[u8]) {
        let mut hash = self.hash();
        hash.update([subject as u8]);
        for number in numbers {
            hash.update(number.to_le_bytes());
        }
        hash.update((bytes.len() as u64).to_le_bytes());
        hash.update(bytes);
    }

    /// The hash of all entries so far, in hex.
    pub(crate) fn so_far(&self) -> String {
        let hash = self.hash().clone().finalize();
        hash.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    fn hash(&self) -> MutexGuard<'_, Sha256> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whatever_differs_gives_another_hash() {
        let hash = |subject, numbers: &[u64], bytes: &[u8]| {
            let trace = Trace::default();
            trace.add(subject, numbers, bytes);
            trace.so_far()
        };
        let one = hash(Subject::Datagram, &[1, 2], b"x");
        assert_eq!(one, hash(Subject::Datagram, &[1, 2], b"x"));
        assert_ne!(one, hash(Subject::Stream, &[1, 2], b"x"));
        assert_ne!(one, hash(Subject::Datagram, &[2, 1], b"x"));
        assert_ne!(one, hash(Subject::Datagram, &[1, 2], b"y"));
        assert_eq!(one.len(), 64);
    }
}
