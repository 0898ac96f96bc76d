//! Generations of the master key, and rotation while others write and after a crash half-way.

use serde_json::{Value, json};

use super::harness::{World, world, world_with};
use crate::settings::{SecretSettings, Settings};

const MANAGE: &str = "cluster:read cluster:manage";
const SECRETS: &str = "secrets:*";

async fn post(world: &World, name: &str, value: &str) {
    let body = json!({"name": name, "value": value}).to_string();
    let status = world.ask(SECRETS, "POST /secrets", &body).await.status.as_u16();
    assert!(matches!(status, 200 | 201), "{status}");
}

async fn step(world: &World) -> Value {
    world.ask(MANAGE, "POST /cluster/keys/rotate", "{\"to\":2}").await.expect(200).json()
}

async fn value(world: &World, name: &str) -> Value {
    world.ask(SECRETS, &format!("GET /secrets/{name}"), "").await.expect(200).json()["value"]
        .clone()
}

#[tokio::test]
async fn a_rotation_goes_on_where_it_was_interrupted_while_others_write() {
    let world = world().await.found().await;
    for i in 0..300 {
        post(&world, &format!("s{i}"), &format!("value {i}")).await;
    }
    let before = world.ask(MANAGE, "GET /cluster/keys", "").await.expect(200).json();
    assert_eq!(before["generations"][0]["versions"], 300);
    assert_eq!(
        (&before["generations"][0]["held"], &before["waiting"]),
        (&json!("yes"), &json!([2]))
    );
    let retire = "DELETE /cluster/keys/1";
    world.ask(MANAGE, retire, "").await.expect_error(409, "Conflict");

    let first = step(&world).await;
    assert_eq!((&first["rewrapped"], &first["left"]), (&json!(258 - 2), &json!(46)));
    // A crash here leaves both in use: everything opens, and what is written uses the new one.
    world.ask(MANAGE, retire, "").await.expect_error(409, "Conflict");
    post(&world, "s0", "value 0 again").await;
    post(&world, "new", "value new").await;
    world.ask(SECRETS, "DELETE /secrets/s299", "").await.expect(204);
    for name in ["s0", "s1", "s298", "new"] {
        assert!(value(&world, name).await.as_str().unwrap().starts_with("value"), "{name}");
    }
    let mut left = u64::MAX;
    while left > 0 {
        let done = step(&world).await;
        let now = done["left"].as_u64().unwrap();
        assert!(now < left && done["damaged"] == json!([]), "{done}");
        left = now;
    }
    world.ask(MANAGE, retire, "").await.expect(204);
    let after = world.ask(MANAGE, "GET /cluster/keys", "").await.expect(200).json();
    let generations = after["generations"].as_array().unwrap();
    assert_eq!((generations.len(), &generations[0]["generation"]), (1, &json!(2)));
    assert_eq!(
        (&generations[0]["signing_keys"], &generations[0]["hash_keys"]),
        (&json!(1), &json!(1))
    );

    // The old key is not needed any more.
    let state = world.app.quorum().state();
    let secrets = SecretSettings::given([(2, [2; 32])]);
    let alone = world_with(Settings { secrets, ..Settings::default() }).await;
    alone.alone.tamper(|copy| *copy = (*state).clone());
    assert_eq!(value(&alone, "s0").await, "value 0 again");
    assert_eq!(value(&alone, "s298").await, "value 298");
    let line = "GET /secrets/s0?version=1";
    let old = alone.ask(SECRETS, line, "").await.expect(200).json();
    assert_eq!(old["value"], "value 0");
}

#[tokio::test]
async fn a_node_without_the_new_key_does_not_rotate_to_it() {
    let world = world().await.found().await;
    let rotate = |to: u32| async move { format!("{{\"to\":{to}}}") };
    let body = rotate(3).await;
    let refused = world.ask(MANAGE, "POST /cluster/keys/rotate", &body).await;
    refused.expect_error(409, "Conflict");
    let body = rotate(0).await;
    let refused = world.ask(MANAGE, "POST /cluster/keys/rotate", &body).await;
    refused.expect_error(409, "Conflict");
    for (line, scope) in [
        ("POST /cluster/keys/rotate", "cluster:read"),
        ("GET /cluster/keys", "config:*"),
        ("DELETE /cluster/keys/1", "cluster:read"),
    ] {
        world.ask(scope, line, "").await.expect_error(403, "Forbidden");
    }
    let state = world.app.quorum().state();
    assert_eq!(state.generations.len(), 1);
}

#[tokio::test]
async fn what_does_not_open_is_named_and_holds_the_old_key_but_not_the_others() {
    let world = world().await.found().await;
    post(&world, "good", "value").await;
    post(&world, "bad", "value").await;
    world.alone.tamper(|state| {
        let (id, secret) = state.secrets.iter().find(|(_, it)| it.name.as_str() == "bad").unwrap();
        let (id, mut secret) = (*id, (**secret).clone());
        let mut sealed = (*secret.versions[&1]).clone();
        sealed.wrapped[20] ^= 1;
        secret.versions.insert(1, sealed.into());
        state.secrets.insert(id, secret.into());
    });
    let done = step(&world).await;
    assert_eq!((&done["left"], &done["damaged"][0]["what"]), (&json!(1), &json!("bad@1")));
    world.ask(MANAGE, "DELETE /cluster/keys/1", "").await.expect_error(409, "Conflict");
    world.ask(SECRETS, "DELETE /secrets/bad", "").await.expect(204);
    world.ask(MANAGE, "DELETE /cluster/keys/1", "").await.expect(204);
    assert_eq!(value(&world, "good").await, "value");
}
