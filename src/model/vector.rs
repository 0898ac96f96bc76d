//! The vector clock: which changes of which origins a state includes (Fidge 1988, Mattern 1989).

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

/// One node's store, from its creation on: whoever numbers changes 1, 2, 3, … Drawn at random, so
/// that no two stores share one; a store that cannot prove that it is the same as before takes a
/// new one.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Origin(pub [u8; 8]);

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
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Vector(BTreeMap<Origin, u64>);

impl Vector {
    /// The vector of a state without any change.
    pub fn new() -> Self {
        Self::default()
    }

    /// The last change of `origin` that is included; 0 where there is none.
    pub fn get(&self, origin: Origin) -> u64 {
        self.0.get(&origin).copied().unwrap_or(0)
    }

    /// Whether the change is included.
    pub fn includes(&self, dot: Dot) -> bool {
        dot.n <= self.get(dot.origin)
    }

    /// Whether everything in `other` is included here.
    pub fn covers(&self, other: &Vector) -> bool {
        other.0.iter().all(|(origin, n)| *n <= self.get(*origin))
    }

    /// Takes the change, and all below it, as included. Never goes back.
    pub fn advance(&mut self, dot: Dot) {
        let n = self.0.entry(dot.origin).or_insert(0);
        *n = (*n).max(dot.n);
    }

    /// Takes everything in `other` as included, too.
    pub fn merge(&mut self, other: &Vector) {
        for dot in other.iter() {
            self.advance(dot);
        }
    }

    /// What both include.
    pub fn meet(&self, other: &Vector) -> Vector {
        let both = |(&origin, &n): (&Origin, &u64)| (origin, n.min(other.get(origin)));
        Self(self.0.iter().map(both).filter(|(_, n)| *n > 0).collect())
    }

    /// The last dot of each origin, in the order of origins.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = Dot> + '_ {
        self.0.iter().map(|(&origin, &n)| Dot { origin, n })
    }

    /// How many origins it names.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether it names no origin.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// How many changes `self` includes that `other` does not.
    pub fn ahead_of(&self, other: &Vector) -> u64 {
        self.0.iter().map(|(origin, n)| n.saturating_sub(other.get(*origin))).sum()
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

impl<C> minicbor::Encode<C> for Vector {
    fn encode<W: minicbor::encode::Write>(
        &self,
        e: &mut minicbor::Encoder<W>,
        _: &mut C,
    ) -> Result<(), minicbor::encode::Error<W::Error>> {
        e.map(self.0.len() as u64)?;
        for (origin, n) in &self.0 {
            e.bytes(&origin.0)?.u64(*n)?;
        }
        Ok(())
    }
}

impl<'b, C> minicbor::Decode<'b, C> for Vector {
    fn decode(d: &mut minicbor::Decoder<'b>, ctx: &mut C) -> Result<Self, minicbor::decode::Error> {
        let too_many = || minicbor::decode::Error::message("a vector names too many origins");
        let len = d.map()?.ok_or_else(too_many)?;
        if len > VECTOR_ORIGINS_MAX as u64 {
            return Err(too_many());
        }
        let mut vector = BTreeMap::new();
        for _ in 0..len {
            let origin = Origin::decode(d, ctx)?;
            vector.insert(origin, d.u64()?);
        }
        Ok(Self(vector))
    }
}

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
