//! Taking a backup: both stores in one read transaction each, begun together, chunk by chunk as
//! somebody asks for them. No more than a chunk is in memory, and nobody who writes waits.

use redb::ReadTransaction;

use super::format::{Chunk, Encoder, End, FORMAT, KeyGeneration, Manifest, Row, Rows, TableInfo};
use super::{CONFIG, QUORUM, tables_of};
use crate::model::Stamp;
use crate::quorum::store::copy as quorum;
use crate::storage::StoreError;
use crate::storage::copy as config;

/// How many bytes of rows a chunk has, and a row more.
const CHUNK_BYTES: usize = 256 * 1024;

/// A backup that is being taken.
pub(crate) struct Dump {
    /// Of the config store and of the quorum's.
    transactions: [(&'static str, ReadTransaction); 2],
    manifest: Manifest,
    encoder: Encoder,
    next: Next,
    rows: u64,
}

enum Next {
    Manifest,
    /// The rows of this store's table behind this key.
    Rows {
        store: usize,
        table: usize,
        after: Option<Vec<u8>>,
    },
    Nothing,
}

impl Dump {
    /// Begins, at `at`, with transactions that were begun together.
    pub(crate) fn new(
        config_tx: ReadTransaction,
        quorum_tx: ReadTransaction,
        at: Stamp,
    ) -> Result<Self, StoreError> {
        let unused = |store| StoreError::Failed(format!("{store} was never used: nothing to keep"));
        let config = config::facts(&config_tx)?.ok_or_else(|| unused("config.redb"))?;
        let quorum = quorum::facts(&quorum_tx)?.ok_or_else(|| unused("quorum.redb"))?;
        let whose = (&config.cluster, &config.node);
        if whose != (&quorum.cluster, &quorum.node) {
            return Err(StoreError::Failed(format!(
                "config.redb is of {} in {}, quorum.redb of {} in {}",
                config.node, config.cluster, quorum.node, quorum.cluster
            )));
        }
        let transactions = [(CONFIG, config_tx), (QUORUM, quorum_tx)];
        let mut tables = Vec::new();
        for (store, tx) in &transactions {
            for table in tables_of(store) {
                let (key_type, value_type) = table.types();
                let rows = table.rows(tx)?;
                // A program that does not know the table can restore what is not in it.
                if rows == 0 {
                    continue;
                }
                tables.push(TableInfo {
                    store: (*store).to_owned(),
                    table: table.name().to_owned(),
                    key_type,
                    value_type,
                    rows,
                });
            }
        }
        let generation = |(number, check)| KeyGeneration { number, check };
        let manifest = Manifest {
            format: FORMAT,
            program: env!("CARGO_PKG_VERSION").to_owned(),
            cluster: config.cluster,
            node: config.node,
            at,
            config_format: config.format,
            quorum_format: quorum.format,
            vector: config.vector,
            quorum_applied: quorum.applied,
            quorum_last_log: quorum.last_log,
            generations: quorum.generations.into_iter().map(generation).collect(),
            audit: [config.audit, quorum.audit],
            tables,
        };
        let encoder = Encoder::default();
        Ok(Self { transactions, manifest, encoder, next: Next::Manifest, rows: 0 })
    }

    /// The bytes that come next; none after the last. Blocks.
    pub(crate) fn next_bytes(&mut self) -> Result<Option<Vec<u8>>, StoreError> {
        let chunk = match std::mem::replace(&mut self.next, Next::Nothing) {
            Next::Nothing => return Ok(None),
            Next::Manifest => {
                self.next = Next::Rows { store: 0, table: 0, after: None };
                Chunk { manifest: Some(self.manifest.clone()), ..Chunk::default() }
            }
            Next::Rows { store, table, after } => self.rows_after(store, table, after)?,
        };
        Ok(Some(self.encoder.chunk(&chunk)))
    }

    /// The next rows from there on, or the end.
    fn rows_after(
        &mut self,
        mut store: usize,
        mut table: usize,
        mut after: Option<Vec<u8>>,
    ) -> Result<Chunk, StoreError> {
        while let Some((name, tx)) = self.transactions.get(store) {
            let Some(source) = tables_of(name).get(table) else {
                (store, table) = (store + 1, 0);
                continue;
            };
            let rows = source.read(tx, after.as_deref(), CHUNK_BYTES)?;
            let Some((last, _)) = rows.last() else {
                (table, after) = (table + 1, None);
                continue;
            };
            self.next = Next::Rows { store, table, after: Some(last.clone()) };
            self.rows += rows.len() as u64;
            let rows = Rows {
                store: (*name).to_owned(),
                table: source.name().to_owned(),
                rows: rows.into_iter().map(|(key, value)| Row { key, value }).collect(),
            };
            return Ok(Chunk { rows: Some(rows), ..Chunk::default() });
        }
        Ok(Chunk { end: Some(End { rows: self.rows }), ..Chunk::default() })
    }
}
