//! Configuration keys as the records show them: who wrote what, which siblings were shown where, and
//! what the siblings' versions say of what came before.
//!
//! The law that all session and watch checks rest on: a write leaves a key's siblings only when a
//! later one replaces it, whose version is higher. So whoever has seen a write sees it again, or a
//! sibling of a higher version.

use std::cmp::Ordering;
use std::collections::BTreeMap;

use super::index::{Asked, History};
use crate::simulation::history::{AtUs, Outcome, Request, Sibling};

/// A key's full name.
pub(crate) fn name(document: &str, key: &str) -> String {
    format!("{document}/{key}")
}

/// What names one write of a key: nothing else has this version and origin.
pub(crate) type Id<'a> = (u64, &'a str);

/// See [`Id`].
pub(crate) fn id(sibling: &Sibling) -> Id<'_> {
    (sibling.version, &sibling.origin)
}

/// The ids, in order.
pub(crate) fn ids(siblings: &[Sibling]) -> Vec<Id<'_>> {
    let mut ids: Vec<Id<'_>> = siblings.iter().map(id).collect();
    ids.sort_unstable();
    ids
}

/// The order of winners: the later stamp first, ties by origin. `Equal` only where both are equal.
pub(crate) fn precedence(a: &Sibling, b: &Sibling) -> Ordering {
    (stamp(b), &b.origin).cmp(&(stamp(a), &a.origin))
}

/// Stamps are dates of one width; those that no calendar holds are numbers, and later than all dates.
fn stamp(sibling: &Sibling) -> (Option<u64>, &str) {
    (sibling.updated_at.parse().ok(), &sibling.updated_at)
}

/// Whether a state of a key includes the write: it is among the siblings, or something of a higher
/// version is.
pub(crate) fn includes(siblings: &[Sibling], write: &Sibling) -> bool {
    siblings.iter().any(|it| it.version > write.version || id(it) == id(write))
}

/// In words.
pub(crate) fn show(sibling: &Sibling) -> String {
    let origin: String = sibling.origin.chars().take(8).collect();
    match &sibling.value {
        Some(value) => format!("{} ({}@{origin})", short(value), sibling.version),
        None => format!("the removal ({}@{origin})", sibling.version),
    }
}

/// All of them, in words.
pub(crate) fn show_all(siblings: &[Sibling]) -> String {
    match siblings {
        [] => "nothing".to_owned(),
        [one] => show(one),
        many => many.iter().map(show).collect::<Vec<_>>().join(" and "),
    }
}

/// A value, cut where it is long.
pub(crate) fn short(value: &str) -> String {
    const SHOWN: usize = 40;
    match value.char_indices().nth(SHOWN) {
        Some((end, _)) => format!("{:?}…", &value[..end]),
        None => format!("{value:?}"),
    }
}

/// A time, in words.
pub(crate) fn at(at_us: AtUs) -> String {
    format!("{}.{:03} s", at_us / 1_000_000, at_us % 1_000_000 / 1000)
}

/// One place where a key's siblings were shown.
pub(crate) struct Shown<'a> {
    /// When.
    pub(crate) at_us: AtUs,
    /// The call that was answered so, or opened the watch; none for what a node shows at the end.
    pub(crate) op: Option<u64>,
    /// Who showed it.
    pub(crate) node: &'a str,
    /// The key's full name.
    pub(crate) key: String,
    /// The winner first.
    pub(crate) siblings: &'a [Sibling],
}

/// A key read by a call.
pub(crate) fn key_read(request: &Request) -> Option<String> {
    match request {
        Request::ConfigRead { document, key } => Some(name(document, key)),
        _ => None,
    }
}

/// What the call asks to be written, key by key; no value for a removal.
pub(crate) fn asked(request: &Request) -> Vec<(String, Option<&str>)> {
    match request {
        Request::ConfigWrite { document, entries, .. } => {
            let last: BTreeMap<&str, &str> = entries.iter().map(|(k, v)| (&**k, &**v)).collect();
            last.into_iter().map(|(key, value)| (name(document, key), Some(value))).collect()
        }
        Request::ConfigRemove { document, key } => vec![(name(document, key), None)],
        _ => Vec::new(),
    }
}

/// What the call is known to have written, key by key.
pub(crate) fn wrote<'a>(asked: &Asked<'a>) -> Vec<(String, &'a Sibling)> {
    let document = match &asked.call.request {
        Request::ConfigWrite { document, .. } | Request::ConfigRemove { document, .. } => document,
        _ => return Vec::new(),
    };
    match asked.outcome() {
        Some(Outcome::Wrote { entries, .. }) => {
            entries.iter().map(|(key, sibling)| (name(document, key), sibling)).collect()
        }
        _ => Vec::new(),
    }
}

/// Everywhere that siblings were shown side by side: reads, watches, and what nodes show at the end.
pub(crate) fn shown<'a>(history: &History<'a>) -> Vec<Shown<'a>> {
    let mut all = Vec::new();
    for it in &history.calls {
        let Some(key) = key_read(&it.call.request) else { continue };
        for (at_us, outcome) in &it.answers {
            if let Outcome::Row { siblings, .. } = outcome {
                let (op, node) = (Some(it.call.op), &*it.call.node);
                all.push(Shown { at_us: *at_us, op, node, key: key.clone(), siblings });
            }
        }
    }
    for (op, records) in &history.watched {
        let Some(call) = history.call(*op).map(|it| it.call) else { continue };
        let Request::ConfigWatch { document, .. } = &call.request else { continue };
        for (at_us, watched) in records {
            for (key, siblings) in &watched.rows {
                let key = name(document, key);
                let (op, node) = (Some(*op), &*call.node);
                all.push(Shown { at_us: *at_us, op, node, key, siblings });
            }
        }
    }
    for (node, (at_us, last)) in &history.finals {
        for (key, siblings) in &last.rows {
            let key = key.clone();
            all.push(Shown { at_us: *at_us, op: None, node, key, siblings });
        }
    }
    all
}

/// What is known of removals, which a read of a key that is gone does not show.
pub(crate) struct Removals<'a> {
    known: BTreeMap<String, Vec<(AtUs, &'a Sibling)>>,
    unknown: BTreeMap<String, Vec<AtUs>>,
}

impl<'a> Removals<'a> {
    /// Looks for all removals that were answered for, or whose outcome is unknown.
    pub(crate) fn of(history: &History<'a>) -> Self {
        let (mut known, mut unknown) = (BTreeMap::new(), BTreeMap::new());
        for it in &history.calls {
            let Request::ConfigRemove { document, key } = &it.call.request else { continue };
            let key = name(document, key);
            for (key, sibling) in wrote(it) {
                known.entry(key).or_insert_with(Vec::new).push((it.at_us, sibling));
            }
            if it.is_unknown() {
                unknown.entry(key).or_insert_with(Vec::new).push(it.at_us);
            }
        }
        Self { known, unknown }
    }

    /// Whether a removal that was asked for before `at_us` can have replaced `write`, and can be what
    /// wins, unshown, over `siblings`.
    pub(crate) fn may_hide(
        &self,
        key: &str,
        write: &Sibling,
        siblings: &[Sibling],
        at_us: AtUs,
    ) -> bool {
        let known = self.known.get(key).into_iter().flatten();
        let wins = |it: &Sibling| siblings.iter().all(|other| precedence(it, other).is_le());
        let mut fits = known.filter(|(began, it)| {
            *began <= at_us && wins(it) && (it.version > write.version || id(it) == id(write))
        });
        let unknown = self.unknown.get(key).into_iter().flatten().any(|began| *began <= at_us);
        fits.next().is_some() || unknown
    }

    /// Whether a removal that was asked for before `at_us` can win over `write`, or over whatever
    /// replaced it: stamps grow along with what replaces what.
    pub(crate) fn may_win(&self, key: &str, write: &Sibling, at_us: AtUs) -> bool {
        let mut known = self.known.get(key).into_iter().flatten();
        let unknown = self.unknown.get(key).into_iter().flatten().any(|began| *began <= at_us);
        unknown || known.any(|(began, it)| *began <= at_us && precedence(it, write).is_le())
    }
}
