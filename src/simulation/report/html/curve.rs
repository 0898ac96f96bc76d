//! How far regions were behind: changes that are not everywhere, over time.

use super::super::states::Agreement;
use super::super::words::number;
use super::svg::{Axis, Svg, thinned};
use super::{Scene, colour_of, timeline};
use crate::simulation::history::AtUs;

/// Points of a curve.
const POINTS_MAX: usize = 600;

/// The curve of changes that are missing somewhere, and one for each region.
pub(crate) fn divergence(scene: &Scene<'_>) -> String {
    let (axis, summary) = (scene.axis, &scene.report.summary);
    let of_regions =
        scene.missing.iter().flat_map(|m| m.regions.values().flatten()).map(|lag| lag.changes);
    let most = of_regions.chain([summary.missing_max]).max().unwrap_or_default();
    let step = step(most);
    let most = most.div_ceil(step).max(1) * step;
    let mut svg = Svg::new();
    let (top, bottom) = (22.0, 190.0);
    let y = |changes: f64| bottom - changes / most as f64 * (bottom - top);
    axis.draw(&mut svg, top, bottom);
    for span in summary.faults.iter().filter(|span| !span.links_cut.is_empty()).take(200) {
        let (from, to) = (span.from_us, span.over_us(axis.end_us));
        let size = (axis.span(from, to), bottom - top);
        svg.rect((axis.x(from), top), size, "behind-cut", &span.what);
    }
    for value in (0..=most).step_by(step as usize) {
        let y = y(value as f64);
        svg.line((Axis::LEFT, y), (Axis::RIGHT, y), "grid");
        svg.text((Axis::LEFT - 6.0, y + 4.0), "tick end", &number(value));
    }
    svg.text((0.0, top + 4.0), "label", "changes");
    let all: Vec<(AtUs, f64)> = scene.missing.iter().map(|m| (m.at_us, m.changes as f64)).collect();
    let points: Vec<(f64, f64)> =
        thinned(&all, POINTS_MAX).iter().map(|(at, n)| (axis.x(*at), y(*n))).collect();
    if let (Some(first), Some(last)) = (points.first(), points.last()) {
        svg.path(&points, &format!(" L{:.1} {bottom} L{:.1} {bottom} Z", last.0, first.0), "area");
        svg.path(&points, "", "total");
    }
    for region in &summary.regions {
        let class = format!("curve stroke{}", colour_of(summary, &region.region));
        for part in parts(scene, &region.region) {
            let points: Vec<_> =
                thinned(&part, POINTS_MAX).iter().map(|(at, n)| (axis.x(*at), y(*n))).collect();
            svg.path(&points, "", &class);
        }
    }
    timeline::healed(&mut svg, scene, 6.0, bottom);
    if let Agreement::Reached { after_us } = summary.agreement {
        let x = axis.x(scene.report.run.faults_end_us + after_us);
        svg.line((x, top), (x, bottom), "agreed");
        svg.text((x + 4.0, top + 24.0), "note halo", "all agree");
    }
    axis.finish(svg, bottom + 20.0, "Changes that are not everywhere, over time")
}

/// A region's curve, in parts between the times when no node of it was up.
fn parts(scene: &Scene<'_>, region: &str) -> Vec<Vec<(AtUs, f64)>> {
    let mut parts = vec![Vec::new()];
    for missing in &scene.missing {
        match (missing.regions.get(region).copied().flatten(), parts.last_mut()) {
            (Some(lag), Some(part)) => part.push((missing.at_us, lag.changes as f64)),
            (None, Some(part)) if !part.is_empty() => parts.push(Vec::new()),
            _ => {}
        }
    }
    parts
}

/// A round number that goes into `most` two to five times.
fn step(most: u64) -> u64 {
    let mut ten = 1_u64;
    while ten.saturating_mul(10) <= most / 2 {
        ten *= 10;
    }
    [1, 2, 5].map(|n| n * ten).into_iter().find(|step| most / step <= 5).unwrap_or(10 * ten)
}

#[cfg(test)]
mod tests {
    #[test]
    fn steps_are_round_and_few() {
        for most in [0_u64, 1, 5, 9, 17, 99, 114, 5_000, 123_456, u64::MAX] {
            let step = super::step(most);
            assert!(most / step <= 6, "{most}: {step}");
        }
        assert_eq!((super::step(114), super::step(9)), (20, 2));
    }
}
