//! How much of a key's history is kept: the policy, and what it lets go. Pure; where the policy
//! comes from and who removes what are others' business.
//!
//! An entry goes once its number is not among the newest of its key and it is not young. What else is
//! there of the key has no say in it, nor what came when: more writes and a later time only let more go,
//! so that whoever has seen the same writes comes to keep the same. The price are holes: what is young
//! stays though something newer, that is older by its stamp, goes; and of entries that share a number
//! some may go before others. What the key shows now is in its row, and goes from nowhere.

use imbl::OrdMap;

use super::entry::Entry;
use super::view::Row;
use crate::model::{Environment, Stamp};
use crate::planted::{Bug, is_planted};

/// Most versions that a policy can ask for.
pub const VERSIONS_MAX: u64 = 1_000_000;
/// Highest age that a policy can ask for, in seconds: a hundred years, which is for ever.
pub const AGE_S_MAX: u64 = 100 * 365 * 24 * 60 * 60;

/// What is kept of each key's history. Both have to be exceeded before a version goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, minicbor::Encode, minicbor::Decode)]
#[cbor(map)]
pub struct HistoryPolicy {
    /// So many of the newest version numbers are kept, however old they are.
    #[n(0)]
    pub versions: u64,
    /// What is younger is kept, however much it is, in seconds.
    #[n(1)]
    pub age_s: u64,
}

impl HistoryPolicy {
    /// Where nobody said otherwise.
    pub const DEFAULT: Self = Self { versions: 100, age_s: 90 * 24 * 60 * 60 };

    /// Whether it is within what a policy can ask for.
    pub fn is_sound(&self) -> bool {
        (1..=VERSIONS_MAX).contains(&self.versions) && self.age_s <= AGE_S_MAX
    }
}

/// The policies of a cluster: one for an environment, or the one for all others. Cheap to clone.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Policies {
    /// Where one was set; under no name the one for all others.
    pub set: OrdMap<Option<Environment>, HistoryPolicy>,
}

impl Policies {
    /// The policy that an environment has.
    pub fn of(&self, environment: &Environment) -> HistoryPolicy {
        let own = self.set.get(&Some(environment.clone()));
        own.or_else(|| self.set.get(&None)).copied().unwrap_or(HistoryPolicy::DEFAULT)
    }
}

/// What a policy keeps of one key's past at one time.
#[derive(Clone, Copy, Debug)]
pub struct Kept {
    /// The lowest number among the newest ones.
    from_version: u64,
    /// Stamps from this on are young.
    from_stamp: Stamp,
}

impl Kept {
    /// What `policy` keeps, at `now`, of the key that shows `row`; nothing where it keeps all that
    /// there can be.
    pub fn of(policy: HistoryPolicy, now: Stamp, row: &Row) -> Option<Self> {
        let newest = row.siblings().iter().map(|entry| entry.version).max()?;
        // Versions begin with 1.
        let kept = policy.versions.max(1) - u64::from(is_planted(Bug::PruneOneMore));
        let from_version = newest.saturating_sub(kept) + 1;
        let age_us = policy.age_s.saturating_mul(1_000_000);
        let from_stamp = Stamp(now.0.saturating_sub(age_us));
        (from_version > 1).then_some(Self { from_version, from_stamp })
    }

    /// Whether entries of this version can go at all.
    pub fn lets_go(&self, version: u64) -> bool {
        version < self.from_version
    }

    /// Whether this entry has to stay.
    pub fn keeps(&self, entry: &Entry) -> bool {
        !self.lets_go(entry.version) || entry.stamp >= self.from_stamp
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Dot, Origin};

    fn entry(version: u64, stamp: u64) -> Entry {
        Entry {
            value: None,
            version,
            stamp: Stamp(stamp),
            dot: Dot { origin: Origin([1; 8]), n: version },
            author: "a".into(),
            region: "r".into(),
            message: None,
            idempotency: None,
        }
    }

    fn kept(policy: HistoryPolicy, now: u64, newest: u64) -> Option<Kept> {
        Kept::of(policy, Stamp(now), &Row::new(vec![entry(newest, now)]).unwrap())
    }

    #[test]
    fn a_version_goes_only_when_it_is_past_both_count_and_age() {
        let policy = HistoryPolicy { versions: 3, age_s: 10 };
        let kept = kept(policy, 100_000_000, 8).unwrap();
        assert!(kept.keeps(&entry(6, 0)), "old, among the newest three");
        assert!(kept.keeps(&entry(5, 90_000_000)), "beyond them, young");
        assert!(!kept.keeps(&entry(5, 89_999_999)));
    }

    #[test]
    fn a_conflict_of_an_old_number_keeps_nothing_but_itself_and_a_short_history_stays() {
        let policy = HistoryPolicy { versions: 3, age_s: 0 };
        assert!(kept(policy, 100, 3).is_none());
        let row = Row::new(vec![entry(9, 50), entry(2, 1)]).unwrap();
        let kept = Kept::of(policy, Stamp(100), &row).unwrap();
        assert!(kept.keeps(&entry(7, 1)));
        assert!((1..7).all(|version| !kept.keeps(&entry(version, 1))));
    }

    #[test]
    fn what_goes_never_comes_to_stay_by_more_writes_or_a_later_time() {
        let policy = HistoryPolicy { versions: 3, age_s: 10 };
        for (newest, now) in [(9, 100), (9, 101), (12, 100), (12, 200)] {
            let before = self::kept(policy, 100 * 1_000_000, 9).unwrap();
            let after = self::kept(policy, now * 1_000_000, newest).unwrap();
            for (version, stamp) in (1..12).flat_map(|v| (0..200).map(move |s| (v, s))) {
                let entry = entry(version, stamp * 1_000_000);
                assert!(before.keeps(&entry) || !after.keeps(&entry), "{newest} {now} {entry:?}");
            }
        }
    }

    #[test]
    fn a_clock_that_jumps_ahead_lets_no_more_go_than_the_count_allows() {
        let policy = HistoryPolicy { versions: 3, age_s: 10 };
        let kept = kept(policy, u64::MAX, 8).unwrap();
        assert!((6..=8).all(|version| kept.keeps(&entry(version, 1))));
    }

    #[test]
    fn an_environment_without_a_policy_has_the_clusters_or_the_built_in_one() {
        let (prod, dev) = (Environment::new("prod").unwrap(), Environment::new("dev").unwrap());
        let mut policies = Policies::default();
        assert_eq!(policies.of(&prod), HistoryPolicy::DEFAULT);
        let (all, own) =
            (HistoryPolicy { versions: 5, age_s: 5 }, HistoryPolicy { versions: 9, age_s: 9 });
        policies.set.insert(None, all);
        policies.set.insert(Some(prod.clone()), own);
        assert_eq!((policies.of(&prod), policies.of(&dev)), (own, all));
    }
}
