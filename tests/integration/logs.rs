//! The log of real processes as a pipeline gets it: every line is one JSON object with the Elastic
//! Common Schema's names and types, requests can be followed by their trace through the nodes, and
//! nothing that opens a door is in any line, however talkative the nodes are.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::cluster::{eventually, http};
use crate::process::Site;

const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";

/// What is sent to the nodes in every place where secrets are sent, rightly or not.
const CANARIES: [&str; 6] = [
    "canary-bearer",
    "canary-client-secret",
    "canary-cookie",
    "canary-query",
    "canary-path",
    "canary-value",
];

#[derive(Clone, Copy, Debug, PartialEq)]
enum Kind {
    Keyword,
    Time,
    Whole,
    Ip,
}

/// The schema's fields that nodes use. Anything else is `labels.…`, and text.
fn schema() -> BTreeMap<&'static str, Kind> {
    let keywords = [
        "log.level",
        "message",
        "ecs.version",
        "service.name",
        "service.version",
        "service.node.name",
        "event.dataset",
        "event.outcome",
        "log.logger",
        "trace.id",
        "span.id",
        "http.request.id",
        "http.request.method",
        "url.path",
        "user.name",
        "error.code",
        "error.message",
    ];
    let others = [
        ("@timestamp", Kind::Time),
        ("event.duration", Kind::Whole),
        ("http.response.status_code", Kind::Whole),
        ("client.ip", Kind::Ip),
    ];
    keywords.map(|name| (name, Kind::Keyword)).into_iter().chain(others).collect()
}

fn check(line: &str) -> Value {
    let value: Value = serde_json::from_str(line).unwrap_or_else(|e| panic!("{e}: {line}"));
    let schema = schema();
    for (name, field) in value.as_object().unwrap() {
        let text = field.as_str();
        let fits = match schema.get(&**name) {
            Some(Kind::Keyword) => text.is_some(),
            Some(Kind::Time) => text.is_some_and(|it| it.ends_with('Z') && it.len() == 27),
            Some(Kind::Whole) => field.is_u64(),
            Some(Kind::Ip) => text.is_some_and(|it| it.parse::<std::net::IpAddr>().is_ok()),
            None => name.starts_with("labels.") && name.matches('.').count() == 1 && text.is_some(),
        };
        assert!(fits, "{name} is no field of the schema, or of another type: {line}");
    }
    for needed in
        ["@timestamp", "log.level", "message", "ecs.version", "service.name", "event.dataset"]
    {
        assert!(value.get(needed).is_some(), "no {needed}: {line}");
    }
    value
}

async fn ask_with_canaries(site: &Site) {
    let [bearer, secret, cookie, query, path, value] = CANARIES;
    let at = |which: usize, path: &str| format!("http://127.0.0.1:{}{path}", site.http[which]);
    let bad_token = http().get(at(0, "/config/web/prod/a")).bearer_auth(bearer);
    let basic = http().post(at(0, "/oauth/token")).basic_auth("admin", Some(secret));
    let form_type = "application/x-www-form-urlencoded";
    let grant = "grant_type=client_credentials";
    let basic = basic.header("content-type", form_type).body(grant);
    let form = format!("{grant}&client_id=admin&client_secret={secret}");
    let form = http().post(at(1, "/oauth/token")).header("content-type", form_type).body(form);
    let cookie = http().get(at(0, "/cluster")).header("cookie", cookie);
    let query = http().get(at(0, &format!("/config/web/prod?access_token={query}")));
    let path = http().get(at(0, &format!("/config/{path}/prod/{path}/{path}/{path}")));
    let json = "application/json";
    let put = http().put(at(2, "/config/web/prod/a")).bearer_auth(&site.token);
    let put = put.header("content-type", json).body(format!("\"{value}\""));
    let broken = http().put(at(2, "/config/web/prod/a")).bearer_auth(&site.token);
    let broken = broken.header("content-type", json).body(format!("{{\"{value}\""));
    for request in [bad_token, basic, form, cookie, query, path, put, broken] {
        request.send().await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn lines_have_the_schemas_names_and_types_a_trace_goes_through_and_nothing_secret_does() {
    let site = Site::with(
        "[log]\nlevel = \"trace\"\nread_sample = 1.0\n",
        "config:* secrets:* cluster:read",
    );
    let processes: Vec<_> = (0..3).map(|which| site.serve_logged(which)).collect();
    let url = |which: usize, path: &str| format!("http://127.0.0.1:{}{path}", site.http[which]);
    eventually("the cluster is founded", async || {
        let answer = http().get(url(0, "/.well-known/jwks.json")).send().await;
        let Ok(answer) = answer else { return false };
        answer.text().await.is_ok_and(|text| text.contains("kid"))
    })
    .await;
    ask_with_canaries(&site).await;
    // By way of every node: all but the leader forward it.
    for which in 0..3 {
        let body = serde_json::json!({"name": format!("s{which}"), "value": CANARIES[5]});
        let put = http()
            .post(url(which, "/secrets"))
            .bearer_auth(&site.token)
            .header("traceparent", format!("00-{TRACE}-00f067aa0ba902b7-01"))
            .header("content-type", "application/json")
            .body(body.to_string());
        let answer = put.send().await.unwrap();
        assert_eq!(answer.status(), 201);
        let told = answer.headers()["traceparent"].to_str().unwrap();
        assert!(told.starts_with(&format!("00-{TRACE}-")), "{told}");
    }
    // Lines are written behind the requests.
    let logs = || {
        ["a", "b", "c"].map(|region| {
            std::fs::read_to_string(site.dir.path().join(format!("{region}.log"))).unwrap()
        })
    };
    eventually("the last requests are logged", async || {
        let requests = |text: &String| {
            text.lines().filter(|line| line.contains(TRACE) && line.contains("POST")).count()
        };
        logs().iter().map(requests).sum::<usize>() >= 3
    })
    .await;
    drop(processes);
    let (mut requests, mut forwarded, mut own) = (0, 0, 0);
    let signature = site.token.rsplit_once('.').unwrap().1;
    for text in logs() {
        // The last line may have been cut by the kill.
        let end = text.rfind('\n').unwrap();
        for line in text[..end].lines() {
            let value = check(line);
            let field = |name: &str| value[name].as_str().unwrap_or_default().to_owned();
            requests += usize::from(field("event.dataset") == "holm.request");
            own += usize::from(field("log.logger").starts_with("holm"));
            if field("trace.id") == TRACE && field("event.dataset") == "holm.forward" {
                forwarded += 1;
            }
            for hidden in CANARIES.iter().copied().chain([signature]) {
                assert!(!line.contains(hidden), "{hidden}: {line}");
            }
        }
    }
    assert!(requests >= 11, "only {requests} requests were logged");
    assert!(own > requests, "nothing else of ours was logged");
    assert!(forwarded >= 2, "two of three nodes do not lead: {forwarded}");
}
