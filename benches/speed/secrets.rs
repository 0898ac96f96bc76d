//! What a secret costs with three voting regions 40 ms apart, one way, measured in round trips and
//! fsyncs: writes and linearizable reads in the leader's region and in another one, and how much
//! many clients share. On one node by itself: the same sharing where the disk is all there is to
//! wait for, and a local read against a config read.

use std::hint::black_box;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use holm::env::Entropy;
use holm::model::{Id, SecretName, Stamp, Text};
use holm::secrets::{Algorithm, Keyring, Place, Plaintext, keyring, seal};
use serde_json::Value;

use crate::rig::holm::{Holm, REGIONS};
use crate::rig::load::{self, Client, Pace, Template};
use crate::rig::measure::{Finding, Round, Spread};
use crate::rig::{Plan, http, label, machine};

const ONE_WAY_MS: u32 = 40;
const ROUND_TRIP_MS: f64 = 2.0 * ONE_WAY_MS as f64;
const CLIENTS: usize = 64;
/// Secrets that each client writes in turn.
const SECRETS_EACH: u64 = 16;
/// Reads a second where reads are measured that don't wait for each other.
const READ_RATE: f64 = 50.0;
const READ_CLIENTS: usize = 32;
/// What a value holds beside the 20 digits that differ from write to write: 256 bytes in all.
const FILLER_LEN: usize = 236;
/// Longest until a new cluster decides.
const FOUNDING_TIME_MAX: Duration = Duration::from_secs(20);
const DECRYPTIONS: u32 = 20_000;
const CONFIG_PATH: &str = "/config/web/prod/token";
const GOAL: f64 = 1.15;
const LOCAL_GOAL: f64 = 1.2;
const SHARED_GOAL: f64 = 10.0;

/// What the rounds gave, one number each.
#[derive(Default)]
struct Numbers {
    write_here: Vec<f64>,
    write_there: Vec<f64>,
    read_here: Vec<f64>,
    read_there: Vec<f64>,
    read_many: Vec<f64>,
    shared_far: Vec<f64>,
    shared_alone: Vec<f64>,
    rates_alone: [Vec<f64>; 2],
    local: Vec<f64>,
    local_value: Vec<f64>,
    local_ms: [Vec<f64>; 3],
    fsync_ms: Vec<f64>,
}

pub(crate) fn measure(plan: &Plan) -> anyhow::Result<Vec<Finding>> {
    println!(
        "secrets: 256-byte values; three regions {ONE_WAY_MS} ms apart one way, and one alone"
    );
    let three = Holm::dev(&plan.dir.join("secrets-three"), 3, ONE_WAY_MS)?;
    // Without the limit on what one client may write: here 64 are one.
    let alone = Holm::serve(&plan.dir.join("secrets-alone"))?;
    let ids = plan.wait(async { anyhow::Ok([prepare(&three).await?, prepare(&alone).await?]) })?;
    let decrypt_ms = decrypt_ms()?;
    let (mut warm_up, mut numbers) = (Numbers::default(), Numbers::default());
    for round in 0..=plan.rounds {
        let counted = if round == 0 { &mut warm_up } else { &mut numbers };
        let fsync_ms = machine::fsync_ms(&plan.dir)?;
        counted.fsync_ms.push(fsync_ms);
        let time = if round == 0 { plan.time / 2 } else { plan.time };
        let step = |name: &str, result: Round| {
            println!("  {} {name}: {}", label(round), result.line());
            if result.failed > 0 {
                bail!("{} requests failed", result.failed)
            }
            Ok(result)
        };
        over_distance(plan, (&three, &ids[0]), time, fsync_ms, &step, counted)?;
        by_itself(plan, (&alone, &ids[1]), time, decrypt_ms, &step, counted)?;
        println!("  {}: fsync {fsync_ms:.3} ms, load {}", label(round), machine::load());
    }
    println!("  a decryption takes {:.1} us", decrypt_ms * 1e3);
    Ok(numbers.findings())
}

/// The rows with three regions.
fn over_distance(
    plan: &Plan,
    (holm, id): (&Holm, &str),
    time: Duration,
    fsync_ms: f64,
    step: &dyn Fn(&str, Round) -> anyhow::Result<Round>,
    numbers: &mut Numbers,
) -> anyhow::Result<()> {
    let here = plan.wait(leader(holm))?;
    let there = (here + 1) % REGIONS.len();
    let p50 = |round: &Round| round.percentile_ms(0.5);
    let path = format!("/secrets/{id}?reveal=true");
    let one = step("write, leader's region ", write(holm, here, 1, time * 2))?;
    numbers.write_here.push(p50(&one) / (ROUND_TRIP_MS + 2.0 * fsync_ms));
    let far = step("write, another region  ", write(holm, there, 1, time * 2))?;
    numbers.write_there.push(p50(&far) / (2.0 * ROUND_TRIP_MS + 2.0 * fsync_ms));
    let many = step("write, 64 clients      ", write(holm, here, CLIENTS, time))?;
    numbers.shared_far.push(many.rate() / one.rate());
    let read = step("read, leader's region  ", read(holm, here, &path, time * 2))?;
    numbers.read_here.push(p50(&read) / ROUND_TRIP_MS);
    let read_far = step("read, another region   ", self::read(holm, there, &path, time * 2))?;
    numbers.read_there.push(p50(&read_far) / (2.0 * ROUND_TRIP_MS));
    let read_many = step("reads, independent ones", reads(holm, here, &path, time * 2))?;
    numbers.read_many.push(p50(&read_many) / ROUND_TRIP_MS);
    if plan.wait(leader(holm))? != here {
        bail!("the leader moved during a round");
    }
    Ok(())
}

/// The rows with one node.
fn by_itself(
    plan: &Plan,
    (holm, id): (&Holm, &str),
    time: Duration,
    decrypt_ms: f64,
    step: &dyn Fn(&str, Round) -> anyhow::Result<Round>,
    numbers: &mut Numbers,
) -> anyhow::Result<()> {
    let one = step("alone, one client      ", write(holm, 0, 1, time))?;
    let many = step("alone, 64 clients      ", write(holm, 0, CLIENTS, time))?;
    numbers.shared_alone.push(many.rate() / one.rate());
    let local = |reveal| format!("/secrets/{id}?consistency=local&reveal={reveal}");
    let config = step("alone, config read     ", read(holm, 0, CONFIG_PATH, time))?;
    let columns = step("alone, local columns   ", read(holm, 0, &local(false), time))?;
    // Right beside what it is compared with: the disk's mood changes.
    let record_ms = machine::fsync_ms(&plan.dir)?;
    let value = step("alone, local value     ", read(holm, 0, &local(true), time))?;
    let [config, columns, value] = [config, columns, value].map(|it| it.percentile_ms(0.5));
    numbers.local.push(columns / config);
    numbers.local_value.push(value / (config + record_ms + decrypt_ms));
    numbers.rates_alone[0].push(one.rate());
    numbers.rates_alone[1].push(many.rate());
    for (all, ms) in numbers.local_ms.iter_mut().zip([config, columns, value]) {
        all.push(ms);
    }
    Ok(())
}

impl Numbers {
    fn findings(self) -> Vec<Finding> {
        let at_most = |what: &str, all, goal| Finding::at_most(what, Spread::of(all), goal, "");
        let ms = |what: &str, all| Finding::note(what, format!("{} ms", Spread::of(all).text(3)));
        let rate = |what: &str, all| Finding::note(what, Spread::of(all).text(0));
        let shared = |what: &str, all| Finding::at_least(what, Spread::of(all), SHARED_GOAL);
        let [one, many] = self.rates_alone;
        let [config, columns, value] = self.local_ms;
        vec![
            at_most(
                "a secret's write in the leader's region, of a round trip and two fsyncs",
                self.write_here,
                GOAL,
            ),
            at_most(
                "a secret's write in another region, of two round trips and two fsyncs",
                self.write_there,
                GOAL,
            ),
            at_most(
                "a secret's linearizable read in the leader's region, of a round trip",
                self.read_here,
                GOAL,
            ),
            at_most(
                "a secret's linearizable read in another region, of two round trips",
                self.read_there,
                GOAL,
            ),
            at_most(
                "the same in the leader's region, 50 reads/s that don't wait for each other",
                self.read_many,
                GOAL,
            ),
            shared("secrets written/s by 64 clients over distance, of one's", self.shared_far),
            shared(
                "secrets written/s by 64 clients at one node alone, of one's",
                self.shared_alone,
            ),
            rate("secrets written/s by one client, alone", one),
            rate("secrets written/s by 64 clients, alone", many),
            at_most("a secret's columns read locally, of a config read", self.local, LOCAL_GOAL),
            at_most(
                "a secret's value read locally, of a config read, a decryption and an fsync",
                self.local_value,
                LOCAL_GOAL,
            ),
            ms("a config read's p50, one client", config),
            ms("a secret's columns' p50, local, one client", columns),
            ms("a secret's value's p50, local and recorded, one client", value),
            ms("an fsync of 4 KiB, median", self.fsync_ms),
        ]
    }
}

/// A secret and a config key to read; the secret's id. Waits until the cluster is founded.
async fn prepare(holm: &Holm) -> anyhow::Result<String> {
    let value = format!("{:020}{}", 7, "x".repeat(FILLER_LEN));
    let body = format!(r#"{{"name":"read","value":"{value}"}}"#);
    let start = Instant::now();
    let answer = loop {
        match holm.ask(0, "POST", "/secrets", &body).await {
            Err(_) if start.elapsed() < FOUNDING_TIME_MAX => {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
            answer => break answer?,
        }
    };
    let answer: Value = serde_json::from_slice(&answer)?;
    holm.ask(0, "PUT", CONFIG_PATH, &format!("\"{value}\"")).await?;
    Ok(answer["id"].as_str().context("a secret without an id")?.to_owned())
}

/// Which node leads.
async fn leader(holm: &Holm) -> anyhow::Result<usize> {
    let cluster: Value = serde_json::from_slice(&holm.ask(0, "GET", "/cluster", "").await?)?;
    let name = cluster["quorum"]["leader"].as_str().context("the quorum has no leader")?;
    let region = name.strip_suffix("-1");
    let at = REGIONS.iter().position(|it| Some(*it) == region);
    at.context("a leader in a region that there is not")
}

/// Clients that each write secrets of their own, one after the other.
fn write(holm: &Holm, node: usize, clients: usize, time: Duration) -> Round {
    let value = format!("####################{}", "x".repeat(FILLER_LEN));
    let body = format!(r#"{{"name":"bench-####","value":"{value}"}}"#);
    let request = http::request("POST", "/secrets", &holm.token, "", &body);
    load::run(clients, |client| {
        let template = Template::new(request.clone());
        let numbers = move |n| [client as u64 * SECRETS_EACH + n % SECRETS_EACH, n, 0];
        load::closed(holm.nodes[node], Client { template, numbers }, time, usize::MAX)
    })
}

/// One client that reads again and again.
fn read(holm: &Holm, node: usize, path: &str, time: Duration) -> Round {
    let request = http::request("GET", path, &holm.token, "", "");
    load::run(1, |_| {
        let template = Template::new(request.clone());
        let client = Client { template, numbers: |_| [0; 3] };
        load::closed(holm.nodes[node], client, time, usize::MAX)
    })
}

/// Reads at a fixed rate.
fn reads(holm: &Holm, node: usize, path: &str, time: Duration) -> Round {
    let request = http::request("GET", path, &holm.token, "", "");
    let start = Instant::now();
    load::run(READ_CLIENTS, |client| {
        let template = Template::new(request.clone());
        let pace = Pace { start, client, clients: READ_CLIENTS, rate: READ_RATE, time };
        let client = Client { template, numbers: |_| [0; 3] };
        load::paced(holm.nodes[node], client, pace, |_, _, _| {})
    })
}

/// How long a value of the same size takes to open: its data key, and then itself.
fn decrypt_ms() -> anyhow::Result<f64> {
    let mut rng = Entropy::system().stream("bench");
    let keyring = Keyring::new([(1, keyring::generate(&mut rng).as_str())])?;
    let generation = keyring.generation(1).context("the generation just made")?;
    let kek = keyring.key(&generation)?;
    let name = SecretName::new("read")?;
    let place = Place { cluster: "bench", id: Id::random(&mut rng), name: &name, version: 1 };
    let value = Plaintext::new(vec![7; 256]);
    let author = (&Text::from("bench"), Stamp(1));
    let sealed = seal::seal(kek, &mut rng, &place, Algorithm::Aes256Gcm, &value, author)?;
    let start = Instant::now();
    for _ in 0..DECRYPTIONS {
        black_box(seal::open(kek, &place, black_box(&sealed))?);
    }
    Ok(start.elapsed().as_secs_f64() * 1e3 / f64::from(DECRYPTIONS))
}
