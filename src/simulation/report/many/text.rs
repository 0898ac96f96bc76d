//! Many seeds' report for a terminal.

use super::super::text::Page;
use super::super::words::{count, cut, duration, moment, number, percent, printable};
use super::{Many, Percentiles, Verdict};

/// Seeds that did not pass that are told; the others are counted.
const SEEDS_MAX: usize = 20;

/// The report.
pub fn text(many: &Many, colour: bool) -> String {
    let mut page = Page::new(colour);
    let counts = many.counts();
    let verdict = many.verdict();
    let claim = if many.claim.is_empty() { "runs without a claim" } else { &many.claim };
    let painted = page.verdict(verdict);
    page.wrapped(&format!("{painted}  "), verdict.word().len() + 2, claim);
    page.wrapped("", 0, &format!("{}: {}", many.scenario, words(many)));
    not_passed(&mut page, many);
    spread(&mut page, many);
    without(&mut page, many);
    page.line("");
    let hash = cut(&many.scenario_hash, 16);
    let options = if many.options.is_empty() { "none".into() } else { many.options.join(" ") };
    let text = format!("holm {}, scenario {hash} options: {options}", many.version);
    page.wrapped("", 0, &text);
    if counts.seeds == 0 {
        page.line("no seed was run");
    }
    page.into_text()
}

/// How many ended how.
pub(super) fn words(many: &Many) -> String {
    let counts = many.counts();
    let mut parts =
        vec![format!("{} of {} passed", number(counts.passed), count(counts.seeds, "seed"))];
    for (n, what) in [
        (counts.violated, "violated the claim"),
        (counts.undecided, "undecided"),
        (counts.vacuous, "vacuous"),
    ] {
        if n > 0 {
            parts.push(format!("{} {what}", number(n)));
        }
    }
    parts.join(", ")
}

fn not_passed(page: &mut Page, many: &Many) {
    let not = many.not_passed();
    if not.is_empty() {
        return;
    }
    page.title("Seeds that did not pass");
    for one in not.iter().take(SEEDS_MAX) {
        let painted = page.verdict(one.verdict);
        let fill = " ".repeat(9 - one.verdict.word().len());
        let seed = format!("{:>6}", one.seed);
        let at = one.first.as_ref().map_or(String::new(), |f| format!("{} ", moment(f.at_us)));
        let indent = 2 + seed.chars().count() + 2 + 9 + 2;
        page.wrapped(
            &format!("  {seed}  {painted}{fill}  "),
            indent,
            &format!("{at}{}", one.why()),
        );
    }
    if not.len() > SEEDS_MAX {
        page.line(&format!("  and {} more", number((not.len() - SEEDS_MAX) as u64)));
    }
    if let Some(first) = not.iter().find(|one| !one.again.is_empty()) {
        page.line("");
        // Whole, so that it can be copied.
        page.line(&format!("  again: {}", printable(&first.again)));
    }
}

fn spread(page: &mut Page, many: &Many) {
    let spread = many.spread();
    page.title("Over all seeds");
    let row = |name: &str, of: Option<Percentiles>, show: fn(u64) -> String| {
        let cells =
            of.map_or(["-", "-", "-"].map(str::to_owned), |p| [p.p50, p.p95, p.max].map(show));
        [vec![name.to_owned()], cells.to_vec()].concat()
    };
    let rows = [
        row("healing to agreement", spread.agree_us, duration),
        row("changes not everywhere", spread.missing, number),
        row("conflicts seen", spread.conflicts, number),
        row("leader changes", spread.leader_changes, number),
    ];
    page.table(&["", "P50", "P95", "MAX"], &rows, &[]);
    if spread.not_agreed > 0 {
        let text = format!("in {} they did not agree", count(spread.not_agreed, "seed"));
        let text = page.painted("31", &text);
        page.line(&format!("  {text}"));
    }
    if spread.conflicts_open > 0 {
        let open = count(spread.conflicts_open, "conflict");
        page.line(&format!("  {open} of all seeds still open at the end"));
    }
}

fn without(page: &mut Page, many: &Many) {
    let spread = many.spread();
    if spread.without.is_empty() {
        return;
    }
    page.title("The longest time without an answer");
    let mut rows = Vec::new();
    let mut before = "";
    for one in &spread.without {
        let region = if one.region == before { "" } else { &one.region };
        before = &one.region;
        let answered = percent(one.attempts.answered(), one.attempts.tried);
        let show = |us: u64| if us == 0 { "-".to_owned() } else { duration(us) };
        let p = one.longest_us;
        let worst = if p.max == 0 { String::new() } else { format!("seed {}", one.worst_seed) };
        rows.push(vec![
            cut(&printable(region), 24),
            one.kind.words().to_owned(),
            answered,
            show(p.p50),
            show(p.p95),
            show(p.max),
            worst,
        ]);
    }
    page.table(&["", "", "ANSWERED", "P50", "P95", "MAX", ""], &rows, &[1, 6]);
}

impl Many {
    /// Whether all seeds passed.
    pub fn passed(&self) -> bool {
        self.verdict() == Verdict::Pass
    }
}
