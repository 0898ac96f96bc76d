//! After a failure: what became of a commit is what is on disk, and nothing is gone on with that is not known.

use super::*;

fn write(writer: &mut Writer, value: &str) {
    let committed = writer.commit(Stamp(1), &[put("web/dev", &[("k", value)])]);
    written(&committed, 0);
}

#[test]
fn what_became_of_a_commit_is_what_is_on_disk() {
    let failure = StoreError::Failed("of a test".into());
    let mut writer = open(&MemoryDisk::new());
    write(&mut writer, "1");
    writer.checkpoint().unwrap();
    let before = writer.state.clone();
    write(&mut writer, "2");
    writer.checkpoint().unwrap();
    let after = writer.state.clone();
    let other = Origin([9; 8]);
    let mut neither = after.clone();
    neither.hashes.insert(other, [9; 32]);

    let settled = writer.settle(&before, &failure);
    assert!(matches!(settled, Settled::Committed), "it is there");
    assert!(writer.is_open() && writer.resting.is_none());

    // As if a third one had been applied here and never came to the disk.
    writer.state = neither.clone();
    let settled = writer.settle(&after, &failure);
    assert!(matches!(settled, Settled::NotCommitted), "it is not");
    assert!(writer.is_open() && writer.resting.is_some());

    writer.state = neither;
    let settled = writer.settle(&before, &failure);
    assert!(matches!(settled, Settled::Unknown), "it is neither");
    assert!(!writer.is_open(), "until all is read anew");
    writer.resting = None;
    assert_eq!(writer.ensure_open(), Ok(true));
    assert_eq!(writer.state.hashes, after.hashes);
    assert_eq!(value(&writer, "web/dev", "k").unwrap(), "2");
}

#[test]
fn without_a_journal_what_is_written_behind_is_on_disk_at_once() {
    let disk = MemoryDisk::new();
    let mut writer = open(&disk);
    assert!(writer.database.reached().is_none(), "there is none before the first write");
    writer.unwritten.rows.insert((DocumentId::parse("web/dev").unwrap(), Key::new("k").unwrap()));
    writer.unwritten.changes.entry(DocumentId::parse("web/dev").unwrap()).or_default();
    writer.write_behind().unwrap();
    assert!(!writer.is_unsynced());
    write(&mut writer, "1");
    writer.write_behind().unwrap();
    assert!(writer.is_unsynced(), "with one it is on disk there");
}

#[test]
fn a_store_of_a_later_format_is_refused_and_left_as_it_is() {
    let disk = MemoryDisk::new();
    let mut writer = open(&disk);
    write(&mut writer, "1");
    writer.close().unwrap();
    drop(writer);
    let set = |format: u32| {
        let (database, _) = Database::open(Arc::new(disk.clone())).unwrap();
        let tx = database.get().unwrap().begin_write().unwrap();
        meta::KEY_FORMAT.put(&tx, &format).unwrap();
        tx.commit().unwrap();
    };
    set(meta::FORMAT + 1);
    let why = Writer::open(settings(), Arc::new(disk.clone()), Entropy::system().stream("store"));
    let why = why.map(|writer| writer.origin()).unwrap_err().to_string();
    assert!(why.contains("the store has format 5; this program knows formats up to 4"), "{why}");
    set(meta::FORMAT);
    assert_eq!(value(&open(&disk), "web/dev", "k").unwrap(), "1");
}
