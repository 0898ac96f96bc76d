//! A day of one write a second to one document, as fast as one client may send them: two regions. What the
//! process takes in memory, and what a write costs it with all that follows from it in both regions,
//! hour by hour.

use std::time::{Duration, Instant};

use anyhow::ensure;

use crate::rig::holm::{self, Holm};
use crate::rig::load::{self, Client, Pace, Template};
use crate::rig::measure::{Finding, Spread};
use crate::rig::{Plan, http, machine, puts};

const HOURS: u64 = 24;
const WRITES: u64 = 3_600;
const KEYS: u64 = 100;
const FLAT_GOAL: f64 = 1.2;
/// How long the second region may take to have all of an hour.
const CATCH_UP_TIME_MAX: Duration = Duration::from_secs(30);

pub(crate) fn measure(plan: &Plan) -> anyhow::Result<Vec<Finding>> {
    println!(
        "day: {} writes to one document, {KEYS} keys, two regions, one client",
        HOURS * WRITES
    );
    let holm = Holm::dev(&plan.dir.join("day"), 2, 0)?;
    let (mut costs, mut memories) = (Vec::new(), Vec::new());
    for hour in 0..HOURS {
        let before = machine::processor_seconds(holm.process_id());
        let start = Instant::now();
        write(&holm, hour)?;
        plan.wait(caught_up(&holm))?;
        let cost = machine::processor_seconds(holm.process_id()) - before;
        costs.push(cost * 1e6 / WRITES as f64);
        memories.push(machine::memory_mb(holm.process_id(), "VmRSS:"));
        println!(
            "  hour {hour:2}: {:5.0} writes/s, {:5.1} us of processor a write in both regions, {:5.1} MB",
            WRITES as f64 / start.elapsed().as_secs_f64(),
            costs[hour as usize],
            memories[hour as usize]
        );
    }
    // Against the hours that begin when the first is over.
    let late = HOURS as usize - 6;
    let of = |what: &str, unit: &str, all: &[f64]| {
        let (early, late) = (Spread::of(all[1..7].to_vec()), Spread::of(all[late..].to_vec()));
        let ratio = late.median / early.median;
        Finding {
            what: format!(
                "a day of one write a second: {what}, its last six hours of its 2nd to 7th"
            ),
            measured: format!("{ratio:.2} ({}{unit}, then {}{unit})", early.text(1), late.text(1)),
            goal: format!("at most {FLAT_GOAL}"),
            reached: Some(ratio <= FLAT_GOAL),
        }
    };
    Ok(vec![of("processor time a write", " µs", &costs), of("memory", " MB", &memories)])
}

fn write(holm: &Holm, hour: u64) -> anyhow::Result<()> {
    let body = format!("\"{}\"", puts::value());
    let request = http::request("PUT", "/config/web/prod/key.####", &holm.token, "", &body);
    let done = load::run(1, |_| {
        let numbers = |n| [n % KEYS, hour * WRITES + n, 0];
        let client = Client { template: Template::new(request.clone()), numbers };
        let rate = holm::DEV_WRITES_PER_SECOND;
        // Until just before the first one too many.
        let time = Duration::from_secs_f64((WRITES as f64 - 0.5) / rate);
        let pace = Pace { start: Instant::now(), client: 0, clients: 1, rate, time };
        load::paced(holm.nodes[0], client, pace, |_, _, _| {})
    });
    ensure!(done.failed == 0 && done.count as u64 == WRITES, "{} writes", done.count);
    Ok(())
}

/// Waits until the second region has all of it.
async fn caught_up(holm: &Holm) -> anyhow::Result<()> {
    let start = Instant::now();
    while holm.session(0).await? != holm.session(1).await? {
        ensure!(start.elapsed() < CATCH_UP_TIME_MAX, "the other region does not catch up");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    Ok(())
}
