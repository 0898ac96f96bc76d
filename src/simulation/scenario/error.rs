//! Why a file is no scenario: every problem with its line and column, and what is allowed in its
//! place. Nothing was started with such a file.

use std::fmt;
use std::time::Duration;

/// Most names that one problem lists as known; the rest is counted.
const KNOWN_SHOWN_MAX: usize = 40;

/// Why a file is no scenario. Nothing was started with it.
#[derive(Debug, thiserror::Error)]
pub enum ScenarioError {
    /// The file cannot be read.
    #[error("{file}: {source}")]
    Read {
        /// The file.
        file: String,
        /// What the system said.
        source: std::io::Error,
    },
    /// The file says what cannot be meant.
    #[error("{}", Lines(file, problems))]
    Bad {
        /// The file.
        file: String,
        /// All that were found, in the order of the file. At least one.
        problems: Vec<Problem>,
    },
}

/// One problem and where it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// Counted from 1.
    pub line: usize,
    /// In characters, counted from 1.
    pub column: usize,
    /// What is wrong.
    pub flaw: Flaw,
}

/// What is wrong at one place of a scenario.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Flaw {
    /// Not TOML.
    #[error("this is not TOML: {0}")]
    Toml(String),
    /// A name that nothing has: of a field, a region, a node, a kind of fault, a check.
    #[error("{found:?} is no {what}{}; known are {}", meant(near), listed(known))]
    Unknown {
        /// What the name should name.
        what: String,
        /// The name.
        found: String,
        /// The known name that was probably meant, or other advice.
        near: Option<String>,
        /// All that are known.
        known: Vec<String>,
    },
    /// A field that has to be there.
    #[error("`{field}` is missing: {allowed}")]
    Missing {
        /// The field.
        field: String,
        /// What it is for.
        allowed: String,
    },
    /// A value of the wrong type, or out of its range.
    #[error("`{field}` is {found}; allowed is {allowed}")]
    Value {
        /// The field.
        field: String,
        /// What stands there.
        found: String,
        /// What may stand there.
        allowed: String,
    },
    /// Values that are good alone and make no sense together.
    #[error("{0}")]
    Together(String),
    /// A fault that begins when nothing breaks any more.
    #[error(
        "this fault begins at {}, but the run's `duration` is {}; faults begin before its end",
        shown(*at),
        shown(*end)
    )]
    BeginsLate {
        /// When it would begin.
        at: Duration,
        /// The end of the run.
        end: Duration,
    },
    /// A fault that would go on after everything was healed.
    #[error(
        "this fault ends at {}, but the run's `duration` is {}; it may last {} at most",
        shown(at.saturating_add(*lasts)),
        shown(*end),
        shown(end.saturating_sub(*at))
    )]
    EndsLate {
        /// When it begins.
        at: Duration,
        /// How long it would last.
        lasts: Duration,
        /// The end of the run.
        end: Duration,
    },
    /// Two faults that want the same thing to be in two ways at once.
    #[error(
        "this {kind} and the {other_kind} of line {other_line} both decide {resource} at {}; let one end before the other begins, or make one fault of them",
        shown(*at)
    )]
    Contradiction {
        /// The later fault.
        kind: &'static str,
        /// The earlier one.
        other_kind: &'static str,
        /// Where the earlier one stands.
        other_line: usize,
        /// What both decide, in words.
        resource: String,
        /// The first moment at which both do.
        at: Duration,
    },
    /// The topology is none.
    #[error("`topology`: {0}")]
    Topology(String),
    /// The settings are none.
    #[error("`settings`: {0}")]
    Settings(String),
}

struct Lines<'a>(&'a str, &'a [Problem]);

impl fmt::Display for Lines<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(file, problems) = self;
        for (i, Problem { line, column, flaw }) in problems.iter().enumerate() {
            let end = if i == 0 { "" } else { "\n" };
            write!(f, "{end}{file}:{line}:{column}: {flaw}")?;
        }
        Ok(())
    }
}

fn meant(near: &Option<String>) -> String {
    near.as_ref().map(|near| format!(" ({near})")).unwrap_or_default()
}

fn listed(known: &[String]) -> String {
    let shown = &known[..known.len().min(KNOWN_SHOWN_MAX)];
    let more = known.len() - shown.len();
    let rest = if more > 0 { format!(" and {more} more") } else { String::new() };
    if known.is_empty() { "none".to_owned() } else { format!("{}{rest}", shown.join(", ")) }
}

/// A length of time as a scenario file writes it, in the largest unit that divides it.
pub(super) fn shown(time: Duration) -> String {
    const UNITS: [(&str, u128); 5] = [
        ("h", 3_600_000_000_000),
        ("m", 60_000_000_000),
        ("s", 1_000_000_000),
        ("ms", 1_000_000),
        ("us", 1_000),
    ];
    let ns = time.as_nanos();
    if ns == 0 {
        return "0s".to_owned();
    }
    let (unit, len) =
        UNITS.into_iter().find(|(_, len)| ns.is_multiple_of(*len)).unwrap_or(("ns", 1));
    format!("{}{unit}", ns / len)
}
