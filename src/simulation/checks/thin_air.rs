//! Nothing out of thin air: what is shown anywhere was asked to be written there, by a call that began
//! before and was not refused.

use std::collections::{BTreeMap, BTreeSet};

use super::entries::{Shown, asked, at, short, shown};
use super::index::Asked;
use super::{Check, History, Judge};
use crate::simulation::history::{AtUs, Outcome, Request};

pub(crate) const CHECK: Check = Check {
    name: "thin_air",
    claim: "Whatever is shown was written under that key by a call that began before and was not \
            refused.",
    run,
};

/// What a value stands under: a config key, a secret, a role.
type Place = (&'static str, String);

/// Who asked for which value (none: a removal) to be written where.
type Writers<'h, 'a> = BTreeMap<(Place, Option<&'a str>), Vec<&'h Asked<'a>>>;

/// Something that was shown.
struct Seen<'s> {
    at_us: AtUs,
    op: Option<u64>,
    node: &'s str,
    place: Place,
    value: Option<&'s str>,
}

fn run(history: &History<'_>, judge: &mut Judge) {
    let writers = writers(history);
    let mut complained = BTreeSet::new();
    let mut see = |seen: Seen<'_>| {
        judge.examine();
        let asked = writers.get(&(seen.place.clone(), seen.value));
        let Some((ops, why)) = wrong(asked.map(Vec::as_slice).unwrap_or_default(), seen.at_us)
        else {
            return;
        };
        if complained.insert((seen.place.clone(), seen.value.map(str::to_owned))) {
            let (kind, name) = &seen.place;
            let value = seen.value.map_or_else(|| "a removal".to_owned(), short);
            let what = format!("{} shows {value} for the {kind} {name}, {why}", seen.node);
            let ops: Vec<u64> = seen.op.into_iter().chain(ops).collect();
            judge.violation(seen.at_us, &ops, &[seen.node], what);
        }
    };
    for Shown { at_us, op, node, key, siblings } in shown(history) {
        for sibling in siblings {
            let (place, value) = (("key", key.clone()), sibling.value.as_deref());
            see(Seen { at_us, op, node, place, value });
        }
    }
    for (node, (at_us, last)) in &history.finals {
        for (key, past) in &last.history {
            for sibling in past {
                let (place, value) = (("key", key.clone()), sibling.value.as_deref());
                see(Seen { at_us: *at_us, op: None, node, place, value });
            }
        }
    }
    for it in &history.calls {
        let place = match &it.call.request {
            Request::SecretWrite { name, .. } | Request::SecretRead { name, .. } => {
                ("secret", name)
            }
            Request::RoleWrite { name, .. } | Request::RoleRead { name } => ("role", name),
            _ => continue,
        };
        for (at_us, outcome) in &it.answers {
            if let Outcome::Value { value: Some(value), .. } = outcome {
                let place = (place.0, place.1.clone());
                let (op, node) = (Some(it.call.op), &*it.call.node);
                see(Seen { at_us: *at_us, op, node, place, value: Some(value) });
            }
        }
    }
}

fn writers<'h, 'a>(history: &'h History<'a>) -> Writers<'h, 'a> {
    let mut writers: Writers<'h, 'a> = BTreeMap::new();
    for it in &history.calls {
        let request: &'a Request = &it.call.request;
        let mut add = |place: Place, value| writers.entry((place, value)).or_default().push(it);
        match request {
            Request::SecretWrite { name, value, .. } => add(("secret", name.clone()), Some(value)),
            Request::RoleWrite { name, value } => add(("role", name.clone()), Some(value)),
            _ => asked(request).into_iter().for_each(|(key, value)| add(("key", key), value)),
        }
    }
    writers
}

/// Why none of these calls can have written what was shown at `at_us`, and which they are.
fn wrong(asked: &[&Asked<'_>], at_us: AtUs) -> Option<(Vec<u64>, String)> {
    let began: Vec<&&Asked<'_>> = asked.iter().filter(|it| it.at_us <= at_us).collect();
    let Some(first) = asked.first() else {
        return Some((vec![], "which nobody wrote there".to_owned()));
    };
    if began.is_empty() {
        let why = format!("which call {} asks for only at {}", first.call.op, at(first.at_us));
        return Some((vec![first.call.op], why));
    }
    if !began.iter().all(|it| it.is_refused()) {
        return None;
    }
    let ops: Vec<u64> = began.iter().map(|it| it.call.op).take(3).collect();
    let refused = ops.iter().map(u64::to_string).collect::<Vec<_>>().join(", ");
    Some((ops, format!("though all that asked for it were refused (call {refused})")))
}

#[cfg(test)]
mod tests {
    use super::super::testing::{
        Build, S, call, read, refused, row, secret_read, secret_write, sibling, unknown, value,
        watch, write, wrote,
    };
    use super::*;

    fn good() -> Build {
        let (x, y) = (sibling("x", 1, "o", 1), sibling("y", 2, "p", 2));
        let mut it = Build::default();
        it.ask((S, 2 * S), "a-1", write("k", "x"), wrote("k", x.clone()));
        it.ask((3 * S, 4 * S), "b-1", write("k", "y"), unknown());
        it.ask((3 * S, 4 * S), "b-1", write("k", "no"), refused(503, "Busy"));
        it.ask((5 * S, 6 * S), "b-1", read("k"), row(&[y.clone(), x.clone()]));
        it.ask((7 * S, 8 * S), "a-1", secret_write("s", "1"), value("1", 1));
        it.ask((9 * S, 10 * S), "a-1", secret_read("s"), value("1", 1));
        it.finals(&[("k", vec![y, x])], &[]);
        it
    }

    #[test]
    fn what_somebody_wrote_passes() {
        good().passes(CHECK);
    }

    #[test]
    fn what_nobody_wrote_is_found() {
        let mut it = good();
        let op = it.ask((11 * S, 12 * S), "b-1", read("k"), row(&[sibling("w", 9, "o", 9)]));
        let found =
            it.violates(CHECK, "b-1 shows \"w\" for the key web/prod/k, which nobody wrote");
        assert_eq!((found.at_us, found.ops), (12 * S, vec![op]));
        let mut it = good();
        it.ask((11 * S, 12 * S), "b-1", read("other"), row(&[sibling("x", 1, "o", 1)]));
        it.violates(CHECK, "\"x\" for the key web/prod/other, which nobody wrote there");
        let mut it = good();
        it.ask((11 * S, 12 * S), "b-1", read("k"), row(&[sibling("", 3, "o", 9)]));
        it.violates(CHECK, "a removal for the key web/prod/k, which nobody wrote");
        let mut it = good();
        it.ask((11 * S, 12 * S), "b-1", secret_read("s"), value("x", 1));
        it.violates(CHECK, "\"x\" for the secret s, which nobody wrote");
        let mut it = good();
        it.last("c-1", &[], &[("k", sibling("w", 4, "o", 4))]);
        it.violates(CHECK, "c-1 shows \"w\"");
    }

    #[test]
    fn what_was_refused_or_not_yet_asked_for_is_found() {
        let mut it = good();
        let op = it.call(11 * S, call(2, "b-1", watch(false)));
        it.watched(12 * S, op, &[("k", vec![sibling("no", 3, "p", 3)])], |_| {});
        it.violates(CHECK, "though all that asked for it were refused (call 3)");
        let mut it = good();
        it.ask((S, S), "b-1", read("k"), row(&[sibling("late", 3, "p", 3)]));
        it.ask((13 * S, 14 * S), "b-1", write("k", "late"), unknown());
        it.violates(CHECK, "which call 8 asks for only at 13.000 s");
    }
}
