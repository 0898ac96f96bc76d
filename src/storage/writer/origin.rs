//! Whose changes a store makes, and when it may: as the origin it had where it can prove that it is
//! the store that ran last and every peer has been heard, else as a new one. It never goes back to
//! one that it left.

use rand::Rng as _;
use redb::ReadTransaction;

use super::{Command, Writer, io_error};
use crate::config::document::{Actor, is_reserved};
use crate::model::Origin;
use crate::planted::{Bug, is_planted};
use crate::storage::database::FILE;
use crate::storage::error::StoreError;
use crate::storage::mark::{self, Mark};
use crate::storage::meta;

impl Writer {
    /// Goes on as the store's origin where the high-water mark proves that nothing is missing,
    /// else as a new one; and says so beside the store before anything is acknowledged.
    pub(super) fn choose_origin(&mut self, tx: &ReadTransaction) -> Result<(), StoreError> {
        let identity = self.disk.identity(FILE).map_err(io_error)?;
        let boot = self.disk.machine_boot();
        self.mark_of = (identity.unwrap_or_default(), boot.unwrap_or_default());
        self.stored_origin = meta::KEY_ORIGIN.get(tx)?;
        let origin = match self.stored_origin {
            Some(stored) => stored,
            None => self.draw_origin(),
        };
        self.actor = Actor { origin, incarnation: self.entropy.random() };
        let mark = self.disk.read(mark::FILE).map_err(io_error)?;
        let mark = mark.as_deref().and_then(mark::Mark::decode);
        if self.stored_origin.is_none()
            && self.settings.peers == 0
            && mark.as_ref().is_some_and(|mark| mark.n > 0)
        {
            return Err(StoreError::damaged("the high-water mark says that there was a store"));
        }
        if self.stored_origin.is_none() || is_planted(Bug::ReuseOrigin) {
            self.fresh = Some(origin);
        } else {
            if let Err(why) = mark::is_the_same(mark.as_ref(), &self.mark(false)) {
                self.renew_origin(&why);
            }
        }
        let now = self.mark(false);
        if mark.as_ref() == Some(&now) {
            return Ok(());
        }
        self.disk.write(mark::FILE, &now.encode(), true).map_err(io_error)
    }

    /// Takes note of what peers have seen of this node, before anything is decided on it.
    pub(super) fn hear_witnesses(&mut self, commands: &[Command]) {
        for command in commands {
            let Command::Witnessed { by, dot } = command else { continue };
            if dot.origin != self.actor.origin || is_planted(Bug::ReuseOrigin) {
                continue;
            }
            if dot.n > self.state.vector.get(dot.origin) {
                self.renew_origin(&"a peer has seen more of it than it has");
            } else if self.fresh != Some(dot.origin) {
                self.confirmed_by.insert(by.clone());
                self.confirm();
            }
        }
    }

    /// Every peer has said it: then it stays so, and who it was need not be remembered. Members come
    /// and go under ever new names.
    fn confirm(&mut self) {
        if self.confirmed_by.len() >= self.settings.peers {
            self.fresh = Some(self.actor.origin);
            self.confirmed_by.clear();
        }
    }

    /// Whether this node may make changes as its origin: drawn by this process, or every peer has
    /// said that it knows no more of it than is here.
    pub(super) fn is_confirmed(&self) -> bool {
        self.fresh == Some(self.actor.origin) || self.settings.peers == 0
    }

    /// Makes changes as a new origin from now on.
    pub(super) fn renew_origin(&mut self, why: &dyn std::fmt::Display) {
        let old = self.actor.origin;
        let origin = self.draw_origin();
        self.actor = Actor { origin, incarnation: self.entropy.random() };
        self.fresh = Some(self.actor.origin);
        self.confirmed_by.clear();
        tracing::warn!(%old, new = %self.actor.origin, %why, "the store takes a new origin");
    }

    /// A new origin; none that begins as the actors of bases do.
    fn draw_origin(&mut self) -> Origin {
        loop {
            let origin: [u8; 8] = self.entropy.random();
            if !is_reserved(&origin) {
                return Origin(origin);
            }
        }
    }

    /// Says beside the store how far its origin got.
    pub(super) fn write_mark(&self, clean: bool) -> Result<(), StoreError> {
        let mark = self.mark(clean).encode();
        self.disk.write(mark::FILE, &mark, clean).map_err(io_error)
    }

    pub(super) fn mark(&self, clean: bool) -> Mark {
        let (store, boot) = self.mark_of.clone();
        let n = self.state.vector.get(self.actor.origin);
        Mark { origin: self.actor.origin, n, store, boot, clean, next: None }
    }
}
