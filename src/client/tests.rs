//! Claims about the client, against a stub of a node.

use std::time::Duration;

use axum::http::StatusCode;

use super::stub::Stub;
use super::{
    Client, ClientCredential, ClientError, ClientSettings, Watch, WatchEvent, WatchSettings, Write,
};
use crate::model::vector::{Dot, Origin};
use crate::model::{DocumentId, JsonText, Key, Session};

fn document() -> DocumentId {
    DocumentId::parse("web/dev").unwrap()
}

fn write(key: &str, value: &str) -> Write {
    Write::new(Key::new(key).unwrap(), JsonText::parse(value).unwrap())
}

fn header(stub: &Stub, name: &str) -> Vec<Option<String>> {
    let node = stub.node();
    let of = node.requests.iter().map(|(_, headers, _)| headers.get(name));
    of.map(|value| value.map(|value| value.to_str().unwrap().to_owned())).collect()
}

#[tokio::test]
async fn every_page_of_a_list_is_followed_and_digits_are_kept() {
    let stub = Stub::start().await;
    let client = Client::new(&format!("{}/", stub.url), None).unwrap();
    let writes: Vec<Write> =
        (0..8).map(|i| write(&format!("k{i}"), &format!("1.{i}00000000000000000000001"))).collect();
    client.write(&document(), &writes, Some("why")).await.unwrap();
    let items = client.list(&document(), None).await.unwrap();
    let values: Vec<Write> =
        items.into_iter().map(|item| Write::new(item.key, item.value)).collect();
    assert_eq!(values, writes);
    assert_eq!(client.list(&document(), Some("k7")).await.unwrap().len(), 1);
    let body = stub.node().requests[0].2.clone();
    assert!(body.ends_with(r#","message":"why"}"#), "{body}");
}

#[tokio::test]
async fn the_session_of_an_answer_goes_with_the_next_request_and_never_back() {
    let stub = Stub::start().await;
    let client = Client::new(&stub.url, Some("t")).unwrap();
    let other = Dot { origin: Origin([9; 8]), n: 5 };
    client.include_session(&Session::of([other].into_iter().collect()).encode());
    client.write(&document(), &[write("a", "1")], None).await.unwrap();
    client.get(&document(), &Key::new("a").unwrap()).await.unwrap();
    let sent = header(&stub, "holm-session").pop().unwrap().unwrap();
    let sent = Session::decode(&sent).unwrap().config;
    assert!(sent.names(other), "what was seen elsewhere is still asked for");
    assert!(sent.names(Dot { origin: Origin([1; 8]), n: 1 }));
    assert_eq!(header(&stub, "authorization")[0].as_deref(), Some("Bearer t"));
    client.include_session("from a later program");
    assert_eq!(client.session().as_deref(), Some("from a later program"));
}

#[tokio::test]
async fn a_write_that_too_few_regions_have_is_told_from_one_that_enough_have() {
    let stub = Stub::start().await;
    let settings =
        ClientSettings { ack: Some("all".to_owned()), ..ClientSettings::new(&stub.url, None) };
    let client = Client::with(settings).unwrap();
    assert!(client.write(&document(), &[write("a", "1")], None).await.unwrap().acknowledged);
    client.documents().await.unwrap();
    assert_eq!(header(&stub, "holm-ack"), [Some("all".to_owned()), None]);
    stub.node().next_answer = Some((
        StatusCode::ACCEPTED,
        r#"{"receipts":[{"region":"eu","has":true},{"region":"us","has":false}],"items":[]}"#
            .into(),
    ));
    let written = client.write(&document(), &[write("a", "2")], None).await.unwrap();
    assert!(!written.acknowledged);
    let has: Vec<bool> = written.receipts.iter().map(|receipt| receipt.has).collect();
    assert_eq!(has, [true, false]);
}

#[tokio::test]
async fn an_error_has_its_status_name_and_detail() {
    let stub = Stub::start().await;
    let client = Client::new(&stub.url, None).unwrap();
    let error = client.get(&document(), &Key::new("none").unwrap()).await.unwrap_err();
    assert!(error.is_not_found());
    assert_eq!(error.to_string(), "NotFound: no such key (HTTP 404)");
    stub.node().next_answer = Some((StatusCode::BAD_GATEWAY, "<html>".into()));
    let error = client.documents().await.unwrap_err();
    assert_eq!(error.refusal().map(|refusal| refusal.status), Some(502));
    stub.node().next_answer = Some((StatusCode::OK, "<html>".into()));
    assert!(matches!(client.documents().await, Err(ClientError::Answer(_))));
}

#[tokio::test]
async fn what_cannot_be_reached_or_used_says_so() {
    let nobody = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", nobody.local_addr().unwrap());
    let settings =
        ClientSettings { timeout: Duration::from_millis(50), ..ClientSettings::new(&url, None) };
    let silent = Client::with(settings).unwrap().documents().await;
    assert!(matches!(silent, Err(ClientError::TimedOut { .. })));
    drop(nobody);
    let refused = Client::new(&url, None).unwrap().documents().await;
    assert!(matches!(refused, Err(ClientError::Connection { connected: false, .. })));
    for bad in ["localhost:1", "ftp://x", ""] {
        assert!(matches!(Client::new(bad, None), Err(ClientError::Settings(_))), "{bad}");
    }
    for token in ["", "a\nb", "ä"] {
        let client = Client::new("http://localhost", Some(token));
        assert!(matches!(client, Err(ClientError::Settings(_))), "{token:?}");
    }
}

fn put(key: &str, version: u64) -> String {
    format!(
        "event: put\ndata: {{\"key\":\"{key}\",\"value\":null,\"version\":{version},\
         \"service\":\"web\",\"environment\":\"dev\"}}\n"
    )
}

async fn next(watch: &mut Watch) -> String {
    let event = tokio::time::timeout(Duration::from_secs(10), watch.next()).await.unwrap();
    match event.unwrap() {
        WatchEvent::Put(item) => format!("{} {}", item.key, item.version),
        WatchEvent::Remove(removed) => format!("-{}", removed.key),
        WatchEvent::Ready => "ready".to_owned(),
        WatchEvent::Reset => "reset".to_owned(),
        WatchEvent::Moved { url } => format!("moved to {url}"),
        WatchEvent::Lost { .. } => "lost".to_owned(),
    }
}

#[tokio::test]
async fn a_watch_goes_on_from_its_last_session_and_gives_nothing_twice() {
    let stub = Stub::start().await;
    let (a, b, c) = (put("a", 1), put("b", 1), put("c", 2));
    stub.node().watches = [
        // Lost in its first state: begins again.
        format!("{a}\n"),
        format!("{a}\n{b}id: s1\n\nevent: ready\ndata: {{}}\n\n{c}\n"),
        // Lost within a change: only what is new is given.
        format!(
            "{c}\nevent: remove\nid: s2\ndata: {{\"key\":\"a\",\"version\":2}}\n\n: heartbeat\n\n"
        ),
        format!("event: reset\ndata: {{}}\n\n{c}id: s3\n\n"),
    ]
    .into();
    let client = Client::new(&stub.url, None).unwrap();
    let settings = WatchSettings { prefix: Some("x".to_owned()), ..WatchSettings::default() };
    let mut watch = client.watch(&document(), settings);
    let mut seen = Vec::new();
    while seen.last().is_none_or(|last| last != "c 2") || watch.session() != Some("s3") {
        seen.push(next(&mut watch).await);
    }
    assert_eq!(
        seen,
        [
            "a 1", "lost", "reset", "a 1", "b 1", "ready", "c 2", "lost", "-a", "lost", "reset",
            "c 2"
        ]
    );
    let sent = header(&stub, "last-event-id");
    assert_eq!(sent, [None, None, Some("s1".to_owned()), Some("s2".to_owned())]);
    assert!(stub.asked().iter().all(|line| line == "GET /config/web/dev?prefix=x"));
}

#[tokio::test]
async fn a_watch_that_is_sent_elsewhere_goes_on_there_at_once() {
    let (from, to) = (Stub::start().await, Stub::start().await);
    let (a, b) = (put("a", 1), put("b", 1));
    // Nobody listens at the first, and the second would be without TLS for who has it.
    let moved = format!(
        "event: moved\ndata: {{\"reason\":\"draining\",\"session\":\"s2\",\"nodes\":[\
         {{\"region\":\"a\",\"name\":\"a-2\",\"url\":\"http://127.0.0.1:1\"}},\
         {{\"region\":\"a\",\"name\":\"a-3\"}},\
         {{\"region\":\"b\",\"name\":\"b-1\",\"url\":\"{}\"}}]}}\nid: s2\n\n",
        to.url
    );
    from.node().watches = [format!("{a}id: s1\n\n{moved}"), String::new()].into();
    to.node().watches = [format!("{b}id: s3\n\n"), String::new()].into();
    let client = Client::new(&from.url, None).unwrap();
    let mut watch = client.watch(&document(), WatchSettings::default());
    let mut seen = Vec::new();
    while seen.last().is_none_or(|last| last != "b 1") {
        seen.push(next(&mut watch).await);
    }
    assert_eq!(seen, ["a 1".to_owned(), format!("moved to {}", to.url), "b 1".to_owned()]);
    assert_eq!(header(&to, "last-event-id"), [Some("s2".to_owned())], "with what was seen");
    // It stays there, as long as there is somebody.
    assert_eq!(next(&mut watch).await, "lost");
    to.node().next_answer = Some((StatusCode::FORBIDDEN, r#"{"error":"Forbidden"}"#.into()));
    assert_eq!(next(&mut watch).await, "lost", "what that one refuses, the first may not");
    to.node().requests.clear();
    from.node().watches = [format!("{}id: s4\n\n", put("c", 1)), String::new()].into();
    assert_eq!(next(&mut watch).await, "c 1");
    assert_eq!(to.node().requests.len(), 0);
}

#[test]
fn a_token_is_not_sent_without_tls_because_a_node_says_so() {
    let client = Client::new("https://holm.example.com", Some("t")).unwrap();
    for bad in ["http://10.0.0.1:80", "ftp://x", "nonsense", ""] {
        assert!(client.at(bad).is_none(), "{bad}");
    }
    let there = client.at("https://10.0.0.1:80/").unwrap();
    assert_eq!(there.regions()[0].url, "https://10.0.0.1:80");
}

#[tokio::test]
async fn a_watch_that_waiting_cannot_mend_ends() {
    let stub = Stub::start().await;
    stub.node().next_answer =
        Some((StatusCode::UNAUTHORIZED, r#"{"error":"Unauthorized"}"#.into()));
    let client = Client::new(&stub.url, None).unwrap();
    let mut watch = client.watch(&document(), WatchSettings::default());
    assert_eq!(watch.next().await.unwrap_err().refusal().map(|r| r.status), Some(401));
    stub.node().next_answer = Some((StatusCode::SERVICE_UNAVAILABLE, "{}".into()));
    assert_eq!(next(&mut watch).await, "lost");
}

#[tokio::test]
async fn a_client_gets_its_tokens_itself_and_keeps_them_until_they_are_refused() {
    let stub = Stub::start().await;
    let credential = ClientCredential { client_id: "a:b".into(), secret: "s+c".into() };
    let settings =
        ClientSettings { credential: Some(credential), ..ClientSettings::new(&stub.url, None) };
    assert!(!format!("{settings:?}").contains("s+c"));
    let client = Client::with(settings).unwrap();
    let issued = |token: &str| {
        let body =
            format!(r#"{{"access_token":"{token}","token_type":"Bearer","expires_in":900}}"#);
        stub.node().next_answer = Some((StatusCode::OK, body));
    };
    issued("first");
    client.documents().await.unwrap();
    client.documents().await.unwrap();
    let seen = |at: usize| {
        let node = stub.node();
        let (what, headers, body) = &node.requests[at];
        let bearer = headers.get("authorization").map(|it| it.to_str().unwrap().to_owned());
        (what.split(['?', ' ']).nth(1).unwrap().to_owned(), bearer, body.clone())
    };
    let form = "grant_type=client_credentials&client_id=a%3Ab&client_secret=s%2Bc";
    assert_eq!(seen(0), ("/oauth/token".into(), None, form.into()));
    for at in [1, 2] {
        assert_eq!((&*seen(at).0, seen(at).1.as_deref()), ("/config", Some("Bearer first")));
    }
    let refused = r#"{"error":"Unauthorized"}"#.to_owned();
    stub.node().next_answer = Some((StatusCode::UNAUTHORIZED, refused));
    assert!(client.documents().await.is_err());
    issued("second");
    client.documents().await.unwrap();
    assert_eq!(seen(5).1.as_deref(), Some("Bearer second"));
    assert_eq!(stub.node().requests.len(), 6);
}

#[tokio::test]
async fn a_wrong_secret_is_told_by_its_name() {
    let stub = Stub::start().await;
    let credential = ClientCredential { client_id: "ci".into(), secret: "x".into() };
    let settings =
        ClientSettings { credential: Some(credential), ..ClientSettings::new(&stub.url, None) };
    let client = Client::with(settings).unwrap();
    let refused = r#"{"error":"invalid_client","detail":"no"}"#.to_owned();
    stub.node().next_answer = Some((StatusCode::UNAUTHORIZED, refused));
    let Err(ClientError::Refused(refusal)) = client.log_in(None).await else { panic!() };
    assert_eq!((refusal.status, &*refusal.name), (401, "invalid_client"));
}
