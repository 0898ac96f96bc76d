//! What is on disk when, and how many commits that takes.

use super::*;

#[tokio::test(start_paused = true)]
async fn appends_that_wait_together_share_one_commit() {
    let mut store = open_on(&MemoryDisk::new()).await;
    let before = store.handle.syncs();
    let mut flushed = Vec::new();
    for index in 1..=64 {
        flushed.push(store.queue(vec![blank(1, index)]).await);
    }
    // All of them can be read before any is on disk.
    assert_eq!(store.handle.syncs(), before);
    assert_eq!(store.entries().await.len(), 64);
    for flushed in flushed {
        flushed.await.unwrap().unwrap();
    }
    assert_eq!(store.handle.syncs(), before + 1);
}

#[tokio::test(start_paused = true)]
async fn what_is_applied_alone_waits_for_no_disk_and_is_there_soon() {
    let disk = MemoryDisk::new();
    let mut store = open_on(&disk).await;
    store.append(vec![founding(1, 1)]).await;
    let before = store.handle.syncs();
    store.apply(vec![founding(1, 1)]).await;
    assert_eq!(store.state().index, 1);
    assert_eq!(*store.handle.applied().borrow(), 1);
    assert_eq!(store.handle.syncs(), before);
    settle().await;
    assert_eq!(store.handle.syncs(), before + 1);
    let rows = store.rows();
    let store = open_on(&disk.crash(CrashMode::LoseUnsynced)).await;
    assert_eq!(store.state().index, 1);
    assert_eq!(store.rows(), rows);
}

#[tokio::test(start_paused = true)]
async fn what_is_applied_goes_to_disk_also_where_more_comes_all_the_time() {
    let mut store = open_on(&MemoryDisk::new()).await;
    let entries: Vec<Entry> = (1..=20).map(|index| blank(1, index)).collect();
    store.append(entries.clone()).await;
    let before = store.handle.syncs();
    for entry in entries {
        store.apply(vec![entry]).await;
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    let syncs = store.handle.syncs() - before;
    assert!((4..=9).contains(&syncs), "{syncs} commits in 400 ms");
}

#[tokio::test(start_paused = true)]
async fn a_store_that_is_stopped_in_order_has_everything_it_had() {
    let disk = MemoryDisk::new();
    let mut store = open_on(&disk).await;
    let id = store.handle.raft_id();
    store.log.save_vote(&Vote::new(3, 9)).await.unwrap();
    store.append(vec![members(1, 1, &[1]), founding(1, 2), role(1, 3, "a")]).await;
    store.log.save_committed(Some(log_id(1, 3))).await.unwrap();
    let entries = store.entries().await;
    store.apply(entries).await;
    store.handle.note_contact(Stamp(77_000_000));
    store.handle.record(vec![event("ada")]).await.unwrap();
    store.log.purge(log_id(1, 1)).await.unwrap();
    let (rows, chain) = (store.rows(), store.chain().await);
    store.handle.close().await.unwrap();
    assert!(store.handle.record(vec![event("late")]).await.is_err());

    // Also on another boot of the machine.
    let mut store = open_on(&disk.snapshot().rebooted()).await;
    assert_eq!(*store.handle.identity(), Identity::Kept);
    assert_eq!(store.handle.raft_id(), id);
    assert_eq!(store.log.get_log_reader().await.read_vote().await.unwrap(), Some(Vote::new(3, 9)));
    assert_eq!(store.log.read_committed().await.unwrap(), Some(log_id(1, 3)));
    let state = store.log.get_log_state().await.unwrap();
    assert_eq!(state.last_purged_log_id, Some(log_id(1, 1)));
    assert_eq!(state.last_log_id, Some(log_id(1, 3)));
    assert_eq!(store.entries().await, [founding(1, 2), role(1, 3, "a")]);
    let (applied, membership) = store.machine.applied_state().await.unwrap();
    assert_eq!(applied, Some(log_id(1, 3)));
    assert_eq!(*membership.log_id(), Some(log_id(1, 1)));
    assert_eq!(store.rows(), rows);
    assert_eq!(store.chain().await, chain);
    assert_eq!(chain.last(), Some(&event("ada")));
    assert_eq!(store.handle.contact(), Some(Stamp(77_000_000)));
}

#[tokio::test(start_paused = true)]
async fn a_decision_is_on_the_chain_once_however_often_it_is_applied() {
    let disk = MemoryDisk::new();
    let mut store = open_on(&disk).await;
    let entries = vec![founding(1, 1), role(1, 2, "a")];
    store.append(entries.clone()).await;
    store.apply(entries.clone()).await;
    assert_eq!(*store.handle.audit_head().borrow(), Head::default(), "not on disk yet");
    // The machine crashes before what was applied is on disk: the log has it.
    let mut store = open_on(&disk.crash(CrashMode::LoseUnsynced)).await;
    assert_eq!(store.state().index, 0);
    store.apply(entries).await;
    settle().await;
    let actions: Vec<_> = store.chain().await.iter().map(|e| e.action.to_string()).collect();
    assert_eq!(actions.len(), 2, "{actions:?}");
    assert_eq!(store.handle.audit_head().borrow().seq, 2);
}

#[tokio::test(start_paused = true)]
async fn entries_are_read_from_disk_once_memory_has_enough_of_them() {
    let mut store = open_on(&MemoryDisk::new()).await;
    let name = |i: u64| format!("{i}-{}", "x".repeat(40));
    // Large enough that memory does not keep all of them.
    let large = |i: u64| {
        let mut entry = role(1, i, &name(i));
        if let EntryPayload::Normal(proposal) = &mut entry.payload {
            proposal.source.request = "r".repeat(1 << 20).as_str().into();
        }
        entry
    };
    for i in 1..=12 {
        store.append(vec![large(i)]).await;
    }
    let mut reader = store.log.get_log_reader().await;
    let all = reader.try_get_log_entries(..).await.unwrap();
    assert_eq!(all.len(), 12);
    assert!(all.iter().enumerate().all(|(i, entry)| *entry == large(i as u64 + 1)));
    // A part is bounded, and never empty.
    assert_eq!(reader.limited_get_log_entries(1, 13).await.unwrap().len(), 1);
    assert_eq!(reader.limited_get_log_entries(12, 13).await.unwrap().len(), 1);
    let streamed = reader.entries_stream(3..=12).await;
    let streamed: Vec<Entry> = futures_util::TryStreamExt::try_collect(streamed).await.unwrap();
    assert_eq!(streamed, all[2..]);
    store.log.truncate_after(Some(log_id(1, 2))).await.unwrap();
    store.append(vec![blank(2, 3)]).await;
    let after: Vec<LogId> = store.entries().await.iter().map(|entry| entry.log_id).collect();
    assert_eq!(after, [log_id(1, 1), log_id(1, 2), log_id(2, 3)]);
}
