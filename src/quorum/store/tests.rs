use std::collections::{BTreeMap, BTreeSet};
use std::ops::ControlFlow;

use futures_util::stream;
use openraft::alias::LeaderIdOf;
use openraft::async_runtime::Oneshot as _;
use openraft::entry::RaftEntry as _;
use openraft::storage::{IOFlushed, RaftLogStorage as _, RaftStateMachine as _};
use openraft::testing::log::{StoreBuilder, Suite};
use openraft::{EntryPayload, RaftLogReader as _, RaftSnapshotBuilder as _};

use super::*;
use crate::audit::{ChainReader as _, Decision, Event, Head, Source};
use crate::env::{CrashMode, Entropy, MemoryDisk};
use crate::model::Stamp;
use crate::quorum::store::chain::QuorumChain;
use crate::quorum::types::{
    Entry, LogId, Member, Membership, Runtime, SnapshotMeta, TypeConfig, Vote,
};
use crate::registry::{Command, Proposal, State, fixture};

mod crash;
mod durable;
mod failing;
mod format;
mod journal;
mod model;
mod raft;
mod rebuilding;
mod recovery;
mod snapshots;
mod suite;

struct Store {
    log: LogStore,
    machine: StateMachine,
    handle: StoreHandle,
}

fn settings() -> StoreSettings {
    StoreSettings { cluster: "test".into(), node: NodeName::new("eu-1").unwrap(), alone: false }
}

async fn try_open(disk: &(impl Disk + Clone)) -> Result<Store, StoreError> {
    try_open_as(disk, settings()).await
}

/// As the only node there is.
async fn try_open_alone(disk: &(impl Disk + Clone)) -> Result<Store, StoreError> {
    try_open_as(disk, StoreSettings { alone: true, ..settings() }).await
}

async fn try_open_as(
    disk: &(impl Disk + Clone),
    settings: StoreSettings,
) -> Result<Store, StoreError> {
    let entropy = Entropy::system().stream("raft-id");
    let disk = Arc::new(disk.clone());
    let (log, machine, handle) = open(disk, entropy, Blocking::Inline, settings).await?;
    Ok(Store { log, machine, handle })
}

async fn open_on(disk: &(impl Disk + Clone)) -> Store {
    try_open(disk).await.unwrap()
}

fn log_id(term: u64, index: u64) -> LogId {
    LogId { leader_id: LeaderIdOf::<TypeConfig> { term, node_id: 1 }, index }
}

fn blank(term: u64, index: u64) -> Entry {
    Entry::new_blank(log_id(term, index))
}

fn proposal(term: u64, index: u64, proposal: Proposal) -> Entry {
    Entry { log_id: log_id(term, index), payload: EntryPayload::Normal(proposal) }
}

/// An entry that changes the state, with a role of this name.
fn role(term: u64, index: u64, name: &str) -> Entry {
    let id = crate::model::Id::from_u128(u128::from(index) << 64);
    let command = Command::CreateRole {
        id,
        name: crate::model::RoleName::new(name).unwrap(),
        grants: vec![],
    };
    proposal(term, index, fixture::proposal(Some(fixture::admin()), command))
}

fn founding(term: u64, index: u64) -> Entry {
    proposal(term, index, fixture::proposal(None, Command::Found(Box::new(fixture::founding()))))
}

fn members(term: u64, index: u64, voters: &[RaftId]) -> Entry {
    let voters: BTreeSet<RaftId> = voters.iter().copied().collect();
    let membership = Membership::new_with_defaults(vec![voters], []);
    Entry { log_id: log_id(term, index), payload: EntryPayload::Membership(membership) }
}

fn event(name: &str) -> Event {
    Event {
        at: Stamp(7),
        principal: name.into(),
        action: "secret.reveal".into(),
        target: "a".into(),
        decision: Decision::Allowed("operator".into()),
        outcome: "done".into(),
        source: Source { node: "eu-1".into(), address: None, request: "r".into() },
        count: 1,
        index: None,
    }
}

type Flushed =
    <<Runtime as openraft::AsyncRuntime>::Oneshot as openraft::async_runtime::Oneshot>::Receiver<
        Result<(), std::io::Error>,
    >;

impl Store {
    /// Queues an append; gives what becomes of it.
    async fn queue(&mut self, entries: Vec<Entry>) -> Flushed {
        let (sender, receiver) = <Runtime as openraft::AsyncRuntime>::Oneshot::channel();
        self.log.append(entries, IOFlushed::signal(sender)).await.unwrap();
        receiver
    }

    async fn append(&mut self, entries: Vec<Entry>) {
        self.queue(entries).await.await.unwrap().unwrap();
    }

    async fn apply(&mut self, entries: Vec<Entry>) {
        let entries = entries.into_iter().map(|entry| Ok((entry, None)));
        self.machine.apply(stream::iter(entries)).await.unwrap();
    }

    async fn entries(&mut self) -> Vec<Entry> {
        self.log.get_log_reader().await.try_get_log_entries(..).await.unwrap()
    }

    /// The whole chain, each record checked against the one before.
    async fn chain(&self) -> Vec<Event> {
        follow(&self.handle.chain())
    }

    fn state(&self) -> Arc<State> {
        self.handle.published().load_full()
    }

    fn rows(&self) -> Vec<crate::registry::Row> {
        self.state().rows().collect()
    }
}

/// The events of a chain, up to where it says that it ends.
fn follow(chain: &QuorumChain) -> Vec<Event> {
    let mut head = Head::default();
    let mut events = Vec::new();
    let mut visit = |bytes: &[u8]| {
        events.push(head.follow(bytes).unwrap().event);
        ControlFlow::Continue(())
    };
    chain.walk(1, &mut visit).unwrap();
    assert_eq!(chain.head().unwrap(), head);
    events
}

/// Lets everything that is queued be written.
async fn settle() {
    tokio::time::sleep(std::time::Duration::from_millis(60)).await;
}
