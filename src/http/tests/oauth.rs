//! Tokens of the cluster's own: asked for, used, narrowed and taken back.

use std::sync::atomic::Ordering;

use super::harness::{Answer, NOW_S, World, world_with};
use crate::access::account::Credential;
use crate::access::{Caller, credential};
use crate::audit::Source;
use crate::model::{AccountName, Id, RoleName, Stamp};
use crate::registry::command::{Expect, Founding};
use crate::registry::{Command, Outcome, Proposal, signing};
use crate::secrets::seal::{self, Purpose};
use crate::settings::{SecretSettings, Settings};
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use serde_json::{Value, json};

const ADMIN: Id = Id::from_u128(1);
const ADMIN_CREDENTIAL: Id = Id::from_u128(2);
const CI: Id = Id::from_u128(3);
const CI_CREDENTIAL: Id = Id::from_u128(4);
const NOW: Stamp = Stamp(NOW_S * 1_000_000);

fn credential_of(id: Id, expires_at: Option<Stamp>) -> (String, Credential) {
    let secret = credential::secret(id, &[5; 32]).to_string();
    let hash = credential::hash(&secret, &[6; 16]).unwrap();
    (secret, Credential { id, hash, created_at: NOW, expires_at })
}

/// A world that was founded, in which the account `ci` is a developer.
struct Founded {
    world: World,
    secret: String,
    admin_secret: String,
}

async fn founded() -> Founded {
    let mut key = [7; 32];
    key[0] = 1;
    let settings = Settings { secrets: SecretSettings::given([(1, key)]), ..Settings::default() };
    let world = world_with(settings).await;
    let keyring = world.app.node().keyring().clone();
    let generation = keyring.generation(1).unwrap();
    let kek = keyring.key(&generation).unwrap();
    let mut rng = world.app.0.env.entropy.stream("test");
    let (admin_secret, credential) = credential_of(ADMIN_CREDENTIAL, None);
    let founding = Founding {
        account: ADMIN,
        name: AccountName::new("root").unwrap(),
        credential,
        generation,
        signing: signing::make(kek, &mut rng, "test", NOW).unwrap(),
        hash_key: seal::seal_key(kek, &mut rng, "test", Purpose::HashKey, &[9; 32]).unwrap(),
    };
    let founded = Founded { world, secret: credential_of(CI_CREDENTIAL, None).0, admin_secret };
    founded.decide_as(None, Command::Found(Box::new(founding))).await;
    founded
        .decide(Command::CreateAccount {
            id: CI,
            name: AccountName::new("ci").unwrap(),
            roles: [RoleName::new("developer").unwrap()].into(),
            credential: Some(credential_of(CI_CREDENTIAL, None).1),
        })
        .await;
    founded
}

impl Founded {
    async fn decide(&self, command: Command) -> Outcome {
        self.decide_as(Some(crate::registry::fixture::of_account(ADMIN, None)), command).await
    }

    async fn decide_as(&self, caller: Option<Caller>, command: Command) -> Outcome {
        let source = Source { node: "here".into(), address: None, request: "r".into() };
        let proposal = Proposal { at: NOW, caller, source, idempotency: None, command };
        let deadline = tokio::time::Instant::now() + std::time::Duration::from_secs(5);
        self.world.app.quorum().propose(proposal, deadline).await.unwrap().outcome.unwrap()
    }

    async fn ask(&self, client: &str, secret: &str, more: &str) -> Answer {
        let basic = STANDARD.encode(format!("{client}:{secret}"));
        let form = format!("grant_type=client_credentials{more}");
        self.ask_with(Some(&format!("Basic {basic}")), &form).await
    }

    async fn ask_with(&self, authorization: Option<&str>, form: &str) -> Answer {
        let mut asking = self.world.request("POST", "/oauth/token").token(None).form(form);
        if let Some(authorization) = authorization {
            asking = asking.header("authorization", authorization);
        }
        asking.send().await
    }

    async fn token(&self, more: &str) -> String {
        let answer = self.ask("ci", &self.secret, more).await.expect(200).json();
        answer["access_token"].as_str().unwrap().to_owned()
    }

    async fn status(&self, token: &str, method: &str, path: &str, body: &str) -> u16 {
        let asking = self.world.request(method, path).token(Some(token)).body(body);
        asking.send().await.status.as_u16()
    }
}

fn claims_of(token: &str) -> Value {
    let payload = token.split('.').nth(1).unwrap();
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(payload).unwrap()).unwrap()
}

#[tokio::test]
async fn an_account_gets_a_token_that_does_what_its_roles_allow() {
    let founded = founded().await;
    let answer = founded.ask("ci", &founded.secret, "").await.expect(200);
    assert_eq!(answer.header("cache-control"), "no-store");
    let body = answer.json();
    assert_eq!((&body["token_type"], &body["expires_in"]), (&json!("Bearer"), &json!(900)));
    assert_eq!(body.get("scope"), None);
    let token = body["access_token"].as_str().unwrap();
    let claims = claims_of(token);
    assert_eq!(claims["iss"], "holm:test");
    assert_eq!((&claims["account"], &claims["sub"]), (&json!("ci"), &json!(CI.to_string())));
    assert_eq!(founded.status(token, "PUT", "/config/web/dev/a", "1").await, 201);
    assert_eq!(founded.status(token, "PUT", "/config/web/prod/a", "1").await, 403);
    let item = founded.world.get("/config/web/dev/a").await.expect(200).json();
    assert_eq!(item["updated_by"], "ci");
    // The secret in the form, and scopes that narrow.
    let form = format!(
        "grant_type=client_credentials&client_id=ci&client_secret={}&scope=config:read:web/dev",
        founded.secret
    );
    let body = founded.ask_with(None, &form).await.expect(200).json();
    assert_eq!(body["scope"], "config:read:web/dev");
    let narrow = body["access_token"].as_str().unwrap();
    assert_eq!(founded.status(narrow, "GET", "/config/web/dev/a", "").await, 200);
    assert_eq!(founded.status(narrow, "PUT", "/config/web/dev/a", "2").await, 403);
    assert_eq!(founded.status(narrow, "GET", "/config/web/prod", "").await, 403);
    // A scope that no role grants grants nothing.
    let wide = founded.token("&scope=config:write:web/prod").await;
    assert_eq!(founded.status(&wide, "PUT", "/config/web/prod/a", "1").await, 403);
}

#[tokio::test]
async fn bad_requests_are_refused_as_rfc_6749_says() {
    let founded = founded().await;
    let right = format!("Basic {}", STANDARD.encode(format!("ci:{}", founded.secret)));
    for (authorization, form, status, error) in [
        (Some(&right), "grant_type=password", 400, "unsupported_grant_type"),
        (Some(&right), "", 400, "invalid_request"),
        (Some(&right), "grant_type=client_credentials&scope=openid", 400, "invalid_scope"),
        (Some(&right), "grant_type=client_credentials&scope=config:reed", 400, "invalid_scope"),
        (Some(&right), "grant_type=a&grant_type=b", 400, "invalid_request"),
        (None, "grant_type=client_credentials", 401, "invalid_client"),
    ] {
        let answer = founded.ask_with(authorization.map(String::as_str), form).await;
        let answer = answer.expect(status);
        assert_eq!(answer.json()["error"], error, "{form}");
        assert_eq!(answer.header("cache-control"), "no-store");
    }
    let answer = founded.ask("ci", "wrong", "").await.expect(401);
    assert_eq!(answer.header("www-authenticate"), "Basic realm=\"holm\"");
    founded.world.request("GET", "/oauth/token").send().await.expect(405);
    let json = founded.world.request("POST", "/oauth/token").body("{}").send().await;
    assert_eq!(json.expect(400).json()["error"], "invalid_request");
}

#[tokio::test]
async fn whoever_is_refused_costs_the_same_work_and_is_told_the_same() {
    let founded = founded().await;
    let other = credential_of(Id::from_u128(77), None).0;
    let mut answers = Vec::new();
    for (client, secret) in [
        ("ci", other.as_str()),
        ("ci", founded.admin_secret.as_str()),
        ("ci", "hunter2"),
        ("nobody", founded.secret.as_str()),
        ("no/name", founded.secret.as_str()),
    ] {
        let before = founded.world.app.0.desk.hashes.load(Ordering::Relaxed);
        answers.push(founded.ask(client, secret, "").await.expect(401).body);
        let after = founded.world.app.0.desk.hashes.load(Ordering::Relaxed);
        assert_eq!(after - before, 1, "{client}");
    }
    answers.dedup();
    assert_eq!(answers.len(), 1, "{answers:?}");
}

#[tokio::test]
async fn what_is_taken_back_is_refused_at_once_remembered_tokens_too() {
    let founded = founded().await;
    let token = founded.token("").await;
    let read = || founded.status(&token, "GET", "/config/web/dev", "");
    assert_eq!((read().await, read().await), (200, 200));
    let enable = |enabled: bool| Command::UpdateAccount {
        id: CI,
        expect: Expect::Any,
        enabled: Some(enabled),
        roles: None,
    };
    founded.decide(enable(false)).await;
    assert_eq!(read().await, 401);
    let refused = founded.ask("ci", &founded.secret, "").await.expect(401).json();
    assert_eq!(refused["error"], "invalid_client");
    founded.decide(enable(true)).await;
    assert_eq!(read().await, 200);
    founded.decide(Command::RevokeCredential { account: CI, credential: CI_CREDENTIAL }).await;
    assert_eq!(read().await, 401);
    founded.ask("ci", &founded.secret, "").await.expect(401);
}

#[tokio::test]
async fn a_credential_that_expires_ends_with_its_tokens() {
    let founded = founded().await;
    let id = Id::from_u128(9);
    let (secret, credential) = credential_of(id, Some(Stamp(NOW.0 + 60_000_000)));
    founded.decide(Command::AddCredential { account: CI, credential }).await;
    let answer = founded.ask("ci", &secret, "").await.expect(200).json();
    assert_eq!(answer["expires_in"], 60);
    founded.world.clock.advance(std::time::Duration::from_secs(60));
    founded.ask("ci", &secret, "").await.expect(401);
}

#[tokio::test]
async fn a_new_key_takes_over_and_a_retired_ones_tokens_end() {
    let founded = founded().await;
    let admin = founded.ask("root", &founded.admin_secret, "").await.expect(200).json();
    let admin = admin["access_token"].as_str().unwrap().to_owned();
    let old = founded.token("").await;
    let kid = |token: &str| {
        let header = URL_SAFE_NO_PAD.decode(token.split('.').next().unwrap()).unwrap();
        serde_json::from_slice::<Value>(&header).unwrap()["kid"].as_str().unwrap().to_owned()
    };
    founded.world.clock.advance(std::time::Duration::from_secs(1));
    assert_eq!(founded.status(&old, "POST", "/cluster/signing-keys", "").await, 403);
    let add = founded.world.request("POST", "/cluster/signing-keys").token(Some(&admin));
    let added = add.send().await.expect(201).json();
    assert_eq!(kid(&founded.token("").await), kid(&old));
    founded.world.clock.advance(signing::PUBLISHED_BEFORE);
    let new = founded.token("").await;
    assert_eq!(added["kid"], kid(&new));
    assert_eq!(founded.status(&old, "GET", "/config/web/dev", "").await, 200);
    let path = format!("/cluster/signing-keys/{}", kid(&old));
    assert_eq!(founded.status(&new, "DELETE", &path, "").await, 403);
    assert_eq!(founded.status(&admin, "DELETE", &path, "").await, 204);
    assert_eq!(founded.status(&old, "GET", "/config/web/dev", "").await, 401);
    assert_eq!(founded.status(&admin, "GET", "/config/web/dev", "").await, 401);
    assert_eq!(founded.status(&new, "GET", "/config/web/dev", "").await, 200);
}

#[tokio::test]
async fn a_client_that_asks_too_often_is_told_when_to_come_back() {
    let founded = founded().await;
    let mut asked = 0;
    let refused = loop {
        let answer = founded.ask_with(Some("Basic bm9ib2R5Ong="), "grant_type=x").await;
        asked += 1;
        if answer.status == 429 {
            break answer;
        }
        assert!(asked < 100, "{answer:?}");
    };
    assert_eq!(refused.json()["error"], "temporarily_unavailable");
    assert!(refused.header("retry-after").parse::<u64>().unwrap() >= 1);
    // Other clients are not held up, and the refused cost no hash.
    founded.ask("ci", &founded.secret, "").await.expect(200);
    assert_eq!(founded.world.app.0.desk.hashes.load(Ordering::Relaxed), 1);
}

#[tokio::test]
async fn keys_and_endpoints_can_be_discovered_without_a_token() {
    let founded = founded().await;
    let get = |path: &str| {
        founded.world.request("GET", path).token(None).header("host", "holm.example:8101").send()
    };
    let jwks = get("/.well-known/jwks.json").await.expect(200).json();
    let key = &jwks["keys"][0];
    let shown = serde_json::to_string(&jwks).unwrap();
    assert_eq!(
        key.as_object().unwrap().keys().collect::<Vec<_>>(),
        ["alg", "crv", "kid", "kty", "use", "x"]
    );
    assert_eq!((&key["kty"], &key["alg"]), (&json!("OKP"), &json!("EdDSA")));
    assert!(!shown.contains("\"d\""), "{shown}");
    let expected = json!({
        "issuer": "holm:test",
        "token_endpoint": "http://holm.example:8101/oauth/token",
        "jwks_uri": "http://holm.example:8101/.well-known/jwks.json",
        "grant_types_supported": ["client_credentials"],
        "response_types_supported": [],
        "subject_types_supported": ["public"],
        "id_token_signing_alg_values_supported": ["EdDSA"],
        "token_endpoint_auth_methods_supported": ["client_secret_basic", "client_secret_post"],
    });
    for path in ["openid-configuration", "oauth-authorization-server"] {
        let found = get(&format!("/.well-known/{path}")).await.expect(200).json();
        assert_eq!(found, expected);
    }
    // The published key verifies the cluster's tokens elsewhere.
    let token = founded.token("").await;
    let settings = crate::settings::KeySettings {
        jwks: Some(String::new()),
        algorithms: vec![crate::settings::Algorithm::EdDSA],
        audience: "holm".to_owned(),
        issuer: Some("holm:test".to_owned()),
        ..Default::default()
    };
    let source = crate::access::token::KeySource { settings: &settings, text: &shown };
    let access = crate::settings::AccessSettings::default();
    let elsewhere = crate::access::Verifier::new(&access, "other", &[source]).unwrap();
    let nobody = std::collections::BTreeMap::new();
    assert!(elsewhere.verify(&token, NOW, &nobody).is_ok());
}
