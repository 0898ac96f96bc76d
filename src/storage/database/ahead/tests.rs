//! What is ahead of the tables is seen by whoever reads them, and gone from the journal only once it is in
//! them on disk, whoever fails or waits meanwhile.

use std::sync::Arc;
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::time::Duration;

use super::*;
use crate::config::record::{NO_RECORD, Record};
use crate::env::{CrashMode, Disk as _, MemoryDisk};
use crate::model::{DocumentId, Dot, Origin};
use crate::storage::{journal, log};

const ID: JournalId = [7; 16];

/// Groups of one change each, each following from the one before.
fn groups(count: u64) -> Vec<Group> {
    let mut previous = NO_RECORD;
    let one = |n| {
        let id = DocumentId::parse("web/dev").unwrap();
        let dot = Dot { origin: Origin([1; 8]), n };
        let record = Record::with(dot, previous, id, 0, Vec::new(), b"change", None);
        previous = record.hash;
        let mut group = Group::default();
        group.push(&record, None);
        group
    };
    (1..=count).map(one).collect()
}

/// A store with a journal and nothing else.
fn begun(disk: &MemoryDisk) -> Database {
    let (database, _) = Database::open(Arc::new(disk.clone())).unwrap();
    let tx = database.get().unwrap().begin_write().unwrap();
    meta::KEY_JOURNAL.put(&tx, &Reached { id: ID, seq: 0 }).unwrap();
    tx.commit().unwrap();
    database.begin_journal(ID).unwrap();
    database
}

fn opened(disk: &MemoryDisk) -> Database {
    Database::open(Arc::new(disk.clone())).unwrap().0
}

/// How many changes whoever reads the tables finds.
fn logged(database: &Database) -> u64 {
    log::count(&database.get().unwrap().begin_read().unwrap()).unwrap()
}

fn put(database: &Database, groups: &[Group]) {
    for group in groups {
        assert!(database.journal(group, true).unwrap());
    }
}

#[test]
fn what_came_behind_a_synced_transaction_stays_in_the_journal() {
    let disk = MemoryDisk::new();
    let database = begun(&disk);
    let all = groups(3);
    put(&database, &all[..2]);
    assert_eq!(logged(&database), 2);
    let tx = database.get().unwrap().begin_write().unwrap();
    put(&database, &all[2..]);
    tx.commit().unwrap();
    database.synced();
    assert!(database.ahead_bytes() > 0, "the third is in the journal alone");
    assert_eq!(logged(&opened(&disk.crash(CrashMode::LoseUnsynced))), 3);
    assert_eq!(logged(&database), 3);
    database.sync(false).unwrap();
    assert_eq!(database.ahead_bytes(), 0);
    assert_eq!(logged(&opened(&disk.crash(CrashMode::LoseUnsynced))), 3);
}

#[test]
fn who_reads_waits_for_who_is_putting_and_is_refused_where_that_one_is_gone() {
    let database = begun(&MemoryDisk::new());
    database.ahead().as_mut().unwrap().putting = vec![Arc::default()];
    let turn = database.turn.lock().unwrap();
    let (done, is_done) = channel();
    let reader = &database;
    std::thread::scope(|scope| {
        scope.spawn(move || done.send(reader.get().is_ok()).unwrap());
        let waited = is_done.recv_timeout(Duration::from_millis(100));
        assert_eq!(waited, Err(RecvTimeoutError::Timeout), "it is not shown half");
        database.ahead().as_mut().unwrap().putting.clear();
        drop(turn);
        assert_eq!(is_done.recv_timeout(Duration::from_secs(20)), Ok(true));
    });
    // Who panicked on the way holds no turn, and what it took is not in the tables.
    database.ahead().as_mut().unwrap().putting = vec![Arc::default()];
    let why = database.get().map(drop).unwrap_err().to_string();
    assert!(why.contains("panicked"), "{why}");
}

#[test]
fn what_could_not_be_put_into_the_tables_is_still_pending_and_comes_there_later() {
    let database = begun(&MemoryDisk::new());
    let all = groups(2);
    put(&database, &all);
    let pending = database.pending_bytes();
    // Tables that take nothing.
    let backend = redb::backends::InMemoryBackend::new();
    let odd = redb::Builder::new().create_with_backend(backend).unwrap();
    let tx = odd.begin_write().unwrap();
    tx.open_table(redb::TableDefinition::<u8, u8>::new("log")).unwrap();
    tx.commit().unwrap();
    assert!(database.catch_up(&odd).is_err());
    assert_eq!(database.pending_bytes(), pending);
    assert_eq!(logged(&database), 2);
    assert_eq!(database.pending_bytes(), 0);
}

#[test]
fn a_store_that_is_opened_again_has_all_on_disk_and_one_that_is_closed_takes_nothing() {
    let disk = MemoryDisk::new();
    let database = begun(&disk);
    let all = groups(2);
    // In the journal alone: an opening puts it into the tables, without a sync at first.
    put(&database, &all[..1]);
    assert!(database.ahead_bytes() > 0);
    database.close();
    assert!(!database.journal(&all[1], true).unwrap());
    assert_eq!((database.ahead_bytes(), database.reached()), (0, None));
    database.reopen().unwrap();
    assert_eq!((database.ahead_bytes(), logged(&database)), (0, 1), "synced by the opening");
    put(&database, &all[1..]);
    assert_eq!(logged(&opened(&disk.crash(CrashMode::LoseUnsynced))), 2);
}

#[test]
fn a_journal_that_is_damaged_or_does_not_fit_is_not_gone_on_with() {
    let all = groups(3);
    for (at, name) in [(100, "config.journal.damaged"), (2 * 4_096 + 100, "config.journal.unfit")] {
        let disk = MemoryDisk::new();
        let database = begun(&disk);
        put(&database, &all[..2]);
        // The second change again: it does not follow.
        put(&database, &all[1..2]);
        drop(database);
        if name.ends_with("damaged") {
            let mut bytes = disk.read(journal::FILE).unwrap().unwrap();
            bytes[at] ^= 1;
            disk.write(journal::FILE, &bytes, true).unwrap();
        }
        let database = opened(&disk);
        assert!(disk.read(name).unwrap().is_some(), "{name}");
        assert_eq!(database.reached(), None, "{name}");
        assert!(!database.journal(&all[2], true).unwrap(), "{name}");
    }
}

#[test]
fn the_journal_of_a_store_that_is_set_aside_goes_with_it() {
    let disk = MemoryDisk::new();
    let database = begun(&disk);
    put(&database, &groups(1));
    database.close();
    drop(database);
    disk.write(super::super::FILE, b"no database", true).unwrap();
    let database = opened(&disk);
    assert_eq!((logged(&database), database.reached()), (0, None));
    assert!(disk.read(journal::FILE).unwrap().is_none(), "it is no other store's");
    assert_eq!(disk.names(journal::FILE).len(), 1, "{:?}", disk.names(journal::FILE));
}
