//! What passed between regions: a strip for each way from one to another, darker where more bytes went,
//! with what was cut and what was lost. Where a history has no counts of links, when they were cut, and
//! what each node sent.

use std::collections::BTreeMap;

use super::super::states::{self, Passed};
use super::super::summary::Summary;
use super::super::words::{bytes, cut, moment, number, percent};
use super::svg::{Axis, Svg};
use super::timeline::FAULTS_MAX;
use super::{Scene, legend};
use crate::simulation::history::AtUs;

/// Regions up to which each way between two of them has a row; of more, both ways share one.
const BOTH_WAYS_MAX: usize = 5;

/// Pairs of regions that have a row each; of more, those that were cut, and those that sent most.
const PAIRS_MAX: usize = 15;

/// Nodes that have a strip each.
const NODES_MAX: usize = 40;

/// Cells of a strip.
const CELLS: usize = 100;

/// Steps of the colour for bytes, and of that for losses.
const LEVELS: (f64, f64) = (12.0, 4.0);

const ROW: f64 = 17.0;

/// Ways from region to region that share a row.
type Ways<'a> = Vec<(&'a str, &'a str)>;

/// What is drawn alike: neighbours of one level become one.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Cell {
    passed: Passed,
    /// Of the most that any cell has, from 0 to 1.
    heat: f64,
    /// Of its datagrams.
    lost: f64,
}

/// The picture and its legend.
pub(crate) fn links(scene: &Scene<'_>) -> (String, String) {
    let summary = &scene.report.summary;
    let passed = states::passed(&scene.rounds, &scene.report.run);
    let names: Vec<&str> = summary.regions.iter().map(|region| region.region.as_str()).collect();
    let rows = rows(&names, summary, &passed);
    let strips: Vec<Vec<Passed>> = rows.iter().map(|ways| strip(ways, &passed)).collect();
    let most = strips.iter().flatten().map(Passed::bytes_a_second).fold(0.0, f64::max);
    let nodes = if passed.is_empty() { node_strips(scene) } else { Vec::new() };
    let axis = scene.axis;
    let mut svg = Svg::new();
    let middle = 14.0 + ROW * rows.len() as f64;
    let bottom = middle + if nodes.is_empty() { 0.0 } else { 20.0 + ROW * nodes.len() as f64 };
    axis.draw(&mut svg, 10.0, bottom);
    for (i, (ways, strip)) in rows.iter().zip(&strips).enumerate() {
        let y = 14.0 + ROW * i as f64;
        let name = name(ways);
        svg.titled((0.0, y + 11.0), "label", &cut(&name, 22), &name);
        svg.line((Axis::LEFT, y + 7.0), (Axis::RIGHT, y + 7.0), "wire");
        for cell in cells(strip, most) {
            draw_cell(&mut svg, axis, &name, &cell, y);
        }
        cuts(&mut svg, scene, ways, y, !passed.is_empty());
        if !strip.is_empty() {
            let total: u64 = strip.iter().map(|passed| passed.bytes).sum();
            svg.text((Axis::WIDTH, y + 11.0), "tick end", &bytes(total));
        }
    }
    if !nodes.is_empty() {
        svg.text((Axis::LEFT, middle + 14.0), "note", "bytes sent by each node");
    }
    for (i, (node, strip)) in nodes.iter().enumerate() {
        draw_node(&mut svg, axis, node, strip, middle + 20.0 + ROW * i as f64);
    }
    let label = "Bytes between regions, cuts of their links and losses, over time";
    (keys(most, !passed.is_empty()), axis.finish(svg, bottom + 20.0, label))
}

fn keys(most: f64, has_counts: bool) -> String {
    let cuts = [("wire-cut", "cut"), ("wire-cut half", "one of two ways cut")];
    let key = |(class, words): (&str, &str)| (class.to_owned(), words.to_owned());
    if !has_counts {
        return legend(cuts.into_iter().chain([("heat", "bytes sent")]).map(key));
    }
    let keys = legend(cuts.into_iter().chain([("lost", "datagrams lost")]).map(key));
    let steps = 6;
    let scale: String = (0..=steps)
        .map(|i| {
            let share = opacity(f64::from(i) / f64::from(steps));
            format!(
                r#"<rect x="{}" width="12" height="12" class="heat" fill-opacity="{share:.2}"/>"#,
                i * 12
            )
        })
        .collect();
    let scale = format!(
        r#"<span class="key"><svg viewBox="0 0 84 12" class="scale">{scale}</svg>from little to {} a second</span>"#,
        bytes(most as u64)
    );
    keys.replacen("</p>", &format!("{scale}</p>"), 1)
}

fn name(ways: &Ways<'_>) -> String {
    match ways.as_slice() {
        [(from, to)] => format!("{from} → {to}"),
        [(from, to), ..] => format!("{from} – {to}"),
        [] => String::new(),
    }
}

/// Which ways have a row: each one where there are few and they were counted, else both ways of a pair.
fn rows<'a>(
    names: &[&'a str],
    summary: &Summary,
    passed: &BTreeMap<(&str, &str), Vec<Passed>>,
) -> Vec<Ways<'a>> {
    let mut rows: Vec<Ways<'a>> = Vec::new();
    for (i, a) in names.iter().enumerate() {
        for b in names.iter().skip(i + 1) {
            if names.len() <= BOTH_WAYS_MAX && !passed.is_empty() {
                rows.extend([vec![(*a, *b)], vec![(*b, *a)]]);
            } else {
                rows.push(vec![(*a, *b), (*b, *a)]);
            }
        }
    }
    if rows.len() <= PAIRS_MAX.max(BOTH_WAYS_MAX * (BOTH_WAYS_MAX - 1)) {
        return rows;
    }
    let is_cut = |ways: &Ways<'_>| {
        summary.faults.iter().any(|span| {
            span.links_cut.iter().any(|(a, b)| ways.contains(&(a.as_str(), b.as_str())))
        })
    };
    let sent = |ways: &Ways<'_>| -> u64 {
        let all = ways.iter().filter_map(|way| passed.get(way)).flatten();
        all.map(|passed| passed.bytes).sum()
    };
    let mut ranked: Vec<usize> = (0..rows.len()).collect();
    ranked.sort_by_key(|i| (!is_cut(&rows[*i]), u64::MAX - sent(&rows[*i])));
    let cut = rows.iter().filter(|ways| is_cut(ways)).count();
    ranked.truncate(cut.clamp(PAIRS_MAX, 3 * PAIRS_MAX));
    ranked.sort_unstable();
    ranked.into_iter().map(|i| rows[i].clone()).collect()
}

/// What passed on these ways together, in at most [`CELLS`] stretches.
fn strip(ways: &Ways<'_>, passed: &BTreeMap<(&str, &str), Vec<Passed>>) -> Vec<Passed> {
    let mut sums: BTreeMap<(AtUs, AtUs), Passed> = BTreeMap::new();
    for one in ways.iter().filter_map(|way| passed.get(way)).flatten() {
        let sum = sums.entry((one.from_us, one.to_us)).or_default();
        *sum = sum.and(*one);
    }
    let all: Vec<Passed> = sums.into_values().collect();
    let size = all.len().div_ceil(CELLS).max(1);
    let sum = |some: &[Passed]| some.iter().fold(Passed::default(), |sum, one| sum.and(*one));
    all.chunks(size).map(sum).collect()
}

/// A strip as it is drawn. The root lets little traffic show beside a resync.
fn cells(strip: &[Passed], most: f64) -> Vec<Cell> {
    let level = |share: f64, levels: f64| (share * levels).ceil() / levels;
    let mut cells: Vec<Cell> = Vec::new();
    for passed in strip {
        let share = if most > 0.0 { (passed.bytes_a_second() / most).sqrt() } else { 0.0 };
        let lost = passed.lost as f64 / passed.datagrams.max(1) as f64;
        let (heat, lost) = (level(share, LEVELS.0), level(lost.min(1.0), LEVELS.1));
        match cells.last_mut().filter(|last| last.heat == heat && last.lost == lost) {
            Some(last) => last.passed = last.passed.and(*passed),
            None => cells.push(Cell { passed: *passed, heat, lost }),
        }
    }
    cells
}

fn opacity(heat: f64) -> f64 {
    0.06 + 0.94 * heat
}

fn draw_cell(svg: &mut Svg, axis: Axis, name: &str, cell: &Cell, y: f64) {
    let Passed { from_us, to_us, bytes: sent, datagrams, lost } = cell.passed;
    if sent == 0 && lost == 0 {
        return;
    }
    let mut title = format!(
        "{name}, {} to {}: {} in {} datagrams, {} a second",
        moment(from_us),
        moment(to_us),
        bytes(sent),
        number(datagrams),
        bytes(cell.passed.bytes_a_second() as u64)
    );
    if lost > 0 {
        title += &format!("; {} lost ({})", number(lost), percent(lost, datagrams));
    }
    let (x, width) = (axis.x(from_us), axis.x(to_us) - axis.x(from_us));
    svg.heat((x, y + 1.0), (width, ROW - 3.0), opacity(cell.heat), &title);
    if lost > 0 {
        // The more of them, the higher.
        let height = 2.0 + 5.0 * cell.lost;
        svg.rect((x, y + ROW - 2.0 - height), (width, height), "lost", "");
    }
}

/// When the ways were cut: above their strip, or as bars where there is none.
fn cuts(svg: &mut Svg, scene: &Scene<'_>, ways: &Ways<'_>, y: f64, is_above: bool) {
    let axis = scene.axis;
    for span in scene.report.summary.faults.iter().take(FAULTS_MAX) {
        let is_cut =
            |way: &&(&str, &str)| span.links_cut.contains(&(way.0.to_owned(), way.1.to_owned()));
        let cut: Vec<&(&str, &str)> = ways.iter().filter(is_cut).collect();
        let (class, words) = match cut.as_slice() {
            [] => continue,
            [(a, b)] if ways.len() == 1 => ("wire-cut", format!("nothing from {a} reaches {b}")),
            [(a, b)] => ("wire-cut half", format!("nothing from {a} reaches {b}")),
            [(a, b), ..] => ("wire-cut", format!("{a} and {b} do not hear of each other")),
        };
        let to = span.over_us(axis.end_us);
        let title = format!("{words}: {} to {}", moment(span.from_us), moment(to));
        let (top, height) = if is_above { (y - 1.0, 4.0) } else { (y + 2.0, ROW - 6.0) };
        svg.rect((axis.x(span.from_us), top), (axis.span(span.from_us, to), height), class, &title);
    }
}

fn draw_node(svg: &mut Svg, axis: Axis, node: &str, strip: &[(Passed, f64)], y: f64) {
    svg.text((0.0, y + 11.0), "label", &cut(node, 20));
    for (cell, share) in strip {
        let rate = bytes(cell.bytes_a_second() as u64);
        let title = format!("{node}: {rate} a second at {}", moment(cell.from_us));
        let size = (axis.span(cell.from_us, cell.to_us), ROW - 3.0);
        svg.heat((axis.x(cell.from_us), y + 1.0), size, opacity(*share), &title);
    }
    let total: u64 = strip.iter().map(|(cell, _)| cell.bytes).sum();
    svg.text((Axis::WIDTH, y + 11.0), "tick end", &bytes(total));
}

/// What each node sent, and its share of the most that any sent in a cell.
fn node_strips<'a>(scene: &'a Scene<'_>) -> Vec<(&'a str, Vec<(Passed, f64)>)> {
    let length = scene.axis.end_us.div_ceil(CELLS as u64).max(1);
    let mut sums: BTreeMap<&str, BTreeMap<u64, u64>> = BTreeMap::new();
    for (at_us, sent) in states::sent(&scene.rounds) {
        for (node, bytes) in sent {
            *sums.entry(node).or_default().entry(at_us / length).or_default() += bytes;
        }
    }
    let most = sums.values().flat_map(|cells| cells.values()).max().copied().unwrap_or(1).max(1);
    let strip = |cells: &BTreeMap<u64, u64>| {
        let cell = |(i, bytes): (&u64, &u64)| {
            let (from_us, to_us) = (i * length, (i + 1) * length);
            let passed = Passed { from_us, to_us, bytes: *bytes, ..Passed::default() };
            (passed, (*bytes as f64 / most as f64).sqrt())
        };
        cells.iter().map(cell).collect()
    };
    let nodes = scene.report.run.nodes.iter().map(|node| node.node.as_str()).take(NODES_MAX);
    nodes.filter_map(|node| sums.get(node).map(|cells| (node, strip(cells)))).collect()
}
