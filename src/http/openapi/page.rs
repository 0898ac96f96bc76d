//! The description as a page to be read: HTML that is made here once, loads nothing and runs
//! nothing, so that it can be read where there is no network and under the strictest policy.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;
use sha2::{Digest as _, Sha256};

/// How it looks.
const STYLE: &str = include_str!("page.css");

/// The page, and the policy that it is to be shown under.
pub(super) struct Page {
    pub(super) html: String,
    pub(super) policy: String,
}

/// Makes the page.
pub(super) fn render(document: &Value) -> Page {
    let mut html = String::with_capacity(256 * 1024);
    let info = &document["info"];
    let title = format!("{} {}", text(&info["title"]), text(&info["version"]));
    html += "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">";
    html += "<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">";
    html += &format!("<title>{}</title><style>{STYLE}</style></head><body>", escape(&title));
    html += &format!("<header><h1>{}</h1>", escape(&title));
    paragraphs(&mut html, &info["description"]);
    html += "<p>For programs: <a href=\"openapi.json\">openapi.json</a>.</p></header>";
    contents(&mut html, document);
    html += "<main>";
    for tag in list(&document["tags"]) {
        let name = text(&tag["name"]);
        html += &format!("<h2 id=\"{}\">{}</h2>", anchor(name), escape(name));
        paragraphs(&mut html, &tag["description"]);
        for (path, method, operation) in operations(document, name) {
            one(&mut html, document, (path, method), operation);
        }
    }
    html += "<h2 id=\"types\">Types</h2>";
    for (name, schema) in members(&document["components"]["schemas"]) {
        let shown = serde_json::to_string_pretty(schema).unwrap_or_default();
        html += &format!("<details id=\"type-{name}\"><summary><code>{name}</code> ");
        html += &format!(
            "{}</summary><pre>{}</pre></details>",
            inline(first_line(schema)),
            escape(&shown)
        );
    }
    html += "</main></body></html>\n";
    let style = STANDARD.encode(Sha256::digest(STYLE));
    let policy = format!(
        "default-src 'none'; style-src 'sha256-{style}'; base-uri 'none'; form-action 'none'; \
         frame-ancestors 'none'"
    );
    Page { html, policy }
}

/// The operations of a part, in the order of their paths.
fn operations<'a>(
    document: &'a Value,
    tag: &'a str,
) -> impl Iterator<Item = (&'a str, &'a str, &'a Value)> {
    let paths = members(&document["paths"]);
    let all = paths.flat_map(|(path, item)| {
        members(item).map(move |(method, operation)| (path.as_str(), method.as_str(), operation))
    });
    all.filter(move |(_, _, operation)| operation["tags"][0] == tag)
}

fn shown(method: &str) -> String {
    method.trim_start_matches("x-").to_uppercase()
}

fn contents(html: &mut String, document: &Value) {
    *html += "<nav>";
    for tag in list(&document["tags"]) {
        let name = text(&tag["name"]);
        *html += &format!("<h2><a href=\"#{}\">{}</a></h2><ul>", anchor(name), escape(name));
        for (path, method, operation) in operations(document, name) {
            let id = text(&operation["operationId"]);
            let (method, path) = (shown(method), escape(path));
            *html += &format!("<li><a href=\"#{id}\"><b>{method}</b> <code>{path}</code></a>");
        }
        *html += "</ul>";
    }
    *html += "<h2><a href=\"#types\">Types</a></h2></nav>";
}

/// One operation.
fn one(html: &mut String, document: &Value, (path, method): (&str, &str), operation: &Value) {
    let id = text(&operation["operationId"]);
    *html += &format!(
        "<section id=\"{id}\"><h3><b>{}</b> <code>{}</code></h3>",
        shown(method),
        escape(path)
    );
    *html += &format!("<p>{}.</p>", inline(text(&operation["summary"])));
    paragraphs(html, &operation["description"]);
    let scopes = operation["security"].as_array().into_iter().flatten();
    let scopes = scopes.filter_map(|way| way.get("oauth2")).flat_map(list).map(text);
    let scopes: Vec<String> =
        scopes.map(|scope| format!("<code>{}</code>", escape(scope))).collect();
    *html += &match (list(&operation["security"]).next(), scopes.is_empty()) {
        (None, _) => "<p class=\"takes\">Takes no token.</p>".to_owned(),
        (Some(_), true) => "<p class=\"takes\">Takes a token.</p>".to_owned(),
        (Some(_), false) => {
            format!("<p class=\"takes\">Takes a token with {}.</p>", scopes.join(" and "))
        }
    };
    parameters(html, operation);
    if let Some(body) = operation.get("requestBody") {
        *html += "<h4>Body</h4>";
        content(html, &body["content"]);
    }
    *html += "<h4>Answers</h4><dl>";
    for (status, answer) in members(&operation["responses"]) {
        *html += &format!("<dt>{status}<dd>{}", inline(text(&answer["description"])));
        if answer.get("$ref").is_none() {
            content(html, &answer["content"]);
            let names = members(&answer["headers"]).map(|(name, _)| name.as_str());
            let names: Vec<&str> = names.collect();
            if !names.is_empty() {
                *html += &format!("<p class=\"headers\">{}</p>", escape(&names.join(", ")));
            }
        } else if let Some(described) = resolve(document, answer) {
            *html += "<details><summary>When</summary>";
            let known = text(&answer["description"]);
            for line in text(&described["description"]).lines() {
                // Only those that this operation is refused with.
                let name = line.split(':').next().unwrap_or_default();
                if known.contains(name) {
                    *html += &format!("<p>{}</p>", inline(line));
                }
            }
            *html += "</details>";
        }
    }
    *html += "</dl></section>";
}

fn parameters(html: &mut String, operation: &Value) {
    if list(&operation["parameters"]).next().is_none() {
        return;
    }
    *html += "<h4>Parameters</h4><dl>";
    for parameter in list(&operation["parameters"]) {
        let (name, place) = (text(&parameter["name"]), text(&parameter["in"]));
        let must = if parameter["required"] == true { ", required" } else { "" };
        *html += &format!("<dt><code>{}</code> <i>{place}{must}</i>", escape(name));
        *html += &format!("<dd>{}", inline(text(&parameter["description"])));
        let schema = serde_json::to_string(&parameter["schema"]).unwrap_or_default();
        *html += &format!(" <code class=\"schema\">{}</code>", escape(&schema));
    }
    *html += "</dl>";
}

fn content(html: &mut String, content: &Value) {
    for (kind, media) in members(content) {
        let reference = media["schema"]["$ref"].as_str().unwrap_or_default();
        let name = reference.rsplit('/').next().unwrap_or_default();
        *html += &format!("<p><code>{}</code>", escape(kind));
        if !name.is_empty() {
            *html += &format!(": <a href=\"#type-{name}\"><code>{name}</code></a>");
        }
        *html += "</p>";
        if let Some(example) = media.get("example") {
            let example = serde_json::to_string_pretty(example).unwrap_or_default();
            *html += &format!(
                "<details><summary>Example</summary><pre>{}</pre></details>",
                escape(&example)
            );
        }
    }
}

fn resolve<'a>(document: &'a Value, reference: &Value) -> Option<&'a Value> {
    document.pointer(reference["$ref"].as_str()?.strip_prefix('#')?)
}

fn first_line(schema: &Value) -> &str {
    text(&schema["description"]).lines().next().unwrap_or_default()
}

fn anchor(name: &str) -> String {
    name.to_lowercase().replace(' ', "-")
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

fn list(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}

fn members(value: &Value) -> impl Iterator<Item = (&String, &Value)> {
    value.as_object().into_iter().flatten()
}

fn paragraphs(html: &mut String, value: &Value) {
    for paragraph in text(value).split("\n\n").filter(|it| !it.is_empty()) {
        *html += &format!("<p>{}</p>", inline(paragraph));
    }
}

/// Escaped, with what stands between backticks as code.
fn inline(text: &str) -> String {
    let parts = text.split('`').enumerate();
    let parts = parts.map(|(at, part)| match at % 2 {
        0 => escape(part),
        _ => format!("<code>{}</code>", escape(part)),
    });
    parts.collect()
}

fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => escaped += "&amp;",
            '<' => escaped += "&lt;",
            '>' => escaped += "&gt;",
            '"' => escaped += "&quot;",
            '\'' => escaped += "&#39;",
            _ => escaped.push(c),
        }
    }
    escaped
}
