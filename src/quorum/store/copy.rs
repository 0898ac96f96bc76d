//! What a backup takes of `quorum.redb`, and what its manifest says of the store. Sealed values stay
//! sealed: nothing here has a key.

use redb::{ReadTransaction, WriteTransaction};

use super::tables;
pub(crate) use super::tables::LAYOUT;
use crate::audit::Head;
use crate::model::NodeName;
use crate::quorum::types::Coded;
use crate::storage::StoreError;
use crate::storage::copy::RawTable;
use crate::storage::meta::META;

/// The tables of `quorum.redb`.
pub(crate) static TABLES: [&dyn RawTable; 4] =
    [&META, &tables::LOG, &tables::STATE, &tables::AUDIT];

/// What a store says of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Facts {
    pub(crate) format: u32,
    pub(crate) cluster: String,
    pub(crate) node: String,
    /// Up to which index its log is applied.
    pub(crate) applied: u64,
    /// Up to which index its log reaches.
    pub(crate) last_log: u64,
    /// The generations of the master key that are in use, with what a key is checked by.
    pub(crate) generations: Vec<(u32, [u8; 32])>,
    pub(crate) audit: Head,
}

/// What the store says of itself; nothing where it was never used.
pub(crate) fn facts(tx: &ReadTransaction) -> Result<Option<Facts>, StoreError> {
    let Some(format) = tables::KEY_FORMAT.get(tx)? else { return Ok(None) };
    let applied = tables::KEY_APPLIED.get(tx)?.map(|Coded(id)| id);
    let last = tables::read_bounds(tx)?.map(|(_, last)| last).max(applied);
    let state = tables::read_state(tx, applied)?;
    let generations = state.generations.values().map(|it| (it.number, it.check)).collect();
    Ok(Some(Facts {
        format,
        cluster: tables::KEY_CLUSTER.get(tx)?.unwrap_or_default(),
        node: tables::KEY_NODE.get(tx)?.unwrap_or_default(),
        applied: applied.map_or(0, |id| id.index),
        last_log: last.map_or(0, |id| id.index),
        generations,
        audit: tables::KEY_HEAD.get(tx)?.unwrap_or_default(),
    }))
}

/// Says whose the store is from now on.
pub(crate) fn set_node(tx: &WriteTransaction, node: &NodeName) -> Result<(), StoreError> {
    tables::KEY_NODE.put(tx, &node.to_string())
}
