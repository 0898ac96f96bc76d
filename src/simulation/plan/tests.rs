use proptest::prelude::*;

use super::situation::set_of;
use super::*;

/// Regions `a`, `b`, …, each with a node; `rtts` are of a-b, a-c, …, b-c, …
fn topology(votes: &[bool], rtts: &[u32]) -> Topology {
    let name = |i| ('a'..='z').nth(i).map_or_else(|| format!("r{i}"), String::from);
    let names: Vec<String> = (0..votes.len()).map(name).collect();
    let mut text = "cluster = \"test\"\n".to_owned();
    for (i, name) in names.iter().enumerate() {
        text += &format!(
            "[[regions]]\nname = \"{name}\"\nvoters = {}\nnodes = [{{ name = \"{name}-1\", peer = \
             \"127.0.0.1:{}\", http = \"127.0.0.1:{}\" }}]\n",
            votes[i],
            1000 + i,
            2000 + i
        );
    }
    let pairs =
        names.iter().enumerate().flat_map(|(i, a)| names[i + 1..].iter().map(move |b| (a, b)));
    for ((a, b), ms) in pairs.zip(rtts) {
        text += &format!("[[links]]\nbetween = [\"{a}\", \"{b}\"]\nrtt_ms = {ms}\n");
    }
    Topology::parse("test", &text).unwrap()
}

/// The round trips of regions on a line.
fn line(at: &[u32]) -> Vec<u32> {
    let pairs =
        at.iter().enumerate().flat_map(|(i, a)| at[i + 1..].iter().map(move |b| a.abs_diff(*b)));
    pairs.collect()
}

fn ms(ms: u64) -> Estimate {
    Estimate(Duration::from_millis(ms))
}

fn strings(names: &[RegionName]) -> Vec<&str> {
    names.iter().map(RegionName::as_str).collect()
}

fn case<'a>(plan: &'a Plan, kind: Kind, regions: &[&str]) -> &'a Effect {
    let is_it = |case: &&Case| case.broken.kind == kind && strings(&case.broken.regions) == regions;
    &plan.cases.iter().find(is_it).unwrap().effect
}

/// `quorum`, read and write of each region.
fn quorum(effect: &Effect) -> Vec<(QuorumUse, Option<u64>, Option<u64>)> {
    let whole = |time: Estimate| u64::try_from(time.0.as_millis()).unwrap();
    let region = |region: &RegionEffect| {
        (region.quorum, region.read_ms.map(whole), region.write_ms.map(whole))
    };
    effect.regions.iter().map(region).collect()
}

fn acks(effect: &Effect, region: usize) -> Vec<AckCost> {
    effect.regions[region].ack.iter().map(|ack| ack.cost).collect()
}

use QuorumUse::{Always, Never, SomeLeaders};

fn three() -> Plan {
    Plan::of(&topology(&[true; 3], &[76, 122, 198]))
}

#[test]
fn with_three_regions_and_nothing_broken() {
    let plan = three();
    assert_eq!((plan.voters.len(), plan.majority), (3, 2));
    let leaders = plan.whole.leaders.iter().map(|leader| {
        (leader.region.as_str(), leader.read_ms_here, leader.write_ms_max, leader.slowest.as_str())
    });
    let leaders = leaders.collect::<Vec<_>>();
    assert_eq!(
        leaders,
        [
            ("a", ms(76), ms(76 + 2 + 122), "c"),
            ("b", ms(76), ms(76 + 2 + 198), "c"),
            ("c", ms(122), ms(122 + 2 + 198), "b"),
        ]
    );
    assert_eq!(plan.whole.leaders[0].write_ms_mean, ms(78 + (76 + 122) / 3));
    let all = [(76, 78), (152, 154), (198, 200)];
    assert_eq!(quorum(&plan.whole), all.map(|(r, w)| (Always, Some(r), Some(w))));
    let yes = |time| AckCost::Yes { ms: ms(time) };
    assert_eq!(acks(&plan.whole, 0), [yes(80), yes(80), yes(126)]);
    assert_eq!(acks(&plan.whole, 1), [yes(80), yes(80), yes(202)]);
    assert_eq!(acks(&plan.whole, 2), [yes(126), yes(126), yes(202)]);
    assert_eq!(plan.placements.better, None);
    assert_eq!(plan.witness, None);
    // 3 lost, 3 cut; 3 pairs lost, 3 cut, 3 without their link; no two together, which is one cut.
    assert_eq!(plan.cases.len(), 15);
}

#[test]
fn a_region_that_is_lost_is_borne_by_the_other_two() {
    let plan = three();
    let effect = case(&plan, Kind::Lost, &["a"]);
    let left =
        [(Never, None, None), (Always, Some(198), Some(200)), (Always, Some(396), Some(398))];
    assert_eq!(quorum(effect), left);
    assert!(!effect.regions[0].alive && effect.regions[0].ack.is_empty());
    let yes = |time| AckCost::Yes { ms: ms(time) };
    assert_eq!(acks(effect, 1), [yes(202), yes(202), AckCost::No]);
    assert_eq!(effect.groups.len(), 1);
}

#[test]
fn an_island_goes_on_with_configuration_alone() {
    let plan = three();
    let effect = case(&plan, Kind::Cut, &["c"]);
    let left = [(Always, Some(76), Some(78)), (Always, Some(152), Some(154)), (Never, None, None)];
    assert_eq!(quorum(effect), left);
    assert_eq!(effect.regions[2].config_write_ms, Some(ms(2)));
    assert_eq!(acks(effect, 2), [AckCost::No; 3]);
    assert_eq!(
        effect.groups.iter().map(|group| strings(group)).collect::<Vec<_>>(),
        [vec!["a", "b"], vec!["c"]]
    );
    let alone = case(&plan, Kind::Cut, &["a", "b"]);
    assert!(!alone.has_quorum && alone.groups.len() == 3);
    let lost = case(&plan, Kind::Lost, &["a", "b"]);
    assert!(!lost.has_quorum && lost.alive().count() == 1);
}

#[test]
fn without_one_link_it_depends_on_who_leads() {
    let plan = three();
    let effect = case(&plan, Kind::LinkCut, &["b", "c"]);
    assert_eq!(effect.leaders[0].region.as_str(), "a");
    assert_eq!(strings(&effect.leaders[0].serves), ["a", "b", "c"]);
    assert_eq!(strings(&effect.leaders[1].serves), ["a", "b"]);
    assert_eq!(
        quorum(effect).iter().map(|region| region.0).collect::<Vec<_>>(),
        [Always, SomeLeaders, SomeLeaders]
    );
    // b's write comes to c by way of a.
    let yes = |time| AckCost::Yes { ms: ms(time) };
    let by_way = AckCost::Relayed { ms: ms(76 + 122 + 4) };
    assert_eq!(acks(effect, 1), [yes(80), yes(80), by_way]);
    assert_eq!(effect.groups.len(), 1);
}

#[test]
fn two_voters_need_each_other_and_a_witness_helps() {
    let plan = Plan::of(&topology(&[true; 2], &[80]));
    assert_eq!((plan.voters.len(), plan.majority), (2, 2));
    for kind in [Kind::Lost, Kind::Cut] {
        assert!(!case(&plan, kind, &["a"]).has_quorum && !case(&plan, kind, &["b"]).has_quorum);
    }
    let witness = plan.witness.unwrap();
    assert_eq!((strings(&witness.of), witness.rtt_ms_max), (vec!["a", "b"], ms(80)));
    assert!(witness.candidates.is_empty());
    // One voter would be faster, but holds everything on one disk.
    assert_eq!(plan.placements.better, None);
    assert!(!plan.placements.today.survives_any_region);

    let plan = Plan::of(&topology(&[true, true, false, false], &line(&[0, 80, 30, 200])));
    let witness = plan.witness.unwrap();
    assert_eq!(strings(&witness.candidates), ["c", "d"]);
    let better = plan.placements.better().unwrap();
    assert_eq!(strings(&better.voters), ["a", "b", "c"]);
    assert!(better.survives_any_region && !better.survives_any_pair);
}

#[test]
fn one_region_has_all_or_nothing() {
    let plan = Plan::of(&topology(&[true], &[]));
    assert_eq!(quorum(&plan.whole), [(Always, Some(0), Some(2))]);
    let local = AckCost::Yes { ms: ms(2) };
    assert_eq!(acks(&plan.whole, 0), [AckCost::Refused, local, local]);
    let lost = case(&plan, Kind::Lost, &["a"]);
    assert!(!lost.has_quorum && lost.alive().count() == 0 && lost.groups.is_empty());
    assert_eq!(plan.placements.better, None);
    assert!(!plan.placements.today.survives_any_region);
}

#[test]
fn who_votes_is_what_the_nodes_would_say() {
    let plan = Plan::of(&topology(&[true, true, false, true, true], &[10; 10]));
    let voters: Vec<&str> = plan.voters.iter().map(|voter| voter.node.as_str()).collect();
    assert_eq!(voters, ["a-1", "b-1", "d-1"]);
    let better = plan.placements.better().unwrap();
    assert_eq!(better.voters.len(), 5);
    assert!(better.survives_any_pair);
}

#[test]
fn three_near_the_middle_are_better_than_three_at_the_ends() {
    // a, b and d vote of a line of four; c would be nearer to everybody.
    let here = topology(&[true, true, false, true], &line(&[0, 40, 60, 300]));
    let plan = Plan::of(&here);
    assert_eq!(strings(&plan.placements.today.voters), ["a", "b", "d"]);
    assert_eq!(plan.placements.today.write_ms_max, ms(40 + 2 + 260));
    let better = plan.placements.better().unwrap();
    // c leads: b answers after 20, and d is 240 away.
    assert_eq!((better.leader.as_str(), better.write_ms_max), ("c", ms(20 + 2 + 240)));
    assert_eq!(better.search, Search::Every { choices: 4 });
    // What is proposed is what the nodes would do with it.
    let wanted = better.voters.iter().cloned().collect();
    let moved = Plan::of(&here.with_voting(&wanted));
    assert_eq!(moved.placements.today, Placement { search: Search::Given, ..better.clone() });
    assert_eq!(moved.placements.better, None);
}

#[test]
fn with_too_many_choices_the_search_is_limited_and_says_so() {
    // Regions in two dimensions, spread by a fixed rule.
    let at: Vec<(i64, i64)> = (0..40).map(|i| (i * 37 % 101, i * 53 % 97)).collect();
    let pairs = at.iter().enumerate().flat_map(|(i, a)| {
        at[i + 1..].iter().map(move |b| u32::try_from((a.0 - b.0).abs() + (a.1 - b.1).abs()))
    });
    let rtts: Vec<u32> = pairs.map(Result::unwrap).collect();
    let plan = Placements::of(&Ground::new(&topology(&[true; 40], &rtts), DISK));
    assert_eq!(plan.best[1].search, Search::Every { choices: 9_880 });
    let Search::Limited { choices } = plan.best[2].search else { panic!("{:?}", plan.best[2]) };
    assert!(choices < 50_000, "{choices}");
    // It is at least as good as what it began with, and as today's.
    assert!(plan.best[2].write_ms_max <= plan.today.write_ms_max);
}

#[test]
fn a_plan_says_the_same_in_json() {
    let json = serde_json::to_value(three()).unwrap();
    assert_eq!(json["voters"][0], serde_json::json!({"region": "a", "node": "a-1"}));
    assert_eq!(json["whole"]["regions"][2]["write_ms"], 200.0);
    let cut = &json["cases"][3];
    assert_eq!(cut["broken"], serde_json::json!({"kind": "cut", "regions": ["a"]}));
    assert_eq!(cut["effect"]["regions"][0]["quorum"], "never");
    let ack = &cut["effect"]["regions"][0]["ack"][0];
    assert_eq!(*ack, serde_json::json!({"level": "2", "regions": 2, "reached": "no"}));
    let ack = &json["whole"]["regions"][0]["ack"][2];
    let all = serde_json::json!({"level": "all", "regions": 3, "reached": "yes", "ms": 126.0});
    assert_eq!(*ack, all);
    assert_eq!(json["placements"]["today"]["search"]["kind"], "given");
}

/// A topology of 1 to 6 regions, some of them voting.
fn any_topology() -> impl Strategy<Value = Topology> {
    (1_usize..=6).prop_flat_map(|regions| {
        let votes = prop::collection::vec(any::<bool>(), regions);
        let rtts = prop::collection::vec(1_u32..300, regions * (regions - 1) / 2);
        (votes, rtts).prop_map(|(mut votes, rtts)| {
            votes[0] |= !votes.contains(&true);
            topology(&votes, &rtts)
        })
    })
}

fn any_break() -> impl Strategy<Value = (Kind, Vec<usize>)> {
    let kinds = [Kind::Lost, Kind::Cut, Kind::CutTogether, Kind::LinkCut];
    let regions = prop::collection::btree_set(0_usize..6, 1..=2);
    (prop::sample::select(kinds.to_vec()), regions.prop_map(|set| set.into_iter().collect()))
}

/// The situation after these, as far as they name regions of this ground.
fn broken(ground: &Ground, breaks: &[(Kind, Vec<usize>)]) -> Situation {
    let known = |regions: &Vec<usize>| regions.iter().all(|region| *region < ground.len());
    breaks
        .iter()
        .filter(|(_, regions)| known(regions))
        .fold(Situation::whole(ground.len()), |situation, (kind, regions)| {
            situation.and(*kind, regions)
        })
}

/// How much works: regions alive, with config; with a quorum always or sometimes; levels reached.
fn working(effect: &Effect, region: usize) -> (bool, bool, Vec<bool>) {
    let region = &effect.regions[region];
    let acks = region.ack.iter().map(|ack| ack.cost.is_reached()).collect();
    (region.alive, region.quorum != Never, acks)
}

proptest! {
    #[test]
    fn there_is_a_quorum_exactly_where_a_majority_of_voters_reach_one_of_them(
        topology in any_topology(),
        breaks in prop::collection::vec(any_break(), 0..4),
    ) {
        let ground = Ground::new(&topology, DISK);
        let situation = broken(&ground, &breaks);
        let effect = Effect::of(&ground, &situation);
        let voting = set_of(&ground.voting());
        let has_majority = |at: &usize| {
            let together = situation.reached_from(*at) & voting;
            2 * together.count_ones() > voting.count_ones()
        };
        let leading: Vec<usize> =
            ground.voting().into_iter().filter(has_majority).collect();
        prop_assert_eq!(effect.has_quorum, !leading.is_empty());
        prop_assert_eq!(effect.leaders.len(), leading.len());
        for (i, region) in effect.regions.iter().enumerate() {
            let is_served = leading.iter().any(|at| situation.reaches(i, *at));
            prop_assert_eq!(region.quorum != Never, is_served);
            prop_assert_eq!(region.config_write_ms.is_some(), situation.is_alive(i));
            prop_assert!(region.write_ms.is_none() || region.quorum != Never);
        }
    }

    #[test]
    fn breaking_more_never_makes_more_work(
        topology in any_topology(),
        breaks in prop::collection::vec(any_break(), 1..4),
    ) {
        let ground = Ground::new(&topology, DISK);
        let less = Effect::of(&ground, &broken(&ground, &breaks[1..]));
        let more = Effect::of(&ground, &broken(&ground, &breaks));
        prop_assert!(less.has_quorum || !more.has_quorum);
        for region in 0..ground.len() {
            let (less, more) = (working(&less, region), working(&more, region));
            prop_assert!(less.0 || !more.0);
            prop_assert!(less.1 || !more.1);
            prop_assert!(more.2.iter().zip(&less.2).all(|(more, less)| *less || !more));
        }
    }

    #[test]
    fn islands_have_at_most_one_quorum_and_everybody_on_it_has_its_use(
        topology in any_topology(),
        breaks in prop::collection::vec(any_break(), 0..4),
    ) {
        let ground = Ground::new(&topology, DISK);
        let islands: Vec<_> =
            breaks.into_iter().filter(|(kind, _)| *kind != Kind::LinkCut).collect();
        let effect = Effect::of(&ground, &broken(&ground, &islands));
        let with_quorum: Vec<_> = effect
            .groups
            .iter()
            .filter(|group| effect.leaders.iter().any(|leader| group.contains(&leader.region)))
            .collect();
        prop_assert!(with_quorum.len() <= 1);
        for region in &effect.regions {
            let is_on_it = with_quorum.iter().any(|group| group.contains(&region.region));
            prop_assert_eq!(region.quorum, if is_on_it { Always } else { Never });
        }
    }

    #[test]
    fn no_choice_of_that_size_is_better_than_the_one_found(topology in any_topology()) {
        let ground = Ground::new(&topology, DISK);
        let found = Placements::of(&ground);
        for mask in 1_u64..1 << ground.len() {
            let voting: Vec<usize> = (0..ground.len()).filter(|i| mask >> i & 1 == 1).collect();
            let other = Placement::of(&ground, &voting, Search::Given).unwrap();
            let same = found.best.iter().find(|best| best.voters.len() == voting.len());
            if let Some(best) = same {
                prop_assert!((best.write_ms_max, best.write_ms_mean)
                    <= (other.write_ms_max, other.write_ms_mean));
                prop_assert_eq!(best.survives_any_region, other.survives_any_region);
                prop_assert_eq!(best.survives_any_pair, other.survives_any_pair);
            }
        }
        let voters = found.today.voters.len();
        prop_assert!(found.better().is_none_or(|better| better.voters.len() >= voters));
    }

    #[test]
    fn a_higher_level_costs_no_less_and_a_write_no_less_than_a_read(topology in any_topology()) {
        let plan = Plan::of(&topology);
        for region in &plan.whole.regions {
            let cost = |level: usize| match region.ack[level].cost {
                AckCost::Yes { ms } => Some(ms),
                _ => None,
            };
            prop_assert!(cost(1) <= cost(2) && cost(2).is_some());
            prop_assert!(plan.regions.len() < 2 || cost(0) <= cost(1));
            prop_assert!(region.write_ms >= region.read_ms);
        }
    }
}
