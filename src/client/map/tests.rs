//! Claims about maps: what is shown fits and is valid, whatever comes.

use std::sync::{Arc, Mutex};

use serde::Deserialize;

use super::MapError;
use crate::client::copy::CopyError;
use crate::client::copy::testing::{env, eventually, item, put, ready, settings};
use crate::client::stub::Stub;
use crate::client::{Client, WatchMap};
use crate::env::{MemoryDisk, SystemClock};

#[derive(Debug, Deserialize)]
struct Web {
    port: u16,
}

fn puts(values: &[(&str, &str)]) -> String {
    values.iter().map(|(value, id)| put(&item("port", value, 1), Some(id))).collect()
}

type Told = Arc<Mutex<Vec<String>>>;

async fn start(url: &str, disk: &MemoryDisk) -> (Result<WatchMap<Web>, MapError>, Told) {
    let told = Told::default();
    let (changes, problems) = (told.clone(), told.clone());
    let client = Client::new(url, Some("t")).unwrap();
    let map = client
        .watch_map::<Web>("web", "dev")
        .settings(settings())
        .validate(|web| match web.port {
            13 => panic!("thirteen"),
            0..1024 => Err("the port is below 1024"),
            _ => Ok(()),
        })
        .on_change(move |web| changes.lock().unwrap().push(format!("port {}", web.port)))
        .on_problem(move |problem| problems.lock().unwrap().push(problem.to_owned()))
        .start_in(env(disk, SystemClock))
        .await;
    (map, told)
}

#[tokio::test]
async fn what_does_not_fit_or_is_not_valid_leaves_the_last_good_state_and_is_told() {
    let (stub, disk) = (Stub::start().await, MemoryDisk::default());
    stub.node().watches = [puts(&[("8080", "s1")]) + &ready("s1")].into();
    let (map, told) = start(&stub.url, &disk).await;
    let map = map.unwrap();
    assert_eq!(map.load().port, 8080);
    map.close().await;

    let bad = [("80", "s2"), ("\"x\"", "s3"), ("13", "s4")];
    stub.node().watches = [puts(&bad), String::new()].into();
    let (map, told_again) = start(&stub.url, &disk).await;
    let map = map.unwrap();
    eventually("the last of them is refused", || {
        map.problem().is_some_and(|problem| problem.contains("thirteen"))
    })
    .await;
    assert_eq!(map.load().port, 8080);
    assert!(map.age().is_held_back);
    let said = told_again.lock().unwrap().clone();
    assert_eq!(said[0], "the port is below 1024");
    assert!(said[1].starts_with("port: invalid type"), "{said:?}");
    map.close().await;
    assert!(told.lock().unwrap().is_empty(), "the first state is no change");

    // What is on disk is what was good: it starts from that with nobody there.
    let (map, _) = start("http://127.0.0.1:1", &disk).await;
    assert_eq!(map.unwrap().load().port, 8080);

    stub.node().watches = [puts(&[("9090", "s5")]) + &ready("s5")].into();
    let (map, told) = start(&stub.url, &disk).await;
    let map = map.unwrap();
    eventually("the good one", || map.load().port == 9090).await;
    assert_eq!(*told.lock().unwrap(), ["port 9090"]);
    assert!(!map.age().is_held_back && map.problem().is_none());
}

#[tokio::test]
async fn a_first_state_that_does_not_fit_is_an_error_with_its_key() {
    let stub = Stub::start().await;
    stub.node().watches = [puts(&[("[]", "s1")]) + &ready("s1")].into();
    let (map, _) = start(&stub.url, &MemoryDisk::default()).await;
    let error = map.unwrap_err();
    assert!(matches!(&error, MapError::Copy(CopyError::Nothing { .. })), "{error}");
    assert!(error.to_string().contains("port: invalid type"), "{error}");
    let client = Client::new(&stub.url, None).unwrap();
    let error = client.watch_map::<Web>("web", "no/name").await.unwrap_err();
    assert!(matches!(error, MapError::Name(_)), "{error}");
}
