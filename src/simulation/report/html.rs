//! The report as one page that needs nothing else: no network, no fonts, pictures in SVG, light and
//! dark. Everything that comes from files or histories is escaped, and curves are thinned, so that the
//! page's size does not grow with the run's length.

mod curve;
mod links;
mod messages;
mod service;
pub(crate) mod svg;
pub(crate) mod tables;
mod timeline;

use std::fmt::Write;

use super::many::{self, Many};
use super::operations::{Class, Operation, operations};
use super::states::{self, Agreement, Missing, Round};
use super::summary::Summary;
use super::words::{bytes, count, duration, moment, number, percent};
use super::{Report, Verdict, text};
use svg::{Axis, escape};

const STYLE: &str = include_str!("html/page.css");
const SCRIPT: &str = include_str!("html/page.js");

/// What the pictures are drawn from.
pub(crate) struct Scene<'a> {
    report: &'a Report<'a>,
    axis: Axis,
    operations: Vec<Operation<'a>>,
    rounds: Vec<Round<'a>>,
    missing: Vec<Missing>,
}

impl<'a> Scene<'a> {
    fn of(report: &'a Report<'a>) -> Self {
        let rounds = states::rounds(report.records);
        Self {
            report,
            axis: Axis { end_us: report.summary.end_us },
            operations: operations(report.records),
            missing: states::missing(&rounds, &report.run),
            rounds,
        }
    }

    fn region_of(&self, node: &str) -> &str {
        let known = self.report.run.nodes.iter().find(|known| known.node == node);
        known.map_or("", |known| known.region.as_str())
    }
}

/// A region's colour: a number that the style sheet knows.
pub(crate) fn colour_of(summary: &Summary, region: &str) -> usize {
    summary.regions.iter().position(|known| known.region == region).unwrap_or_default() % 8
}

/// The page of a run; of many seeds, theirs before it.
pub fn page(report: &Report<'_>, many: Option<&Many>) -> String {
    let scene = Scene::of(report);
    let mut body = header(report);
    if let Some(many) = many {
        body += &many::html::section(many);
        let which = if report.verdict == Verdict::Pass {
            "All that is below is of this seed alone, as an example."
        } else {
            "All that is below is of this seed alone: the first of those that did not pass, the \
             violations before the others."
        };
        body += &section("one", &format!("The run of seed {}", report.run.seed), which, "");
    }
    body += &tiles(report);
    body += &first_violation(&scene);
    body += &section("checks", "What was checked", "", &tables::checks(report));
    body += &over_time(&scene);
    body += &section(
        "regions",
        "What each region could do",
        "Answered: done, or declined by the rules, such as another version or no right. Longest \
         without: from the first request that failed to the next one that was answered.",
        &tables::regions(report),
    );
    if !report.summary.conflicts.is_empty() {
        let note = "Writes of one key in several regions that did not know of each other. Both are \
                    kept and the same one wins everywhere, until a later write replaces them.";
        body += &section("conflicts", "Conflicts", note, &tables::conflicts(&scene));
    }
    body += &footer(report);
    document(&format!("{}: {}", report.verdict.word(), report.run.scenario), &body)
}

/// A whole page around `body`, which is HTML.
pub(crate) fn document(title: &str, body: &str) -> String {
    format!(
        "<!DOCTYPE html>\n<html lang=\"en\"><head><meta charset=\"utf-8\" />\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\" />\
         <meta name=\"color-scheme\" content=\"light dark\" />\
         <title>{}</title><style>{STYLE}</style></head>\n<body>{HATCHES}<main>{body}</main>\
         <script>{SCRIPT}</script></body></html>\n",
        escape(title)
    )
}

/// Patterns that shades are filled with.
const HATCHES: &str = concat!(
    r#"<svg class="defs" aria-hidden="true"><defs>"#,
    r#"<pattern id="hatch-cut" width="7" height="7" patternUnits="userSpaceOnUse" patternTransform="rotate(45)"><rect width="7" height="7" class="ground-cut"/><rect width="2.5" height="7" class="ink-cut"/></pattern>"#,
    r#"<pattern id="hatch-link" width="6" height="6" patternUnits="userSpaceOnUse"><rect width="6" height="6" class="ground-link"/><rect width="6" height="1.5" class="ink-link"/></pattern>"#,
    r#"<pattern id="hatch-none" width="6" height="6" patternUnits="userSpaceOnUse" patternTransform="rotate(-45)"><rect width="6" height="6" class="ground-none"/><rect width="2" height="6" class="ink-none"/></pattern>"#,
    r#"</defs></svg>"#
);

/// A part of the page; `body` is HTML.
pub(crate) fn section(id: &str, title: &str, note: &str, body: &str) -> String {
    let note = match note {
        "" => String::new(),
        note => format!(r#"<p class="faint">{}</p>"#, escape(note)),
    };
    format!(r#"<section id="{id}"><h2>{}</h2>{note}{body}</section>"#, escape(title))
}

fn header(report: &Report<'_>) -> String {
    let run = &report.run;
    let claim = if run.claim.is_empty() { "A run without a claim" } else { &run.claim };
    let mut facts = vec![
        format!("seed {}", run.seed),
        format!("holm {}", run.version),
        count(report.summary.requests, "request"),
        format!("{} of run time", duration(report.summary.end_us)),
        count(report.summary.regions.len() as u64, "region"),
    ];
    if !run.options.is_empty() {
        facts.push(format!("options {}", run.options.join(" ")));
    }
    let mut out = format!(
        r#"<header><div class="top">{}<span class="name">{}</span></div><h1>{}</h1><p class="faint">{}</p>"#,
        tables::badge(report.verdict),
        escape(&run.scenario),
        escape(claim),
        escape(&facts.join(" · "))
    );
    if !run.again.is_empty() {
        // Written to a string, which does not fail.
        let _ = write!(
            out,
            r#"<p class="again"><span>Run it again</span><code id="again">{}</code><button type="button" id="copy">Copy</button></p>"#,
            escape(&run.again)
        );
    }
    out + "</header>"
}

/// A few numbers, large.
fn tiles(report: &Report<'_>) -> String {
    let summary = &report.summary;
    let (config, secrets) =
        (summary.attempts(|k| k.is_config()), summary.attempts(|k| !k.is_config()));
    let of = |answered: u64, tried: u64| format!("{} of {}", number(answered), number(tried));
    let without = |config: bool| match tables::longest_without(report, config) {
        Some((us, which)) => format!("at most {} without: {which}", duration(us)),
        None => "never without".into(),
    };
    let (agreed, agreed_note) = match summary.agreement {
        Agreement::Reached { after_us: 0 } => ("at once".to_owned(), "all agreed after healing"),
        Agreement::Reached { after_us } => (duration(after_us), "from healing until all agreed"),
        Agreement::NotReached => ("not reached".into(), "the run ended before all agreed"),
        Agreement::NotMeasured => ("–".into(), "agreement was not measured"),
    };
    let behind = summary.regions.iter().map(|r| r.behind_max.age_us).max().unwrap_or_default();
    let conflicts = format!("{} open at the end", summary.conflicts_open());
    let leaderless = format!("{} without a leader", duration(summary.leaderless_us()));
    let to_catch_up = format!("of {} in all", bytes(summary.sent_bytes));
    let tiles: [(&str, String, String); 8] = [
        (
            "configurations answered",
            percent(config.answered(), config.tried),
            format!("{}; {}", of(config.answered(), config.tried), without(true)),
        ),
        (
            "secrets and rights answered",
            percent(secrets.answered(), secrets.tried),
            format!("{}; {}", of(secrets.answered(), secrets.tried), without(false)),
        ),
        ("agreement", agreed, agreed_note.into()),
        (
            "most changes not everywhere",
            number(summary.missing_max),
            format!("a region at most {} behind", duration(behind)),
        ),
        ("conflicts", number(summary.conflicts.len() as u64), conflicts),
        ("leader changes", number(summary.leader_changes), leaderless),
        ("bytes to catch up", bytes(summary.catch_up_bytes), to_catch_up),
        datagrams(summary),
    ];
    let tile = |(name, value, note): &(&str, String, String)| {
        format!(
            r#"<div class="tile"><span class="name">{}</span><span class="value">{}</span><span class="faint">{}</span></div>"#,
            escape(name),
            escape(value),
            escape(note)
        )
    };
    format!(r#"<div class="tiles">{}</div>"#, tiles.iter().map(tile).collect::<String>())
}

fn datagrams(summary: &Summary) -> (&'static str, String, String) {
    let lost = summary.datagrams_lost;
    let lost = format!("{} lost ({})", number(lost), percent(lost, summary.datagrams));
    match summary.datagrams {
        0 => ("datagrams", "–".into(), "not counted".into()),
        sent => ("datagrams", number(sent), lost),
    }
}

/// What did not hold, and the messages around its first time.
fn first_violation(scene: &Scene<'_>) -> String {
    let all = scene.report.violations();
    let Some((checked, violation)) = all.first() else { return String::new() };
    let mut body = format!(
        "<p><code>{}</code> at {}: {}</p>",
        escape(&checked.check),
        moment(violation.at_us),
        escape(&violation.what)
    );
    let picture = messages::picture(scene, violation);
    if !picture.is_empty() {
        // Written to a string, which does not fail.
        let _ = write!(
            body,
            r#"<h3>The requests around it</h3><p class="faint">Time goes down; it is stretched where much happens and shortened where nothing does. A bar is a request, from sending to answer, at the node that was asked. Framed: what the violation names. Arrows: <span class="key-seen">who read what was written</span>, <span class="key-moved">where a client went on</span>. Shaded: faults.</p><div class="wide">{picture}</div>"#,
        );
    }
    body += &tables::standing(scene, violation.at_us);
    body += "<h3>All violations</h3>";
    body += &tables::violations(scene.report);
    section("violations", "What did not hold", "", &body)
}

fn swatch(class: &str, words: &str) -> String {
    format!(
        r#"<span class="key"><svg viewBox="0 0 16 12"><rect width="16" height="12" class="{class}"/></svg>{}</span>"#,
        escape(words)
    )
}

fn legend(keys: impl IntoIterator<Item = (String, String)>) -> String {
    let keys: String = keys.into_iter().map(|(class, words)| swatch(&class, &words)).collect();
    format!(r#"<p class="legend">{keys}</p>"#)
}

fn figure(title: &str, keys: &str, picture: &str) -> String {
    format!(r#"<h3>{}</h3>{keys}<div class="wide">{picture}</div>"#, escape(title))
}

/// The pictures that share the time axis.
fn over_time(scene: &Scene<'_>) -> String {
    let summary = &scene.report.summary;
    let looks = timeline::looks(summary).into_iter();
    let looks = looks.map(|look| (format!("bar {}", look.class()), look.words().to_owned()));
    let down = summary.regions.iter().any(|region| region.down_us > 0);
    let down = down.then(|| ("is-down".to_owned(), "no answer to probes".to_owned()));
    let classes = [Class::Succeeded, Class::Declined, Class::Refused, Class::Unknown]
        .map(|c| (service::class_name(c).to_owned(), service::class_words(c).to_owned()));
    let lines: Vec<(String, String)> = summary
        .regions
        .iter()
        .map(|r| (format!("fill{}", colour_of(summary, &r.region)), r.region.clone()))
        .collect();
    let total = [("area".to_owned(), "missing somewhere".to_owned())];
    let gap = [("leaderless".to_owned(), "nobody leads".to_owned())];
    let mut body = figure("What broke", &legend(looks.chain(down)), &timeline::lanes(scene));
    body += &figure(
        "Configurations: each region alone",
        &legend(classes.clone()),
        &service::strips(scene, true),
    );
    body += &figure(
        "Secrets, and who may do what: with a quorum",
        &legend(classes),
        &service::strips(scene, false),
    );
    body += &figure(
        "Changes that a region lacks",
        &legend(total.into_iter().chain(lines.clone())),
        &curve::divergence(scene),
    );
    body += &figure("Who leads", &legend(lines.into_iter().chain(gap)), &timeline::leaders(scene));
    let (keys, picture) = links::links(scene);
    body += &figure("Links between regions", &keys, &picture);
    let dots = service::latencies(scene);
    if !dots.is_empty() {
        let keys = [("dot-config", "configurations"), ("dot-secret", "secrets and rights")]
            .map(|(class, words)| (class.to_owned(), words.to_owned()));
        body += &figure("How long it took", &legend(keys), &dots);
    }
    let note = "All pictures share one time axis. A thin line above a region's strips: a fault hits \
                it. Rest the pointer on anything for its words.";
    section("time", "What happened when", note, &body)
}

fn footer(report: &Report<'_>) -> String {
    let run = &report.run;
    let facts: String = text::together_facts(report)
        .iter()
        .map(|(name, words)| format!("<dt>{}</dt><dd>{}</dd>", escape(name), escape(words)))
        .collect();
    let options = if run.options.is_empty() { "none".into() } else { run.options.join(" ") };
    let mut names: Vec<(&str, &str)> = vec![
        ("program", &run.version),
        ("scenario", &run.scenario),
        ("scenario hash", &run.scenario_hash),
        ("options", &options),
    ];
    if !report.summary.trace_hash.is_empty() {
        names.push(("trace hash", &report.summary.trace_hash));
    }
    let names: String = names
        .iter()
        .map(|(name, words)| format!("<dt>{name}</dt><dd><code>{}</code></dd>", escape(words)))
        .collect();
    section("again", "In short, and again", "", &format!("<dl>{facts}{names}</dl>"))
}

#[cfg(test)]
mod tests;
