//! The disk format: what a store of today holds, row by row, and that a store made from these rows
//! can be read. `tests/golden/disk-format-1.txt` is never changed; a new format gets a new file.

use super::*;
use crate::storage::{audit, documents, history, idempotency, rows};
use redb::{Key as RedbKey, ReadableTable as _, TableDefinition, Value as RedbValue};

const GOLDEN: &str = include_str!("../../../../tests/golden/disk-format-1.txt");

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn unhex(text: &str) -> Vec<u8> {
    (0..text.len()).step_by(2).map(|i| u8::from_str_radix(&text[i..i + 2], 16).unwrap()).collect()
}

/// Does something with every table, whatever its types.
macro_rules! each_table {
    ($do:ident $(, $argument:expr)*) => {
        $do("meta", meta::META $(, $argument)*);
        $do("log", log::LOG $(, $argument)*);
        $do("origins", origins::ORIGINS $(, $argument)*);
        $do("rows", rows::ROWS $(, $argument)*);
        $do("history", history::HISTORY $(, $argument)*);
        $do("bases", documents::BASES $(, $argument)*);
        $do("changes", documents::CHANGES $(, $argument)*);
        $do("idempotency", idempotency::IDEMPOTENCY $(, $argument)*);
        $do("audit", audit::AUDIT $(, $argument)*);
    };
}

fn dump<K: RedbKey + 'static, V: RedbValue + 'static>(
    name: &str,
    table: TableDefinition<'_, K, V>,
    database: &redb::Database,
    out: &mut Vec<String>,
) {
    let table = database.begin_read().unwrap().open_table(table).unwrap();
    for row in table.iter().unwrap() {
        let (key, value) = row.unwrap();
        let (key, value) = (key.value(), value.value());
        let (key, value) = (K::as_bytes(&key), V::as_bytes(&value));
        out.push(format!("{name} {} {}", hex(key.as_ref()), hex(value.as_ref())));
    }
}

fn fill<K: RedbKey + 'static, V: RedbValue + 'static>(
    name: &str,
    table: TableDefinition<'_, K, V>,
    database: &redb::Database,
) {
    let tx = database.begin_write().unwrap();
    {
        let mut table = tx.open_table(table).unwrap();
        for line in GOLDEN.lines() {
            let parts: Vec<&str> = line.split(' ').collect();
            let [found, key, value] = parts[..] else { panic!("{line}") };
            if found == name {
                let (key, value) = (unhex(key), unhex(value));
                table.insert(K::from_bytes(&key), V::from_bytes(&value)).unwrap();
            }
        }
    }
    tx.commit().unwrap();
}

fn seeded(disk: &MemoryDisk) -> Writer {
    let stream = Entropy::seeded(7).stream("store");
    Writer::open(settings(), Arc::new(disk.clone()), stream).unwrap()
}

fn example(disk: &MemoryDisk) -> Writer {
    let mut writer = seeded(disk);
    let Command::Write(mut write) = put("web/dev", &[("a", "{\"b\":[1,2.50]}"), ("c", "null")])
    else {
        panic!()
    };
    write.message = Some("why".into());
    write.idempotency = Some(crate::config::Idempotency { key: [1; 16], request: [2; 16] });
    writer.commit(Stamp(1_700_000_000_000_000), &[Command::Write(write)]);
    writer.commit(Stamp(1_700_000_000_000_001), &[put("web/dev", &[("a", "2")])]);
    let remove = WriteRequest {
        document: DocumentId::parse("web/dev").unwrap(),
        operations: Vec::new(),
        remove_all: true,
        author: "someone".into(),
        message: None,
        idempotency: None,
        behalf: None,
    };
    writer.checkpoint().unwrap();
    writer.commit(Stamp(1_700_000_000_000_002), &[Command::Write(remove)]);
    writer
}

#[test]
fn the_disk_format_does_not_change() {
    let disk = MemoryDisk::new();
    let writer = example(&disk);
    let mut lines = Vec::new();
    let database = writer.database.get().unwrap();
    each_table!(dump, &database, &mut lines);
    let found = lines.join("\n") + "\n";
    assert!(found == GOLDEN, "the store holds now:\n{found}");
}

#[test]
fn a_store_of_format_1_can_be_read() {
    let disk = MemoryDisk::new();
    let (database, _) = Database::open(Arc::new(disk.clone())).unwrap();
    let open = database.get().unwrap();
    each_table!(fill, &open);
    drop((open, database));
    let expected = example(&MemoryDisk::new());
    let writer = seeded(&disk);
    assert_eq!(view(&writer), view(&expected));
    assert_eq!(writer.state.vector, expected.state.vector);
    let (id, key) = (DocumentId::parse("web/dev").unwrap(), Key::new("a").unwrap());
    let history =
        |writer: &Writer| writer.history().read(&id, &key, None, 10, usize::MAX).unwrap().entries;
    assert_eq!(history(&writer), history(&expected));
    assert_eq!(history(&writer).len(), 3);
}
