//! What a client of several regions waits for when the one that it uses is gone: three regions of
//! `holm dev`, 40 ms apart, of which the client is in the first. A region is killed, or falls silent,
//! on its way to the client: the process of `holm dev` is all regions.

use std::time::{Duration, Instant};

use anyhow::ensure;
use futures_util::future::try_join_all;
use holm::client::{Client, ClientSettings, Write};
use holm::model::{DocumentId, JsonText, Key};

use crate::gate::Gate;
use crate::rig::Plan;
use crate::rig::holm::Holm;
use crate::rig::measure::{Finding, Spread, percentile};

const ONE_WAY_MS: u32 = 40;
const CLIENTS: usize = 10;
/// How often a region is lost in one round.
const LOSSES: usize = 10;
/// Requests before, so that a client knows how long they take.
const BEFORE: usize = 5;
/// A request's deadline.
const DEADLINE: Duration = Duration::from_secs(2);
const GOAL_MS: f64 = 250.0;

/// What becomes of the region.
#[derive(Clone, Copy, PartialEq)]
enum Loss {
    /// Its connections end, and it takes no others.
    Killed,
    /// It takes connections and requests, and answers none.
    Silent,
}

pub(crate) fn measure(plan: &Plan) -> anyhow::Result<Vec<Finding>> {
    println!(
        "failover: {LOSSES} times a round {CLIENTS} clients lose their region; the next is \
         {ONE_WAY_MS} ms away one way"
    );
    let holm = Holm::dev(&plan.dir.join("failover"), 3, ONE_WAY_MS)?;
    plan.wait(holm.ask(0, "PUT", "/config/web/prod/limit", "1"))?;
    let mut findings = Vec::new();
    for (loss, what) in [
        (Loss::Killed, "failover with one region killed, p99"),
        (Loss::Silent, "a read with one region that takes connections and answers nothing, p99"),
    ] {
        let (mut p99s, mut medians) = (Vec::new(), Vec::new());
        for round in 0..=plan.rounds {
            let mut took = plan.wait(lose(&holm, loss))?;
            took.sort_unstable();
            let ms = |share| percentile(&took, share) as f64 / 1e6;
            let counts = if round == 0 { " (not counted)" } else { "" };
            let (p50, p99, max) = (ms(0.5), ms(0.99), ms(1.0));
            println!("  round {round}: p50 {p50:.1} ms, p99 {p99:.1} ms, max {max:.1} ms{counts}");
            if round > 0 {
                p99s.push(p99);
                medians.push(p50);
            }
        }
        findings.push(Finding::at_most(what, Spread::of(p99s), GOAL_MS, " ms"));
        let medians = format!("{} ms", Spread::of(medians).text(1));
        findings.push(Finding::note("the same, p50", medians));
    }
    Ok(findings)
}

/// What each client's next request took, in nanoseconds.
async fn lose(holm: &Holm, loss: Loss) -> anyhow::Result<Vec<u64>> {
    let delay = Duration::from_millis(ONE_WAY_MS.into());
    let mut ways = [
        Gate::open(holm.nodes[0], Duration::ZERO).await,
        Gate::open(holm.nodes[1], delay).await,
        Gate::open(holm.nodes[2], delay).await,
    ];
    let mut took = Vec::new();
    for _ in 0..LOSSES {
        let urls = ways.each_ref().map(Gate::url);
        let clients = (0..CLIENTS).map(|_| {
            let mut settings = ClientSettings::regions(urls.clone(), Some(&holm.token));
            settings.timeout = DEADLINE;
            Client::with(settings)
        });
        let clients = clients.collect::<Result<Vec<_>, _>>()?;
        try_join_all(clients.iter().map(warm)).await?;
        // Until the far ones were measured twice.
        tokio::time::sleep(delay * 8).await;
        match loss {
            Loss::Killed => ways[0].shut(),
            Loss::Silent => ways[0].silence(true),
        }
        let each = clients.iter().enumerate().map(async |(n, client)| {
            let begun = Instant::now();
            match loss == Loss::Killed && n % 2 == 1 {
                true => write(client).await?,
                false => read(client).await?,
            }
            anyhow::Ok(u64::try_from(begun.elapsed().as_nanos())?)
        });
        took.extend(try_join_all(each).await?);
        ways[0].open_again().await;
    }
    ensure!(took.len() == LOSSES * CLIENTS, "{} requests were answered", took.len());
    Ok(took)
}

async fn warm(client: &Client) -> anyhow::Result<()> {
    for _ in 0..BEFORE {
        read(client).await?;
    }
    let regions = client.regions();
    let used = regions.iter().find(|region| region.is_used);
    ensure!(used.is_some_and(|it| it.rtt < Some(Duration::from_millis(40))), "{regions:?}");
    Ok(())
}

async fn read(client: &Client) -> anyhow::Result<()> {
    client.get(&DocumentId::parse("web/prod")?, &Key::new("limit")?).await?;
    Ok(())
}

async fn write(client: &Client) -> anyhow::Result<()> {
    let write = Write::new(Key::new("written")?, JsonText::parse("1")?);
    client.write(&DocumentId::parse("web/prod")?, &[write], None).await?;
    Ok(())
}
