//! Many seeds as a part of a page, or as a page of its own.

use super::super::html::svg::{Svg, escape};
use super::super::html::{document, section as part, tables};
use super::super::words::{count, duration, moment, number, percent};
use super::super::{Agreement, Verdict};
use super::{Many, OneSeed, text};

/// Seeds that have a square of their own.
const SQUARES_MAX: usize = 2_000;

/// Columns of the picture of times.
const COLUMNS: u64 = 40;

/// A page of many seeds alone, where no single run is shown with them.
pub fn page(many: &Many) -> String {
    let claim = if many.claim.is_empty() { "Runs without a claim" } else { &many.claim };
    let header = format!(
        r#"<header><div class="top">{}<span class="name">{}</span></div><h1>{}</h1><p class="faint">{}</p></header>"#,
        tables::badge(many.verdict()),
        escape(&many.scenario),
        escape(claim),
        escape(&format!("holm {}, scenario {}", many.version, many.scenario_hash)),
    );
    document(&format!("{}: {}", many.verdict().word(), many.scenario), &(header + &section(many)))
}

/// The part of a page.
pub(crate) fn section(many: &Many) -> String {
    let mut body = format!("<p>{}</p>", escape(&text::words(many)));
    body += &format!(r#"<div class="wide">{}</div>"#, squares(many));
    let not = many.not_passed();
    if !not.is_empty() {
        let rows: Vec<_> = not.into_iter().map(row).collect();
        body += "<h3>Seeds that did not pass</h3>";
        body += &tables::table("seeds", &["Seed", "", "When", "Why", "Again"], &rows);
    }
    let spread = many.spread();
    if let Some(p) = spread.agree_us {
        let facts = format!(
            "half of the seeds within {}, 95 of 100 within {}, all that agreed within {}",
            duration(p.p50),
            duration(p.p95),
            duration(p.max)
        );
        let not = match spread.not_agreed {
            0 => String::new(),
            n => format!("; in {} they did not agree", count(n, "seed")),
        };
        body += &format!(
            r#"<h3>From healing to agreement <span class="faint">{}</span></h3><div class="wide">{}</div>"#,
            escape(&(facts + &not)),
            columns(many, p.max)
        );
    }
    body += "<h3>The longest time without an answer</h3>";
    let rows: Vec<_> = spread.without.iter().map(without).collect();
    let title = ["Region", "", "Answered", "p50", "p95", "Max", "Worst seed"];
    body += &tables::table("", &title, &rows);
    let seeds = many.seeds.len() as u64;
    part("seeds", &format!("All {}", count(seeds, "seed")), "", &body)
}

fn row(one: &OneSeed) -> Vec<String> {
    vec![
        one.seed.to_string(),
        tables::badge(one.verdict),
        one.first.as_ref().map_or(String::new(), |first| moment(first.at_us)),
        escape(&one.why()),
        format!("<code>{}</code>", escape(&one.again)),
    ]
}

fn without(one: &super::WithoutSpread) -> Vec<String> {
    let show = |us: u64| if us == 0 { "–".to_owned() } else { duration(us) };
    let p = one.longest_us;
    vec![
        escape(&one.region),
        escape(one.kind.words()),
        percent(one.attempts.answered(), one.attempts.tried),
        show(p.p50),
        show(p.p95),
        show(p.max),
        if p.max == 0 { "–".into() } else { one.worst_seed.to_string() },
    ]
}

/// A square for each seed.
fn squares(many: &Many) -> String {
    let mut svg = Svg::new();
    let (size, row) = (16.0, 66);
    for (i, one) in many.seeds.iter().take(SQUARES_MAX).enumerate() {
        let at = ((i % row) as f64 * (size + 1.0), (i / row) as f64 * (size + 1.0));
        let class = match one.verdict {
            Verdict::Pass => "ok",
            Verdict::Violation => "unknown",
            Verdict::Vacuous | Verdict::NotExercised => "refused",
            Verdict::Undecided => "leaderless",
        };
        let title = format!("seed {}: {} {}", one.seed, one.verdict.word(), one.why());
        svg.rect(at, (size, size), class, &title);
    }
    let rows = many.seeds.len().clamp(1, SQUARES_MAX).div_ceil(row) as f64;
    svg.finish(1122.0, rows * (size + 1.0), "A square for each seed")
}

/// How many seeds agreed how long after healing.
fn columns(many: &Many, max_us: u64) -> String {
    let length = max_us.div_ceil(COLUMNS).max(1);
    let mut counts = vec![0_u64; COLUMNS as usize + 1];
    for one in &many.seeds {
        if let Agreement::Reached { after_us } = one.agreement
            && let Some(n) = counts.get_mut((after_us / length) as usize)
        {
            *n += 1;
        }
    }
    let most = counts.iter().max().copied().unwrap_or_default().max(1);
    let mut svg = Svg::new();
    let (bottom, width) = (92.0, 1120.0 / (COLUMNS + 1) as f64);
    svg.line((0.0, bottom), (1120.0, bottom), "grid");
    for (i, n) in counts.iter().enumerate() {
        let x = i as f64 * width;
        let from = i as u64 * length;
        if *n > 0 {
            let height = 78.0 * *n as f64 / most as f64;
            let title =
                format!("{} to {}: {}", duration(from), duration(from + length), count(*n, "seed"));
            svg.rect((x + 1.0, bottom - height), (width - 2.0, height), "column", &title);
            svg.text((x + width / 2.0, bottom - height - 3.0), "tick middle", &number(*n));
        }
        if i % 5 == 0 && i + 1 < counts.len() {
            svg.text((x, bottom + 14.0), "tick", &duration(from));
        }
    }
    svg.finish(1120.0, bottom + 20.0, "How many seeds agreed how long after healing")
}
