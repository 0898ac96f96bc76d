//! The parameters of paths, queries and headers, by name: how each looks and what it means. Which
//! operation takes which is `operation::takes`'s.

use schemars::{JsonSchema as _, Schema, SchemaGenerator, json_schema};
use serde_json::{Value, json};

use super::super::operation::Operation;
use crate::model::{AccountName, Environment, Key, NodeName, RoleName, SecretName, Service};
use crate::settings::Settings;

/// What a cursor and a session are made of.
const BASE64: &str = "^[A-Za-z0-9_-]+$";

/// A length of time, as it is best written; others that people write are taken as well.
const TIME: &str = "([0-9]{1,4}m ?)?[0-9]{1,6}(ms|s)";
/// How many regions; no more than there are.
const REGIONS: &str = "(local|majority|all|[1-9][0-9]{0,3})";

/// A path's name.
pub(super) fn in_path(name: &str, operation: Operation) -> Value {
    let g = &mut SchemaGenerator::default();
    let (text, schema) = match name {
        "service" => ("Whose configuration it is.", Service::json_schema(g)),
        "environment" => ("Where that service runs.", Environment::json_schema(g)),
        "key" => ("The configuration's key.", Key::json_schema(g)),
        "version" => (
            "A version's number; `number@origin` where regions gave the same one at the same time, also \
             after the others of them went.",
            json_schema!({"type": "string", "pattern": "^[1-9][0-9]{0,18}(@[0-9a-f]{16})?$"}),
        ),
        "account" => ("The account's id or name.", AccountName::json_schema(g)),
        "credential" => {
            ("The credential's id.", json_schema!({"type": "string", "format": "uuid"}))
        }
        "role" => ("The role's id or name.", RoleName::json_schema(g)),
        "secret" => ("The secret's id or name.", SecretName::json_schema(g)),
        "generation" => (
            "The generation's number.",
            json_schema!({"type": "integer", "format": "int64", "minimum": 1, "maximum": u32::MAX}),
        ),
        "change" => (
            "What is to be done with the node.",
            json_schema!({"type": "string", "enum": ["add", "remove", "transfer"]}),
        ),
        "node" => ("The node's name.", NodeName::json_schema(g)),
        "kid" => (
            "The key's id, as `/.well-known/jwks.json` has it.",
            json_schema!({"type": "string", "minLength": 1, "maxLength": 255, "pattern": "^[A-Za-z0-9._~-]+$"}),
        ),
        _ => unknown(name, operation),
    };
    json!({
        "name": name,
        "in": "path",
        "required": true,
        "description": text,
        "schema": schema,
        "example": example(name, operation),
    })
}

/// What stands in an example in place of a name.
fn example(name: &str, operation: Operation) -> &'static str {
    match name {
        "service" => "web",
        "environment" => "dev",
        "key" => "color",
        "version" => "1",
        "account" => "deployer",
        "credential" => "018f2b1c-5d2e-4b7a-9c3d-0a1b2c3d4e5f",
        "role" => "developer",
        "secret" => "prod-db-password",
        "generation" => "1",
        "change" => "transfer",
        "node" => "eu-west-1",
        "kid" => "first",
        _ => unknown(name, operation).0,
    }
}

/// A query's parameter.
pub(super) fn in_query(name: &str, operation: Operation, settings: &Settings) -> Value {
    let (text, schema) = of_query(name, operation, settings);
    json!({
        "name": name,
        "in": "query",
        "required": is_required(name, operation),
        "description": text,
        "schema": schema,
    })
}

/// Whether the operation can't do without it.
fn is_required(name: &str, operation: Operation) -> bool {
    match operation {
        Operation::ExplainAccess => matches!(name, "account" | "action"),
        Operation::GetReceipts => name == "session",
        _ => false,
    }
}

fn of_query(name: &str, operation: Operation, settings: &Settings) -> (&'static str, Schema) {
    let text = || json_schema!({"type": "string"});
    let session = || json_schema!({"type": "string", "pattern": BASE64});
    let time = || json_schema!({"type": "string", "format": "date-time"});
    let (size, size_default) = (settings.limits.page_size_max, settings.limits.page_size_default);
    match name {
        "size" => (
            "Most items in the page.",
            json_schema!({"type": "integer", "minimum": 1, "maximum": size, "default": size_default}),
        ),
        "cursor" => (
            "The `next_cursor` of the page before, from the same listing.",
            json_schema!({"type": "string", "pattern": BASE64, "maxLength": 8_192}),
        ),
        "prefix" => ("Only keys that begin with this.", text()),
        "resolve" => (
            "`secrets`: with the values of the secrets that values refer to by \
             `{\"$secret\": \"name\"}`. It takes leave to reveal each of them.",
            json_schema!({"type": "string", "enum": ["secrets"]}),
        ),
        "consistency" => (
            "`linearizable`: with everything that was decided before the request came. `local`: as \
             this node has it, without asking a quorum.",
            json_schema!({"type": "string", "enum": ["linearizable", "local"]}),
        ),
        "max_staleness_ms" => (
            "How old this node's copy may be, with `consistency=local`.",
            json_schema!({"type": "integer", "format": "int64", "minimum": 0}),
        ),
        "message" => (
            "Why, for the history.",
            json_schema!({"type": "string", "maxLength": settings.limits.message_bytes_max}),
        ),
        "expect_version" => (
            "The version that has to be there now; 0 where nothing may be.",
            json_schema!({"type": "integer", "format": "int64", "minimum": 0}),
        ),
        "since" => ("What the client has seen: the id of the last event.", session()),
        "session" => ("A write's `Holm-Session`.", session()),
        "account" => ("The account's id or name.", text()),
        "action" if operation == Operation::ExplainAccess => {
            ("What it wants to do.", json_schema!({"type": "string", "enum": actions()}))
        }
        "action" => ("Only this action: `config.write`, `secret.reveal`, ….", text()),
        "resource" => (
            "With what: `web/dev/a`, `web/dev`, or a secret's name; nothing for the cluster.",
            text(),
        ),
        "reveal" => (
            "Whether the value is shown. Default: to whoever may see it.",
            json_schema!({"type": "boolean"}),
        ),
        "version" => (
            "Which version. Default: the newest.",
            json_schema!({"type": "integer", "format": "int64", "minimum": 1, "maximum": u32::MAX}),
        ),
        "from" => ("Only from then on.", time()),
        "to" => ("Only before then.", time()),
        "principal" => ("Only by this one.", text()),
        "target" => ("Only on this.", text()),
        "decision" => (
            "Only what was allowed, or denied.",
            json_schema!({"type": "string", "enum": ["allowed", "denied"]}),
        ),
        "node" => ("Only what this node recorded.", text()),
        _ => unknown(name, operation),
    }
}

fn actions() -> Vec<String> {
    use crate::access::{ClusterAction, SecretAction};
    let of_secret = SecretAction::ALL.map(|action| format!("secrets:{}", action.name()));
    let of_cluster = ClusterAction::ALL.map(|action| action.name().to_owned());
    let of_config = ["config:read", "config:write"].map(str::to_owned);
    of_config.into_iter().chain(of_secret).chain(of_cluster).collect()
}

/// A request's header.
pub(super) fn in_header(name: &str, operation: Operation) -> Value {
    let text = json!({"type": "string"});
    let tags = json!({
        "type": "string",
        "pattern": "^(\\*|(W/)?\"[!#-~]*\"(, (W/)?\"[!#-~]*\")*)$",
    });
    let (words, schema) = match name {
        "Holm-Session" => (
            "What the client has seen, from the answer before: the request is answered from a state \
             that includes it, or with 412 `SessionNotReached`.",
            json!({"type": "string", "pattern": BASE64}),
        ),
        "Holm-Wait" => (
            "How long the session may be waited for: `250ms`, `2s`, `1m 30s`, up to the node's limit.",
            json!({"type": "string", "pattern": format!("^{TIME}$")}),
        ),
        "Holm-Inconsistent" => (
            "`serve`: answered anyway where the session is not reached, and the answer says so.",
            json!({"type": "string", "enum": ["serve"]}),
        ),
        "Holm-Ack" => (
            "How many regions must have the write on disk before it is answered: `local`, `2`, \
             `majority`, `all`; with `; timeout=2s`. Not reached in time: 202 with who has it.",
            json!({"type": "string", "pattern": format!("^{REGIONS}(; timeout={TIME})?$")}),
        ),
        "If-Match" => ("The `ETag` that has to be there now, or `*`.", tags),
        "If-None-Match" if operation.is_read() => {
            ("The `ETag` that the client has: 304 where it is that.", tags)
        }
        "If-None-Match" => ("`*`: nothing may be there.", json!({"type": "string", "enum": ["*"]})),
        "Idempotency-Key" => (
            "A name for this request: a retry with the same one is answered with what the first \
             came to. 1 to 255 visible ASCII characters.",
            json!({"type": "string", "minLength": 1, "maxLength": 255, "pattern": "^[!-~]+$"}),
        ),
        "Last-Event-ID" => (
            "What the client has seen, as browsers send it.",
            json!({"type": "string", "pattern": BASE64}),
        ),
        _ => (unknown(name, operation).0, text),
    };
    json!({"name": name, "in": "header", "required": false, "description": words, "schema": schema})
}

/// A name that nobody described: found by a test, not by a client.
fn unknown(name: &str, operation: Operation) -> (&'static str, Schema) {
    tracing::error!(name, operation = operation.label(), "a parameter is not described");
    (UNKNOWN, json_schema!({}))
}

/// Stands where words are missing.
pub(super) const UNKNOWN: &str = "Not described.";
