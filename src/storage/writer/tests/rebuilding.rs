//! What a rebuild of the file promises: nothing is missing and nothing comes back, whatever is written
//! meanwhile and whatever ends the process, and the store stays the one that it was.

use super::chain::{audited, targets};
use super::trim::roll;
use super::*;
use crate::config::{HistoryPolicy, Policies};
use crate::env::{Disk, FileDisk};
use crate::storage::copy::TABLES;
use crate::storage::database::{FILE, name_of_new};
use redb::StorageBackend;
use std::io;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

/// What a crash does to what is not synced; of the second, nothing is lost.
const MODES: [CrashMode; 3] =
    [CrashMode::LoseUnsynced, CrashMode::KeepUnsynced, CrashMode::TearUnsynced(7)];

/// A disk that is kept as each crash between two of its calls would leave it.
struct Witness {
    disk: MemoryDisk,
    crashes: Mutex<Vec<MemoryDisk>>,
    is_looking: AtomicBool,
}

impl Witness {
    fn new(disk: MemoryDisk) -> Arc<Self> {
        Arc::new(Self { disk, crashes: Mutex::default(), is_looking: AtomicBool::new(true) })
    }

    fn look(&self) {
        if !self.is_looking.load(Ordering::Relaxed) {
            return;
        }
        for mode in MODES {
            let crash = self.disk.crash(mode);
            self.crashes.lock().unwrap().push(crash);
        }
    }

    fn around<T>(&self, call: impl FnOnce() -> T) -> T {
        self.look();
        let done = call();
        self.look();
        done
    }
}

impl Disk for Witness {
    fn database(&self, name: &str) -> io::Result<Box<dyn StorageBackend>> {
        self.around(|| self.disk.database(name))
    }
    fn read(&self, name: &str) -> io::Result<Option<Vec<u8>>> {
        self.disk.read(name)
    }
    fn write(&self, name: &str, bytes: &[u8], durable: bool) -> io::Result<()> {
        self.around(|| self.disk.write(name, bytes, durable))
    }
    fn remove(&self, name: &str) -> io::Result<()> {
        self.around(|| self.disk.remove(name))
    }
    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.around(|| self.disk.rename(from, to))
    }
    fn identity(&self, name: &str) -> io::Result<Option<Vec<u8>>> {
        self.disk.identity(name)
    }
    fn len(&self, name: &str) -> io::Result<Option<u64>> {
        self.disk.len(name)
    }
    fn room(&self) -> io::Result<Option<(u64, u64)>> {
        Ok(Some((1 << 40, 1 << 40)))
    }
    fn machine_boot(&self) -> Option<Vec<u8>> {
        // A crash of the process: that one goes on as its origin.
        Some(b"one".to_vec())
    }
}

fn open_on(disk: Arc<dyn Disk>) -> Writer {
    Writer::open(settings(), disk, Entropy::system().stream("store")).unwrap()
}

/// All rows of all tables.
fn dump(writer: &Writer) -> Vec<(String, Vec<crate::storage::copy::RawRow>)> {
    let tx = writer.database.get().unwrap().begin_read().unwrap();
    let rows = |table: &&dyn crate::storage::copy::RawTable| {
        (table.name().to_owned(), table.read(&tx, None, usize::MAX).unwrap())
    };
    TABLES.iter().map(rows).collect()
}

/// A store with more behind it than in it.
fn fill(writer: &mut Writer, writes: u64) {
    let big = format!("\"{}\"", "x".repeat(900));
    for i in 1..=writes {
        let key = format!("k{}", i % 20);
        writer.commit(Stamp(i), &[put("web/dev", &[(&key, &big)])]);
        if i % 100 == 0 {
            writer.checkpoint().unwrap();
        }
    }
    prune(writer);
}

fn prune(writer: &mut Writer) {
    let mut policies = Policies::default();
    policies.set.insert(None, HistoryPolicy { versions: 2, age_s: 0 });
    loop {
        writer.prune(Stamp(1_000_000), &policies).unwrap();
        writer.checkpoint().unwrap();
        if !writer.is_pruning() {
            return;
        }
    }
}

#[test]
fn reads_and_writes_go_on_while_the_file_is_rebuilt_and_nothing_is_missing_after() {
    let disk = MemoryDisk::new();
    let mut writer = open(&disk);
    fill(&mut writer, 1_500);
    let origin = writer.origin();
    let (before, live) = (disk.len(FILE).unwrap().unwrap(), writer.measure().live_bytes().unwrap());
    writer.begin_rebuild(live);
    let reader = writer.history();
    let (id, key) = (DocumentId::parse("web/dev").unwrap(), Key::new("k1").unwrap());
    let (mut steps, mut before_step) = (0, Vec::new());
    while writer.is_rebuilding() {
        // Behind the place of copying and before it, new rows, other rows, and rows that go.
        let n = steps.to_string();
        let pairs = [("a", &*n), ("k1", &*n), ("zz", &*n)];
        let commands = [audited(put("web/dev", &pairs)), put("new/dev", &pairs)];
        writer.commit(Stamp(2_000_000 + steps), &commands);
        if steps % 2 == 0 {
            prune(&mut writer);
        }
        if steps % 3 == 0 {
            roll(&mut writer, "web/dev");
            writer.checkpoint().unwrap();
        }
        let page = reader.read(&id, &key, None, 3, usize::MAX).unwrap();
        assert_eq!(page.entries[0].value.as_ref().unwrap().as_str(), n);
        before_step = dump(&writer);
        writer.step_rebuild();
        steps += 1;
        assert!(steps < 1_000);
    }
    assert!(dump(&writer) == before_step, "the new file is the old one, to the row");
    assert!(steps > 5, "{steps} steps are no test");
    assert_eq!(writer.counts().rebuilt, 1);
    let after = disk.len(FILE).unwrap().unwrap();
    assert!(after < before, "{before} to {after} with {live} live");
    assert_eq!(disk.len(&name_of_new(FILE)).unwrap(), None);
    let (seen, chain) = (view(&writer), targets(&writer));
    assert!(chain.len() >= steps as usize, "what was done meanwhile is on the chain");
    writer.commit(Stamp(3_000_000), &[put("web/dev", &[("after", "1")])]);
    assert_eq!(value(&writer, "web/dev", "after").unwrap(), "1");
    drop((writer, reader));
    let writer = open(&disk.crash(CrashMode::LoseUnsynced));
    assert_eq!(view(&writer).len(), seen.len() + 1);
    assert_eq!(targets(&writer), chain);
    let writer_again = open(&disk.snapshot());
    assert_eq!(writer_again.origin(), origin, "the same store: the same origin");
}

#[test]
fn a_rebuilt_file_has_the_same_rows_as_the_one_before() {
    let disk = MemoryDisk::new();
    let mut writer = open(&disk);
    fill(&mut writer, 400);
    let before = dump(&writer);
    writer.begin_rebuild(1);
    while writer.is_rebuilding() {
        writer.step_rebuild();
    }
    assert_eq!(writer.counts().rebuilt, 1);
    assert!(dump(&writer) == before);
}

#[test]
fn on_a_real_disk_the_new_file_takes_the_place_of_the_one_in_use() {
    let dir = tempfile::tempdir().unwrap();
    let disk = || Arc::new(FileDisk::open(dir.path()).unwrap());
    let mut writer = open_on(disk());
    fill(&mut writer, 100);
    let (origin, reader) = (writer.origin(), writer.history());
    let old = writer.database.get().unwrap();
    let before = disk().identity(FILE).unwrap();
    writer.begin_rebuild(1);
    while writer.is_rebuilding() {
        writer.step_rebuild();
    }
    assert_eq!(writer.counts().rebuilt, 1);
    assert_ne!(disk().identity(FILE).unwrap(), before);
    writer.commit(Stamp(2_000_000), &[put("web/dev", &[("k1", "7")])]);
    let (id, key) = (DocumentId::parse("web/dev").unwrap(), Key::new("k1").unwrap());
    let page = reader.read(&id, &key, None, 1, usize::MAX).unwrap();
    assert_eq!(page.entries[0].value.as_ref().unwrap().as_str(), "7");
    // Whoever reads the old one reads on.
    assert!(old.begin_read().unwrap().list_tables().unwrap().count() > 0);
    drop((writer, reader, old));
    let again = open_on(disk());
    assert_eq!((again.origin(), value(&again, "web/dev", "k1").unwrap()), (origin, "7".to_owned()));
}

#[test]
fn a_crash_at_any_step_leaves_one_good_file_and_the_same_store() {
    let witness = Witness::new(MemoryDisk::new());
    let mut writer = open_on(witness.clone());
    witness.is_looking.store(false, Ordering::Relaxed);
    fill(&mut writer, 200);
    witness.is_looking.store(true, Ordering::Relaxed);
    let origin = writer.origin();
    witness.crashes.lock().unwrap().clear();
    // With what each may show: where a write was under way, that one or not.
    let mut crashes: Vec<(MemoryDisk, Vec<Vec<String>>)> = Vec::new();
    let mut take = |shown: Vec<Vec<String>>| {
        let taken = std::mem::take(&mut *witness.crashes.lock().unwrap());
        crashes.extend(taken.into_iter().map(|crash| (crash, shown.clone())));
    };
    writer.begin_rebuild(1);
    for step in 0_u64.. {
        let before = view(&writer);
        let key = format!("k{}", step % 30);
        writer.commit(Stamp(2_000_000 + step), &[audited(put("web/dev", &[(&key, "1")]))]);
        let after = view(&writer);
        take(vec![before, after.clone()]);
        if step % 3 == 0 {
            roll(&mut writer, "web/dev");
            take(vec![after.clone(), after.clone()]);
        }
        writer.step_rebuild();
        witness.look();
        take(vec![after]);
        if !writer.is_rebuilding() {
            break;
        }
    }
    assert_eq!(writer.counts().rebuilt, 1);
    assert!(crashes.len() > 20, "{} crashes", crashes.len());
    let mut with_new = 0;
    for (i, (crash, shown)) in crashes.into_iter().enumerate() {
        with_new += usize::from(crash.len(&name_of_new(FILE)).unwrap().is_some());
        let found = Witness::new(crash.clone());
        found.is_looking.store(false, Ordering::Relaxed);
        let again = open_on(found);
        // Where only the process went, and not between a write and its mark, which is the proof.
        let is_proven = i % MODES.len() == 1 && shown.len() == 1;
        assert!(again.origin() == origin || !is_proven);
        assert!(shown.contains(&view(&again)));
        assert_eq!(crash.len(&name_of_new(FILE)).unwrap(), None, "what was left is removed");
    }
    assert!(with_new > 5);
}

#[test]
fn a_disk_that_fills_up_or_fails_ends_the_rebuild_and_not_the_store() {
    for is_full in [true, false] {
        let disk = MemoryDisk::new();
        let mut writer = open(&disk);
        fill(&mut writer, 1_500);
        let have = view(&writer);
        writer.begin_rebuild(1);
        writer.step_rebuild();
        if is_full {
            disk.fill(1_000)
        } else {
            disk.fail(true)
        }
        while writer.is_rebuilding() {
            writer.step_rebuild();
        }
        if is_full {
            disk.free()
        } else {
            disk.fail(false)
        }
        assert_eq!(writer.counts().rebuilt, 0);
        assert!(writer.is_open() && view(&writer) == have);
        let committed = writer.commit(Stamp(5_000_000), &[put("web/dev", &[("more", "1")])]);
        written(&committed, 0);
        writer.begin_rebuild(1);
        while writer.is_rebuilding() {
            writer.step_rebuild();
        }
        assert_eq!(writer.counts().rebuilt, 1);
        drop(writer);
        assert_eq!(value(&open(&disk), "web/dev", "more").unwrap(), "1");
    }
}

#[test]
fn what_is_written_past_the_mirror_is_found_before_the_switch() {
    let mut writer = open(&MemoryDisk::new());
    fill(&mut writer, 100);
    writer.begin_rebuild(1);
    // A table each: the origins are passed by.
    for _ in 0..7 {
        writer.step_rebuild();
    }
    let tx = writer.database.get().unwrap().begin_write().unwrap();
    origins::put(&tx, Dot { origin: Origin([9; 8]), n: 1 }, [9; 32]).unwrap();
    tx.commit().unwrap();
    while writer.is_rebuilding() {
        writer.step_rebuild();
    }
    assert_eq!(writer.counts().rebuilt, 0);
    assert!(writer.is_open());
}

#[test]
fn a_file_is_not_rebuilt_where_there_is_no_room_for_two() {
    struct Tight(MemoryDisk);
    impl Disk for Tight {
        fn database(&self, name: &str) -> io::Result<Box<dyn StorageBackend>> {
            self.0.database(name)
        }
        fn read(&self, name: &str) -> io::Result<Option<Vec<u8>>> {
            self.0.read(name)
        }
        fn write(&self, name: &str, bytes: &[u8], durable: bool) -> io::Result<()> {
            self.0.write(name, bytes, durable)
        }
        fn remove(&self, name: &str) -> io::Result<()> {
            self.0.remove(name)
        }
        fn rename(&self, from: &str, to: &str) -> io::Result<()> {
            self.0.rename(from, to)
        }
        fn identity(&self, name: &str) -> io::Result<Option<Vec<u8>>> {
            self.0.identity(name)
        }
        fn len(&self, name: &str) -> io::Result<Option<u64>> {
            self.0.len(name)
        }
        fn room(&self) -> io::Result<Option<(u64, u64)>> {
            Ok(Some((100_000_000, 1 << 40)))
        }
        fn machine_boot(&self) -> Option<Vec<u8>> {
            None
        }
    }
    let mut writer = open_on(Arc::new(Tight(MemoryDisk::new())));
    writer.begin_rebuild(100_000_000);
    assert!(!writer.is_rebuilding());
    writer.begin_rebuild(1_000_000);
    assert!(writer.is_rebuilding());
    writer.close().unwrap();
}
