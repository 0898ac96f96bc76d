//! What a history that has holes still says: which numbers named more than what is left of them.

use super::pruning::{S, pass, policies};
use super::whole::hear;
use super::*;
use crate::storage::tombstones::TOMBSTONES;
use redb::ReadableTableMetadata as _;

const DOCUMENT: &str = "web/dev";

/// A store in which keys have version 1 twice, one of them old and one young, and more behind; and the
/// origins of the two.
fn shared(disk: &MemoryDisk, keys: u64) -> (Writer, Origin, Origin) {
    let (mut writer, mut other) = (open(disk), open(&MemoryDisk::new()));
    for i in 0..keys {
        let key = format!("k{i:04}");
        for n in 0..4 {
            writer.commit(Stamp(n), &[put(DOCUMENT, &[(&key, "1")])]);
        }
        other.commit(Stamp(100 * S), &[put(DOCUMENT, &[(&key, "2")])]);
    }
    let origins = (writer.origin(), other.origin());
    hear(&other, &mut writer);
    // Settles the conflict: no row shows any of the two.
    for i in 0..keys {
        let key = format!("k{i:04}");
        writer.commit(Stamp(101 * S), &[put(DOCUMENT, &[(&key, "3")])]);
    }
    writer.checkpoint().unwrap();
    (writer, origins.0, origins.1)
}

fn thinned(writer: &Writer, key: &str) -> Vec<u64> {
    let (id, key) = (DocumentId::parse(DOCUMENT).unwrap(), Key::new(key).unwrap());
    let page = writer.history().read(&id, &key, None, 100, usize::MAX).unwrap();
    page.thinned.into_iter().collect()
}

fn let_go(writer: &Writer, key: &str, version: u64, origin: Origin) -> bool {
    let (id, key) = (DocumentId::parse(DOCUMENT).unwrap(), Key::new(key).unwrap());
    writer.history().let_go(&id, &key, version, origin).unwrap()
}

fn tombstones(writer: &Writer) -> u64 {
    let tx = writer.database.get().unwrap().begin_read().unwrap();
    tx.open_table(TOMBSTONES).unwrap().len().unwrap()
}

#[test]
fn a_number_of_which_one_went_is_known_as_such_until_the_others_went_too() {
    let disk = MemoryDisk::new();
    let (mut writer, old, young) = shared(&disk, 1);
    assert_eq!((thinned(&writer, "k0000"), tombstones(&writer)), (vec![], 0));
    pass(&mut writer, 105 * S, &policies(1, 10));
    assert_eq!(thinned(&writer, "k0000"), [1]);
    assert!(let_go(&writer, "k0000", 1, old) && !let_go(&writer, "k0000", 1, young));
    assert!(!let_go(&writer, "k0000", 2, old), "of which nothing is left");
    let mut writer = open(&disk.crash(CrashMode::LoseUnsynced));
    assert_eq!(thinned(&writer, "k0000"), [1]);
    pass(&mut writer, 1_000 * S, &policies(1, 10));
    assert_eq!((thinned(&writer, "k0000"), tombstones(&writer)), (vec![], 0));
}

#[test]
fn what_a_row_still_shows_counts_as_left() {
    let (mut writer, mut other) = (open(&MemoryDisk::new()), open(&MemoryDisk::new()));
    let removed = WriteRequest {
        operations: Vec::new(),
        remove_all: true,
        ..match put(DOCUMENT, &[]) {
            Command::Write(request) => request,
            _ => panic!("no write"),
        }
    };
    for n in 0..4 {
        writer.commit(Stamp(n), &[put(DOCUMENT, &[("k", "1")])]);
    }
    other.commit(Stamp(0), &[put(DOCUMENT, &[("k", "2")])]);
    let old = writer.origin();
    hear(&other, &mut writer);
    writer.checkpoint().unwrap();
    pass(&mut writer, 105 * S, &policies(1, 10));
    assert_eq!(thinned(&writer, "k"), [1], "a conflict that nobody settled");
    assert!(let_go(&writer, "k", 1, old) && !let_go(&writer, "k", 1, other.origin()));
    writer.commit(Stamp(106 * S), &[Command::Write(removed)]);
    writer.checkpoint().unwrap();
    pass(&mut writer, 1_000 * S, &policies(1, 10));
    assert_eq!((thinned(&writer, "k"), tombstones(&writer)), (vec![], 0));
}

#[test]
fn a_file_that_is_rebuilt_meanwhile_knows_as_much() {
    let disk = MemoryDisk::new();
    let (mut writer, old, _) = shared(&disk, 2_000);
    writer.begin_rebuild(1);
    let mut steps = 0;
    while writer.is_rebuilding() {
        // Before, while and after its tables are copied.
        writer.prune(Stamp(105 * S), &policies(1, 10)).unwrap();
        writer.checkpoint().unwrap();
        writer.step_rebuild();
        steps += 1;
    }
    assert!(steps > 3, "{steps} steps are no test");
    pass(&mut writer, 105 * S, &policies(1, 10));
    assert_eq!((writer.counts().rebuilt, tombstones(&writer)), (1, 2_000));
    for key in ["k0000", "k1000", "k1999"] {
        assert!(thinned(&writer, key) == [1] && let_go(&writer, key, 1, old), "{key}");
    }
    pass(&mut writer, 1_000 * S, &policies(1, 10));
    assert_eq!(tombstones(&writer), 0);
}
