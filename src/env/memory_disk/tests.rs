use super::*;

fn written() -> MemoryDisk {
    let disk = MemoryDisk::new();
    let file = disk.database("db").unwrap();
    file.set_len(4096).unwrap();
    file.write(0, &[1; 2048]).unwrap();
    file.sync_data().unwrap();
    file.write(0, &[2; 2048]).unwrap();
    disk.write("kept", b"kept", true).unwrap();
    disk.write("lost", b"lost", false).unwrap();
    disk
}

fn first(disk: &MemoryDisk) -> Vec<u8> {
    disk.read("db").unwrap().unwrap()[..2048].to_vec()
}

#[test]
fn a_crash_leaves_what_was_synced_and_what_its_mode_says_of_the_rest() {
    let disk = written();
    let lost = disk.crash(CrashMode::LoseUnsynced);
    assert_eq!(first(&lost), [1; 2048]);
    assert_eq!(lost.read("kept").unwrap().unwrap(), b"kept");
    assert_eq!(lost.read("lost").unwrap(), None);
    let kept = disk.crash(CrashMode::KeepUnsynced);
    assert_eq!(first(&kept), [2; 2048]);
    assert_eq!(kept.read("lost").unwrap().unwrap(), b"lost");
    let torn: Vec<Vec<u8>> =
        (0..8).map(|s| first(&disk.crash(CrashMode::TearUnsynced(s)))).collect();
    assert!(torn.iter().any(|bytes| bytes.contains(&1) && bytes.contains(&2)));
    for sector in torn.iter().flat_map(|bytes| bytes.chunks(SECTOR_LEN)) {
        assert!(sector == [1; SECTOR_LEN] || sector == [2; SECTOR_LEN]);
    }
    assert_eq!(first(&disk.crash(CrashMode::TearUnsynced(3))), torn[3]);
}

#[test]
fn copies_share_nothing_and_say_how_alike_they_are() {
    let disk = written();
    let old = disk.snapshot();
    disk.write("kept", b"newer", true).unwrap();
    assert_eq!(old.read("kept").unwrap().unwrap(), b"kept");
    assert_eq!(old.identity("db").unwrap(), disk.identity("db").unwrap());
    assert_eq!(old.machine_boot(), disk.machine_boot());
    assert_ne!(old.copied().identity("db").unwrap(), disk.identity("db").unwrap());
    assert_ne!(disk.snapshot().rebooted().machine_boot(), disk.machine_boot());
    assert_ne!(disk.crash(CrashMode::LoseUnsynced).machine_boot(), disk.machine_boot());
}

#[test]
fn a_full_disk_refuses_writes_until_there_is_room() {
    let disk = written();
    disk.fill(10);
    disk.write("small", b"12345678", false).unwrap();
    let full = disk.write("small", b"12345678", true).unwrap_err();
    assert_eq!(full.kind(), io::ErrorKind::StorageFull);
    disk.free();
    disk.write("small", b"12345678", true).unwrap();
}

#[test]
fn what_is_only_longer_takes_no_room_and_what_is_written_does_once() {
    let disk = MemoryDisk::new();
    let file = disk.database("db").unwrap();
    let full = |result: io::Result<()>| result.unwrap_err().kind() == io::ErrorKind::StorageFull;
    disk.fill(100);
    file.set_len(1_000).unwrap();
    file.write(500, &[1; 60]).unwrap();
    file.write(500, &[2; 60]).unwrap();
    file.write(550, &[3; 20]).unwrap();
    // 30 are left, and 70 of these are there.
    assert!(full(file.write(490, &[4; 120])));
    let mut read = [9; 130];
    file.read(490, &mut read).unwrap();
    assert_eq!(read[..100], [4; 100], "what there is room for is written");
    assert_eq!(read[100..], [0; 30]);
    file.write(495, &[5; 90]).unwrap();
    assert!(full(file.write(0, &[6])));
    file.set_len(580).unwrap();
    assert!(full(file.write(0, &[6; 11])), "so many were given back");
    file.write(10, &[6; 0]).unwrap();
    file.set_len(0).unwrap();
    file.write(300, &[7; 100]).unwrap();
    assert!(full(file.write(400, &[7])));
}

#[test]
fn redb_runs_on_it_and_keeps_what_it_committed_through_a_crash() {
    const TABLE: redb::TableDefinition<'_, u64, u64> = redb::TableDefinition::new("t");
    let open = |disk: &MemoryDisk| {
        let backend = crate::env::Backend(disk.database("db").unwrap());
        redb::Builder::new().create_with_backend(backend).unwrap()
    };
    let disk = MemoryDisk::new();
    let database = open(&disk);
    assert!(disk.database("db").is_err());
    let write = database.begin_write().unwrap();
    write.open_table(TABLE).unwrap().insert(1, 2).unwrap();
    write.commit().unwrap();
    for mode in [CrashMode::LoseUnsynced, CrashMode::TearUnsynced(1), CrashMode::KeepUnsynced] {
        let database = open(&disk.crash(mode));
        let read = redb::ReadableDatabase::begin_read(&database).unwrap();
        let table = read.open_table(TABLE).unwrap();
        assert_eq!(redb::ReadableTable::get(&table, 1).unwrap().unwrap().value(), 2);
    }
    drop(database);
    open(&disk);
}

#[test]
fn a_disk_that_fails_takes_nothing_and_gives_what_it_has() {
    let disk = written();
    let file = disk.database("other").unwrap();
    disk.fail(true);
    let eio = |result: io::Result<()>| result.unwrap_err().raw_os_error() == Some(EIO);
    assert!(eio(file.write(0, b"x")) && eio(file.set_len(9)) && eio(file.sync_data()));
    assert!(eio(disk.write("kept", b"newer", true)) && eio(disk.write("new", b"", false)));
    assert!(eio(disk.remove("kept")) && eio(disk.rename("kept", "moved")));
    assert_eq!(disk.read("kept").unwrap().unwrap(), b"kept");
    assert_eq!(disk.read("new").unwrap(), None);
    let next = disk.crash(CrashMode::LoseUnsynced);
    assert!(eio(next.remove("kept")));
    next.fail(false);
    next.remove("kept").unwrap();
}

#[test]
fn what_a_lying_disk_says_it_synced_is_lost_with_power() {
    let disk = written();
    let file = disk.database("other").unwrap();
    disk.lie(true);
    file.write(0, b"synced?").unwrap();
    file.sync_data().unwrap();
    disk.write("kept", b"newer", true).unwrap();
    disk.write("new", b"new", true).unwrap();
    assert_eq!(disk.read("kept").unwrap().unwrap(), b"newer");
    let killed = disk.crash(CrashMode::KeepUnsynced);
    assert_eq!(killed.read("other").unwrap().unwrap(), b"synced?");
    let lost = disk.crash(CrashMode::LoseUnsynced);
    assert_eq!(lost.read("other").unwrap().unwrap(), b"");
    assert_eq!(lost.read("kept").unwrap().unwrap(), b"kept");
    assert_eq!(lost.read("new").unwrap(), None);
    disk.lie(false);
    file.sync_data().unwrap();
    let honest = disk.crash(CrashMode::LoseUnsynced);
    assert_eq!(honest.read("other").unwrap().unwrap(), b"synced?");
}
