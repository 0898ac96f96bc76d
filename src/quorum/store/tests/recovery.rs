//! Going on alone, where a majority is lost.

use openraft_rt::WatchReceiver as _;

use super::failing::FailingDisk;
use super::*;
use crate::model::RegionName;
use crate::quorum::store::recover::{RecoverError, Recovered};

fn recover_on(disk: &(impl Disk + Clone)) -> Result<Recovered, RecoverError> {
    let disk: Arc<dyn Disk> = Arc::new(disk.clone());
    let mut entropy = Entropy::system().stream("raft-id");
    let region = RegionName::new("eu").unwrap();
    recover::recover(&disk, &mut entropy, &settings(), region, Stamp(99))
}

/// A member of three that was stopped with two entries of which nobody knows whether they were
/// decided.
async fn stopped() -> (MemoryDisk, RaftId) {
    let disk = MemoryDisk::new();
    let mut store = open_on(&disk).await;
    let decided = [founding(1, 2), role(1, 3, "a"), role(1, 4, "b")];
    let entries = [vec![members(1, 0, &[1, 2, 3]), blank(1, 1)], decided.to_vec()].concat();
    store.log.save_vote(&Vote::new(7, 2)).await.unwrap();
    store.append(entries.clone()).await;
    store.append(vec![role(2, 5, "c"), blank(2, 6)]).await;
    store.apply(entries[..4].to_vec()).await;
    store.log.save_committed(Some(log_id(1, 4))).await.unwrap();
    store.handle.close().await.unwrap();
    (disk.snapshot(), store.handle.raft_id())
}

#[tokio::test(start_paused = true)]
async fn a_recovered_store_has_what_was_in_the_journal_alone() {
    let (disk, _) = stopped().await;
    let store = open_on(&disk).await;
    store.handle.record(vec![event("ada")]).await.unwrap();
    let disk = disk.crash(CrashMode::LoseUnsynced);
    let recovered = recover_on(&disk).unwrap();
    assert!(disk.identity("quorum.journal").unwrap().is_none());
    let store = open_on(&disk).await;
    assert_eq!(store.handle.raft_id(), recovered.raft_id);
    let chain = store.chain().await;
    let at = chain.iter().position(|it| *it == event("ada")).unwrap();
    assert_eq!(&*chain.last().unwrap().action, "quorum.recover");
    assert!(at + 1 < chain.len());
}

#[tokio::test(start_paused = true)]
async fn a_recovered_store_says_that_its_journal_was_damaged() {
    let (disk, _) = stopped().await;
    let store = open_on(&disk).await;
    for name in ["ada", "bob", "eve"] {
        store.handle.record(vec![event(name)]).await.unwrap();
    }
    let disk = disk.crash(CrashMode::KeepUnsynced);
    let mut content = disk.read("quorum.journal").unwrap().unwrap();
    content[4_096 + 80] ^= 1;
    disk.write("quorum.journal", &content, false).unwrap();
    let damage = recover_on(&disk).unwrap().audit_damage.unwrap();
    assert!(damage.contains("is missing"), "{damage}");
    assert!(disk.identity("quorum.journal.damaged-1").unwrap().is_some());
    let store = open_on(&disk).await;
    assert_eq!(store.handle.journal_damage(), None, "it is said once");
    let chain = store.chain().await;
    let position = |is: &dyn Fn(&Event) -> bool| chain.iter().position(is);
    let ada = position(&|it| *it == event("ada")).unwrap();
    let damaged = position(&|it| &*it.action == "audit.damaged").unwrap();
    assert!(chain[damaged].outcome.contains(&damage), "{}", chain[damaged].outcome);
    assert!(ada < damaged && damaged + 1 < chain.len());
    assert!(!chain.contains(&event("bob")) && !chain.contains(&event("eve")));
}

#[tokio::test(start_paused = true)]
async fn a_recovered_store_leads_alone_with_everything_its_log_had() {
    let (disk, id) = stopped().await;
    let recovered = recover_on(&disk).unwrap();
    assert_eq!(recovered.old_raft_id, id);
    assert_ne!(recovered.raft_id, id);
    assert_eq!((recovered.kept_until, recovered.known_decided_until), (6, 4));
    assert_eq!(recovered.replaced.keys().copied().collect::<Vec<_>>(), [1, 2, 3]);
    assert_eq!(recovered.doubt, None);

    let store = open_on(&disk).await;
    assert_eq!(*store.handle.identity(), Identity::Kept);
    assert_eq!(store.handle.raft_id(), recovered.raft_id);
    assert_eq!(store.state().index, 7);
    let roles: Vec<String> =
        store.state().rules.roles.values().map(|r| r.name.to_string()).collect();
    for name in ["a", "b", "c"] {
        assert!(roles.iter().any(|role| role == name), "{name} of {roles:?}");
    }
    let chain = store.chain().await;
    let last = chain.last().unwrap();
    assert_eq!((last.action.to_string(), last.at), ("quorum.recover".to_owned(), Stamp(99)));
    raft::seeded(async {
        let (raft, handle) = raft::start(store).await;
        raft::lead(&raft, &handle).await;
        let term = raft.metrics().borrow_watched().current_term;
        assert!(term > 7, "{term}");
        let EntryPayload::Normal(proposal) = role(1, 900, "d").payload else { unreachable!() };
        let written = raft.client_write(proposal).await.unwrap();
        assert!(written.data.outcome.is_ok(), "{:?}", written.data);
        assert!(written.log_id.index > 7);
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_crash_while_recovering_leaves_a_store_that_can_be_recovered() {
    let (stopped, id) = stopped().await;
    for writes in 0.. {
        let failing = FailingDisk::new(stopped.snapshot());
        failing.fail_after(writes);
        let first = recover_on(&failing);
        let disk = failing.inner.crash(CrashMode::TearUnsynced(writes));
        if first.is_err() {
            let again = recover_on(&disk).unwrap();
            assert!(again.raft_id != id && again.kept_until >= 6, "{writes}");
        }
        let store = open_on(&disk).await;
        assert!(!store.handle.identity().is_new(), "{writes}: {}", store.handle.identity());
        assert!(store.state().index >= 7, "{writes}");
        if first.is_ok() {
            assert!(writes > 5, "it failed in the middle, too");
            break;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn an_old_copy_is_recovered_with_doubt() {
    let (disk, _) = stopped().await;
    let recovered = recover_on(&disk.copied()).unwrap();
    assert_eq!(recovered.doubt, Some(crate::storage::mark::NotTheSame::Copy));
}

#[tokio::test(start_paused = true)]
async fn a_store_that_was_never_in_a_quorum_is_left_alone() {
    let disk = MemoryDisk::new();
    assert_eq!(recover_on(&disk), Err(RecoverError::Nothing));
    assert_eq!(disk.identity(tables::FILE).unwrap(), None);
    let store = open_on(&disk).await;
    store.handle.close().await.unwrap();
    assert_eq!(recover_on(&disk), Err(RecoverError::Nothing));
    let (disk, id) = (disk.snapshot(), store.handle.raft_id());
    assert_eq!(open_on(&disk).await.handle.raft_id(), id);
    // One that is open is refused.
    assert!(matches!(recover_on(&disk), Err(RecoverError::Store(_))));
}
