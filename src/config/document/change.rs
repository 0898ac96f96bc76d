//! A change as it came from a log or a peer: read by Automerge, and looked through for anything
//! that no node does. Whether it fits a document is told by the document.

use automerge::legacy::{Key as OpKey, ObjectId, OpType};
use automerge::{ActorId, Change, ChangeHash, ScalarValue};

use super::late::is_reserved;
use super::{ActorBytes, DocumentError, GENESIS_ACTOR, OpId, bound, bucket_of};
use crate::config::entry::Entry;
use crate::config::record::Record;
use crate::model::{Dot, Key, cbor};

/// A change that was looked through: it only sets entries, each under its own key and dot.
#[derive(Clone, Debug)]
pub struct CheckedChange {
    pub(super) hash: ChangeHash,
    pub(super) actor: ActorBytes,
    pub(super) seq: u64,
    pub(super) start_op: u64,
    pub(super) deps: Vec<ChangeHash>,
    pub(super) dot: Dot,
    /// What it writes, in the order of its operations.
    pub entries: Vec<(Key, Entry)>,
    /// What each of them replaces.
    pub(super) replaced: Vec<Vec<OpId>>,
    /// Which epoch's bytes these are.
    pub(super) epoch: u32,
    /// Other origins' changes that it builds on.
    pub(super) needs: Vec<Dot>,
    /// Whose entries each of `entries` replaces, where the record says so.
    pub(super) replaces: Option<Vec<Vec<Dot>>>,
}

impl CheckedChange {
    /// Looks through the bytes of a change that claims to be `dot`.
    pub fn decode(bytes: &[u8], dot: Dot) -> Result<Self, DocumentError> {
        let guarded = std::panic::AssertUnwindSafe(|| Self::decode_unguarded(bytes, dot));
        // Automerge's decoder panics on some bytes instead of refusing them.
        std::panic::catch_unwind(guarded)
            .unwrap_or_else(|_| Err(DocumentError::Undecodable("its decoder panicked".into())))
    }

    /// Looks through a record's change, which is no roll.
    pub fn of_record(record: &Record) -> Result<Self, DocumentError> {
        let mut change = Self::decode(&record.change, record.dot)?;
        let own = record.dot;
        match &record.replaces {
            None if record.epoch > 0 => {
                return Err(DocumentError::Illegal("it does not say what it replaces"));
            }
            None => {}
            Some(replaces) => {
                let is_good =
                    |dots: &Vec<Dot>| dots.is_sorted_by(|a, b| a < b) && !dots.contains(&own);
                if replaces.len() != change.entries.len() || !replaces.iter().all(is_good) {
                    return Err(DocumentError::Illegal("it does not say rightly what it replaces"));
                }
                if is_reserved(&change.actor) {
                    return Err(DocumentError::Illegal("its actor is a base's"));
                }
                change.check_keys()?;
            }
        }
        change.epoch = record.epoch;
        change.needs.clone_from(&record.needs);
        change.replaces.clone_from(&record.replaces);
        Ok(change)
    }

    /// Refuses a change that sets a key twice: its dot would name two entries of it.
    pub(super) fn check_keys(&self) -> Result<(), DocumentError> {
        let mut keys: Vec<&Key> = self.entries.iter().map(|(key, _)| key).collect();
        keys.sort_unstable();
        if keys.windows(2).any(|pair| pair[0] == pair[1]) {
            return Err(DocumentError::Illegal("it sets a key twice"));
        }
        Ok(())
    }

    fn decode_unguarded(bytes: &[u8], dot: Dot) -> Result<Self, DocumentError> {
        bound::operations(bytes).map_err(|reason| DocumentError::Undecodable(reason.into()))?;
        let change =
            Change::try_from(bytes).map_err(|e| DocumentError::Undecodable(e.to_string()))?;
        let change = Self::look_through(&change, |_| dot)?;
        if change.actor.starts_with(&dot.origin.0) {
            Ok(change)
        } else {
            Err(DocumentError::Illegal("its actor is not its origin's"))
        }
    }

    /// As [`CheckedChange::decode`], where the change's first entry is believed to say which it is.
    pub(super) fn of_stored(change: &Change) -> Result<Self, DocumentError> {
        Self::look_through(change, |first| first.dot)
    }

    fn look_through(
        change: &Change,
        dot_of: impl FnOnce(&Entry) -> Dot,
    ) -> Result<Self, DocumentError> {
        let actor = actor_bytes(change.actor_id())?;
        let mut entries = Vec::new();
        let mut replaced = Vec::new();
        for op in change.decode().operations {
            let OpKey::Map(name) = op.key else {
                return Err(DocumentError::Illegal("it writes into a list"));
            };
            let OpType::Put(ScalarValue::Bytes(scalar)) = op.action else {
                return Err(DocumentError::Illegal("it does something else than to set an entry"));
            };
            let key = Key::new(&name).map_err(|_| DocumentError::Illegal("bad key"))?;
            let bucket = bucket_of(&key);
            let in_bucket = matches!(&op.obj, ObjectId::Id(id)
                if id.0 == bucket as u64 + 1 && id.1.to_bytes() == GENESIS_ACTOR);
            if !in_bucket {
                return Err(DocumentError::Illegal("a key stands in another bucket than its own"));
            }
            let entry: Entry =
                cbor::decode(&scalar).map_err(|_| DocumentError::Illegal("bad entry"))?;
            let op_id = |id: &automerge::legacy::OpId| {
                Ok(OpId { number: id.counter(), actor: actor_bytes(id.actor())? })
            };
            replaced.push(op.pred.iter().map(op_id).collect::<Result<Vec<OpId>, DocumentError>>()?);
            entries.push((key, entry));
        }
        let (_, first) = entries.first().ok_or(DocumentError::Illegal("it is empty"))?;
        let dot = dot_of(first);
        if entries.iter().any(|(_, entry)| entry.dot != dot || entry.version == 0) {
            return Err(DocumentError::Illegal("an entry names another change"));
        }
        Ok(Self {
            hash: change.hash(),
            actor,
            seq: change.seq(),
            start_op: change.start_op().get(),
            deps: change.deps().to_vec(),
            dot,
            entries,
            replaced,
            epoch: 0,
            needs: Vec::new(),
            replaces: None,
        })
    }
}

fn actor_bytes(actor: &ActorId) -> Result<ActorBytes, DocumentError> {
    actor.to_bytes().try_into().map_err(|_| DocumentError::Illegal("an actor of another length"))
}
