use std::collections::BTreeMap;
use std::path::Path;

use proptest::prelude::*;

use super::*;
use crate::simulation::scenario::{FAULT_KINDS, check_timeline};

const LINK: &str = "{ at = \"35s\", link = { jitter = \"10ms\" } }";

fn text(regions: &[usize], rest: &str) -> String {
    let list: Vec<String> = regions
        .iter()
        .enumerate()
        .map(|(i, nodes)| format!("{{ name = \"r{i}\", nodes = {nodes} }}"))
        .collect();
    format!(
        "claim = \"x\"\nduration = \"60s\"\n{rest}\n\
         [topology]\nrtt_ms_default = 10\nregions = [{}]\n",
        list.join(", ")
    )
}

fn scenario(regions: &[usize], rest: &str) -> Scenario {
    Scenario::parse("x.toml", &text(regions, rest), Path::new("")).unwrap()
}

/// Most nodes that are down at one moment.
fn down_max(faults: &[TimedFault]) -> usize {
    let down_at = |at| {
        let under_way = faults.iter().filter(|fault| {
            let (start, end) = fault.window();
            start <= at && at < end
        });
        under_way.flat_map(|fault| fault.fault.nodes_down()).collect::<BTreeSet<_>>().len()
    };
    faults.iter().map(|fault| down_at(fault.at)).max().unwrap_or(0)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]
    #[test]
    fn what_is_drawn_fits_the_run_and_the_timeline_and_leaves_a_node(
        seed: u64,
        regions in prop::collection::vec(1..3usize, 1..6),
        per_minute in 1..300u32,
        shortest in 1..3_000u64,
        more in 0..9_000u64,
        from in 0..59_000u64,
    ) {
        let link = if regions.len() > 1 { LINK } else { "" };
        let scenario = scenario(&regions, &format!(
            "faults = [{{ at = \"10s\", lasts = \"20s\", crash = \"r0-1\" }},\n\
             {{ at = \"40s\", wipe = \"r0-1\" }}, {link}]\n\
             nemesis = {{ per_minute = {per_minute}, lasts = [\"{shortest}ms\", \"{}ms\"], \
             from = \"{from}ms\" }}",
            shortest + more,
        ));
        let nemesis = scenario.nemesis.as_ref().unwrap();
        let drawn = nemesis.draw(seed, &scenario.faults, &scenario.topology, scenario.duration);
        let all = scenario.faults_of_seed(seed);
        prop_assert_eq!(all.len(), drawn.len() + scenario.faults.len());
        prop_assert!(all.is_sorted_by_key(|fault| fault.at));
        prop_assert_eq!(check_timeline(&all, &scenario.topology, scenario.duration), []);
        let nodes = scenario.topology.nodes().len();
        prop_assert!(down_max(&all) < nodes || down_max(&scenario.faults) == nodes);
        for fault in &drawn {
            prop_assert!(fault.at >= nemesis.from);
            let lasts = fault.lasts.unwrap_or(nemesis.lasts.0);
            prop_assert!(nemesis.lasts.0 <= lasts && lasts <= nemesis.lasts.1, "{:?}", fault);
            prop_assert_eq!(fault.lasts.is_none(), fault.fault.lasting() == Lasting::AtOnce);
            prop_assert!(!fault.fault.describe().is_empty());
            prop_assert!(!matches!(
                fault.fault.kind_name(), "wipe" | "old_copy" | "lying_fsync"
            ));
        }
    }
}

#[test]
fn the_same_seed_draws_the_same_faults_and_another_seed_others() {
    let scenario = scenario(&[1, 1, 1], "nemesis = { per_minute = 30 }");
    let again = scenario.faults_of_seed(7);
    assert_eq!(scenario.faults_of_seed(7), again);
    assert_ne!(scenario.faults_of_seed(8), again);
}

/// A run is named by its seed: what a seed draws may not change unawares.
#[test]
fn what_a_seed_draws_stays_what_it_is() {
    let scenario = scenario(&[1, 1, 1], "nemesis = { per_minute = 5 }");
    let told: Vec<String> = scenario
        .faults_of_seed(7)
        .iter()
        .map(|fault| {
            let lasts = fault.lasts.map_or(0, |lasts| lasts.as_millis());
            format!("{} {lasts} {}", fault.at.as_millis(), fault.fault.describe())
        })
        .collect();
    assert_eq!(
        told,
        [
            "22620 2363 the clock of r0-1 runs 12715 millionths too slow",
            "39267 2314 what r1 sends to r2 is held back and released all at once",
            "46396 4958 the disk of r0-1 fails every write",
        ]
    );
}

#[test]
fn every_kind_is_drawn_and_about_as_often_as_it_is_asked_for() {
    let scenario_all =
        scenario(&[1, 1, 2], "nemesis = { per_minute = 60, lasts = [\"100ms\", \"1s\"] }");
    let mut kinds: BTreeMap<&str, usize> = BTreeMap::new();
    let mut faults = 0;
    for seed in 0..50 {
        for fault in scenario_all.faults_of_seed(seed) {
            *kinds.entry(fault.fault.kind_name()).or_default() += 1;
            faults += 1;
        }
    }
    let missing: Vec<_> = FAULT_KINDS.iter().filter(|kind| !kinds.contains_key(*kind)).collect();
    assert_eq!(
        missing,
        [&"lying_fsync", &"old_copy", &"wipe", &"rotate_ca", &"absent", &"previous"]
    );
    assert!((2_500..3_500).contains(&faults), "60 a minute, 50 times: {faults}");

    let weighted = "nemesis = { per_minute = 60, lasts = [\"10ms\", \"20ms\"], \
        kinds = { crash = 3, revoke = 1 } }";
    let weighted = scenario(&[3], weighted);
    let drawn = (0..50).flat_map(|seed| weighted.faults_of_seed(seed));
    let (crashes, others): (Vec<_>, Vec<_>) =
        drawn.partition(|fault| fault.fault.kind_name() == "crash");
    let part = crashes.len() as f64 / (crashes.len() + others.len()) as f64;
    assert!((0.7..0.8).contains(&part), "{part}");
}

#[test]
fn a_node_alone_is_never_taken_down() {
    let scenario = scenario(&[1], "nemesis = { per_minute = 100 }");
    assert!(scenario.faults_of_seed(1).iter().all(|fault| fault.fault.nodes_down().is_empty()));
}

/// So that a file can hold what was drawn, and nothing is drawn that a file may not have.
#[test]
fn what_is_drawn_can_be_written_down_and_read_back() {
    let drawing = scenario(&[1, 1, 2, 1], "nemesis = { per_minute = 60 }");
    for seed in 0..30 {
        let faults = drawing.faults_of_seed(seed);
        let written: String = faults.iter().map(TimedFault::to_toml).collect();
        let text = format!("{}{written}", text(&[1, 1, 2, 1], ""));
        let read = Scenario::parse("x.toml", &text, Path::new("")).unwrap();
        for (read, fault) in read.faults.iter().zip(&faults) {
            assert_eq!(read, fault);
        }
        assert_eq!(read.faults.len(), faults.len());
    }
}
