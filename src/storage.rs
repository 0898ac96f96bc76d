//! The node's own store, `config.redb`: the log of changes and the vector are the truth, committed
//! in groups before anything is acknowledged or sent; rows, histories and documents are derived
//! from it, written behind by checkpoints, and brought up to date from the log at opening.
//!
//! One file a table: key layout, value layout and lifetime stand in its doc. Only the [`Writer`]
//! writes.

pub(crate) mod archived;
pub mod audit;
pub(crate) mod copies;
pub(crate) mod copy;
pub mod database;
pub mod documents;
pub mod epochs;
pub mod error;
mod folds;
pub(crate) mod frame;
pub mod history;
pub mod idempotency;
pub(crate) mod journal;
pub mod log;
pub mod mark;
pub mod meta;
pub mod origins;
mod past;
pub mod prune;
pub(crate) mod rebuild;
pub mod rows;
pub(crate) mod tally;
mod tombstones;
pub mod trim;
pub mod whole;
pub mod writer;

pub use audit::ConfigChain;
pub use database::Database;
pub use epochs::{EpochReader, Plan, RollError};
pub use error::StoreError;
pub use history::{HistoryPage, HistoryReader};
pub use log::{LogReader, Missing};
pub use writer::{Applied, Command, Committed, Outcome, Writer, WriterSettings};
