//! Queues are bounded, and empty once there is nothing to wait for.

use super::{Check, History, Judge};

pub(crate) const CHECK: Check = Check {
    name: "bounds",
    claim: "What waits to be sent never passes its limit, and nothing waits any more at the end.",
    run,
};

/// `gossip.queue_bytes_max`, for one peer, where the settings do not say otherwise.
const QUEUE_BYTES_MAX: u64 = 8 * 1024 * 1024;

/// How many records can wait in `gossip.waiting_bytes_max` (16 MiB), were none longer than its dot and
/// its hash.
const WAITING_MAX: u64 = 16 * 1024 * 1024 / 64;

fn run(history: &History<'_>, judge: &mut Judge) {
    let peers = history.run.nodes.len().saturating_sub(1) as u64;
    let queues_max = QUEUE_BYTES_MAX * peers.max(1);
    for (node, probes) in &history.probes {
        let mut worst: Option<(u64, String)> = None;
        for (at_us, probe) in probes {
            judge.examine();
            let what = if probe.queue_bytes > queues_max {
                format!(
                    "{} bytes wait to be pushed, and at most {queues_max} may",
                    probe.queue_bytes
                )
            } else if probe.waiting > WAITING_MAX {
                format!("{} records wait for others, and at most {WAITING_MAX} fit", probe.waiting)
            } else {
                continue;
            };
            worst.get_or_insert((*at_us, what));
        }
        if let Some((at_us, what)) = worst {
            judge.violation(at_us, &[], &[node], format!("on {node} {what}"));
        }
    }
    if let Some(end) = history.end.filter(|end| end.queue_bytes_max > queues_max) {
        let most = end.queue_bytes_max;
        let what = format!("a node's queues held {most} bytes, and at most {queues_max} may");
        judge.violation(history.end_us, &[], &[], what);
    }
    settled(history, judge);
    held(history, judge);
}

/// What the scenario bounds never comes to more. A number that nobody counted is no pass.
fn held(history: &History<'_>, judge: &mut Judge) {
    let mut highest = Vec::new();
    for (name, most) in &history.run.bounds {
        let counted = history
            .tallies
            .iter()
            .filter_map(|(at_us, tally)| Some((*at_us, &*tally.node, *tally.counts.get(name)?)));
        let counted: Vec<_> =
            counted.filter(|(at_us, ..)| *at_us >= history.run.bounds_from_us).collect();
        let Some((at_us, node, worst)) = counted.iter().copied().max_by_key(|(.., count)| *count)
        else {
            judge.undecided(format!("nobody counted {name}"));
            continue;
        };
        counted.iter().for_each(|_| judge.examine());
        if worst > *most {
            let over = counted.iter().filter(|(.., count)| count > most).count();
            let what = format!(
                "{node} had {worst} {name}, and {most} at most was demanded; {over} of {} counts \
                 are above",
                counted.len()
            );
            judge.violation(at_us, &[], &[node], what);
        }
        highest.push(format!("{name} {worst}"));
    }
    if !highest.is_empty() {
        judge.note(format!("at most {}", highest.join(", ")));
    }
}

/// At the end every change has what it builds on. Where changes were lost with a disk, others may
/// wait for them for ever.
fn settled(history: &History<'_>, judge: &mut Judge) {
    let nodes = || history.run.nodes.iter().map(|it| &*it.node);
    let may_wait = !history.run.void_nodes.is_empty()
        || !history.run.lost_regions.is_empty()
        || nodes().any(|node| history.disk_lost_after(node, 0).is_some());
    let settled_us = history.run.faults_end_us.saturating_add(history.run.converge_within_us);
    for node in nodes().filter(|_| !may_wait) {
        let Some((at_us, last)) = history.probes.get(node).and_then(|it| it.last()) else {
            continue;
        };
        if *at_us >= settled_us && last.up && last.waiting > 0 {
            let what =
                format!("on {node} {} records still wait for others at the end", last.waiting);
            judge.violation(*at_us, &[], &[node], what);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{Build, S, down, probe};
    use super::*;
    use crate::settings::GossipSettings;
    use crate::simulation::checks::Judgement;
    use crate::simulation::history::{End, Event, Probe, Tally};

    #[test]
    fn the_limits_are_those_of_the_settings() {
        let settings = GossipSettings::default();
        assert_eq!(QUEUE_BYTES_MAX, settings.queue_bytes_max as u64);
        assert_eq!(WAITING_MAX * 64, settings.waiting_bytes_max as u64);
    }

    fn tally(it: &mut Build, at_us: u64, name: &str, count: u64) {
        let counts = [(name.to_owned(), count)].into();
        it.push(at_us, Event::Tally(Tally { node: "a-1".into(), counts }));
    }

    #[test]
    fn what_a_scenario_bounds_is_held_to_that_from_its_time_on() {
        let mut it = good();
        it.run.bounds = [("log_records".to_owned(), 5)].into();
        it.run.bounds_from_us = 10 * S;
        let judgement = it.judge(CHECK);
        assert!(matches!(judgement, Judgement::Undecided { .. }), "nobody counted: {judgement:?}");
        tally(&mut it, 5 * S, "log_records", 9);
        let judgement = it.judge(CHECK);
        assert!(matches!(judgement, Judgement::Undecided { .. }), "only before: {judgement:?}");
        tally(&mut it, 20 * S, "log_records", 5);
        tally(&mut it, 20 * S, "history_rows", 50);
        it.passes(CHECK);
        tally(&mut it, 30 * S, "log_records", 6);
        it.violates(CHECK, "a-1 had 6 log_records, and 5 at most was demanded; 1 of 2");
    }

    fn good() -> Build {
        let mut it = Build::default();
        it.probe(
            S,
            Probe { queue_bytes: 2 * QUEUE_BYTES_MAX, waiting: 9, ..probe("a-1", &[], "") },
        );
        it.probe(80 * S, probe("a-1", &[], ""));
        it
    }

    #[test]
    fn queues_within_their_limits_pass() {
        good().passes(CHECK);
    }

    #[test]
    fn a_queue_without_a_limit_is_found() {
        let mut it = good();
        let too_much = 2 * QUEUE_BYTES_MAX + 1;
        it.probe(2 * S, Probe { queue_bytes: too_much, ..probe("a-1", &[], "") });
        it.violates(CHECK, "on a-1 16777217 bytes wait to be pushed");
        let mut it = good();
        it.probe(2 * S, Probe { waiting: WAITING_MAX + 1, ..probe("a-1", &[], "") });
        it.violates(CHECK, "records wait for others");
        let mut it = good();
        it.push(90 * S, Event::End(End { queue_bytes_max: too_much, ..End::default() }));
        it.violates(CHECK, "a node's queues held 16777217 bytes");
    }

    #[test]
    fn what_waits_for_ever_is_found() {
        let mut it = good();
        it.probe(85 * S, Probe { waiting: 1, ..probe("a-1", &[], "") });
        it.violates(CHECK, "on a-1 1 records still wait");
        it.fault(5 * S, Some(6 * S), down(1, "wipe", "b-1"));
        it.passes(CHECK);
    }
}
