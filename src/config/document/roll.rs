//! A document's way into its next epoch: the state at the floor, what of it goes on, and the bytes
//! that everyone comes to. Nothing is agreed on here, and nothing is stored.

use std::sync::Arc;

use sha2::{Digest as _, Sha256};

use super::late::base_actor;
use super::undo::Undone;
use super::{
    BUCKETS, CheckedChange, Document, DocumentError, GENESIS, LastChange, OpId, SavedDocument,
    Sibling, encode,
};
use crate::config::record::Record;
use crate::config::roll::{BaseHash, Roll};
use crate::config::view::Rolled;
use crate::config::waiting::in_causal_order;
use crate::model::vector::Fold;
use crate::model::{DocumentId, Dot, Folds, Key, Stamp, Told, Vector, cbor};
use crate::planted::{Bug, is_planted};

/// What a document was made from, where it has to be made again.
pub trait Past {
    /// Why it could not be read.
    type Error: From<DocumentError>;

    /// The folds that floors are read by: all that the document's own changes include, at least.
    fn folds(&self) -> Arc<Folds>;

    /// The document as its epoch began, which is not epoch 0.
    fn base(&mut self) -> Result<SavedDocument, Self::Error>;

    /// All changes of epoch 0 of the document, but for rolls.
    fn dots(&mut self) -> Result<Vec<Dot>, Self::Error>;

    /// A change that the document holds, as it was made.
    fn record(&mut self, dot: Dot) -> Result<Record, Self::Error>;

    /// Whether all of these changes can be had.
    fn has_all(&mut self, dots: &[Dot]) -> Result<bool, Self::Error>;
}

/// What became of a roll.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Rolling {
    /// The document was there already.
    Known,
    /// The document is in the next epoch.
    Began {
        /// Keys that the base does not hold any more. Late changes may have set them again.
        dropped: Vec<Key>,
    },
}

/// What a base is, beside the bytes of its changes.
#[derive(minicbor::Encode)]
#[cbor(map)]
struct Hashed<'a> {
    #[n(0)]
    document: &'a str,
    #[n(1)]
    epoch: u32,
    #[n(2)]
    floor: &'a Told,
    #[n(3)]
    version_floor: u64,
    #[n(4)]
    pruned: &'a Told,
    #[n(5)]
    changes: u64,
}

/// Where an epoch begins.
struct Beginning<'a> {
    document: &'a DocumentId,
    epoch: u32,
    floor: &'a Told,
    folds: &'a Arc<Folds>,
    fold: Option<&'a Fold>,
    removals_before: Stamp,
    record: Dot,
}

/// The changes of an epoch that ends, by whether its floor includes them.
#[derive(Default)]
struct Parted {
    below: Vec<Dot>,
    late: Vec<Dot>,
}

/// A document as an epoch begins.
struct Begun {
    document: Document,
    base: BaseHash,
    dropped: Vec<Key>,
}

impl Document {
    /// Which epoch it is in.
    pub fn epoch(&self) -> u32 {
        self.rolled.as_ref().map_or(0, |rolled| rolled.roll.epoch)
    }

    /// How its epoch began.
    pub fn rolled(&self) -> Option<&Arc<Rolled>> {
        self.rolled.as_ref()
    }

    /// How many changes of its epoch it holds, late ones among them.
    pub fn changes_in_epoch(&self) -> u64 {
        if self.has_dots {
            return self.by_dot.len() as u64;
        }
        // In epoch 0, where nothing but the genesis change has no dot.
        self.changes.len() as u64 - 1
    }

    /// The changes of its epoch that it holds, late ones among them; nothing where that is not known,
    /// because it was loaded from what earlier programs saved.
    pub fn dots_held(&self) -> Option<impl ExactSizeIterator<Item = Dot> + '_> {
        self.has_dots.then(|| self.by_dot.keys().copied())
    }

    /// The document as its epoch began, to be kept as [`Document::save`]'s is, until it is.
    pub fn epoch_base(&self) -> Option<&Arc<[u8]>> {
        self.epoch_base.as_ref()
    }

    /// Takes note that this, which [`Document::epoch_base`] gave, is kept now.
    pub fn keep_epoch_base(&mut self, kept: &Arc<[u8]>) {
        self.epoch_base.take_if(|base| Arc::ptr_eq(base, kept));
    }

    /// Takes the document `id` to its next epoch, by `record`, which says `roll`. After an error,
    /// the document is as it was.
    pub fn roll<P: Past>(
        &mut self,
        id: &DocumentId,
        roll: &Roll,
        record: Dot,
        past: &mut P,
    ) -> Result<Rolling, P::Error> {
        if let Some(rolled) = &self.rolled
            && roll.epoch <= rolled.roll.epoch
        {
            // Of one before the current one no more is known than that it was.
            if roll.epoch == rolled.roll.epoch && *roll != rolled.roll {
                return Err(DocumentError::OtherRoll(roll.epoch).into());
            }
            return Ok(Rolling::Known);
        }
        self.folds = past.folds();
        let floor = roll.floor.read(&self.folds);
        self.check_next(roll.epoch, &floor)?;
        let beginning = Beginning {
            document: id,
            epoch: roll.epoch,
            floor: &roll.floor,
            folds: &past.folds(),
            fold: roll.fold.as_ref(),
            removals_before: roll.removals_before,
            record,
        };
        let parts = self.parted(&floor, past)?;
        let late = self.changes_of(&parts.late, past)?;
        // Tests look at what comes of it whatever it costs.
        let changes_max = if cfg!(test) { usize::MAX } else { parts.below.len() / 2 };
        // Whoever loads the document may have to make it from all of them.
        let undone = match past.has_all(&parts.below)? {
            true => self.undone(&floor, &late, changes_max, past)?,
            false => None,
        };
        let mut begun = undone.as_ref().map(|undone| self.begin(&beginning, undone));
        // Where nothing is late, there is no other way to make it.
        let is_it = |begun: &Begun| begun.base == roll.base || late.is_empty();
        if !begun.as_ref().is_some_and(is_it) {
            let anew = self.begin_next(&beginning, &parts, past)?;
            if begun.is_some() && anew.base == roll.base {
                debug_assert!(false, "what was undone is not what was there");
                tracing::warn!(document = %id, epoch = roll.epoch, "an epoch's base was made twice");
            }
            begun = Some(anew);
        }
        let agreed = begun.filter(|begun| begun.base == roll.base);
        let Begun { mut document, dropped, .. } =
            agreed.ok_or(DocumentError::Mismatch(roll.epoch))?;
        for change in &late {
            document.apply([change])?;
        }
        *self = document;
        Ok(Rolling::Began { dropped })
    }

    /// What the base of the next epoch would come to at `floor`; and how many changes would be late.
    pub fn plan_roll<P: Past>(
        &self,
        id: &DocumentId,
        floor: &Told,
        removals_before: Stamp,
        past: &mut P,
    ) -> Result<(BaseHash, u64), P::Error> {
        let epoch = self.epoch().saturating_add(1);
        let folds = &past.folds();
        let at = floor.read(folds);
        self.check_next(epoch, &at)?;
        // Whoever has what the floor includes is then in the epoch that ends. Where it came there by
        // another record of the same roll, it does not need this one.
        if self.rolled.as_ref().is_some_and(|rolled| !at.includes(rolled.record)) {
            return Err(DocumentError::Roll("its floor does not include the roll before").into());
        }
        let record = Dot { origin: crate::model::Origin([0; 8]), n: 0 };
        let fold = None;
        let beginning =
            Beginning { document: id, epoch, floor, folds, fold, removals_before, record };
        let parts = self.parted(&at, past)?;
        let begun = self.begin_next(&beginning, &parts, past)?;
        Ok((begun.base, parts.late.len() as u64))
    }

    fn check_next(&self, epoch: u32, floor: &Vector) -> Result<(), DocumentError> {
        if epoch.checked_sub(1) != Some(self.epoch()) {
            return Err(DocumentError::Roll("there is an epoch between"));
        }
        if let Some(rolled) = &self.rolled
            && !floor.covers_told(&rolled.roll.floor)
        {
            return Err(DocumentError::Roll("its floor goes back before the roll before"));
        }
        Ok(())
    }

    /// Its changes, as a floor parts them. They are not looked up where none is late.
    fn parted<P: Past>(&self, floor: &Vector, past: &mut P) -> Result<Parted, P::Error> {
        // A floor is closed under what changes build on, and everything is below a head.
        if self.heads.values().all(|dot| floor.includes(*dot)) {
            return Ok(Parted::default());
        }
        let (below, late) = self.dots(past)?.into_iter().partition(|dot| floor.includes(*dot));
        Ok(Parted { below, late })
    }

    /// All changes of its epoch. Where the document does not know them itself, the log has to have
    /// each: it has not where some came with the whole document.
    fn dots<P: Past>(&self, past: &mut P) -> Result<Vec<Dot>, P::Error> {
        if self.has_dots {
            return Ok(self.by_dot.keys().copied().collect());
        }
        let dots = past.dots()?;
        let missing = self.changes_in_epoch().saturating_sub(dots.len() as u64);
        match self.heads.values().next() {
            Some(head) if missing > 0 => Err(DocumentError::Trimmed(*head).into()),
            _ => Ok(dots),
        }
    }

    /// The next epoch's document, without late changes.
    fn begin_next<P: Past>(
        &self,
        beginning: &Beginning<'_>,
        parts: &Parted,
        past: &mut P,
    ) -> Result<Begun, P::Error> {
        let mut at_floor = match parts.late.is_empty() {
            true => return Ok(self.begin(beginning, &Undone::new())),
            false => self.as_epoch_began(past)?,
        };
        for change in &self.changes_of(&parts.below, past)? {
            at_floor.apply([change])?;
        }
        Ok(at_floor.begin(beginning, &Undone::new()))
    }

    /// The document as its epoch began.
    pub(super) fn as_epoch_began<P: Past>(&self, past: &mut P) -> Result<Self, P::Error> {
        let saved = match (&self.epoch_base, self.epoch()) {
            (_, 0) => return Ok(Self::new()),
            (Some(bytes), _) => {
                cbor::decode(bytes).map_err(|e| DocumentError::Refused(e.to_string()))?
            }
            (None, _) => past.base()?,
        };
        Ok(Self::load(saved, &past.folds())?)
    }

    /// These changes, each after what it builds on.
    fn changes_of<P: Past>(
        &self,
        dots: &[Dot],
        past: &mut P,
    ) -> Result<Vec<CheckedChange>, P::Error> {
        let records: Result<Vec<Record>, P::Error> =
            dots.iter().map(|dot| past.record(*dot)).collect();
        let records = in_causal_order(records?, &self.folds);
        let changes: Result<_, DocumentError> =
            records.iter().map(CheckedChange::of_record).collect();
        Ok(changes?)
    }

    /// The next epoch's document, where all that is here is at the floor but for what is `undone`.
    fn begin(&self, beginning: &Beginning<'_>, undone: &Undone) -> Begun {
        let (mut version_floor, mut pruned) = match &self.rolled {
            Some(rolled) => (rolled.version_floor, rolled.pruned.clone()),
            None => (0, Told::new()),
        };
        let mut dropped = Vec::new();
        // Each key's siblings by dot: those of one rank make one change.
        let mut ranks: Vec<Vec<(&Key, &Sibling)>> = Vec::new();
        for (key, now) in &self.rows {
            let siblings = undone.get(key).unwrap_or(now);
            if siblings.is_empty() {
                continue;
            }
            let is_old =
                |it: &Sibling| it.entry.is_removal() && it.entry.stamp < beginning.removals_before;
            if siblings.iter().all(is_old) {
                for Sibling { entry, .. } in siblings {
                    version_floor = version_floor.max(entry.version);
                    pruned.advance(entry.dot);
                }
                dropped.push(key.clone());
                continue;
            }
            let mut siblings: Vec<&Sibling> = siblings.iter().collect();
            if is_planted(Bug::BaseForgetsConflicts) {
                siblings.sort_by(|a, b| a.entry.precedence(&b.entry));
                siblings.truncate(1);
            }
            siblings.sort_by_key(|sibling| sibling.entry.dot);
            ranks.resize_with(ranks.len().max(siblings.len()), Vec::new);
            for (rank, sibling) in ranks.iter_mut().zip(siblings) {
                rank.push((key, sibling));
            }
        }
        // What is folded stands for its removals.
        pruned.fold(beginning.folds, beginning.floor.generation());
        let mut document = Self::new();
        document.folds = beginning.folds.clone();
        let name = beginning.document.to_string();
        let mut hasher = Sha256::new();
        hasher.update(cbor::encode(&Hashed {
            document: &name,
            epoch: beginning.epoch,
            floor: beginning.floor,
            version_floor,
            pruned: &pruned,
            changes: ranks.len() as u64,
        }));
        for (rank, actor) in ranks.iter().zip(0..) {
            let actor = base_actor(beginning.epoch, actor);
            let bytes = document.begin_rank(actor, rank, beginning.record, self.epoch() == 0);
            hasher.update((bytes.len() as u64).to_be_bytes());
            hasher.update(&bytes);
        }
        let base: BaseHash = hasher.finalize().into();
        let (epoch, floor) = (beginning.epoch, beginning.floor.clone());
        let (removals_before, fold) = (beginning.removals_before, beginning.fold.cloned());
        let roll = Roll { epoch, floor, base, removals_before, fold };
        let record = beginning.record;
        document.rolled = Some(Arc::new(Rolled { roll, record, version_floor, pruned }));
        document.keys_bytes = document.measure_keys();
        document.epoch_base = Some(cbor::encode(&document.save()).into());
        Begun { document, base, dropped }
    }

    /// Adds one change of a base, and gives its bytes.
    fn begin_rank(
        &mut self,
        actor: [u8; 12],
        rank: &[(&Key, &Sibling)],
        record: Dot,
        is_from_epoch_0: bool,
    ) -> Vec<u8> {
        let start_op = BUCKETS as u64 + 1;
        let operations: Vec<encode::Operation<'_>> = rank
            .iter()
            .map(|(key, sibling)| encode::Operation {
                key,
                entry: &sibling.entry,
                replaced: Vec::new(),
            })
            .collect();
        let deps = [*GENESIS];
        let draft = encode::Draft { actor, seq: 1, start_op, deps: &deps, operations: &operations };
        let (hash, bytes) = encode::change(&draft);
        #[cfg(test)]
        self.trace.push(bytes.clone());
        let max_op = BUCKETS as u64 + rank.len() as u64;
        for ((key, sibling), number) in rank.iter().zip(start_op..) {
            let was = if is_from_epoch_0 { Some(sibling.op) } else { sibling.was };
            let op = OpId { number, actor };
            let siblings = self.rows.entry((*key).clone()).or_default();
            siblings.push(Sibling { op, was, entry: sibling.entry.clone() });
        }
        self.heads.insert(hash, record);
        self.changes.insert(hash, max_op);
        self.actors.insert(actor, LastChange { seq: 1, hash, max_op });
        self.max_op = self.max_op.max(max_op);
        bytes
    }
}
