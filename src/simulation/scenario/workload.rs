//! Reads `[workload]`. A file that names no rate has a small mix of everything; one that names some
//! has these and nothing else.

use std::time::Duration;

use super::error::Flaw;
use super::fault::Names;
use super::reader::{Fields, Value};
use super::{DURATION_MAX, RATE_MAX, Workload};
use crate::config::HistoryPolicy;
use crate::config::retention::VERSIONS_MAX;

/// Most documents, secrets and watchers a region.
const MANY_MAX: u32 = 1_000;
/// Most keys of a document.
const KEYS_MAX: u32 = 100_000;
/// Most keys that one write sets.
const KEYS_PER_WRITE_MAX: u32 = 1_000;
/// Most bytes of a value.
const VALUE_LEN_MAX: u32 = 256 * 1024;
/// Steepest choice of keys; past it all requests go to one.
const KEY_SKEW_MAX: f64 = 4.0;

impl Default for Workload {
    /// A small mix of everything, some 25 requests a second.
    fn default() -> Self {
        Self {
            config_writes: 5.0,
            config_reads: 5.0,
            config_removes: 0.5,
            cas: 1.0,
            watchers: 1,
            session_clients: 2,
            secret_writes: 1.0,
            secret_reads: 2.0,
            secret_removes: 0.1,
            secret_local_reads: 0.5,
            role_writes: 0.2,
            role_reads: 0.5,
            revocations: 0.1,
            account_requests: 1.0,
            ..Self::quiet()
        }
    }
}

impl Workload {
    /// Nobody does anything.
    pub fn quiet() -> Self {
        Self {
            documents: 2,
            keys: 10,
            key_skew: 0.5,
            value_bytes: 32,
            config_writes: 0.0,
            keys_per_write: 1,
            config_reads: 0.0,
            config_removes: 0.0,
            cas: 0.0,
            ack: None,
            watchers: 0,
            watchers_move_every: Duration::from_secs(5),
            session_clients: 0,
            session_rate: 2.0,
            session_moves: 0.2,
            secrets: 5,
            secret_writes: 0.0,
            secret_reads: 0.0,
            secret_removes: 0.0,
            secret_local_reads: 0.0,
            role_writes: 0.0,
            role_reads: 0.0,
            revocations: 0.0,
            account_requests: 0.0,
            retries: 0.5,
            regions: std::collections::BTreeSet::new(),
            history: None,
        }
    }

    /// What is done, and how often.
    fn rates(&mut self) -> [(&'static str, &mut f64); 12] {
        [
            ("config_writes", &mut self.config_writes),
            ("config_reads", &mut self.config_reads),
            ("config_removes", &mut self.config_removes),
            ("cas", &mut self.cas),
            ("secret_writes", &mut self.secret_writes),
            ("secret_reads", &mut self.secret_reads),
            ("secret_removes", &mut self.secret_removes),
            ("secret_local_reads", &mut self.secret_local_reads),
            ("role_writes", &mut self.role_writes),
            ("role_reads", &mut self.role_reads),
            ("revocations", &mut self.revocations),
            ("account_requests", &mut self.account_requests),
        ]
    }
}

/// Reads the table; `value` is none where the file has none.
pub(super) fn read(value: Option<&Value<'_>>, names: Names<'_>) -> Workload {
    let Some(mut fields) = value.and_then(|value| value.table("[workload]")) else {
        return Workload::default();
    };
    let mut workload = read_activity(&mut fields).unwrap_or_default();
    read_shape(&mut fields, &mut workload);
    read_clients(&mut fields, &mut workload, names);
    fields.finish("field of [workload]");
    workload
}

fn rate(value: &Value<'_>) -> Option<f64> {
    let allowed = "a rate a second, more than 0 and at most 10000 (what is not done is left out)";
    value.number(|n| n > 0.0 && n <= RATE_MAX, allowed)
}

/// None where no activity is named.
fn read_activity(fields: &mut Fields<'_>) -> Option<Workload> {
    let mut workload = Workload::quiet();
    let mut is_named = false;
    for (key, place) in workload.rates() {
        let Some(value) = fields.get(key) else { continue };
        is_named = true;
        *place = rate(&value).unwrap_or_default();
    }
    for (key, place) in
        [("watchers", &mut workload.watchers), ("session_clients", &mut workload.session_clients)]
    {
        let Some(value) = fields.get(key) else { continue };
        is_named = true;
        *place = value.count(1..=MANY_MAX).unwrap_or_default();
    }
    is_named.then_some(workload)
}

fn read_shape(fields: &mut Fields<'_>, workload: &mut Workload) {
    for (key, max, place) in [
        ("documents", MANY_MAX, &mut workload.documents),
        ("keys", KEYS_MAX, &mut workload.keys),
        ("value_bytes", VALUE_LEN_MAX, &mut workload.value_bytes),
        ("keys_per_write", KEYS_PER_WRITE_MAX, &mut workload.keys_per_write),
        ("secrets", MANY_MAX, &mut workload.secrets),
    ] {
        if let Some(count) = fields.get(key).and_then(|value| value.count(1..=max)) {
            *place = count;
        }
    }
    let skew = fields.get("key_skew").and_then(|value| {
        value.number(|n| (0.0..=KEY_SKEW_MAX).contains(&n), "a number from 0 (evenly) to 4")
    });
    workload.key_skew = skew.unwrap_or(workload.key_skew);
    if workload.keys_per_write > workload.keys {
        fields.add(Flaw::Together(format!(
            "a write sets {} keys (`keys_per_write`), and a document has {} (`keys`)",
            workload.keys_per_write, workload.keys
        )));
    }
}

fn read_clients(fields: &mut Fields<'_>, workload: &mut Workload, names: Names<'_>) {
    let shortest = Duration::from_millis(100);
    let every = workload.watchers_move_every;
    workload.watchers_move_every = match fields.get("watchers_move_every") {
        Some(value) if value.raw().get_ref().as_str() == Some("never") => Duration::ZERO,
        Some(value) => value.duration(shortest..=DURATION_MAX).unwrap_or(every),
        None => every,
    };
    if let Some(steps) = fields.get("session_rate").and_then(|value| rate(&value)) {
        workload.session_rate = steps;
    }
    if f64::from(workload.session_clients) * workload.session_rate > RATE_MAX {
        let steps = f64::from(workload.session_clients) * workload.session_rate;
        fields.add(Flaw::Together(format!(
            "`session_clients` × `session_rate` is {steps} a second; {RATE_MAX} at most"
        )));
    }
    for (key, place) in
        [("session_moves", &mut workload.session_moves), ("retries", &mut workload.retries)]
    {
        if let Some(part) = fields.get(key).and_then(|value| value.probability()) {
            *place = part;
        }
    }
    workload.ack = fields.get("ack").and_then(|value| ack(&value, names));
    if let Some(regions) = fields.get("regions").and_then(|value| names.regions(&value)) {
        workload.regions = regions;
    }
    workload.history = fields.get("history").and_then(|value| history(&value));
}

/// `{ versions = 3, age = "5s" }`.
fn history(value: &Value<'_>) -> Option<HistoryPolicy> {
    let mut fields = value.table(&value.field)?;
    let versions = fields.demand("versions", "how many of a key's newest versions are kept");
    let versions = versions.and_then(|value| value.count(1..=u32::try_from(VERSIONS_MAX).ok()?));
    let age = fields.demand("age", "what is younger is kept, too: \"5s\"");
    let age = age.and_then(|value| value.duration(Duration::ZERO..=DURATION_MAX));
    fields.finish("field of a policy of histories");
    Some(HistoryPolicy { versions: versions?.into(), age_s: age?.as_secs() })
}

/// `local`, `majority`, `all`, or a number of regions.
fn ack(value: &Value<'_>, names: Names<'_>) -> Option<String> {
    let regions = names.0.map_or(super::NODES_MAX, |topology| topology.regions().len());
    let allowed =
        format!("\"local\", \"majority\", \"all\", or a number of regions, 1 to {regions}");
    let text = match value.raw().get_ref() {
        toml::de::DeValue::String(text) => text.to_string(),
        toml::de::DeValue::Integer(number) => number.to_string(),
        _ => return value.refuse(allowed),
    };
    let is_number = text.parse().is_ok_and(|n: usize| (1..=regions).contains(&n));
    if is_number || matches!(&*text, "local" | "majority" | "all") {
        return Some(text);
    }
    value.refuse(allowed)
}
