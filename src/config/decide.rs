//! What a write request comes to, given what this node sees: each key's next entry, or a refusal.
//! Plain code over values: the clock is an argument, and nothing is changed here.

use super::request::{Action, Check, WriteError, WriteRequest};
use super::view::{DocumentView, Row};
use crate::model::{Dot, JsonText, Key, Stamp};

/// The next entry of one key, before it has a place in a change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Draft {
    /// Which key.
    pub key: Key,
    /// Its new value; `None` removes it.
    pub value: Option<JsonText>,
    /// 1 + the highest version it replaces.
    pub version: u64,
    /// Above everything it replaces.
    pub stamp: Stamp,
    /// Whether the key was not there before.
    pub created: bool,
}

/// Limits on what a write may come to.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Largest value, in bytes of minified JSON.
    pub value_bytes_max: usize,
}

/// Decides `request` against `view` at `now`. All of it, or nothing.
pub fn decide(
    request: &WriteRequest,
    view: Option<&DocumentView>,
    now: Stamp,
    limits: Limits,
) -> Result<Vec<Draft>, WriteError> {
    if request.remove_all {
        let rows = view.into_iter().flat_map(|view| view.rows.iter());
        return Ok(rows
            .filter(|(_, row)| is_there(row))
            .map(|(key, row)| draft(key, Some(row), None, now, 0))
            .collect());
    }
    let version_floor = view.map_or(0, DocumentView::version_floor);
    let mut drafts = Vec::with_capacity(request.operations.len());
    for operation in &request.operations {
        let key = &operation.key;
        let row = view.and_then(|view| view.rows.get(key)).map(|row| &**row);
        check(key, row, &operation.check)?;
        let value = match &operation.action {
            Action::Put(value) => Some(value.clone()),
            Action::MergePatch(patch) => {
                let live = row.and_then(|row| row.winner().value.as_ref());
                let old = live.ok_or_else(|| WriteError::NotFound(key.clone()))?;
                Some(old.merge_patch(patch).map_err(|e| bad_value(key, e.to_string()))?)
            }
            Action::Remove => {
                if !row.is_some_and(is_there) {
                    return Err(WriteError::NotFound(key.clone()));
                }
                None
            }
        };
        let len = value.as_ref().map_or(0, |value| value.as_str().len());
        if len > limits.value_bytes_max {
            let max = limits.value_bytes_max;
            return Err(bad_value(
                key,
                format!("the value has {len} bytes; at most {max} are allowed"),
            ));
        }
        drafts.push(draft(key, row, value, now, version_floor));
    }
    Ok(drafts)
}

fn bad_value(key: &Key, reason: String) -> WriteError {
    WriteError::BadValue { key: key.clone(), reason }
}

/// Whether any of the siblings holds a value: such a key can be removed, even where the winner is
/// a removal, which settles the conflict.
fn is_there(row: &Row) -> bool {
    row.siblings().iter().any(|entry| !entry.is_removal())
}

/// A key that has no row goes on above `version_floor`: a removal that was left out of its document
/// may have had that version.
fn draft(
    key: &Key,
    row: Option<&Row>,
    value: Option<JsonText>,
    now: Stamp,
    version_floor: u64,
) -> Draft {
    let siblings = row.map_or(&[][..], Row::siblings);
    let version = siblings.iter().map(|entry| entry.version).max().unwrap_or(version_floor);
    let replaced = siblings.iter().map(|entry| entry.stamp).max();
    Draft {
        key: key.clone(),
        value,
        version: version.saturating_add(1),
        stamp: Stamp::after(now, replaced),
        created: row.is_none_or(|row| row.winner().is_removal()),
    }
}

fn check(key: &Key, row: Option<&Row>, check: &Check) -> Result<(), WriteError> {
    let live = row.filter(|row| !row.winner().is_removal());
    let holds = match check {
        Check::None => true,
        Check::Absent => live.is_none(),
        Check::Present => live.is_some(),
        Check::Version(version) => live.is_some_and(|row| row.winner().version == *version),
        Check::Siblings(expected) => row.is_some_and(|row| {
            let dots = |dots: &mut dyn Iterator<Item = Dot>| {
                let mut dots: Vec<Dot> = dots.collect();
                dots.sort_unstable();
                dots
            };
            dots(&mut row.siblings().iter().map(|entry| entry.dot))
                == dots(&mut expected.iter().copied())
        }),
    };
    if holds {
        return Ok(());
    }
    let found = match live {
        None => "the key is not there".to_owned(),
        Some(row) => {
            format!("the key is at version {}@{}", row.winner().version, row.winner().dot.origin)
        }
    };
    Err(WriteError::PreconditionFailed { key: key.clone(), found })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Entry, Operation};
    use crate::model::{DocumentId, Origin};
    use std::sync::Arc;

    const LIMITS: Limits = Limits { value_bytes_max: 20 };

    fn key(name: &str) -> Key {
        Key::new(name).unwrap()
    }

    fn entry(origin: u8, version: u64, stamp: u64, value: Option<&str>) -> Entry {
        Entry {
            value: value.map(|v| JsonText::parse(v).unwrap()),
            version,
            stamp: Stamp(stamp),
            dot: Dot { origin: Origin([origin; 8]), n: version },
            author: "a".into(),
            region: "r".into(),
            message: None,
            idempotency: None,
        }
    }

    fn view(rows: Vec<(&str, Vec<Entry>)>) -> DocumentView {
        let row = |(name, siblings)| (key(name), Arc::new(Row::new(siblings).unwrap()));
        DocumentView { rows: rows.into_iter().map(row).collect(), ..DocumentView::default() }
    }

    fn request(operations: Vec<(&str, Action, Check)>) -> WriteRequest {
        let operation = |(name, action, check)| Operation { key: key(name), action, check };
        WriteRequest {
            document: DocumentId::parse("web/dev").unwrap(),
            operations: operations.into_iter().map(operation).collect(),
            remove_all: false,
            author: "a".into(),
            message: None,
            idempotency: None,
            behalf: None,
        }
    }

    fn put(value: &str) -> Action {
        Action::Put(JsonText::parse(value).unwrap())
    }

    fn decided(view: &DocumentView, action: Action, check: Check) -> Result<Draft, WriteError> {
        let request = request(vec![("k", action, check)]);
        decide(&request, Some(view), Stamp(50), LIMITS).map(|mut drafts| drafts.remove(0))
    }

    #[test]
    fn a_write_is_above_every_sibling_it_replaces() {
        let view = view(vec![("k", vec![entry(1, 3, 90, Some("1")), entry(2, 7, 10, Some("2"))])]);
        let draft = decided(&view, put("3"), Check::None).unwrap();
        assert_eq!((draft.version, draft.stamp, draft.created), (8, Stamp(91), false));
    }

    #[test]
    fn a_key_made_again_goes_on_above_its_removal() {
        let view = view(vec![("k", vec![entry(1, 3, 9, None)])]);
        let draft = decided(&view, put("3"), Check::Absent).unwrap();
        assert_eq!((draft.version, draft.stamp, draft.created), (4, Stamp(50), true));
    }

    #[test]
    fn checks_hold_or_nothing_is_decided() {
        let view = view(vec![("k", vec![entry(1, 3, 9, Some("1")), entry(2, 3, 8, Some("2"))])]);
        let dots = vec![entry(2, 3, 0, None).dot, entry(1, 3, 0, None).dot];
        for (holds, check) in [
            (true, Check::Present),
            (false, Check::Absent),
            (true, Check::Version(3)),
            (false, Check::Version(2)),
            (true, Check::Siblings(dots.clone())),
            (false, Check::Siblings(dots[..1].to_vec())),
        ] {
            let outcome = decided(&view, put("5"), check.clone());
            assert_eq!(outcome.is_ok(), holds, "{check:?}: {outcome:?}");
        }
        let two = request(vec![("new", put("1"), Check::None), ("k", put("1"), Check::Absent)]);
        let refused = decide(&two, Some(&view), Stamp(1), LIMITS);
        assert!(
            matches!(refused, Err(WriteError::PreconditionFailed { key, .. }) if key.as_str() == "k")
        );
    }

    #[test]
    fn patch_and_removal_need_the_key_and_values_have_a_limit() {
        let none = view(vec![]);
        let patch = Action::MergePatch(JsonText::parse(r#"{"a":1}"#).unwrap());
        assert_eq!(decided(&none, patch.clone(), Check::None), Err(WriteError::NotFound(key("k"))));
        assert_eq!(
            decided(&none, Action::Remove, Check::None),
            Err(WriteError::NotFound(key("k")))
        );
        let some = view(vec![("k", vec![entry(1, 1, 1, Some(r#"{"b":"123456789"}"#))])]);
        assert!(matches!(decided(&some, patch, Check::None), Err(WriteError::BadValue { .. })));
        let gone = view(vec![("k", vec![entry(1, 2, 9, None), entry(2, 2, 1, Some("1"))])]);
        assert!(decided(&gone, Action::Remove, Check::None).is_ok(), "settles the conflict");
    }

    #[test]
    fn removing_all_removes_what_is_there_and_nothing_else() {
        let view =
            view(vec![("a", vec![entry(1, 1, 1, Some("1"))]), ("b", vec![entry(1, 2, 1, None)])]);
        let mut all = request(vec![]);
        all.remove_all = true;
        let drafts = decide(&all, Some(&view), Stamp(5), LIMITS).unwrap();
        assert_eq!(drafts.len(), 1);
        assert_eq!((drafts[0].key.as_str(), &drafts[0].value), ("a", &None));
    }
}
