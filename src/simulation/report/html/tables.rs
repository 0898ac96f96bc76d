//! What is told in rows: checks, violations, regions, conflicts, and how nodes stood at a moment.

use std::collections::BTreeMap;

use super::super::operations::Kind;
use super::super::summary::{KindSummary, Percentiles};
use super::super::text::settled_words;
use super::super::words::{bytes, count, cut, duration, listed, moment, number, percent};
use super::super::{Checked, Conflict, Report, Settled, Verdict};
use super::Scene;
use super::svg::escape;
use crate::simulation::history::{AtUs, RunNode, Sibling};

/// Rows of a table; the others are counted.
const ROWS_MAX: usize = 200;

/// A table; cells are HTML.
pub(crate) fn table(class: &str, title: &[&str], rows: &[Vec<String>]) -> String {
    let mut out = format!(r#"<div class="wide"><table class="{class}"><thead><tr>"#);
    for cell in title {
        out += &format!("<th>{}</th>", escape(cell));
    }
    out += "</tr></thead><tbody>";
    for row in rows.iter().take(ROWS_MAX) {
        out += "<tr>";
        for cell in row {
            out += &format!("<td>{cell}</td>");
        }
        out += "</tr>";
    }
    out += "</tbody></table></div>";
    if rows.len() > ROWS_MAX {
        let more = number((rows.len() - ROWS_MAX) as u64);
        out += &format!(r#"<p class="faint">and {more} more</p>"#);
    }
    out
}

/// A verdict as a coloured word.
pub(crate) fn badge(verdict: Verdict) -> String {
    let class = match verdict {
        Verdict::Pass => "pass",
        Verdict::NotExercised => "idle",
        Verdict::Violation => "violation",
        Verdict::Vacuous | Verdict::Undecided => "open",
    };
    format!(r#"<span class="badge {class}">{}</span>"#, verdict.word())
}

/// What was checked.
pub(crate) fn checks(report: &Report<'_>) -> String {
    let row = |checked: &Checked| {
        vec![
            badge(checked.verdict),
            format!("<code>{}</code>", escape(&checked.check)),
            escape(&checked.claim),
            escape(&checked.words()),
        ]
    };
    let rows: Vec<_> = report.checks.iter().map(row).collect();
    if rows.is_empty() {
        return "<p>No checks were made, so the run shows nothing.</p>".into();
    }
    table("checks", &["", "Check", "What it holds the system to", "What it found"], &rows)
}

/// Where claims did not hold.
pub(crate) fn violations(report: &Report<'_>) -> String {
    let rows: Vec<Vec<String>> = report
        .violations()
        .into_iter()
        .map(|(checked, violation)| {
            let ops: Vec<String> =
                violation.ops.iter().take(12).map(|op| format!("#{op}")).collect();
            let more = violation.ops.len().saturating_sub(12);
            let more = if more > 0 { format!(" and {more} more") } else { String::new() };
            vec![
                moment(violation.at_us),
                format!("<code>{}</code>", escape(&checked.check)),
                escape(&violation.what),
                escape(&listed(violation.nodes_once())),
                format!("{}{more}", ops.join(" ")),
            ]
        })
        .collect();
    let mut out = table("violations", &["When", "Check", "What", "Where", "Requests"], &rows);
    let more = report.violation_count().saturating_sub(rows.len() as u64);
    if more > 0 {
        out +=
            &format!(r#"<p class="faint">and {} more, which are not described</p>"#, number(more));
    }
    out
}

/// What each region could do.
pub(crate) fn regions(report: &Report<'_>) -> String {
    let title = [
        "",
        "Tried",
        "Answered",
        "Refused",
        "No answer",
        "In faults",
        "Longest without",
        "p50",
        "p95",
        "max",
    ];
    let mut out = String::new();
    for region in &report.summary.regions {
        let behind = region.behind_max;
        let mut facts = vec![
            format!("hit by faults for {}", duration(region.hit_us)),
            format!(
                "at most {} changes and {} behind",
                number(behind.changes),
                duration(behind.age_us)
            ),
            format!(
                "{} sent, {} to catch up",
                bytes(region.sent_bytes),
                bytes(region.catch_up_bytes)
            ),
        ];
        if region.down_us > 0 {
            facts.insert(1, format!("no node up for {}", duration(region.down_us)));
        }
        if region.lost {
            facts.insert(0, "broken for good".into());
        }
        out += &format!(
            r#"<h3>{} <span class="faint">{}</span></h3>"#,
            escape(&region.region),
            escape(&facts.join(" · "))
        );
        let rows: Vec<_> = region.kinds.iter().map(kind).collect();
        out += &table("numbers", &title, &rows);
    }
    out
}

fn kind(kind: &KindSummary) -> Vec<String> {
    let all = kind.all();
    let latency = |of: fn(&Percentiles) -> u64| {
        kind.latency_us.as_ref().map_or("–".into(), |l| duration(of(l)))
    };
    let some = |n: u64| if n == 0 { "–".into() } else { number(n) };
    let faulty = match kind.faulty.tried {
        0 => "–".into(),
        tried => format!("{} of {}", percent(kind.faulty.answered(), tried), number(tried)),
    };
    let without = kind.longest_without.map_or("–".into(), |stretch| {
        let tries = number(stretch.tries);
        format!("{} from {} ({tries} tried)", duration(stretch.us()), moment(stretch.from_us))
    });
    let share = percent(all.answered(), all.tried);
    let part = all.answered() as f64 / all.tried.max(1) as f64 * 100.0;
    let meter = format!(
        r#"<span class="meter"><span style="width:{part:.1}%"></span></span> {}"#,
        escape(&share)
    );
    vec![
        escape(kind.kind.words()),
        number(all.tried),
        meter,
        some(all.refused),
        some(all.unknown),
        faulty,
        without,
        latency(|l| l.p50),
        latency(|l| l.p95),
        latency(|l| l.max),
    ]
}

/// Conflicts and what became of them.
pub(crate) fn conflicts(scene: &Scene<'_>) -> String {
    let probes = scene.rounds.iter().flat_map(|round| round.probes.values());
    // Who writes under an origin says more than its number.
    let writers: BTreeMap<&str, &str> = probes
        .filter(|probe| !probe.origin.is_empty())
        .map(|probe| (probe.origin.as_str(), probe.node.as_str()))
        .collect();
    let write = |write: &Sibling| {
        let value = escape(&cut(write.value.as_deref().unwrap_or("removed"), 32));
        let by = writers.get(write.origin.as_str()).copied().unwrap_or(&write.origin);
        let by = escape(&cut(by, 24));
        format!(r#"<code>{value}</code> <span class="faint">v{} by {by}</span>"#, write.version)
    };
    let row = |conflict: &Conflict| {
        let mut writes: Vec<String> = conflict.writes.iter().take(6).map(write).collect();
        let more = conflict.writes.len().saturating_sub(6);
        if more > 0 {
            writes.push(format!(r#"<span class="faint">and {more} more</span>"#));
        }
        let regions = listed(conflict.regions.iter().map(String::as_str));
        let class = if conflict.settled == Settled::Open { "open" } else { "" };
        let seen = format!("{} in {regions}", count(conflict.sightings, "time"));
        vec![
            format!("<code>{}</code>", escape(&cut(&conflict.key, 48))),
            moment(conflict.first_us),
            writes.join("<br />"),
            escape(&seen),
            format!(
                r#"<span class="{class}">{}</span>"#,
                escape(&settled_words(&conflict.settled))
            ),
        ]
    };
    let mut conflicts: Vec<&Conflict> = scene.report.summary.conflicts.iter().collect();
    conflicts.sort_by_key(|conflict| conflict.settled != Settled::Open);
    let rows: Vec<_> = conflicts.into_iter().map(row).collect();
    table("conflicts", &["Key", "First seen", "Side by side", "Seen", "What became of it"], &rows)
}

/// How each node stood when it was last probed before a moment.
pub(crate) fn standing(scene: &Scene<'_>, at_us: AtUs) -> String {
    let Some(index) = scene.rounds.iter().rposition(|round| round.at_us <= at_us) else {
        return String::new();
    };
    let (Some(round), Some(missing)) = (scene.rounds.get(index), scene.missing.get(index)) else {
        return String::new();
    };
    let row = |node: &RunNode| {
        let probe = round.probes.get(node.node.as_str())?;
        let lag = missing.regions.get(&node.region).copied().flatten().unwrap_or_default();
        if !probe.up {
            return Some(vec![escape(&node.node), "down".into()]);
        }
        let behind = match lag.changes {
            0 => "nothing".into(),
            n => format!("{} changes, {}", number(n), duration(lag.age_us)),
        };
        let view = format!("<code>{}</code>", escape(&cut(&probe.view_hash, 9)));
        Some(vec![
            escape(&node.node),
            escape(&probe.role),
            number(probe.term),
            number(probe.applied),
            behind,
            number(probe.conflicts),
            view,
        ])
    };
    let rows: Vec<_> = scene.report.run.nodes.iter().filter_map(row).collect();
    let title = ["Node", "Role", "Term", "Applied", "Its region lacks", "Conflicts", "View"];
    format!("<h3>How the nodes stood at {}</h3>", moment(round.at_us)) + &table("", &title, &rows)
}

/// The worst that happened to requests that `config` picks: in words, with its region.
pub(crate) fn longest_without(report: &Report<'_>, config: bool) -> Option<(u64, String)> {
    let counted = |kind: Kind| kind.is_config() == config && kind != Kind::SecretLocalRead;
    let regions = report.summary.regions.iter();
    let stretches = regions.flat_map(|region| {
        region.kinds.iter().filter(|kind| counted(kind.kind)).filter_map(|kind| {
            let us = kind.longest_without?.us();
            Some((us, format!("{}: {}", region.region, kind.kind.words())))
        })
    });
    stretches.max_by_key(|(us, _)| *us)
}
