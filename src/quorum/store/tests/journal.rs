//! Records that are in the journal and not in the table yet: who sees them, and what a crash leaves.

use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, mpsc};
use std::time::Duration;

use redb::StorageBackend;

use super::failing::FailingDisk;
use super::*;
use crate::quorum::store::journal;

/// Until what is in the journal is in the table.
async fn folded() {
    tokio::time::sleep(Duration::from_millis(1_100)).await;
}

fn names(events: &[Event]) -> Vec<String> {
    let recorded = events.iter().filter(|event| event.index.is_none());
    recorded.map(|event| event.principal.to_string()).collect()
}

/// How many records the table has.
async fn in_table(store: &Store) -> u64 {
    let tx = store.handle.chain().begin_read().unwrap();
    redb::ReadableTableMetadata::len(&tx.open_table(tables::AUDIT).unwrap()).unwrap()
}

#[tokio::test(start_paused = true)]
async fn a_record_is_on_disk_and_shown_without_a_commit_and_in_the_table_soon() {
    let disk = MemoryDisk::new();
    let store = open_on(&disk).await;
    let before = store.handle.syncs();
    for name in ["ada", "bob"] {
        store.handle.record(vec![event(name)]).await.unwrap();
    }
    assert_eq!(store.handle.syncs(), before, "no commit waited for the disk");
    assert_eq!(in_table(&store).await, 0);
    assert_eq!(store.handle.audit_head().borrow().seq, 2);
    assert_eq!(names(&store.chain().await), ["ada", "bob"]);
    // The machine goes down here.
    let crashed = open_on(&disk.crash(CrashMode::LoseUnsynced)).await;
    assert_eq!(names(&crashed.chain().await), ["ada", "bob"]);
    folded().await;
    for store in [&store, &crashed] {
        assert_eq!(in_table(store).await, 2);
        assert_eq!(names(&store.chain().await), ["ada", "bob"]);
    }
    assert_eq!(store.handle.syncs(), before + 1);
    // The next round, over what the journal had.
    crashed.handle.record(vec![event("eve")]).await.unwrap();
    assert_eq!(names(&crashed.chain().await), ["ada", "bob", "eve"]);
    crashed.handle.close().await.unwrap();
    assert!(crashed.handle.record(vec![event("late")]).await.is_err());
}

#[tokio::test(start_paused = true)]
async fn a_chain_is_read_from_any_record_on_and_in_parts() {
    let store = open_on(&MemoryDisk::new()).await;
    let name = |i: u64| format!("p{i}");
    for i in 1..=3 {
        store.handle.record(vec![event(&name(i))]).await.unwrap();
    }
    store.handle.flush().await.unwrap();
    for i in 4..=6 {
        store.handle.record(vec![event(&name(i))]).await.unwrap();
    }
    assert_eq!(in_table(&store).await, 3);
    for from in 1..=7 {
        let mut found = Vec::new();
        let mut visit = |bytes: &[u8]| {
            found.push(crate::audit::Record::decode(bytes).unwrap().seq);
            if found.len() == 4 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        };
        store.handle.chain().walk(from, &mut visit).unwrap();
        assert_eq!(found, (from..=6).take(4).collect::<Vec<_>>());
    }
}

#[tokio::test(start_paused = true)]
async fn records_and_decisions_are_in_one_order_and_each_is_there_once() {
    let disk = MemoryDisk::new();
    let mut store = open_on(&disk).await;
    let entries = vec![founding(1, 1), role(1, 2, "a"), role(1, 3, "b")];
    store.append(entries.clone()).await;
    for (i, entry) in entries.iter().enumerate() {
        store.handle.record(vec![event(&format!("before-{i}"))]).await.unwrap();
        store.apply(vec![entry.clone()]).await;
        store.handle.record(vec![event(&format!("after-{i}"))]).await.unwrap();
        if i == 1 {
            folded().await;
        }
    }
    for mode in [CrashMode::LoseUnsynced, CrashMode::KeepUnsynced, CrashMode::TearUnsynced(3)] {
        let mut store = open_on(&disk.crash(mode)).await;
        let from = usize::try_from(store.state().index).unwrap();
        store.apply(entries[from..].to_vec()).await;
        folded().await;
        let chain = store.chain().await;
        let order: Vec<String> =
            (0..3).flat_map(|i| [format!("before-{i}"), format!("after-{i}")]).collect();
        assert_eq!(names(&chain), order, "{mode:?}");
        let decided: Vec<u64> = chain.iter().filter_map(|event| event.index).collect();
        assert_eq!(decided, [1, 2, 3], "{mode:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn what_does_not_fit_goes_to_the_table_at_once() {
    let store = open_on(&MemoryDisk::new()).await;
    let frames = journal::FILE_BYTES / 4_096;
    for _ in 0..=frames {
        store.handle.record(vec![event("ada")]).await.unwrap();
    }
    assert_eq!(in_table(&store).await, frames + 1, "the last one took the others along");
    let large: Vec<Event> = (0..8_000).map(|_| event("bob")).collect();
    store.handle.record(large).await.unwrap();
    store.handle.record(vec![event("ada")]).await.unwrap();
    let chain = names(&store.chain().await);
    assert_eq!(chain.len() as u64, frames + 1 + 8_001);
    assert_eq!(chain.last().unwrap(), "ada");
}

#[tokio::test(start_paused = true)]
async fn wherever_the_disk_fails_what_was_recorded_is_there_and_nothing_is_twice() {
    for writes in 0.. {
        let failing = FailingDisk::new(MemoryDisk::new());
        let mut store = open_on(&failing).await;
        let entries = vec![founding(1, 1), role(1, 2, "a"), role(1, 3, "b"), role(1, 4, "c")];
        store.append(entries.clone()).await;
        failing.fail_after(writes);
        let mut recorded = Vec::new();
        for (i, entry) in entries.iter().enumerate() {
            for part in ["a", "b"] {
                let name = format!("{part}-{i}");
                if store.handle.record(vec![event(&name)]).await.is_ok() {
                    recorded.push(name);
                }
            }
            let apply = stream::iter([Ok((entry.clone(), None))]);
            let _ = store.machine.apply(apply).await;
            if i % 2 == 1 {
                folded().await;
            }
        }
        let is_done = recorded.len() == 2 * entries.len();
        drop(store);
        for mode in [CrashMode::TearUnsynced(writes), CrashMode::LoseUnsynced] {
            let store = open_on(&failing.inner.crash(mode)).await;
            assert!(!store.handle.identity().is_new(), "{writes}: {}", store.handle.identity());
            assert_eq!(store.handle.journal_damage(), None, "{writes} {mode:?}");
            let chain = store.chain().await;
            // What was refused may be there: its sync may have failed behind its write.
            let found = names(&chain);
            assert!(found.starts_with(&recorded), "{writes} {mode:?}: {found:?} {recorded:?}");
            assert!(found.len() <= recorded.len() + 1, "{writes} {mode:?}: {found:?}");
            let decided: Vec<u64> = chain.iter().filter_map(|event| event.index).collect();
            let applied: Vec<u64> = (1..=store.state().index).collect();
            assert_eq!(decided, applied, "{writes} {mode:?}: state and chain are of one commit");
        }
        if is_done {
            assert!(writes > 20, "it failed in the middle, too");
            break;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_journal_that_was_changed_is_named_and_the_store_goes_on() {
    let disk = MemoryDisk::new();
    let store = open_on(&disk).await;
    for name in ["ada", "bob", "eve"] {
        store.handle.record(vec![event(name)]).await.unwrap();
    }
    let changed = disk.crash(CrashMode::KeepUnsynced);
    let mut content = changed.read(journal::FILE).unwrap().unwrap();
    content[4_096 + 80] ^= 1;
    changed.write(journal::FILE, &content, false).unwrap();
    let store = open_on(&changed).await;
    let damage = store.handle.journal_damage().unwrap().to_owned();
    assert!(damage.contains("audit record 2 is missing"), "{damage}");
    assert_eq!(store.handle.chain().inconsistency().unwrap(), Some(damage));
    assert_eq!(names(&store.chain().await), ["ada"]);
    assert!(changed.identity("quorum.journal.damaged-1").unwrap().is_some());
    // The machine goes down before that is said: then it is said later.
    let crashed = open_on(&changed.crash(CrashMode::KeepUnsynced)).await;
    assert!(crashed.handle.journal_damage().is_some());
    drop(crashed);
    store.handle.record_damage(Stamp(9), &NodeName::new("eu-1").unwrap()).await.unwrap();
    store.handle.record(vec![event("zoe")]).await.unwrap();
    assert_eq!(in_table(&store).await, 2, "the journal is in use again");
    drop(store);
    settle().await;
    let store = open_on(&changed.crash(CrashMode::KeepUnsynced)).await;
    assert_eq!(store.handle.journal_damage(), None);
    let chain = store.chain().await;
    assert_eq!(names(&chain), ["ada", "-", "zoe"]);
    assert!(chain[1].outcome.contains("audit record 2 is missing"), "{}", chain[1].outcome);
}

#[tokio::test(start_paused = true)]
async fn a_store_under_a_new_id_takes_nothing_from_the_old_ones_journal() {
    let disk = MemoryDisk::new();
    let store = open_on(&disk).await;
    store.handle.record(vec![event("ada")]).await.unwrap();
    let crashed = disk.crash(CrashMode::KeepUnsynced);
    crashed.remove(tables::FILE).unwrap();
    let store = open_on(&crashed).await;
    assert!(matches!(store.handle.identity(), Identity::Lost(_)));
    assert!(store.chain().await.is_empty());
    assert!(crashed.identity("quorum.journal.other-1").unwrap().is_some(), "it is kept");
}

/// A disk that tells of each sync of a file, before it is done.
struct WatchedDisk<D> {
    inner: D,
    on_sync: Arc<dyn Fn(&str) + Send + Sync>,
}

impl<D: Disk> Disk for WatchedDisk<D> {
    fn database(&self, name: &str) -> io::Result<Box<dyn StorageBackend>> {
        let (inner, on_sync) = (self.inner.database(name)?, self.on_sync.clone());
        Ok(Box::new(WatchedBackend { inner, name: name.to_owned(), on_sync }))
    }

    fn read(&self, name: &str) -> io::Result<Option<Vec<u8>>> {
        self.inner.read(name)
    }

    fn write(&self, name: &str, bytes: &[u8], durable: bool) -> io::Result<()> {
        self.inner.write(name, bytes, durable)
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        self.inner.remove(name)
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.inner.rename(from, to)
    }

    fn identity(&self, name: &str) -> io::Result<Option<Vec<u8>>> {
        self.inner.identity(name)
    }

    fn len(&self, name: &str) -> io::Result<Option<u64>> {
        self.inner.len(name)
    }

    fn machine_boot(&self) -> Option<Vec<u8>> {
        self.inner.machine_boot()
    }
}

struct WatchedBackend {
    inner: Box<dyn StorageBackend>,
    name: String,
    on_sync: Arc<dyn Fn(&str) + Send + Sync>,
}

impl std::fmt::Debug for WatchedBackend {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("WatchedBackend")
    }
}

impl StorageBackend for WatchedBackend {
    fn len(&self) -> io::Result<u64> {
        self.inner.len()
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.inner.read(offset, out)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.inner.set_len(len)
    }

    fn sync_data(&self) -> io::Result<()> {
        (self.on_sync)(&self.name);
        self.inner.sync_data()
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.inner.write(offset, data)
    }
}

/// Holds up the next sync of one file, where it is told to.
struct Gate {
    file: &'static str,
    is_armed: AtomicBool,
    /// How many syncs of the journal there were, and how many there are right now.
    syncs: AtomicU64,
    reached: mpsc::SyncSender<()>,
    go_on: Mutex<mpsc::Receiver<()>>,
}

impl Gate {
    /// With what hears that it is reached, and what opens it.
    fn new(file: &'static str) -> (Arc<Self>, mpsc::Receiver<()>, mpsc::SyncSender<()>) {
        let ((reached, is_reached), (open, go_on)) = (mpsc::sync_channel(1), mpsc::sync_channel(1));
        let (is_armed, syncs) = (AtomicBool::new(false), AtomicU64::new(0));
        let this = Self { file, is_armed, syncs, reached, go_on: Mutex::new(go_on) };
        (Arc::new(this), is_reached, open)
    }

    fn pass(&self, file: &str) {
        if file == journal::FILE {
            self.syncs.fetch_add(1, Ordering::SeqCst);
        }
        if file == self.file && self.is_armed.swap(false, Ordering::SeqCst) {
            self.reached.send(()).unwrap();
            self.go_on.lock().unwrap().recv().unwrap();
        }
    }

    /// A store with a writer's thread on a disk with this gate.
    async fn open_store(self: &Arc<Self>) -> StoreHandle {
        let this = self.clone();
        let on_sync = Arc::new(move |file: &str| this.pass(file));
        let disk = WatchedDisk { inner: MemoryDisk::new(), on_sync };
        let entropy = Entropy::system().stream("raft-id");
        let opened = open(Arc::new(disk), entropy, Blocking::Threads, settings()).await.unwrap();
        // The journal's file is made.
        opened.2.record(vec![event("first")]).await.unwrap();
        opened.2.flush().await.unwrap();
        self.syncs.store(0, Ordering::SeqCst);
        self.is_armed.store(true, Ordering::SeqCst);
        opened.2
    }
}

fn record(handle: &StoreHandle, name: &str) -> tokio::task::JoinHandle<Result<(), StoreError>> {
    let (handle, event) = (handle.clone(), event(name));
    tokio::spawn(async move { handle.record(vec![event]).await })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn what_comes_while_the_writer_holds_the_chain_goes_with_its_next_commit() {
    let (gate, is_reached, open) = Gate::new(tables::FILE);
    let handle = gate.open_store().await;
    let flushed = tokio::spawn({
        let handle = handle.clone();
        async move { handle.flush().await }
    });
    Blocking::Threads.run(move || is_reached.recv().unwrap()).await;
    let records = ["ada", "bob"].map(|name| record(&handle, name));
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert!(records.iter().all(|it| !it.is_finished()), "the writer is not done");
    open.send(()).unwrap();
    flushed.await.unwrap().unwrap();
    for record in records {
        record.await.unwrap().unwrap();
    }
    assert_eq!(gate.syncs.load(Ordering::SeqCst), 0, "none of them in the journal");
    let mut found = names(&follow(&handle.chain()));
    found.sort();
    assert_eq!(found, ["ada", "bob", "first"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn what_comes_while_another_is_written_to_the_journal_is_written_together_after_it() {
    let (gate, is_reached, open) = Gate::new(journal::FILE);
    let handle = gate.open_store().await;
    let first = record(&handle, "ada");
    Blocking::Threads.run(move || is_reached.recv().unwrap()).await;
    let records: Vec<_> = (0..20).map(|i| record(&handle, &format!("p{i:02}"))).collect();
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert!(!first.is_finished() && records.iter().all(|it| !it.is_finished()));
    assert_eq!(gate.syncs.load(Ordering::SeqCst), 1, "nobody else writes meanwhile");
    open.send(()).unwrap();
    first.await.unwrap().unwrap();
    for record in records {
        record.await.unwrap().unwrap();
    }
    assert_eq!(gate.syncs.load(Ordering::SeqCst), 2, "one for all that waited");
    let mut found = names(&follow(&handle.chain()));
    assert_eq!(found[..2], ["first", "ada"]);
    found[2..].sort();
    let expected: Vec<String> = (0..20).map(|i| format!("p{i:02}")).collect();
    assert_eq!(found[2..], expected);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_at_once_on_a_real_disk_are_all_recorded_and_some_together() {
    let dir = tempfile::tempdir().unwrap();
    let syncs = Arc::new(AtomicU64::new(0));
    let counted = syncs.clone();
    let on_sync = Arc::new(move |_: &str| {
        counted.fetch_add(1, Ordering::SeqCst);
    });
    let inner = crate::env::FileDisk::open(dir.path()).unwrap();
    let disk = Arc::new(WatchedDisk { inner, on_sync });
    let entropy = Entropy::system().stream("raft-id");
    let (_log, _machine, handle) =
        open(disk, entropy, Blocking::Threads, settings()).await.unwrap();
    let tasks: Vec<_> = (0..16)
        .map(|task| {
            let handle = handle.clone();
            tokio::spawn(async move {
                for i in 0..40 {
                    handle.record(vec![event(&format!("{task}-{i}"))]).await.unwrap();
                }
            })
        })
        .collect();
    for task in tasks {
        task.await.unwrap();
    }
    let mut found = names(&follow(&handle.chain()));
    for task in 0..16 {
        let own = format!("{task}-");
        let own: Vec<&String> = found.iter().filter(|name| name.starts_with(&own)).collect();
        assert!(own.iter().enumerate().all(|(i, name)| **name == format!("{task}-{i}")));
    }
    found.sort();
    found.dedup();
    assert_eq!(found.len(), 16 * 40);
    let syncs = syncs.load(Ordering::SeqCst);
    assert!(syncs < 16 * 40, "{syncs} syncs: no two shared one");
    handle.close().await.unwrap();
    let stopped = QuorumChain::open(dir.path()).unwrap();
    assert_eq!(follow(&stopped).len(), 16 * 40);
}

#[tokio::test]
async fn a_closed_stores_journal_is_read_from_outside() {
    let dir = tempfile::tempdir().unwrap();
    let disk: Arc<dyn Disk> = Arc::new(crate::env::FileDisk::open(dir.path()).unwrap());
    let entropy = Entropy::system().stream("raft-id");
    let opened = open(disk.clone(), entropy, Blocking::Threads, settings()).await.unwrap();
    opened.2.record(vec![event("ada")]).await.unwrap();
    let head = *opened.2.audit_head().borrow();
    let raft_id = opened.2.raft_id();
    opened.2.close().await.unwrap();
    // As where the table was closed before the journal's last record was in it.
    let (mut journal, _) = journal::Journal::open(&disk, raft_id, head).unwrap();
    let mut next = head;
    for name in ["bob", "eve"] {
        let bytes = next.append(event(name));
        assert!(journal.append(&[(next.seq, bytes.into())]).unwrap());
    }
    journal.close();
    let chain = QuorumChain::open(dir.path()).unwrap();
    assert_eq!(names(&follow(&chain)), ["ada", "bob", "eve"]);
    assert!(chain.begin_read().is_err(), "a copy of the tables would be without them");
    assert_eq!(chain.inconsistency().unwrap(), None);
    drop(chain);
    let path = dir.path().join(journal::FILE);
    let mut content = std::fs::read(&path).unwrap();
    content[100] ^= 1;
    std::fs::write(&path, content).unwrap();
    let why = QuorumChain::open(dir.path()).unwrap().inconsistency().unwrap().unwrap();
    assert!(why.contains("audit record 2 is missing"), "{why}");
}
