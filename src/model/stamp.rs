//! Hybrid logical time (Kulkarni et al. 2014), as one number: wall-clock microseconds, pushed past
//! whatever it replaces. It never reads a clock.

use std::fmt;

/// Microseconds since the Unix epoch, or more where that was needed to stay above what was
/// replaced.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, minicbor::Encode, minicbor::Decode,
)]
#[cbor(transparent)]
pub struct Stamp(#[n(0)] pub u64);

impl Stamp {
    /// The stamp of a write at `now` that replaces entries up to `replaced`: always above them,
    /// and the time of day where that is above them already.
    pub fn after(now: Stamp, replaced: Option<Stamp>) -> Stamp {
        replaced.map_or(now, |replaced| now.max(Stamp(replaced.0.saturating_add(1))))
    }
}

impl fmt::Display for Stamp {
    /// RFC 3339 in UTC with microseconds; a time that no calendar holds is written as a number.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let time = i64::try_from(self.0).ok().map(jiff::Timestamp::from_microsecond);
        match time {
            Some(Ok(time)) => write!(f, "{time:.6}"),
            _ => write!(f, "{}", self.0),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stamp_is_above_what_it_replaces_whatever_the_clock_says() {
        assert_eq!(Stamp::after(Stamp(10), None), Stamp(10));
        assert_eq!(Stamp::after(Stamp(10), Some(Stamp(4))), Stamp(10));
        assert_eq!(Stamp::after(Stamp(10), Some(Stamp(10))), Stamp(11));
        assert_eq!(Stamp::after(Stamp(10), Some(Stamp(90))), Stamp(91));
    }

    #[test]
    fn a_stamp_is_written_as_a_date() {
        assert_eq!(Stamp(1_700_000_000_000_001).to_string(), "2023-11-14T22:13:20.000001Z");
        assert_eq!(Stamp(u64::MAX).to_string(), u64::MAX.to_string());
    }
}
