//! What keeps a flood of alike lines out of the log: the first of a kind is said at once, those that
//! follow are counted, and the count is said with the next one a minute later. It does not log
//! itself, and counts in no metric.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::time::Instant;

/// How long lines of a kind are counted before the count is said.
const SAY_EVERY: Duration = Duration::from_secs(60);

/// Most kinds that are counted apart; what comes beside them is one kind more.
const KINDS_MAX: usize = 32;

/// The kind of those that find no room, which no address is.
const OTHERS: &str = "others";

/// Counts lines by what they are about.
#[derive(Debug, Default)]
pub(super) struct Noise {
    kinds: BTreeMap<String, Kind>,
}

#[derive(Debug)]
struct Kind {
    said: Instant,
    /// Since then.
    count: u64,
}

impl Noise {
    /// Takes note of one at `now`: how many there were since the last one was said, with this, where
    /// it is to be said.
    pub(super) fn hear(&mut self, kind: &str, now: Instant) -> Option<u64> {
        if self.kinds.len() >= KINDS_MAX {
            // Those that stopped are let go of.
            self.kinds.retain(|_, kind| now - kind.said < 2 * SAY_EVERY);
        }
        let is_other = self.kinds.len() >= KINDS_MAX && !self.kinds.contains_key(kind);
        let kind = if is_other { OTHERS } else { kind };
        let Some(known) = self.kinds.get_mut(kind) else {
            self.kinds.insert(kind.to_owned(), Kind { said: now, count: 0 });
            return Some(1);
        };
        known.count += 1;
        let is_due = now - known.said >= SAY_EVERY;
        is_due.then(|| {
            known.said = now;
            std::mem::take(&mut known.count)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn the_first_is_said_at_once_and_the_rest_of_the_minute_as_a_sum() {
        let (mut noise, start) = (Noise::default(), Instant::now());
        let mut said = Vec::new();
        for s in 0..=150 {
            let now = start + Duration::from_secs(s);
            said.extend(noise.hear("192.0.2.1", now).map(|count| (s, count)));
        }
        assert_eq!(said, [(0, 1), (60, 60), (120, 60)]);
        assert_eq!(noise.hear("192.0.2.2", start), Some(1), "another kind");
    }

    #[tokio::test(start_paused = true)]
    async fn a_flood_of_many_kinds_is_bounded_and_so_is_what_is_kept_of_it() {
        let (mut noise, start) = (Noise::default(), Instant::now());
        let (mut lines, mut counted) = (0, 0);
        for i in 0..30_000_u32 {
            let now = start + Duration::from_millis(u64::from(i));
            if let Some(count) = noise.hear(&i.to_string(), now) {
                (lines, counted) = (lines + 1, counted + count);
            }
            assert!(noise.kinds.len() <= KINDS_MAX + 1);
        }
        assert_eq!((lines, counted), (KINDS_MAX + 1, KINDS_MAX as u64 + 1));
        let later = start + 3 * SAY_EVERY;
        assert_eq!(noise.hear("new", later), Some(1), "those that stopped are let go of");
        assert_eq!(noise.kinds.len(), 1);
    }
}
