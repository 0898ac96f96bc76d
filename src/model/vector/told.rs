//! A vector as it is said on the wire and on disk: the origins that it names, and its generation as
//! the number of one more ([`Origin::FOLDS`]). What it includes beside these, only who knows the folds
//! can tell.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::{Dot, Folds, Origin, VECTOR_ORIGINS_MAX, Vector};

/// A vector that somebody told, or plain numbers of origins.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Told {
    pub(super) dots: BTreeMap<Origin, u64>,
    pub(super) generation: u64,
}

impl Told {
    /// Nothing.
    pub fn new() -> Self {
        Self::default()
    }

    /// The number that it names of `origin`; 0 where it names none.
    pub fn get(&self, origin: Origin) -> u64 {
        match self.dots.get(&origin) {
            Some(n) => *n,
            None if origin == Origin::FOLDS => self.generation,
            None => 0,
        }
    }

    /// Whether it names the change, or a later one of its origin.
    pub fn names(&self, dot: Dot) -> bool {
        dot.n <= self.get(dot.origin)
    }

    /// Whether the vector includes the change, by these folds.
    pub fn includes(&self, dot: Dot, folds: &Folds) -> bool {
        self.names(dot) || dot.n <= folds.at(dot.origin, self.generation)
    }

    /// Whether all of `other` is included, as far as that can be told without knowing folds.
    pub fn may_cover(&self, other: &Told) -> bool {
        let is_there = |(origin, n): (&Origin, &u64)| {
            *n <= self.get(*origin) || other.generation < self.generation
        };
        other.generation <= self.generation && other.dots.iter().all(is_there)
    }

    /// The last dot of each origin that it names, in the order of origins.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = Dot> + '_ {
        self.dots.iter().map(|(&origin, &n)| Dot { origin, n })
    }

    /// What a change needs that builds on all of it: what it names, and that its folds are known.
    pub fn needs(&self) -> impl Iterator<Item = Dot> + '_ {
        let folds = Dot { origin: Origin::FOLDS, n: self.generation };
        self.iter().chain((self.generation > 0).then_some(folds))
    }

    /// How many origins it names.
    pub fn len(&self) -> usize {
        self.dots.len()
    }

    /// Whether it includes nothing.
    pub fn is_empty(&self) -> bool {
        self.dots.is_empty() && self.generation == 0
    }

    /// Up to which fold it includes what folds say.
    pub fn generation(&self) -> u64 {
        self.generation
    }

    /// Names the change, where it names none of its origin that is as late.
    pub fn advance(&mut self, dot: Dot) {
        if dot.origin == Origin::FOLDS {
            self.generation = self.generation.max(dot.n);
        } else if dot.n > 0 {
            let n = self.dots.entry(dot.origin).or_insert(0);
            *n = (*n).max(dot.n);
        }
    }

    /// Names all that `other` does, too.
    pub fn merge(&mut self, other: &Told) {
        other.needs().for_each(|dot| self.advance(dot));
    }

    /// No more names what folds up to `generation` say, and where it did stands for all of that.
    pub fn fold(&mut self, folds: &Folds, generation: u64) {
        let before = self.dots.len();
        self.dots.retain(|origin, n| *n > folds.at(*origin, generation));
        if self.dots.len() < before {
            self.generation = self.generation.max(generation);
        }
    }

    /// No more names origins of which this is so.
    pub fn forget(&mut self, mut is_forgotten: impl FnMut(Dot) -> bool) {
        self.dots.retain(|&origin, &mut n| !is_forgotten(Dot { origin, n }));
    }

    /// The vector that this is, by these folds.
    pub fn read(&self, folds: &Arc<Folds>) -> Vector {
        let mut vector = Vector {
            dots: self.dots.clone(),
            generation: self.generation,
            folds: (folds.latest() > 0).then(|| folds.clone()),
        };
        vector.drop_folded();
        vector
    }
}

impl FromIterator<Dot> for Told {
    fn from_iter<I: IntoIterator<Item = Dot>>(dots: I) -> Self {
        let mut told = Self::new();
        dots.into_iter().for_each(|dot| told.advance(dot));
        told
    }
}

impl From<&Vector> for Told {
    fn from(vector: &Vector) -> Self {
        vector.told()
    }
}

impl<C> minicbor::Encode<C> for Told {
    fn encode<W: minicbor::encode::Write>(
        &self,
        e: &mut minicbor::Encoder<W>,
        _: &mut C,
    ) -> Result<(), minicbor::encode::Error<W::Error>> {
        // In the order of origins: that of the folds is the last.
        e.map(self.needs().count() as u64)?;
        for dot in self.needs() {
            e.bytes(&dot.origin.0)?.u64(dot.n)?;
        }
        Ok(())
    }
}

impl<'b, C> minicbor::Decode<'b, C> for Told {
    fn decode(d: &mut minicbor::Decoder<'b>, ctx: &mut C) -> Result<Self, minicbor::decode::Error> {
        let too_many = || minicbor::decode::Error::message("a vector names too many origins");
        let len = d.map()?.ok_or_else(too_many)?;
        if len > VECTOR_ORIGINS_MAX as u64 + 1 {
            return Err(too_many());
        }
        let mut told = Self::new();
        for _ in 0..len {
            let origin = Origin::decode(d, ctx)?;
            let n = d.u64()?;
            match origin == Origin::FOLDS {
                true => told.generation = n,
                false => drop(told.dots.insert(origin, n)),
            }
        }
        match told.dots.len() > VECTOR_ORIGINS_MAX {
            true => Err(too_many()),
            false => Ok(told),
        }
    }
}
