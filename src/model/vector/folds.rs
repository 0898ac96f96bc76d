//! Folds: what everybody has of origins that nobody writes as any more. A fold is a list of last changes
//! with their records' hashes, decided by the quorum, and numbered; a state that includes the record
//! which carries it includes all that it lists. It is no verdict: an origin that goes on is named again.

use std::sync::Arc;

use imbl::OrdMap;

use super::{Dot, Origin};
use crate::model::cbor;

/// Most origins in one fold: a record carries it.
pub const FOLD_ROWS_MAX: usize = 512;
/// Most origins that are folded: each takes some 100 bytes of memory, on every node.
pub const FOLDED_MAX: usize = 1_000_000;

/// One origin in a fold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FoldRow {
    /// Its last change that everybody has.
    pub dot: Dot,
    /// The hash of that change's record.
    pub hash: [u8; 32],
}

/// What everybody has of some origins.
#[derive(Clone, Debug, PartialEq, Eq, minicbor::Encode, minicbor::Decode)]
#[cbor(map)]
pub struct Fold {
    /// Its number, from 1.
    #[n(0)]
    pub generation: u64,
    #[n(1)]
    rows: Rows,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Rows(Vec<FoldRow>);

/// Why a fold is none, or does not follow those that there are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FoldError {
    /// It lists nothing, too much, or not in order.
    #[error("a fold lists 1 to {FOLD_ROWS_MAX} origins, each once, in their order")]
    Rows,
    /// It has no number, or that of another one.
    #[error("a fold of generation {0} does not follow generation {1}")]
    Generation(u64, u64),
    /// The one of that number says something else.
    #[error("two folds of generation {0} differ")]
    Differs(u64),
    /// An origin would go back.
    #[error("it folds {0} again, and not further")]
    Back(Origin),
    /// There are too many rows already.
    #[error("{FOLDED_MAX} origins are folded already")]
    Full,
}

impl Fold {
    /// A fold of these rows, ascending by origin.
    pub fn new(generation: u64, rows: Vec<FoldRow>) -> Result<Self, FoldError> {
        if generation == 0 {
            return Err(FoldError::Generation(0, 0));
        }
        let is_ordered = rows.is_sorted_by(|a, b| a.dot.origin < b.dot.origin);
        let is_good = |row: &FoldRow| row.dot.n > 0 && row.dot.origin != Origin::FOLDS;
        let has_room = (1..=FOLD_ROWS_MAX).contains(&rows.len());
        if !is_ordered || !has_room || !rows.iter().all(is_good) {
            return Err(FoldError::Rows);
        }
        Ok(Self { generation, rows: Rows(rows) })
    }

    /// What it lists, ascending by origin.
    pub fn rows(&self) -> &[FoldRow] {
        &self.rows.0
    }

    fn row(&self, origin: Origin) -> Option<&FoldRow> {
        let at = self.rows.0.binary_search_by_key(&origin, |row| row.dot.origin).ok()?;
        self.rows.0.get(at)
    }
}

/// The folds that a node knows, from the first on. Clones share what they have in common.
#[derive(Clone, Debug, Default)]
pub struct Folds {
    folds: OrdMap<u64, Arc<Fold>>,
    /// Of each origin, its last change by generation.
    rows: OrdMap<(Origin, u64), u64>,
}

impl Folds {
    /// The number of the last one; 0 where there is none.
    pub fn latest(&self) -> u64 {
        self.folds.get_max().map_or(0, |(generation, _)| *generation)
    }

    /// How many rows there are.
    pub fn len(&self) -> usize {
        self.rows.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.folds.is_empty()
    }

    /// The fold of that number.
    pub fn fold(&self, generation: u64) -> Option<&Arc<Fold>> {
        self.folds.get(&generation)
    }

    /// Up to which change of `origin` is folded by `generation`; 0 where it is not.
    pub fn at(&self, origin: Origin, generation: u64) -> u64 {
        self.row(origin, generation).map_or(0, |(_, n)| n)
    }

    /// Whether an origin's change is folded.
    pub fn includes(&self, dot: Dot) -> bool {
        dot.n <= self.at(dot.origin, u64::MAX)
    }

    /// What is said of an origin by the last fold up to `generation` that names it.
    pub fn last(&self, origin: Origin, generation: u64) -> Option<&FoldRow> {
        let (generation, _) = self.row(origin, generation)?;
        self.folds.get(&generation)?.row(origin)
    }

    fn row(&self, origin: Origin, generation: u64) -> Option<(u64, u64)> {
        let rows = self.rows.range((origin, 0)..=(origin, generation)).next_back();
        rows.map(|((_, generation), n)| (*generation, *n))
    }

    /// All rows of the folds behind `after`, up to `up_to`.
    pub fn between(&self, after: u64, up_to: u64) -> impl Iterator<Item = &FoldRow> {
        let folds = self.folds.range(after.saturating_add(1)..=up_to.max(after.saturating_add(1)));
        folds.filter(move |(g, _)| **g <= up_to).flat_map(|(_, fold)| fold.rows())
    }

    /// These and the next one; the same where it is known.
    pub fn with(&self, fold: &Fold) -> Result<Self, FoldError> {
        self.with_at_most(fold, FOLDED_MAX)
    }

    /// The same, where there may be so many rows in all.
    pub(super) fn with_at_most(&self, fold: &Fold, rows_max: usize) -> Result<Self, FoldError> {
        let latest = self.latest();
        if let Some(known) = self.folds.get(&fold.generation) {
            let differs = FoldError::Differs(fold.generation);
            return if **known == *fold { Ok(self.clone()) } else { Err(differs) };
        }
        if fold.generation != latest + 1 {
            return Err(FoldError::Generation(fold.generation, latest));
        }
        if self.rows.len() + fold.rows().len() > rows_max {
            return Err(FoldError::Full);
        }
        let mut next = self.clone();
        for FoldRow { dot, .. } in fold.rows() {
            if self.includes(*dot) {
                return Err(FoldError::Back(dot.origin));
            }
            next.rows.insert((dot.origin, fold.generation), dot.n);
        }
        next.folds.insert(fold.generation, Arc::new(fold.clone()));
        Ok(next)
    }
}

impl<C> minicbor::Encode<C> for Rows {
    fn encode<W: minicbor::encode::Write>(
        &self,
        e: &mut minicbor::Encoder<W>,
        _: &mut C,
    ) -> Result<(), minicbor::encode::Error<W::Error>> {
        cbor::write_list(e, self.0.iter(), |e, FoldRow { dot, hash }| {
            e.array(3)?.bytes(&dot.origin.0)?.u64(dot.n)?.bytes(hash)?.ok()
        })
    }
}

impl<'b, C> minicbor::Decode<'b, C> for Rows {
    fn decode(d: &mut minicbor::Decoder<'b>, ctx: &mut C) -> Result<Self, minicbor::decode::Error> {
        let bad = |why: &FoldError| minicbor::decode::Error::message(why.to_string());
        let rows = cbor::read_list(d, FOLD_ROWS_MAX, |d| {
            if d.array()? != Some(3) {
                return Err(bad(&FoldError::Rows));
            }
            let (origin, n) = (Origin::decode(d, ctx)?, d.u64()?);
            let hash = d.bytes()?.try_into().map_err(|_| bad(&FoldError::Rows))?;
            Ok(FoldRow { dot: Dot { origin, n }, hash })
        })?;
        // As one that is made here: only its number is not known yet.
        Fold::new(1, rows).map(|fold| fold.rows).map_err(|e| bad(&e))
    }
}
