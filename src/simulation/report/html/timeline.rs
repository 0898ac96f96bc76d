//! What happened when: faults, regions under them, and leaders. One time axis.

use super::super::faults::{FaultSpan, Look};
use super::super::states::Round;
use super::super::summary::Summary;
use super::super::words::{cut, duration, moment};
use super::svg::{Axis, Svg, text_width};
use super::{Scene, colour_of};
use crate::simulation::history::AtUs;

/// Above that many spans faults share rows and lose their words.
const FAULT_ROWS_MAX: usize = 14;

/// Faults that are drawn.
pub(crate) const FAULTS_MAX: usize = 400;

/// In words, with its time.
fn told(span: &FaultSpan) -> String {
    let caught_up = span
        .caught_up_us
        .map_or(String::new(), |us| format!("; all had caught up {} after its end", duration(us)));
    match span.to_us {
        Some(to) if to == span.from_us => format!("{}: at {}", span.what, moment(to)),
        Some(to) => {
            format!("{}: {} to {}{caught_up}", span.what, moment(span.from_us), moment(to))
        }
        None => format!("{}: from {} on", span.what, moment(span.from_us)),
    }
}

/// Faults as bars, then a lane for each region with what hit it.
pub(crate) fn lanes(scene: &Scene<'_>) -> String {
    let (axis, summary) = (scene.axis, &scene.report.summary);
    let mut svg = Svg::new();
    let faults: Vec<&FaultSpan> = summary.faults.iter().take(FAULTS_MAX).collect();
    let rows = rows(&faults, axis);
    let height = 20.0;
    let top = 22.0 + rows.iter().max().map_or(0.0, |last| (last + 1) as f64 * height) + 8.0;
    let lane = 32.0;
    let bottom = top + lane * summary.regions.len() as f64;
    axis.draw(&mut svg, 16.0, bottom);
    healed(&mut svg, scene, 6.0, bottom);
    svg.text((0.0, 31.0), "label", if faults.is_empty() { "no faults" } else { "faults" });
    let alone = faults.len() <= FAULT_ROWS_MAX;
    for (span, row) in faults.iter().zip(&rows) {
        bar(&mut svg, axis, span, 18.0 + *row as f64 * height, alone);
    }
    for (i, region) in summary.regions.iter().enumerate() {
        let y = top + lane * i as f64;
        svg.text((0.0, y + 19.0), "label strong", &cut(&region.region, 20));
        let width = Axis::RIGHT - Axis::LEFT;
        svg.rect((Axis::LEFT, y + 3.0), (width, lane - 6.0), "lane", &region.region);
        for span in faults.iter().filter(|span| span.hits(&region.region)) {
            let (from, to) = (span.from_us, span.over_us(axis.end_us));
            let class = format!("shade {}", span.look().class());
            let size = (axis.span(from, to), lane - 6.0);
            svg.rect((axis.x(from), y + 3.0), size, &class, &told(span));
        }
        let step = (lane - 12.0) / region.nodes.len().max(1) as f64;
        for (j, node) in region.nodes.iter().enumerate() {
            for (from, to) in down(&scene.rounds, node, axis.end_us) {
                let title = format!("{node} is down: {} to {}", moment(from), moment(to));
                let at = (axis.x(from), y + 6.0 + step * j as f64);
                svg.rect(at, (axis.span(from, to), (step - 1.0).max(2.0)), "is-down", &title);
            }
        }
        if region.lost {
            svg.text((Axis::RIGHT - 6.0, y + 20.0), "note end halo", "broken for good");
        }
    }
    axis.finish(svg, bottom + 20.0, "Faults, and the regions that they hit, over time")
}

/// A line at healing, and one at agreement.
pub(crate) fn healed(svg: &mut Svg, scene: &Scene<'_>, top: f64, bottom: f64) {
    let healed = scene.report.run.faults_end_us;
    if healed > 0 && healed < scene.axis.end_us {
        let x = scene.axis.x(healed);
        svg.line((x, top), (x, bottom), "healed");
        svg.text((x + 4.0, top + 10.0), "note halo", "all healed");
    }
}

fn bar(svg: &mut Svg, axis: Axis, span: &FaultSpan, y: f64, with_words: bool) {
    let (from, to) = (span.from_us, span.over_us(axis.end_us));
    let (x, w) = (axis.x(from), axis.span(from, to).max(5.0));
    let class = format!("bar {}", span.look().class());
    svg.rect((x, y + 2.0), (w, 14.0), &class, &told(span));
    if !with_words {
        return;
    }
    let words = cut(&span.what, 110);
    let width = text_width(&words);
    if x + w + 6.0 + width < Axis::WIDTH {
        svg.titled((x + w + 6.0, y + 13.0), "note halo", &words, &told(span));
    } else if x - 6.0 - width > Axis::LEFT {
        svg.titled((x - 6.0, y + 13.0), "note end halo", &words, &told(span));
    } else {
        svg.titled((Axis::LEFT + 4.0, y + 13.0), "note halo", &words, &told(span));
    }
}

/// Rows of bars: one each, or as few as it takes where there are many.
fn rows(faults: &[&FaultSpan], axis: Axis) -> Vec<usize> {
    if faults.len() <= FAULT_ROWS_MAX {
        return (0..faults.len()).collect();
    }
    let mut ends: Vec<AtUs> = Vec::new();
    let mut rows = Vec::new();
    for span in faults {
        let free = ends.iter().position(|end| *end < span.from_us).unwrap_or(ends.len());
        let end = span.over_us(axis.end_us) + axis.end_us / 200;
        match ends.get_mut(free) {
            Some(known) => *known = end,
            None => ends.push(end),
        }
        rows.push(free.min(FAULT_ROWS_MAX));
    }
    rows
}

/// When a node was down when probed.
fn down(rounds: &[Round<'_>], node: &str, end_us: AtUs) -> Vec<(AtUs, AtUs)> {
    let mut spans: Vec<(AtUs, AtUs)> = Vec::new();
    for (i, round) in rounds.iter().enumerate() {
        if round.probes.get(node).is_none_or(|probe| probe.up) {
            continue;
        }
        let until = rounds.get(i + 1).map_or(end_us, |next| next.at_us);
        match spans.last_mut().filter(|(_, to)| *to == round.at_us) {
            Some((_, to)) => *to = until,
            None => spans.push((round.at_us, until)),
        }
    }
    spans
}

/// Looks that occur, for the legend.
pub(crate) fn looks(summary: &Summary) -> Vec<Look> {
    let occurs = |look: &Look| summary.faults.iter().any(|span| span.look() == *look);
    Look::ALL.into_iter().filter(occurs).collect()
}

/// Who led, and when nobody did.
pub(crate) fn leaders(scene: &Scene<'_>) -> String {
    let (axis, summary) = (scene.axis, &scene.report.summary);
    let mut svg = Svg::new();
    let mut lanes: Vec<AtUs> = Vec::new();
    let mut spans: Vec<_> = summary.leaders.iter().collect();
    spans.sort_by_key(|span| (span.from_us, u64::MAX - span.term));
    let mut placed = Vec::new();
    for span in spans.iter().take(FAULTS_MAX) {
        let lane = lanes.iter().position(|end| *end <= span.from_us).unwrap_or(lanes.len());
        match lanes.get_mut(lane) {
            Some(end) => *end = span.to_us,
            None => lanes.push(span.to_us),
        }
        placed.push((*span, lane));
    }
    let bottom = 14.0 + lanes.len().max(1) as f64 * 26.0;
    axis.draw(&mut svg, 10.0, bottom);
    svg.text((0.0, 30.0), "label", "leader");
    for (from, to) in &summary.leaderless {
        let title = format!("nobody leads: {} to {}", moment(*from), moment(*to));
        svg.rect((axis.x(*from), 14.0), (axis.span(*from, *to), 22.0), "leaderless", &title);
    }
    for (span, lane) in placed {
        let (x, w, y) =
            (axis.x(span.from_us), axis.span(span.from_us, span.to_us), 14.0 + lane as f64 * 26.0);
        let title = format!(
            "{} leads term {}: {} to {}",
            span.node,
            span.term,
            moment(span.from_us),
            moment(span.to_us)
        );
        let class = format!("fill{}", colour_of(summary, &span.region));
        svg.rect((x, y), (w, 22.0), &class, &title);
        for words in [format!("{}, term {}", span.node, span.term), format!("{}", span.term)] {
            if text_width(&words) + 8.0 < w {
                svg.titled((x + 6.0, y + 15.0), "inside", &words, &title);
                break;
            }
        }
    }
    axis.finish(svg, bottom + 20.0, "Who led when")
}
