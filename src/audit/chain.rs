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
