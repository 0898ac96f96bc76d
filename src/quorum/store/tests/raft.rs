//! openraft itself on the store: a quorum of one, with a network that reaches nobody.

use openraft::errors::{RPCError, ReplicationClosed, StreamingError, Unreachable};
use openraft::network::{RPCOption, RaftNetworkFactory};
use openraft::raft::{
    AppendEntriesRequest, AppendEntriesResponse, SnapshotResponse, VoteRequest, VoteResponse,
};
use openraft::{Config, Raft, RaftNetworkV2};

use super::*;
use crate::quorum::types::Snapshot;

pub(super) struct Nobody;

fn unreachable() -> Unreachable<TypeConfig> {
    Unreachable::new(&std::io::Error::other("nobody is there"))
}

impl RaftNetworkFactory<TypeConfig> for Nobody {
    type Network = Self;

    async fn new_client(&mut self, _: RaftId, _: &Member) -> Self {
        Self
    }
}

impl RaftNetworkV2<TypeConfig> for Nobody {
    type SnapshotData = State;

    async fn append_entries(
        &mut self,
        _: AppendEntriesRequest<TypeConfig>,
        _: RPCOption,
    ) -> Result<AppendEntriesResponse<TypeConfig>, RPCError<TypeConfig>> {
        Err(RPCError::Unreachable(unreachable()))
    }

    async fn vote(
        &mut self,
        _: VoteRequest<TypeConfig>,
        _: RPCOption,
    ) -> Result<VoteResponse<TypeConfig>, RPCError<TypeConfig>> {
        Err(RPCError::Unreachable(unreachable()))
    }

    async fn full_snapshot(
        &mut self,
        _: Vote,
        _: Snapshot<State>,
        _: impl Future<Output = ReplicationClosed> + openraft::OptionalSend + 'static,
        _: RPCOption,
    ) -> Result<SnapshotResponse<TypeConfig>, StreamingError<TypeConfig>> {
        Err(StreamingError::Unreachable(unreachable()))
    }
}

pub(super) type Running = Raft<TypeConfig, StateMachine>;

/// Starts openraft on the store, on its own seeded randomness.
pub(super) async fn start(store: Store) -> (Running, StoreHandle) {
    let config =
        Config { cluster_name: "test".into(), enable_pre_vote: Some(true), ..Config::default() };
    let config = Arc::new(config.validate().unwrap());
    let Store { log, machine, handle } = store;
    let raft = Raft::new(handle.raft_id(), config, Nobody, log, machine).await.unwrap();
    (raft, handle)
}

/// Runs `test` as a simulation would.
pub(super) async fn seeded<F: Future>(test: F) -> F::Output {
    Runtime::scope(7, test).await
}

/// Waits until the store's own node leads.
pub(super) async fn lead(raft: &Running, handle: &StoreHandle) {
    let wait = raft.wait(Some(std::time::Duration::from_secs(30)));
    wait.current_leader(handle.raft_id(), "it elects itself").await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_quorum_of_one_decides_and_goes_on_where_it_was() {
    let disk = MemoryDisk::new();
    let mut rows = Vec::new();
    seeded(async {
        let (raft, handle) = start(open_on(&disk).await).await;
        let alone = BTreeMap::from([(handle.raft_id(), Member::default())]);
        raft.initialize(alone).await.unwrap();
        lead(&raft, &handle).await;
        let found = fixture::proposal(None, Command::Found(Box::new(fixture::founding())));
        let decided = raft.client_write(found).await.unwrap().data;
        assert!(decided.outcome.is_ok(), "{decided:?}");
        let published = handle.published().load_full();
        assert_eq!(published.index, decided.index);
        rows.extend(published.rows());
    })
    .await;
    // Power fails.
    let disk = disk.crash(CrashMode::LoseUnsynced);
    seeded(async {
        let (raft, handle) = start(open_on(&disk).await).await;
        lead(&raft, &handle).await;
        raft.ensure_linearizable(openraft::ReadPolicy::ReadIndex).await.unwrap();
        let found: Vec<_> = handle.published().load_full().rows().collect();
        assert_eq!(found, rows);
        raft.shutdown().await.unwrap();
        handle.close().await.unwrap();
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn proposals_at_the_same_time_share_commits() {
    seeded(async {
        let (raft, handle) = start(open_on(&MemoryDisk::new()).await).await;
        let alone = BTreeMap::from([(handle.raft_id(), Member::default())]);
        raft.initialize(alone).await.unwrap();
        lead(&raft, &handle).await;
        let found = fixture::proposal(None, Command::Found(Box::new(fixture::founding())));
        raft.client_write(found).await.unwrap();
        let before = handle.syncs();
        let writes = (0..64).map(|i| {
            let entry = role(1, 1_000 + i, &format!("role-{i}"));
            let EntryPayload::Normal(proposal) = entry.payload else { unreachable!() };
            raft.client_write(proposal)
        });
        for written in futures_util::future::join_all(writes).await {
            assert!(written.unwrap().data.outcome.is_ok());
        }
        let syncs = handle.syncs() - before;
        assert!(syncs <= 6, "64 proposals took {syncs} commits");
    })
    .await;
}
