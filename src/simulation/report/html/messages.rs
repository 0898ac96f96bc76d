//! The messages around a violation: time goes down, a column for each node that was asked, a bar for
//! each request, and arrows from what was written to who read it. Time is stretched where much
//! happens and shortened where nothing does.

use std::collections::{BTreeMap, BTreeSet};

use super::super::Violation;
use super::super::operations::{Operation, answered, asked, subjects};
use super::super::words::{cut, duration, moment};
use super::Scene;
use super::service::class_name;
use super::svg::Svg;
use crate::simulation::history::{AtUs, Event, Outcome, Request};

/// Requests that are drawn.
const OPS_MAX: usize = 36;

/// Requests of a violation that are sure to be drawn.
const NAMED_MAX: usize = 24;

/// What watchers were sent, of a violation's watches.
const SENT_MAX: usize = 16;

/// Where the columns begin.
const LEFT: f64 = 84.0;

/// Something that is drawn beside a column.
struct Mark<'a> {
    op: u64,
    client: u32,
    node: &'a str,
    from_us: AtUs,
    to_us: AtUs,
    class: &'static str,
    named: bool,
    first: String,
    second: String,
    writes: BTreeSet<&'a str>,
    shows: BTreeSet<&'a str>,
}

/// The picture; empty where there is nothing to draw.
pub(crate) fn picture(scene: &Scene<'_>, violation: &Violation) -> String {
    let mut marks = marks(scene, violation);
    marks.sort_by_key(|mark| (mark.from_us, mark.op));
    if marks.is_empty() {
        return String::new();
    }
    let columns = columns(scene, &marks);
    let width = ((1120.0 - LEFT) / columns.len() as f64).max(190.0);
    let ys = Heights::of(&marks, &columns);
    let mut svg = Svg::new();
    let bottom = ys.bottom() + 34.0;
    backdrop(&mut svg, scene, &columns, width, &ys, bottom);
    ys.draw(&mut svg, LEFT + width * columns.len() as f64);
    let placed = place(&marks, &columns, width, &ys);
    arrows(&mut svg, &marks, &placed);
    for (mark, bar) in marks.iter().zip(&placed) {
        draw(&mut svg, mark, bar, width);
    }
    svg.finish(LEFT + width * columns.len() as f64, bottom, "Requests around the violation")
        .replacen('>', &format!(">{TIPS}"), 1)
}

/// Heads of arrows.
const TIPS: &str = concat!(
    r#"<defs><marker id="seen-tip" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" "#,
    r#"markerHeight="7" orient="auto"><path d="M0 0 L8 4 L0 8 Z" class="seen-tip"/></marker>"#,
    r#"<marker id="moved-tip" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" "#,
    r#"markerHeight="7" orient="auto"><path d="M0 0 L8 4 L0 8 Z" class="moved-tip"/></marker></defs>"#
);

fn marks<'a>(scene: &'a Scene<'_>, violation: &Violation) -> Vec<Mark<'a>> {
    let named: BTreeSet<u64> = violation.ops.iter().copied().take(NAMED_MAX).collect();
    let mut marks: Vec<Mark<'a>> = chosen(scene, violation, &named)
        .into_iter()
        .map(|operation| mark(operation, named.contains(&operation.call.op)))
        .collect();
    marks.extend(sent(scene, violation, &named));
    marks
}

/// The violation's own requests, and those that are nearest to them and about the same; where it names
/// none, those of its nodes about that time.
fn chosen<'a>(
    scene: &'a Scene<'_>,
    violation: &Violation,
    named: &BTreeSet<u64>,
) -> Vec<&'a Operation<'a>> {
    let own: Vec<&Operation<'_>> =
        scene.operations.iter().filter(|o| named.contains(&o.call.op)).collect();
    let about: BTreeSet<String> = own.iter().flat_map(|o| subjects(&o.call.request)).collect();
    let mut times: Vec<AtUs> = own.iter().flat_map(|o| [o.at_us, o.over_us]).collect();
    times.push(violation.at_us);
    let (from, to) = times.iter().fold((AtUs::MAX, 0), |(a, b), at| (a.min(*at), b.max(*at)));
    let margin = ((to - from) / 8).clamp(300_000, 2_000_000);
    let concerned = |o: &Operation<'_>| {
        if own.is_empty() {
            violation.nodes.is_empty() || violation.nodes.contains(&o.call.node)
        } else {
            !subjects(&o.call.request).is_disjoint(&about)
        }
    };
    let mut others: Vec<(u64, &Operation<'_>)> = scene
        .operations
        .iter()
        .filter(|o| !named.contains(&o.call.op) && concerned(o))
        .filter(|o| o.over_us + margin >= from && o.at_us <= to + margin)
        .map(|o| {
            let away =
                times.iter().map(|at| at.abs_diff(o.at_us).min(at.abs_diff(o.over_us))).min();
            // What was written tells more than what was read.
            let weight = if o.kind.is_some_and(|kind| kind.is_write()) { 4 } else { 1 };
            (away.unwrap_or_default() / weight, o)
        })
        .collect();
    others.sort_by_key(|(away, o)| (*away, o.call.op));
    let others = others.into_iter().map(|(_, o)| o).take(OPS_MAX.saturating_sub(own.len()));
    own.iter().copied().chain(others).collect()
}

fn mark<'a>(operation: &'a Operation<'a>, named: bool) -> Mark<'a> {
    let writes = match &operation.call.request {
        Request::ConfigWrite { entries, .. } => entries.iter().map(|(_, v)| v.as_str()).collect(),
        Request::SecretWrite { value, .. } | Request::RoleWrite { value, .. } => {
            BTreeSet::from([value.as_str()])
        }
        _ => BTreeSet::new(),
    };
    let shows = match operation.outcome {
        Some(Outcome::Row { siblings, .. }) => {
            siblings.iter().filter_map(|sibling| sibling.value.as_deref()).collect()
        }
        Some(Outcome::Value { value: Some(value), .. }) if writes.is_empty() => {
            BTreeSet::from([value.as_str()])
        }
        _ => BTreeSet::new(),
    };
    let call = operation.call;
    let session = if call.has_session { " with session" } else { "" };
    let account = call.account.as_ref().map_or(String::new(), |a| format!(" as {a}"));
    Mark {
        op: call.op,
        client: call.client,
        node: &call.node,
        from_us: operation.at_us,
        to_us: operation.over_us,
        class: class_name(operation.class),
        named,
        first: format!("#{} c{} {}{session}{account}", call.op, call.client, asked(&call.request)),
        second: answered(operation.outcome),
        writes,
        shows,
    }
}

/// What a violation's watches were sent, nearest to it.
fn sent<'a>(scene: &'a Scene<'_>, violation: &Violation, named: &BTreeSet<u64>) -> Vec<Mark<'a>> {
    let calls: BTreeMap<u64, &Operation<'_>> = scene
        .operations
        .iter()
        .filter(|o| matches!(o.call.request, Request::ConfigWatch { .. }))
        .map(|o| (o.call.op, o))
        .collect();
    let mut marks = Vec::new();
    for record in scene.report.records {
        let Event::Watched(watched) = &record.event else { continue };
        let Some(call) = calls.get(&watched.op).filter(|o| named.contains(&o.call.op)) else {
            continue;
        };
        let row = |(key, siblings): &(String, Vec<_>)| {
            let shown =
                answered(Some(&Outcome::Row { siblings: siblings.clone(), inconsistent: false }));
            format!("{key}={shown}")
        };
        let rows: Vec<String> = watched.rows.iter().take(4).map(row).collect();
        let values = watched.rows.iter().flat_map(|(_, siblings)| siblings);
        let reset = if watched.reset { ", from the beginning" } else { "" };
        marks.push(Mark {
            op: watched.op,
            client: watched.client,
            node: &call.call.node,
            from_us: record.at_us,
            to_us: record.at_us,
            class: "ok",
            named: false,
            first: format!("#{} c{} is sent{reset}", watched.op, watched.client),
            second: if rows.is_empty() { "nothing new".into() } else { rows.join(", ") },
            writes: BTreeSet::new(),
            shows: values.filter_map(|sibling| sibling.value.as_deref()).collect(),
        });
    }
    marks.sort_by_key(|mark| mark.from_us.abs_diff(violation.at_us));
    marks.truncate(SENT_MAX);
    marks
}

/// Nodes that were asked, in the run's order.
fn columns<'a>(scene: &'a Scene<'_>, marks: &[Mark<'a>]) -> Vec<&'a str> {
    let asked: BTreeSet<&str> = marks.iter().map(|mark| mark.node).collect();
    let known: Vec<&str> = scene.report.run.nodes.iter().map(|node| node.node.as_str()).collect();
    let mut columns: Vec<&str> =
        known.iter().copied().filter(|node| asked.contains(node)).collect();
    columns.extend(asked.into_iter().filter(|node| !known.contains(node)));
    columns
}

/// How far down each time is.
struct Heights {
    /// By time.
    at: BTreeMap<AtUs, f64>,
}

impl Heights {
    const TOP: f64 = 46.0;
    /// Two lines of a mark's words.
    const WORDS: f64 = 30.0;
    const GAP_MAX: f64 = 40.0;

    fn of(marks: &[Mark<'_>], columns: &[&str]) -> Self {
        let mut times: Vec<(AtUs, Option<usize>)> = Vec::new();
        for mark in marks {
            times.push((mark.from_us, columns.iter().position(|node| *node == mark.node)));
            times.push((mark.to_us, None));
        }
        times.sort_unstable();
        let mut at = BTreeMap::new();
        let mut words = vec![f64::MIN; columns.len()];
        let mut last: Option<(AtUs, f64)> = None;
        for (us, column) in times {
            let mut y = match last {
                None => Self::TOP,
                Some((before, y)) if before == us => y,
                Some((before, y)) => y + ((us - before) as f64 / 8_000.0).clamp(5.0, Self::GAP_MAX),
            };
            if let Some(taken) = column.and_then(|column| words.get_mut(column)) {
                y = y.max(*taken);
                *taken = y + Self::WORDS;
            }
            at.insert(us, y);
            last = Some((us, y));
        }
        Self { at }
    }

    fn bottom(&self) -> f64 {
        self.at.values().last().copied().unwrap_or(Self::TOP)
    }

    /// Of any time; between two known ones in proportion.
    fn y(&self, us: AtUs) -> f64 {
        let before = self.at.range(..=us).next_back();
        let after = self.at.range(us..).next();
        match (before, after) {
            (Some((a, y1)), Some((b, y2))) if b > a => {
                y1 + (y2 - y1) * (us - a) as f64 / (b - a) as f64
            }
            (Some((_, y)), Some(_)) => *y,
            (None, _) => Self::TOP - 12.0,
            (_, None) => self.bottom() + 16.0,
        }
    }

    /// Times at the left, and where time is shortened.
    fn draw(&self, svg: &mut Svg, right: f64) {
        let mut last_words = f64::MIN;
        let mut before: Option<(AtUs, f64)> = None;
        for (us, y) in &self.at {
            if let Some((earlier, above)) = before
                && us - earlier > 1_000_000
            {
                let middle = (above + y) / 2.0;
                svg.line((LEFT - 6.0, middle), (right, middle), "break");
                let words = format!("{} later", duration(us - earlier));
                if middle - last_words > 12.0 {
                    svg.text((LEFT - 8.0, middle + 3.0), "tick end faint", &words);
                    last_words = middle;
                }
            }
            if y - last_words > 13.0 {
                svg.text((LEFT - 8.0, y + 4.0), "tick end", &moment(*us));
                svg.line((LEFT - 5.0, *y), (LEFT, *y), "grid");
                last_words = *y;
            }
            before = Some((*us, *y));
        }
    }
}

/// Columns with their names, and the faults that hit them.
fn backdrop(
    svg: &mut Svg,
    scene: &Scene<'_>,
    columns: &[&str],
    width: f64,
    ys: &Heights,
    bottom: f64,
) {
    let (Some(first), Some(last)) = (ys.at.keys().next(), ys.at.keys().last()) else { return };
    for (i, node) in columns.iter().enumerate() {
        let x = LEFT + width * i as f64;
        let region = scene.region_of(node);
        svg.rect((x + 2.0, 26.0), (width - 6.0, bottom - 30.0), "lane", "");
        let faults = scene.report.summary.faults.iter();
        for span in faults.filter(|s| s.hits(region) && s.overlaps(*first, *last)).take(40) {
            let (top, end) = (ys.y(span.from_us), ys.y(span.over_us(scene.axis.end_us)));
            let look = span.look().class();
            let (top, end) = (top.max(26.0), end.min(bottom - 4.0));
            let height = (end - top).max(2.0);
            svg.rect((x + 2.0, top), (width - 6.0, height), &format!("wash bar {look}"), "");
            let edge = (x + width - 14.0, top);
            svg.rect(edge, (10.0, height), &format!("shade {look}"), &span.what);
        }
        svg.line((x + 14.0, 26.0), (x + 14.0, bottom - 4.0), "lifeline");
        svg.text((x + 8.0, 17.0), "label strong", &cut(node, 26));
    }
}

/// Where a mark's bar is.
struct Bar {
    x: f64,
    top: f64,
    end: f64,
    words_x: f64,
}

/// Bars beside each other where they last at the same time; words right of all of their column.
fn place(marks: &[Mark<'_>], columns: &[&str], width: f64, ys: &Heights) -> Vec<Bar> {
    let mut lanes: BTreeMap<&str, Vec<f64>> = BTreeMap::new();
    let mut placed = Vec::new();
    for mark in marks {
        let (top, end) = (ys.y(mark.from_us), ys.y(mark.to_us).max(ys.y(mark.from_us) + 5.0));
        let lanes = lanes.entry(mark.node).or_default();
        let free = lanes.iter().position(|taken| *taken < top).unwrap_or(lanes.len());
        match lanes.get_mut(free) {
            Some(taken) => *taken = end,
            None => lanes.push(end),
        }
        let column = columns.iter().position(|node| *node == mark.node).unwrap_or_default();
        let left = LEFT + width * column as f64;
        placed.push(Bar { x: left + 10.0 + free.min(5) as f64 * 10.0, top, end, words_x: left });
    }
    for (mark, bar) in marks.iter().zip(&mut placed) {
        let most = lanes.get(mark.node).map_or(1, |lanes| lanes.len().min(6));
        bar.words_x += 16.0 + most as f64 * 10.0;
    }
    placed
}

/// From each write to who first read it at each node, and from a client's request to its next one
/// elsewhere.
fn arrows(svg: &mut Svg, marks: &[Mark<'_>], placed: &[Bar]) {
    for (i, (write, from)) in marks.iter().zip(placed).enumerate() {
        if !write.writes.is_empty() {
            let mut told: BTreeSet<&str> = BTreeSet::from([write.node]);
            for (read, to) in marks.iter().zip(placed) {
                let sees = !read.shows.is_disjoint(&write.writes) && read.to_us >= write.from_us;
                if sees && (told.insert(read.node) || read.named) {
                    let rightwards = to.x > from.x;
                    let (start, end) = if rightwards { (8.0, -1.0) } else { (0.0, 9.0) };
                    svg.arrow((from.x + start, from.end), (to.x + end, to.end - 2.0), "seen");
                }
            }
        }
        let next =
            marks.iter().zip(placed).skip(i + 1).find(|(mark, _)| mark.client == write.client);
        if let Some((_, to)) = next.filter(|(mark, _)| mark.node != write.node) {
            svg.arrow((from.x + 4.0, from.end), (to.x + 3.0, to.top), "moved");
        }
    }
}

fn draw(svg: &mut Svg, mark: &Mark<'_>, bar: &Bar, width: f64) {
    let title = format!(
        "{} to {}: {} → {}",
        moment(mark.from_us),
        moment(mark.to_us),
        mark.first,
        mark.second
    );
    let named = if mark.named { " named" } else { "" };
    svg.rect(
        (bar.x, bar.top),
        (8.0, bar.end - bar.top),
        &format!("request {}{named}", mark.class),
        &title,
    );
    svg.line((bar.x + 9.0, bar.top + 1.0), (bar.words_x - 2.0, bar.top + 1.0), "leader-line");
    let room = width - (bar.words_x - bar.x) - 18.0;
    let letter = if mark.named { 6.9 } else { 6.2 };
    let most = (room / letter).max(8.0) as usize;
    let class = format!("words{named}");
    let at = (bar.words_x, bar.top + 5.0);
    svg.titled(at, &format!("{class} halo"), &cut(&mark.first, most), &title);
    let at = (bar.words_x, bar.top + 17.0);
    svg.titled(
        at,
        &format!("{class} faint halo"),
        &cut(&format!("→ {}", mark.second), most),
        &title,
    );
}
