//! Reads a TOML table field by field. Each problem is noted with its place, and reading goes on, so
//! that a file's author hears of all of them at once. It knows nothing of scenarios.

use std::cell::RefCell;
use std::ops::RangeInclusive;
use std::time::Duration;

use toml::Spanned;
use toml::de::{DeString, DeTable, DeValue};

use super::error::{Flaw, Problem, shown};
use super::near::nearest;
use crate::settings::parse_duration;

/// Most problems of one file; what comes after them is not told.
const PROBLEMS_MAX: usize = 100;

/// What was found wrong with one text so far.
pub(super) struct Problems<'t> {
    text: &'t str,
    found: RefCell<Vec<(usize, Flaw)>>,
}

impl<'t> Problems<'t> {
    pub(super) fn new(text: &'t str) -> Self {
        Self { text, found: RefCell::default() }
    }

    /// Notes a problem at a byte of the text.
    pub(super) fn add(&self, at: usize, flaw: Flaw) {
        let mut found = self.found.borrow_mut();
        if found.len() < PROBLEMS_MAX {
            found.push((at, flaw));
        }
    }

    /// All of them in the order of the text.
    pub(super) fn list(&self) -> Vec<Problem> {
        let mut found = self.found.borrow().clone();
        found.sort_by_key(|(at, _)| *at);
        let place = |(at, flaw)| {
            let (line, column) = self.place(at);
            Problem { line, column, flaw }
        };
        found.into_iter().map(place).collect()
    }

    /// Line and column of a byte, counted from 1.
    pub(super) fn place(&self, at: usize) -> (usize, usize) {
        let before = &self.text.as_bytes()[..at.min(self.text.len())];
        let line_start = before.iter().rposition(|byte| *byte == b'\n').map_or(0, |i| i + 1);
        let line = before.iter().filter(|byte| **byte == b'\n').count() + 1;
        // Bytes that continue a character do not count.
        let column = before[line_start..].iter().filter(|byte| **byte & 0xC0 != 0x80).count() + 1;
        (line, column)
    }
}

/// A table that is being read.
pub(super) struct Fields<'a> {
    /// As it stands in messages: `faults[2]`; empty for the file itself.
    pub(super) name: String,
    /// Where it stands, in bytes.
    pub(super) at: usize,
    table: &'a DeTable<'a>,
    asked: Vec<&'static str>,
    problems: &'a Problems<'a>,
}

impl<'a> Fields<'a> {
    pub(super) fn new(
        name: impl Into<String>,
        at: usize,
        table: &'a DeTable<'a>,
        problems: &'a Problems<'a>,
    ) -> Self {
        Self { name: name.into(), at, table, asked: Vec::new(), problems }
    }

    /// A field that may be there. Which ones were asked for is what the table may have.
    pub(super) fn get(&mut self, key: &'static str) -> Option<Value<'a>> {
        self.asked.push(key);
        let value = self.table.get(key)?;
        let field = if self.name.is_empty() { key.into() } else { format!("{}.{key}", self.name) };
        Some(Value { field, value, problems: self.problems })
    }

    /// A field that has to be there; `allowed` says what it is for.
    pub(super) fn demand(&mut self, key: &'static str, allowed: &str) -> Option<Value<'a>> {
        let value = self.get(key);
        if value.is_none() {
            self.add(Flaw::Missing { field: key.to_owned(), allowed: allowed.to_owned() });
        }
        value
    }

    /// A length of time that may be there.
    pub(super) fn duration(
        &mut self,
        key: &'static str,
        default: Duration,
        allowed: RangeInclusive<Duration>,
    ) -> Duration {
        self.get(key).and_then(|value| value.duration(allowed)).unwrap_or(default)
    }

    /// Those of `keys` that are there.
    pub(super) fn present(&self, keys: &[&'static str]) -> Vec<&'static str> {
        keys.iter().copied().filter(|key| self.table.contains_key(*key)).collect()
    }

    /// Notes a problem with the table as a whole.
    pub(super) fn add(&self, flaw: Flaw) {
        self.problems.add(self.at, flaw);
    }

    /// Notes every field that was not asked for, and says whether there was one. `what` says what
    /// such a field would be.
    pub(super) fn finish(&self, what: &str) -> bool {
        let is_unknown = |key: &&Spanned<DeString<'_>>| !self.asked.contains(&&**key.get_ref());
        let mut is_any = false;
        for key in self.table.keys().filter(is_unknown) {
            let flaw = unknown(what, key.get_ref(), self.asked.clone());
            self.problems.add(key.span().start, flaw);
            is_any = true;
        }
        is_any
    }
}

/// One value that is being read.
pub(super) struct Value<'a> {
    /// As it stands in messages.
    pub(super) field: String,
    value: &'a Spanned<DeValue<'a>>,
    problems: &'a Problems<'a>,
}

impl<'a> Value<'a> {
    /// Where it stands, in bytes.
    pub(super) fn at(&self) -> usize {
        self.value.span().start
    }

    pub(super) fn raw(&self) -> &'a Spanned<DeValue<'a>> {
        self.value
    }

    /// Notes a problem with it.
    pub(super) fn add(&self, flaw: Flaw) {
        self.problems.add(self.at(), flaw);
    }

    /// Notes a problem with something in it.
    pub(super) fn add_at(&self, at: usize, flaw: Flaw) {
        self.problems.add(at, flaw);
    }

    /// Notes that it is not what is allowed.
    pub(super) fn refuse<T>(&self, allowed: impl Into<String>) -> Option<T> {
        let found = match self.value.get_ref() {
            DeValue::String(text) => format!("{text:?}"),
            DeValue::Integer(number) => number.to_string(),
            DeValue::Float(number) => number.to_string(),
            DeValue::Boolean(value) => value.to_string(),
            DeValue::Array(list) if list.is_empty() => "an empty list".to_owned(),
            DeValue::Array(_) => "a list".to_owned(),
            DeValue::Table(_) => "a table".to_owned(),
            DeValue::Datetime(_) => "a date".to_owned(),
        };
        self.add(Flaw::Value { field: self.field.clone(), found, allowed: allowed.into() });
        None
    }

    pub(super) fn text(&self, allowed: &str) -> Option<&'a str> {
        self.value.get_ref().as_str().or_else(|| self.refuse(allowed))
    }

    pub(super) fn is_text(&self) -> bool {
        self.value.get_ref().is_str()
    }

    pub(super) fn is_list(&self) -> bool {
        self.value.get_ref().is_array()
    }

    pub(super) fn integer(&self, allowed: RangeInclusive<i64>) -> Option<i64> {
        let number = self.value.get_ref().as_integer();
        let number = number.and_then(|n| i64::from_str_radix(n.as_str(), n.radix()).ok());
        number.filter(|number| allowed.contains(number)).or_else(|| {
            self.refuse(format!("a whole number from {} to {}", allowed.start(), allowed.end()))
        })
    }

    /// A whole number that fits into 32 bits.
    pub(super) fn count(&self, allowed: RangeInclusive<u32>) -> Option<u32> {
        let number = self.integer(i64::from(*allowed.start())..=i64::from(*allowed.end()))?;
        u32::try_from(number).ok()
    }

    /// A number of any form, where `is_good` holds; NaN never is.
    pub(super) fn number(&self, is_good: impl Fn(f64) -> bool, allowed: &str) -> Option<f64> {
        let number: Option<f64> = match self.value.get_ref() {
            #[expect(clippy::cast_precision_loss, reason = "limits are far below 2^53")]
            DeValue::Integer(n) => {
                i64::from_str_radix(n.as_str(), n.radix()).ok().map(|number| number as f64)
            }
            DeValue::Float(n) => n.as_str().parse().ok(),
            _ => None,
        };
        number.filter(|n| n.is_finite() && is_good(*n)).or_else(|| self.refuse(allowed))
    }

    pub(super) fn probability(&self) -> Option<f64> {
        self.number(|n| (0.0..=1.0).contains(&n), "a probability from 0 to 1")
    }

    /// A length of time with a unit.
    pub(super) fn duration(&self, allowed: RangeInclusive<Duration>) -> Option<Duration> {
        let time = self.value.get_ref().as_str().and_then(|text| parse_duration(text).ok());
        time.filter(|time| allowed.contains(time)).or_else(|| {
            let (min, max) = (shown(*allowed.start()), shown(*allowed.end()));
            self.refuse(format!("a length of time with a unit (500ms, 30s, 2m), {min} to {max}"))
        })
    }

    /// The elements of a list of at most `max`.
    pub(super) fn list(&self, max: usize, allowed: &str) -> Option<Vec<Value<'a>>> {
        let list = self.value.get_ref().as_array().filter(|list| list.len() <= max);
        let Some(list) = list else { return self.refuse(format!("{allowed}, {max} at most")) };
        let element = |(i, value)| Value {
            field: format!("{}[{i}]", self.field),
            value,
            problems: self.problems,
        };
        Some(list.iter().enumerate().map(element).collect())
    }

    pub(super) fn table(&self, allowed: &str) -> Option<Fields<'a>> {
        let Some(table) = self.value.get_ref().as_table() else { return self.refuse(allowed) };
        Some(Fields::new(self.field.clone(), self.at(), table, self.problems))
    }

    /// The fields of a table whose keys are data.
    pub(super) fn entries(&self, allowed: &str) -> Option<Vec<(&'a str, usize, Value<'a>)>> {
        let Some(table) = self.value.get_ref().as_table() else { return self.refuse(allowed) };
        let entry = |(key, value): (&'a Spanned<DeString<'a>>, _)| {
            let name: &str = key.get_ref();
            let field = format!("{}.{name}", self.field);
            (name, key.span().start, Value { field, value, problems: self.problems })
        };
        Some(table.iter().map(entry).collect())
    }

    /// One of `known`.
    pub(super) fn one_of(&self, what: &str, known: &[&'static str]) -> Option<&'static str> {
        let text = self.text(&format!("the name of a {what}"))?;
        let found = known.iter().copied().find(|name| *name == text);
        if found.is_none() {
            self.add(unknown(what, text, known.to_vec()));
        }
        found
    }
}

/// The flaw of a name that is not `known`.
pub(super) fn unknown<'k>(
    what: &str,
    found: &str,
    known: impl IntoIterator<Item = &'k str>,
) -> Flaw {
    let known: Vec<&str> = known.into_iter().collect();
    let near = nearest(found, known.iter().copied()).map(|name| format!("did you mean {name:?}?"));
    let known = known.into_iter().map(str::to_owned).collect();
    Flaw::Unknown { what: what.to_owned(), found: found.to_owned(), near, known }
}
