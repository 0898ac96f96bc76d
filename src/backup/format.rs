//! A backup's file: eight bytes that say what it is, then chunks. A chunk is a length (four bytes,
//! big-endian), a CBOR map of one of [`Chunk`]'s fields, and the first sixteen bytes of the SHA-256
//! of the sum before it and that map. So nothing can be changed, left out, put in or cut off unseen,
//! and what is wrong has a place. The first chunk is the manifest; the last says how many rows there
//! were. Fields that a later program added are passed over.
//!
//! Reads no file and no store: bytes in, chunks out.

use std::collections::BTreeMap;

use minicbor::{Decode, Encode};
use sha2::{Digest as _, Sha256};

use crate::audit::Head;
use crate::model::{Stamp, Told, cbor};

/// What a backup begins with.
const MAGIC: [u8; 8] = *b"holm-bak";
/// The format this program writes. A later one is refused.
pub(crate) const FORMAT: u32 = 1;
/// Longest chunk, in bytes: some more than the longest row that a store holds.
const CHUNK_LEN_MAX: usize = 1 << 30;
/// How long a sum is, in bytes.
const SUM_LEN: usize = 16;

type Sum = [u8; SUM_LEN];

/// What a backup is of, and what is in it.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct Manifest {
    /// The format of the file.
    #[n(0)]
    pub format: u32,
    /// Which version of the program wrote it.
    #[n(1)]
    pub program: String,
    /// Of which cluster it is.
    #[n(2)]
    pub cluster: String,
    /// Of which node.
    #[n(3)]
    pub node: String,
    /// When it was begun, by that node's clock.
    #[n(4)]
    pub at: Stamp,
    /// The format of `config.redb`.
    #[n(5)]
    pub config_format: u32,
    /// The format of `quorum.redb`.
    #[n(6)]
    pub quorum_format: u32,
    /// Which changes of configurations are in it.
    #[n(7)]
    pub vector: Told,
    /// Up to which index what the quorum decided is in its state.
    #[n(8)]
    pub quorum_applied: u64,
    /// Up to which index its log reaches.
    #[n(9)]
    pub quorum_last_log: u64,
    /// The generations of the master key that what is sealed needs.
    #[n(10)]
    pub generations: Vec<KeyGeneration>,
    /// Where the audit chains stand: the one of configurations, the one of the quorum.
    #[n(11)]
    pub audit: [Head; 2],
    /// What follows.
    #[n(12)]
    pub tables: Vec<TableInfo>,
}

/// A generation of the master key.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct KeyGeneration {
    /// 1, 2, 3, ….
    #[n(0)]
    pub number: u32,
    /// A one-way check value of the key.
    #[n(1)]
    #[cbor(with = "minicbor::bytes")]
    pub check: [u8; 32],
}

/// A table in the backup.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct TableInfo {
    /// `config` or `quorum`.
    #[n(0)]
    pub store: String,
    /// The table's name.
    #[n(1)]
    pub table: String,
    /// The type of its keys, as redb calls it.
    #[n(2)]
    pub key_type: String,
    /// The type of its values.
    #[n(3)]
    pub value_type: String,
    /// How many rows it has.
    #[n(4)]
    pub rows: u64,
}

impl Manifest {
    /// How many rows there are in all, by its own word.
    pub fn rows(&self) -> u64 {
        self.tables.iter().fold(0, |sum, table| sum.saturating_add(table.rows))
    }
}

/// Some rows of a table, in the order of its keys.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub(crate) struct Rows {
    #[n(0)]
    pub(crate) store: String,
    #[n(1)]
    pub(crate) table: String,
    #[n(2)]
    pub(crate) rows: Vec<Row>,
}

/// A row as redb keeps it.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub(crate) struct Row {
    #[n(0)]
    #[cbor(with = "minicbor::bytes")]
    pub(crate) key: Vec<u8>,
    #[n(1)]
    #[cbor(with = "minicbor::bytes")]
    pub(crate) value: Vec<u8>,
}

/// That this was all.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub(crate) struct End {
    /// How many rows there were.
    #[n(0)]
    pub(crate) rows: u64,
}

/// One of these. One of which this program knows no field is passed over.
#[derive(Clone, Debug, Default, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub(crate) struct Chunk {
    #[n(0)]
    pub(crate) manifest: Option<Manifest>,
    #[n(1)]
    pub(crate) rows: Option<Rows>,
    #[n(2)]
    pub(crate) end: Option<End>,
}

/// What is wrong with a backup's file.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum FormatError {
    #[error("it is no backup: it does not begin like one")]
    NotABackup,
    #[error("it has format {0}; this program knows formats up to {FORMAT}")]
    Later(u32),
    #[error("it is damaged in chunk {chunk}, which begins at byte {at}: {why}")]
    Damaged { chunk: u64, at: u64, why: String },
    #[error("it is cut off at byte {at}, in chunk {chunk}: {rows} of {total} rows are there")]
    Cut { chunk: u64, at: u64, rows: u64, total: u64 },
}

fn sum_of(before: &Sum, body: &[u8]) -> Sum {
    let mut hash = Sha256::new();
    hash.update(before);
    hash.update(body);
    let mut sum = [0; SUM_LEN];
    sum.copy_from_slice(&hash.finalize()[..SUM_LEN]);
    sum
}

/// Writes chunks, each as the bytes that come next.
#[derive(Debug, Default)]
pub(crate) struct Encoder {
    sum: Sum,
    began: bool,
}

impl Encoder {
    /// The bytes of the next chunk.
    pub(crate) fn chunk(&mut self, chunk: &Chunk) -> Vec<u8> {
        let body = cbor::encode(chunk);
        self.sum = sum_of(&self.sum, &body);
        let mut bytes = Vec::with_capacity(body.len() + MAGIC.len() + 4 + SUM_LEN);
        if !std::mem::replace(&mut self.began, true) {
            bytes.extend_from_slice(&MAGIC);
        }
        // A chunk is one row of a store at least, and these are shorter than 4 GiB.
        bytes.extend_from_slice(&u32::try_from(body.len()).unwrap_or(u32::MAX).to_be_bytes());
        bytes.extend_from_slice(&body);
        bytes.extend_from_slice(&self.sum);
        bytes
    }
}

/// Reads chunks from bytes as they come, and checks all of it.
#[derive(Debug, Default)]
pub(crate) struct Decoder {
    buffer: Vec<u8>,
    /// How much of the buffer is read.
    read: usize,
    /// Where in the file the buffer begins.
    at: u64,
    sum: Sum,
    chunks: u64,
    began: bool,
    manifest: Option<Manifest>,
    rows: BTreeMap<(String, String), u64>,
    rows_read: u64,
    ended: bool,
}

impl Decoder {
    /// Takes the next bytes in.
    pub(crate) fn feed(&mut self, bytes: &[u8]) {
        self.buffer.drain(..self.read);
        self.at += self.read as u64;
        self.read = 0;
        self.buffer.extend_from_slice(bytes);
    }

    /// The manifest, once it is read.
    pub(crate) fn manifest(&self) -> Option<&Manifest> {
        self.manifest.as_ref()
    }

    /// How many rows were read.
    pub(crate) fn rows_read(&self) -> u64 {
        self.rows_read
    }

    /// The next chunk that is there in whole, if there is one.
    pub(crate) fn next_chunk(&mut self) -> Result<Option<Chunk>, FormatError> {
        if !self.began {
            let known = self.buffer.len().min(MAGIC.len());
            if self.buffer[..known] != MAGIC[..known] {
                return Err(FormatError::NotABackup);
            }
            if known < MAGIC.len() {
                return Ok(None);
            }
            (self.began, self.read) = (true, MAGIC.len());
        }
        let rest = &self.buffer[self.read..];
        if self.ended && !rest.is_empty() {
            return Err(self.damaged("there are bytes behind the end"));
        }
        let Some((len, rest)) = rest.split_first_chunk::<4>() else { return Ok(None) };
        let len = u32::from_be_bytes(*len) as usize;
        if len > CHUNK_LEN_MAX {
            return Err(self.damaged(&format!("it cannot be {len} bytes long")));
        }
        if rest.len() < len + SUM_LEN {
            return Ok(None);
        }
        let (body, sum) = (&rest[..len], &rest[len..len + SUM_LEN]);
        let expected = sum_of(&self.sum, body);
        if sum != expected {
            return Err(self.damaged("its bytes do not come to their sum"));
        }
        let chunk: Chunk = cbor::decode(body).map_err(|e| self.damaged(&e.to_string()))?;
        self.note(&chunk)?;
        self.sum = expected;
        self.read += 4 + len + SUM_LEN;
        self.chunks += 1;
        Ok(Some(chunk))
    }

    /// After all bytes: the manifest, if nothing is missing.
    pub(crate) fn finish(self) -> Result<Manifest, FormatError> {
        if !self.began {
            return Err(FormatError::NotABackup);
        }
        match self.manifest {
            Some(manifest) if self.ended && self.read == self.buffer.len() => Ok(manifest),
            manifest => Err(FormatError::Cut {
                chunk: self.chunks,
                at: self.at + self.buffer.len() as u64,
                rows: self.rows_read,
                total: manifest.map_or(0, |manifest| manifest.rows()),
            }),
        }
    }

    fn note(&mut self, chunk: &Chunk) -> Result<(), FormatError> {
        let Chunk { manifest, rows, end } = chunk;
        if self.manifest.is_none() {
            let manifest = manifest.as_ref();
            let manifest = manifest.ok_or_else(|| self.damaged("it is no manifest"))?;
            if manifest.format > FORMAT {
                return Err(FormatError::Later(manifest.format));
            }
            self.manifest = Some(manifest.clone());
            return Ok(());
        }
        if manifest.is_some() {
            return Err(self.damaged("it is a second manifest"));
        }
        if let Some(rows) = rows {
            let count = rows.rows.len() as u64;
            *self.rows.entry((rows.store.clone(), rows.table.clone())).or_default() += count;
            self.rows_read += count;
        }
        let Some(end) = end else { return Ok(()) };
        self.ended = true;
        for table in self.manifest.iter().flat_map(|manifest| &manifest.tables) {
            let name = (table.store.clone(), table.table.clone());
            let found = self.rows.remove(&name).unwrap_or(0);
            if found != table.rows {
                let TableInfo { store, table, rows, .. } = table;
                return Err(self.damaged(&format!(
                    "it ends with {found} rows of {store}/{table}, which has {rows}"
                )));
            }
        }
        if let Some((store, table)) = self.rows.keys().next() {
            return Err(self.damaged(&format!("{store}/{table} is not in the manifest")));
        }
        if end.rows != self.rows_read {
            return Err(self.damaged(&format!("it says {} rows", end.rows)));
        }
        Ok(())
    }

    fn damaged(&self, why: &str) -> FormatError {
        let at = self.at + self.read as u64;
        FormatError::Damaged { chunk: self.chunks, at, why: why.to_owned() }
    }
}

#[cfg(test)]
mod tests;
