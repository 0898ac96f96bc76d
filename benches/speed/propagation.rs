//! How long a write takes to a watcher in a region 40 ms away, at 300 writes a second.

use crate::rig::Plan;
use crate::rig::measure::{Finding, Spread};
use crate::rig::propagation::{ONE_WAY_MS, measure as delays};

const RATE: f64 = 300.0;
const P50_MS_GOAL: f64 = 45.0;
const P99_MS_GOAL: f64 = 65.0;

pub(crate) fn measure(plan: &Plan) -> anyhow::Result<Vec<Finding>> {
    let measured = delays(plan, RATE)?;
    let what = |share| format!("propagation over {ONE_WAY_MS} ms at {RATE} writes/s, {share}");
    Ok(vec![
        Finding::at_most(&what("p50"), Spread::of(measured.p50s), P50_MS_GOAL, " ms"),
        Finding::at_most(&what("p99"), Spread::of(measured.p99s), P99_MS_GOAL, " ms"),
    ])
}
