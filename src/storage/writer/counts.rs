//! How a store stands, in numbers. They are counted where things happen.

use std::collections::BTreeSet;

use super::Writer;
use crate::storage::prune::Pruned;

/// How the store stands, for metrics and `GET /cluster`.
#[derive(Clone, Copy, Debug, Default)]
pub struct Counts {
    /// Keys that have a row, removed ones among them.
    pub rows: usize,
    /// Rows that show conflicts.
    pub conflicts: usize,
    /// Records that wait for others.
    pub waiting: usize,
    /// Records refused since the start.
    pub quarantined: u64,
    /// Records refused since the start because their origin has two changes under one number.
    pub forks: u64,
    /// Whether the store is closed after a failure.
    pub is_closed: bool,
    /// The database file's size, in bytes, as of the last checkpoint.
    pub database_bytes: u64,
    /// How often a document was needed, and how often it had to be loaded.
    pub documents_needed: u64,
    /// See [`Counts::documents_needed`].
    pub documents_loaded: u64,
    /// Records in the log, as of the last checkpoint.
    pub log_records: u64,
    /// Records that were trimmed from it since the start.
    pub log_trimmed: u64,
    /// How many documents went from memory since the start, to make room for others.
    pub documents_evicted: u64,
    /// What the documents in memory come to, in bytes.
    pub documents_bytes: usize,
    /// How many rolls since the start were not taken, because what is here does not come to the
    /// base that was agreed.
    pub epoch_mismatches: u64,
    /// Documents that wait for such a roll, and with it all that its origin wrote after it: they
    /// have to be fetched whole.
    pub documents_mismatched: usize,
    /// What passes over the histories have come to.
    pub pruned: Pruned,
    /// How often the file was rebuilt since the store was opened.
    pub rebuilt: u64,
}

impl Writer {
    /// How the store stands.
    pub fn counts(&self) -> Counts {
        Counts {
            rows: self.state.rows,
            conflicts: self.state.conflicts,
            waiting: self.waiting.len(),
            quarantined: self.quarantined,
            forks: self.forks,
            is_closed: !self.database.is_open(),
            database_bytes: self.database_bytes,
            documents_needed: self.documents_needed,
            documents_loaded: self.documents_loaded,
            log_records: self.log_records,
            log_trimmed: self.log_trimmed,
            documents_evicted: self.documents.evicted(),
            documents_bytes: self.documents.bytes(),
            epoch_mismatches: self.epoch_mismatches,
            documents_mismatched: self.mismatched.values().collect::<BTreeSet<_>>().len(),
            pruned: self.pruned(),
            rebuilt: self.rebuilt,
        }
    }
}
