//! The disk format: what a store of today holds, row by row, and that stores made from the rows of
//! any format can be read. `tests/golden/disk-format-1.txt` to `-4.txt` are never changed; a new
//! format gets a new file. Those of 1 were written by a program that knew no epochs, those of 2 by one
//! that put what rows show into histories, too; those of 4 have a fold.

use super::*;
use crate::storage::{audit, documents, epochs, history, idempotency, rows};
use redb::{Key as RedbKey, ReadableTable as _, TableDefinition, Value as RedbValue};

const FORMAT_1: &str = include_str!("../../../../tests/golden/disk-format-1.txt");
const FORMAT_2: &str = include_str!("../../../../tests/golden/disk-format-2.txt");
const FORMAT_3: &str = include_str!("../../../../tests/golden/disk-format-3.txt");
const FORMAT_4: &str = include_str!("../../../../tests/golden/disk-format-4.txt");

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
        $do("history_tombstones", crate::storage::tombstones::TOMBSTONES $(, $argument)*);
        $do("bases", documents::BASES $(, $argument)*);
        $do("changes", documents::CHANGES $(, $argument)*);
        $do("idempotency", idempotency::IDEMPOTENCY $(, $argument)*);
        $do("audit", audit::AUDIT $(, $argument)*);
        $do("epochs", epochs::EPOCHS $(, $argument)*);
        $do("epoch_bases", epochs::EPOCH_BASES $(, $argument)*);
        $do("folds", crate::storage::folds::FOLDS $(, $argument)*);
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
    golden: &str,
) {
    let tx = database.begin_write().unwrap();
    {
        let mut table = tx.open_table(table).unwrap();
        for line in golden.lines() {
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

/// The same, and then a roll that comes late to one change, and one more change.
fn rolled_example(disk: &MemoryDisk) -> Writer {
    let mut writer = example(disk);
    let id = DocumentId::parse("web/dev").unwrap();
    let after = Stamp(1_700_000_000_000_003);
    writer.commit(after, &[put("web/dev", &[("b", "1")])]);
    let floor = writer.state.vector.told();
    writer.commit(after, &[put("web/dev", &[("a", "3"), ("b", "2"), ("d", "4")])]);
    let plan = writer.epochs().plan_roll(&id, &floor, after).unwrap();
    assert_eq!((plan.changes, plan.late), (5, 1));
    let roll =
        Roll { epoch: plan.epoch, floor, base: plan.base, removals_before: Stamp(0), fold: None };
    let mismatched = Command::Roll { document: id.clone(), roll: roll.clone() };
    let refused = writer.commit(after, &[mismatched]).outcomes.remove(0);
    assert!(matches!(refused, Outcome::Rolled(Err(RollError::Mismatch { epoch: 1 }))));
    let roll = Roll { removals_before: after, ..roll };
    let rolled = writer.commit(after, &[Command::Roll { document: id, roll }]);
    assert!(matches!(rolled.outcomes[0], Outcome::Rolled(Ok(_))), "{rolled:?}");
    writer.commit(after, &[put("web/dev", &[("d", "5")])]);
    writer.checkpoint().unwrap();
    writer.commit(after, &[put("web/dev", &[("e", "6")])]);
    writer
}

/// The same, a change of a store that is gone, a roll that folds its origin, and one more change.
fn folded_example(disk: &MemoryDisk) -> Writer {
    let stream = Entropy::seeded(8).stream("store");
    let mut gone = Writer::open(settings(), Arc::new(MemoryDisk::new()), stream).unwrap();
    let after = Stamp(1_700_000_000_000_004);
    gone.commit(after, &[put("web/dev", &[("f", "7")])]);
    let mut writer = rolled_example(disk);
    super::whole::hear(&gone, &mut writer);
    let (id, floor) = (DocumentId::parse("web/dev").unwrap(), writer.state.vector.told());
    let plan = writer.epochs().plan_roll(&id, &floor, after).unwrap();
    let last = Dot { origin: gone.origin(), n: 1 };
    let rows = writer.epochs().fold_rows(&[last]).unwrap();
    let fold = Some(crate::model::vector::Fold::new(1, rows).unwrap());
    let roll = Roll { epoch: 2, floor, base: plan.base, removals_before: after, fold };
    let rolled = writer.commit(after, &[Command::Roll { document: id, roll }]);
    assert!(matches!(rolled.outcomes[0], Outcome::Rolled(Ok(_))), "{rolled:?}");
    assert!(!writer.state.vector.names(last.origin) && writer.state.vector.includes(last));
    writer.commit(after, &[put("web/dev", &[("g", "8")])]);
    writer
}

fn filled(golden: &str) -> Writer {
    let disk = MemoryDisk::new();
    let (database, _) = Database::open(Arc::new(disk.clone())).unwrap();
    let open = database.get().unwrap();
    each_table!(fill, &open, golden);
    drop((open, database));
    seeded(&disk)
}

#[test]
fn the_disk_format_does_not_change() {
    let disks = [MemoryDisk::new(), MemoryDisk::new()];
    let stores = [(rolled_example(&disks[0]), FORMAT_3), (folded_example(&disks[1]), FORMAT_4)];
    for (writer, golden) in stores {
        let mut lines = Vec::new();
        let database = writer.database.get().unwrap();
        each_table!(dump, &database, &mut lines);
        let found = lines.join("\n") + "\n";
        assert!(found == golden, "the store holds now:\n{found}");
    }
}

#[test]
fn a_store_of_any_format_can_be_read() {
    for (golden, expected, writes) in [
        (FORMAT_1, example(&MemoryDisk::new()), 3),
        (FORMAT_2, rolled_example(&MemoryDisk::new()), 4),
        (FORMAT_3, rolled_example(&MemoryDisk::new()), 4),
        (FORMAT_4, folded_example(&MemoryDisk::new()), 4),
    ] {
        let writer = filled(golden);
        assert_eq!(view(&writer), view(&expected));
        assert_eq!(writer.state.vector, expected.state.vector);
        let (id, key) = (DocumentId::parse("web/dev").unwrap(), Key::new("a").unwrap());
        let of = |writer: &Writer| {
            let view = writer.state.documents[&id].clone();
            (view.changes, view.rolled.clone())
        };
        assert_eq!(of(&writer), of(&expected));
        let history = |writer: &Writer| {
            writer.history().read(&id, &key, None, 10, usize::MAX).unwrap().entries
        };
        assert_eq!(history(&writer), history(&expected));
        assert_eq!(history(&writer).len(), writes);
    }
}

/// The rows of one table.
fn rows_of(writer: &Writer, table: &str) -> Vec<String> {
    let mut lines = Vec::new();
    let database = writer.database.get().unwrap();
    each_table!(dump, &database, &mut lines);
    lines.retain(|line| line.split(' ').next() == Some(table));
    lines
}

#[test]
fn a_store_of_any_format_comes_to_the_histories_of_the_latest() {
    for golden in [FORMAT_1, FORMAT_2, FORMAT_3] {
        let mut writer = filled(golden);
        writer.checkpoint().unwrap();
        let policies = crate::config::Policies::default();
        writer.prune(Stamp(0), &policies).unwrap();
        writer.checkpoint().unwrap();
        let mut expected = match golden == FORMAT_1 {
            true => example(&MemoryDisk::new()),
            false => rolled_example(&MemoryDisk::new()),
        };
        expected.checkpoint().unwrap();
        assert_eq!(rows_of(&writer, "history"), rows_of(&expected, "history"));
        assert_eq!(rows_of(&writer, "rows"), rows_of(&expected, "rows"));
        let format = |writer: &Writer| {
            let tx = writer.database.get().unwrap().begin_read().unwrap();
            let histories = meta::KEY_HISTORIES.get(&tx).unwrap();
            (meta::KEY_FORMAT.get(&tx).unwrap(), histories)
        };
        assert_eq!(format(&writer), (Some(meta::FORMAT_WITHOUT_FOLDS), Some(true)));
        assert_eq!(format(&expected), format(&writer));
    }
}

#[test]
fn a_store_of_format_1_is_rolled_where_changes_come_late() {
    let mut writer = filled(FORMAT_1);
    let id = DocumentId::parse("web/dev").unwrap();
    let shown = view(&writer);
    // All but the last change, of those that do not say what they replace.
    let last = writer.state.vector.iter().next().unwrap();
    let floor: Told = [Dot { n: last.n - 1, ..last }].into_iter().collect();
    let plan = writer.epochs().plan_roll(&id, &floor, Stamp(0)).unwrap();
    assert_eq!((plan.changes, plan.late), (3, 1));
    let roll = Roll { epoch: 1, floor, base: plan.base, removals_before: Stamp(0), fold: None };
    let rolled = writer.commit(Stamp(1), &[Command::Roll { document: id.clone(), roll }]);
    assert!(matches!(rolled.outcomes[0], Outcome::Rolled(Ok(_))), "{rolled:?}");
    let document = writer.document(&id).unwrap();
    let siblings: Vec<usize> =
        ["a", "c"].map(|it| document.siblings(&Key::new(it).unwrap()).len()).into();
    assert_eq!((view(&writer), siblings), (shown, vec![1, 1]));
}
