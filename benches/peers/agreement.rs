//! How long two regions take to agree once a cut between them is healed, after each took 30,000
//! writes alone. etcd has nothing to compare: the side without a majority takes none.

use crate::rig::measure::{Finding, Spread};
use crate::rig::{Plan, healing};

const WRITES: u64 = 30_000;
/// A round takes as long as the cut, which is long.
const ROUNDS_MAX: usize = 3;
const GOAL_S: f64 = 5.0;

pub(crate) fn measure(plan: &Plan) -> anyhow::Result<Vec<Finding>> {
    let measured = healing::measure(plan, WRITES, plan.rounds.min(ROUNDS_MAX))?;
    let what = "two sides of a cut with 30,000 writes each: equal vectors and listings after";
    let vectors = format!("{} s", Spread::of(measured.vectors).text(2));
    Ok(vec![
        Finding::at_most(what, Spread::of(measured.listings), GOAL_S, " s"),
        Finding::note("the same, vectors alone", vectors),
    ])
}
