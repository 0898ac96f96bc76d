//! The vector clock: which changes of which origins a state includes (Fidge 1988, Mattern 1989).

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

#[cfg(test)]
mod against_maps;
mod folds;
mod told;

pub use folds::{FOLD_ROWS_MAX, FOLDED_MAX, Fold, FoldError, FoldRow, Folds};
pub use told::Told;

/// One node's store, from its creation on: whoever numbers changes 1, 2, 3, … Drawn at random, so
/// that no two stores share one; a store that cannot prove that it is the same as before takes a
/// new one.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Origin(pub [u8; 8]);

impl Origin {
    /// No store's. Its number is the generation of folds that a state includes: so that goes wherever
    /// vectors go, and a change can need it.
    pub const FOLDS: Self = Self([0xff; 8]);
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", u64::from_be_bytes(self.0))
    }
}

impl fmt::Debug for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

/// The text is not an origin: 16 lower-case hexadecimal digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("an origin is 16 lower-case hexadecimal digits")]
pub struct OriginError;

impl FromStr for Origin {
    type Err = OriginError;

    fn from_str(text: &str) -> Result<Self, OriginError> {
        let digits = |c: u8| c.is_ascii_digit() || (b'a'..=b'f').contains(&c);
        if text.len() != 16 || !text.bytes().all(digits) {
            return Err(OriginError);
        }
        let number = u64::from_str_radix(text, 16).map_err(|_| OriginError)?;
        Ok(Self(number.to_be_bytes()))
    }
}

impl serde::Serialize for Origin {
    fn serialize<S: serde::Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.collect_str(self)
    }
}

impl<C> minicbor::Encode<C> for Origin {
    fn encode<W: minicbor::encode::Write>(
        &self,
        e: &mut minicbor::Encoder<W>,
        _: &mut C,
    ) -> Result<(), minicbor::encode::Error<W::Error>> {
        e.bytes(&self.0)?.ok()
    }
}

impl<'b, C> minicbor::Decode<'b, C> for Origin {
    fn decode(d: &mut minicbor::Decoder<'b>, _: &mut C) -> Result<Self, minicbor::decode::Error> {
        let bytes = d.bytes()?;
        let bytes = bytes.try_into();
        bytes.map(Self).map_err(|_| minicbor::decode::Error::message("an origin has 8 bytes"))
    }
}

/// One change: the `n`th of `origin`, counted over all its documents from 1.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, minicbor::Encode, minicbor::Decode,
)]
pub struct Dot {
    /// Who made the change.
    #[n(0)]
    pub origin: Origin,
    /// Which of its changes, from 1.
    #[n(1)]
    pub n: u64,
}

impl fmt::Display for Dot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.origin, self.n)
    }
}

/// For each origin, up to which change a state includes it, with none missing below.
///
/// Origins that nobody has written as for long are folded ([`Folds`]): a state's generation stands for
/// what their folds say, and only what goes beyond that is named one by one. So a vector stays short
/// however many origins there ever were.
///
/// Its methods, sorted: what it includes (`get`, `includes`, `covers`, `covers_told`, `ahead_of`,
/// `beyond`, `all`), how it grows (`advance`, `merge`, `fold`, `reach`), what two have (`meet`), how it
/// is told (`told`, `told_to`), what it names (`iter`, `len`, `names`), and by which folds it is read
/// (`generation`, `folds`, `is_understood`, `read_by`).
#[derive(Clone, Default)]
pub struct Vector {
    /// More than is folded, each.
    dots: BTreeMap<Origin, u64>,
    /// It includes what the folds up to this one say. Those that are not known here are not in `folds`.
    generation: u64,
    /// May hold later ones, too; absent where there are none.
    folds: Option<Arc<Folds>>,
}

impl Vector {
    /// The vector of a state without any change.
    pub fn new() -> Self {
        Self::default()
    }

    /// The last change of `origin` that is included; 0 where there is none.
    pub fn get(&self, origin: Origin) -> u64 {
        match self.dots.get(&origin) {
            Some(n) => *n,
            None if self.generation == 0 => 0,
            None if origin == Origin::FOLDS => self.generation,
            None => self.folded(origin),
        }
    }

    fn folded(&self, origin: Origin) -> u64 {
        match &self.folds {
            Some(folds) if self.generation > 0 => folds.at(origin, self.generation),
            _ => 0,
        }
    }

    /// Whether the change is included.
    pub fn includes(&self, dot: Dot) -> bool {
        dot.n <= self.get(dot.origin)
    }

    /// Whether everything in `other` is included here.
    pub fn covers(&self, other: &Vector) -> bool {
        self.covers_all(&other.dots, other.generation)
    }

    /// Whether everything in what was told is included here.
    pub fn covers_told(&self, other: &Told) -> bool {
        self.covers_all(&other.dots, other.generation)
    }

    fn covers_all(&self, dots: &BTreeMap<Origin, u64>, generation: u64) -> bool {
        generation <= self.generation && dots.iter().all(|(origin, n)| *n <= self.get(*origin))
    }

    /// Takes the change, and all below it, as included. Never goes back.
    pub fn advance(&mut self, dot: Dot) {
        if dot.origin == Origin::FOLDS {
            self.reach(dot.n);
        } else if dot.n > self.get(dot.origin) {
            self.dots.insert(dot.origin, dot.n);
        }
    }

    /// Takes everything in `other` as included, too.
    pub fn merge(&mut self, other: &Vector) {
        self.know(&other.folds);
        self.reach(other.generation);
        for (&origin, &n) in &other.dots {
            self.advance(Dot { origin, n });
        }
    }

    /// Takes what the folds up to this generation say as included.
    pub fn reach(&mut self, generation: u64) {
        if generation > self.generation {
            self.generation = generation;
            self.drop_folded();
        }
    }

    /// Takes what these folds say up to `generation` as included. They are those that it was read by,
    /// and may be more.
    pub fn fold(&mut self, folds: &Arc<Folds>, generation: u64) {
        self.know(&Some(folds.clone()));
        self.reach(generation);
    }

    fn drop_folded(&mut self) {
        if let Some(folds) = &self.folds {
            let generation = self.generation;
            self.dots.retain(|origin, n| *n > folds.at(*origin, generation));
        }
    }

    /// Goes by these folds where they are more than those it went by.
    fn know(&mut self, folds: &Option<Arc<Folds>>) {
        let latest = |folds: &Option<Arc<Folds>>| folds.as_ref().map_or(0, |it| it.latest());
        if latest(folds) > latest(&self.folds) {
            self.folds.clone_from(folds);
            self.drop_folded();
        }
    }

    /// The same, read by these folds.
    pub fn read_by(&self, folds: &Arc<Folds>) -> Vector {
        let mut read = self.clone();
        read.know(&Some(folds.clone()));
        read
    }

    /// What both include. Each of the two has to be understood.
    pub fn meet(&self, other: &Vector) -> Vector {
        let (low, high) =
            if self.generation <= other.generation { (self, other) } else { (other, self) };
        let mut met =
            Self { dots: BTreeMap::new(), generation: low.generation, folds: low.folds.clone() };
        met.know(&high.folds);
        // What only the higher one names, the lower one includes as far as it is folded there.
        for (&origin, &n) in &low.dots {
            met.advance(Dot { origin, n: n.min(high.get(origin)) });
        }
        met
    }

    /// The last dot of each origin that it names, in the order of origins: not of those that are folded.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = Dot> + '_ {
        self.dots.iter().map(|(&origin, &n)| Dot { origin, n })
    }

    /// The last dot of each origin that it includes changes of, those that are folded among them.
    pub fn all(&self) -> impl Iterator<Item = Dot> {
        self.beyond(&Vector::new()).into_iter().map(|(_, last)| last)
    }

    /// How many origins it names.
    pub fn len(&self) -> usize {
        self.dots.len()
    }

    /// Whether it includes nothing.
    pub fn is_empty(&self) -> bool {
        self.dots.is_empty() && self.generation == 0
    }

    /// Whether it names the origin, because its changes go beyond what is folded.
    pub fn names(&self, origin: Origin) -> bool {
        self.dots.contains_key(&origin)
    }

    /// What it includes and `other` does not, in the order of origins: of each origin the number up to
    /// which `other` has its changes, and its last one.
    pub fn beyond(&self, other: &Vector) -> Vec<(u64, Dot)> {
        let pair = |origin: Origin, n: u64| {
            let from = other.get(origin);
            (n > from).then_some((from, Dot { origin, n }))
        };
        let named = || self.dots.iter().filter_map(|(&origin, &n)| pair(origin, n));
        let Some(folds) = self.folds.as_ref().filter(|_| self.generation > other.generation) else {
            return named().collect();
        };
        let folded: BTreeSet<Origin> = folds
            .between(other.generation, self.generation)
            .map(|row| row.dot.origin)
            .filter(|origin| !self.names(*origin))
            .collect();
        let mut all: Vec<(u64, Dot)> = named().collect();
        all.extend(folded.into_iter().filter_map(|origin| pair(origin, self.folded(origin))));
        all.sort_by_key(|(_, dot)| dot.origin);
        all
    }

    /// How many changes `self` includes that `other` does not.
    pub fn ahead_of(&self, other: &Vector) -> u64 {
        if self.generation <= other.generation {
            return self.dots.iter().map(|(o, n)| n.saturating_sub(other.get(*o))).sum();
        }
        self.beyond(other).into_iter().map(|(from, last)| last.n - from).sum()
    }

    /// Up to which fold it includes what folds say.
    pub fn generation(&self) -> u64 {
        self.generation
    }

    /// By which folds it is read: at least those that this state includes.
    pub fn folds(&self) -> Arc<Folds> {
        self.folds.clone().unwrap_or_default()
    }

    /// Whether all is known that it includes. Else it includes more than this says.
    pub fn is_understood(&self) -> bool {
        self.generation <= self.folds.as_ref().map_or(0, |folds| folds.latest())
    }

    /// What is said of it on the wire and on disk.
    pub fn told(&self) -> Told {
        Told { dots: self.dots.clone(), generation: self.generation }
    }

    /// What is said of it to a node that names `theirs`, and may know fewer folds: with what is folded of
    /// the origins that it names, so that it does not take this for lacking what it has itself.
    pub fn told_to(&self, theirs: &Vector) -> Told {
        let mut told = self.told();
        if theirs.generation < self.generation {
            let folded = theirs.dots.keys().map(|&origin| Dot { origin, n: self.get(origin) });
            for dot in folded.filter(|dot| dot.n > 0) {
                if told.dots.len() >= VECTOR_ORIGINS_MAX {
                    break;
                }
                told.advance(dot);
            }
        }
        told
    }
}

/// Equal where they include the same, by the same folds.
impl PartialEq for Vector {
    fn eq(&self, other: &Self) -> bool {
        self.generation == other.generation && self.dots == other.dots
    }
}

impl Eq for Vector {}

impl fmt::Debug for Vector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.told(), f)
    }
}

impl FromIterator<Dot> for Vector {
    fn from_iter<I: IntoIterator<Item = Dot>>(dots: I) -> Self {
        let mut vector = Self::new();
        for dot in dots {
            vector.advance(dot);
        }
        vector
    }
}

/// Most origins a vector may name: a session with all of them still fits into a request's headers.
pub const VECTOR_ORIGINS_MAX: usize = 2_000;

#[cfg(test)]
mod tests {
    use super::*;

    fn dot(origin: u8, n: u64) -> Dot {
        Dot { origin: Origin([origin; 8]), n }
    }

    #[test]
    fn a_vector_covers_what_it_merged_and_never_goes_back() {
        let mut a: Vector = [dot(1, 5), dot(2, 1)].into_iter().collect();
        let b: Vector = [dot(1, 3), dot(3, 2)].into_iter().collect();
        assert!(!a.covers(&b));
        a.merge(&b);
        assert!(a.covers(&b));
        assert_eq!(a.get(Origin([1; 8])), 5);
        assert_eq!(a.ahead_of(&b), 2 + 1);
        assert!(a.includes(dot(3, 2)) && !a.includes(dot(3, 3)));
    }

    #[test]
    fn what_two_vectors_meet_in_is_what_both_include() {
        let a: Vector = [dot(1, 5), dot(2, 1), dot(4, 2)].into_iter().collect();
        let b: Vector = [dot(1, 3), dot(2, 7), dot(3, 2)].into_iter().collect();
        let both: Vector = [dot(1, 3), dot(2, 1)].into_iter().collect();
        assert_eq!((a.meet(&b), b.meet(&a)), (both.clone(), both));
        assert_eq!((a.meet(&a), a.meet(&Vector::new())), (a.clone(), Vector::new()));
    }

    #[test]
    fn an_origin_reads_back_as_written() {
        let origin = Origin([0, 1, 2, 3, 4, 5, 6, 255]);
        assert_eq!(origin.to_string().parse(), Ok(origin));
        assert_eq!("00+1020304050607".parse::<Origin>(), Err(OriginError));
    }
}
