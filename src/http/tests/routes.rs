//! Every route, asked without a token, with each built-in role, with exactly the grants it needs,
//! and with all others. A route that is added has to be added here.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::harness::{World, claims, world};
use crate::http::openapi;
use crate::http::operation::ROUTES;
use crate::model::{DocumentId, Id, Stamp};
use crate::registry::Command;
use crate::registry::command::Expect;
use crate::registry::fixture::{admin, credential, name, signing_key};
use serde_json::json;

/// One request.
struct Row {
    /// The route, as [`ROUTES`] has it.
    route: &'static str,
    method: &'static str,
    path: &'static str,
    body: &'static str,
    /// The grants that it takes: all of them.
    needs: &'static [&'static str],
    /// What it is answered with where it is allowed.
    status: u16,
    /// Whether an admin, a developer, an operator may.
    may: [bool; 3],
}

const fn row(
    route: &'static str,
    method: &'static str,
    (path, body): (&'static str, &'static str),
    needs: &'static [&'static str],
    status: u16,
    may: [bool; 3],
) -> Row {
    Row { route, method, path, body, needs, status, may }
}

const ALL: [bool; 3] = [true, true, true];
const CHANGE_DEV: [bool; 3] = [true, true, false];
const ADMIN: [bool; 3] = [true, false, false];
const READ: &[&str] = &["config:read"];
const WRITE: &[&str] = &["config:write"];
const SEE: &[&str] = &["access:read"];
const MANAGE: &[&str] = &["access:manage"];
const RUN: &[&str] = &["cluster:manage"];
const BACK_UP: &[&str] = &["cluster:backup"];
const NOBODY: [bool; 3] = [false; 3];
const WATCH_OVER: &[&str] = &["cluster:read"];
const AUDIT: &[&str] = &["audit:read"];
const SEE_SECRETS: &[&str] = &["secrets:read"];
const REVEAL: &[&str] = &["secrets:reveal"];

const DOCUMENT: &str = "/config/{service}/{environment}";
const KEY: &str = "/config/{service}/{environment}/{key}";
const VERSIONS: &str = "/config/{service}/{environment}/{key}/versions";
const VERSION: &str = "/config/{service}/{environment}/{key}/versions/{version}";
const RESTORE: &str = "/config/{service}/{environment}/{key}/restore";
const KEY_ROLES: &str = "/config/{service}/{environment}/{key}/roles";
const KEY_ROLE: &str = "/config/{service}/{environment}/{key}/roles/{role}";
const ACCOUNT: &str = "/accounts/{account}";
const CREDENTIALS: &str = "/accounts/{account}/credentials";
const CREDENTIAL: &str = "/accounts/{account}/credentials/{credential}";
const EXPLAIN: &str = "/access/explain";
const WHY: &str = "/access/explain?account=ada&action=access:read";
/// The credential that is there to be revoked.
const ONE: &str = "/accounts/ada/credentials/00000000-0000-0000-0000-00000000004d";
const BOUND: &str = "/config/web/bound/b/roles/team";
const SIGNING: &str = "/cluster/signing-keys";
const MEMBER: &str = "/cluster/quorum/{change}/{node}";
const SECRET: &str = "/secrets/{secret}";
const PUT_SECRET: &str = r#"{"name":"db","value":"x"}"#;
const HISTORY_OF: &str = "/cluster/history/{environment}";
const POLICY: &str = r#"{"versions":3,"age_s":0}"#;
const OPERATOR: [bool; 3] = [false, false, true];
const POST: &str = r#"{"key":"a","value":1}"#;
const BACK: &str = r#"{"version":1}"#;

const ROWS: &[Row] = &[
    row("/config", "GET", ("/config", ""), &[], 200, ALL),
    row(DOCUMENT, "GET", ("/config/web/dev", ""), READ, 200, ALL),
    row(DOCUMENT, "WATCH", ("/config/web/dev", ""), READ, 200, ALL),
    row(DOCUMENT, "POST", ("/config/web/dev", POST), WRITE, 200, CHANGE_DEV),
    row(DOCUMENT, "POST", ("/config/web/prod", POST), WRITE, 200, ADMIN),
    row(DOCUMENT, "DELETE", ("/config/web/dev", ""), WRITE, 200, CHANGE_DEV),
    row(DOCUMENT, "DELETE", ("/config/web/prod", ""), WRITE, 200, ADMIN),
    row(KEY, "GET", ("/config/web/prod/a", ""), READ, 200, ALL),
    row(KEY, "PUT", ("/config/web/dev/a", "1"), WRITE, 200, CHANGE_DEV),
    row(KEY, "PUT", ("/config/web/prod/a", "1"), WRITE, 200, ADMIN),
    row(KEY, "PATCH", ("/config/web/dev/a", "1"), WRITE, 200, CHANGE_DEV),
    row(KEY, "PATCH", ("/config/web/prod/a", "1"), WRITE, 200, ADMIN),
    row(KEY, "DELETE", ("/config/web/dev/a", ""), WRITE, 200, CHANGE_DEV),
    row(KEY, "DELETE", ("/config/web/prod/a", ""), WRITE, 200, ADMIN),
    row(VERSIONS, "GET", ("/config/web/prod/a/versions", ""), READ, 200, ALL),
    row(VERSION, "GET", ("/config/web/prod/a/versions/1", ""), READ, 200, ALL),
    row(
        RESTORE,
        "POST",
        ("/config/web/dev/a/restore", BACK),
        &["config:read", "config:write"],
        200,
        CHANGE_DEV,
    ),
    row(
        RESTORE,
        "POST",
        ("/config/web/prod/a/restore", BACK),
        &["config:read", "config:write"],
        200,
        ADMIN,
    ),
    row("/cluster", "GET", ("/cluster", ""), &["cluster:read"], 200, ALL),
    row(
        "/cluster/receipts",
        "GET",
        ("/cluster/receipts?session=AaEAoUgHBwcHBwcHBxkBLA", ""),
        &[],
        200,
        ALL,
    ),
    row("/cluster/certificates", "GET", ("/cluster/certificates", ""), &["cluster:read"], 200, ALL),
    row("/accounts", "GET", ("/accounts", ""), SEE, 200, ADMIN),
    row("/accounts", "POST", ("/accounts", r#"{"name":"new"}"#), MANAGE, 201, ADMIN),
    row(ACCOUNT, "GET", ("/accounts/ada", ""), SEE, 200, ADMIN),
    row(ACCOUNT, "PATCH", ("/accounts/ada", r#"{"enabled":false}"#), MANAGE, 200, ADMIN),
    row(ACCOUNT, "DELETE", ("/accounts/ada", ""), MANAGE, 204, ADMIN),
    row(CREDENTIALS, "POST", ("/accounts/ada/credentials", "{}"), MANAGE, 201, ADMIN),
    row(CREDENTIAL, "DELETE", (ONE, ""), MANAGE, 204, ADMIN),
    row("/roles", "GET", ("/roles", ""), SEE, 200, ADMIN),
    row("/roles", "POST", ("/roles", r#"{"name":"new","grants":[]}"#), MANAGE, 201, ADMIN),
    row("/roles/{role}", "GET", ("/roles/team", ""), SEE, 200, ADMIN),
    row("/roles/{role}", "PUT", ("/roles/team", r#"{"grants":["config:*"]}"#), MANAGE, 200, ADMIN),
    row("/roles/{role}", "DELETE", ("/roles/spare", ""), MANAGE, 204, ADMIN),
    row(KEY_ROLES, "GET", ("/config/web/bound/b/roles", ""), SEE, 200, ADMIN),
    row(KEY_ROLE, "PUT", (BOUND, ""), MANAGE, 204, ADMIN),
    row(KEY_ROLE, "DELETE", (BOUND, ""), MANAGE, 204, ADMIN),
    row(EXPLAIN, "GET", (WHY, ""), SEE, 200, ADMIN),
    row("/audit", "GET", ("/audit", ""), AUDIT, 200, ADMIN),
    row("/audit/verify", "GET", ("/audit/verify", ""), AUDIT, 200, ADMIN),
    row("/cluster/quorum", "GET", ("/cluster/quorum", ""), WATCH_OVER, 200, ALL),
    // The test's node decides alone, and says so to whoever may ask.
    row(MEMBER, "POST", ("/cluster/quorum/add/eu-west-1", ""), RUN, 409, ADMIN),
    row(MEMBER, "POST", ("/cluster/quorum/remove/eu-west-1", ""), RUN, 409, ADMIN),
    row(MEMBER, "POST", ("/cluster/quorum/transfer/eu-west-1", ""), RUN, 409, ADMIN),
    row("/cluster/backup", "GET", ("/cluster/backup", ""), BACK_UP, 200, NOBODY),
    row("/secrets", "GET", ("/secrets", ""), SEE_SECRETS, 200, ALL),
    row("/secrets", "POST", ("/secrets", PUT_SECRET), &["secrets:write"], 200, ADMIN),
    row(SECRET, "GET", ("/secrets/db", ""), SEE_SECRETS, 200, ALL),
    row(SECRET, "GET", ("/secrets/db?reveal=true", ""), REVEAL, 200, OPERATOR),
    row(SECRET, "DELETE", ("/secrets/db", ""), &["secrets:delete"], 204, ADMIN),
    row("/cluster/keys", "GET", ("/cluster/keys", ""), WATCH_OVER, 200, ALL),
    row("/cluster/keys/rotate", "POST", ("/cluster/keys/rotate", "{\"to\":1}"), RUN, 200, ADMIN),
    // The one that is in use stays.
    row("/cluster/keys/{generation}", "DELETE", ("/cluster/keys/1", ""), RUN, 409, ADMIN),
    row("/cluster/history", "GET", ("/cluster/history", ""), WATCH_OVER, 200, ALL),
    row("/cluster/history", "PUT", ("/cluster/history", POLICY), RUN, 204, ADMIN),
    row("/cluster/history", "DELETE", ("/cluster/history", ""), RUN, 204, ADMIN),
    row(HISTORY_OF, "PUT", ("/cluster/history/prod", POLICY), RUN, 204, ADMIN),
    row(HISTORY_OF, "DELETE", ("/cluster/history/prod", ""), RUN, 204, ADMIN),
    row(SIGNING, "POST", (SIGNING, ""), RUN, 201, ADMIN),
    row(
        "/cluster/signing-keys/{kid}",
        "DELETE",
        ("/cluster/signing-keys/older", ""),
        RUN,
        204,
        ADMIN,
    ),
];

/// What anybody may ask for.
const OPEN: [&str; 9] = [
    "/healthz",
    "/readyz",
    "/metrics",
    "/oauth/token",
    "/.well-known/jwks.json",
    "/.well-known/openid-configuration",
    "/.well-known/oauth-authorization-server",
    "/openapi.json",
    "/docs",
];

const GRANTS: [&str; 12] = [
    "config:read",
    "config:write",
    "secrets:read",
    "secrets:reveal",
    "secrets:write",
    "secrets:delete",
    "access:read",
    "access:manage",
    "audit:read",
    "cluster:read",
    "cluster:manage",
    "cluster:backup",
];

#[test]
fn every_route_and_method_is_in_the_table() {
    let known: BTreeSet<(&str, &str)> = ROWS.iter().map(|row| (row.route, row.method)).collect();
    for (path, route) in ROUTES {
        // HEAD is GET without a body; OPTIONS says what is allowed, to whoever asks.
        let methods = route.allow().split(", ").filter(|it| !matches!(*it, "HEAD" | "OPTIONS"));
        for method in methods {
            let is_known = known.contains(&(path, method)) || OPEN.contains(&path);
            assert!(is_known, "{method} {path} is not in the table of who may: add it");
        }
    }
}

#[test]
fn what_a_row_needs_is_what_is_described() {
    for row in ROWS.iter().filter(|row| !row.path.contains("reveal=true")) {
        let operation = openapi::tests::described(row.method, row.path).unwrap();
        assert_eq!(
            operation["security"][1]["oauth2"],
            json!(row.needs),
            "{} {}",
            row.method,
            row.path
        );
        let status = operation["responses"].get(row.status.to_string());
        assert!(status.is_some(), "{}: {} {}", row.status, row.method, row.path);
    }
    for path in OPEN.into_iter().filter(|path| *path != "/metrics") {
        let method = if path == "/oauth/token" { "POST" } else { "GET" };
        assert_eq!(
            openapi::tests::described(method, path).unwrap()["security"],
            json!([]),
            "{path}"
        );
    }
}

/// A header that is wrong is refused by whoever is described to take it, and by nobody else.
#[tokio::test]
async fn headers_are_taken_where_they_are_described() {
    let world = world().await.found().await;
    for row in ROWS {
        let operation = openapi::tests::described(row.method, row.path).unwrap();
        let parameters = operation["parameters"].as_array().unwrap();
        let enough = world.token(&row.needs.join(" "));
        for (header, bad) in [
            ("Holm-Session", "%%"),
            ("Holm-Wait", "soon"),
            ("Holm-Inconsistent", "yes"),
            ("Holm-Ack", "everyone"),
            ("If-Match", "{}"),
            ("If-None-Match", "{}"),
            ("Idempotency-Key", ""),
            ("Last-Event-ID", "%%"),
        ] {
            prepare(&world).await;
            let asked = world.request(row.method, row.path).token(Some(&enough));
            let asked = if row.body.is_empty() { asked } else { asked.body(row.body) };
            let found = asked.header(header, bad).open().await.status().as_u16();
            // What cannot be checked of all keys is not passed over.
            let is_of_one_key = row.route == DOCUMENT && row.method == "DELETE";
            let is_refused = is_of_one_key && header.starts_with("If-");
            // Of GET, a watch takes it and a list does not.
            let is_of_watch = row.method == "GET" && header == "Last-Event-ID";
            let is_described =
                is_refused || !is_of_watch && parameters.iter().any(|it| it["name"] == header);
            // What the request before took away may be gone; that is no fault of the header.
            let shown = format!("{found}: {header} of {} {}", row.method, row.path);
            assert_eq!(found == 400, is_described, "{shown}");
        }
    }
}

/// Whatever a row takes or changes is there again.
async fn prepare(world: &World) {
    for path in ["/config/web/dev/a", "/config/web/prod/a"] {
        let put = world.request("PUT", path).scope("config:*").body("0").send().await;
        assert!(put.status.is_success(), "{put:?}");
    }
    let role = |id, text: &str| Command::CreateRole {
        id: Id::from_u128(id),
        name: name(text),
        grants: vec![],
    };
    let ada = Command::CreateAccount {
        id: Id::from_u128(70),
        name: name("ada"),
        roles: [].into(),
        credential: None,
    };
    let gone = |text: &str| world.app.state().rules.account_ids.get(text).copied();
    if let Some(id) = gone("new") {
        world
            .decide(Some(admin()), Command::DeleteAccount { id, expect: Expect::Any })
            .await
            .unwrap();
    }
    let new_role = world.app.state().rules.role_ids.get("new").copied();
    if let Some(id) = new_role {
        world.decide(Some(admin()), Command::DeleteRole { id, expect: Expect::Any }).await.unwrap();
    }
    // There may be only so many keys, and the newest cannot go.
    world.alone.tamper(|state| {
        let added = state.signing.keys().filter(|kid| &***kid != "first").cloned();
        for kid in added.collect::<Vec<_>>() {
            state.signing.remove(&kid);
        }
        state.signing.insert("older".into(), Arc::new(signing_key("older", Stamp(0))));
    });
    let secret = world.ask("secrets:write", "POST /secrets", PUT_SECRET).await.status;
    assert!(secret.is_success(), "{secret}");
    let account = Id::from_u128(70);
    let commands = [
        // With all its credentials: there may be only so many.
        Command::DeleteAccount { id: account, expect: Expect::Any },
        ada,
        Command::AddCredential { account, credential: credential(Id::from_u128(77)) },
        role(71, "team"),
        role(72, "spare"),
        Command::Bind {
            document: DocumentId::parse("web/bound").unwrap(),
            key: name("b"),
            role: name("team"),
        },
    ];
    for command in commands {
        // What is there already is there.
        let _ = world.decide(Some(admin()), command).await;
    }
}

async fn status(world: &World, row: &Row, token: Option<&str>) -> u16 {
    prepare(world).await;
    let asked = world.request(row.method, row.path).token(token);
    let asked = if row.body.is_empty() { asked } else { asked.body(row.body) };
    asked.open().await.status().as_u16()
}

#[tokio::test]
async fn without_a_token_every_route_of_the_table_is_closed() {
    let world = world().await.found().await;
    for row in ROWS {
        assert_eq!(status(&world, row, None).await, 401, "{} {}", row.method, row.path);
    }
}

#[tokio::test]
async fn each_role_may_do_what_its_row_says() {
    for (at, role) in ["admin", "developer", "operator", "nobody"].into_iter().enumerate() {
        let world = world().await.found().await;
        let mut claims = claims("");
        claims["roles"] = json!([role]);
        let token = world.mint.sign(&claims).unwrap();
        for row in ROWS {
            let may = row.may.get(at).copied().unwrap_or(row.needs.is_empty());
            let expected = if may { row.status } else { 403 };
            let found = status(&world, row, Some(&token)).await;
            assert_eq!(found, expected, "{role}: {} {}", row.method, row.path);
        }
    }
}

#[tokio::test]
async fn each_row_takes_the_grants_it_says_and_no_others_do() {
    let world = world().await.found().await;
    for row in ROWS {
        let enough = world.token(&row.needs.join(" "));
        let found = status(&world, row, Some(&enough)).await;
        assert_eq!(found, row.status, "with {:?}: {} {}", row.needs, row.method, row.path);
        for missing in row.needs {
            // Whoever may see a secret's value may see its columns.
            let stands_in = |grant: &str| {
                (grant, *missing) == ("secrets:reveal", "secrets:read") && row.route == SECRET
            };
            let others = GRANTS.into_iter().filter(|grant| grant != missing && !stands_in(grant));
            let others: Vec<&str> = others.collect();
            let token = world.token(&others.join(" "));
            let found = status(&world, row, Some(&token)).await;
            assert_eq!(found, 403, "without {missing}: {} {}", row.method, row.path);
        }
    }
}
