//! Backups: both of a node's stores in one file, taken while it runs or while it does not, checked
//! by anybody, and made into a node's directory again. What is sealed stays sealed, and no key is
//! ever in one. It knows no network, and never writes over a store.

pub(crate) mod dump;
pub(crate) mod file;
pub(crate) mod format;
pub(crate) mod restore;

pub(crate) use dump::Dump;
pub use format::{KeyGeneration, Manifest, TableInfo};

use crate::storage::copy::RawTable;

/// What a backup calls `config.redb`.
const CONFIG: &str = "config";
/// What a backup calls `quorum.redb`.
const QUORUM: &str = "quorum";

/// The tables of a store, by what a backup calls it.
fn tables_of(store: &str) -> &'static [&'static dyn RawTable] {
    match store {
        CONFIG => &crate::storage::copy::TABLES,
        QUORUM => &crate::quorum::store::copy::TABLES,
        _ => &[],
    }
}
