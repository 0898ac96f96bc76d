//! Reads a scenario file. Everything that is wrong with it is found in one go, each with its line.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use serde::Deserialize as _;
use sha2::{Digest as _, Sha256};
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::effect::FAULT_KINDS;
use super::error::Flaw;
use super::fault::{self, Names, Placed};
use super::place::{self, Place};
use super::reader::{Fields, Problems, Value, unknown};
use super::timeline::{self, TimelineFlaw};
use super::{
    DURATION_MAX, FAULTS_MAX, FILE_LEN_MAX, Nemesis, Scenario, ScenarioError, expect, workload,
};
use crate::settings::{Settings, SettingsError};
use crate::topology::Topology;

/// How long clients work where a file does not say.
const DURATION: Duration = Duration::from_secs(30);
/// How long the healed cluster goes on where a file does not say.
const SETTLE: Duration = Duration::from_secs(10);
/// Shortest run, and shortest settling.
const RUN_MIN: Duration = Duration::from_secs(1);
/// Longest claim, in bytes.
const CLAIM_LEN_MAX: usize = 500;
/// Most faults that a nemesis draws a minute.
const PER_MINUTE_MAX: f64 = 600.0;
/// Most that a kind is drawn in proportion.
const WEIGHT_MAX: f64 = 1_000.0;
/// Settings that are the simulator's own.
const SETTINGS_REFUSED: [&str; 3] = ["data_dir", "log", "secrets"];
/// Kinds that no nemesis draws: who loses what was acknowledged has to be said in the file, and so has
/// what takes three steps; and who joins.
const KINDS_NOT_DRAWN: [&str; 6] =
    ["lying_fsync", "old_copy", "wipe", "rotate_ca", "absent", "previous"];

impl Scenario {
    /// Reads and checks a file.
    pub fn load(path: &Path) -> Result<Self, ScenarioError> {
        let file = path.display().to_string();
        let text = place::read_bounded(path, FILE_LEN_MAX)
            .map_err(|source| ScenarioError::Read { file: file.clone(), source })?;
        Self::parse(&file, &text, path.parent().unwrap_or(Path::new("")))
    }

    /// Checks the text of a file. `file_name` stands in errors, and its stem is the scenario's name;
    /// a topology's path is relative to `dir`.
    pub fn parse(file_name: &str, text: &str, dir: &Path) -> Result<Self, ScenarioError> {
        let file = || file_name.to_owned();
        if text.len() as u64 > FILE_LEN_MAX {
            let source = std::io::ErrorKind::FileTooLarge.into();
            return Err(ScenarioError::Read { file: file(), source });
        }
        let problems = Problems::new(text);
        let (table, errors) = DeTable::parse_recoverable(text);
        for error in errors {
            let at = error.span().map_or(0, |span| span.start);
            problems.add(at, Flaw::Toml(error.message().to_owned()));
        }
        // What was recovered of a text that is no TOML would only give errors that follow from it.
        let scenario = if problems.list().is_empty() {
            let name = Path::new(file_name).file_stem().map(|stem| stem.to_string_lossy());
            read(&name.unwrap_or_default(), text, &table, dir, &problems)
        } else {
            None
        };
        let problems = problems.list();
        match scenario {
            Some(scenario) if problems.is_empty() => Ok(scenario),
            _ => Err(ScenarioError::Bad { file: file(), problems }),
        }
    }
}

/// None only where a problem was noted; there can be problems all the same.
fn read<'a>(
    name: &str,
    text: &str,
    table: &'a Spanned<DeTable<'a>>,
    dir: &Path,
    problems: &'a Problems<'a>,
) -> Option<Scenario> {
    let mut fields = Fields::new("", 0, table.get_ref(), problems);
    let claim = fields.demand("claim", "what this scenario shows, in one sentence");
    let claim = claim.and_then(|value| read_claim(&value));
    let duration = fields.duration("duration", DURATION, RUN_MIN..=DURATION_MAX);
    let settle_at = fields.get("settle").map(|value| value.at());
    let settle = fields.duration("settle", SETTLE, RUN_MIN..=DURATION_MAX);
    let mut topology = fields
        .demand("topology", "a topology file's path, relative to this file, or [topology]")
        .and_then(|value| place::read(&value, dir, problems));
    if let (Some(place), Some(faults)) = (&mut topology, &fields.get("faults")) {
        place.join(faults);
    }
    let names = Names(topology.as_ref().map(|place| &place.topology));
    let workload = workload::read(fields.get("workload").as_ref(), names);
    let expected = expect::read(fields.get("expect").as_ref(), names);
    expected.check_settle(settle, settle_at, problems);
    let mut faults = read_faults(fields.get("faults").as_ref(), names, duration);
    let nemesis = fields.get("nemesis").and_then(|value| read_nemesis(&value, names, duration));
    let settings = fields.get("settings").and_then(|value| read_settings(&value));
    fields.finish("field of a scenario");
    let Place { topology, text: topology_text } = topology?;
    let expect = expected.settle(&mut faults, &topology, duration, problems);
    check_timeline(&faults, &topology, duration, problems);
    let mut faults: Vec<_> = faults.into_iter().map(|placed| placed.fault).collect();
    faults.sort_by_key(|fault| fault.at);
    Some(Scenario {
        name: name.to_owned(),
        claim: claim?,
        topology: Arc::new(topology),
        hash: hash(text, &topology_text),
        duration,
        settle,
        workload,
        faults,
        nemesis,
        settings: settings.unwrap_or_default(),
        expect,
    })
}

fn read_claim(value: &Value<'_>) -> Option<String> {
    let allowed = "one sentence that says what this scenario shows, of 1 to 500 bytes";
    let claim = value.text(allowed)?.trim();
    let is_good = !claim.is_empty() && claim.len() <= CLAIM_LEN_MAX && !claim.contains('\n');
    if is_good { Some(claim.to_owned()) } else { value.refuse(allowed) }
}

fn read_faults(value: Option<&Value<'_>>, names: Names<'_>, end: Duration) -> Vec<Placed> {
    let list = value.and_then(|value| value.list(FAULTS_MAX, "a list of faults: [[faults]]"));
    list.unwrap_or_default().iter().filter_map(|value| fault::read(value, names, end)).collect()
}

fn check_timeline(placed: &[Placed], topology: &Topology, end: Duration, problems: &Problems<'_>) {
    let faults: Vec<_> = placed.iter().map(|placed| placed.fault.clone()).collect();
    for flaw in timeline::check(&faults, topology, end) {
        let (fault, flaw) = match flaw {
            TimelineFlaw::BeginsLate { fault } => {
                (fault, Flaw::BeginsLate { at: faults[fault].at, end })
            }
            TimelineFlaw::EndsLate { fault } => {
                let (at, lasts) = (faults[fault].at, faults[fault].lasts.unwrap_or_default());
                (fault, Flaw::EndsLate { at, lasts, end })
            }
            TimelineFlaw::Contradiction { fault, other, resource, at } => {
                let contradiction = Flaw::Contradiction {
                    kind: faults[fault].fault.kind_name(),
                    other_kind: faults[other].fault.kind_name(),
                    other_line: problems.place(placed[other].at).0,
                    resource: resource.to_string(),
                    at,
                };
                (fault, contradiction)
            }
        };
        problems.add(placed[fault].at, flaw);
    }
}

fn read_nemesis(value: &Value<'_>, names: Names<'_>, end: Duration) -> Option<Nemesis> {
    let mut fields = value.table("[nemesis]")?;
    let per_minute = fields.demand("per_minute", "how many faults a minute, on average");
    let per_minute = per_minute.and_then(|value| {
        let allowed = "a number of faults a minute, more than 0 and at most 600";
        value.number(|n| n > 0.0 && n <= PER_MINUTE_MAX, allowed)
    });
    let (shortest, longest) = (Duration::from_millis(1), Duration::from_secs(5).min(end));
    let lasts = match fields.get("lasts") {
        Some(value) => read_span(&value, shortest, end),
        None => Some((Duration::from_secs(1).min(end), longest)),
    };
    let from = fields.get("from").map(|value| {
        let from = value.duration(Duration::ZERO..=end)?;
        if from == end { value.refuse("a time before the end of the run") } else { Some(from) }
    });
    let kinds = match fields.get("kinds") {
        Some(value) => read_kinds(&value, names),
        None => Some(drawn_kinds(names).map(|kind| (kind.to_owned(), 1.0)).collect()),
    };
    fields.finish("field of [nemesis]");
    let per_minute = per_minute?;
    if per_minute * end.as_secs_f64() / 60.0 > FAULTS_MAX as f64 {
        let text = format!("this nemesis would draw more than {FAULTS_MAX} faults in the run");
        fields.add(Flaw::Together(text));
        return None;
    }
    let from = from.unwrap_or(Some(Duration::ZERO));
    Some(Nemesis { per_minute, lasts: lasts?, kinds: kinds?, from: from? })
}

/// `["1s", "5s"]`.
fn read_span(value: &Value<'_>, min: Duration, max: Duration) -> Option<(Duration, Duration)> {
    let allowed = "the shortest and the longest time, [\"1s\", \"5s\"]";
    let list = value.list(2, allowed)?;
    let [shortest, longest] = &list[..] else { return value.refuse(allowed) };
    let (shortest, longest) = (shortest.duration(min..=max), longest.duration(min..=max));
    let (shortest, longest) = (shortest?, longest?);
    if shortest > longest {
        return value.refuse("the shorter time first");
    }
    Some((shortest, longest))
}

/// Kinds that a nemesis draws on such a topology. Where there is one region, no link breaks.
fn drawn_kinds(names: Names<'_>) -> impl Iterator<Item = &'static str> {
    let regions = names.0.map_or(3, |topology| topology.regions().len());
    FAULT_KINDS.into_iter().filter(move |kind| {
        let needed = match *kind {
            "bridge" => 3,
            "partition" | "isolate" | "one_way" | "flapping" | "link" | "hold" => 2,
            _ => 1,
        };
        !KINDS_NOT_DRAWN.contains(kind) && regions >= needed
    })
}

/// `{ partition = 3, crash = 1 }`, or `["partition", "crash"]`.
fn read_kinds(value: &Value<'_>, names: Names<'_>) -> Option<BTreeMap<String, f64>> {
    let known: Vec<&'static str> = drawn_kinds(names).collect();
    let what = "kind that a nemesis draws here";
    let allowed = "kinds and how often each: { partition = 3, crash = 1 }";
    let mut kinds = Vec::new();
    if value.is_list() {
        let list = value.list(known.len(), allowed)?;
        kinds.extend(list.iter().map(|it| Some((it.one_of(what, &known)?.to_owned(), 1.0))));
    } else {
        for (kind, at, weight) in value.entries(allowed)? {
            if !known.contains(&kind) {
                value.add_at(at, unknown(what, kind, known.iter().copied()));
            }
            let weight = weight.number(
                |n| n > 0.0 && n <= WEIGHT_MAX,
                "how often in proportion, more than 0 and at most 1000",
            );
            kinds.push(weight.map(|weight| (kind.to_owned(), weight)));
        }
    }
    if kinds.is_empty() { value.refuse(allowed) } else { kinds.into_iter().collect() }
}

/// The table as a text of its own.
fn read_settings(value: &Value<'_>) -> Option<String> {
    let DeValue::Table(table) = value.raw().get_ref() else {
        return value.refuse("[settings], as `holm serve` reads them");
    };
    let mut is_good = true;
    for key in table.keys().filter(|key| SETTINGS_REFUSED.contains(&&**key.get_ref())) {
        let text = format!("{} is the simulator's to set", key.get_ref());
        value.add_at(key.span().start, Flaw::Settings(text));
        is_good = false;
    }
    let span = value.raw().span();
    let reader = || toml::de::Deserializer::from(Spanned::new(span.clone(), table.clone()));
    let form = |error: toml::de::Error| {
        let at = error.span().map_or(span.start, |span| span.start);
        value.add_at(at, Flaw::Settings(error.message().to_owned()));
    };
    let settings = Settings::deserialize(reader()).map_err(form).ok()?;
    if let Err(error) = settings.check() {
        let at = match &error {
            SettingsError::Value { field, .. } => place::locate(value.raw(), field),
            SettingsError::Toml(_) => span.start,
        };
        value.add_at(at, Flaw::Settings(error.to_string()));
        return None;
    }
    let table = toml::Table::deserialize(reader()).map_err(form).ok()?;
    let text = toml::to_string(&table);
    let text = text.map_err(|error| value.add(Flaw::Settings(error.to_string()))).ok()?;
    is_good.then_some(text)
}

/// Two texts, so that neither can pass for a part of the other.
fn hash(text: &str, topology_text: &str) -> String {
    let mut hash = Sha256::new();
    hash.update((text.len() as u64).to_be_bytes());
    hash.update(text);
    hash.update(topology_text);
    hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests;
