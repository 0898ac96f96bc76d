//! What a write costs as documents and keys grow in number: four nodes, with 10 to 10,000 documents
//! of 100 keys each, loaded in turn by one client, so that no write shares another's change or commit.
//! Which key is written next cannot be told from the last one.

use std::time::Duration;

use anyhow::ensure;

use crate::rig::holm::Holm;
use crate::rig::load::{self, Client, Template};
use crate::rig::measure::{Finding, Round, Spread};
use crate::rig::{Plan, http, label, machine, puts};

const SIZES: [u64; 4] = [10, 100, 1_000, 10_000];
const KEYS: u64 = 100;
const FLAT_GOAL: f64 = 1.2;
const FILL_TIME_MAX: Duration = Duration::from_secs(300);

pub(crate) fn measure(plan: &Plan) -> anyhow::Result<Vec<Finding>> {
    println!("growth: 1 client, 256-byte values, {SIZES:?} documents of {KEYS} keys");
    let mut nodes = Vec::new();
    for documents in SIZES {
        let holm = Holm::serve(&plan.dir.join(format!("growth-{documents}")))?;
        let done = fill(&holm, documents);
        ensure!(done.failed == 0 && done.count as u64 == documents, "{} failed", done.failed);
        nodes.push((documents, holm, Vec::new(), Vec::new()));
    }
    for round in 0..=plan.rounds {
        for (documents, holm, p50s, costs) in &mut nodes {
            let before = machine::processor_seconds(holm.process_id());
            let result = write(holm, *documents, round as u64, plan.time_of(round));
            ensure!(result.failed == 0, "{} writes failed", result.failed);
            let cost = machine::processor_seconds(holm.process_id()) - before;
            let cost = cost * 1e6 / result.count.max(1) as f64;
            let name = format!("{} {documents:5} documents", label(round));
            println!("  {name}: {}   {cost:5.1} us of processor", result.line());
            if round > 0 {
                p50s.push(result.percentile_ms(0.5));
                costs.push(cost);
            }
        }
    }
    let mut findings = Vec::new();
    let mut of = |what: &str, unit: &str, decimals, pick: fn(&Node) -> &[f64]| {
        let [first, last] = [&nodes[0], &nodes[nodes.len() - 1]].map(pick);
        for node in &nodes {
            let (what, keys) = (format!("{what}, {} documents", node.0), node.0 * KEYS);
            let measured = Spread::of(pick(node).iter().copied()).text(decimals);
            findings.push(Finding::note(
                &format!("{what} and {keys} keys"),
                format!("{measured}{unit}"),
            ));
        }
        let ratios = last.iter().zip(first).map(|(last, first)| last / first);
        let what = format!("{what}, 10,000 documents of what it is with 10");
        findings.push(Finding::at_most(&what, Spread::of(ratios), FLAT_GOAL, ""));
    };
    of("a write's p50", " ms", 3, |node| &node.2);
    of("a write's processor time", " µs", 1, |node| &node.3);
    Ok(findings)
}

/// Documents, the node, and of each round p50 in ms and processor time in µs.
type Node = (u64, Holm, Vec<f64>, Vec<f64>);

fn fill(holm: &Holm, documents: u64) -> Round {
    const CLIENTS: u64 = 2;
    let value = "v".repeat(256);
    let entries: Vec<String> = (0..KEYS).map(|i| format!("\"k{i:02}\":\"{value}\"")).collect();
    let body = format!("{{\"entries\":{{{}}}}}", entries.join(","));
    let request = http::request("POST", "/config/service-#####/prod", &holm.token, "", &body);
    load::run(CLIENTS as usize, |client| {
        let numbers = move |n| [n * CLIENTS + client as u64, 0, 0];
        let client = Client { template: Template::new(request.clone()), numbers };
        load::closed(holm.nodes[0], client, FILL_TIME_MAX, (documents / CLIENTS) as usize)
    })
}

fn write(holm: &Holm, documents: u64, round: u64, time: Duration) -> Round {
    let body = format!("\"{}\"", puts::value());
    let request = http::request("PUT", "/config/service-#####/prod/k##", &holm.token, "", &body);
    load::run(1, |_| {
        let numbers = move |n: u64| {
            // Knuth's multiplicative hash: every key before one comes again.
            let i = (n + round * 1_000_003).wrapping_mul(2_654_435_761) % (documents * KEYS);
            [i / KEYS, i % KEYS, n]
        };
        let client = Client { template: Template::new(request.clone()), numbers };
        load::closed(holm.nodes[0], client, time, usize::MAX)
    })
}
