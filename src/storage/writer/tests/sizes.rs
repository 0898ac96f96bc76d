//! What a key takes on disk, table by table: that nothing is kept twice, and that pages are full.

use super::*;
use crate::storage::{documents, history, rows};
use redb::{Key as RedbKey, ReadableTableMetadata as _, TableDefinition, Value as RedbValue};

const DOCUMENTS: u64 = 20;
const KEYS: u64 = 1_000;
/// As many keys as one request sets.
const BATCH: u64 = 500;

/// What a table takes for each key: what is stored, what redb adds, and what is wasted.
fn a_key<K: RedbKey + 'static, V: RedbValue + 'static>(
    name: &str,
    writer: &Writer,
    table: TableDefinition<'_, K, V>,
) -> [u64; 3] {
    let database = writer.database.get().unwrap();
    let tx = database.begin_read().unwrap();
    let stats = tx.open_table(table).unwrap().stats().unwrap();
    let all = [stats.stored_bytes(), stats.metadata_bytes(), stats.fragmented_bytes()];
    let [stored, added, wasted] = all.map(|bytes| bytes / (DOCUMENTS * KEYS));
    println!("{name}: {stored} bytes a key, {added} of redb's, {wasted} wasted");
    [stored, added, wasted]
}

/// A store with keys of 256 bytes, written as whoever imports them does.
fn filled(disk: &MemoryDisk) -> Writer {
    let mut writer = open(disk);
    let value = format!("\"{}\"", "x".repeat(256));
    for from in (0..KEYS).step_by(BATCH as usize) {
        for document in 0..DOCUMENTS {
            let keys: Vec<String> = (from..from + BATCH).map(|i| format!("k{i:04}")).collect();
            let pairs: Vec<(&str, &str)> = keys.iter().map(|key| (&**key, &*value)).collect();
            writer.commit(Stamp(from), &[put(&format!("service/e{document:03}"), &pairs)]);
            if document % 5 == 4 {
                writer.checkpoint().unwrap();
            }
        }
    }
    writer
}

#[test]
fn a_key_is_in_the_log_and_in_its_row_and_nowhere_else() {
    let disk = MemoryDisk::new();
    let writer = filled(&disk);
    let [stored, _, wasted] = a_key("rows", &writer, rows::ROWS);
    assert!(stored < 258 + 80, "{stored}");
    assert!(wasted < stored / 3, "pages are full: {wasted}");
    let [stored, ..] = a_key("log", &writer, log::LOG);
    assert!(stored < 258 + 80, "{stored}");
    assert_eq!(a_key("history", &writer, history::HISTORY), [0; 3]);
    a_key("bases", &writer, documents::BASES);
    a_key("changes", &writer, documents::CHANGES);
    let file = disk.len(crate::storage::database::FILE).unwrap().unwrap();
    println!("file: {} bytes a key", file / (DOCUMENTS * KEYS));
}

#[test]
fn rows_that_are_short_and_long_come_to_the_table_as_they_are() {
    let disk = MemoryDisk::new();
    let mut writer = open(&disk);
    for round in 0..3_u64 {
        let keys: Vec<String> = (0..200).map(|i| format!("k{:03}", i * 7 % 200)).collect();
        let value = |i: u64| format!("\"{round} {}\"", "x".repeat((i * 37 % 900) as usize));
        for (i, key) in (0..).zip(&keys) {
            writer.commit(Stamp(round), &[put("web/dev", &[(key, &value(i))])]);
        }
        writer.checkpoint().unwrap();
        let shown = view(&writer);
        assert_eq!(view(&open(&disk.snapshot())), shown);
    }
}
