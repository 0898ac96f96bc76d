//! The report for a terminal: the verdict first, then what happened, in at most [`WIDTH`] columns.
//! Plain text; colours only where they are asked for, and never as the only sign. Foreign text cannot
//! steer the terminal.

use super::conflicts::Settled;
use super::summary::{KindSummary, RegionSummary, Summary};
use super::words::{bytes, count, cut, duration, listed, moment, number, percent, printable};
use super::{Agreement, Checked, Report, Verdict};

/// Columns.
pub const WIDTH: usize = 100;

/// Violations that are told; the others are counted.
const VIOLATIONS_MAX: usize = 5;

/// Faults that are told; the others are counted.
const FAULTS_MAX: usize = 20;

/// Conflicts that are told, the open ones first; the others are counted.
const CONFLICTS_MAX: usize = 6;

/// Puts lines together, with colours or without.
pub(crate) struct Page {
    out: String,
    colour: bool,
}

impl Page {
    pub(crate) fn new(colour: bool) -> Self {
        Self { out: String::new(), colour }
    }

    pub(crate) fn into_text(self) -> String {
        self.out
    }

    /// A line as it is; it holds no foreign text that is not [`printable`].
    pub(crate) fn line(&mut self, line: &str) {
        self.out.push_str(line.trim_end());
        self.out.push('\n');
    }

    pub(crate) fn title(&mut self, title: &str) {
        self.line("");
        let title = self.painted("1", title);
        self.line(&title);
    }

    pub(crate) fn painted(&self, code: &str, text: &str) -> String {
        if self.colour { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
    }

    pub(crate) fn verdict(&self, verdict: Verdict) -> String {
        let code = match verdict {
            Verdict::NotExercised => "2",
            Verdict::Pass => "32",
            Verdict::Violation => "31",
            Verdict::Vacuous | Verdict::Undecided => "33",
        };
        self.painted(code, verdict.word())
    }

    /// Text in lines of at most [`WIDTH`], all but the first set in; `first` (whose width may differ
    /// from its length, because of colours) takes `indent` columns before the first line.
    pub(crate) fn wrapped(&mut self, first: &str, indent: usize, text: &str) {
        let mut lines = wrap(&printable(text), WIDTH - indent).into_iter();
        self.line(&format!("{first}{}", lines.next().unwrap_or_default()));
        for line in lines {
            self.line(&format!("{}{line}", " ".repeat(indent)));
        }
    }

    /// Rows in columns. The first column and those that `left` picks begin left, the others end right.
    pub(crate) fn table(&mut self, title: &[&str], rows: &[Vec<String>], left: &[usize]) {
        let title: Vec<String> = title.iter().map(|cell| (*cell).to_owned()).collect();
        let mut widths = vec![0; title.len()];
        for row in std::iter::once(&title).chain(rows) {
            for (width, cell) in widths.iter_mut().zip(row) {
                *width = cell.chars().count().max(*width);
            }
        }
        for (i, row) in std::iter::once(&title).chain(rows).enumerate() {
            let mut line = String::new();
            for (column, (cell, width)) in row.iter().zip(&widths).enumerate() {
                let fill = " ".repeat(width - cell.chars().count());
                let starts_left = column == 0 || left.contains(&column);
                let gap = if column == 0 { "" } else { "  " };
                line += &if starts_left {
                    format!("{gap}{cell}{fill}")
                } else {
                    format!("{gap}{fill}{cell}")
                };
            }
            let line = if i == 0 { self.painted("2", line.trim_end()) } else { line };
            self.line(&format!("  {line}"));
        }
    }
}

/// Words in lines of at most `width` characters; a longer word is cut in two.
fn wrap(text: &str, width: usize) -> Vec<String> {
    let mut lines = vec![String::new()];
    for word in text.split(' ') {
        let mut word: Vec<char> = word.chars().collect();
        loop {
            let line = lines.last().map_or(0, |line| line.chars().count());
            let space = usize::from(line > 0);
            if line + space + word.len() <= width {
                break;
            }
            if line > 0 {
                lines.push(String::new());
                continue;
            }
            let rest = word.split_off(width.max(1));
            lines.push(word.into_iter().collect());
            word = rest;
            lines.retain(|line| !line.is_empty());
            lines.push(String::new());
        }
        if let Some(last) = lines.last_mut() {
            if !last.is_empty() {
                last.push(' ');
            }
            last.extend(word);
        }
    }
    lines
}

/// The report.
pub fn text(report: &Report<'_>, colour: bool) -> String {
    let mut page = Page::new(colour);
    let run = &report.run;
    let word = report.verdict.word();
    let claim = if run.claim.is_empty() { "a run without a claim" } else { &run.claim };
    let painted = page.verdict(report.verdict);
    page.wrapped(&format!("{painted}  "), word.len() + 2, claim);
    let of = format!(
        "{}, seed {}: {} in {}, {}",
        printable(&run.scenario),
        run.seed,
        count(report.summary.requests, "request"),
        duration(report.summary.end_us),
        count(report.summary.regions.len() as u64, "region"),
    );
    page.wrapped("", 0, &of);
    violations(&mut page, report);
    checks(&mut page, &report.checks);
    for region in &report.summary.regions {
        region_table(&mut page, region);
    }
    page.line("");
    page.wrapped(
        "  ",
        2,
        "Answered: done, or declined by the rules (another version, no right). Without: the longest \
         time in which it was tried and nothing was answered.",
    );
    together(&mut page, report);
    faults(&mut page, &report.summary);
    conflicts(&mut page, &report.summary);
    again(&mut page, report);
    page.into_text()
}

fn violations(page: &mut Page, report: &Report<'_>) {
    let all = report.violations();
    if all.is_empty() {
        return;
    }
    page.title("Violations");
    for (checked, violation) in all.iter().take(VIOLATIONS_MAX) {
        let at = moment(violation.at_us);
        let mut what = format!("{}: {}", checked.check, violation.what);
        if !violation.nodes.is_empty() {
            what += &format!(" [{}]", listed(violation.nodes_once()));
        }
        if !violation.ops.is_empty() {
            let more = violation.ops.len().saturating_sub(6);
            let ops: Vec<String> =
                violation.ops.iter().take(6).map(|op| format!("#{op}")).collect();
            let more = if more > 0 { format!(" and {more} more") } else { String::new() };
            what += &format!(" (requests {}{more})", ops.join(" "));
        }
        let at = page.painted("31", &format!("{at:>11}"));
        page.wrapped(&format!("{at}  "), 13, &what);
    }
    left_out(page, report.violation_count() as usize, all.len().min(VIOLATIONS_MAX));
}

fn left_out(page: &mut Page, all: usize, shown: usize) {
    if all > shown {
        page.line(&format!("  and {} more", number((all - shown) as u64)));
    }
}

fn checks(page: &mut Page, checks: &[Checked]) {
    page.title("Checks");
    if checks.is_empty() {
        page.line("  none were made, so the run shows nothing");
    }
    let name = checks.iter().map(|c| c.check.chars().count().min(28)).max().unwrap_or_default();
    for checked in checks {
        let painted = page.verdict(checked.verdict);
        let fill = " ".repeat(9 - checked.verdict.word().len());
        let check = cut(&printable(&checked.check), 28);
        let first = format!("  {painted}{fill}  {check:name$}  ");
        page.wrapped(&first, 15 + name, &checked.words());
    }
}

fn region_table(page: &mut Page, region: &RegionSummary) {
    page.line("");
    let name = page.painted("1", &printable(&region.region));
    let mut facts = Vec::new();
    if region.lost {
        facts.push("broken for good".into());
    }
    facts.push(match region.hit_us {
        0 => "no fault hit it".into(),
        us => format!("hit by faults for {}", duration(us)),
    });
    if region.down_us > 0 {
        facts.push(format!("no node up for {}", duration(region.down_us)));
    }
    let behind = region.behind_max;
    if behind.changes > 0 {
        facts.push(format!(
            "at most {} and {} behind",
            count(behind.changes, "change"),
            duration(behind.age_us)
        ));
    }
    page.wrapped(&format!("{name}  "), region.region.chars().count() + 2, &facts.join(", "));
    if region.kinds.is_empty() {
        return page.line("  nothing was asked of it");
    }
    let title =
        ["", "TRIED", "ANSWERED", "REFUSED", "UNKNOWN", "IN FAULTS", "WITHOUT", "", "P50", "P95"];
    let rows: Vec<_> = region.kinds.iter().map(kind_row).collect();
    page.table(&title, &rows, &[7]);
}

fn kind_row(kind: &KindSummary) -> Vec<String> {
    let all = kind.all();
    let faulty = match kind.faulty.tried {
        0 => "-".to_owned(),
        tried => percent(kind.faulty.answered(), tried),
    };
    let (without, from) = match kind.longest_without {
        None => ("-".into(), String::new()),
        Some(s) => (duration(s.us()), format!("at {:.1} s", s.from_us as f64 / 1e6)),
    };
    let latency = |of: fn(&super::summary::Percentiles) -> u64| {
        kind.latency_us.as_ref().map_or("-".into(), |l| duration(of(l)))
    };
    let some = |n: u64| if n == 0 { "-".into() } else { number(n) };
    vec![
        kind.kind.words().into(),
        number(all.tried),
        percent(all.answered(), all.tried),
        some(all.refused),
        some(all.unknown),
        faulty,
        without,
        from,
        latency(|l| l.p50),
        latency(|l| l.p95),
    ]
}

/// How the regions came together, as sentences: name and text.
pub(crate) fn together_facts(report: &Report<'_>) -> Vec<(&'static str, String)> {
    let (summary, run) = (&report.summary, &report.run);
    let within = match run.converge_within_us {
        0 => String::new(),
        us => format!(" ({} were allowed)", duration(us)),
    };
    let agreement = match summary.agreement {
        Agreement::Reached { after_us: 0 } => format!("agreed at once{within}"),
        Agreement::Reached { after_us } => {
            format!("all agreed {} later{within}", duration(after_us))
        }
        Agreement::NotReached => format!("they did not agree until the end{within}"),
        Agreement::NotMeasured => "not measured: the run ended before it".into(),
    };
    let behind = match summary.missing_max {
        0 => "every change was everywhere whenever it was asked for".into(),
        n => format!("at most {} not everywhere at one time", count(n, "change")),
    };
    let still_open = match summary.conflicts_open() {
        0 => "none is open at the end".to_owned(),
        n => format!("{} still open at the end", number(n)),
    };
    let conflicts = match summary.conflicts.len() as u64 {
        0 => "none were seen".into(),
        n => format!("{} seen; {still_open}", count(n, "conflict")),
    };
    let leader = match summary.leaders.first() {
        None => "none was seen".into(),
        Some(_) => format!(
            "{}; {} without one",
            count(summary.leader_changes, "change"),
            duration(summary.leaderless_us())
        ),
    };
    let mut traffic = format!(
        "{} sent between regions, {} of it to catch up after healing",
        bytes(summary.sent_bytes),
        bytes(summary.catch_up_bytes)
    );
    if summary.datagrams > 0 {
        let (sent, lost) = (summary.datagrams, summary.datagrams_lost);
        traffic +=
            &format!("; {}, {} lost on the way", count(sent, "datagram"), percent(lost, sent));
    }
    vec![
        ("after healing", agreement),
        ("behind", behind),
        ("conflicts", conflicts),
        ("leader", leader),
        ("traffic", traffic),
    ]
}

fn together(page: &mut Page, report: &Report<'_>) {
    page.title("Together again");
    for (name, text) in together_facts(report) {
        page.wrapped(&format!("  {name:<15}"), 17, &text);
    }
}

fn faults(page: &mut Page, summary: &Summary) {
    page.title("Faults");
    if summary.faults.is_empty() {
        page.line("  none");
    }
    for span in summary.faults.iter().take(FAULTS_MAX) {
        let when = match span.to_us {
            Some(to) if to == span.from_us => format!("{:.1} s", to as f64 / 1e6),
            Some(to) => format!("{:.1} to {:.1} s", span.from_us as f64 / 1e6, to as f64 / 1e6),
            None => format!("from {:.1} s on", span.from_us as f64 / 1e6),
        };
        let mut what = span.what.clone();
        if let Some(us) = span.caught_up_us {
            what += &format!("; all had caught up {} after it", duration(us));
        }
        page.wrapped(&format!("  {when:<15}  "), 19, &what);
    }
    left_out(page, summary.faults.len(), FAULTS_MAX);
}

fn conflicts(page: &mut Page, summary: &Summary) {
    if summary.conflicts.is_empty() {
        return;
    }
    page.title("Conflicts");
    let mut conflicts: Vec<_> = summary.conflicts.iter().collect();
    conflicts.sort_by_key(|conflict| conflict.settled != Settled::Open);
    for conflict in conflicts.iter().take(CONFLICTS_MAX) {
        let first = format!("  {:>9}  ", moment(conflict.first_us));
        let text = format!("{}: {}", conflict.key, settled_words(&conflict.settled));
        page.wrapped(&first, 13, &text);
    }
    left_out(page, summary.conflicts.len(), CONFLICTS_MAX);
}

/// What became of a conflict.
pub(crate) fn settled_words(settled: &Settled) -> String {
    match settled {
        Settled::Open => "still open at the end".into(),
        Settled::Unclear => "gone, and nothing tells why".into(),
        Settled::Later { version, at_us: Some(at_us), region, .. } => {
            format!("settled by version {version}, written in {region} at {}", moment(*at_us))
        }
        Settled::Later { version, .. } => {
            format!("settled by version {version}, which no client had acknowledged")
        }
    }
}

fn again(page: &mut Page, report: &Report<'_>) {
    let run = &report.run;
    page.title("Run it again");
    if !run.again.is_empty() {
        // Whole, so that it can be copied.
        page.line(&format!("  {}", printable(&run.again)));
    }
    let options = if run.options.is_empty() { "none".into() } else { run.options.join(" ") };
    let hash = cut(&run.scenario_hash, 16);
    let text =
        format!("holm {}, scenario {hash} seed {}, options: {options}", run.version, run.seed);
    page.wrapped("  ", 2, &text);
    if !report.summary.trace_hash.is_empty() {
        page.wrapped("  ", 2, &format!("trace {}", report.summary.trace_hash));
    }
}

#[cfg(test)]
mod tests;
