//! Which known name somebody meant who wrote another one.

/// The known name that `found` is a slip of the pen of: at most a third of it is different.
pub(super) fn nearest<'a>(
    found: &str,
    known: impl IntoIterator<Item = &'a str>,
) -> Option<&'a str> {
    let max = (found.chars().count() / 3).clamp(1, 3);
    let far = |name: &&str| name.len().abs_diff(found.len()) > 4 * max;
    let candidates = known.into_iter().filter(|name| !far(name));
    let (distance, name) = candidates
        .map(|name| (distance(found, name), name))
        .min_by_key(|(distance, _)| *distance)?;
    (distance <= max).then_some(name)
}

/// How many letters have to be put in, left out, changed, or swapped with their neighbour (optimal
/// string alignment).
fn distance(a: &str, b: &str) -> usize {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().collect(), b.chars().collect());
    let mut rows = vec![(0..=b.len()).collect::<Vec<usize>>()];
    for i in 1..=a.len() {
        let mut row = vec![i];
        for j in 1..=b.len() {
            let above: &Vec<usize> = &rows[i - 1];
            let changed = above[j - 1] + usize::from(a[i - 1] != b[j - 1]);
            let mut least = changed.min(above[j] + 1).min(row[j - 1] + 1);
            let is_swap = i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1];
            if is_swap {
                least = least.min(rows[i - 2][j - 2] + 1);
            }
            row.push(least);
        }
        rows.push(row);
    }
    rows[a.len()][b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slip_of_the_pen_is_recognised_and_another_word_is_not() {
        let known = ["partition", "isolate", "pause", "eu-west", "us-east"];
        for (found, wanted) in [
            ("partiton", Some("partition")),
            ("isloate", Some("isolate")),
            ("Pause", Some("pause")),
            ("us-west", Some("eu-west")),
            ("x", None),
            ("", None),
            ("meteor", None),
            ("partition", Some("partition")),
        ] {
            assert_eq!(nearest(found, known), wanted, "{found}");
        }
        assert_eq!(nearest("x", []), None);
        assert_eq!(distance("ca", "abc"), 3);
        assert_eq!(distance("", "abc"), 3);
    }
}
