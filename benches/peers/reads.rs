//! Local reads of one key, 64 connections: Holm's with a JWT, against a bare axum handler that gives
//! the same bytes, and against etcd's serializable reads of the same value, which are local, too.
//! etcd is measured twice: with its 64 clients on a connection each, as Holm's have, and on one.

use std::path::Path;

use crate::rig::grpc;
use crate::rig::holm::Holm;
use crate::rig::measure::{Finding, Round, Spread};
use crate::rig::{Plan, bare, etcd, http, label, load};

const CLIENTS: usize = 64;
const OF_BARE_GOAL: f64 = 0.8;
const OF_ETCD_GOAL: f64 = 2.0;
const PATH: &str = "/config/web/prod/server.port";
const KEY: &str = "web/prod/server.port";

pub(crate) fn measure(plan: &Plan, program: Option<&Path>) -> anyhow::Result<Vec<Finding>> {
    println!("reads: one key, {CLIENTS} clients; Holm's with a JWT, etcd's serializable");
    let value = "x".repeat(256);
    let holm = Holm::serve(&plan.dir.join("reads"))?;
    let answer = plan.wait(async {
        holm.ask(0, "PUT", PATH, &format!("\"{value}\"")).await?;
        holm.ask(0, "GET", PATH, "").await
    })?;
    let (_bare, bare_addr) = bare::start(&plan.dir, &answer)?;
    let etcd = match program {
        Some(program) => Some(etcd::start(program, &plan.dir.join("reads"))?),
        None => None,
    };
    if let Some((_, addr)) = &etcd {
        let put = async {
            grpc::Connection::open(*addr, etcd::put(KEY, &value)).await?.exchange(&[]).await
        };
        anyhow::ensure!(plan.wait(put)?, "etcd takes no key");
    }
    let request = http::request("GET", PATH, &holm.token, "", "");
    let (mut rates, mut of_bare, mut of_own, mut of_shared) = (vec![], vec![], vec![], vec![]);
    for round in 0..=plan.rounds {
        let time = plan.time_of(round);
        let rate = |name: &str, result: Round| {
            println!("  {} {name}: {}", label(round), result.line());
            anyhow::ensure!(result.failed == 0, "{} reads failed", result.failed);
            Ok(result.rate())
        };
        let bare = rate("bare                ", load::same(CLIENTS, bare_addr, &request, time))?;
        let own = rate("holm                ", load::same(CLIENTS, holm.nodes[0], &request, time))?;
        let mut to_etcd = [0.0; 2];
        if let Some((_, addr)) = &etcd {
            let gets = |connections: usize| {
                load::run(connections, |_| {
                    let call = etcd::get(KEY, true, value.len());
                    let numbers = |_| [0; 0];
                    grpc::closed(*addr, CLIENTS / connections, call, numbers, time, u64::MAX)
                })
            };
            to_etcd[0] = own / rate("etcd, 64 connections", gets(CLIENTS))?;
            to_etcd[1] = own / rate("etcd,  1 connection ", gets(1))?;
        }
        if round > 0 {
            rates.push(own);
            of_bare.push(own / bare);
            of_own.push(to_etcd[0]);
            of_shared.push(to_etcd[1]);
        }
    }
    let what = |of: &str| format!("local reads/s with a JWT, {CLIENTS} connections, of {of}");
    let mut findings = vec![
        Finding::note("local reads/s", Spread::of(rates).text(0)),
        Finding::at_least(&what("a bare axum handler's"), Spread::of(of_bare), OF_BARE_GOAL),
    ];
    if etcd.is_some() {
        let own = what("etcd's serializable gets on as many");
        findings.push(Finding::at_least(&own, Spread::of(of_own), OF_ETCD_GOAL));
        let shared = what("etcd's serializable gets on one");
        findings.push(Finding::at_least(&shared, Spread::of(of_shared), OF_ETCD_GOAL));
    }
    Ok(findings)
}
