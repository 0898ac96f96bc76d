//! What matters most, in sentences.

use super::text::{list, ms, name};
use crate::model::RegionName;
use crate::simulation::plan::{Broken, Case, Kind, Placement, Plan, Witness};

/// Most regions or pairs that a sentence names.
const NAMED_MAX: usize = 4;

pub(super) fn lines(plan: &Plan) -> Vec<String> {
    let mut lines = vec![
        "Configuration: every region that is alive reads and writes it, whatever else breaks."
            .to_owned(),
    ];
    if plan.regions.len() == 1 {
        lines.push(
            "There is one region. While it is down nothing works, and if it is lost for good, so \
             is everything in it. Three regions with a voter each bear the loss of any one."
                .to_owned(),
        );
        return lines;
    }
    lines.push(lost(plan, 1, "any one region is lost or cut off"));
    if plan.regions.len() > 2 {
        lines.push(lost(plan, 2, "any two regions are lost"));
    }
    lines.push(match &plan.voters[..] {
        [only] => format!(
            "Only {} votes: a region that does not reach it has no secrets.",
            name(&only.region)
        ),
        _ => "A region that is cut off has no secrets until it is back; its configuration goes on."
            .to_owned(),
    });
    lines.extend(leader_matters(plan));
    lines.extend(plan.witness.as_ref().map(witness));
    lines.extend(plan.placements.better().map(|better| other(plan, better)));
    if plan.placements.better.is_none() && plan.witness.is_none() {
        lines.push("No other choice of voters in these regions is better.".to_owned());
    }
    lines
}

/// Which losses of that many regions stop secrets for everybody.
fn lost(plan: &Plan, regions: usize, what: &str) -> String {
    let of_size =
        |case: &&Case| case.broken.kind == Kind::Lost && case.broken.regions.len() == regions;
    let cases: Vec<&Case> = plan.cases.iter().filter(of_size).collect();
    let fatal: Vec<&Broken> =
        cases.iter().filter(|case| !case.effect.has_quorum).map(|case| &case.broken).collect();
    if fatal.is_empty() {
        return format!("Secrets, accounts, roles: go on in all other regions if {what}.");
    }
    if fatal.len() == cases.len() {
        return format!("Secrets, accounts, roles: stop everywhere if {what}.");
    }
    let pair = |broken: &&Broken| {
        let names: Vec<String> = broken.regions.iter().map(name).collect();
        names.join(" with ")
    };
    let named: Vec<String> = fatal.iter().take(NAMED_MAX).map(pair).collect();
    let more = fatal.len() - named.len();
    let named = if more > 0 {
        format!("{} or one of {more} more such losses", named.join(", "))
    } else {
        named.join(", or ")
    };
    format!(
        "Secrets, accounts, roles: stop everywhere if {named} is lost; they bear {} of the {} \
         losses of {}.",
        cases.len() - fatal.len(),
        cases.len(),
        if regions == 1 { "one region" } else { "two regions" }
    )
}

/// Links without which it depends on the leader who is served.
fn leader_matters(plan: &Plan) -> Option<String> {
    let is_such = |case: &&Case| {
        let of_leaders = case.effect.leaders.iter();
        let served: Vec<usize> = of_leaders.map(|leader| leader.serves.len()).collect();
        case.broken.kind == Kind::LinkCut && served.iter().min() != served.iter().max()
    };
    let count = plan.cases.iter().filter(is_such).count();
    (count > 0).then(|| {
        "Where one link alone is cut it depends on who leads which regions have secrets: see below, \
         and hand the lead over (POST /cluster/quorum/transfer/NODE)."
            .to_owned()
    })
}

fn witness(witness: &Witness) -> String {
    let [a, b] = witness.of.each_ref().map(name);
    let candidates: Vec<String> = witness.candidates.iter().take(NAMED_MAX).map(name).collect();
    let place = match candidates.is_empty() {
        true => "in a third region".to_owned(),
        false => format!("in one more region ({})", candidates.join(", ")),
    };
    format!(
        "Only {a} and {b} vote. Two have no majority without each other: if either is lost or cut \
         off, secrets stop everywhere. Add a voter {place}; a small node is enough, and nobody has \
         to use it. Up to {} from the leader it makes no write slower.",
        ms(witness.rtt_ms_max)
    )
}

fn other(plan: &Plan, better: &Placement) -> String {
    let today = &plan.placements.today;
    let names = |regions: &[RegionName]| regions.iter().map(name).collect::<Vec<_>>();
    let bears = |placement: &Placement| match (
        placement.survives_any_pair,
        placement.survives_any_region,
    ) {
        (true, _) => "any two regions",
        (_, true) => "any one region",
        _ => "no region",
    };
    let gain = if bears(today) == bears(better) {
        format!(
            "the slowest write takes {} instead of {}, the mean {} instead of {}",
            ms(better.write_ms_max),
            ms(today.write_ms_max),
            ms(better.write_ms_mean),
            ms(today.write_ms_mean)
        )
    } else {
        format!(
            "it bears the loss of {} instead of {}; the slowest write takes {} instead of {}",
            bears(better),
            bears(today),
            ms(better.write_ms_max),
            ms(today.write_ms_max)
        )
    };
    let missing = |of: &[RegionName], from: &[RegionName]| {
        of.iter().filter(|region| !from.contains(region)).map(name).collect::<Vec<_>>()
    };
    let (add, remove) =
        (missing(&better.voters, &today.voters), missing(&today.voters, &better.voters));
    let mut how = Vec::new();
    if !add.is_empty() {
        how.push(format!("add the first node of {} (POST /cluster/quorum/add/NODE)", list(&add)));
    }
    if !remove.is_empty() {
        how.push(format!("remove that of {} (…/remove/NODE)", list(&remove)));
    }
    format!(
        "Better voters: {}: {gain}. In a running cluster, {}. In a new one, `voters = false` for \
         every other region.",
        list(&names(&better.voters)),
        how.join(", then ")
    )
}
