//! The `Date` of answers (RFC 9110, section 6.6.1), by the node's own clock. hyper's would read the
//! machine's.

use std::sync::Arc;

use arc_swap::ArcSwap;
use axum::http::HeaderValue;

use crate::env::WallClock;

/// Dates are written once a second.
#[derive(Clone)]
pub(super) struct Dates {
    clock: Arc<dyn WallClock>,
    last: Arc<ArcSwap<(u64, HeaderValue)>>,
}

impl Dates {
    pub(super) fn new(clock: Arc<dyn WallClock>) -> Self {
        let first = (0, text(0));
        Self { clock, last: Arc::new(ArcSwap::from_pointee(first)) }
    }

    /// What it is now.
    pub(super) fn now(&self) -> HeaderValue {
        let secs = self.clock.unix_time().as_secs();
        let last = self.last.load();
        if last.0 == secs {
            return last.1.clone();
        }
        let now = text(secs);
        self.last.store(Arc::new((secs, now.clone())));
        now
    }
}

fn text(secs: u64) -> HeaderValue {
    let at = i64::try_from(secs).ok().and_then(|secs| jiff::Timestamp::from_second(secs).ok());
    let printer = jiff::fmt::rfc2822::DateTimePrinter::new();
    let text = printer.timestamp_to_rfc9110_string(&at.unwrap_or_default()).ok();
    let text = text.and_then(|text| HeaderValue::try_from(text).ok());
    text.unwrap_or(HeaderValue::from_static("Thu, 01 Jan 1970 00:00:00 GMT"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::env::ManualClock;
    use crate::model::Stamp;

    #[test]
    fn a_date_is_the_clocks_also_when_it_goes_back() {
        let clock = ManualClock::new(Stamp(1_893_456_000_900_000));
        let dates = Dates::new(Arc::new(clock.clone()));
        assert_eq!(dates.now(), "Tue, 01 Jan 2030 00:00:00 GMT");
        clock.set(Stamp(1_893_456_001_000_000));
        assert_eq!(dates.now(), "Tue, 01 Jan 2030 00:00:01 GMT");
        clock.set(Stamp(0));
        assert_eq!(dates.now(), "Thu, 01 Jan 1970 00:00:00 GMT");
    }
}
