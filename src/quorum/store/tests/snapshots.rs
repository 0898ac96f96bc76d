//! Snapshots: built, installed, and cut off in the middle.

use super::failing::FailingDisk;
use super::*;

fn entries() -> Vec<Entry> {
    let roles = (3..100).map(|i| role(1, i, &format!("role-{i}")));
    [members(1, 1, &[1]), founding(1, 2)].into_iter().chain(roles).collect()
}

/// A state with these entries applied, as it is sent: row by row.
async fn snapshot_of(entries: Vec<Entry>) -> (SnapshotMeta, State, Vec<crate::registry::Row>) {
    let mut store = open_on(&MemoryDisk::new()).await;
    store.append(entries.clone()).await;
    store.apply(entries).await;
    let mut builder = store.machine.get_snapshot_builder().await;
    // What is applied later is not in it.
    store.append(vec![role(1, 100, "late")]).await;
    store.apply(vec![role(1, 100, "late")]).await;
    let snapshot = builder.build_snapshot().await.unwrap();
    let rows: Vec<_> = snapshot.snapshot.rows().collect();
    let mut state = State::default();
    rows.iter().for_each(|row| state.insert(row).unwrap());
    (snapshot.meta, state, rows)
}

/// A store with other roles than the snapshot has.
async fn behind(disk: &(impl Disk + Clone)) -> Store {
    let mut store = open_on(disk).await;
    let entries = vec![founding(1, 1), role(1, 2, "mine"), role(1, 3, "role-3")];
    store.append(entries.clone()).await;
    store.apply(entries).await;
    settle().await;
    store
}

#[tokio::test(start_paused = true)]
async fn an_installed_snapshot_replaces_the_state_and_survives() {
    let (meta, state, rows) = snapshot_of(entries()).await;
    assert_eq!(meta.last_log_id, Some(log_id(1, 99)));
    let disk = MemoryDisk::new();
    let mut store = behind(&disk).await;
    store.machine.install_snapshot(&meta, state).await.unwrap();
    assert_eq!(store.rows(), rows);
    assert_eq!(*store.handle.applied().borrow(), 99);
    let current = store.machine.get_current_snapshot().await.unwrap().unwrap();
    assert_eq!(current.meta, meta);
    store.log.purge(log_id(1, 99)).await.unwrap();
    store.append(vec![role(1, 100, "after")]).await;

    let mut store = open_on(&disk.crash(CrashMode::LoseUnsynced)).await;
    assert_eq!(store.rows(), rows);
    assert_eq!(store.state().index, 99);
    let (applied, membership) = store.machine.applied_state().await.unwrap();
    assert_eq!((applied, membership), (meta.last_log_id, meta.last_membership));
    assert_eq!(store.entries().await, [role(1, 100, "after")]);
}

#[tokio::test(start_paused = true)]
async fn a_crash_in_the_middle_of_installing_leaves_the_old_state_or_the_new_one() {
    let (meta, state, rows) = snapshot_of(entries()).await;
    for writes in 0.. {
        let failing = FailingDisk::new(MemoryDisk::new());
        let mut store = behind(&failing).await;
        let old = store.rows();
        failing.fail_after(writes);
        let installed = store.machine.install_snapshot(&meta, state.clone()).await;
        for mode in [CrashMode::KeepUnsynced, CrashMode::TearUnsynced(writes)] {
            let store = open_on(&failing.inner.crash(mode)).await;
            assert!(!store.handle.identity().is_new(), "{writes} {mode:?}");
            let is_new = store.rows() == rows && store.state().index == 99;
            let is_old = store.rows() == old && store.state().index == 3;
            assert!(is_new || is_old, "{writes} {mode:?}");
            assert!(is_new || installed.is_err(), "{writes} {mode:?}");
        }
        if installed.is_ok() {
            assert!(writes > 5, "it failed in the middle, too");
            break;
        }
    }
}
