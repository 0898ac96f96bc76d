//! How long a write takes to a watcher in a region 40 ms away, at 500 writes a second. What it should
//! take goes by what the disk takes for an fsync, measured between the rounds.

use crate::rig::Plan;
use crate::rig::measure::{Finding, Spread};
use crate::rig::propagation::{ONE_WAY_MS, measure as delays};

const RATE: f64 = 500.0;
/// Beside the way and two fsyncs, in milliseconds.
const P50_MS_GOAL: f64 = 3.0;
const P99_MS_GOAL: f64 = 15.0;

pub(crate) fn measure(plan: &Plan) -> anyhow::Result<Vec<Finding>> {
    let measured = delays(plan, RATE)?;
    let fsync = Spread::of(measured.fsyncs);
    let least = f64::from(ONE_WAY_MS) + 2.0 * fsync.median;
    let what = |share| format!("propagation over {ONE_WAY_MS} ms at {RATE} writes/s, {share}");
    let goal = |ms: f64| ((least + ms) * 100.0).round() / 100.0;
    Ok(vec![
        Finding::at_most(&what("p50"), Spread::of(measured.p50s), goal(P50_MS_GOAL), " ms"),
        Finding::at_most(&what("p99"), Spread::of(measured.p99s), goal(P99_MS_GOAL), " ms"),
        Finding::note("an fsync of 4 KiB beside it", format!("{} ms", fsync.text(3))),
    ])
}
