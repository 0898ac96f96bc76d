//! Finds fewer and shorter faults with which a run still fails: delta debugging (Zeller and
//! Hildebrandt, "Simplifying and Isolating Failure-Inducing Input", 2002, the algorithm ddmin), then
//! shorter windows. It runs nothing: whoever asks says whether a list of faults still fails.

use std::ops::Range;
use std::time::Duration;

use super::TimedFault;

/// A fault is not shortened below this: what a shorter one does is no easier to understand.
const LASTS_MIN: Duration = Duration::from_millis(100);

/// What was found.
#[derive(Clone, Debug, PartialEq)]
pub struct Shrunk {
    /// The faults that are left, in the order that they had. With these it failed.
    pub faults: Vec<TimedFault>,
    /// How many lists were tried.
    pub tries: usize,
    /// Whether none of them can be left out alone any more. If not, the tries were used up before.
    pub is_minimal: bool,
}

/// Drops and shortens `faults`, which are known to fail, while `still_fails` says so; asks it
/// `tries_max` times at most. What two faults were to each other they stay: a list that passes
/// [`super::check_timeline`] is only tried in parts that pass it too.
pub fn shrink(
    faults: &[TimedFault],
    tries_max: usize,
    still_fails: impl FnMut(&[TimedFault]) -> bool,
) -> Shrunk {
    let mut search = Search { faults: faults.to_vec(), tries: 0, tries_max, still_fails };
    let is_minimal = search.drop_faults();
    search.shorten();
    Shrunk { faults: search.faults, tries: search.tries, is_minimal }
}

struct Search<F> {
    /// The best list so far: with it, it fails.
    faults: Vec<TimedFault>,
    tries: usize,
    tries_max: usize,
    still_fails: F,
}

impl<F: FnMut(&[TimedFault]) -> bool> Search<F> {
    /// Takes `faults` over if it still fails with them.
    fn attempt(&mut self, faults: Vec<TimedFault>) -> bool {
        if self.is_used_up() {
            return false;
        }
        self.tries += 1;
        let fails = (self.still_fails)(&faults);
        if fails {
            self.faults = faults;
        }
        fails
    }

    fn is_used_up(&self) -> bool {
        self.tries >= self.tries_max
    }

    /// Whether the end was reached before the tries were used up.
    fn drop_faults(&mut self) -> bool {
        // Often enough no fault is to blame.
        if self.faults.is_empty() || self.attempt(Vec::new()) {
            return true;
        }
        let mut parts = 2;
        while self.faults.len() > 1 && !self.is_used_up() {
            let ranges = split(self.faults.len(), parts);
            // With two parts, one part is what the other one's absence leaves.
            let is_part = parts > 2 && ranges.iter().any(|range| self.attempt_part(range, true));
            if is_part {
                parts = 2;
            } else if ranges.iter().any(|range| self.attempt_part(range, false)) {
                parts = (parts - 1).max(2);
            } else if parts >= self.faults.len() {
                break;
            } else {
                parts = (parts * 2).min(self.faults.len());
            }
        }
        !self.is_used_up()
    }

    /// Tries the faults of `range` alone, or all others.
    fn attempt_part(&mut self, range: &Range<usize>, is_inside: bool) -> bool {
        let faults = self.faults.iter().enumerate();
        let faults = faults.filter(|(i, _)| range.contains(i) == is_inside);
        let faults = faults.map(|(_, fault)| fault.clone()).collect();
        self.attempt(faults)
    }

    /// Halves what lasts, one fault after the other, from its end.
    fn shorten(&mut self) {
        for i in 0..self.faults.len() {
            while let Some(lasts) = self.faults[i].lasts.filter(|lasts| *lasts > LASTS_MIN) {
                let mut faults = self.faults.clone();
                faults[i].lasts = Some((lasts / 2).max(LASTS_MIN));
                if !self.attempt(faults) {
                    break;
                }
            }
        }
    }
}

/// `parts` ranges that are as even as can be; none of them is empty where there are enough.
fn split(len: usize, parts: usize) -> Vec<Range<usize>> {
    (0..parts).map(|part| len * part / parts..len * (part + 1) / parts).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::simulation::scenario::FaultKind;

    /// Faults that are told apart by when they begin; each lasts 8 s.
    fn faults(count: u64) -> Vec<TimedFault> {
        let fault = |i| TimedFault {
            at: Duration::from_secs(i),
            lasts: Some(Duration::from_secs(8)),
            fault: FaultKind::DiskFull { node: "a-1".parse().unwrap() },
        };
        (0..count).map(fault).collect()
    }

    fn has(faults: &[TimedFault], at: u64) -> bool {
        faults.iter().any(|fault| fault.at.as_secs() == at)
    }

    fn begins(shrunk: &Shrunk) -> Vec<u64> {
        shrunk.faults.iter().map(|fault| fault.at.as_secs()).collect()
    }

    #[test]
    fn what_is_needed_is_left_whichever_it_is() {
        for needed in
            [vec![0], vec![39], vec![3, 4], vec![0, 39], vec![7, 20, 33], vec![1, 2, 3, 4]]
        {
            let mut tries = 0;
            let shrunk = shrink(&faults(40), 1_000, |faults| {
                tries += 1;
                assert!(faults.is_sorted_by_key(|fault| fault.at));
                needed.iter().all(|at| has(faults, *at))
            });
            assert_eq!(begins(&shrunk), needed);
            assert!(shrunk.is_minimal);
            assert_eq!(shrunk.tries, tries);
            assert!(tries < 150, "{needed:?}: {tries}");
        }
    }

    #[test]
    fn any_one_of_several_causes_is_enough() {
        let shrunk = shrink(&faults(40), 1_000, |faults| has(faults, 5) || has(faults, 30));
        assert_eq!(shrunk.faults.len(), 1);
    }

    #[test]
    fn where_no_fault_is_to_blame_none_is_left() {
        let shrunk = shrink(&faults(40), 1_000, |_| true);
        assert_eq!((shrunk.faults.len(), shrunk.tries, shrunk.is_minimal), (0, 1, true));
        let shrunk = shrink(&[], 1_000, |_| panic!("there is nothing to try"));
        assert_eq!((shrunk.faults.len(), shrunk.tries, shrunk.is_minimal), (0, 0, true));
    }

    #[test]
    fn where_all_are_to_blame_all_are_left() {
        let shrunk = shrink(&faults(9), 1_000, |faults| faults.len() == 9);
        assert_eq!(begins(&shrunk), (0..9).collect::<Vec<_>>());
        assert!(shrunk.is_minimal);
    }

    #[test]
    fn what_is_left_is_as_short_as_it_can_be_within_a_factor_of_two() {
        let shrunk = shrink(&faults(5), 1_000, |faults| {
            let lasts = |fault: &&TimedFault| fault.at.as_secs() == 2;
            let lasts = faults.iter().find(lasts).and_then(|fault| fault.lasts);
            lasts.is_some_and(|lasts| lasts >= Duration::from_millis(1_500))
        });
        assert_eq!(shrunk.faults[0].lasts, Some(Duration::from_secs(2)));
        let shrunk = shrink(&faults(5), 1_000, |faults| has(faults, 2));
        assert_eq!(shrunk.faults[0].lasts, Some(LASTS_MIN));
        let moment = TimedFault { lasts: None, ..faults(1).remove(0) };
        let shrunk = shrink(std::slice::from_ref(&moment), 9, |faults| !faults.is_empty());
        assert_eq!(shrunk.faults, [moment]);
    }

    #[test]
    fn the_bound_on_tries_holds_and_what_is_left_still_fails() {
        for tries_max in 0..60 {
            let mut tries = 0;
            let needs = |faults: &[TimedFault]| has(faults, 11) && has(faults, 29);
            let shrunk = shrink(&faults(40), tries_max, |faults| {
                tries += 1;
                needs(faults)
            });
            assert!(tries <= tries_max && needs(&shrunk.faults));
            assert!(!shrunk.is_minimal || shrunk.faults.len() == 2, "{shrunk:?}");
        }
    }
}
