//! What a change of another node costs the store that applies it, from a document's first change to
//! its millionth: one document, written once a minute for 694 days, with next epochs as the server
//! agrees on them, histories by the default policy and the log trimmed behind. In this process, on
//! disk. The changes are made beside it by another store; only the applying one's time counts, with
//! its commits and checkpoints.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use bytes::Bytes;
use holm::config::roll::Roll;
use holm::config::{Action, Check, Operation, Policies, WriteRequest};
use holm::env::{Disk, Entropy, FileDisk};
use holm::model::{DocumentId, JsonText, Key, NodeName, Stamp};
use holm::storage::trim::TrimBounds;
use holm::storage::{Command, Outcome, Writer, WriterSettings};

use crate::rig::Plan;
use crate::rig::measure::{Finding, Spread};

/// Up to which change it is looked at, and how many before it count.
const MARKS: [(u64, u64); 4] =
    [(1_000, 1_000), (10_000, 4_000), (100_000, 20_000), (1_000_000, 20_000)];
/// Changes that are made, and then applied, in turn.
const STRETCH: u64 = 1_000;
/// Changes that come at once, as from a peer under load; each is a change of its own.
const BATCH: usize = 50;
/// Beside that, so many at each mark are applied one by one, each with a commit of its own.
const SINGLE: usize = 200;
const KEYS: u64 = 100;
const SOFT_CAP: u64 = 2_000;
const MINUTE_US: u64 = 60_000_000;
/// As long as `epochs.log_keep` and `epochs.removals_keep` by default.
const LOG_KEEP_US: u64 = 24 * 60 * MINUTE_US;
const REMOVALS_KEEP_US: u64 = 7 * LOG_KEEP_US;
const GOAL_US: f64 = 100.0;
const FLAT_GOAL: f64 = 1.2;

pub(crate) fn measure(plan: &Plan) -> anyhow::Result<Vec<Finding>> {
    let (last, _) = MARKS[MARKS.len() - 1];
    println!(
        "apply: {last} changes of one document, {KEYS} keys of 256 bytes, next epoch past {SOFT_CAP}"
    );
    let mut near = open(&plan.dir.join("apply/near"), "near-1")?;
    let mut far = open(&plan.dir.join("apply/far"), "far-1")?;
    let id = DocumentId::parse("service/prod")?;
    let (mut costs, mut singles, mut slices) = (Vec::new(), Vec::new(), Vec::new());
    let mut made = 0;
    for (mark, window) in MARKS {
        while made < mark {
            let mut records = write(&mut near, &id, made)?;
            records.extend(roll(&mut near, &far, &id, made)?);
            made += STRETCH;
            let ones =
                if made == mark { records.split_off(records.len() - SINGLE) } else { vec![] };
            let took = apply(&mut far, made, records, BATCH)?;
            if made + window > mark {
                let each = took.as_secs_f64() * 1e6 / (STRETCH as usize - ones.len()) as f64;
                slices.push(each);
            }
            if !ones.is_empty() {
                let took = apply(&mut far, made, ones, 1)?;
                singles.push(took.as_secs_f64() * 1e6 / SINGLE as f64);
            }
            tend(&mut near, made)?;
            tend(&mut far, made)?;
        }
        let cost = Spread::of(slices.drain(..));
        let single = singles.last().copied().unwrap_or_default();
        let epoch = far.published().load().document(&id).map_or(0, |view| view.epoch());
        println!(
            "  up to change {mark:7}, epoch {epoch:3}: {} us each in batches of {BATCH}, \
             {single:.0} us each with a commit of its own; file {} MB",
            cost.text(1),
            far.counts().database_bytes >> 20
        );
        costs.push((mark, cost));
    }
    findings(&costs, &singles)
}

fn findings(costs: &[(u64, Spread)], singles: &[f64]) -> anyhow::Result<Vec<Finding>> {
    let mut findings = Vec::new();
    for (mark, cost) in costs {
        let what = format!("a remote change applied, up to a document's {mark}th");
        findings.push(Finding::at_most(&what, *cost, GOAL_US, " µs"));
    }
    let medians = Spread::of(costs.iter().map(|(_, cost)| cost.median));
    let flat = Spread { min: medians.min, median: medians.max / medians.min, max: medians.max };
    let what = "the same, the dearest of these medians of the cheapest";
    findings.push(Finding {
        what: what.into(),
        measured: format!("{:.2} ({:.1} to {:.1} µs)", flat.median, flat.min, flat.max),
        goal: format!("at most {FLAT_GOAL}"),
        reached: Some(flat.median <= FLAT_GOAL),
    });
    let single = Spread::of(singles.iter().copied());
    let what = "the same, each with a commit and its fsync";
    findings.push(Finding::note(what, format!("{} µs", single.text(0))));
    Ok(findings)
}

fn open(dir: &Path, node: &str) -> anyhow::Result<Writer> {
    let disk: Arc<dyn Disk> = Arc::new(FileDisk::open(dir)?);
    let settings = WriterSettings {
        cluster: "bench".into(),
        node: NodeName::new(node)?,
        region: "here".into(),
        value_bytes_max: 262_144,
        documents_bytes_max: 256 << 20,
        waiting_bytes_max: 8 << 20,
        peers: 0,
    };
    Ok(Writer::open(settings, disk, Entropy::system().stream("store"))?)
}

/// Makes a stretch of changes. All of one group are of the same key: a key's second write starts the
/// next change.
fn write(writer: &mut Writer, id: &DocumentId, made: u64) -> anyhow::Result<Vec<Bytes>> {
    let mut records = Vec::new();
    for group in 0..STRETCH / 250 {
        let one = |i: u64| put(id, made + group * 250 + i, (made / 250 + group) % KEYS);
        let commands: Vec<Command> = (0..250).map(one).collect::<anyhow::Result<_>>()?;
        let committed = writer.commit(Stamp((made + group * 250) * MINUTE_US), &commands);
        records.extend(committed.own);
    }
    anyhow::ensure!(records.len() == STRETCH as usize, "{} changes were made", records.len());
    Ok(records)
}

fn put(id: &DocumentId, i: u64, key: u64) -> anyhow::Result<Command> {
    let value = format!("\"{i:020}{}\"", "x".repeat(234));
    Ok(Command::Write(WriteRequest {
        document: id.clone(),
        operations: vec![Operation {
            key: Key::new(&format!("key.{key}"))?,
            action: Action::Put(JsonText::parse(&value)?),
            check: Check::None,
        }],
        remove_all: false,
        author: "bench".into(),
        message: None,
        idempotency: None,
        behalf: None,
    }))
}

/// Takes the document to its next epoch where that is due, as the quorum would have it: at what the
/// other store has.
fn roll(near: &mut Writer, far: &Writer, id: &DocumentId, made: u64) -> anyhow::Result<Vec<Bytes>> {
    let changes = near.published().load().document(id).map_or(0, |view| view.changes);
    if changes <= SOFT_CAP {
        return Ok(Vec::new());
    }
    let floor = far.published().load().vector.told();
    let now = made * MINUTE_US;
    let removals_before = Stamp(now.saturating_sub(REMOVALS_KEEP_US));
    let plan = near.epochs().plan_roll(id, &floor, removals_before)?;
    let roll = Roll { epoch: plan.epoch, floor, base: plan.base, removals_before, fold: None };
    let committed = near.commit(Stamp(now), &[Command::Roll { document: id.clone(), roll }]);
    match committed.outcomes.first() {
        Some(Outcome::Rolled(Ok(_))) => Ok(committed.own),
        other => bail!("the document was not rolled: {other:?}"),
    }
}

/// Applies them, so many at once; what it took.
fn apply(
    far: &mut Writer,
    made: u64,
    records: Vec<Bytes>,
    batch: usize,
) -> anyhow::Result<Duration> {
    let start = Instant::now();
    for part in records.chunks(batch) {
        let committed = far.commit(Stamp(made * MINUTE_US), &[Command::Apply(part.to_vec())]);
        let first = committed.outcomes.first().context("an outcome")?;
        let Outcome::Applied(Ok(applied)) = first else { bail!("not applied: {first:?}") };
        anyhow::ensure!(applied.new == part.len(), "of {} changes: {applied:?}", part.len());
    }
    far.checkpoint()?;
    Ok(start.elapsed())
}

/// What a node does behind its writes: histories and the log.
fn tend(writer: &mut Writer, made: u64) -> anyhow::Result<()> {
    let now = made * MINUTE_US;
    writer.prune(Stamp(now), &Policies::default())?;
    let acknowledged = (*writer.published().load().vector).clone();
    let bounds = TrimBounds { acknowledged, before: Stamp(now.saturating_sub(LOG_KEEP_US)) };
    while writer.trim(&bounds)?.is_under_way {}
    writer.checkpoint()?;
    Ok(())
}
