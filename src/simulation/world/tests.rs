//! The gate: real nodes, twice with one seed, are the same run to the byte.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use hyper::Method;

use super::*;
use crate::model::RegionName;
use crate::simulation::events::NodeEvent;
use crate::simulation::http::{HttpAnswer, HttpClient, HttpError, request};
use crate::simulation::scenario::LinkQuality;

const SECOND: u64 = 1_000_000;

fn node(name: &str) -> NodeName {
    NodeName::new(name).unwrap()
}

fn region(name: &str) -> RegionName {
    RegionName::new(name).unwrap()
}

fn topology(regions: &[&str], rtt_ms: u64) -> Topology {
    let mut text = format!("cluster = \"test\"\nrtt_ms_default = {rtt_ms}\n");
    for (number, region) in regions.iter().enumerate() {
        text += &format!(
            "[[regions]]\nname = \"{region}\"\nplace = \"here\"\nnodes = [{{ name = \"{region}-1\", \
             peer = \"127.0.0.1:{}\", http = \"127.0.0.1:{}\" }}]\n",
            9_000 + number,
            8_000 + number
        );
    }
    Topology::parse("test.toml", &text).unwrap()
}

fn world(regions: &[&str], seed: u64) -> World {
    let mut world = World::new(&topology(regions, 60), seed, Settings::default()).unwrap();
    for region in regions {
        world.start(&node(&format!("{region}-1")));
    }
    world
}

/// What clients were answered: who, status, body.
type Told = (u32, Result<u16, HttpError>, String);
type Answers = Arc<Mutex<Vec<Told>>>;

fn answer_of(result: Result<HttpAnswer, HttpError>) -> (Result<u16, HttpError>, String) {
    match result {
        Ok(answer) => {
            (Ok(answer.status.as_u16()), String::from_utf8_lossy(&answer.body).into_owned())
        }
        Err(error) => (Err(error), String::new()),
    }
}

/// A client that writes configs to a node all along, and now and then a secret.
fn write_all_along(world: &World, number: u32, of: &str, answers: &Answers) {
    write_rounds(world, number, of, answers, u32::MAX);
}

/// The same, so many times.
fn write_rounds(world: &World, number: u32, of: &str, answers: &Answers, rounds: u32) {
    let token = world
        .token("writer", "config:* secrets:* cluster:read", Duration::from_secs(3600))
        .unwrap();
    let (clients, of, answers) = (world.clients(), node(of), answers.clone());
    world.clients().spawn(async move {
        let mut http = HttpClient::new(&clients, number);
        for round in 0..rounds {
            tokio::time::sleep(Duration::from_millis(100)).await;
            let (method, path, body) = if round % 10 == 9 {
                let body =
                    format!(r#"{{"name": "s{number}", "value": "hidden-{number}-{round}"}}"#);
                (Method::POST, "/secrets", body)
            } else {
                let body = format!(r#"{{"key": "k{}", "value": "{number}-{round}"}}"#, round % 7);
                (Method::POST, "/config/web/prod", body)
            };
            let asked = request(method, path, &token, Some(body)).unwrap();
            let answer = http.send(&of, asked, Duration::from_secs(2)).await;
            let (status, body) = answer_of(answer);
            answers.lock().unwrap().push((number, status, body));
        }
    });
}

#[test]
fn a_world_founds_its_quorum_and_takes_writes_and_secrets() {
    let mut world = world(&["a", "b", "c"], 1);
    let answers = Answers::default();
    world.run_until(5 * SECOND);
    for name in ["a-1", "b-1", "c-1"] {
        assert!(world.is_up(&node(name)), "{:?}", world.failure(&node(name)));
    }
    write_all_along(&world, 1, "a-1", &answers);
    world.run_until(8 * SECOND);
    let answers = answers.lock().unwrap();
    assert!(answers.len() > 20);
    for (_, status, body) in answers.iter() {
        assert!(matches!(status, Ok(200 | 201)), "{status:?} {body}");
    }
    let known = |name| {
        let look = |server: &Server| server.node().snapshot().vector.clone();
        world.look(&node(name), look).unwrap()
    };
    assert!(!known("a-1").is_empty());
    // The last write is 60 ms away from where it was made.
    assert_eq!(known("b-1"), known("c-1"));
}

/// A run with a cut and a crash: its hash, and what clients were answered.
fn run(seed: u64) -> (String, Vec<Told>) {
    let mut world = world(&["a", "b", "c"], seed);
    let answers = Answers::default();
    for (number, of) in ["a-1", "b-1", "c-1"].into_iter().enumerate() {
        write_all_along(&world, number as u32, of, &answers);
    }
    world.run_until(4 * SECOND);
    world.set_link(
        &region("b"),
        &region("c"),
        LinkQuality {
            loss: Some(0.05),
            jitter: Some(Duration::from_millis(7)),
            ..LinkQuality::default()
        },
    );
    world.cut(&region("a"), &region("b"));
    world.cut(&region("b"), &region("a"));
    world.run_until(6 * SECOND);
    world.mend(&region("a"), &region("b"));
    world.mend(&region("b"), &region("a"));
    world.run_until(6 * SECOND + SECOND / 2);
    world.crash(&node("c-1"), CrashMode::TearUnsynced(seed));
    world.run_until(8 * SECOND);
    world.start(&node("c-1"));
    world.run_until(12 * SECOND);
    assert!(world.is_up(&node("c-1")), "{:?}", world.failure(&node("c-1")));
    let answers = answers.lock().unwrap().clone();
    (world.trace_hash(), answers)
}

#[test]
fn a_seed_is_one_run_and_another_seed_another() {
    let (hash, answers) = run(7);
    let written = |of: u32| {
        let done = |it: &&Told| it.0 == of && it.1.is_ok();
        answers.iter().filter(done).filter(|it| matches!(it.1, Ok(200 | 201))).count()
    };
    assert!((0..3).all(|number| written(number) > 50));
    assert!(answers.iter().any(|(_, status, body)| *status == Ok(201) && body.contains("aes")));
    assert!(answers.iter().any(|(_, status, _)| *status == Err(HttpError::Refused)));
    let (again, same) = run(7);
    assert_eq!(same, answers);
    assert_eq!(again, hash);
    assert_ne!(run(8).0, hash);
}

/// What the test below runs in another process.
#[test]
fn a_run_tells_its_hash() {
    println!("trace hash {}", run(7).0);
}

#[test]
fn another_process_makes_the_same_run() {
    let this = std::env::current_exe().unwrap();
    let test = "simulation::world::tests::a_run_tells_its_hash";
    let told = std::process::Command::new(this).args(["--exact", "--nocapture", test]).output();
    let told = String::from_utf8(told.unwrap().stdout).unwrap();
    let hash = run(7).0;
    assert!(told.contains(&format!("trace hash {hash}")), "{hash}: {told}");
}

mod chaos;
mod faults;
mod tiers;
