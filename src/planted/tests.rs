//! Each bug, the check that catches it, and a seed. The same scenario passes without the bug.

use std::collections::BTreeSet;
use std::path::Path;

use super::{Bug, with};
use crate::simulation::checks::{self, Judgement, Verdicts};
use crate::simulation::run::{Options, run};
use crate::simulation::scenario::Scenario;

/// What the checks say of this scenario, run with this seed in a program with this bug.
fn judged(bug: Option<Bug>, text: &str, seed: u64) -> Verdicts {
    let scenario = Scenario::parse("planted.toml", text, Path::new("simulations"));
    let scenario = scenario.unwrap_or_else(|error| panic!("{error}"));
    let options = Options { seed, ..Options::default() };
    let history = with(bug, || run(&scenario, &options)).unwrap();
    checks::run(&history, &BTreeSet::new())
}

/// The checks that were violated, and how it shows first.
fn violated(verdicts: &Verdicts) -> Vec<(&'static str, &str)> {
    let violated = verdicts.verdicts.iter().filter_map(|verdict| match &verdict.result {
        Judgement::Violation { violations, .. } => Some((verdict.check, &*violations[0].what)),
        _ => None,
    });
    violated.collect()
}

const CONFLICTS: &str = r#"
claim = "Everybody shows the same winner."
duration = "8s"
settle = "7s"
[topology]
rtt_ms_default = 80
regions = ["a", "b"]
[workload]
documents = 1
keys = 3
config_writes = 30
config_reads = 5
[[faults]]
at = "3s"
lasts = "2s"
isolate = "b"
[expect]
converge_within = "3s"
coverage = ["conflict"]
"#;

/// Stamps come at few instants of a second here, and there are so many writes that two regions' often
/// have the same one before they hear of each other: about once a second, and one will do.
const TIES: &str = r#"
claim = "Everybody shows the same winner of writes with one stamp."
duration = "8s"
settle = "7s"
[topology]
rtt_ms_default = 80
regions = ["a", "b"]
[workload]
documents = 1
keys = 12
key_skew = 0.0
config_writes = 150
config_reads = 30
[expect]
converge_within = "3s"
coverage = ["conflict"]
"#;

const MISSED: &str = r#"
claim = "What was missed while a region was cut off is fetched."
duration = "8s"
settle = "7s"
[topology]
rtt_ms_default = 40
regions = ["a", "b"]
[workload]
config_writes = 10
[[faults]]
at = "2s"
lasts = "4s"
isolate = "b"
[expect]
converge_within = "3s"
"#;

const CUT_OFF_READER: &str = r#"
claim = "A region that is cut off serves no old secret as the newest."
duration = "10s"
settle = "7s"
[topology]
rtt_ms_default = 60
regions = ["a", "b", "c"]
[workload]
secrets = 2
secret_writes = 6
secret_reads = 12
[[faults]]
at = "3s"
lasts = "4s"
isolate = "c"
[expect]
converge_within = "3s"
"#;

const WATCH_MOVES: &str = r#"
claim = "A watch that resumes elsewhere misses nothing."
duration = "10s"
settle = "7s"
[topology]
rtt_ms_default = 60
regions = ["a", "b"]
[workload]
documents = 1
keys = 6
config_writes = 12
watchers = 2
watchers_move_every = "1s"
[expect]
converge_within = "3s"
"#;

const REVOKED: &str = r#"
claim = "A disabled account is served nowhere."
duration = "12s"
settle = "7s"
[topology]
rtt_ms_default = 40
regions = ["a", "b"]
[workload]
documents = 1
keys = 2
config_writes = 4
revocations = 0.5
account_requests = 12
[expect]
converge_within = "3s"
revocation_within = "500ms"
"#;

const RETRIES: &str = r#"
claim = "A retry does nothing twice."
duration = "12s"
settle = "7s"
[topology]
rtt_ms_default = 60
regions = ["a", "b", "c"]
[workload]
secrets = 2
secret_writes = 8
secret_reads = 8
role_writes = 3
role_reads = 3
retries = 1.0
[[faults]]
at = "3s"
lasts = "1s"
one_way = { from = "a", to = "b" }
[[faults]]
at = "6s"
lasts = "1500ms"
crash = "a-1"
[[faults]]
at = "9s"
lasts = "1500ms"
isolate = "b"
[expect]
converge_within = "3s"
"#;

const POWER_LOSS_ALONE: &str = r#"
claim = "What a region acknowledged while it was alone survives the loss of its power."
duration = "10s"
settle = "7s"
[topology]
rtt_ms_default = 40
regions = ["a", "b"]
[workload]
config_writes = 20
[[faults]]
at = "2s"
lasts = "5s"
isolate = "b"
[[faults]]
at = "4s"
lasts = "1s"
crash = { node = "b-1", unsynced = "lose" }
[expect]
converge_within = "3s"
"#;

/// Twice, because what is not on disk yet is a matter of milliseconds. Nothing is read: that would
/// put the audit chain on disk, and with it everything.
const POWER_LOSS_EVERYWHERE: &str = r#"
claim = "What was decided survives the loss of power everywhere at once."
duration = "9s"
settle = "9s"
[topology]
rtt_ms_default = 20
regions = ["a", "b", "c"]
[workload]
secrets = 2
secret_writes = 30
[[faults]]
at = "3s"
lasts = "500ms"
crash = { node = "a-1", unsynced = "lose" }
[[faults]]
at = "3s"
lasts = "500ms"
crash = { node = "b-1", unsynced = "lose" }
[[faults]]
at = "3s"
lasts = "500ms"
crash = { node = "c-1", unsynced = "lose" }
[[faults]]
at = "6s"
lasts = "500ms"
crash = { node = "a-1", unsynced = "lose" }
[[faults]]
at = "6s"
lasts = "500ms"
crash = { node = "b-1", unsynced = "lose" }
[[faults]]
at = "6s"
lasts = "500ms"
crash = { node = "c-1", unsynced = "lose" }
[expect]
converge_within = "4s"
"#;

/// Nobody but `c` knows what `b` wrote after the copy was made, and when `b` is back it hears `a` alone.
const PUT_BACK: &str = r#"
claim = "A node that is started on an old copy of its disk numbers no change twice."
duration = "10s"
settle = "9s"
[topology]
rtt_ms_default = 40
regions = ["a", { name = "b", voters = false }, { name = "c", voters = false }]
[workload]
config_writes = 15
[[faults]]
at = "2s"
lasts = "2s"
partition = [["a"], ["b", "c"]]
[[faults]]
at = "4s"
lasts = "4s"
partition = [["a", "b"], ["c"]]
[[faults]]
at = "4s"
lasts = "1s"
old_copy = { node = "b-1", age = "2s" }
[expect]
converge_within = "5s"
"#;

/// There are so many keys that what a roll did wrong stays until somebody looks, and regions so far
/// apart that something is always on its way when it is decided.
const EPOCHS: &str = r#"
claim = "A next epoch shows what would have been shown without."
duration = "12s"
settle = "10s"
[topology]
rtt_ms_default = 200
regions = ["a", "b", "c"]
[workload]
documents = 1
keys = 150
key_skew = 0.0
config_writes = 60
[settings.epochs]
soft_cap = 10
check_every = "300ms"
[expect]
converge_within = "5s"
coverage = ["epoch_rolled", "late_change"]
"#;

/// Whoever led does not know, while it is cut off, that another does.
const TWO_LEADERS: &str = r#"
claim = "An epoch begins in one way, whoever leads."
duration = "23s"
settle = "10s"
[topology]
rtt_ms_default = 60
regions = ["a", "b", "c"]
[workload]
documents = 20
keys = 10
config_writes = 30
[settings.epochs]
soft_cap = 10
check_every = "200ms"
[[faults]]
at = "6s"
lasts = "3s"
isolate = "a"
[[faults]]
at = "12s"
lasts = "3s"
isolate = "b"
[[faults]]
at = "18s"
lasts = "3s"
isolate = "c"
[expect]
converge_within = "6s"
coverage = ["epoch_rolled", "leader_change"]
"#;

/// The check sees the bug, and finds nothing where there is none. All checks that saw it.
fn is_caught(bug: Bug, by: &str, text: &str, seed: u64) -> BTreeSet<&'static str> {
    let good = judged(None, text, seed);
    assert_eq!(violated(&good), [], "without a bug");
    assert_eq!(good.exit_code(), 0, "without a bug: {good:#?}");
    let bad = judged(Some(bug), text, seed);
    let found = violated(&bad);
    assert!(found.iter().any(|(check, _)| *check == by), "with {bug:?}: {found:#?}");
    found.into_iter().map(|(check, _)| check).collect()
}

#[test]
fn a_winner_by_arrival_is_caught() {
    is_caught(Bug::WinnerByArrival, "winner", CONFLICTS, 1);
}

#[test]
fn a_winner_by_greater_or_equal_is_caught() {
    // Whether two stamps are equal is luck; each of these seeds has some.
    let is_seen = |seed| {
        assert_eq!(violated(&judged(None, TIES, seed)), [], "without a bug, seed {seed}");
        let bad = judged(Some(Bug::WinnerByGreaterOrEqual), TIES, seed);
        violated(&bad).iter().any(|(check, _)| *check == "winner")
    };
    assert!((1..=3).any(is_seen));
}

#[test]
fn a_program_without_anti_entropy_is_caught() {
    is_caught(Bug::SkipAntiEntropy, "convergence", MISSED, 1);
}

#[test]
fn a_local_read_that_is_called_linearizable_is_caught() {
    is_caught(Bug::LocalReadAsLinearizable, "linearizable", CUT_OFF_READER, 1);
}

#[test]
fn a_watch_that_resumes_one_late_is_caught() {
    is_caught(Bug::ResumeOneLate, "watch", WATCH_MOVES, 1);
}

#[test]
fn a_retry_that_is_carried_out_again_is_caught() {
    is_caught(Bug::ApplyWithoutIdempotencyKey, "linearizable", RETRIES, 1);
}

#[test]
fn an_acknowledgement_before_the_sync_is_caught() {
    is_caught(Bug::AcknowledgeBeforeSync, "lost_writes", POWER_LOSS_ALONE, 1);
}

#[test]
fn a_push_before_the_sync_is_caught() {
    let found = is_caught(Bug::PushBeforeSync, "linearizable", POWER_LOSS_EVERYWHERE, 2);
    // openraft does not get over it, in a task that nobody waits for.
    assert!(found.contains("findings"), "{found:?}");
}

#[test]
fn an_origin_that_is_used_again_is_caught() {
    is_caught(Bug::ReuseOrigin, "lost_writes", PUT_BACK, 1);
}

#[test]
fn a_route_that_skips_its_permit_is_caught() {
    is_caught(Bug::PermitSkipped, "revocation", REVOKED, 1);
}

#[test]
fn a_base_that_forgets_conflicts_is_caught() {
    is_caught(Bug::BaseForgetsConflicts, "epochs", EPOCHS, 1);
}

#[test]
fn a_policy_of_histories_that_keeps_one_version_less_is_caught() {
    let text = include_str!("../../simulations/history-pruned-under-way.toml");
    is_caught(Bug::PruneOneMore, "lost_writes", text, 1);
}

#[test]
fn who_takes_whole_documents_and_forgets_its_own_writes_is_caught() {
    let text = include_str!("../../simulations/behind-the-trim.toml");
    // Whether its own writes went out before it took documents is luck; with this seed they had not.
    is_caught(Bug::TakeForgetsOwn, "lost_writes", text, 2);
}

#[test]
fn a_roll_beside_a_program_that_knows_no_epochs_is_caught() {
    let text = include_str!("../../simulations/two-versions-and-epochs.toml");
    is_caught(Bug::RollDespiteOldPrograms, "epochs", text, 1);
}

#[test]
fn a_late_change_that_forgets_what_it_replaced_is_caught() {
    is_caught(Bug::LateForgetsReplaced, "epochs", EPOCHS, 1);
}

#[test]
fn a_roll_that_nobody_decided_is_caught() {
    is_caught(Bug::RollWithoutDecision, "quarantine", TWO_LEADERS, 1);
}
