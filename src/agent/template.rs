//! One template: compiled, and rendered from what the agent has. A name that is not there is an error
//! and never an empty text. Errors name the file and the line.
//!
//! In a template: `config` is the template's document, `documents["web/prod"]` any that the agent keeps,
//! each by its whole keys (`config["server.port"]`); `secret("name")` is a secret that the agent lists.
//! Nothing is escaped: use `|tojson` where a text has to be quoted. A template reads no other files.

use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use minijinja::value::{Enumerator, Object, ObjectRepr, Value};
use minijinja::{AutoEscape, Environment, Error, ErrorKind, UndefinedBehavior};
use zeroize::{Zeroize as _, Zeroizing};

use super::settings::LimitSettings;
use super::vault::{Held, Vault};
use crate::client::copy::CopyState;
use crate::model::DocumentId;

/// How a template is called inside of its engine; people are told its path.
const NAME: &str = "template";
/// Deepest nesting of calls in a template.
const DEPTH_MAX: usize = 100;

/// Why a template gives no file.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TemplateError {
    /// It cannot be read.
    #[error("{}: {reason}", path.display())]
    Source {
        /// Which template.
        path: PathBuf,
        /// Why not.
        reason: String,
    },
    /// It is no template, or not with what there is.
    #[error("{}:{line}: {reason}", path.display())]
    Line {
        /// Which template.
        path: PathBuf,
        /// Which line, from 1.
        line: usize,
        /// What is wrong there.
        reason: String,
    },
    /// What it becomes is too long.
    #[error("{}: it becomes more than {max} bytes (limits.output_bytes_max)", path.display())]
    TooLong {
        /// Which template.
        path: PathBuf,
        /// How much is allowed.
        max: usize,
    },
}

/// A template that compiles.
#[derive(Clone, Debug)]
pub(super) struct Template {
    path: PathBuf,
    source: Arc<str>,
}

/// What templates are rendered from: one moment of everything.
pub(super) struct View {
    pub(super) documents: BTreeMap<String, Arc<CopyState>>,
    pub(super) vault: Vault,
}

impl Template {
    /// Reads and compiles the template at `path`.
    pub(super) fn read(path: &Path, limits: &LimitSettings) -> Result<Self, TemplateError> {
        let wrong = |reason| TemplateError::Source { path: path.to_owned(), reason };
        let max = limits.template_bytes_max;
        let len = std::fs::metadata(path).map_err(|e| wrong(e.to_string()))?.len();
        if len > max {
            return Err(wrong(format!("it has {len} bytes; at most {max} are allowed")));
        }
        let text = std::fs::read_to_string(path).map_err(|e| wrong(e.to_string()))?;
        Self::compile(path, &text, limits)
    }

    fn compile(path: &Path, text: &str, limits: &LimitSettings) -> Result<Self, TemplateError> {
        let template = Self { path: path.to_owned(), source: text.into() };
        let environment = template.environment(limits)?;
        let compiled = environment.get_template(NAME).map(drop);
        compiled.map_err(|error| template.error(&error, &[]))?;
        Ok(template)
    }

    /// What it becomes; in a buffer that is overwritten when it goes, because secrets can be in it.
    pub(super) fn render(
        &self,
        document: Option<&DocumentId>,
        view: &Arc<View>,
        limits: &LimitSettings,
    ) -> Result<Zeroizing<Vec<u8>>, TemplateError> {
        let mut environment = self.environment(limits)?;
        let vault = view.vault.clone();
        environment.add_function("secret", move |name: &str| secret(&vault, name));
        let documents: BTreeMap<&str, Value> = view
            .documents
            .iter()
            .map(|(name, state)| (name.as_str(), Value::from_object(Keys(state.clone()))))
            .collect();
        let mut context = BTreeMap::new();
        let config = document.and_then(|document| documents.get(&*document.to_string()).cloned());
        context.extend(config.map(|config| ("config", config)));
        context.insert("documents", Value::from_iter(documents));
        let mut output = Output { bytes: Zeroizing::default(), max: limits.output_bytes_max };
        let rendered = environment
            .get_template(NAME)
            .and_then(|template| template.render_captured_to(context, &mut output).map(drop));
        match rendered {
            Ok(()) => Ok(output.bytes),
            Err(error) if error.kind() == ErrorKind::WriteFailure => {
                Err(TemplateError::TooLong { path: self.path.clone(), max: output.max })
            }
            Err(error) => Err(self.error(&error, &view.vault.all())),
        }
    }

    fn environment(&self, limits: &LimitSettings) -> Result<Environment<'static>, TemplateError> {
        let mut environment = Environment::new();
        environment.set_undefined_behavior(UndefinedBehavior::Strict);
        environment.set_auto_escape_callback(|_| AutoEscape::None);
        environment.set_keep_trailing_newline(true);
        environment.set_recursion_limit(DEPTH_MAX);
        environment.set_fuel(Some(limits.render_steps_max));
        let added = environment.add_template_owned(NAME.to_owned(), self.source.to_string());
        added.map_err(|error| self.error(&error, &[]))?;
        Ok(environment)
    }

    /// The engine's error with the file's name, and no secret in it.
    fn error(&self, error: &Error, secrets: &[Arc<Held>]) -> TemplateError {
        let kind = error.kind().to_string();
        let reason = match error.detail() {
            Some(detail) => format!("{kind}: {detail}"),
            None => kind,
        };
        let reason = match error.kind() {
            ErrorKind::UndefinedError => format!("{reason}: a name here is not there"),
            ErrorKind::OutOfFuel => "it takes more than limits.render_steps_max steps".to_owned(),
            _ => reason,
        };
        let reason = redact(&reason, secrets);
        let line = error.line().unwrap_or(1);
        TemplateError::Line { path: self.path.clone(), line, reason }
    }
}

/// The text without the values of these secrets.
pub(super) fn redact(text: &str, secrets: &[Arc<Held>]) -> String {
    let values = secrets.iter().filter_map(|held| held.value.expose_text());
    let mut values: Vec<&str> = values.map(str::trim).filter(|value| !value.is_empty()).collect();
    // One can be a part of another.
    values.sort_by_key(|value| std::cmp::Reverse(value.len()));
    values.iter().fold(text.to_owned(), |text, value| text.replace(value, "[secret]"))
}

fn secret(vault: &Vault, name: &str) -> Result<Value, Error> {
    let error = |why: String| Error::new(ErrorKind::InvalidOperation, why);
    if !vault.lists(name) {
        return Err(error(format!("the secret {name:?} is not listed in secrets.names")));
    }
    match vault.get(name) {
        Some(held) if held.value.expose_text().is_some() => Ok(Value::from_object(Secret(held))),
        Some(_) => Err(error(format!("the secret {name:?} is no text"))),
        None => {
            let why = vault.problem(name).unwrap_or_else(|| "it was let go".to_owned());
            Err(error(format!("the secret {name:?} is not held: {why}")))
        }
    }
}

/// A document, by its keys. A value is made when it is asked for, so that large ones cost nothing.
#[derive(Debug)]
struct Keys(Arc<CopyState>);

impl Object for Keys {
    fn repr(self: &Arc<Self>) -> ObjectRepr {
        ObjectRepr::Map
    }

    fn get_value(self: &Arc<Self>, key: &Value) -> Option<Value> {
        let item = self.0.get(key.as_str()?)?;
        Some(Value::from_serialize(item.value.to_value()))
    }

    fn enumerate(self: &Arc<Self>) -> Enumerator {
        Enumerator::Values(self.0.items().keys().map(|key| Value::from(key.as_str())).collect())
    }
}

/// A secret, which goes from where it is held into the output and nowhere else, as long as a template
/// puts it out as it is: what filters make of it is the engine's own text.
struct Secret(Arc<Held>);

impl Object for Secret {
    fn repr(self: &Arc<Self>) -> ObjectRepr {
        ObjectRepr::Plain
    }

    fn render(self: &Arc<Self>, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0.value.expose_text().unwrap_or_default())
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(..)")
    }
}

/// Takes what is rendered, up to a limit. Where it has to grow it overwrites what it leaves.
struct Output {
    bytes: Zeroizing<Vec<u8>>,
    max: usize,
}

impl io::Write for Output {
    fn write(&mut self, text: &[u8]) -> io::Result<usize> {
        let needed = self.bytes.len() + text.len();
        if needed > self.max {
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        if needed > self.bytes.capacity() {
            let mut larger = Vec::with_capacity(needed.max(2 * self.bytes.capacity()).max(4096));
            larger.extend_from_slice(&self.bytes);
            let mut before = std::mem::replace(&mut *self.bytes, larger);
            before.zeroize();
        }
        self.bytes.extend_from_slice(text);
        Ok(text.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::agent::vault::testing::vault;
    use crate::client::copy::testing::{document, state};

    fn view() -> Arc<View> {
        let keys = [("color", "\"red\""), ("hosts", "[\"a\",\"b\"]"), ("server.port", "8080")];
        let documents = [("web/dev".to_owned(), Arc::new(state(&keys)))].into();
        Arc::new(View { documents, vault: vault(&[("db", "hunter2")]) })
    }

    fn render_within(text: &str, limits: &LimitSettings) -> Result<String, String> {
        let template = Template::compile(Path::new("/t/a.j2"), text, limits);
        let rendered = template.and_then(|it| it.render(Some(&document()), &view(), limits));
        rendered
            .map(|bytes| String::from_utf8(bytes.to_vec()).unwrap())
            .map_err(|error| error.to_string())
    }

    fn render(text: &str) -> Result<String, String> {
        render_within(text, &LimitSettings::default())
    }

    #[test]
    fn a_template_has_its_document_all_documents_and_secrets() {
        let text = "port={{ config['server.port'] }}\n{{ documents['web/dev'].color|tojson }}\n";
        assert_eq!(render(text).unwrap(), "port=8080\n\"red\"\n");
        let text = "{% for host in config.hosts %}{{ host }},{% endfor %}{{ secret('db') }}";
        assert_eq!(render(text).unwrap(), "a,b,hunter2");
        assert_eq!(render("{{ secret('db')|tojson }}").unwrap(), "\"hunter2\"");
        let text = "{% for key in config %}{{ key }}={{ config[key] }};{% endfor %}";
        assert_eq!(render(text).unwrap(), "color=red;hosts=[\"a\", \"b\"];server.port=8080;");
        assert_eq!(render("{{ '<&' }}").unwrap(), "<&", "nothing is escaped");
    }

    #[test]
    fn what_does_not_compile_or_render_names_file_and_line() {
        let says = |text| render(text).unwrap_err();
        assert!(
            says("a\n{% if %}").starts_with("/t/a.j2:2: syntax error"),
            "{}",
            says("a\n{% if %}")
        );
        let missing = says("a\nb\n{{ config.nope }}");
        assert!(missing.starts_with("/t/a.j2:3: undefined value"), "{missing}");
        assert!(says("{{ nope }}").starts_with("/t/a.j2:1: "), "{}", says("{{ nope }}"));
        let unlisted = says("\n{{ secret('other') }}");
        assert!(
            unlisted.starts_with("/t/a.j2:2: ") && unlisted.contains("not listed"),
            "{unlisted}"
        );
        assert!(says("{% include 'x' %}").starts_with("/t/a.j2:1: "), "it reads no other files");
    }

    #[test]
    fn an_error_does_not_repeat_a_secret() {
        for text in ["{{ secret('db')|string|int }}", "{{ (secret('db')|string)|nope }}"] {
            let said = render(text).unwrap_err();
            assert!(!said.contains("hunter2"), "{said}");
        }
        let all = vault(&[("a", "hunter"), ("b", "hunter2")]).all();
        assert_eq!(redact("x hunter2 hunter", &all), "x [secret] [secret]");
    }

    #[test]
    fn a_template_without_end_is_stopped() {
        let limits = LimitSettings {
            output_bytes_max: 1000,
            render_steps_max: 100_000,
            ..LimitSettings::default()
        };
        let long = render_within("{% for i in range(900) %}xx{% endfor %}", &limits).unwrap_err();
        assert!(long.contains("limits.output_bytes_max"), "{long}");
        let slow = "{% for i in range(9000) %}{% for j in range(9000) %}{% endfor %}{% endfor %}";
        let slow = render_within(slow, &limits).unwrap_err();
        assert!(slow.contains("limits.render_steps_max"), "{slow}");
    }
}
