//! What a crash leaves, and which stores keep their id.

use super::*;
use crate::quorum::store::chain::QuorumChain;
use crate::storage::database::Database;
use crate::storage::mark::NotTheSame;

/// Does one of everything, and crashes in the middle of what was not acknowledged.
async fn run_and_crash(disk: &MemoryDisk) {
    let mut store = open_on(disk).await;
    store.log.save_vote(&Vote::new(2, 9)).await.unwrap();
    store.append(vec![founding(1, 1), role(1, 2, "a"), role(1, 3, "b"), blank(1, 4)]).await;
    store.apply(vec![founding(1, 1), role(1, 2, "a")]).await;
    store.handle.record(vec![event("ada")]).await.unwrap();
    store.log.truncate_after(Some(log_id(1, 3))).await.unwrap();
    store.append(vec![blank(2, 4)]).await;
    // Not acknowledged: it may be there or not.
    store.apply(vec![role(1, 3, "b")]).await;
    drop(store.queue(vec![blank(2, 5)]).await);
    tokio::task::yield_now().await;
}

async fn check_acknowledged(mut store: Store, what: &str) {
    let vote = store.log.get_log_reader().await.read_vote().await.unwrap();
    assert_eq!(vote, Some(Vote::new(2, 9)), "{what}");
    let entries = store.entries().await;
    let acknowledged = [founding(1, 1), role(1, 2, "a"), role(1, 3, "b"), blank(2, 4)];
    assert_eq!(entries[..4], acknowledged, "{what}");
    assert!(entries.len() <= 5, "{what}");
    let events = store.chain().await;
    assert!(events.contains(&event("ada")), "{what}");
    // Before the record, and so on disk with it.
    assert!(store.state().index >= 2, "{what}");
    // What is missing is applied again, and gives what a store has that did not crash.
    let from = usize::try_from(store.state().index).unwrap();
    store.apply(entries[from..4].to_vec()).await;
    let mut other = open_on(&MemoryDisk::new()).await;
    other.append(acknowledged.to_vec()).await;
    other.apply(acknowledged.to_vec()).await;
    assert_eq!(store.rows(), other.rows(), "{what}");
}

#[tokio::test(start_paused = true)]
async fn nothing_acknowledged_is_lost_in_a_crash() {
    let torn = (0..100).map(CrashMode::TearUnsynced);
    for mode in [CrashMode::LoseUnsynced, CrashMode::KeepUnsynced].into_iter().chain(torn) {
        let disk = MemoryDisk::new();
        run_and_crash(&disk).await;
        let store = open_on(&disk.crash(mode)).await;
        let kept = matches!(store.handle.identity(), Identity::Kept | Identity::KeptUnproven);
        assert!(kept, "{mode:?}: {}", store.handle.identity());
        let is_proven = *store.handle.identity() == Identity::Kept;
        assert_eq!(is_proven, mode == CrashMode::KeepUnsynced, "{mode:?}");
        check_acknowledged(store, &format!("{mode:?}")).await;
    }
}

#[tokio::test(start_paused = true)]
async fn an_old_copy_takes_no_part_under_its_id() {
    let disk = MemoryDisk::new();
    let mut store = open_on(&disk).await;
    let id = store.handle.raft_id();
    store.append(vec![blank(1, 1)]).await;
    let old = disk.snapshot();
    store.append(vec![blank(1, 2)]).await;
    drop(store);
    settle().await;
    // The store alone is put back: the mark beside it knows better.
    let mark = disk.read(tables::MARK).unwrap().unwrap();
    old.write(tables::MARK, &mark, true).unwrap();
    let mut store = open_on(&old).await;
    let set_aside = format!("{}.rolled-back-1", tables::FILE);
    let why = NotTheSame::RolledBack;
    let identity = Identity::RolledBack { why, set_aside: set_aside.clone() };
    assert_eq!(*store.handle.identity(), identity);
    assert!(store.handle.identity().is_new());
    assert_ne!(store.handle.raft_id(), id);
    assert!(store.entries().await.is_empty());
    assert_eq!(store.log.get_log_state().await.unwrap().last_log_id, None);
    assert!(old.identity(&set_aside).unwrap().is_some());
    // From here on it is a store like any other.
    let new_id = store.handle.raft_id();
    store.append(vec![blank(5, 9)]).await;
    store.handle.close().await.unwrap();
    let store = open_on(&old.snapshot()).await;
    assert_eq!((store.handle.identity(), store.handle.raft_id()), (&Identity::Kept, new_id));
}

#[tokio::test(start_paused = true)]
async fn a_copy_and_a_store_without_its_mark_take_a_new_id() {
    let disk = MemoryDisk::new();
    let mut store = open_on(&disk).await;
    store.append(vec![blank(1, 1)]).await;
    store.handle.close().await.unwrap();
    let of = |store: &Store| match store.handle.identity() {
        Identity::RolledBack { why, .. } => Some(*why),
        _ => None,
    };
    let copy = open_on(&disk.snapshot().copied()).await;
    assert_eq!(of(&copy), Some(NotTheSame::Copy));
    let without = disk.snapshot();
    without.remove(tables::MARK).unwrap();
    assert_eq!(of(&open_on(&without).await), Some(NotTheSame::NoMark));
}

#[tokio::test]
async fn on_a_real_disk_the_store_is_known_and_a_copy_is_not() {
    let dir = tempfile::tempdir().unwrap();
    let open_in = async |name: &str| {
        let disk = Arc::new(crate::env::FileDisk::open(&dir.path().join(name)).unwrap());
        let entropy = Entropy::system().stream("raft-id");
        let (log, machine, handle) =
            open(disk, entropy, Blocking::Threads, settings()).await.unwrap();
        Store { log, machine, handle }
    };
    let mut store = open_in("data").await;
    let id = store.handle.raft_id();
    store.append(vec![founding(1, 1), blank(1, 2)]).await;
    store.apply(vec![founding(1, 1)]).await;
    store.handle.record(vec![event("ada")]).await.unwrap();
    let (rows, chain) = (store.rows(), store.chain().await);
    store.handle.close().await.unwrap();
    // A node that does not run has its chain read from outside.
    let stopped = QuorumChain::open(&dir.path().join("data")).unwrap();
    assert_eq!(follow(&stopped), chain);
    drop(stopped);
    let mut store = open_in("data").await;
    assert_eq!((store.handle.identity(), store.handle.raft_id()), (&Identity::Kept, id));
    assert_eq!(store.entries().await, [founding(1, 1), blank(1, 2)]);
    assert_eq!(store.rows(), rows);
    store.handle.close().await.unwrap();
    std::fs::create_dir(dir.path().join("copy")).unwrap();
    for file in [tables::FILE, tables::MARK] {
        std::fs::copy(dir.path().join("data").join(file), dir.path().join("copy").join(file))
            .unwrap();
    }
    let copy = open_in("copy").await;
    assert!(matches!(copy.handle.identity(), Identity::RolledBack { why: NotTheSame::Copy, .. }));
}

#[tokio::test(start_paused = true)]
async fn a_store_that_is_gone_or_damaged_is_replaced_under_a_new_id() {
    let disk = MemoryDisk::new();
    let mut store = open_on(&disk).await;
    assert_eq!(*store.handle.identity(), Identity::Fresh);
    let id = store.handle.raft_id();
    store.append(vec![blank(1, 1)]).await;
    store.handle.close().await.unwrap();
    let gone = disk.snapshot();
    gone.remove(tables::FILE).unwrap();
    let damaged = disk.snapshot();
    damaged.write(tables::FILE, &[7; 8192], true).unwrap();
    let truncated = disk.snapshot();
    let content = disk.read(tables::FILE).unwrap().unwrap();
    truncated.write(tables::FILE, &content[..content.len() / 2], true).unwrap();
    for disk in [&gone, &damaged, &truncated] {
        let mut store = open_on(disk).await;
        assert!(matches!(store.handle.identity(), Identity::Lost(_)));
        assert_ne!(store.handle.raft_id(), id);
        assert!(store.entries().await.is_empty());
    }
    let set_aside = format!("{}.failed-1", tables::FILE);
    assert!(damaged.identity(&set_aside).unwrap().is_some());
}

#[tokio::test(start_paused = true)]
async fn a_node_without_peers_leaves_a_store_that_is_not_good_and_does_not_start() {
    let disk = MemoryDisk::new();
    open_on(&disk).await.handle.close().await.unwrap();
    let gone = disk.snapshot();
    gone.remove(tables::FILE).unwrap();
    let damaged = disk.snapshot();
    damaged.write(tables::FILE, &[7; 8192], true).unwrap();
    let copied = disk.snapshot();
    copied.remove(tables::MARK).unwrap();
    for (disk, advice) in
        [(gone, "holm restore"), (damaged, "holm restore"), (copied, "holm quorum recover")]
    {
        let why = try_open_alone(&disk).await.err().unwrap().to_string();
        assert!(why.contains("quorum.redb") && why.contains(advice), "{why}");
        for name in ["quorum.redb.failed-1", "quorum.redb.rolled-back-1"] {
            assert!(disk.identity(name).unwrap().is_none(), "{name}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_store_that_opens_and_cannot_be_read_is_set_aside() {
    let disk = MemoryDisk::new();
    open_on(&disk).await.handle.close().await.unwrap();
    let database = Database::open_intact(Arc::new(disk.clone()), &tables::LAYOUT).unwrap();
    let tx = database.get().unwrap().begin_write().unwrap();
    tx.open_table(tables::STATE).unwrap().insert(&b"?"[..], &b"noise"[..]).unwrap();
    tx.commit().unwrap();
    drop(database);
    let store = open_on(&disk).await;
    assert!(matches!(store.handle.identity(), Identity::Lost(_)));
    assert!(disk.identity("quorum.redb.failed-1").unwrap().is_some());
}

#[tokio::test(start_paused = true)]
async fn another_clusters_or_nodes_store_is_refused_and_left_alone() {
    let disk = MemoryDisk::new();
    let store = open_on(&disk).await;
    let id = store.handle.raft_id();
    store.handle.close().await.unwrap();
    let other_cluster = StoreSettings { cluster: "other".into(), ..settings() };
    let other_node = StoreSettings { node: NodeName::new("eu-2").unwrap(), ..settings() };
    for settings in [other_cluster, other_node] {
        let shared = Arc::new(disk.snapshot());
        let entropy = Entropy::system().stream("raft-id");
        let refused = open(shared, entropy, Blocking::Inline, settings).await;
        assert!(refused.is_err_and(|e| e.to_string().contains("is of the")));
    }
    assert_eq!(open_on(&disk.snapshot()).await.handle.raft_id(), id);
}

#[tokio::test(start_paused = true)]
async fn a_full_disk_fails_everybody_who_waits_and_leaves_nothing_half() {
    let disk = MemoryDisk::new();
    let mut store = open_on(&disk).await;
    store.append(vec![founding(1, 1)]).await;
    store.apply(vec![founding(1, 1)]).await;
    settle().await;
    let rows = store.rows();
    disk.fill(0);
    let mut entry = role(1, 2, "a");
    if let EntryPayload::Normal(proposal) = &mut entry.payload {
        proposal.source.request = "r".repeat(4 << 20).as_str().into();
    }
    let flushed = store.queue(vec![entry]).await;
    let recorded = store.handle.record(vec![event("ada")]);
    let error = flushed.await.unwrap().unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::StorageFull);
    assert!(recorded.await.is_err());
    assert_eq!(*store.handle.failure().borrow(), Some(StoreError::Full));
    assert!(store.log.save_vote(&Vote::new(9, 9)).await.is_err());
    assert!(store.log.append(vec![blank(1, 3)], IOFlushed::noop()).await.is_err());
    let apply = stream::iter([Ok((blank(1, 2), None))]);
    assert!(store.machine.apply(apply).await.is_err());
    assert!(store.handle.close().await.is_err());
    drop(store);
    settle().await;
    disk.free();
    let mut store = open_on(&disk).await;
    assert_eq!(*store.handle.identity(), Identity::Kept);
    assert_eq!(store.entries().await, [founding(1, 1)]);
    assert_eq!(store.log.get_log_reader().await.read_vote().await.unwrap(), None);
    assert_eq!(store.rows(), rows);
    assert_eq!(store.chain().await.len(), 1);
}
