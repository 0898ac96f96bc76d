//! What is in `quorum.redb`. Integers in keys are redb's own, so that they sort as numbers.
//!
//! - `log`: index → [`Entry`]'s CBOR. From its append until it is truncated, or purged once a
//!   snapshot can stand for it.
//! - `state`: [`registry::Row`]'s key → its CBOR. What is applied. Until a decision removes it.
//! - `audit`: number → the chain's record, as [`audit::chain`] writes it. The store's lifetime.
//! - `meta`: name → CBOR. What the store is as a whole. The store's lifetime.
//!
//! [`registry::Row`]: crate::registry::Row
//! [`audit::chain`]: crate::audit::chain

use redb::{ReadTransaction, ReadableTable as _, TableDefinition};

use crate::audit::Head;
use crate::model::{Stamp, cbor};
use crate::quorum::types::{self, Coded, Entry, LogId, RaftId, StoredMembership, Vote};
use crate::registry::{Row, State};
use crate::storage::StoreError;
use crate::storage::database::Layout;
use crate::storage::meta::{Key, META};

/// The file's name in the node's directory.
pub(crate) const FILE: &str = "quorum.redb";

/// The name of its high-water mark.
pub(super) const MARK: &str = "quorum.mark";

/// The format this program writes. A store of a later one is refused at opening.
pub(crate) const FORMAT: u32 = 1;

pub(super) const LOG: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("log");
pub(super) const STATE: TableDefinition<'_, &[u8], &[u8]> = TableDefinition::new("state");
pub(super) const AUDIT: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("audit");

pub(crate) static LAYOUT: Layout = Layout { file: FILE, tables: 4, make_tables };

/// Which format the store has.
pub(super) const KEY_FORMAT: Key<u32> = Key::new("format");
/// Which cluster the store belongs to.
pub(super) const KEY_CLUSTER: Key<String> = Key::new("cluster");
/// Which node the store belongs to.
pub(super) const KEY_NODE: Key<String> = Key::new("node");
/// The store's id in the consensus.
pub(super) const KEY_RAFT_ID: Key<RaftId> = Key::new("raft-id");
/// How many commits the store has had that were on disk when they ended: what tells an old copy.
pub(super) const KEY_COMMITS: Key<u64> = Key::new("commits");
/// Whom it votes for.
pub(super) const KEY_VOTE: Key<Coded<Vote>> = Key::new("vote");
/// Up to where the log was known to be decided.
pub(super) const KEY_COMMITTED: Key<Coded<LogId>> = Key::new("committed");
/// Up to where the log was removed.
pub(super) const KEY_PURGED: Key<Coded<LogId>> = Key::new("purged");
/// Up to where the log is in the state.
pub(super) const KEY_APPLIED: Key<Coded<LogId>> = Key::new("applied");
/// The last membership that is applied.
pub(super) const KEY_MEMBERSHIP: Key<Coded<StoredMembership>> = Key::new("membership");
/// Where the audit chain stands.
pub(super) const KEY_HEAD: Key<Head> = Key::new("audit-head");
/// When the leader was heard last, by this node's clock.
pub(super) const KEY_CONTACT: Key<Stamp> = Key::new("contact");

fn make_tables(tx: &redb::WriteTransaction) -> Result<(), redb::Error> {
    tx.open_table(META)?;
    tx.open_table(LOG)?;
    tx.open_table(STATE)?;
    tx.open_table(AUDIT)?;
    Ok(())
}

/// The entries of the log from `start` on, before `end`: all of them, or, where `bytes_max` is
/// given, the first ones until they are larger than that.
pub(super) fn read_entries(
    tx: &ReadTransaction,
    start: u64,
    end: u64,
    bytes_max: Option<usize>,
) -> Result<Vec<Entry>, StoreError> {
    let mut entries = Vec::new();
    let mut read_bytes = 0;
    let mut expected = start;
    for row in tx.open_table(LOG)?.range(start..end)? {
        let (index, bytes) = row?;
        read_bytes += bytes.value().len();
        if index.value() != expected {
            break;
        }
        if bytes_max.is_some_and(|max| read_bytes > max) && !entries.is_empty() {
            return Ok(entries);
        }
        entries.push(read_entry(expected, bytes.value())?);
        expected += 1;
    }
    if expected < end {
        return Err(StoreError::damaged(format!("entry {expected} of the log is missing")));
    }
    Ok(entries)
}

fn read_entry(index: u64, bytes: &[u8]) -> Result<Entry, StoreError> {
    let entry: Entry = types::decode(bytes)
        .map_err(|e| StoreError::damaged(format!("entry {index} of the log: {e}")))?;
    if entry.log_id.index != index {
        return Err(StoreError::damaged(format!("entry {index} of the log says it is another")));
    }
    Ok(entry)
}

/// The first and the last entry that the log has.
pub(super) fn read_bounds(tx: &ReadTransaction) -> Result<Option<(u64, LogId)>, StoreError> {
    let log = tx.open_table(LOG)?;
    let (Some((first, _)), Some((last, bytes))) = (log.first()?, log.last()?) else {
        return Ok(None);
    };
    Ok(Some((first.value(), read_entry(last.value(), bytes.value())?.log_id)))
}

/// The state, as of the log's entry `applied`.
pub(super) fn read_state(
    tx: &ReadTransaction,
    applied: Option<LogId>,
) -> Result<State, StoreError> {
    let mut state = State::default();
    for row in tx.open_table(STATE)?.iter()? {
        let (key, value) = row?;
        let row = Row { key: key.value().to_vec(), value: Some(value.value().to_vec()) };
        state.insert(&row).map_err(StoreError::damaged)?;
    }
    state.index = applied.map_or(0, |id| id.index);
    Ok(state)
}

/// What a mark's file holds: the id that votes, and how many commits it has had.
pub(super) type Mark = crate::storage::mark::Mark<RaftId>;

/// The encoding of a row of `log`.
pub(super) fn write_entry(entry: &Entry) -> Vec<u8> {
    cbor::encode(&types::Codec::written(entry))
}
