//! One table for each way in which one or two regions break.

use super::text::{clip, count, ms, name};
use crate::cli::table;
use crate::model::RegionName;
use crate::simulation::plan::{AckLevel, Broken, Case, Effect, Kind, Plan, QuorumUse};

/// Most lines of one table.
const ROWS_MAX: usize = 30;
/// Columns for what breaks, and for where secrets work.
const BROKEN_COLUMNS: usize = 32;
const WHERE_COLUMNS: usize = 31;

const TABLES: [(Kind, usize, &str); 6] = [
    (Kind::Lost, 1, "ONE REGION LOST"),
    (Kind::Cut, 1, "ONE REGION CUT OFF"),
    (Kind::Lost, 2, "TWO REGIONS LOST"),
    (Kind::Cut, 2, "TWO REGIONS CUT OFF, EACH ALONE"),
    (Kind::CutTogether, 2, "TWO REGIONS CUT OFF TOGETHER"),
    (Kind::LinkCut, 2, "ONE LINK CUT, EVERYTHING ELSE CONNECTED"),
];

/// The tables that have a line.
pub(super) fn sections(plan: &Plan) -> Vec<(String, Vec<String>)> {
    let table = |(kind, regions, title): (Kind, usize, &str)| {
        let is_of = |case: &&Case| case.broken.kind == kind && case.broken.regions.len() == regions;
        let cases: Vec<&Case> = plan.cases.iter().filter(is_of).collect();
        (title.to_owned(), lines(cases))
    };
    TABLES.into_iter().map(table).filter(|(_, lines)| !lines.is_empty()).collect()
}

fn lines(mut cases: Vec<&Case>) -> Vec<String> {
    if cases.is_empty() {
        return Vec::new();
    }
    let total = cases.len();
    if total > ROWS_MAX {
        // The bad ones are what is looked for.
        cases.sort_by_key(|case| case.effect.has_quorum);
        cases.truncate(ROWS_MAX);
    }
    let title = ["", "CONFIG", "SECRETS", "SLOWEST", "ACK 2", "MAJ.", "ALL"];
    let rows: Vec<_> = cases.iter().map(|case| row(case)).collect();
    let mut lines = table::lines(&title, &rows);
    if total > cases.len() {
        let left_out = total - cases.len();
        lines.push(format!("… and {left_out} more: --output json has all of them."));
    }
    lines
}

fn row(case: &Case) -> Vec<String> {
    let effect = &case.effect;
    let (alive, all) = (effect.alive().count(), effect.regions.len());
    let mut row = vec![
        broken(&case.broken),
        format!("{alive}/{all}"),
        secrets(effect),
        effect.leaders.first().map_or("-".to_owned(), |leader| ms(leader.write_ms_max)),
    ];
    row.extend(AckLevel::ALL.map(|level| {
        let reached = |ack: &&crate::simulation::plan::Acknowledged| {
            ack.level == level && ack.cost.is_reached()
        };
        let from = effect.alive().filter(|region| region.ack.iter().any(|ack| reached(&ack)));
        match from.count() {
            0 => "no".to_owned(),
            regions => format!("{regions}/{all}"),
        }
    }));
    row
}

fn broken(broken: &Broken) -> String {
    let joint = if broken.kind == Kind::LinkCut { " – " } else { ", " };
    let names: Vec<&str> = broken.regions.iter().map(RegionName::as_str).collect();
    let each = (BROKEN_COLUMNS - joint.len()) / names.len().max(1);
    let names: Vec<String> = names.into_iter().map(|name| clip(name, each)).collect();
    names.join(joint)
}

/// Where secrets work, in as few words as fit.
fn secrets(effect: &Effect) -> String {
    let Some(best) = effect.leaders.first() else { return "nowhere".to_owned() };
    let depends = effect.alive().any(|region| region.quorum == QuorumUse::SomeLeaders);
    let leads = if depends { format!(", if {} leads", name(&best.region)) } else { String::new() };
    let without: Vec<String> = effect
        .alive()
        .filter(|region| !best.serves.contains(&region.region))
        .map(|region| name(&region.region))
        .collect();
    let within: Vec<String> = best.serves.iter().map(name).collect();
    let is_lost = effect.alive().count() < effect.regions.len();
    let everywhere = if is_lost { "in all that are left" } else { "everywhere" };
    let of_living = format!("{} of {}", within.len(), count(effect.regions.len(), "region"));
    let ways = [
        without.is_empty().then(|| format!("{everywhere}{leads}")),
        Some(format!("in {}{leads}", within.join(", "))),
        (!without.is_empty()).then(|| format!("not in {}{leads}", without.join(", "))),
    ];
    let is_fit = |way: &String| way.chars().count() <= WHERE_COLUMNS;
    let way = ways.into_iter().flatten().find(is_fit);
    clip(&way.unwrap_or_else(|| format!("in {of_living}{leads}")), WHERE_COLUMNS)
}
