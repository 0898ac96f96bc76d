//! The chain: each record carries the hash of the one before, so that a record that is changed,
//! removed or put in between is found by whoever goes along it. One chain a store, numbered from 1
//! in the order of commit.

use minicbor::{Decode, Encode};
use sha2::{Digest as _, Sha256};

use super::event::Event;
use crate::model::cbor;

/// SHA-256 of a record's bytes.
pub type ChainHash = [u8; 32];

/// What the first record carries as the hash of the one before.
pub const GENESIS: ChainHash = [0; 32];

const VERSION: u8 = 1;

/// Where a chain stands: the number and the hash of its last record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct Head {
    /// The last record's number; 0 where there is none.
    #[n(0)]
    pub seq: u64,
    /// Its hash.
    #[n(1)]
    #[cbor(with = "minicbor::bytes")]
    pub hash: ChainHash,
}

impl Default for Head {
    fn default() -> Self {
        Self { seq: 0, hash: GENESIS }
    }
}

/// One record of a chain.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct Record {
    /// Its number.
    #[n(0)]
    pub seq: u64,
    /// The hash of the record before.
    #[n(1)]
    #[cbor(with = "minicbor::bytes")]
    pub previous: ChainHash,
    /// What happened.
    #[n(2)]
    pub event: Event,
}

/// Why a record is not the chain's next.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ChainError {
    /// Its bytes do not decode.
    #[error("audit record {0} is damaged: {1}")]
    Damaged(u64, String),
    /// Records are missing before it.
    #[error("audit record {expected} is missing: record {found} comes in its place")]
    Missing {
        /// Which should have come.
        expected: u64,
        /// Which came.
        found: u64,
    },
    /// The record before it was changed, or this one belongs to another chain.
    #[error("audit record {0} does not follow the one before it: one of the two was changed")]
    Broken(u64),
}

impl Head {
    /// The bytes of the next record, for `event`; the chain then stands behind it.
    pub fn append(&mut self, event: Event) -> Vec<u8> {
        let record = Record { seq: self.seq + 1, previous: self.hash, event };
        let mut bytes = vec![VERSION];
        bytes.extend(cbor::encode(&record));
        *self = Self { seq: record.seq, hash: Sha256::digest(&bytes).into() };
        bytes
    }

    /// Reads the next record; the chain then stands behind it.
    pub fn follow(&mut self, bytes: &[u8]) -> Result<Record, ChainError> {
        let expected = self.seq + 1;
        let record = Record::decode(bytes).map_err(|e| ChainError::Damaged(expected, e))?;
        if record.seq != expected {
            return Err(ChainError::Missing { expected, found: record.seq });
        }
        if record.previous != self.hash {
            return Err(ChainError::Broken(record.seq));
        }
        *self = Self { seq: record.seq, hash: Sha256::digest(bytes).into() };
        Ok(record)
    }
}

impl Record {
    /// Reads a record's bytes, wherever it stands.
    pub fn decode(bytes: &[u8]) -> Result<Self, String> {
        match bytes.split_first() {
            Some((&VERSION, body)) => cbor::decode(body).map_err(|e| e.to_string()),
            Some((version, _)) => Err(format!("format {version}; this program knows format 1")),
            None => Err("no bytes".to_owned()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audit::{Decision, Source};
    use crate::model::Stamp;
    use proptest::prelude::*;

    fn event() -> Event {
        Event {
            at: Stamp(1_700_000_000_000_000),
            principal: "ada".into(),
            action: "config.write".into(),
            target: "web/dev/a".into(),
            decision: Decision::Allowed("config:write:web/*".into()),
            outcome: "done".into(),
            source: Source {
                node: "here-1".into(),
                address: Some("192.0.2.1".into()),
                request: "r".into(),
            },
            count: 1,
            index: Some(7),
        }
    }

    #[test]
    fn the_format_of_a_record_does_not_change() {
        let bytes = Head { seq: 6, hash: [9; 32] }.append(event());
        let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(
            hex,
            "01a30007015820090909090909090909090909090909090909090909090909090909090909090902a9001b00060a24181e\
             40000163616461026c636f6e6669672e777269746503697765622f6465762f610482008172636f6e6669673a7772697465\
             3a7765622f2a0564646f6e6506a30066686572652d3101693139322e302e322e3102617207010807"
        );
    }

    #[test]
    fn a_chain_is_followed_as_it_was_made_and_no_other_way() {
        let (mut head, mut follower) = (Head::default(), Head::default());
        let records: Vec<Vec<u8>> = (0..3).map(|_| head.append(event())).collect();
        assert_eq!(follower.follow(&records[0]).unwrap().event, event());
        let second = follower;
        assert_eq!(
            follower.follow(&records[2]),
            Err(ChainError::Missing { expected: 2, found: 3 })
        );
        assert_eq!(follower, second, "a record that does not follow moves nothing");
        let mut changed = records[1].clone();
        let at = changed.len() - 1;
        changed[at] ^= 1;
        assert!(follower.follow(&changed).is_ok(), "its own bytes are its successor's to prove");
        assert_eq!(follower.follow(&records[2]), Err(ChainError::Broken(3)));
        assert!(matches!(follower.follow(&[2, 0]), Err(ChainError::Damaged(3, _))));
    }

    proptest! {
        #[test]
        fn no_bytes_panic_the_decoder(noise in proptest::collection::vec(any::<u8>(), 0..80), at in any::<prop::sample::Index>(), with in any::<u8>()) {
            let _ = Record::decode(&noise);
            let mut bytes = Head::default().append(event());
            let i = at.index(bytes.len());
            bytes[i] = with;
            let _ = Record::decode(&bytes);
            let _ = Head::default().follow(&bytes);
        }
    }
}
