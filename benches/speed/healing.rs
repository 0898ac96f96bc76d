//! How long two regions take to agree once a cut between them is healed, after each took 10,000
//! writes alone.

use crate::rig::Plan;
use crate::rig::healing;
use crate::rig::measure::{Finding, Spread};

const WRITES: u64 = 10_000;
const GOAL_S: f64 = 3.0;

pub(crate) fn measure(plan: &Plan) -> anyhow::Result<Vec<Finding>> {
    let measured = healing::measure(plan, WRITES, plan.rounds)?;
    let what = "two sides of a cut with 10,000 writes each: equal vectors and listings after";
    let vectors = format!("{} s", Spread::of(measured.vectors).text(2));
    Ok(vec![
        Finding::at_most(what, Spread::of(measured.listings), GOAL_S, " s"),
        Finding::note("the same, vectors alone", vectors),
    ])
}
