//! What the scenario says has to have happened did happen; a run in which it did not shows nothing.

use std::collections::{BTreeMap, BTreeSet};

use super::entries::{key_read, shown, wrote};
use super::index::Asked;
use super::{Check, History, Judge};
use crate::simulation::history::{AtUs, Coverage, Outcome, Probe, Request, Twin};
use crate::simulation::workload::MOVED;

pub(crate) const CHECK: Check = Check {
    name: "coverage",
    claim: "Everything that the scenario is about did happen in the run.",
    run,
};

/// For how long vectors have to differ to count.
const DIVERGENCE_US: u64 = 1_000_000;

/// A watcher that is sent nowhere waits longer before it connects again.
const AT_ONCE_US: u64 = 100_000;

/// From how far on a clock is overruled (`gossip.max_clock_skew`).
const CLOCK_SKEW_US: u64 = 500_000;

fn run(history: &History<'_>, judge: &mut Judge) {
    if history.run.coverage.is_empty() {
        judge.note("the scenario demands nothing");
    }
    for wanted in &history.run.coverage {
        judge.examine();
        if !happened(history, *wanted) {
            judge.vacuous(format!("it never happened that {}", in_words(*wanted)));
        }
    }
}

fn in_words(wanted: Coverage) -> &'static str {
    match wanted {
        Coverage::Conflict => "a key showed a conflict",
        Coverage::Divergence => "two nodes had different vectors for a second",
        Coverage::IslandWrite => "a region that was cut off from all others took a config write",
        Coverage::QuorumRefused => "a request was refused for want of a quorum",
        Coverage::LeaderChange => "the leader changed",
        Coverage::SessionMoved => "a client read in another region than it had written in",
        Coverage::SessionRefused => "a request was refused because its session was not reached",
        Coverage::WatchResumed => "a watch was resumed",
        Coverage::WatchSent => "a node that goes sent a watch elsewhere, where it went on at once",
        Coverage::Joined => "a node joined that the topology does not name",
        Coverage::Evicted => "a node that had joined was down, and was taken out",
        Coverage::Restart => "a node went down and came back",
        Coverage::DiskFull => "a write was refused because a disk was full",
        Coverage::NewOrigin => "a node took a new origin",
        Coverage::RevocationSeen => "a disabled account was refused",
        Coverage::RevocationDuringCut => {
            "a disabled account was refused while regions were cut off"
        }
        Coverage::CasRefused => "a compare-and-set was refused",
        Coverage::OutcomeUnknown => "a write's outcome was unknown",
        Coverage::RetrySettled => "a retry settled an unknown outcome",
        Coverage::DamageDetected => "a stored damage was detected",
        Coverage::VotersChanged => "the voters changed",
        Coverage::KeysRotated => "all keys were wrapped by a new master key",
        Coverage::CertificateRefused => "a connection was refused for its certificate",
        Coverage::FileRebuilt => "a database file was rebuilt while it was in use",
        Coverage::ClockOverruled => "a node whose clock was off took a write by its peers' time",
        Coverage::EpochRolled => "a document went on in a next epoch",
        Coverage::RollDuringCut => "a document went on in a next epoch while regions were cut off",
        Coverage::LateChange => "a change came too late for the epoch that it was written in",
        Coverage::RollFinished => "a leader began an epoch that another one had decided",
        Coverage::LogTrimmed => "records went from a log",
        Coverage::HistoryPruned => "versions went from a history",
        Coverage::DocumentsTaken => "a node caught up by whole documents",
    }
}

/// Kinds of findings that are expected and no damage.
const NO_DAMAGE: [&str; 7] =
    ["plaintext", "audit", "panic", "certificate", "rebuild", "roll", "documents"];

/// Whether it did happen.
fn happened(history: &History<'_>, wanted: Coverage) -> bool {
    let any = |test: &dyn Fn(&Asked<'_>) -> bool| history.calls.iter().any(test);
    let refused = |it: &Asked<'_>, status: u16, name: &str| {
        let outcome = it.outcome();
        matches!(outcome, Some(Outcome::Refused { status: it, error }) if *it == status
            && error.contains(name))
    };
    let revoked = |it: &Asked<'_>| {
        let is_no = refused(it, 401, "") || refused(it, 403, "");
        let account = it.call.account.as_ref();
        is_no && account.is_some_and(|name| is_disabled(history, name, it.at_us))
    };
    let finding = |test: &dyn Fn(&str) -> bool| {
        history.findings.iter().any(|(_, it)| it.expected && test(&it.kind))
    };
    match wanted {
        Coverage::Conflict => {
            probes(history).any(|it| it.conflicts > 0)
                || shown(history).iter().any(|it| it.siblings.len() > 1)
        }
        Coverage::Divergence => diverged(history),
        Coverage::IslandWrite => any(&|it| is_island_write(history, it)),
        Coverage::QuorumRefused => any(&|it| refused(it, 503, "Quorum")),
        Coverage::LeaderChange => leader_changed(history),
        Coverage::SessionMoved => session_moved(history),
        Coverage::SessionRefused => any(&|it| refused(it, 412, "SessionNotReached")),
        Coverage::WatchResumed => any(&|it| {
            matches!(it.call.request, Request::ConfigWatch { resumed: true, .. })
                && matches!(it.outcome(), Some(Outcome::Opened))
        }),
        Coverage::WatchSent => watch_sent(history),
        Coverage::Joined => joiners(history).any(|node| is_known(history, node)),
        Coverage::Evicted => joiners(history).any(|node| evicted(history, node)),
        Coverage::Restart => restarted(history),
        Coverage::DiskFull => any(&|it| refused(it, 507, "")),
        Coverage::NewOrigin => history.probes.values().any(|probes| {
            let up = probes.iter().filter(|(_, it)| it.up && !it.origin.is_empty());
            up.map(|(_, it)| &it.origin).collect::<BTreeSet<_>>().len() > 1
        }),
        Coverage::RevocationSeen => any(&revoked),
        Coverage::RevocationDuringCut => any(&|it| {
            let mut cuts = history.faults.iter().filter(|span| !span.fault.links_cut.is_empty());
            revoked(it) && cuts.any(|span| span.covers(it.at_us, it.ended_us().unwrap_or(it.at_us)))
        }),
        Coverage::CasRefused => {
            any(&|it| is_cas(&it.call.request) && refused(it, 412, "Precondition"))
        }
        Coverage::OutcomeUnknown => any(&|it| it.is_unknown() && is_write(&it.call.request)),
        Coverage::RetrySettled => retry_settled(history),
        Coverage::DamageDetected => finding(&|kind| !NO_DAMAGE.contains(&kind)),
        Coverage::VotersChanged => operated(history, "voter") || changed_sides(history),
        Coverage::KeysRotated => operated(history, "rotat"),
        Coverage::CertificateRefused => finding(&|kind| kind == "certificate"),
        Coverage::FileRebuilt => finding(&|kind| kind == "rebuild"),
        Coverage::ClockOverruled => clock_overruled(history),
        Coverage::EpochRolled => probes(history).any(|it| !it.epochs.is_empty()),
        Coverage::RollDuringCut => rolled_during_cut(history),
        Coverage::LateChange => twin(history, |twin| twin.late > 0),
        Coverage::RollFinished => finding(&|kind| kind == "roll"),
        Coverage::LogTrimmed => probes(history).any(|it| it.log_trimmed > 0),
        Coverage::HistoryPruned => probes(history).any(|it| it.history_pruned > 0),
        Coverage::DocumentsTaken => finding(&|kind| kind == "documents"),
    }
}

fn twin(history: &History<'_>, test: impl Fn(&Twin) -> bool) -> bool {
    history.twin.is_some_and(|(_, twin)| test(twin))
}

/// Whether a node that runs was in another epoch of a document than half a second before, and all the
/// time in between regions were cut off.
fn rolled_during_cut(history: &History<'_>) -> bool {
    history.probes.values().any(|probes| {
        probes.windows(2).any(|pair| {
            let ((from, before), (to, after)) = (pair[0], pair[1]);
            let is_cut = |span: &super::index::Span<'_>| {
                !span.fault.links_cut.is_empty() && span.covers(from, to)
            };
            before.up
                && after.up
                && before.epochs != after.epochs
                && history.faults.iter().any(is_cut)
        })
    })
}

fn probes<'a>(history: &History<'a>) -> impl Iterator<Item = &'a Probe> {
    history.probes.values().flatten().map(|(_, probe)| *probe)
}

fn by_time<'a>(history: &History<'a>) -> Vec<(AtUs, &'a Probe)> {
    let mut all: Vec<_> = history.probes.values().flatten().copied().collect();
    all.sort_by_key(|(at_us, _)| *at_us);
    all
}

/// Looks at all pairs' last words, each time that a node says how it stands.
fn diverged(history: &History<'_>) -> bool {
    let mut last: BTreeMap<&str, &Probe> = BTreeMap::new();
    let mut since: BTreeMap<(&str, &str), AtUs> = BTreeMap::new();
    for (at_us, probe) in by_time(history) {
        let node = &*probe.node;
        for (other, theirs) in last.iter().filter(|(other, _)| **other != node) {
            let pair = (node.min(other), node.max(other));
            if !probe.up || !theirs.up || probe.vector == theirs.vector {
                since.remove(&pair);
            } else if at_us - *since.entry(pair).or_insert(at_us) >= DIVERGENCE_US {
                return true;
            }
        }
        last.insert(node, probe);
    }
    false
}

fn is_island_write(history: &History<'_>, it: &Asked<'_>) -> bool {
    let Some(ended) = it.ended_us().filter(|_| !wrote(it).is_empty()) else { return false };
    let cut = history.cut_throughout(it.at_us, ended);
    let region = &*it.call.region;
    let others: Vec<&str> = history.regions().into_iter().filter(|it| *it != region).collect();
    let is_cut = |other: &&str| cut.contains(&(region, *other)) || cut.contains(&(*other, region));
    !others.is_empty() && others.iter().all(is_cut)
}

fn leader_changed(history: &History<'_>) -> bool {
    let leads = probes(history).filter(|it| it.up && it.role == "leader");
    leads.map(|it| (&it.node, it.term)).collect::<BTreeSet<_>>().len() > 1
}

fn session_moved(history: &History<'_>) -> bool {
    let mut wrote_in: BTreeMap<u32, BTreeSet<&str>> = BTreeMap::new();
    for it in &history.calls {
        let regions = wrote_in.entry(it.call.client).or_default();
        let is_read = it.call.has_session
            && key_read(&it.call.request).is_some()
            && matches!(it.outcome(), Some(Outcome::Row { inconsistent: false, .. }));
        if is_read && regions.iter().any(|region| *region != it.call.region) {
            return true;
        }
        if !wrote(it).is_empty() {
            regions.insert(&it.call.region);
        }
    }
    false
}

/// Whether a watch that was sent elsewhere was opened there, with what it had seen and without a pause.
fn watch_sent(history: &History<'_>) -> bool {
    let watches = |it: &&Asked<'_>| matches!(it.call.request, Request::ConfigWatch { .. });
    let mut sent: BTreeMap<u32, AtUs> = BTreeMap::new();
    for it in history.calls.iter().filter(watches) {
        let is_opened = matches!(it.outcome(), Some(Outcome::Opened));
        let is_resumed = matches!(it.call.request, Request::ConfigWatch { resumed: true, .. });
        let at_once =
            sent.remove(&it.call.client).is_some_and(|at_us| it.at_us - at_us < AT_ONCE_US);
        if at_once && is_resumed && is_opened {
            return true;
        }
        let ended = it.answers.iter().find(|(_, it)| is_moved(it));
        sent.extend(ended.map(|(at_us, _)| (it.call.client, *at_us)));
    }
    false
}

/// The nodes that the topology's file does not name.
fn joiners<'h>(history: &'h History<'_>) -> impl Iterator<Item = &'h str> {
    history.run.nodes.iter().filter(|it| it.joined).map(|it| &*it.node)
}

/// Whether another node says that it is a member.
fn is_known(history: &History<'_>, node: &str) -> bool {
    probes(history).any(|it| it.up && it.node != node && it.members.contains(node))
}

/// Whether another node knew it, and then did not any more while it was down without having left.
fn evicted(history: &History<'_>, node: &str) -> bool {
    let others = history.probes.iter().filter(|(other, _)| **other != node);
    others.into_iter().any(|(_, probes)| {
        let up = || probes.iter().filter(|(_, it)| it.up && !it.members.is_empty());
        let knew = up().find(|(_, it)| it.members.contains(node)).map(|(at_us, _)| *at_us);
        let forgot = up().filter(|(at_us, it)| {
            knew.is_some_and(|knew| knew < *at_us) && !it.members.contains(node)
        });
        forgot.into_iter().any(|(at_us, _)| {
            history.faults.iter().any(|span| {
                let is_down = span.fault.nodes_down.contains(node);
                is_down && span.fault.kind != "absent" && span.covers(*at_us, *at_us)
            })
        })
    })
}

fn is_moved(outcome: &Outcome) -> bool {
    matches!(outcome, Outcome::Unknown { why } if why == MOVED)
}

fn restarted(history: &History<'_>) -> bool {
    let up_after = |node: &str, from: AtUs| {
        let mut probes = history.probes.get(node).into_iter().flatten();
        probes.any(|(at_us, it)| *at_us > from && it.up)
    };
    let by_probes = history.probes.iter().any(|(node, probes)| {
        let was_up = probes.iter().position(|(_, it)| it.up).unwrap_or(probes.len());
        let down = probes.iter().skip(was_up).find(|(_, it)| !it.up);
        down.is_some_and(|(at_us, _)| up_after(node, *at_us))
    });
    by_probes
        || history.faults.iter().any(|span| {
            let down = span.fault.nodes_down.iter();
            span.to_us.is_some_and(|to| down.into_iter().any(|node| up_after(node, to)))
        })
}

/// Whether the account's last change before `at_us` disabled it.
fn is_disabled(history: &History<'_>, name: &str, at_us: AtUs) -> bool {
    let changes = history.calls.iter().filter(|it| it.ended_us().is_some_and(|end| end <= at_us));
    let last =
        changes.filter(|it| matches!(it.outcome(), Some(Outcome::Done | Outcome::Value { .. })));
    let last = last.filter_map(|it| match &it.call.request {
        Request::AccountDisable { name: it } if it == name => Some(true),
        Request::AccountEnable { name: it } if it == name => Some(false),
        _ => None,
    });
    last.fold(false, |_, disabled| disabled)
}

fn is_cas(request: &Request) -> bool {
    matches!(
        request,
        Request::ConfigWrite { expect_version: Some(_), .. }
            | Request::SecretWrite { expect_version: Some(_), .. }
    )
}

fn is_write(request: &Request) -> bool {
    matches!(
        request,
        Request::ConfigWrite { .. }
            | Request::ConfigRemove { .. }
            | Request::SecretWrite { .. }
            | Request::SecretRemove { .. }
            | Request::RoleWrite { .. }
    )
}

fn retry_settled(history: &History<'_>) -> bool {
    let mut unknown: BTreeSet<&str> = BTreeSet::new();
    for it in &history.calls {
        let Some(key) = &it.call.idempotency_key else { continue };
        if it.is_unknown() {
            unknown.insert(key);
        } else if !it.is_refused() && unknown.contains(&**key) {
            return true;
        }
    }
    false
}

/// Whether the simulator's own request of this kind was done.
fn operated(history: &History<'_>, word: &str) -> bool {
    history.calls.iter().any(|it| match &it.call.request {
        Request::Operate { what } => {
            what.contains(word)
                && matches!(it.outcome(), Some(Outcome::Done | Outcome::Value { .. }))
        }
        _ => false,
    })
}

/// Whether a node that did not vote came to, or the other way round.
fn changed_sides(history: &History<'_>) -> bool {
    history.probes.values().any(|probes| {
        let votes = probes.iter().filter_map(|(_, it)| match &*it.role {
            "leader" | "follower" | "candidate" => Some(true),
            "learner" => Some(false),
            _ => None,
        });
        votes.collect::<BTreeSet<_>>().len() > 1
    })
}

/// Whether a node took a write while its clock was known to be off.
fn clock_overruled(history: &History<'_>) -> bool {
    history.calls.iter().filter(|it| !wrote(it).is_empty()).any(|it| {
        let probes = history.probes.get(&*it.call.node).into_iter().flatten();
        let before = probes.take_while(|(at_us, _)| *at_us <= it.at_us).last();
        let offset = before.and_then(|(_, probe)| probe.clock_offset_us);
        offset.is_some_and(|offset| offset.unsigned_abs() > CLOCK_SKEW_US)
    })
}

#[cfg(test)]
mod tests;
