//! How long two regions take to agree once a cut between them is healed, after each took so
//! many writes alone. They agree when their vectors are equal and so is everything they list. The cut
//! lasts long enough for every connection across it to be given up, so that dialling is included.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::bail;

use crate::rig::holm::{self, Holm};
use crate::rig::load::{self, Client, Pace, Template};
use crate::rig::{Plan, http};

const ONE_WAY_MS: u32 = 40;
/// The last keys of one side are the first of the other: they are in conflict after the cut.
const SHARED: u64 = 1_000;
const DOCUMENTS: u64 = 10;
const CLIENTS: usize = 64;
const CUT_TIME_MIN: Duration = Duration::from_secs(12);
const AGREE_TIME_MAX: Duration = Duration::from_secs(60);

/// What came out, one of each for a round, in seconds.
pub(crate) struct Measured {
    /// Until the vectors are equal.
    pub(crate) vectors: Vec<f64>,
    /// Until everything has been listed on both sides and is equal.
    pub(crate) listings: Vec<f64>,
}

/// With so many writes on each side, so often.
pub(crate) fn measure(plan: &Plan, writes: u64, rounds: usize) -> anyhow::Result<Measured> {
    println!(
        "healing: {writes} writes on each side of a cut of {} s or more, {SHARED} keys on both, \
         {ONE_WAY_MS} ms one way",
        CUT_TIME_MIN.as_secs()
    );
    let holm = Holm::dev(&plan.dir.join("healing"), 2, ONE_WAY_MS)?;
    let mut measured = Measured { vectors: vec![], listings: vec![] };
    for round in 1..=rounds {
        let start = Instant::now();
        plan.wait(holm.links("cut"))?;
        let sides = std::thread::scope(|scope| {
            let side = |node: usize| {
                let (addr, token) = (holm.nodes[node], &holm.token);
                scope.spawn(move || write(addr, token, round, node as u64, writes))
            };
            [side(0), side(1)].map(|side| side.join().expect("a side does not panic"))
        });
        if sides != [writes as usize; 2] {
            bail!("the sides took {sides:?} writes");
        }
        let [here, there] = plan.wait(sessions(&holm))?;
        if here == there {
            bail!("the cut cut nothing");
        }
        std::thread::sleep(CUT_TIME_MIN.saturating_sub(start.elapsed()));
        let (vector, listing) = plan.wait(heal(&holm, round, writes))?;
        println!(
            "  round {round}: equal vectors after {vector:.2} s, equal listings read by {listing:.2} s"
        );
        measured.vectors.push(vector);
        measured.listings.push(listing);
    }
    Ok(measured)
}

/// One side's writes, each of another key. How many were acknowledged.
fn write(addr: SocketAddr, token: &str, round: usize, side: u64, writes: u64) -> usize {
    let path = format!("/config/service-##/cut-{round}/key.#####");
    let request = http::request("PUT", &path, token, "", "\"####################\"");
    let (start, rate, clients) = (Instant::now(), holm::DEV_WRITES_PER_SECOND, CLIENTS / 2);
    // Until just before the first one too many.
    let time = Duration::from_secs_f64((writes as f64 - 0.5) / rate);
    let each = |client: usize| {
        let numbers = move |n: u64| {
            let i = side * (writes - SHARED) + n;
            [i % DOCUMENTS, i / DOCUMENTS, i * 2 + side]
        };
        let pace = Pace { start, client, clients, rate, time };
        let client = Client { template: Template::new(request.clone()), numbers };
        load::paced(addr, client, pace, |_, _, _| {})
    };
    load::run(clients, each).count
}

/// Heals, and measures from then, in seconds: until the vectors are equal, and until everything
/// has been listed on both sides and is equal.
async fn heal(holm: &Holm, round: usize, writes: u64) -> anyhow::Result<(f64, f64)> {
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
    if keys != 2 * writes - SHARED {
        bail!("{keys} keys are listed");
    }
    Ok((vector, listing))
}

async fn sessions(holm: &Holm) -> anyhow::Result<[String; 2]> {
    Ok([holm.session(0).await?, holm.session(1).await?])
}
