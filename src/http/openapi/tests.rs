//! The description against the table of routes, against itself, and, by [`check`], against every
//! answer that any test of `http` reads.

use std::collections::BTreeSet;
use std::sync::OnceLock;

use serde_json::{Map, Value, json};

use super::{build, errors, headers, page, parameters};
use crate::http::operation::ROUTES;
use crate::http::tests::harness::{Answer, world};
use crate::settings::Settings;

fn document() -> &'static Value {
    document_of(true)
}

/// The same, as nodes have it that keep their metrics to who may see the cluster.
fn document_of(metrics_public: bool) -> &'static Value {
    static DOCUMENTS: [OnceLock<Value>; 2] = [const { OnceLock::new() }; 2];
    DOCUMENTS[usize::from(metrics_public)].get_or_init(|| {
        let mut settings = Settings::default();
        settings.http.metrics_public = metrics_public;
        build::document(&settings)
    })
}

/// All operations, with their paths and methods.
fn operations() -> impl Iterator<Item = (&'static str, &'static str, &'static Value)> {
    let paths = document()["paths"].as_object().unwrap();
    paths.iter().flat_map(|(path, item)| {
        let methods = item.as_object().unwrap().iter();
        methods.map(|(method, operation)| (path.as_str(), method.as_str(), operation))
    })
}

/// The operation that this request comes to, where it is described.
pub(in crate::http) fn described(method: &str, path: &str) -> Option<&'static Value> {
    described_in(document(), method, path)
}

fn described_in(document: &'static Value, method: &str, path: &str) -> Option<&'static Value> {
    let path = path.split('?').next().unwrap();
    let fits = |pattern: &str| {
        let (pattern, path) = (pattern.split('/'), path.split('/'));
        pattern.clone().count() == path.clone().count()
            && pattern
                .zip(path)
                .all(|(a, b)| if a.starts_with('{') { !b.is_empty() } else { a == b })
    };
    // What is written out goes before a name.
    let (pattern, _) = ROUTES
        .into_iter()
        .filter(|(it, _)| fits(it))
        .min_by_key(|(it, _)| it.matches('{').count())?;
    let name = match method {
        "WATCH" => "x-watch".to_owned(),
        "HEAD" => "get".to_owned(),
        _ => method.to_lowercase(),
    };
    document["paths"][pattern].get(&name)
}

fn resolve(value: &'static Value) -> &'static Value {
    match value.get("$ref").and_then(Value::as_str) {
        Some(reference) => {
            document().pointer(&reference[1..]).unwrap_or_else(|| panic!("{reference}"))
        }
        None => value,
    }
}

/// Panics where an answer is not what the description says of its operation: another status, another
/// error's name, another type, other members, or a header that is not named.
#[track_caller]
pub(in crate::http) fn check(metrics_public: bool, (method, path): (&str, &str), answer: &Answer) {
    let status = answer.status.as_u16();
    let operation = described_in(document_of(metrics_public), method, path);
    let Some(operation) = operation.filter(|_| status != 405 && method != "HEAD") else {
        return;
    };
    let shown = format!("{method} {path}: {answer:?}");
    let known = operation["responses"].get(status.to_string());
    let known = known.unwrap_or_else(|| panic!("the status is not described: {shown}"));
    let response = resolve(known);
    let kind = answer.headers.get("content-type").map(|kind| kind.to_str().unwrap());
    let kind = kind.and_then(|kind| kind.split(';').next()).unwrap_or_default();
    let names = response["headers"].as_object().unwrap();
    for name in answer.headers.keys().map(|name| name.as_str()) {
        let is_known = names.keys().any(|known| known.eq_ignore_ascii_case(name));
        assert!(is_known || UNTOLD.contains(&name), "the header {name} is not described: {shown}");
    }
    let Some(content) = response.get("content") else {
        assert!(answer.body.is_empty(), "no body is described: {shown}");
        return;
    };
    let media = content.get(kind).unwrap_or_else(|| panic!("the type is not described: {shown}"));
    if !kind.contains("json") {
        return;
    }
    let body = answer.json();
    if let Err(why) = validate(&media["schema"], &body) {
        panic!("{why}: {shown}");
    }
    if let (true, Some(text)) = (known.get("$ref").is_some(), known["description"].as_str()) {
        let name = format!("`{}`", body["error"].as_str().unwrap());
        assert!(text.contains(&name), "{name} is not described, {text} are: {shown}");
    }
}

/// What HTTP itself takes care of.
const UNTOLD: [&str; 8] = [
    "content-type",
    "content-length",
    "allow",
    "pragma",
    "x-accel-buffering",
    "x-content-type-options",
    "referrer-policy",
    "cross-origin-opener-policy",
];

/// Whether a value is of a schema, where a member that is not described is a fault.
fn validate(schema: &'static Value, value: &Value) -> Result<(), String> {
    fits(schema, value)?;
    let Some(members) = value.as_object() else { return Ok(()) };
    let mut known = BTreeSet::new();
    if !is_open(schema, &mut known) {
        let unknown: Vec<&String> =
            members.keys().filter(|it| !known.contains(it.as_str())).collect();
        if !unknown.is_empty() {
            return Err(format!("{unknown:?} are not described"));
        }
    }
    Ok(())
}

/// Gathers the members of an object; whether it may have others.
fn is_open(schema: &'static Value, known: &mut BTreeSet<&'static str>) -> bool {
    let schema = resolve(schema);
    let own = schema.get("properties").and_then(Value::as_object);
    known.extend(own.into_iter().flatten().map(|(name, _)| name.as_str()));
    let kinds = ["anyOf", "oneOf", "allOf"].map(|kind| schema.get(kind).and_then(Value::as_array));
    let kinds: Vec<&'static Value> = kinds.into_iter().flatten().flatten().collect();
    let additional = schema.get("additionalProperties").is_some_and(|it| *it != Value::Bool(false));
    let says_nothing = own.is_none() && kinds.is_empty();
    let open = kinds.into_iter().filter(|it| it["type"] != "null").map(|it| is_open(it, known));
    open.fold(false, |a, b| a | b) || additional || says_nothing
}

fn is_of_type(kind: &str, value: &Value) -> bool {
    match kind {
        "null" => value.is_null(),
        "boolean" => value.is_boolean(),
        "integer" => value.is_u64() || value.is_i64(),
        "number" => value.is_number(),
        "string" => value.is_string(),
        "array" => value.is_array(),
        "object" => value.is_object(),
        _ => panic!("the type {kind}"),
    }
}

/// JSON Schema, as far as the description uses it; more of it is a panic, not a pass.
fn fits(schema: &'static Value, value: &Value) -> Result<(), String> {
    let Some(rules) = schema.as_object() else { return Ok(()) };
    let wrong = |what: &str| Err(format!("{what}: {value} is not {schema}"));
    let number = |limit: &Value| limit.as_f64().unwrap();
    let len = || match value {
        Value::String(text) => Some(text.chars().count()),
        Value::Array(items) => Some(items.len()),
        Value::Object(members) => Some(members.len()),
        _ => None,
    };
    let of = |list: &'static Value| list.as_array().unwrap().iter();
    for (rule, says) in rules {
        let holds = match rule.as_str() {
            "$ref" => return validate(resolve(schema), value),
            "type" => match says {
                Value::String(kind) => is_of_type(kind, value),
                _ => of(says).any(|kind| is_of_type(kind.as_str().unwrap(), value)),
            },
            "enum" => of(says).any(|it| it == value),
            "const" => says == value,
            "oneOf" => of(says).filter(|it| validate(it, value).is_ok()).count() == 1,
            "uniqueItems" => {
                let items = value.as_array().into_iter().flatten().map(Value::to_string);
                items.clone().collect::<BTreeSet<_>>().len() == items.count()
            }
            "anyOf" => of(says).any(|it| {
                validate(it, value).is_ok() || (says_members(rules) && fits(it, value).is_ok())
            }),
            "required" => of(says).all(|it| value.get(it.as_str().unwrap()).is_some()),
            "minimum" => value.as_f64().is_none_or(|it| it >= number(says)),
            "maximum" => value.as_f64().is_none_or(|it| it <= number(says)),
            "minLength" | "minItems" | "minProperties" => {
                len().is_none_or(|it| it as f64 >= number(says))
            }
            "maxLength" | "maxItems" => len().is_none_or(|it| it as f64 <= number(says)),
            "properties" => {
                for (name, schema) in says.as_object().unwrap() {
                    value.get(name).map_or(Ok(()), |value| validate(schema, value))?;
                }
                true
            }
            "items" => {
                value.as_array().into_iter().flatten().try_for_each(|it| validate(says, it))?;
                true
            }
            "additionalProperties" => {
                let own = rules.get("properties").and_then(Value::as_object);
                let others = value.as_object().into_iter().flatten();
                let mut others =
                    others.filter(|(name, _)| own.is_none_or(|own| !own.contains_key(*name)));
                match says {
                    Value::Bool(is_open) => *is_open || others.next().is_none(),
                    _ => {
                        others.try_for_each(|(_, value)| validate(says, value))?;
                        true
                    }
                }
            }
            // Checked where the contract is: tests/contract.
            "pattern" | "propertyNames" | "format" | "description" | "title" | "default" => true,
            _ => panic!("the rule {rule} of {schema}"),
        };
        if !holds {
            return wrong(rule);
        }
    }
    Ok(())
}

/// Whether members stand beside a choice: then neither knows of all.
fn says_members(rules: &Map<String, Value>) -> bool {
    rules.contains_key("properties")
}

#[test]
fn every_route_and_method_is_described() {
    let mut ids = BTreeSet::new();
    for (path, route) in ROUTES {
        for method in route.allow().split(", ").filter(|it| !matches!(*it, "HEAD" | "OPTIONS")) {
            let name = if method == "WATCH" { "x-watch".to_owned() } else { method.to_lowercase() };
            let operation = &document()["paths"][path][&name];
            assert!(operation.is_object(), "{method} {path} has no row in openapi/rows: add one");
            let id = operation["operationId"].as_str().unwrap();
            assert!(ids.insert(id), "{id} stands twice");
            assert!(!operation["summary"].as_str().unwrap().is_empty(), "{id}");
            assert_ne!(operation["tags"][0], "Others", "{id}");
        }
    }
    assert_eq!(operations().count(), ids.len());
}

#[test]
fn whatever_is_named_is_described_in_words() {
    let text = document().to_string();
    assert!(!text.contains(parameters::UNKNOWN), "a parameter is not described");
    for (path, method, operation) in operations() {
        for parameter in operation["parameters"].as_array().unwrap() {
            assert!(
                parameter["description"].as_str().unwrap().ends_with('.'),
                "{method} {path}: {parameter}"
            );
        }
    }
    assert!(text.len() < 400_000, "{}", text.len());
}

#[test]
fn every_reference_leads_somewhere() {
    fn walk(value: &'static Value) {
        match value {
            Value::Object(members) => {
                if members.contains_key("$ref") {
                    resolve(value);
                }
                members.values().for_each(walk);
            }
            Value::Array(items) => items.iter().for_each(walk),
            _ => {}
        }
    }
    walk(document());
    // Two types of one name would be told apart by a number.
    let names = document()["components"]["schemas"].as_object().unwrap().keys();
    for name in names {
        assert!(!name.ends_with(|c: char| c.is_ascii_digit()), "{name}");
    }
}

#[test]
fn the_errors_are_those_of_the_table() {
    let golden: Value =
        serde_json::from_str(include_str!("../../../tests/golden/errors.json")).unwrap();
    let pair = |it: &Value| {
        (it["status"].as_u64().unwrap() as u16, it["body"]["error"].as_str().unwrap().to_owned())
    };
    let table: BTreeSet<(u16, String)> = golden.as_array().unwrap().iter().map(pair).collect();
    let described = errors::ALL.iter().map(|(status, name, _)| (*status, (*name).to_owned()));
    assert_eq!(described.clone().collect::<BTreeSet<_>>(), table);
    let once: BTreeSet<_> = described.clone().collect();
    assert_eq!(once.len(), errors::ALL.len(), "each once");
    assert!(errors::ALL.is_sorted_by_key(|(status, ..)| *status), "in the order of their statuses");
    // Each is met somewhere, apart from the one that is of no operation.
    for (status, name, _) in errors::ALL.iter().filter(|(status, ..)| *status != 405) {
        let met = |(_, _, operation): (&str, &str, &Value)| {
            let text = operation["responses"][status.to_string()]["description"].as_str();
            text.is_some_and(|text| text.contains(&format!("`{name}`")))
        };
        assert!(operations().any(met), "{status} {name} is of no operation");
    }
}

#[test]
fn every_body_has_an_example_that_is_one() {
    let mut count = 0;
    for (path, method, operation) in operations() {
        let answers = operation["responses"].as_object().unwrap().values();
        let answers = answers.filter(|it| it.get("$ref").is_none()).map(|it| &it["content"]);
        for content in answers.chain([&operation["requestBody"]["content"]]) {
            for (kind, media) in content.as_object().into_iter().flatten() {
                let is_problem = kind == "application/problem+json" || path == "/openapi.json";
                if is_problem || !(kind.contains("json") || kind.contains("form")) {
                    continue;
                }
                let example = media.get("example");
                let example =
                    example.unwrap_or_else(|| panic!("{method} {path} {kind} has no example"));
                validate(&media["schema"], example)
                    .unwrap_or_else(|why| panic!("{method} {path}: {why}"));
                count += 1;
            }
        }
    }
    assert!(count > 70, "{count}");
}

#[test]
fn what_is_not_described_is_found() {
    let schema = &document()["components"]["schemas"]["Configuration"];
    let good =
        &document()["paths"]["/config/{service}/{environment}/{key}"]["get"]["responses"]["200"];
    let good = &good["content"]["application/json"]["example"];
    assert_eq!(validate(schema, good), Ok(()));
    let changed = |name: &str, value: Option<Value>| {
        let mut changed = good.clone();
        match value {
            Some(value) => changed[name] = value,
            None => drop(changed.as_object_mut().unwrap().remove(name)),
        }
        validate(schema, &changed)
    };
    assert!(changed("new", Some(json!(1))).is_err(), "a member that nobody described");
    assert!(changed("version", Some(json!("7"))).is_err(), "another type");
    assert!(changed("region", None).is_err(), "a member that is gone");
    assert!(changed("conflicts", Some(json!([{"value": 1}]))).is_err(), "deeper down");
    assert!(changed("value", Some(json!({"any": ["thing"]}))).is_ok());
    assert!(described("PUT", "/config/a/b/c?message=x").is_some());
    assert!(described("GET", "/nowhere").is_none() && described("PUT", "/config/a/b").is_none());
}

#[test]
fn headers_are_described_once() {
    let names: BTreeSet<&str> = headers::ALL.iter().map(|(name, ..)| *name).collect();
    assert_eq!(names.len(), headers::ALL.len());
}

#[test]
fn the_page_shows_every_operation_and_runs_nothing() {
    let page = page::render(document());
    for (path, _, operation) in operations() {
        let id = operation["operationId"].as_str().unwrap();
        assert!(page.html.contains(&format!("<section id=\"{id}\">")), "{id}");
        assert!(page.html.contains(&format!("href=\"#{id}\"")), "{id} is in the contents");
        assert!(page.html.contains(path), "{path}");
    }
    for name in document()["components"]["schemas"].as_object().unwrap().keys() {
        assert!(page.html.contains(&format!("id=\"type-{name}\"")), "{name}");
    }
    for loads in
        ["<script", "<img", "<link", "<iframe", "src=", "url(", "@import", "style=\"", " on"]
    {
        let inside_a_tag = page.html.split('<').filter_map(|part| part.split('>').next());
        let found = match loads {
            "url(" | "@import" => page.html.contains(loads),
            _ => inside_a_tag.map(|tag| format!("<{tag}")).any(|tag| tag.contains(loads)),
        };
        assert!(!found, "{loads}");
    }
    assert!(page.policy.starts_with("default-src 'none'; style-src 'sha256-"), "{}", page.policy);
    assert!(page.html.len() < 500_000, "{}", page.html.len());
}

#[test]
fn what_a_page_shows_is_escaped() {
    let document = json!({
        "info": {"title": "<b>", "version": "\"1\"", "description": "a `<i>` & <u>"},
        "tags": [], "paths": {}, "components": {"schemas": {}},
    });
    let html = page::render(&document).html;
    assert!(html.contains("<title>&lt;b&gt; &quot;1&quot;</title>"), "{html}");
    assert!(html.contains("a <code>&lt;i&gt;</code> &amp; &lt;u&gt;"), "{html}");
}

#[tokio::test]
async fn both_are_public_and_kept_by_their_tags() {
    let world = world().await;
    for (path, kind) in
        [("/openapi.json", "application/json"), ("/docs", "text/html; charset=utf-8")]
    {
        let answer = world.request("GET", path).token(None).send().await.expect(200);
        assert_eq!(answer.header("content-type"), kind);
        assert_eq!(answer.header("x-content-type-options"), "nosniff");
        let tag = answer.header("etag");
        let again =
            world.request("GET", path).token(None).header("if-none-match", tag).send().await;
        assert_eq!((again.expect(304).body.as_str(), answer.body.len() > 10_000), ("", true));
        let policy = answer.headers.get("content-security-policy");
        assert_eq!(policy.is_some(), path == "/docs");
        world.request("GET", &format!("{path}?x=1")).send().await.expect_error(400, "BadQuery");
        world.request("POST", path).send().await.expect_error(405, "MethodNotAllowed");
    }
    let served = world.get("/openapi.json").await.json();
    assert_eq!(served["openapi"], "3.1.0");
    assert_eq!(&served, document(), "with the settings that this node has");
}
