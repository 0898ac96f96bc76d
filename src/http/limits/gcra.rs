//! The generic cell rate algorithm (ITU-T I.371): a token bucket that is one number, the time at
//! which it will be full again. Pure: time comes in as nanoseconds.

/// How often something may happen, and how much of it at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Rate {
    /// How long one token takes to come back.
    every_ns: u64,
    burst: u32,
}

/// One client's tokens. The default is a full bucket.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Bucket {
    full_at_ns: u64,
}

/// What is left in a bucket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Left {
    pub(super) tokens: u32,
    /// Until it is full again.
    pub(super) full_in_ns: u64,
}

/// The bucket is empty, and nothing was taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Empty {
    /// Until it is full again.
    pub(super) full_in_ns: u64,
}

impl Rate {
    /// `None` where `per_second` is 0: no limit.
    pub(super) fn new(per_second: u32, burst: u32) -> Option<Self> {
        let every_ns = 1_000_000_000_u64.checked_div(per_second.into())?.max(1);
        Some(Self { every_ns, burst: burst.max(1) })
    }

    pub(super) fn burst(&self) -> u32 {
        self.burst
    }

    /// How long an empty bucket takes to be full.
    pub(super) fn window_ns(&self) -> u64 {
        self.every_ns.saturating_mul(self.burst.into())
    }

    /// How long it takes until an empty bucket that is full in so long has a token again.
    pub(super) fn next_in_ns(&self, full_in_ns: u64) -> u64 {
        full_in_ns.saturating_add(self.every_ns).saturating_sub(self.window_ns())
    }

    /// Takes a token.
    pub(super) fn take(&self, bucket: &mut Bucket, now_ns: u64) -> Result<Left, Empty> {
        let full_at_ns = bucket.full_at_ns.max(now_ns).saturating_add(self.every_ns);
        let (full_in_ns, window_ns) = (full_at_ns - now_ns, self.window_ns());
        if full_in_ns > window_ns {
            return Err(Empty { full_in_ns: full_in_ns - self.every_ns });
        }
        bucket.full_at_ns = full_at_ns;
        let tokens = (window_ns - full_in_ns) / self.every_ns;
        Ok(Left { tokens: u32::try_from(tokens).unwrap_or(u32::MAX), full_in_ns })
    }
}

impl Bucket {
    /// Whether it is full: then it can be forgotten, and nobody will know.
    pub(super) fn is_full(&self, now_ns: u64) -> bool {
        self.full_at_ns <= now_ns
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const SECOND: u64 = 1_000_000_000;

    #[test]
    fn a_burst_is_taken_at_once_and_comes_back_one_by_one() {
        let rate = Rate::new(10, 3).unwrap();
        let mut bucket = Bucket::default();
        for tokens in [2, 1, 0] {
            assert_eq!(rate.take(&mut bucket, SECOND).unwrap().tokens, tokens);
        }
        let empty = rate.take(&mut bucket, SECOND).unwrap_err();
        assert_eq!(empty, Empty { full_in_ns: SECOND * 3 / 10 });
        assert_eq!(rate.next_in_ns(empty.full_in_ns), SECOND / 10);
        assert!(rate.take(&mut bucket, SECOND + SECOND / 10 - 1).is_err());
        assert_eq!(rate.take(&mut bucket, SECOND + SECOND / 10).unwrap().tokens, 0);
        assert!(!bucket.is_full(SECOND * 2 - SECOND * 6 / 10 - 1));
        assert!(bucket.is_full(SECOND * 2 - SECOND * 6 / 10));
    }

    #[test]
    fn a_rate_of_nothing_is_no_rate() {
        assert_eq!(Rate::new(0, 5), None);
        assert_eq!(Rate::new(u32::MAX, 0).unwrap().burst(), 1);
    }

    proptest! {
        /// In any stretch of time no more is taken than the burst and what came back in it; and
        /// who waits as long as it is told is served.
        #[test]
        fn no_more_than_the_rate_is_taken_and_waiting_helps(
            per_second in 1_u32..5_000,
            burst in 1_u32..50,
            steps in proptest::collection::vec(0_u64..20_000_000, 1..200),
        ) {
            let rate = Rate::new(per_second, burst).unwrap();
            let (mut bucket, mut now, mut taken) = (Bucket::default(), 0, Vec::new());
            for step in steps {
                now += step;
                match rate.take(&mut bucket, now) {
                    Ok(left) => {
                        prop_assert!(left.tokens < burst && left.full_in_ns <= rate.window_ns());
                        taken.push(now);
                    }
                    Err(empty) => {
                        let (mut other, wait_ns) = (bucket, rate.next_in_ns(empty.full_in_ns));
                        prop_assert!(rate.take(&mut other, now + wait_ns - 1).is_err());
                        prop_assert!(rate.take(&mut other, now + wait_ns).is_ok());
                        prop_assert!(bucket.is_full(now + empty.full_in_ns));
                    }
                }
            }
            for (i, from) in taken.iter().enumerate() {
                for (j, to) in taken.iter().enumerate().skip(i) {
                    let back = (to - from) / rate.every_ns;
                    prop_assert!((j - i + 1) as u64 <= u64::from(burst) + back);
                }
            }
        }
    }
}
