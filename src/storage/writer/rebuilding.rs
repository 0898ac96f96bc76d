//! Rebuilding the store's file behind the writes; see `storage::rebuild`. Whatever goes wrong with it,
//! the store goes on in the file it has.

use redb::WriteTransaction;

use super::Writer;
use crate::storage::copy::TABLES;
use crate::storage::database::caught;
use crate::storage::error::StoreError;
use crate::storage::mark;
use crate::storage::rebuild::{Measure, Rebuild};

impl Writer {
    /// Looks how much of the file is live.
    pub(crate) fn measure(&self) -> Measure {
        Measure::new(self.database.clone(), &TABLES)
    }

    /// Begins to rebuild the file, in which `live_bytes` are live, unless that is under way.
    pub fn begin_rebuild(&mut self, live_bytes: u64) {
        if self.rebuild.is_some() || !self.database.is_open() {
            return;
        }
        self.rebuild = Rebuild::begin_where_there_is_room(&self.database, &TABLES, live_bytes);
    }

    /// Whether the file is being rebuilt.
    pub fn is_rebuilding(&self) -> bool {
        self.rebuild.is_some()
    }

    /// Takes the next step; the last one puts the new file into the old one's place.
    pub fn step_rebuild(&mut self) {
        let Some(mut rebuild) = self.rebuild.take() else { return };
        match caught(|| rebuild.step(&self.database)) {
            Ok(false) => self.rebuild = Some(rebuild),
            Ok(true) => self.switch(rebuild),
            Err(error) => rebuild.abandon(&error),
        }
    }

    /// Does to a file that is being made what was just committed.
    pub(super) fn mirror(
        rebuild: &mut Option<Rebuild>,
        put: impl FnOnce(&WriteTransaction) -> Result<(), StoreError>,
    ) {
        let Some(making) = rebuild.take() else { return };
        match caught(|| making.mirror(put)) {
            Ok(()) => *rebuild = Some(making),
            Err(error) => making.abandon(&error),
        }
    }

    /// Gives up a rebuild, if one is under way.
    pub(super) fn give_up_rebuild(&mut self, why: &dyn std::fmt::Display) {
        if let Some(rebuild) = self.rebuild.take() {
            rebuild.abandon(why);
        }
    }

    fn switch(&mut self, rebuild: Rebuild) {
        let mut mark = self.mark(false);
        match rebuild.switch(&self.database, mark::FILE, &mut mark) {
            Ok(()) => self.rebuilt += 1,
            Err(error) => {
                tracing::error!(%error, "the store's file could not be rebuilt");
                if !self.database.is_open() {
                    self.rest(&error);
                }
            }
        }
        self.mark_of.0 = mark.store;
        if let Err(error) = self.note_size() {
            tracing::warn!(%error, "the size of the store is not known");
        }
    }
}
