//! The way out where a majority is lost for good: this store alone goes on, as the only voter,
//! under a new id. What its log has is taken for decided, whether it was or not; what only the
//! lost stores had is gone. The old members must never come back: they do not know, and would
//! decide without this one.
//!
//! Offline: the store is closed before and after.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use openraft::EntryPayload;
use redb::ReadableDatabase as _;

use super::identity::{io_error, new_mark};
use super::journal::{self, Journal, Numbered};
use super::machine::{Batch, Working};
use super::tables::{self, LAYOUT, Mark};
use super::{StoreSettings, draw_id, identity, writer};
use crate::audit::{Decision, Event, Head, Source};
use crate::env::{Disk, Stream};
use crate::model::{RegionName, Stamp};
use crate::quorum::types::{Coded, Entry, LogId, Member, Membership, RaftId, Vote};
use crate::storage::StoreError;
use crate::storage::database::Database;
use crate::storage::mark::{NotTheSame, is_the_same};

/// How many entries are applied at a time.
const STEP: u64 = 256;

/// What was kept, and what may be lost.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Recovered {
    /// The id under which the store goes on.
    pub(crate) raft_id: RaftId,
    /// The id it had.
    pub(crate) old_raft_id: RaftId,
    /// Everything up to this index is kept, and no more: what was decided behind it is lost.
    pub(crate) kept_until: u64,
    /// Up to this index it was known to be decided. What is behind it, up to `kept_until`, is
    /// taken for decided now, though its proposer may have been told that it is not.
    pub(crate) known_decided_until: u64,
    /// Who was in the quorum, and must not come back with what it had.
    pub(crate) replaced: BTreeMap<RaftId, Member>,
    /// Why the store may be an old copy: then more is lost than the last moments.
    pub(crate) doubt: Option<NotTheSame>,
    /// Why records of the audit log are lost.
    pub(crate) audit_damage: Option<String>,
}

/// Why nothing was recovered. Nothing was changed, unless the disk failed in the middle: then the
/// store is as it was, or recovered.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum RecoverError {
    /// The store cannot be read, or is another's.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// There is no store, or it was never in a quorum.
    #[error("this node's store has nothing to go on from: it was never in a quorum")]
    Nothing,
}

/// Makes the closed store on `disk` the only voter, and says so at `at` on its audit chain.
pub(crate) fn recover(
    disk: &Arc<dyn Disk>,
    entropy: &mut Stream,
    settings: &StoreSettings,
    region: RegionName,
    at: Stamp,
) -> Result<Recovered, RecoverError> {
    if disk.identity(tables::FILE).map_err(io_error)?.is_none() {
        return Err(RecoverError::Nothing);
    }
    let database = Database::open_intact(disk.clone(), &LAYOUT)?;
    let Some(found) = identity::found(&database, &**disk, settings)? else {
        return Err(RecoverError::Nothing);
    };
    let mark = disk.read(tables::MARK).map_err(io_error)?;
    let doubt = is_the_same(mark.as_deref().and_then(Mark::decode).as_ref(), &found).err();
    let recovery = Recovery::read(&database, disk, found.origin)?;
    let raft_id = draw_id(entropy);
    let member = Member { node: settings.node.clone(), region };
    let recovered = Recovered {
        raft_id,
        old_raft_id: found.origin,
        kept_until: recovery.last.index,
        known_decided_until: recovery.known_decided_until,
        replaced: recovery.replaced(),
        doubt,
        audit_damage: recovery.audit_damage.clone(),
    };
    // The mark first, for a store that has had no commit under the new id: should it end here, the
    // next start finds a mark of another store, and takes no part; recovering can be done again.
    let mut mark = new_mark(&**disk, raft_id, 0)?;
    disk.write(tables::MARK, &mark.encode(), true).map_err(io_error)?;
    mark.n = found.n + 1;
    recovery.write(&database, &mark, member, &recovered, at)?;
    // What it had is in the store.
    disk.remove(journal::FILE).map_err(io_error)?;
    mark.clean = true;
    disk.write(tables::MARK, &mark.encode(), true).map_err(io_error)?;
    tracing::error!(
        raft_id,
        kept_until = recovered.kept_until,
        known_decided_until = recovered.known_decided_until,
        "this node decides alone from here on; the members it had must never come back"
    );
    Ok(recovered)
}

/// The store as it is, with its whole log applied.
struct Recovery {
    working: Working,
    batch: Batch,
    /// The log's last entry.
    last: LogId,
    known_decided_until: u64,
    vote: Option<Vote>,
    head: Head,
    /// What the audit journal has that the store does not.
    records: Vec<Numbered>,
    /// What did not hold together in it.
    audit_damage: Option<String>,
}

impl Recovery {
    fn read(
        database: &Database,
        disk: &Arc<dyn Disk>,
        store: RaftId,
    ) -> Result<Self, RecoverError> {
        let tx = database.get()?.begin_read().map_err(StoreError::from)?;
        let mut working = Working::read(&tx)?;
        let applied = working.applied;
        let committed = tables::KEY_COMMITTED.get(&tx)?.map(|Coded(id)| id);
        let last = tables::read_bounds(&tx)?.map(|(_, last)| last).max(applied);
        let last = last.ok_or(RecoverError::Nothing)?;
        let mut batch = Batch::default();
        let mut next = applied.map_or(0, |id| id.index + 1);
        if applied.is_none() {
            next = tables::read_bounds(&tx)?.map_or(0, |(first, _)| first);
        }
        while next <= last.index {
            let end = (next + STEP).min(last.index + 1);
            for entry in tables::read_entries(&tx, next, end, None)? {
                working.apply(entry, &mut batch);
            }
            next = end;
        }
        let head = tables::KEY_HEAD.get(&tx)?.unwrap_or_default();
        let (_, replayed) = Journal::open(disk, store, head)?;
        if working.membership.nodes().next().is_none() {
            return Err(RecoverError::Nothing);
        }
        Ok(Self {
            working,
            batch,
            last,
            known_decided_until: applied.max(committed).map_or(0, |id| id.index),
            vote: tables::KEY_VOTE.get(&tx)?.map(|Coded(vote)| vote),
            head: replayed.head,
            records: replayed.records,
            audit_damage: replayed.damage,
        })
    }

    fn replaced(&self) -> BTreeMap<RaftId, Member> {
        self.working.membership.nodes().map(|(id, member)| (*id, member.clone())).collect()
    }

    /// All at once: one entry more, with the new membership, in a term that nobody had.
    fn write(
        mut self,
        database: &Database,
        mark: &Mark,
        member: Member,
        recovered: &Recovered,
        at: Stamp,
    ) -> Result<(), StoreError> {
        let seen = self.vote.map_or(0, |vote| vote.leader_id.term);
        let term = seen.max(self.last.leader_id.term) + 1;
        let vote = Vote::new(term, mark.origin);
        let upto = LogId { leader_id: vote.leader_id, index: self.last.index + 1 };
        let damaged = self.audit_damage.iter().map(|it| journal::damaged(it, &member.node, at));
        let events: Vec<Event> = damaged.chain([event(&member, recovered, upto, at)]).collect();
        let voters = vec![BTreeSet::from([mark.origin])];
        let membership = Membership::new(voters, BTreeMap::from([(mark.origin, member)]))
            .map_err(|e| StoreError::Failed(e.to_string()))?;
        let entry = Entry { log_id: upto, payload: EntryPayload::Membership(membership) };
        let bytes = tables::write_entry(&entry);
        self.working.apply(entry, &mut self.batch);

        let tx = database.get()?.begin_write()?;
        tx.open_table(tables::LOG)?.insert(upto.index, bytes.as_slice())?;
        writer::put_rows(&tx, self.batch.rows)?;
        writer::put_records(&tx, &self.records, 0)?;
        self.batch.events.extend(events);
        writer::put_events(&tx, self.batch.events, &mut self.head)?;
        tables::KEY_HEAD.put(&tx, &self.head)?;
        tables::KEY_VOTE.put(&tx, &Coded(vote))?;
        tables::KEY_COMMITTED.put(&tx, &Coded(upto))?;
        tables::KEY_APPLIED.put(&tx, &Coded(upto))?;
        tables::KEY_MEMBERSHIP.put(&tx, &Coded(self.working.membership))?;
        tables::KEY_RAFT_ID.put(&tx, &mark.origin)?;
        tables::KEY_COMMITS.put(&tx, &mark.n)?;
        tx.commit()?;
        Ok(())
    }
}

fn event(member: &Member, recovered: &Recovered, upto: LogId, at: Stamp) -> Event {
    let outcome = format!(
        "done: alone from index {} on; kept up to {}, of which {} is known to be decided",
        upto.index, recovered.kept_until, recovered.known_decided_until
    );
    Event {
        at,
        principal: "-".into(),
        action: "quorum.recover".into(),
        target: member.node.as_str().into(),
        decision: Decision::Allowed("whoever has the disk".into()),
        outcome: outcome.as_str().into(),
        source: Source { node: member.node.as_str().into(), address: None, request: "-".into() },
        count: 1,
        index: Some(upto.index),
    }
}
