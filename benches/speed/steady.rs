//! What a local write costs with three regions 100 ms apart, against the same alone: nothing of
//! the distance may be in it. The load is the same fixed rate on both, far from what they can do,
//! because all regions share this machine's cores and disk.

use std::time::{Duration, Instant};

use crate::rig::holm::Holm;
use crate::rig::load::{self, Client, Pace, Template};
use crate::rig::measure::{Finding, Round, Spread};
use crate::rig::{Plan, http, label};

const ONE_WAY_MS: u32 = 100;
const RATE: f64 = 100.0;
const CLIENTS: usize = 8;
const GOAL: f64 = 1.1;

pub(crate) fn measure(plan: &Plan) -> anyhow::Result<Vec<Finding>> {
    println!(
        "steady: {RATE} writes/s to one region, alone and with two others {ONE_WAY_MS} ms away"
    );
    let alone = Holm::dev(&plan.dir.join("alone"), 1, 0)?;
    let three = Holm::dev(&plan.dir.join("three"), 3, ONE_WAY_MS)?;
    let (mut ratios, mut alone_ms, mut three_ms) = (vec![], vec![], vec![]);
    for round in 0..=plan.rounds {
        let time = if round == 0 { plan.time / 2 } else { plan.time * 2 };
        let [alone, three] = [("alone", &alone), ("three", &three)].map(|(name, holm)| {
            let result = load(holm, time);
            println!("  {} {name}: {}", label(round), result.line());
            result.percentile_ms(0.5)
        });
        if round > 0 {
            ratios.push(three / alone);
            alone_ms.push(alone);
            three_ms.push(three);
        }
    }
    let what = "a local write's p50 with three regions, of the same alone";
    let note = |name| format!("a local write's p50 at {RATE} writes/s, {name}");
    Ok(vec![
        Finding::at_most(what, Spread::of(ratios), GOAL, ""),
        Finding::note(&note("alone"), format!("{} ms", Spread::of(alone_ms).text(2))),
        Finding::note(&note("three regions"), format!("{} ms", Spread::of(three_ms).text(2))),
    ])
}

fn load(holm: &Holm, time: Duration) -> Round {
    let start = Instant::now();
    let body = format!("\"####################{}\"", "x".repeat(236));
    let request = http::request("PUT", "/config/web/prod/key.####", &holm.token, "", &body);
    load::run(CLIENTS, |client| {
        let template = Template::new(request.clone());
        let pace = Pace { start, client, clients: CLIENTS, rate: RATE, time };
        let client = Client { template, numbers: |n| [n % 1_000, n, 0] };
        load::paced(holm.nodes[0], client, pace, |_, _, _| {})
    })
}
