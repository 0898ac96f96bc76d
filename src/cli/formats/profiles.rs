//! Which environments a document of a Spring file belongs to. Takes names joined by `|` or `,`;
//! refuses `!`, `&` and brackets, because an environment that is *not* something has no name.

use super::FormatError;
use super::tree::Document;
use crate::model::{Environment, JsonText};

/// The key that says which profiles a document is for.
pub(crate) const ON_PROFILE: &str = "spring.config.activate.on-profile";
/// The same before Spring Boot 2.4.
const PROFILES: &str = "spring.profiles";
/// Another condition of a document, which Holm has no counterpart for.
const ON_CLOUD: &str = "spring.config.activate.on-cloud-platform";

/// Whether a key in a file is a condition on its document and not a configuration.
pub(crate) fn is_reserved(key: &str) -> bool {
    [ON_PROFILE, PROFILES, ON_CLOUD].contains(&key)
}

/// The environments of a document, and the document without what named them.
pub(crate) fn split(
    mut document: Document,
    default: &Environment,
) -> Result<(Vec<Environment>, Document), FormatError> {
    if let Some(placed) = document.get(ON_CLOUD) {
        let message = format!("`{ON_CLOUD}` is a condition that no environment stands for");
        return Err(FormatError::Syntax { line: placed.line, message });
    }
    let mut names = Vec::new();
    for key in [PROFILES, ON_PROFILE] {
        if let Some(placed) = document.remove(key) {
            names = environments(&placed.value, placed.line)?;
        }
    }
    if names.is_empty() {
        names.push(default.clone());
    }
    Ok((names, document))
}

fn environments(value: &JsonText, line: Option<usize>) -> Result<Vec<Environment>, FormatError> {
    let wrong = |profile: &str, message| FormatError::Profile {
        line,
        profile: profile.to_owned(),
        message,
    };
    let expressions = match value.to_value() {
        serde_json::Value::Array(list) => list,
        one => vec![one],
    };
    let mut names = Vec::new();
    for expression in expressions {
        let text = match expression {
            serde_json::Value::String(text) => text,
            // A profile may be spelled like a number.
            serde_json::Value::Number(number) => number.to_string(),
            other => {
                return Err(wrong(&other.to_string(), "a name is expected".to_owned()));
            }
        };
        if text.contains(['!', '&', '(', ')']) {
            let message = "only names joined by `|` or `,` are taken; split the document by hand";
            return Err(wrong(&text, message.to_owned()));
        }
        for name in text.split(['|', ',']) {
            names.push(Environment::new(name.trim()).map_err(|e| wrong(&text, e.to_string()))?);
        }
    }
    names.sort();
    names.dedup();
    Ok(names)
}
