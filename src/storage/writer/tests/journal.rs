//! What the journal before the tables promises: whatever is read finds what is in it alone, and nothing
//! that was acknowledged is lost, wherever it stands when the machine goes down.

use super::*;
use crate::env::Disk;
use crate::storage::journal;

pub(super) const MODES: [CrashMode; 3] =
    [CrashMode::LoseUnsynced, CrashMode::KeepUnsynced, CrashMode::TearUnsynced(7)];

pub(super) fn write(writer: &mut Writer, i: u64) {
    let committed =
        writer.commit(Stamp(i), &[put("web/dev", &[(&format!("k{}", i % 40), &i.to_string())])]);
    written(&committed, 0);
}

/// What the store shows to whoever reads its tables.
pub(super) fn logged(writer: &Writer) -> usize {
    let have = writer.published.load().vector.clone();
    writer.log().missing(Vector::new(), &have, usize::MAX).unwrap().records.len()
}

#[test]
fn a_write_is_on_disk_in_the_journal_alone_and_whoever_reads_the_log_finds_it() {
    let disk = MemoryDisk::new();
    let mut writer = open(&disk);
    write(&mut writer, 1);
    let before = disk.read(database_file()).unwrap();
    write(&mut writer, 2);
    assert!(disk.read(database_file()).unwrap() == before, "the tables' file is as it was");
    assert!(writer.ahead_bytes() > 0 && writer.database.pending_bytes() > 0);
    assert_eq!(logged(&writer), 2);
    assert_eq!(writer.database.pending_bytes(), 0);
    let again = open(&disk.crash(CrashMode::LoseUnsynced));
    assert_eq!((view(&again), logged(&again)), (view(&writer), 2));
    writer.checkpoint().unwrap();
    assert_eq!(writer.ahead_bytes(), 0);
}

#[test]
fn what_is_written_behind_and_not_synced_is_there_again_after_a_crash() {
    for mode in MODES {
        for synced in [false, true] {
            let disk = MemoryDisk::new();
            let mut writer = open(&disk);
            for i in 0..200 {
                write(&mut writer, i);
                if i % 30 == 29 {
                    writer.write_behind().unwrap();
                }
                if synced && i % 70 == 69 {
                    let sync = writer.sync();
                    write(&mut writer, 1_000 + i);
                    let done = sync();
                    assert!(done.is_ok() && writer.ahead_bytes() > 0, "what came meanwhile");
                    writer.synced(done);
                }
            }
            let again = open(&disk.crash(mode));
            assert_eq!(view(&again), view(&writer), "{mode:?}");
            assert_eq!(histories(&again), histories(&writer), "{mode:?}");
            assert_eq!(logged(&again), logged(&writer), "{mode:?}");
        }
    }
}

#[test]
fn a_failure_after_writing_behind_loses_nothing_that_was_written_behind() {
    for fails in ["a group", "a checkpoint", "a sync"] {
        let disk = MemoryDisk::new();
        let mut writer = open(&disk);
        for i in 0..50 {
            write(&mut writer, i);
        }
        writer.write_behind().unwrap();
        write(&mut writer, 50);
        let (shown, history) = (view(&writer), histories(&writer));
        disk.fail(true);
        match fails {
            "a group" => drop(writer.commit(Stamp(60), &[put("web/dev", &[("x", "1")])])),
            "a checkpoint" => drop(writer.checkpoint().unwrap_err()),
            _ => {
                let done = writer.sync()();
                assert!(done.is_err());
                writer.synced(done);
            }
        }
        disk.fail(false);
        writer.resting = None;
        writer.ensure_open().unwrap();
        assert_eq!((&view(&writer), &histories(&writer)), (&shown, &history), "{fails}");
        write(&mut writer, 70);
        writer.checkpoint().unwrap();
        let shown = view(&writer);
        drop(writer);
        let again = open(&disk.crash(CrashMode::LoseUnsynced));
        assert_eq!(view(&again), shown, "{fails}");
    }
}

#[test]
fn without_room_for_a_journal_the_tables_take_each_group_at_once() {
    let disk = MemoryDisk::new();
    disk.fill(30 << 20);
    let mut writer = open(&disk);
    for i in 0..20 {
        write(&mut writer, i);
        assert_eq!(writer.ahead_bytes(), 0);
    }
    assert!(disk.read(journal::FILE).unwrap().is_none());
    disk.free();
    write(&mut writer, 20);
    assert!(writer.ahead_bytes() > 0);
    // A group that is larger than what is left of it goes past it, and it begins anew.
    let big = format!("\"{}\"", "x".repeat(900));
    let keys: Vec<String> = (0..9_000).map(|i| format!("big{i}")).collect();
    let commands: Vec<Command> = keys.iter().map(|key| put("web/big", &[(key, &big)])).collect();
    let committed = writer.commit(Stamp(100), &commands);
    written(&committed, 8_999);
    assert_eq!(writer.ahead_bytes(), 0);
    write(&mut writer, 101);
    let again = open(&disk.crash(CrashMode::LoseUnsynced));
    assert_eq!(view(&again), view(&writer));
}

#[test]
fn a_store_of_before_begins_a_journal_with_its_first_write() {
    let disk = MemoryDisk::new();
    let mut writer = open(&disk);
    write(&mut writer, 1);
    writer.close().unwrap();
    drop(writer);
    // As a program that knows none leaves it.
    let (database, _) = Database::open(Arc::new(disk.clone())).unwrap();
    let tx = database.get().unwrap().begin_write().unwrap();
    meta::KEY_JOURNAL.remove(&tx).unwrap();
    tx.commit().unwrap();
    drop(database);
    let mut writer = open(&disk);
    for i in 2..5 {
        write(&mut writer, i);
    }
    assert!(writer.ahead_bytes() > 0);
    assert_eq!(view(&open(&disk.crash(CrashMode::LoseUnsynced))), view(&writer));
}

#[test]
fn a_retry_is_recognised_where_the_first_write_is_in_the_journal_alone() {
    let mut writer = open(&MemoryDisk::new());
    write(&mut writer, 1);
    let with_key = |value: &str| {
        let Command::Write(mut request) = put("web/dev", &[("a", value)]) else { panic!() };
        request.idempotency = Some(crate::config::Idempotency { key: [1; 16], request: [2; 16] });
        Command::Write(request)
    };
    let first = writer.commit(Stamp(2), &[with_key("1")]);
    assert!(writer.database.pending_bytes() > 0);
    let again = writer.commit(Stamp(3), &[with_key("1")]);
    assert!(written(&again, 0).replayed);
    assert_eq!(written(&again, 0).dot, written(&first, 0).dot);
}

#[test]
fn a_node_alone_does_not_start_without_what_its_journal_had_and_one_with_peers_says_so() {
    let disk = MemoryDisk::new();
    let mut writer = open(&disk);
    for i in 0..4 {
        write(&mut writer, i);
    }
    let (origin, damaged) = (writer.origin(), disk.snapshot());
    let mut bytes = damaged.read(journal::FILE).unwrap().unwrap();
    bytes[4_096 + 100] ^= 1;
    damaged.write(journal::FILE, &bytes, false).unwrap();
    let with = |peers| {
        let disk = Arc::new(damaged.snapshot());
        Writer::open(
            WriterSettings { peers, ..settings() },
            disk,
            Entropy::system().stream("store"),
        )
    };
    let why = with(0).map(|writer| writer.origin()).unwrap_err().to_string();
    assert!(why.contains("config.journal: group 2 is not whole"), "{why}");
    let mut writer = with(2).unwrap();
    assert_ne!(writer.origin(), origin, "no number names two changes");
    assert_eq!(value(&writer, "web/dev", "k1").unwrap(), "1");
    assert_eq!(value(&writer, "web/dev", "k2"), None);
    write(&mut writer, 9);
    write(&mut writer, 10);
    assert!(writer.ahead_bytes() > 0, "it goes on with a new one");
}

#[test]
fn a_store_whose_journal_is_ahead_is_not_read_without_it() {
    let dir = tempfile::tempdir().unwrap();
    let open = || {
        let disk = crate::env::FileDisk::open(dir.path()).unwrap();
        Writer::open(settings(), Arc::new(disk), Entropy::system().stream("store")).unwrap()
    };
    let mut writer = open();
    write(&mut writer, 0);
    writer.close().unwrap();
    drop(writer);
    let path = |name: &str| dir.path().join(name);
    let tables = std::fs::read(path(database_file())).unwrap();
    let mut writer = open();
    write(&mut writer, 1);
    let journal = std::fs::read(path(journal::FILE)).unwrap();
    writer.close().unwrap();
    let shown = view(&writer);
    drop(writer);
    assert!(ConfigChain::open(dir.path()).is_ok(), "the tables have it");
    // As if nothing of the second life had come to the tables' file.
    std::fs::write(path(database_file()), tables).unwrap();
    std::fs::write(path(journal::FILE), journal).unwrap();
    let why = ConfigChain::open(dir.path()).map(drop).unwrap_err().to_string();
    assert!(why.contains("config.journal has changes that are not in it"), "{why}");
    assert_eq!(view(&open()), shown);
}

#[test]
fn a_store_that_failed_with_something_unsynced_is_read_anew_before_it_is_used() {
    let mut writer = open(&MemoryDisk::new());
    let failure = StoreError::Failed("of a test".into());
    for unsynced in [false, true] {
        write(&mut writer, 1);
        writer.checkpoint().unwrap();
        if unsynced {
            write(&mut writer, 2);
            writer.write_behind().unwrap();
        }
        let (state, shown) = (writer.state.clone(), view(&writer));
        writer.settle(&state, &failure);
        assert_eq!(writer.is_open(), !unsynced);
        writer.resting = None;
        assert_eq!(writer.ensure_open(), Ok(unsynced));
        assert_eq!(view(&writer), shown);
    }
}
