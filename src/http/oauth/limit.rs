//! How often a client may ask for a token: a token bucket (in the sense of networks) for each
//! address and client, and a wider one for each address. Memory is bounded: the least recently seen
//! are forgotten, which gives whoever comes back a full bucket. Time is an argument.

use std::net::IpAddr;
use std::num::NonZeroUsize;
use std::time::Duration;

use lru::LruCache;
use tokio::time::Instant;

/// Most buckets that are kept.
const BUCKETS_MAX: usize = 16_384;
/// One client at one address: so many at once, and one more in each of these times.
const CLIENT: Rate = Rate { burst: 20, each: Duration::from_millis(500) };
/// All clients of one address.
const ADDRESS: Rate = Rate { burst: 200, each: Duration::from_millis(20) };

struct Rate {
    burst: u32,
    each: Duration,
}

/// The buckets.
pub(super) struct Limiter {
    buckets: LruCache<(Option<IpAddr>, Option<String>), Bucket>,
}

/// When it will be full again: says all there is to say.
#[derive(Clone, Copy)]
struct Bucket {
    full_at: Instant,
}

impl Bucket {
    /// Takes one, or says how long to wait for it.
    fn take(&mut self, rate: &Rate, now: Instant) -> Result<(), Duration> {
        let full_at = self.full_at.max(now) + rate.each;
        let over = full_at.duration_since(now).saturating_sub(rate.each * rate.burst);
        if over.is_zero() {
            self.full_at = full_at;
            return Ok(());
        }
        Err(over)
    }
}

impl Default for Limiter {
    fn default() -> Self {
        let max = NonZeroUsize::new(BUCKETS_MAX).unwrap_or(NonZeroUsize::MIN);
        Self { buckets: LruCache::new(max) }
    }
}

impl Limiter {
    /// Whether this client may ask now; else after how long.
    pub(super) fn take(
        &mut self,
        address: Option<IpAddr>,
        client: &str,
        now: Instant,
    ) -> Result<(), Duration> {
        let address = address.map(network);
        self.bucket((address, None), now).take(&ADDRESS, now)?;
        self.bucket((address, Some(client.to_owned())), now).take(&CLIENT, now)
    }

    fn bucket(&mut self, key: (Option<IpAddr>, Option<String>), now: Instant) -> &mut Bucket {
        self.buckets.get_or_insert_mut(key, || Bucket { full_at: now })
    }
}

/// Whoever has an IPv6 address mostly has 2^64 of them.
fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(v6) => {
            let bits = v6.to_bits() & !u128::from(u64::MAX);
            IpAddr::V6(bits.into())
        }
        v4 @ IpAddr::V4(_) => v4,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(text: &str) -> Option<IpAddr> {
        Some(text.parse().unwrap())
    }

    #[tokio::test(start_paused = true)]
    async fn a_burst_is_let_through_and_then_one_at_a_time() {
        let (mut limiter, from, now) = (Limiter::default(), address("192.0.2.1"), Instant::now());
        for _ in 0..CLIENT.burst {
            limiter.take(from, "ci", now).unwrap();
        }
        assert_eq!(limiter.take(from, "ci", now), Err(CLIENT.each));
        limiter.take(from, "other", now).unwrap();
        limiter.take(address("192.0.2.2"), "ci", now).unwrap();
        let later = now + CLIENT.each;
        limiter.take(from, "ci", later).unwrap();
        assert!(limiter.take(from, "ci", later).is_err());
    }

    #[tokio::test(start_paused = true)]
    async fn an_address_cannot_ask_for_ever_other_clients() {
        let (mut limiter, now) = (Limiter::default(), Instant::now());
        let refused = (0..400).filter(|i| {
            let from = address(&format!("2001:db8::{i:x}"));
            limiter.take(from, &format!("client-{i}"), now).is_err()
        });
        assert_eq!(refused.count(), 200);
    }

    #[tokio::test(start_paused = true)]
    async fn memory_is_bounded() {
        let (mut limiter, now) = (Limiter::default(), Instant::now());
        for i in 0..BUCKETS_MAX as u32 {
            let from = Some(IpAddr::V4((i << 8).into()));
            limiter.take(from, "ci", now).unwrap();
        }
        assert_eq!(limiter.buckets.len(), BUCKETS_MAX);
    }
}
