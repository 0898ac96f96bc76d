//! Files that are damaged, missing, or another's.

use super::*;

#[test]
fn a_store_of_another_cluster_or_node_is_refused_and_a_damaged_one_set_aside() {
    let disk = MemoryDisk::new();
    open(&disk).commit(Stamp(1), &[put("web/dev", &[("a", "1")])]);
    let with = |change: fn(&mut WriterSettings)| {
        let mut settings = settings();
        change(&mut settings);
        Writer::open(settings, Arc::new(disk.clone()), Entropy::system().stream("store"))
    };
    assert!(with(|s| s.cluster = "other".into()).is_err());
    assert!(with(|s| s.node = NodeName::new("other").unwrap()).is_err());
    let origin = with(|_| ()).unwrap().origin();
    disk.write(database_file(), b"this is no database at all", true).unwrap();
    let writer = with(|s| s.peers = 1).unwrap();
    assert!(view(&writer).is_empty());
    assert_ne!(writer.origin(), origin);
    assert!(disk.read("config.redb.failed-1").unwrap().is_some());
}

/// A store in which a row is not what was written, though redb opens it.
fn damaged_inside() -> MemoryDisk {
    let disk = MemoryDisk::new();
    open(&disk).commit(Stamp(1), &[put("web/dev", &[("a", "1")])]);
    let (database, _) = Database::open(Arc::new(disk.clone())).unwrap();
    let tx = database.get().unwrap().begin_write().unwrap();
    tx.open_table(origins::ORIGINS).unwrap().insert(1, &b"noise"[..]).unwrap();
    tx.commit().unwrap();
    disk
}

#[test]
fn a_store_that_opens_and_cannot_be_read_is_set_aside_where_there_are_peers() {
    let disk = damaged_inside();
    let settings = WriterSettings { peers: 2, ..settings() };
    let store = Entropy::system().stream("store");
    let writer = Writer::open(settings, Arc::new(disk.clone()), store).unwrap();
    assert!(view(&writer).is_empty());
    assert!(disk.identity("config.redb.failed-1").unwrap().is_some());
}

#[test]
fn a_node_without_peers_leaves_a_damaged_or_missing_store_and_does_not_start() {
    let noise = MemoryDisk::new();
    open(&noise).commit(Stamp(1), &[put("web/dev", &[("a", "1")])]);
    let gone = noise.snapshot();
    noise.write(database_file(), b"this is no database at all", true).unwrap();
    gone.remove(database_file()).unwrap();
    for disk in [noise, gone, damaged_inside()] {
        let store = Entropy::system().stream("store");
        let opened = Writer::open(settings(), Arc::new(disk.clone()), store);
        let why = opened.map(|writer| writer.origin()).unwrap_err().to_string();
        assert!(why.contains("config.redb: ") && why.contains("holm restore"), "{why}");
        assert!(disk.identity("config.redb.failed-1").unwrap().is_none());
    }
}
