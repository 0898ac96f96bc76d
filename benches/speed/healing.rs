//! How long two regions take to agree once a cut between them is healed, after each took 10,000
//! writes alone. They agree when their vectors are equal and so is everything they list. The cut
//! lasts long enough for every connection across it to be given up, so that dialling is included.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::bail;

use crate::Plan;
use crate::holm::Holm;
use crate::http;
use crate::load::{self, Client, Template};
use crate::measure::{Finding, Spread};

const ONE_WAY_MS: u32 = 40;
const WRITES: u64 = 10_000;
/// The last keys of one side are the first of the other: they are in conflict after the cut.
const SHARED: u64 = 1_000;
const DOCUMENTS: u64 = 10;
const CLIENTS: usize = 64;
const CUT_TIME_MIN: Duration = Duration::from_secs(12);
const AGREE_TIME_MAX: Duration = Duration::from_secs(60);
const GOAL_S: f64 = 3.0;

pub(crate) fn measure(plan: &Plan) -> anyhow::Result<Vec<Finding>> {
    println!(
        "healing: {WRITES} writes on each side of a cut of {} s or more, {SHARED} keys on both, \
         {ONE_WAY_MS} ms one way",
        CUT_TIME_MIN.as_secs()
    );
    let holm = Holm::dev(&plan.dir.join("healing"), 2, ONE_WAY_MS)?;
    let (mut vectors, mut listings) = (vec![], vec![]);
    for round in 1..=plan.rounds {
        let start = Instant::now();
        plan.wait(holm.links("cut"))?;
        let sides = std::thread::scope(|scope| {
            let side = |node: usize| {
                let (addr, token) = (holm.nodes[node], &holm.token);
                scope.spawn(move || write(addr, token, round, node as u64))
            };
            [side(0), side(1)].map(|side| side.join().expect("a side does not panic"))
        });
        if sides != [WRITES as usize; 2] {
            bail!("the sides took {sides:?} writes");
        }
        let [here, there] = plan.wait(sessions(&holm))?;
        if here == there {
            bail!("the cut cut nothing");
        }
        std::thread::sleep(CUT_TIME_MIN.saturating_sub(start.elapsed()));
        let (vector, listing) = plan.wait(heal(&holm, round))?;
        println!(
            "  round {round}: equal vectors after {vector:.2} s, equal listings read by {listing:.2} s"
        );
        vectors.push(vector);
        listings.push(listing);
    }
    let what = "two sides of a cut with 10,000 writes each: equal vectors and listings after";
    Ok(vec![
        Finding::at_most(what, Spread::of(listings), GOAL_S, " s"),
        Finding::note("the same, vectors alone", format!("{} s", Spread::of(vectors).text(2))),
    ])
}

/// One side's writes, each of another key. How many were acknowledged.
fn write(addr: SocketAddr, token: &str, round: usize, side: u64) -> usize {
    let path = format!("/config/service-##/cut-{round}/key.#####");
    let request = http::request("PUT", &path, token, "", "\"####################\"");
    let clients = CLIENTS / 2;
    let each = |client: usize| {
        let own = (client as u64..WRITES).step_by(clients).count();
        let numbers = move |n: u64| {
            let i = side * (WRITES - SHARED) + n * clients as u64 + client as u64;
            [i % DOCUMENTS, i / DOCUMENTS, i * 2 + side]
        };
        let client = Client { template: Template::new(request.clone()), numbers };
        load::closed(addr, client, AGREE_TIME_MAX, own)
    };
    load::run(clients, each).count
}

/// Heals, and measures from then, in seconds: until the vectors are equal, and until everything
/// has been listed on both sides and is equal.
async fn heal(holm: &Holm, round: usize) -> anyhow::Result<(f64, f64)> {
    let start = Instant::now();
    holm.links("heal").await?;
    let vector = loop {
        let now = start.elapsed();
        let [here, there] = sessions(holm).await?;
        if here == there {
            break start.elapsed().as_secs_f64();
        }
        if now > AGREE_TIME_MAX {
            bail!("no agreement after {} s", AGREE_TIME_MAX.as_secs());
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    };
    let mut keys = 0;
    for document in 0..DOCUMENTS {
        let document = format!("service-{document:02}/cut-{round}");
        let both = (holm.listing(0, &document), holm.listing(1, &document));
        let (here, there) = futures_util::try_join!(both.0, both.1)?;
        if here != there {
            bail!("{document} differs");
        }
        keys += here.len() as u64;
    }
    let listing = start.elapsed().as_secs_f64();
    if keys != 2 * WRITES - SHARED {
        bail!("{keys} keys are listed");
    }
    Ok((vector, listing))
}

async fn sessions(holm: &Holm) -> anyhow::Result<[String; 2]> {
    Ok([holm.session(0).await?, holm.session(1).await?])
}
