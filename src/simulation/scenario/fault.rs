//! Reads a fault of a scenario file. Its kind is a field's name: `isolate = ["eu-west"]`.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use toml::de::DeValue;

use super::effect::{FAULT_KINDS, Lasting};
use super::error::{Flaw, shown};
use super::reader::{Fields, Value, unknown};
use super::{DURATION_MAX, FaultKind, LinkQuality, TimedFault, Unsynced};
use crate::model::{NodeName, RegionName};
use crate::settings::parse_duration;
use crate::topology::{Address, Node, Topology};

/// Shortest time that a fault lasts, that a link flaps in, that a link is late by.
const TIME_MIN: Duration = Duration::from_millis(1);
/// Most that a datagram is late by.
const LATE_MAX: Duration = Duration::from_secs(60);
/// Furthest that a clock jumps, either way: ten years.
const CLOCK_STEP_MAX: Duration = Duration::from_secs(10 * 365 * 24 * 3_600);
/// Furthest that a clock runs fast or slow, in millionths.
const CLOCK_DRIFT_PPM_MAX: i64 = 500_000;
/// How many times slower a node can be.
const SLOW_FACTOR_MAX: u32 = 10_000;
/// Most groups of a partition, regions or nodes in a list: as many as there can be nodes.
const NAMES_MAX: usize = super::NODES_MAX;

/// What the names in a scenario are checked against. Without a topology (because it was bad) only
/// their form is.
#[derive(Clone, Copy)]
pub(super) struct Names<'a>(pub(super) Option<&'a Topology>);

impl Names<'_> {
    pub(super) fn region(self, value: &Value<'_>) -> Option<RegionName> {
        let text = value.text("the name of a region")?;
        let Some(topology) = self.0 else { return RegionName::new(text).ok() };
        let known = topology.regions().iter().map(|region| &region.name);
        let found = known.clone().find(|name| name.as_str() == text).cloned();
        if found.is_none() {
            let mut flaw = unknown("region", text, known.map(RegionName::as_str));
            let node = topology.nodes().iter().find(|node| node.name.as_str() == text);
            if let (Flaw::Unknown { near, .. }, Some(node)) = (&mut flaw, node) {
                *near = Some(format!("it is a node of the region {:?}", node.region.as_str()));
            }
            value.add(flaw);
        }
        found
    }

    pub(super) fn node(self, value: &Value<'_>) -> Option<NodeName> {
        let text = value.text("the name of a node")?;
        let Some(topology) = self.0 else { return NodeName::new(text).ok() };
        let known = topology.nodes().iter().map(|node| &node.name);
        let found = known.clone().find(|name| name.as_str() == text).cloned();
        if found.is_none() {
            let mut flaw = unknown("node", text, known.map(NodeName::as_str));
            let region = topology.regions().iter().find(|region| region.name.as_str() == text);
            if let (Flaw::Unknown { near, .. }, Some(region)) = (&mut flaw, region) {
                let nodes = topology.nodes_of(&region.name);
                let nodes: Vec<&str> = nodes.map(|node| node.name.as_str()).collect();
                *near = Some(format!("it is the region of {}", nodes.join(", ")));
            }
            value.add(flaw);
        }
        found
    }

    /// A list of regions, or one.
    pub(super) fn regions(self, value: &Value<'_>) -> Option<BTreeSet<RegionName>> {
        names(value, "region", |value| self.region(value))
    }

    /// A list of nodes, or one.
    pub(super) fn nodes(self, value: &Value<'_>) -> Option<BTreeSet<NodeName>> {
        names(value, "node", |value| self.node(value))
    }
}

/// At least one name, none of them twice.
fn names<T: Ord>(
    value: &Value<'_>,
    what: &str,
    read: impl Fn(&Value<'_>) -> Option<T>,
) -> Option<BTreeSet<T>> {
    if value.is_text() {
        return read(value).map(|name| BTreeSet::from([name]));
    }
    let allowed = format!("a list of {what}s, at least one");
    let list = value.list(NAMES_MAX, &allowed)?;
    if list.is_empty() {
        return value.refuse(allowed);
    }
    let mut names = BTreeSet::new();
    let mut is_good = true;
    for value in &list {
        match read(value) {
            Some(name) => {
                if !names.insert(name) {
                    value.refuse::<()>(format!("each {what} once"));
                    is_good = false;
                }
            }
            None => is_good = false,
        }
    }
    is_good.then_some(names)
}

/// A fault and where it stands, for what is found out later.
pub(super) struct Placed {
    pub(super) at: usize,
    pub(super) fault: TimedFault,
}

/// Reads one fault. `end` is the end of the run.
pub(super) fn read(value: &Value<'_>, names: Names<'_>, end: Duration) -> Option<Placed> {
    let mut fields = value.table("a fault: [[faults]] with `at`, `lasts` and its kind")?;
    let at = fields.demand("at", "when the fault begins, from the start of the run");
    let at = at.and_then(|at| at.duration(Duration::ZERO..=DURATION_MAX));
    let lasts_value = fields.get("lasts");
    let lasts = lasts_value.as_ref().map(|lasts| lasts.duration(TIME_MIN..=DURATION_MAX));
    let kinds = fields.present(&FAULT_KINDS);
    let found: Vec<Option<FaultKind>> = FAULT_KINDS
        .iter()
        .filter_map(|kind| fields.get(kind).map(|value| kind_of(kind, &value, names)))
        .collect();
    let is_any_unknown = fields.finish("kind of fault");
    match &kinds[..] {
        [_] => {}
        // The unknown one is the kind that was meant.
        [] if is_any_unknown => {}
        [] => {
            let allowed = format!("what breaks, one of {}", FAULT_KINDS.join(", "));
            fields.add(Flaw::Missing { field: "its kind".to_owned(), allowed });
        }
        _ => fields.add(Flaw::Together(format!(
            "a fault has one kind, and this one has {}; write one [[faults]] for each",
            kinds.join(" and ")
        ))),
    }
    let kind = found.into_iter().next().flatten().filter(|_| kinds.len() == 1)?;
    if let (Lasting::AtOnce, Some(lasts)) = (kind.lasting(), &lasts_value) {
        lasts.add(Flaw::Together(format!("{} is a moment: it has no `lasts`", kind.kind_name())));
    }
    let (at, lasts) = (at?, lasts.map_or(Some(None), |lasts| lasts.map(Some))?);
    if let (Some(topology), true) = (names.0, at < end) {
        check_effect(&fields, &kind, at, topology);
    }
    Some(Placed { at: fields.at, fault: TimedFault { at, lasts, fault: kind } })
}

/// A fault that does nothing is a mistake.
fn check_effect(fields: &Fields<'_>, kind: &FaultKind, at: Duration, topology: &Topology) {
    let is_of_links = matches!(
        kind,
        FaultKind::Partition { .. }
            | FaultKind::Isolate { .. }
            | FaultKind::Bridge { .. }
            | FaultKind::Link { .. }
    );
    if is_of_links && kind.links_touched(topology).is_empty() {
        let regions: Vec<String> =
            topology.region_names().iter().map(ToString::to_string).collect();
        fields.add(Flaw::Together(format!(
            "this {} touches no link between the regions {}",
            kind.kind_name(),
            regions.join(", ")
        )));
    }
    if let FaultKind::OldCopy { age, .. } = kind
        && *age > at
    {
        fields.add(Flaw::Together(format!(
            "a copy that is {} old was made before the run began; `age` is at most `at`, {}",
            shown(*age),
            shown(at)
        )));
    }
}

fn kind_of(kind: &str, value: &Value<'_>, names: Names<'_>) -> Option<FaultKind> {
    Some(match kind {
        "partition" => FaultKind::Partition { groups: groups(value, names)? },
        "isolate" => FaultKind::Isolate { regions: names.regions(value)? },
        "one_way" => {
            let (from, to) = from_to(value, names)?;
            FaultKind::OneWay { from, to }
        }
        "hold" => {
            let (from, to) = from_to(value, names)?;
            FaultKind::Hold { from, to }
        }
        "bridge" => FaultKind::Bridge { via: names.region(value)? },
        "flapping" => flapping(value, names)?,
        "link" => link(value, names)?,
        "crash" => crash(value, names)?,
        "stop" => FaultKind::Stop { node: names.node(value)? },
        "pause" => FaultKind::Pause { node: names.node(value)? },
        "slow" => {
            let (node, factor) = node_and(value, names, "factor", "how many times slower", |it| {
                it.count(2..=SLOW_FACTOR_MAX)
            })?;
            FaultKind::Slow { node, factor }
        }
        "disk_full" => FaultKind::DiskFull { node: names.node(value)? },
        "disk_error" => FaultKind::DiskError { node: names.node(value)? },
        "lying_fsync" => FaultKind::LyingFsync { node: names.node(value)? },
        "old_copy" => {
            let (node, age) = node_and(value, names, "age", "how old the copy is", |it| {
                it.duration(TIME_MIN..=DURATION_MAX)
            })?;
            FaultKind::OldCopy { node, age }
        }
        "wipe" => FaultKind::Wipe { node: names.node(value)? },
        "clock_step" => {
            let (node, by_ms) = node_and(value, names, "by", "how far the clock jumps", step)?;
            FaultKind::ClockStep { node, by_ms }
        }
        "clock_drift" => {
            let (node, ppm) = node_and(value, names, "ppm", "millionths too fast", drift)?;
            FaultKind::ClockDrift { node, ppm }
        }
        "certificate_expiry" => FaultKind::CertificateExpiry { nodes: names.nodes(value)? },
        "rotate_ca" => yes(value).map(|()| FaultKind::RotateCa)?,
        "rotate_master_key" => yes(value).map(|()| FaultKind::RotateMasterKey)?,
        "revoke" => yes(value).map(|()| FaultKind::Revoke)?,
        "voters" => voters(value, names)?,
        "absent" => absent(value, names)?,
        "previous" => FaultKind::Previous { nodes: names.nodes(value)? },
        _ => return None,
    })
}

/// For kinds that need nothing said.
fn yes(value: &Value<'_>) -> Option<()> {
    match value.raw().get_ref().as_bool() {
        Some(true) => Some(()),
        _ => value.refuse("true"),
    }
}

fn groups(value: &Value<'_>, names: Names<'_>) -> Option<Vec<BTreeSet<RegionName>>> {
    let allowed = "a list of groups: [[\"eu-west\", \"us-east\"], [\"ap-south\"]]";
    let list = value.list(NAMES_MAX, allowed)?;
    if list.is_empty() {
        return value.refuse(allowed);
    }
    let mut groups: Vec<BTreeSet<RegionName>> = Vec::new();
    for value in &list {
        if !value.is_list() {
            return value.refuse("a group, which is a list of regions");
        }
        let group = names.regions(value)?;
        if let Some(twice) = groups.iter().find_map(|other| other.intersection(&group).next()) {
            value.add(Flaw::Together(format!("{twice} is in two groups")));
            return None;
        }
        groups.push(group);
    }
    Some(groups)
}

fn from_to(value: &Value<'_>, names: Names<'_>) -> Option<(RegionName, RegionName)> {
    let mut fields = value.table("{ from = \"eu-west\", to = \"us-east\" }")?;
    let from = fields.demand("from", "the region that sends").and_then(|it| names.region(&it));
    let to = fields.demand("to", "the region that is not reached").and_then(|it| names.region(&it));
    fields.finish("field of it");
    let (from, to) = (from?, to?);
    if from == to {
        return value.refuse("two different regions");
    }
    Some((from, to))
}

/// `between = ["a", "b"]`.
fn between(value: &Value<'_>, names: Names<'_>) -> Option<(RegionName, RegionName)> {
    let regions = names.regions(value)?;
    let mut regions = regions.into_iter();
    match (regions.next(), regions.next(), regions.next()) {
        (Some(a), Some(b), None) => Some((a, b)),
        _ => value.refuse("two different regions"),
    }
}

fn flapping(value: &Value<'_>, names: Names<'_>) -> Option<FaultKind> {
    let mut fields = value.table("{ between = [\"eu-west\", \"us-east\"], every = \"500ms\" }")?;
    let ends = fields.demand("between", "the two regions").and_then(|it| between(&it, names));
    let every = fields.duration("every", Duration::from_secs(1), TIME_MIN..=DURATION_MAX);
    fields.finish("field of it");
    let (a, b) = ends?;
    Some(FaultKind::Flapping { a, b, every })
}

fn link(value: &Value<'_>, names: Names<'_>) -> Option<FaultKind> {
    let mut fields = value.table("{ between = [\"eu-west\", \"us-east\"], loss = 0.1 }")?;
    let ends = fields.get("between").map(|it| between(&it, names));
    let of = fields.get("of").map(|it| names.region(&it));
    let time = |it: Value<'_>| it.duration(TIME_MIN..=LATE_MAX);
    let quality = LinkQuality {
        extra: fields.get("extra").and_then(time),
        jitter: fields.get("jitter").and_then(time),
        loss: fields.get("loss").and_then(|it| it.probability()),
        duplicate: fields.get("duplicate").and_then(|it| it.probability()),
        reorder: fields.get("reorder").and_then(|it| it.probability()),
        bandwidth: fields
            .get("bandwidth")
            .and_then(|it| it.integer(1_000..=100_000_000_000))
            .and_then(|bytes| u64::try_from(bytes).ok()),
        mtu: fields
            .get("mtu")
            .and_then(|it| it.count(1..=65_535))
            .and_then(|bytes| u16::try_from(bytes).ok()),
    };
    let qualities = ["extra", "jitter", "loss", "duplicate", "reorder", "bandwidth", "mtu"];
    if ends.is_some() && of.is_some() {
        let text =
            "`between` names one link and `of` all links of a region; a link has one of them";
        fields.add(Flaw::Together(text.to_owned()));
    }
    let is_any_unknown = fields.finish("field of a link");
    if fields.present(&qualities).is_empty() && !is_any_unknown {
        let allowed = format!("how the link is, one or more of {}", qualities.join(", "));
        fields.add(Flaw::Missing { field: "quality".to_owned(), allowed });
    }
    let (a, b) = match (ends, of) {
        (Some(ends), _) => ends.map(|(a, b)| (Some(a), Some(b)))?,
        (None, Some(of)) => (Some(of?), None),
        (None, None) => (None, None),
    };
    Some(FaultKind::Link { a, b, quality })
}

/// `{ node = …, region = … }`: a node that the topology does not name ([`joiners`]).
fn absent(value: &Value<'_>, names: Names<'_>) -> Option<FaultKind> {
    let mut fields = value.table(ABSENT)?;
    let node = fields.demand("node", "a node that the topology does not name");
    let node = node.and_then(|it| Some((names.node(&it)?, it)));
    let region = fields.demand("region", "where it joins").and_then(|it| names.region(&it));
    fields.finish("field of it");
    let ((node, node_at), region) = (node?, region?);
    match names.0.and_then(|topology| topology.node(&node)) {
        Some(known) if !known.joined => {
            node_at.refuse("a node that the topology does not name: those it names do not join")
        }
        Some(known) if known.region != region => {
            node_at.refuse(format!("in one region: elsewhere it stands in {}", known.region))
        }
        _ => Some(FaultKind::Absent { node, region }),
    }
}

const ABSENT: &str = "{ node = \"eu-west-4\", region = \"eu-west\" }";

/// The nodes that join in a run, as the file's faults name them. What is wrong with them is said where
/// the faults are read.
pub(super) fn joiners(value: &Value<'_>, topology: &Topology) -> Vec<Node> {
    let mut joiners: BTreeMap<NodeName, Node> = BTreeMap::new();
    let DeValue::Array(faults) = value.raw().get_ref() else { return Vec::new() };
    for fault in faults.iter() {
        let field =
            |field: &str| fault.get_ref().get("absent")?.get_ref().get(field)?.get_ref().as_str();
        let Some(name) = field("node").and_then(|name| NodeName::new(name).ok()) else { continue };
        let region = field("region").and_then(|name| RegionName::new(name).ok());
        let region = region.filter(|name| topology.regions().iter().any(|it| it.name == *name));
        if let (Some(region), None) = (region, topology.node(&name)) {
            let (peer, http) = (Address::new("0.0.0.0:0"), Address::new("0.0.0.0:0"));
            let (Some(peer), Some(http)) = (peer, http) else { continue };
            let node = Node { name: name.clone(), region, peer, http, joined: true };
            joiners.entry(name).or_insert(node);
        }
    }
    joiners.into_values().collect()
}

fn crash(value: &Value<'_>, names: Names<'_>) -> Option<FaultKind> {
    if value.is_text() {
        return Some(FaultKind::Crash { node: names.node(value)?, unsynced: Unsynced::default() });
    }
    let mut fields = value.table("a node, or { node = \"eu-west-1\", unsynced = \"tear\" }")?;
    let node = fields.demand("node", "which node").and_then(|it| names.node(&it));
    let unsynced = fields.get("unsynced").map(|it| {
        let name = it.one_of("fate of unsynced writes", &["keep", "lose", "tear"])?;
        Some(match name {
            "keep" => Unsynced::Keep,
            "tear" => Unsynced::Tear,
            _ => Unsynced::Lose,
        })
    });
    fields.finish("field of a crash");
    let unsynced = unsynced.map_or(Some(Unsynced::default()), |it| it)?;
    Some(FaultKind::Crash { node: node?, unsynced })
}

/// `{ node = …, <key> = … }`.
fn node_and<T>(
    value: &Value<'_>,
    names: Names<'_>,
    key: &'static str,
    what: &str,
    read: impl Fn(&Value<'_>) -> Option<T>,
) -> Option<(NodeName, T)> {
    let mut fields = value.table(&format!("{{ node = …, {key} = … }}"))?;
    let node = fields.demand("node", "which node").and_then(|it| names.node(&it));
    let other = fields.demand(key, what).and_then(|it| read(&it));
    fields.finish("field of it");
    Some((node?, other?))
}

/// A clock step in milliseconds: a length of time, `-` before it for back.
fn step(value: &Value<'_>) -> Option<i64> {
    let allowed = "how far the clock jumps, with a unit: 1h, 168h, -5m; 1ms to 87600h";
    let text = value.text(allowed)?.trim();
    let (sign, length) = text.strip_prefix('-').map_or((1, text), |length| (-1, length));
    let by = parse_duration(length).ok().filter(|by| (TIME_MIN..=CLOCK_STEP_MAX).contains(by));
    let by_ms = by.and_then(|by| i64::try_from(by.as_millis()).ok());
    by_ms.map(|by_ms| sign * by_ms).or_else(|| value.refuse(allowed))
}

fn drift(value: &Value<'_>) -> Option<i32> {
    let ppm = value.integer(-CLOCK_DRIFT_PPM_MAX..=CLOCK_DRIFT_PPM_MAX)?;
    if ppm == 0 {
        return value.refuse("not 0: that is no drift");
    }
    i32::try_from(ppm).ok()
}

fn voters(value: &Value<'_>, names: Names<'_>) -> Option<FaultKind> {
    let allowed = "{ add = …, remove = …, transfer = … }, at least one of them";
    let mut fields = value.table(allowed)?;
    let [add, remove, transfer] =
        ["add", "remove", "transfer"].map(|key| fields.get(key).map(|it| names.node(&it)));
    fields.finish("change of voters");
    let read = |it: Option<Option<NodeName>>| it.map_or(Some(None), |it| it.map(Some));
    let (add, remove, transfer) = (read(add)?, read(remove)?, read(transfer)?);
    if add.is_none() && remove.is_none() && transfer.is_none() {
        return value.refuse(allowed);
    }
    if remove.is_some() && (remove == add || remove == transfer) {
        value.add(Flaw::Together("a node that is removed is not added, and does not lead".into()));
        return None;
    }
    Some(FaultKind::Voters { add, remove, transfer })
}
