//! Backups: both of a node's stores in one file, taken while it runs or while it does not, checked
//! by anybody, and made into a node's directory again. What is sealed stays sealed, and no key is
//! ever in one. It knows no network, and never writes over a store.

pub(crate) mod dump;
pub(crate) mod file;
pub(crate) mod format;
pub(crate) mod restore;

pub(crate) use dump::Dump;
pub use format::{KeyGeneration, Manifest, TableInfo};
pub(crate) use restore::is_broken_off;

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

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::sync::Arc;

    use redb::{ReadableDatabase as _, TableHandle as _};

    use super::*;
    use crate::env::MemoryDisk;
    use crate::storage::database::Database;

    #[test]
    fn every_table_of_both_stores_is_in_a_backup() {
        let disk = Arc::new(MemoryDisk::new());
        let (config, _) = Database::open(disk.clone()).unwrap();
        let (quorum, _) = Database::open_as(disk, &crate::quorum::store::copy::LAYOUT).unwrap();
        for (name, store) in [(CONFIG, config), (QUORUM, quorum)] {
            let tx = store.get().unwrap().begin_read().unwrap();
            let tables = tx.list_tables().unwrap();
            let found: BTreeSet<String> = tables.map(|it| it.name().to_owned()).collect();
            let kept: BTreeSet<String> =
                tables_of(name).iter().map(|it| it.name().to_owned()).collect();
            assert_eq!(found, kept, "{name}");
        }
    }
}
