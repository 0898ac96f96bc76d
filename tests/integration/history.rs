//! A history of what clients asked and were told of one thing that has versions, and whether it is
//! linearizable. The version that every answer names is the witness of the order: so that checking
//! is one pass, and nothing is undecided.

use std::collections::BTreeMap;
use std::time::Duration;

/// What was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Read,
    Write,
}

/// One request and its answer.
#[derive(Clone, Debug)]
pub(crate) struct Operation {
    pub(crate) kind: Kind,
    /// What was written or read. Each write writes something that no other does.
    pub(crate) value: String,
    /// The version it was answered with; none where a write's outcome is not known.
    pub(crate) version: Option<u64>,
    pub(crate) started: Duration,
    /// None where a write's outcome is not known: it may be done at any later time.
    pub(crate) ended: Option<Duration>,
}

/// Whether there is an order of the operations in which each happens between its start and its end
/// and reads what was written last; the error says which two break it.
pub(crate) fn check(history: &[Operation]) -> Result<(), String> {
    let mut written: BTreeMap<&str, Option<u64>> = BTreeMap::new();
    let mut versions: BTreeMap<u64, &str> = BTreeMap::new();
    for write in history.iter().filter(|it| it.kind == Kind::Write) {
        written.insert(&write.value, write.version);
        if let Some(version) = write.version
            && let Some(other) = versions.insert(version, &write.value)
        {
            return Err(format!("{} and {other} both became version {version}", write.value));
        }
    }
    for read in history.iter().filter(|it| it.kind == Kind::Read) {
        let Some(version) = read.version else { continue };
        match written.get(&*read.value) {
            None => return Err(format!("{} was read and never written", read.value)),
            Some(Some(at)) if *at != version => {
                return Err(format!("{} was version {at}, and read as {version}", read.value));
            }
            Some(_) => {}
        }
        if let Some(other) = versions.insert(version, &read.value)
            && other != read.value
        {
            return Err(format!("version {version} was read as {other} and as {}", read.value));
        }
    }
    in_real_time(history)
}

/// No operation is told of less than what an earlier one was told of before it started.
fn in_real_time(history: &[Operation]) -> Result<(), String> {
    let known = history.iter().filter_map(|it| Some((it, it.version?, it.ended?)));
    let mut ended: Vec<(Duration, u64, &Operation)> =
        known.clone().map(|(operation, version, ended)| (ended, version, operation)).collect();
    ended.sort_by_key(|(ended, version, _)| (*ended, *version));
    let mut started: Vec<_> = known.map(|(operation, version, _)| (operation, version)).collect();
    started.sort_by_key(|(operation, _)| operation.started);
    let mut ended = ended.into_iter().peekable();
    let mut highest: Option<(u64, &Operation)> = None;
    for (operation, version) in started {
        while let Some((_, version, before)) =
            ended.next_if(|(ended, _, _)| *ended < operation.started)
        {
            if highest.is_none_or(|(highest, _)| highest < version) {
                highest = Some((version, before));
            }
        }
        let Some((floor, before)) = highest else { continue };
        let is_back = match operation.kind {
            Kind::Read => version < floor,
            Kind::Write => version <= floor,
        };
        if is_back {
            return Err(format!("{operation:?} started after {before:?} had ended"));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn operation(kind: Kind, value: &str, version: u64, from: u64, to: u64) -> Operation {
        Operation {
            kind,
            value: value.to_owned(),
            version: Some(version),
            started: Duration::from_millis(from),
            ended: Some(Duration::from_millis(to)),
        }
    }

    fn write(value: &str, version: u64, from: u64, to: u64) -> Operation {
        operation(Kind::Write, value, version, from, to)
    }

    fn read(value: &str, version: u64, from: u64, to: u64) -> Operation {
        operation(Kind::Read, value, version, from, to)
    }

    #[test]
    fn a_good_history_is_taken() {
        let unknown = Operation { version: None, ended: None, ..write("c", 0, 5, 6) };
        let history =
            [write("a", 1, 0, 10), read("a", 1, 2, 3), write("b", 2, 4, 20), read("a", 1, 11, 12)];
        assert_eq!(check(&history), Ok(()));
        let history = [write("a", 1, 0, 1), unknown, read("a", 1, 7, 8), read("c", 2, 9, 10)];
        assert_eq!(check(&history), Ok(()));
    }

    #[test]
    fn each_kind_of_bad_history_is_found() {
        for (what, history) in [
            ("stale read", vec![write("a", 1, 0, 1), write("b", 2, 2, 3), read("a", 1, 4, 5)]),
            ("lost write", vec![write("a", 1, 0, 1), write("b", 1, 2, 3)]),
            (
                "back",
                vec![
                    write("a", 1, 0, 9),
                    write("b", 2, 0, 9),
                    read("b", 2, 1, 2),
                    read("a", 1, 3, 4),
                ],
            ),
            ("from the future", vec![read("a", 1, 0, 1), write("a", 1, 2, 3)]),
            ("out of thin air", vec![write("a", 1, 0, 1), read("z", 2, 2, 3)]),
            ("torn", vec![write("a", 1, 0, 1), write("b", 2, 0, 1), read("a", 2, 2, 3)]),
            ("order of writes", vec![write("a", 2, 0, 1), write("b", 1, 2, 3)]),
        ] {
            assert!(check(&history).is_err(), "{what}");
        }
    }
}
