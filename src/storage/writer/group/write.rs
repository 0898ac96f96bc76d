//! This node's own writes in a group: each is decided, and those that meet share a change of their
//! document. A request that was carried out before is answered as it was.

use std::collections::BTreeSet;
use std::sync::Arc;

use redb::ReadableDatabase as _;

use super::{Abort, Group, Open, Staged};
use crate::config::decide::{Draft, decide};
use crate::config::document::CheckedChange;
use crate::config::record::{NO_RECORD, RECORD_BYTES_MAX, Record};
use crate::config::{Entry, Idempotency, Row, WriteError, WriteRequest, WrittenKey};
use crate::model::{DocumentId, Dot, Stamp};
use crate::storage::error::StoreError;
use crate::storage::writer::Writer;
use crate::storage::{idempotency, log};

/// Most entries in one change, and most bytes of them: past either, the next write starts the next
/// change.
const CHANGE_ENTRIES_MAX: usize = 1_024;
const CHANGE_BYTES_MAX: usize = 1024 * 1024;
/// Most bytes that one request may come to: its change has to fit into a record, with room for
/// what Automerge adds.
const WRITE_BYTES_MAX: usize = RECORD_BYTES_MAX - 1024 * 1024;
/// What an entry takes beside its texts, in bytes, at most; its region's name is a label.
const ENTRY_OVERHEAD: usize = 192;

impl Group {
    pub(super) fn write(
        &mut self,
        writer: &mut Writer,
        now: Stamp,
        request: &WriteRequest,
    ) -> Result<Staged, Abort> {
        if let Some(idempotency) = request.idempotency
            && let Some(staged) = self.retry(writer, now, request, idempotency)?
        {
            return Ok(staged);
        }
        let view = writer.state.view(&request.document);
        let drafts = match decide(request, view, now, writer.limits) {
            Ok(drafts) => drafts,
            Err(error) => return Ok(Staged::WriteFailed(error)),
        };
        if drafts.is_empty() {
            return Ok(Staged::Written { dot: None, keys: Vec::new(), replayed: false });
        }
        let bytes = drafts.iter().map(|draft| entry_bytes(request, draft)).sum();
        if bytes > WRITE_BYTES_MAX {
            let error = WriteError::TooLarge { bytes, bytes_max: WRITE_BYTES_MAX };
            return Ok(Staged::WriteFailed(error));
        }
        let (dot, keys) = self.add(writer, request, drafts, bytes)?;
        self.audited.wrote(now, request, dot, keys.iter().map(|written| &written.key));
        if let Some(idempotency) = request.idempotency {
            self.idempotency.insert(idempotency.key, dot);
            self.carried_out.insert(idempotency.key, (idempotency, self.staged.len()));
        }
        Ok(Staged::Written { dot: Some(dot), keys, replayed: false })
    }

    /// Adds the drafts to the document's open change, as their rows.
    fn add(
        &mut self,
        writer: &mut Writer,
        request: &WriteRequest,
        drafts: Vec<Draft>,
        bytes: usize,
    ) -> Result<(Dot, Vec<WrittenKey>), Abort> {
        let id = &request.document;
        let has_room = self.open.get(id).is_none_or(|open| {
            open.entries.len() + drafts.len() <= CHANGE_ENTRIES_MAX
                && open.bytes + bytes <= CHANGE_BYTES_MAX
                && drafts.iter().all(|draft| !open.keys.contains(&draft.key))
        });
        if !has_room {
            self.close_open(writer)?;
        }
        if !writer.is_confirmed() {
            // Put back as a whole, mark and all, a store looks as if nothing had happened.
            writer.renew_origin(&"a write came before every peer confirmed the old one");
        }
        let mut author = request.author.clone();
        writer.texts.share_text(&mut author);
        let own = writer.actor.origin;
        let next = writer.state.vector.get(own) + self.open.len() as u64 + 1;
        let open = self.open.entry(id.clone()).or_insert_with(|| Open {
            dot: Dot { origin: own, n: next },
            entries: Vec::new(),
            keys: BTreeSet::new(),
            bytes: 0,
        });
        open.bytes += bytes;
        let dot = open.dot;
        let touched = self.touched.entry(id.clone()).or_default();
        let mut keys = Vec::with_capacity(drafts.len());
        for draft in drafts {
            let entry = Entry {
                value: draft.value,
                version: draft.version,
                stamp: draft.stamp,
                dot,
                author: author.clone(),
                region: writer.settings.region.clone(),
                message: request.message.clone(),
                idempotency: request.idempotency.map(Box::new),
            };
            open.entries.push((draft.key.clone(), entry.clone()));
            open.keys.insert(draft.key.clone());
            touched.insert(draft.key.clone());
            let row = Row::new(vec![entry.clone()]);
            let row = Arc::new(row.ok_or_else(|| StoreError::Failed("an empty row".into()))?);
            writer.state.set_row(id, &draft.key, row.clone());
            self.entries.push((id.clone(), draft.key.clone(), entry));
            keys.push(WrittenKey { key: draft.key, row, created: draft.created });
        }
        Ok((dot, keys))
    }

    /// Makes changes and records of what is open, in the order of their numbers.
    pub(super) fn close_open(&mut self, writer: &mut Writer) -> Result<(), Abort> {
        let mut open: Vec<(DocumentId, Open)> =
            std::mem::take(&mut self.open).into_iter().collect();
        open.sort_by_key(|(_, open)| open.dot.n);
        for (id, open) in open {
            let actor = writer.actor;
            let document = writer.document(&id)?;
            let (epoch, needs) = (document.epoch(), document.needs(actor.origin));
            let made = document
                .make(actor, open.dot, &open.entries)
                .map_err(|e| StoreError::Failed(format!("document {id}: {e}")))?;
            let (changes, rolled) = (document.changes_in_epoch(), document.rolled().cloned());
            writer.state.set_epoch(&id, changes, rolled);
            let previous = writer.state.hash_of(actor.origin).unwrap_or(NO_RECORD);
            let replaces = Some(made.replaces);
            let record = Record::with(open.dot, previous, id, epoch, needs, &made.bytes, replaces);
            if record.bytes.len() > RECORD_BYTES_MAX {
                let why = format!("a change of {} bytes cannot be sent", record.bytes.len());
                return Err(StoreError::Failed(why).into());
            }
            writer.state.vector.advance(record.dot);
            writer.state.hashes.insert(record.dot.origin, record.hash);
            self.records.push(record);
        }
        Ok(())
    }

    /// The answer to a request that was carried out before, if it was.
    fn retry(
        &self,
        writer: &Writer,
        now: Stamp,
        request: &WriteRequest,
        idempotency: Idempotency,
    ) -> Result<Option<Staged>, Abort> {
        if let Some((known, index)) = self.carried_out.get(&idempotency.key) {
            if *known != idempotency {
                return Ok(Some(Staged::WriteFailed(WriteError::IdempotencyKeyReused)));
            }
            let Some(Staged::Written { dot, keys, .. }) = self.staged.get(*index) else {
                return Ok(None);
            };
            let keys = keys.clone();
            return Ok(Some(Staged::Written { dot: *dot, keys, replayed: true }));
        }
        let Some(dot) = writer.carried_out(&idempotency.key)? else { return Ok(None) };
        let tx = writer.database.get()?.begin_read().map_err(StoreError::from)?;
        // What was trimmed is older than retries are recognised.
        let Some(record) = log::find(&tx, &writer.state.vector.folds(), dot)? else {
            return Ok(None);
        };
        let change = CheckedChange::decode(&record.change, dot)
            .map_err(|e| StoreError::damaged(format!("log {dot}: {e}")))?;
        let mut keys = Vec::new();
        for (key, entry) in change.entries {
            let known = entry.idempotency.as_deref().copied();
            let Some(known) = known.filter(|known| known.key == idempotency.key) else { continue };
            if entry.stamp.0.saturating_add(idempotency::RETENTION_US) < now.0 {
                return Ok(None);
            }
            if known != idempotency || record.document != request.document {
                return Ok(Some(Staged::WriteFailed(WriteError::IdempotencyKeyReused)));
            }
            // A first version made the key; that is all that is kept of whether it was new.
            let created = entry.version == 1;
            keys.extend(Row::new(vec![entry]).map(|row| WrittenKey {
                key,
                row: Arc::new(row),
                created,
            }));
        }
        Ok((!keys.is_empty()).then_some(Staged::Written { dot: Some(dot), keys, replayed: true }))
    }
}

/// What a draft comes to in a change, in bytes, at most.
fn entry_bytes(request: &WriteRequest, draft: &Draft) -> usize {
    let value = draft.value.as_ref().map_or(0, |value| value.as_str().len());
    let message = request.message.as_ref().map_or(0, |message| message.len());
    draft.key.as_str().len() + value + request.author.len() + message + ENTRY_OVERHEAD
}
