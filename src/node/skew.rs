//! The time that stamps are made with: this node's clock, or, where that is further off its peers'
//! median than is allowed, theirs. What others wrote is never refused for its time.

use std::time::Duration;

use crate::model::Stamp;

/// The time to stamp with at `now`, given how far the median of the peers' clocks is ahead of this
/// one, in microseconds, where there are peers.
pub(crate) fn stamp_time(now: Stamp, peers_ahead_us: Option<i64>, skew_max: Duration) -> Stamp {
    match peers_ahead_us {
        Some(ahead) if is_too_far(ahead, skew_max) => Stamp(now.0.saturating_add_signed(ahead)),
        _ => now,
    }
}

/// Whether a clock that far off is worth an alert.
pub(crate) fn is_too_far(ahead_us: i64, skew_max: Duration) -> bool {
    u128::from(ahead_us.unsigned_abs()) > skew_max.as_micros()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_that_is_far_off_gives_way_to_its_peers() {
        let max = Duration::from_millis(500);
        let time = |ahead| stamp_time(Stamp(10_000_000), ahead, max).0;
        assert_eq!(time(None), 10_000_000);
        assert_eq!(time(Some(500_000)), 10_000_000);
        assert_eq!(time(Some(-500_001)), 9_499_999);
        assert_eq!(time(Some(2_000_000)), 12_000_000);
        assert_eq!(time(Some(i64::MIN)), 0);
    }
}
