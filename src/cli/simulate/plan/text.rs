//! The whole plan as lines of at most 100 columns.

use super::{breaks, short};
use crate::cli::table;
use crate::model::RegionName;
use crate::simulation::plan::{AckCost, Acknowledged, Estimate, Placement, Plan, Search};

/// Longest name that is shown in full.
const NAME_LEN_MAX: usize = 20;

/// At most so many columns, with a sign where something is left out.
pub(super) fn clip(text: &str, columns: usize) -> String {
    if text.chars().count() <= columns {
        return text.to_owned();
    }
    let kept: String = text.chars().take(columns.saturating_sub(1)).collect();
    kept + "…"
}

pub(super) fn name(region: &RegionName) -> String {
    clip(region.as_str(), NAME_LEN_MAX)
}

/// `a, b and c`.
pub(super) fn list(names: &[String]) -> String {
    match names {
        [] => "none".to_owned(),
        [one] => one.clone(),
        [first @ .., last] => format!("{} and {last}", first.join(", ")),
    }
}

pub(super) fn ms(time: Estimate) -> String {
    // A column has seven places.
    match time.ms() {
        long if long >= 9999.5 => format!("{:.1} s", long / 1e3),
        ms => format!("{ms:.0} ms"),
    }
}

/// Sentences in lines of at most 100 columns; what goes on is indented.
pub(super) fn wrap(text: &str) -> Vec<String> {
    let mut lines = vec![String::new()];
    for word in text.split(' ') {
        let line = lines.last().map_or(0, |line| line.chars().count());
        if line > 0 && line + 1 + word.chars().count() > 100 {
            lines.push("  ".to_owned());
        }
        if let Some(line) = lines.last_mut() {
            if !line.trim().is_empty() {
                line.push(' ');
            }
            line.push_str(word);
        }
    }
    lines
}

/// Everything.
pub(super) fn lines(plan: &Plan) -> Vec<String> {
    let nodes: usize = plan.regions.iter().map(|region| region.nodes).sum();
    let voters: Vec<String> =
        plan.voters.iter().map(|voter| clip(voter.node.as_str(), NAME_LEN_MAX)).collect();
    let mut out = wrap(&format!(
        "{}: {}, {}. {} of {} voters have to agree: {}.",
        plan.cluster,
        count(plan.regions.len(), "region"),
        count(nodes, "node"),
        plan.majority,
        plan.voters.len(),
        list(&voters)
    ));
    let mut section = |title: &str, lines: Vec<String>| {
        if !lines.is_empty() {
            out.push(String::new());
            out.push(title.to_owned());
            out.extend(lines);
        }
    };
    section("IN SHORT", short::lines(plan).iter().flat_map(|line| wrap(line)).collect());
    section("NOTHING BROKEN, AND THE BEST NODE LEADS", regions(plan));
    section("BY WHO LEADS", leaders(plan));
    for (title, lines) in breaks::sections(plan) {
        section(&title, lines);
    }
    section("OTHER VOTERS", placements(plan));
    section("WHAT THE WORDS MEAN", words(plan).iter().flat_map(|line| wrap(line)).collect());
    out
}

pub(super) fn count(n: usize, one: &str) -> String {
    crate::cli::terminal::count(n, one)
}

fn regions(plan: &Plan) -> Vec<String> {
    let title = ["REGION", "VOTES", "READ", "WRITE", "CONFIG", "ACK 2", "MAJORITY", "ALL"];
    let row = |(i, effect): (usize, &crate::simulation::plan::RegionEffect)| {
        let voter = plan.regions.get(i).and_then(|region| region.voter.as_ref());
        let ack = |ack: &Acknowledged| match ack.cost {
            AckCost::Yes { ms: time } => ms(time),
            AckCost::Relayed { ms: time } => format!("≥{}", ms(time)),
            AckCost::No => "no".to_owned(),
            AckCost::Refused => "refused".to_owned(),
        };
        let time = |time: Option<Estimate>| time.map_or("no".to_owned(), ms);
        let mut row = vec![
            name(&effect.region),
            voter.map_or("no".to_owned(), |node| clip(node.as_str(), NAME_LEN_MAX)),
            time(effect.read_ms),
            time(effect.write_ms),
            time(effect.config_write_ms),
        ];
        row.extend(effect.ack.iter().map(ack));
        row
    };
    let rows: Vec<_> = plan.whole.regions.iter().enumerate().map(row).collect();
    table::lines(&title, &rows)
}

fn leaders(plan: &Plan) -> Vec<String> {
    if plan.whole.leaders.len() < 2 {
        return Vec::new();
    }
    let title = ["LEADER", "READ THERE", "WRITE THERE", "MEAN WRITE", "SLOWEST WRITE"];
    let row = |leader: &crate::simulation::plan::LeaderEffect| {
        vec![
            name(&leader.region),
            ms(leader.read_ms_here),
            ms(leader.write_ms_here),
            ms(leader.write_ms_mean),
            format!("{}, in {}", ms(leader.write_ms_max), name(&leader.slowest)),
        ]
    };
    let rows: Vec<_> = plan.whole.leaders.iter().map(row).collect();
    table::lines(&title, &rows)
}

fn placements(plan: &Plan) -> Vec<String> {
    let title = ["", "BEARS", "SLOWEST", "MEAN", "BEST LEADER", "VOTERS"];
    let row = |label: String, placement: &Placement| {
        let names: Vec<String> = placement.voters.iter().map(name).collect();
        vec![
            label,
            match (placement.survives_any_region, placement.survives_any_pair) {
                (_, true) => "2 lost",
                (true, false) => "1 lost",
                (false, false) => "nothing",
            }
            .to_owned(),
            ms(placement.write_ms_max),
            ms(placement.write_ms_mean),
            name(&placement.leader),
            names.join(", "),
        ]
    };
    let all = &plan.placements;
    let mut rows = vec![row("today".to_owned(), &all.today)];
    rows.extend(all.best.iter().map(|best| row(format!("best {}", best.voters.len()), best)));
    let mut lines: Vec<String> =
        table::lines(&title, &rows).iter().map(|line| clip(line, 100)).collect();
    let limited = |best: &&Placement| matches!(best.search, Search::Limited { .. });
    for best in all.best.iter().filter(limited) {
        let Search::Limited { choices } = best.search else { continue };
        lines.extend(wrap(&format!(
            "There are too many choices of {} to look at each: a good one was bettered until no \
             single change helped ({choices} were looked at). A better one may exist.",
            best.voters.len()
        )));
    }
    lines
}

fn words(plan: &Plan) -> Vec<String> {
    let [least, most] = plan.election_ms;
    let mut words = vec![
        "Times are estimates: round trips of the topology, and one disk write taken as ".to_owned()
            + &ms(plan.disk_ms)
            + ". Load and lost packets come on top.",
        "READ, WRITE: a secret, an account or a role, linearizable. Showing a secret's value takes \
         one disk write more, for its audit record."
            .to_owned(),
        "SLOWEST: the write of a secret in the slowest region, with the best leader.".to_owned(),
        "CONFIG: a configuration's write, or how many regions read and write configurations. A read \
         takes no round trip."
            .to_owned(),
        "ACK: a configuration's write with Holm-Ack. Where that many regions are not reached, the \
         answer is 202 with who has it, after the timeout; nothing is undone."
            .to_owned(),
        "Without a majority: 503 QuorumUnavailable, and nothing was done. A read with \
         consistency=local shows the region's copy and its age."
            .to_owned(),
    ];
    if plan.voters.len() > 1 {
        words.push(format!(
            "Where the leader is lost, reads and writes wait some {:.1} to {:.1} s for the next \
             one, longer where an election fails (default settings).",
            least.ms() / 1e3,
            most.ms() / 1e3
        ));
    }
    words
}
