//! The store's file is rebuilt between the groups: all of it is there after, and the store keeps its
//! id, also where a crash comes in the middle.

use super::*;

/// A store with some of everything in it, whose log was cut.
async fn full(disk: &MemoryDisk) -> Store {
    let mut store = open_on(disk).await;
    store.log.save_vote(&Vote::new(2, 9)).await.unwrap();
    let mut entries = vec![founding(1, 1)];
    entries.extend((2..400).map(|i| role(1, i, &format!("r{i}"))));
    for chunk in entries.chunks(50) {
        store.append(chunk.to_vec()).await;
        store.apply(chunk.to_vec()).await;
    }
    store.handle.record(vec![event("ada"), event("bob")]).await.unwrap();
    store.log.purge(log_id(1, 300)).await.unwrap();
    settle().await;
    store
}

#[tokio::test(start_paused = true)]
async fn all_is_there_after_a_rebuild_in_the_middle_of_work() {
    let disk = MemoryDisk::new();
    let mut store = full(&disk).await;
    let id = store.handle.raft_id();
    assert!(store.handle.rebuild(1));
    for i in 400..430 {
        store.append(vec![role(1, i, &format!("r{i}"))]).await;
        store.apply(vec![role(1, i, &format!("r{i}"))]).await;
        store.handle.record(vec![event(&format!("e{i}"))]).await.unwrap();
        if i == 405 {
            store.log.purge(log_id(1, 350)).await.unwrap();
        }
        if i == 410 {
            store.append(vec![blank(1, 411), blank(1, 412)]).await;
            store.log.truncate_after(Some(log_id(1, 410))).await.unwrap();
        }
        tokio::time::sleep(std::time::Duration::from_millis(2)).await;
        assert!(store.handle.failure().borrow().is_none());
    }
    tokio::time::sleep(std::time::Duration::from_secs(2)).await;
    assert_eq!(store.handle.rebuilt(), 1);
    assert_eq!(disk.len("quorum.redb.new").unwrap(), None);
    let (rows, entries, chain) = (store.rows(), store.entries().await, store.chain().await);
    assert_eq!(entries.len(), 79, "from 351 to 429");
    assert!(chain.contains(&event("e429")) && chain.contains(&event("ada")));
    for mode in [CrashMode::LoseUnsynced, CrashMode::KeepUnsynced, CrashMode::TearUnsynced(5)] {
        let mut again = open_on(&disk.crash(mode)).await;
        assert_eq!(again.handle.raft_id(), id, "{mode:?}: {}", again.handle.identity());
        assert!(again.rows() == rows && again.entries().await == entries, "{mode:?}");
        assert_eq!(again.chain().await, chain, "{mode:?}");
        let vote = again.log.get_log_reader().await.read_vote().await.unwrap();
        assert_eq!(vote, Some(Vote::new(2, 9)), "{mode:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_crash_at_any_step_of_a_rebuild_leaves_the_store_and_its_id() {
    let disk = MemoryDisk::new();
    let store = full(&disk).await;
    let (id, rows) = (store.handle.raft_id(), store.rows());
    assert!(store.handle.rebuild(1));
    let (mut steps, mut with_new) = (0, 0);
    while store.handle.rebuilt() == 0 {
        tokio::time::sleep(std::time::Duration::from_millis(1)).await;
        for mode in [CrashMode::LoseUnsynced, CrashMode::TearUnsynced(steps)] {
            let crash = disk.crash(mode);
            with_new += usize::from(crash.len("quorum.redb.new").unwrap().is_some());
            let again = open_on(&crash).await;
            assert_eq!(again.handle.raft_id(), id, "{mode:?}: {}", again.handle.identity());
            assert!(again.rows() == rows, "{mode:?}");
            assert_eq!(crash.len("quorum.redb.new").unwrap(), None);
        }
        steps += 1;
        assert!(steps < 2_000);
    }
    assert!(with_new > 0);
}

#[tokio::test(start_paused = true)]
async fn a_store_that_is_closed_in_the_middle_leaves_nothing_of_a_rebuild() {
    let disk = MemoryDisk::new();
    let store = full(&disk).await;
    assert!(store.handle.rebuild(1));
    store.handle.record(vec![event("eve")]).await.unwrap();
    store.handle.close().await.unwrap();
    assert_eq!(disk.len("quorum.redb.new").unwrap(), None);
    assert_eq!(*open_on(&disk).await.handle.identity(), Identity::Kept);
}
