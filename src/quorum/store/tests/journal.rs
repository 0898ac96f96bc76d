//! Records that are in the journal and not in the table yet: who sees them, and what a crash leaves.

use std::time::Duration;

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
    store.handle.record_damage(Stamp(9), &NodeName::new("eu-1").unwrap()).await.unwrap();
    drop(store);
    settle().await;
    let store = open_on(&changed.crash(CrashMode::KeepUnsynced)).await;
    assert_eq!(store.handle.journal_damage(), None);
    let chain = store.chain().await;
    assert_eq!(names(&chain), ["ada", "-"]);
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

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_at_once_on_a_real_disk_are_all_recorded_and_some_together() {
    let dir = tempfile::tempdir().unwrap();
    let disk = Arc::new(crate::env::FileDisk::open(dir.path()).unwrap());
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
