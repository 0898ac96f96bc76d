//! Puts the description together: each route with each of its methods, as the table of routes has
//! them, with what `rows` says of the operation that it comes to.

use axum::http::{HeaderMap, Method};
use schemars::SchemaGenerator;
use schemars::generate::SchemaSettings;
use serde_json::{Map, Value, json};

use super::super::error::Problem;
use super::super::item::Rendered;
use super::super::operation::{Operation, ROUTES, Route};
use super::super::watch::Moved;
use super::errors::{self, BodyKind};
use super::rows::{self, Body, Row};
use super::{headers, parameters};
use crate::settings::Settings;

/// Examples of bodies, by the names of their types.
const EXAMPLES: &str = include_str!("examples.json");

/// The whole description.
pub(super) fn document(settings: &Settings) -> Value {
    let mut schemas = Schemas::new();
    let mut paths = Map::new();
    for (pattern, route) in ROUTES {
        let mut item = Map::new();
        let methods = route.allow().split(", ").filter(|it| !matches!(*it, "HEAD" | "OPTIONS"));
        for method in methods {
            let Ok(of_table) = Method::from_bytes(method.as_bytes()) else { continue };
            let operation = route.operation(&of_table, &HeaderMap::new());
            let Some(row) = rows::of_operation(operation) else { continue };
            let described = describe(settings, &mut schemas, pattern, row);
            // A path has no such member for methods that HTTP does not know.
            let name = if method == "WATCH" { "x-watch".to_owned() } else { method.to_lowercase() };
            item.insert(name, described);
        }
        if route == Route::Document {
            also_a_watch(&mut item);
        }
        paths.insert(pattern.to_owned(), Value::Object(item));
    }
    schemas.answer::<Problem<'static>>();
    schemas.answer::<Rendered<'static>>();
    schemas.answer::<Moved<'static>>();
    json!({
        "openapi": "3.1.0",
        "jsonSchemaDialect": "https://json-schema.org/draft/2020-12/schema",
        "info": {
            "title": "Holm",
            "version": env!("CARGO_PKG_VERSION"),
            "summary": "Configurations and secrets for many regions.",
            "description": INTRODUCTION,
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "servers": [{"url": "/", "description": "The node that is asked; any node answers alike."}],
        "tags": [
            {"name": "Configurations", "description": "Read and written at any node, also where it is cut off from all others; changes made at the same time are kept as conflicts."},
            {"name": "Secrets", "description": "Decided by a quorum, sealed at rest."},
            {"name": "Access", "description": "Accounts, roles and the audit log: decided by a quorum."},
            {"name": "Cluster", "description": "For those who run it."},
            {"name": "Open to all", "description": "Takes no token."},
        ],
        "paths": paths,
        "components": {
            "schemas": schemas.all(),
            "responses": responses(),
            "headers": headers::components(),
            "securitySchemes": {
                "bearer": {
                    "type": "http",
                    "scheme": "bearer",
                    "bearerFormat": "JWT",
                    "description": "A token of this cluster's, or of an issuer that its settings name.",
                },
                "oauth2": {
                    "type": "oauth2",
                    "description": "An account's client secret for a token that is good for some minutes.",
                    "flows": {"clientCredentials": {"tokenUrl": "/oauth/token", "scopes": scopes()}},
                },
            },
        },
    })
}

const INTRODUCTION: &str = "\
Every region answers alone. Configurations are read and written where the client is and converge; \
secrets, accounts and roles are decided by a quorum.\n\n\
A refusal is a JSON object whose `error` is its name, with `detail` in words and RFC 9457's members. \
A parameter or a member that is not known is refused by name. HEAD is answered as GET without its body, \
OPTIONS with `Allow`, and a method that a path does not take with 405 and `Allow`.\n\n\
`Holm-Session` in an answer says what the client has seen; sent with the next request, to whichever region, \
it keeps what was seen from being unseen.";

/// What tokens may be narrowed to.
fn scopes() -> Map<String, Value> {
    let scopes = [
        ("config:read", "Read configurations; with `:web/*` only those."),
        ("config:write", "Write configurations; with `:web/dev` only those."),
        ("secrets:read", "See that secrets are there; with `:prod-*` only those."),
        ("secrets:reveal", "See their values."),
        ("secrets:write", "Make secrets and new versions."),
        ("secrets:delete", "Remove secrets."),
        ("access:read", "See accounts and roles."),
        ("access:manage", "Change accounts and roles."),
        ("audit:read", "See the audit log."),
        ("cluster:read", "See how the cluster stands."),
        ("cluster:manage", "Change the cluster."),
        ("cluster:backup", "Take backups."),
    ];
    scopes.into_iter().map(|(name, text)| (name.to_owned(), json!(text))).collect()
}

/// What types look like, those of bodies as they are read and those of answers as they are written.
struct Schemas {
    read: SchemaGenerator,
    written: SchemaGenerator,
    examples: Map<String, Value>,
}

impl Schemas {
    fn new() -> Self {
        let settings = || {
            SchemaSettings::draft2020_12().with(|settings| {
                settings.definitions_path = "/components/schemas".into();
                settings.meta_schema = None;
            })
        };
        Self {
            read: settings().for_deserialize().into_generator(),
            written: settings().for_serialize().into_generator(),
            examples: serde_json::from_str(EXAMPLES).unwrap_or_default(),
        }
    }

    fn answer<T: schemars::JsonSchema>(&mut self) {
        let _ = self.written.subschema_for::<T>();
    }

    /// A body with an example, where its type has one.
    fn media(&self, schema: &schemars::Schema) -> Value {
        let mut media = json!({"schema": schema});
        if let Some(example) = self.example(schema.as_value()) {
            media["example"] = example.clone();
        }
        media
    }

    fn example(&self, schema: &Value) -> Option<&Value> {
        let name = match schema.get("$ref") {
            Some(reference) => reference.as_str()?.rsplit('/').next()?,
            None if schema.as_object().is_some_and(Map::is_empty) => "value",
            None => return None,
        };
        self.examples.get(name)
    }

    fn all(mut self) -> Value {
        let mut all = self.written.take_definitions(true);
        all.extend(self.read.take_definitions(true));
        let unauthorized = json!({
            "description": "Whoever has no good token is told no reasons.",
            "type": "object",
            "properties": {"error": {"type": "string", "const": "Unauthorized"}},
            "required": ["error"],
        });
        all.insert("Unauthorized".to_owned(), unauthorized);
        if let Some(error) =
            all.get_mut("Problem").and_then(|it| it.pointer_mut("/properties/error"))
        {
            let mut names: Vec<&str> = errors::ALL.iter().map(|(_, name, _)| *name).collect();
            names.sort_unstable();
            names.dedup();
            *error = json!({"type": "string", "enum": names});
        }
        let mut all = Value::Object(all.into_iter().collect());
        whole_numbers(&mut all);
        all
    }
}

/// Formats that the OpenAPI registry has: whole numbers of other widths are told by their bounds.
fn whole_numbers(value: &mut Value) {
    match value {
        Value::Object(members) => {
            let format = members.get("format").and_then(Value::as_str).unwrap_or_default();
            if format.starts_with("uint") {
                let format = if format == "uint64" || format == "uint" { "int64" } else { "int32" };
                members.insert("format".to_owned(), json!(format));
            }
            members.values_mut().for_each(whole_numbers);
        }
        Value::Array(items) => items.iter_mut().for_each(whole_numbers),
        _ => {}
    }
}

/// One operation at one path.
fn describe(settings: &Settings, schemas: &mut Schemas, pattern: &str, row: &Row) -> Value {
    let operation = row.operation;
    let needs_token = operation.needs_token(settings.http.metrics_public);
    let mut all: Vec<Value> =
        Route::names(pattern).map(|name| parameters::in_path(name, operation)).collect();
    let query = operation.parameters().iter();
    all.extend(query.map(|name| parameters::in_query(name, operation, settings)));
    let headers = operation.headers().into_iter();
    all.extend(headers.map(|name| parameters::in_header(name, operation)));
    let mut described = json!({
        "operationId": id(pattern, row),
        "tags": [rows::tag(operation)],
        "summary": row.summary,
        "parameters": all,
        "security": if needs_token { security(row.needs) } else { json!([]) },
        "responses": answers(schemas, pattern, row, needs_token),
    });
    if !row.text.is_empty() {
        described["description"] = json!(row.text);
    }
    if let Some(body) = &row.body {
        described["requestBody"] = request_body(schemas, body);
    }
    described
}

/// A token that an issuer gave, or one of this cluster's with these scopes.
fn security(needs: &[&str]) -> Value {
    json!([{"bearer": []}, {"oauth2": needs}])
}

/// What generators of clients call it: no two alike.
fn id(pattern: &str, row: &Row) -> String {
    match (pattern, row.operation) {
        ("/.well-known/oauth-authorization-server", _) => "getAuthorizationServer".to_owned(),
        (
            "/cluster/history/{environment}",
            Operation::PutHistoryPolicy | Operation::RemoveHistoryPolicy,
        ) => format!("{}OfEnvironment", row.id),
        _ => row.id.to_owned(),
    }
}

fn request_body(schemas: &mut Schemas, body: &Body) -> Value {
    let schema = (body.schema)(&mut schemas.read);
    let media = schemas.media(&schema);
    let content: Map<String, Value> =
        body.kinds.iter().map(|kind| ((*kind).to_owned(), media.clone())).collect();
    json!({"required": body.is_required, "content": content})
}

fn answers(schemas: &mut Schemas, pattern: &str, row: &Row, needs_token: bool) -> Value {
    let mut all = Map::new();
    let body = row.body.map(|body| body.taken_apart);
    for (status, names) in errors::of(row.operation, pattern, body, needs_token) {
        let text = names.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ");
        let reference = json!({
            "$ref": format!("#/components/responses/{status}"),
            "description": text,
        });
        all.insert(status.to_string(), reference);
    }
    for answer in row.answers {
        let names = match answer.status {
            400.. => headers::of_refusal(answer.status),
            _ => headers::of(row.operation),
        };
        let mut described =
            json!({"description": answer.text, "headers": headers::references(names)});
        if let Some((kind, schema)) = answer.body {
            let schema = schema(&mut schemas.written);
            described["content"] = json!({ kind: schemas.media(&schema) });
            // A token's refusals have a form of their own, and the node's own may come as well.
            if let (400.., Some(BodyKind::Form)) = (answer.status, body) {
                described["content"]["application/problem+json"] = problem("Problem");
            }
        }
        all.insert(answer.status.to_string(), described);
    }
    Value::Object(all)
}

fn problem(name: &str) -> Value {
    json!({"schema": {"$ref": format!("#/components/schemas/{name}")}})
}

/// Refusals, by status.
fn responses() -> Map<String, Value> {
    let mut all = Map::new();
    let mut statuses: Vec<u16> = errors::ALL.iter().map(|(status, _, _)| *status).collect();
    statuses.dedup();
    for status in statuses {
        let of_status = errors::ALL.iter().filter(|(of, _, _)| *of == status);
        let lines: Vec<String> =
            of_status.clone().map(|(_, name, text)| format!("`{name}`: {text}")).collect();
        let content = match status {
            401 => json!({"application/json": problem("Unauthorized")}),
            _ => json!({"application/problem+json": problem("Problem")}),
        };
        let response = json!({
            "description": lines.join("\n"),
            "headers": headers::references(headers::of_refusal(status)),
            "content": content,
        });
        all.insert(status.to_string(), response);
    }
    all
}

/// GET of a document is a watch to whoever accepts events.
fn also_a_watch(item: &mut Map<String, Value>) {
    let Some(watch) = item.get("x-watch").cloned() else { return };
    let Some(get) = item.get_mut("get") else { return };
    let parameters = watch["parameters"].as_array().cloned().unwrap_or_default();
    if let Some(all) = get["parameters"].as_array_mut() {
        let has = |all: &[Value], one: &Value| all.iter().any(|it| it["name"] == one["name"]);
        for mut parameter in parameters {
            // To whoever asks for a list it says nothing, whatever it is.
            if parameter["in"] == "header" {
                parameter["schema"] = json!({"type": "string"});
            }
            if !has(all, &parameter) {
                all.push(parameter);
            }
        }
    }
    let events = watch.pointer("/responses/200/content/text~1event-stream").cloned();
    get["responses"]["200"]["content"]["text/event-stream"] = events.unwrap_or_default();
    for (status, answer) in watch["responses"].as_object().into_iter().flatten() {
        let known = &mut get["responses"][status];
        match known["description"].as_str() {
            None => *known = answer.clone(),
            Some(text) if known.get("$ref").is_some() => {
                let mut names: Vec<&str> = text.split(", ").collect();
                names.extend(answer["description"].as_str().unwrap_or_default().split(", "));
                names.sort_unstable();
                names.dedup();
                known["description"] = json!(names.join(", "));
            }
            Some(_) => {}
        }
    }
    get["x-events"] = json!({
        "put": {"$ref": "#/components/schemas/Configuration"},
        "remove": {"$ref": "#/components/schemas/Configuration"},
        "ready": {"type": "object"},
        "reset": {"type": "object"},
        "moved": {"$ref": "#/components/schemas/Moved"},
    });
}
