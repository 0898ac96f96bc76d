//! Reads of one key with a token, 64 keep-alive connections, against a bare axum handler that
//! returns the same bytes. Both servers run all the time and are loaded in turn.

use crate::rig::holm::Holm;
use crate::rig::load;
use crate::rig::measure::{Finding, Spread};
use crate::rig::{Plan, bare, http, label, machine};

const CLIENTS: usize = 64;
const GOAL: f64 = 0.7;
const PATH: &str = "/config/web/prod/server.port";

pub(crate) fn measure(plan: &Plan) -> anyhow::Result<Vec<Finding>> {
    println!("reads: one key, with a JWT, {CLIENTS} keep-alive connections");
    let holm = Holm::serve(&plan.dir.join("reads"))?;
    let answer = plan.wait(async {
        holm.ask(0, "PUT", PATH, "8080").await?;
        holm.ask(0, "GET", PATH, "").await
    })?;
    let (bare, bare_addr) = bare::start(&plan.dir, &answer)?;
    let request = http::request("GET", PATH, &holm.token, "", "");
    let (sides, mut ratios, mut costs) = (
        [("bare", bare_addr, bare.id()), ("holm", holm.nodes[0], holm.process_id())],
        vec![],
        vec![],
    );
    for round in 0..=plan.rounds {
        let [bare, holm] = sides.map(|(name, addr, process)| {
            let time = plan.time_of(round);
            let before = machine::processor_seconds(process);
            let result = load::same(CLIENTS, addr, &request, time);
            let cost = machine::processor_seconds(process) - before;
            let cost = cost * 1e6 / result.count.max(1) as f64;
            println!("  {} {name}: {}   {cost:5.1} us of processor", label(round), result.line());
            (result.rate(), cost)
        });
        if round > 0 {
            ratios.push(holm.0 / bare.0);
            costs.push(holm.1 / bare.1);
        }
    }
    Ok(vec![
        Finding::at_least("reads/s, of a bare axum handler's", Spread::of(ratios), GOAL),
        Finding::note(
            "a read's processor time, of a bare axum handler's",
            Spread::of(costs).text(2),
        ),
    ])
}
