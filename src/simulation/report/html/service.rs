//! Who could do what when: small strips by region, and how long answers took.

use std::collections::BTreeMap;

use super::super::operations::{Class, Kind, Operation};
use super::super::summary::{Attempts, RegionSummary};
use super::super::words::{cut, duration, moment, percent};
use super::Scene;
use super::svg::{Axis, Svg};

/// Cells of a strip, at least and at most: where little was asked for they are long, so that a strip has
/// no holes that mean nothing.
const CELLS: (u64, u64) = (50, 150);

/// Requests that a cell has on average, where that is possible.
const CELL_REQUESTS: u64 = 2;

/// Faults that are marked above a region's strips.
const FAULTS_MAX: usize = 100;

/// Dots of a kind in the picture of latencies.
const DOTS_MAX: u64 = 600;

/// Which kinds a strip is of.
type Which = fn(Kind) -> bool;

/// Strips of the requests that `config` picks: for each region reads, then writes.
pub(crate) fn strips(scene: &Scene<'_>, config: bool) -> String {
    let rows: [(&str, Which); 2] = if config {
        [("read", |k| k.is_config() && !k.is_write()), ("write", |k| k.is_config() && k.is_write())]
    } else {
        [
            ("read", |k| !k.is_config() && !k.is_write() && k != Kind::SecretLocalRead),
            ("write", |k| !k.is_config() && k.is_write()),
        ]
    };
    let axis = scene.axis;
    let mut svg = Svg::new();
    let regions = &scene.report.summary.regions;
    let (row, lane) = (15.0, 40.0);
    let bottom = 8.0 + lane * regions.len() as f64;
    axis.draw(&mut svg, 4.0, bottom);
    for (i, region) in regions.iter().enumerate() {
        let y = 10.0 + lane * i as f64;
        svg.text((0.0, y + 20.0), "label strong", &cut(&region.region, 15));
        let faults = scene.report.summary.faults.iter().filter(|s| s.hits(&region.region));
        for span in faults.take(FAULTS_MAX) {
            let (from, to) = (span.from_us, span.over_us(axis.end_us));
            let class = format!("bar {}", span.look().class());
            svg.rect((axis.x(from), y - 4.0), (axis.span(from, to), 3.0), &class, &span.what);
        }
        for (j, (name, which)) in rows.iter().enumerate() {
            let y = y + j as f64 * (row + 2.0);
            svg.text((Axis::LEFT - 6.0, y + 11.0), "tick end", name);
            svg.rect((Axis::LEFT, y), (Axis::RIGHT - Axis::LEFT, row), "lane", "");
            strip(&mut svg, scene, &region.region, *which, (y, row));
            let all = total(region, *which);
            let share = percent(all.answered(), all.tried);
            svg.text((Axis::WIDTH, y + 11.0), "tick end", &share);
        }
    }
    let label = if config { "Configurations" } else { "Secrets and who may" };
    axis.finish(svg, bottom + 20.0, &format!("{label}: requests that were answered, over time"))
}

fn total(region: &RegionSummary, which: Which) -> Attempts {
    let kinds = region.kinds.iter().filter(|kind| which(kind.kind));
    kinds.fold(Attempts::default(), |sum, kind| sum.plus(kind.all()))
}

fn strip(svg: &mut Svg, scene: &Scene<'_>, region: &str, which: Which, (y, height): (f64, f64)) {
    let axis = scene.axis;
    let mut cells: BTreeMap<u64, BTreeMap<Class, u64>> = BTreeMap::new();
    let of_region = |o: &&Operation<'_>| o.call.region == region && o.kind.is_some_and(which);
    let requests = scene.operations.iter().filter(of_region).count() as u64;
    let length = axis.end_us.div_ceil((requests / CELL_REQUESTS).clamp(CELLS.0, CELLS.1)).max(1);
    for operation in scene.operations.iter().filter(of_region) {
        let cell = cells.entry(operation.at_us / length).or_default();
        *cell.entry(operation.class).or_default() += 1;
    }
    for (from, to, counts) in merged(cells) {
        let (from_us, to_us) = (from * length, (to * length).min(axis.end_us));
        let (x, w) = (axis.x(from_us), axis.x(to_us) - axis.x(from_us));
        let all: u64 = counts.values().sum();
        let told: Vec<String> =
            counts.iter().map(|(class, n)| format!("{n} {}", class_words(*class))).collect();
        let title =
            format!("{region}, {} to {}: {}", moment(from_us), moment(to_us), told.join(", "));
        let mut bottom = y + height;
        for (class, n) in &counts {
            let h = height * *n as f64 / all as f64;
            bottom -= h;
            svg.rect((x, bottom), (w, h), class_name(*class), &title);
        }
    }
}

/// Neighbours in which everything ended the same way become one.
fn merged(cells: BTreeMap<u64, BTreeMap<Class, u64>>) -> Vec<(u64, u64, BTreeMap<Class, u64>)> {
    let mut out: Vec<(u64, u64, BTreeMap<Class, u64>)> = Vec::new();
    for (i, counts) in cells {
        let last = out.last_mut().filter(|(_, to, last)| {
            *to == i && last.len() == 1 && counts.len() == 1 && last.keys().eq(counts.keys())
        });
        match last {
            Some((_, to, last)) => {
                *to = i + 1;
                for (class, n) in counts {
                    *last.entry(class).or_default() += n;
                }
            }
            None => out.push((i, i + 1, counts)),
        }
    }
    out
}

/// In words, for the legend too.
pub(crate) fn class_words(class: Class) -> &'static str {
    match class {
        Class::Succeeded => "done",
        Class::Declined => "declined by the rules",
        Class::Refused => "refused",
        Class::Unknown => "without an answer",
    }
}

/// Its name in the page's style sheet.
pub(crate) fn class_name(class: Class) -> &'static str {
    match class {
        Class::Succeeded => "ok",
        Class::Declined => "declined",
        Class::Refused => "refused",
        Class::Unknown => "unknown",
    }
}

/// How long each request took that was done; of many the slowest and the fastest of each stretch of
/// time. Empty where nothing was done.
pub(crate) fn latencies(scene: &Scene<'_>) -> String {
    let axis = scene.axis;
    let done: Vec<&Operation<'_>> = scene
        .operations
        .iter()
        .filter(|o| o.class == Class::Succeeded && o.kind.is_some() && o.over_us > o.at_us)
        .collect();
    let decade = |us: u64| (us.max(1) as f64).log10();
    let Some(least) = done.iter().map(|o| decade(o.over_us - o.at_us).floor()).reduce(f64::min)
    else {
        return String::new();
    };
    let most = done.iter().map(|o| decade(o.over_us - o.at_us).ceil()).reduce(f64::max);
    let most = most.unwrap_or(least).max(least + 1.0);
    let mut svg = Svg::new();
    let (top, bottom) = (10.0, 150.0);
    let y = |us: u64| bottom - (decade(us) - least) / (most - least) * (bottom - top);
    axis.draw(&mut svg, top, bottom);
    for power in least as u32..=most as u32 {
        let us = 10_u64.pow(power);
        svg.line((Axis::LEFT, y(us)), (Axis::RIGHT, y(us)), "grid");
        svg.text((Axis::LEFT - 6.0, y(us) + 4.0), "tick end", &duration(us));
    }
    for (config, class) in [(true, "dot-config"), (false, "dot-secret")] {
        let mut cells: BTreeMap<u64, (&Operation<'_>, &Operation<'_>)> = BTreeMap::new();
        let length = axis.end_us.div_ceil(DOTS_MAX / 2).max(1);
        for o in done.iter().filter(|o| o.kind.is_some_and(|k| k.is_config()) == config) {
            let took = |o: &Operation<'_>| o.over_us - o.at_us;
            let cell = cells.entry(o.at_us / length).or_insert((*o, *o));
            if took(o) < took(cell.0) {
                cell.0 = *o;
            }
            if took(o) > took(cell.1) {
                cell.1 = *o;
            }
        }
        for (fast, slow) in cells.into_values() {
            svg_dot(&mut svg, axis, slow, class, &y);
            if fast.call.op != slow.call.op {
                svg_dot(&mut svg, axis, fast, class, &y);
            }
        }
    }
    axis.finish(svg, bottom + 20.0, "How long requests took, over time")
}

fn svg_dot(svg: &mut Svg, axis: Axis, o: &Operation<'_>, class: &str, y: &impl Fn(u64) -> f64) {
    let took = o.over_us - o.at_us;
    let kind = o.kind.map_or("", Kind::words);
    let title = format!("#{} {kind}, {}: {}", o.call.op, o.call.region, duration(took));
    svg.dot((axis.x(o.at_us), y(took)), 1.8, class, &title);
}
