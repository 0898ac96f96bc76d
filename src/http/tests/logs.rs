//! What is logged of a request, and what never is.

use std::cell::RefCell;
use std::io::Write;
use std::sync::Once;

use serde_json::Value;
use tracing::Level;
use tracing_subscriber::Layer as _;
use tracing_subscriber::filter::dynamic_filter_fn;
use tracing_subscriber::layer::SubscriberExt as _;

use super::harness::{World, world, world_with};
use crate::settings::Settings;
use crate::telemetry::Ecs;

thread_local! {
    /// What is recorded on this thread, if it records: up to which level, and the lines.
    static RECORD: RefCell<Option<(Level, Vec<u8>)>> = const { RefCell::new(None) };
}

/// Writes to this thread's record.
struct Recorder;

impl Write for Recorder {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        RECORD.with_borrow_mut(|record| {
            record.iter_mut().for_each(|(_, lines)| lines.extend_from_slice(bytes));
        });
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// Records what this thread logs up to `level`, as `main` would write it. The subscriber is the
/// process': one that a test brings for its thread alone is missed by callsites that other tests'
/// threads come to first.
pub(super) fn record(level: Level) {
    static INSTALLED: Once = Once::new();
    INSTALLED.call_once(|| {
        let records = dynamic_filter_fn(|metadata, _| {
            RECORD.with_borrow(|it| it.as_ref().is_some_and(|(max, _)| metadata.level() <= max))
        });
        let json = tracing_subscriber::fmt::layer().event_format(Ecs::new("eu-west-1"));
        let layer = json.with_writer(|| Recorder).with_filter(records);
        let subscriber = tracing_subscriber::registry().with(layer);
        tracing::subscriber::set_global_default(subscriber).unwrap();
    });
    RECORD.set(Some((level, Vec::new())));
}

/// What was recorded so far.
pub(super) fn recorded() -> String {
    let lines = RECORD.take().map(|(_, lines)| lines);
    String::from_utf8(lines.unwrap_or_default()).unwrap()
}

/// The lines of requests.
fn requests(text: &str) -> Vec<Value> {
    let lines = text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    lines.filter(|line| line["message"] == "request").collect()
}

async fn ask(world: &World) {
    world.put("/config/web/dev/a?message=because", "\"hunter2\"").await.expect(201);
    world.get("/config/web/dev/a").await.expect(200);
    let bad = world.request("GET", "/config/web/dev/a").token(Some("not.a.token"));
    bad.header("x-request-id", "r-1").send().await.expect(401);
    world.put("/config/web/dev/a", "{\"hunter2\"").await.expect(400);
    world.get("/somewhere/secret-path").await.expect(404);
}

#[tokio::test]
async fn a_request_is_one_line_and_a_successful_read_none() {
    record(Level::INFO);
    ask(&world().await).await;
    let lines = requests(&recorded());
    let column = |name: &str| -> Vec<Value> {
        lines.iter().map(|line| line.get(name).cloned().unwrap_or_default()).collect()
    };
    assert_eq!(column("http.response.status_code"), [201, 401, 400, 404]);
    assert_eq!(column("http.request.method"), ["PUT", "GET", "PUT", "other"]);
    assert_eq!(column("url.path")[0], "/config/{service}/{environment}/{key}");
    assert_eq!(column("url.path")[3], "unknown path");
    assert_eq!(column("user.name")[0], "ada");
    assert_eq!(column("error.code")[1..], ["Unauthorized", "BadJson", "NotFound"]);
    assert_eq!(column("http.request.id")[1], "r-1");
    assert_eq!(column("error.message")[1], "the token is malformed: a part is not base64url");
    assert_eq!(column("event.outcome"), ["success", "failure", "failure", "failure"]);
    assert!(column("event.duration").iter().all(Value::is_u64));
    assert!(column("event.dataset").iter().all(|dataset| dataset == "holm.request"));
    let mut settings = Settings::default();
    settings.http.log_reads = true;
    record(Level::INFO);
    ask(&world_with(settings).await).await;
    assert_eq!(requests(&recorded()).len(), 5);
}

#[tokio::test]
async fn neither_tokens_nor_values_nor_raw_paths_are_ever_logged() {
    record(Level::TRACE);
    let world = world().await;
    ask(&world).await;
    let text = recorded();
    assert_eq!(requests(&text).len(), 5);
    let token = world.token("config:* cluster:read");
    let (_, signature) = token.rsplit_once('.').unwrap();
    for hidden in ["hunter2", "because", "not.a.token", signature, "secret-path", "web/dev"] {
        assert!(!text.contains(hidden), "{hidden}: {text}");
    }
}

#[tokio::test]
async fn a_request_goes_on_with_its_callers_trace_or_begins_one() {
    record(Level::INFO);
    let world = world().await;
    let (trace, parent) = ("4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7");
    let put = |traceparent: &str| {
        let put = world.request("PUT", "/config/web/dev/a").header("traceparent", traceparent);
        put.body("1")
    };
    let answer = put(&format!("00-{trace}-{parent}-01")).send().await;
    let told = answer.header("traceparent").to_owned();
    assert!(told.starts_with(&format!("00-{trace}-")) && told.ends_with("-01"), "{told}");
    assert!(!told.contains(parent), "the work here is another span: {told}");
    let unfit = put("canary-in-a-traceparent").send().await;
    let begun = unfit.header("traceparent").to_owned();
    let twice = put(&format!("00-{trace}-{parent}-01")).header("traceparent", "00-x").send().await;
    assert!(!twice.header("traceparent").contains(trace), "two of them name none");
    let text = recorded();
    assert!(!text.contains("canary"), "{text}");
    let lines = requests(&text);
    for (line, told) in lines.iter().zip([&told, &begun]) {
        let (trace, span) = (line["trace.id"].as_str().unwrap(), line["span.id"].as_str().unwrap());
        assert!(told.contains(&format!("-{trace}-{span}-")), "{told}: {line}");
    }
}

#[tokio::test]
async fn a_share_of_the_reads_is_logged_and_every_write_and_error() {
    let mut settings = Settings::default();
    settings.log.read_sample = 0.5;
    record(Level::INFO);
    let world = world_with(settings).await;
    world.put("/config/web/dev/a", "1").await;
    for _ in 0..200 {
        world.get("/config/web/dev/a").await.expect(200);
        world.get("/config/web/dev/none").await.expect(404);
    }
    let lines = requests(&recorded());
    let count = |status: u64| {
        lines.iter().filter(|line| line["http.response.status_code"] == status).count()
    };
    assert_eq!((count(201), count(404)), (1, 200));
    assert!((50..150).contains(&count(200)), "{}", count(200));
}
