use super::*;
use crate::access::{MintKey, TokenError};
use crate::env::{Disk as _, MemoryDisk};
use crate::model::{Stamp, Text};
use crate::settings::{AccessSettings, Algorithm};
use axum::Router;
use axum::http::StatusCode;
use axum::routing::get;
use serde_json::json;
use std::collections::BTreeMap;
use std::sync::Mutex;

const NOW_S: u64 = 1_700_000_000;
const NONE: BTreeMap<Text, [u8; 32]> = BTreeMap::new();

type Answer = Arc<Mutex<(StatusCode, String)>>;

/// An issuer's key set over HTTP; ends with its test.
async fn issuer(jwks: &str) -> (String, Answer) {
    let answer: Answer = Arc::new(Mutex::new((StatusCode::OK, jwks.to_owned())));
    let shown = answer.clone();
    let app = Router::new().route("/jwks", get(async move || shown.lock().unwrap().clone()));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/jwks", listener.local_addr().unwrap());
    tokio::spawn(async move { axum::serve(listener, app).await });
    (url, answer)
}

fn settings(url: &str) -> Settings {
    let key = KeySettings {
        jwks_url: Some(url.to_owned()),
        algorithms: vec![Algorithm::EdDSA],
        audience: "holm".to_owned(),
        issuer: Some("idp".to_owned()),
        ..KeySettings::default()
    };
    let access = AccessSettings { keys: vec![key], ..AccessSettings::default() };
    let settings = Settings { access, ..Settings::default() };
    settings.check().unwrap();
    settings
}

fn key(seed: u8) -> MintKey {
    MintKey::from_seed(&[seed; 32]).unwrap()
}

async fn issuers(settings: &Settings, disk: &MemoryDisk) -> Issuers {
    let env = Env::in_memory(disk.clone(), None);
    let kept = kept(&env, settings, "test").await;
    let source = KeySource { settings: &settings.access.keys[0], text: &kept[0] };
    let verifier = Verifier::new(&settings.access, "test", &[source]).unwrap();
    Issuers::new(Arc::new(verifier), env, settings)
}

impl Issuers {
    fn takes(&self, key: &MintKey) -> Result<bool, TokenError> {
        let claims = json!({"sub": "ada", "aud": "holm", "iss": "idp", "exp": NOW_S + 60});
        let token = key.sign(&claims).unwrap();
        let verified = self.verifier.verify(&token, Stamp(NOW_S * 1_000_000), &NONE);
        verified.map(|(_, known)| known)
    }
}

#[tokio::test]
async fn keys_are_fetched_replaced_and_kept_for_a_start_without_the_issuer() {
    let (url, answer) = issuer(&key(1).jwks()).await;
    let (settings, disk) = (settings(&url), MemoryDisk::new());
    let first = issuers(&settings, &disk).await;
    assert_eq!(first.takes(&key(1)), Err(TokenError::NoKey));
    assert!(first.refresh().await);
    assert_eq!(first.takes(&key(1)), Ok(false));
    assert!(first.refresh().await);
    assert_eq!(first.takes(&key(1)), Ok(true));
    answer.lock().unwrap().1 = key(2).jwks();
    assert!(first.refresh().await);
    assert_eq!(first.takes(&key(1)), Err(TokenError::NoKey));
    assert_eq!(first.takes(&key(2)), Ok(false));
    // The issuer is away, and the node starts again.
    answer.lock().unwrap().0 = StatusCode::BAD_GATEWAY;
    let second = issuers(&settings, &disk).await;
    assert_eq!(second.takes(&key(2)), Ok(false));
    assert!(!second.refresh().await);
    assert_eq!(second.takes(&key(2)), Ok(true));
    // What was kept is damaged: as if there were nothing.
    disk.write(&file_name(&url), b"{torn", true).unwrap();
    assert_eq!(issuers(&settings, &disk).await.takes(&key(2)), Err(TokenError::NoKey));
}

#[tokio::test]
async fn what_is_no_key_set_is_refused_and_the_known_keys_stay() {
    let (url, answer) = issuer(&key(1).jwks()).await;
    let issuers = issuers(&settings(&url), &MemoryDisk::new()).await;
    assert!(issuers.refresh().await);
    for bad in [
        String::new(),
        "<html>".to_owned(),
        r#"{"keys":[]}"#.to_owned(),
        r#"{"keys":[{"kty":"oct","k":"AAAA"}]}"#.to_owned(),
        format!("{{\"keys\":[{}]}}", " ".repeat(BYTES_MAX)),
    ] {
        answer.lock().unwrap().1 = bad;
        assert!(!issuers.refresh().await);
        assert!(issuers.takes(&key(1)).is_ok());
    }
}

#[tokio::test]
async fn an_unknown_kid_fetches_once_the_pause_is_over() {
    let (url, answer) = issuer(&key(1).jwks()).await;
    let issuers = Arc::new(issuers(&settings(&url), &MemoryDisk::new()).await);
    let (stop, stopped) = watch::channel(false);
    let running = Issuers {
        sources: issuers.sources.clone(),
        verifier: issuers.verifier.clone(),
        env: issuers.env.clone(),
    };
    let running = tokio::spawn(running.run(stopped));
    let taken = async |seed: u8| {
        while issuers.takes(&key(seed)).is_err() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    let limit = Duration::from_secs(20);
    tokio::time::timeout(limit, taken(1)).await.expect("fetched at the start");
    answer.lock().unwrap().1 = key(2).jwks();
    // Time is moved on only while nothing is under way.
    tokio::time::pause();
    tokio::time::advance(PAUSE).await;
    tokio::time::resume();
    tokio::time::timeout(limit, taken(2)).await.expect("fetched when asked for");
    stop.send_replace(true);
    running.await.unwrap();
}

#[test]
fn a_url_has_to_be_safe() {
    let with = |url: &str, ca: bool| {
        let mut settings =
            Settings { access: settings("http://127.0.0.1/").access, ..Settings::default() };
        settings.access.keys[0].jwks_url = Some(url.to_owned());
        settings.access.keys[0].jwks_ca = ca.then(String::new);
        settings.check().is_ok()
    };
    for (url, ca, good) in [
        ("https://idp.example/jwks", true, true),
        ("https://idp.example/jwks", false, false),
        ("http://localhost:8080/jwks", false, true),
        ("http://[::1]:8080/jwks", false, true),
        ("http://idp.example/jwks", true, false),
        ("http://localhost@idp.example/jwks", true, false),
        ("http://localhost.idp.example/jwks", true, false),
        ("file:///etc/jwks", true, false),
        ("idp.example/jwks", true, false),
        ("https:///jwks", true, false),
    ] {
        assert_eq!(with(url, ca), good, "{url}");
    }
}
