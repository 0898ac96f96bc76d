//! Rebuilding the store's file between the groups; see `storage::rebuild`.

use super::copy::TABLES;
use super::tables;
use super::writer::{Work, Writer};
use crate::audit::Head;
use crate::storage::StoreError;
use crate::storage::database::caught;
use crate::storage::rebuild::Rebuild;

impl Writer {
    /// Begins to rebuild the file, in which `live_bytes` are live, unless that is under way.
    pub(super) fn begin_rebuild(&mut self, live_bytes: u64) {
        if self.rebuild.is_none() && self.shared.failure().is_none() {
            self.rebuild = Rebuild::begin_where_there_is_room(&self.database, &TABLES, live_bytes);
        }
    }

    /// Whether the file is being rebuilt.
    pub(super) fn is_rebuilding(&self) -> bool {
        self.rebuild.is_some()
    }

    /// Takes the next step; the last one puts the new file into the old one's place.
    pub(super) fn step_rebuild(&mut self) {
        let Some(mut rebuild) = self.rebuild.take() else { return };
        match caught(|| rebuild.step(&self.database)) {
            Ok(false) => self.rebuild = Some(rebuild),
            Ok(true) => match rebuild.switch(&self.database, tables::MARK, &mut self.mark) {
                Ok(()) => self.shared.note_rebuilt(),
                Err(error) => {
                    tracing::error!(%error, "the quorum's store could not be rebuilt");
                    if !self.database.is_open() {
                        self.fail(&error);
                    }
                }
            },
            Err(error) => rebuild.abandon(&error),
        }
    }

    /// Does to a file that is being made what was just committed, from the same `end` of the chain on.
    pub(super) fn mirror(&mut self, works: Vec<Work>, end: (Head, u64), is_durable: bool) {
        let Some(making) = self.rebuild.take() else { return };
        let put = |tx: &redb::WriteTransaction| self.put(tx, works, end, is_durable).map(drop);
        let done: Result<(), StoreError> = caught(|| making.mirror(put));
        match done {
            Ok(()) => self.rebuild = Some(making),
            Err(error) => making.abandon(&error),
        }
    }

    /// Gives up a rebuild, if one is under way.
    pub(super) fn give_up_rebuild(&mut self, why: &dyn std::fmt::Display) {
        if let Some(rebuild) = self.rebuild.take() {
            rebuild.abandon(why);
        }
    }
}
