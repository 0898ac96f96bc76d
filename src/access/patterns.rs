//! Many globs, asked all at once which of them is the first to match a name. Each is looked for by
//! one of its literal parts, the one that the fewest others have: a name is tried against those
//! alone whose part it has at the right place. It decides nothing: a glob's own `matches` does.
//!
//! Globs that share all of their parts with many others, and differ in how these are strung
//! together, are still tried one by one.

use std::collections::BTreeMap;

use super::scope::Glob;
use crate::model::Text;

/// Where in a name a glob's part has to stand.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum At {
    Start,
    End,
    Anywhere,
}

/// Globs by their parts.
#[derive(Clone, Default)]
pub(super) struct Patterns {
    starts: Tree,
    /// The parts backwards.
    ends: Tree,
    others: Tree,
    /// Those that have no part to be looked for by.
    always: Vec<usize>,
}

/// Parts as paths of bytes, from node 0 on.
#[derive(Clone, Default)]
struct Tree(Vec<Node>);

#[derive(Clone, Default)]
struct Node {
    /// The nodes behind, by their byte, in the bytes' order.
    next: Vec<(u8, usize)>,
    /// The globs whose part ends here.
    globs: Vec<usize>,
}

/// The parts of a glob between its stars, with the places where they have to be.
fn parts(glob: &Glob) -> impl Iterator<Item = (At, &str)> {
    let last = glob.text().split('*').count() - 1;
    let parts = glob.text().split('*').enumerate().map(move |(i, part)| match i {
        0 => (At::Start, part),
        i if i == last => (At::End, part),
        _ => (At::Anywhere, part),
    });
    parts.filter(|(_, part)| !part.is_empty())
}

impl Patterns {
    /// Of these globs, by their numbers.
    pub(super) fn new<'a>(globs: impl Iterator<Item = (usize, &'a Glob)>) -> Self {
        // Of globs that are the same only the first is ever found.
        let mut first = BTreeMap::<&Text, (usize, &Glob)>::new();
        for (number, glob) in globs {
            let known = first.entry(glob.text()).or_insert((number, glob));
            known.0 = known.0.min(number);
        }
        let mut counts = BTreeMap::<(At, &str), usize>::new();
        for part in first.values().flat_map(|(_, glob)| parts(glob)) {
            *counts.entry(part).or_default() += 1;
        }
        let mut this = Self::default();
        for (number, glob) in first.into_values() {
            let rank = |part: &(At, &str)| {
                let count = counts.get(part).copied().unwrap_or_default();
                (count, part.0, std::cmp::Reverse(part.1.len()))
            };
            match parts(glob).min_by_key(rank) {
                Some((At::Start, part)) => this.starts.insert(part.bytes(), number),
                Some((At::End, part)) => this.ends.insert(part.bytes().rev(), number),
                Some((At::Anywhere, part)) => this.others.insert(part.bytes(), number),
                None => this.always.push(number),
            }
        }
        this
    }

    /// The smallest number of those whose part the name has and that `matches`.
    pub(super) fn first(&self, name: &str, matches: impl Fn(usize) -> bool) -> Option<usize> {
        let mut first: Option<usize> = None;
        let mut offer = |globs: &[usize]| {
            for number in globs {
                if first.is_none_or(|first| *number < first) && matches(*number) {
                    first = Some(*number);
                }
            }
        };
        offer(&self.always);
        self.starts.walk(name.bytes(), &mut offer);
        self.ends.walk(name.bytes().rev(), &mut offer);
        if !self.others.0.is_empty() {
            for from in 0..name.len() {
                self.others.walk(name.bytes().skip(from), &mut offer);
            }
        }
        first
    }
}

impl Tree {
    fn insert(&mut self, part: impl Iterator<Item = u8>, glob: usize) {
        if self.0.is_empty() {
            self.0.push(Node::default());
        }
        let mut at = 0;
        for byte in part {
            let end = self.0.len();
            let next = &mut self.0[at].next;
            at = match next.binary_search_by_key(&byte, |(byte, _)| *byte) {
                Ok(found) => next[found].1,
                Err(place) => {
                    next.insert(place, (byte, end));
                    self.0.push(Node::default());
                    end
                }
            };
        }
        self.0[at].globs.push(glob);
    }

    /// Offers the globs of all parts that the bytes begin with.
    fn walk(&self, bytes: impl Iterator<Item = u8>, offer: &mut impl FnMut(&[usize])) {
        let Some(mut node) = self.0.first() else { return };
        for byte in bytes {
            let Ok(found) = node.next.binary_search_by_key(&byte, |(byte, _)| *byte) else {
                return;
            };
            let Some(next) = self.0.get(node.next[found].1) else { return };
            node = next;
            offer(&node.globs);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn the_first_that_is_found_is_the_first_that_matches(
            globs in proptest::collection::vec("[ab*]{1,6}", 0..30),
            names in proptest::collection::vec("[ab]{0,8}", 1..20),
        ) {
            let globs: Vec<Glob> = globs.iter().map(|glob| Glob::parse(glob).unwrap()).collect();
            let patterns = Patterns::new(globs.iter().enumerate());
            for name in names {
                let plain = globs.iter().position(|glob| glob.matches(&name));
                prop_assert_eq!(patterns.first(&name, |at| globs[at].matches(&name)), plain);
            }
        }
    }

    #[test]
    fn few_of_many_are_tried() {
        use std::cell::Cell;
        for shape in ["key.#.*", "*.#.", "key.*.#", "*.#.*", "a*.#.*b", "same.*"] {
            let glob = |n: u32| Glob::parse(&shape.replace('#', &format!("{n:04}"))).unwrap();
            let globs: Vec<Glob> = (0..10_000).map(glob).collect();
            let patterns = Patterns::new(globs.iter().enumerate());
            for name in ["key.1234.x", "key.x.1234", "a.b.c.d", "same"] {
                let tried = Cell::new(0);
                let first = patterns.first(name, |at| {
                    tried.set(tried.get() + 1);
                    globs[at].matches(name)
                });
                assert_eq!(first, globs.iter().position(|glob| glob.matches(name)), "{shape}");
                assert!(tried.get() <= 2, "{shape} {name}: {} were tried", tried.get());
            }
        }
    }
}
