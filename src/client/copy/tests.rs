//! Claims about a copy, against a stub of a node and a disk in memory.

use std::time::Duration;

use axum::http::StatusCode;

use super::testing::{document, env, eventually, item, put, ready, settings, shown};
use super::{CopyError, LocalCopy};
use crate::client::Client;
use crate::client::stub::Stub;
use crate::env::{Disk, ManualClock, MemoryDisk, SystemClock};
use crate::model::Stamp;

/// Nobody answers there.
const NOWHERE: &str = "http://127.0.0.1:1";

fn removed(key: &str, id: &str) -> String {
    format!("event: remove\ndata: {{\"key\":\"{key}\",\"version\":9}}\nid: {id}\n\n")
}

async fn start(url: &str, disk: &MemoryDisk) -> Result<LocalCopy, CopyError> {
    start_at(url, disk, SystemClock).await
}

async fn start_at(
    url: &str,
    disk: &MemoryDisk,
    clock: impl crate::env::WallClock,
) -> Result<LocalCopy, CopyError> {
    let client = Client::new(url, Some("t")).unwrap();
    LocalCopy::start(client, &document(), settings(), None, env(disk, clock)).await
}

#[tokio::test]
async fn a_copy_goes_on_after_a_loss_and_forgets_what_is_removed() {
    let stub = Stub::start().await;
    let first = [put(&item("a", "1", 1), None), put(&item("b", "1", 1), None), ready("s1")];
    // Half of a change, and then the connection is lost.
    let half = put(&item("a", "2", 2), None);
    let rest = [put(&item("a", "2", 2), None), put(&item("b", "2", 2), Some("s2")), ready("s2")];
    stub.node().watches = [first.concat() + &half, rest.concat(), String::new()].into();
    let copy = start(&stub.url, &MemoryDisk::default()).await.unwrap();
    assert_eq!(copy.state().value::<u8>("c").unwrap(), None);
    assert!(copy.state().value::<String>("a").unwrap_err().to_string().starts_with("a: "));
    eventually("both", || shown(&copy.state()) == ["a=2", "b=2"]).await;
    assert_eq!(copy.state().value::<u8>("a").unwrap(), Some(2));
    assert_eq!(copy.state().session(), Some("s2"));
    assert!(copy.age().confirmed_ago < Duration::from_secs(5) && !copy.age().is_from_file);

    let stub = Stub::start().await;
    let anew = [put(&item("c", "3", 1), None), ready("s4")];
    let reset = format!("event: reset\ndata: {{}}\n\n{}", anew.concat());
    stub.node().watches =
        [first.concat() + &removed("a", "s3"), reset, String::new(), String::new()].into();
    let copy = start(&stub.url, &MemoryDisk::default()).await.unwrap();
    eventually("the removal, or what came after", || copy.state().get("a").is_none()).await;
    eventually("the state anew", || shown(&copy.state()) == ["c=3"]).await;
}

#[tokio::test]
async fn a_copy_starts_from_its_file_when_every_region_is_down_and_says_how_old_it_is() {
    let (stub, disk) = (Stub::start().await, MemoryDisk::default());
    stub.node().watches = [put(&item("a", "1", 1), None) + &ready("s1")].into();
    let clock = ManualClock::new(Stamp(1_000_000_000));
    let copy = start_at(&stub.url, &disk, clock.clone()).await.unwrap();
    copy.close().await;

    clock.advance(Duration::from_secs(100));
    let copy = start_at(NOWHERE, &disk, clock.clone()).await.unwrap();
    assert_eq!(shown(&copy.state()), ["a=1"]);
    let age = copy.age();
    assert!(age.is_from_file && !age.is_connected);
    assert!(age.confirmed_ago >= Duration::from_secs(95), "{age:?}");
    assert!(copy.problem().unwrap().contains("127.0.0.1:1"), "{:?}", copy.problem());
    // Nobody confirmed it, so that the file is as old as it was.
    copy.close().await;
    clock.advance(Duration::from_secs(100));
    let copy = start_at(NOWHERE, &disk, clock).await.unwrap();
    assert!(copy.age().confirmed_ago >= Duration::from_secs(195), "{:?}", copy.age());
    assert_eq!(copy.state().session(), Some("s1"), "the watch goes on from there");
}

#[tokio::test]
async fn a_region_is_asked_only_for_what_the_file_does_not_have() {
    let (stub, disk) = (Stub::start().await, MemoryDisk::default());
    stub.node().watches = [put(&item("a", "1", 1), None) + &ready("s1")].into();
    start(&stub.url, &disk).await.unwrap().close().await;
    stub.asked();
    stub.node().watches = [put(&item("b", "2", 1), Some("s2")) + &ready("s2")].into();
    let copy = start(&stub.url, &disk).await.unwrap();
    assert_eq!(shown(&copy.state()), ["a=1", "b=2"]);
    let sent = stub.node().requests[0].1.get("last-event-id").cloned();
    assert_eq!(sent.unwrap(), "s1");
}

#[tokio::test]
async fn without_a_file_or_a_region_the_error_says_so_in_time() {
    let begun = tokio::time::Instant::now();
    let error = start(NOWHERE, &MemoryDisk::default()).await.unwrap_err();
    assert!(begun.elapsed() < Duration::from_secs(5));
    let said = error.to_string();
    for part in ["web/dev", "700ms", "127.0.0.1:1", "no file yet"] {
        assert!(said.contains(part), "{said}");
    }
    // One that takes the connection and says nothing is no better.
    let silent = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", silent.local_addr().unwrap());
    let error = start(&url, &MemoryDisk::default()).await.unwrap_err();
    assert!(matches!(error, CopyError::Nothing { .. }), "{error}");
    assert!(begun.elapsed() < Duration::from_secs(10));
}

#[tokio::test]
async fn a_file_that_is_cut_is_named_and_a_region_helps() {
    let (stub, disk) = (Stub::start().await, MemoryDisk::default());
    disk.write("web.copy", b"holm local copy 1\n{\"docu", true).unwrap();
    let error = start(NOWHERE, &disk).await.unwrap_err().to_string();
    assert!(error.contains("/data/web.copy: the file is cut short"), "{error}");
    stub.node().watches = [put(&item("a", "1", 1), None) + &ready("s1")].into();
    let copy = start(&stub.url, &disk).await.unwrap();
    assert_eq!(shown(&copy.state()), ["a=1"]);
    eventually("a good file", || copy.file_problem().is_none()).await;
}

#[tokio::test]
async fn a_refusal_ends_the_wait_and_with_a_file_it_does_not_end_the_copy() {
    let (stub, disk) = (Stub::start().await, MemoryDisk::default());
    let refuse = || Some((StatusCode::FORBIDDEN, "{\"error\":\"Forbidden\"}".to_owned()));
    stub.node().next_answer = refuse();
    let error = start(&stub.url, &disk).await.unwrap_err();
    assert!(matches!(&error, CopyError::Refused { .. }), "{error}");
    assert!(error.to_string().contains("Forbidden"), "{error}");
    stub.node().watches = [put(&item("a", "1", 1), None) + &ready("s1")].into();
    start(&stub.url, &disk).await.unwrap().close().await;
    stub.node().next_answer = refuse();
    let copy = start(&stub.url, &disk).await.unwrap();
    assert_eq!(shown(&copy.state()), ["a=1"]);
    assert!(copy.problem().unwrap().contains("Forbidden"));
}

#[tokio::test]
async fn a_disk_that_fails_is_told_of_and_the_copy_goes_on() {
    let (stub, disk) = (Stub::start().await, MemoryDisk::default());
    disk.fail(true);
    stub.node().watches = [put(&item("a", "1", 1), None) + &ready("s1")].into();
    let copy = start(&stub.url, &disk).await.unwrap();
    eventually("the failure is known", || copy.file_problem().is_some()).await;
    assert_eq!(shown(&copy.state()), ["a=1"]);
    let said = copy.problem().unwrap();
    assert!(said.contains("/data/web.copy"), "{said}");
}
