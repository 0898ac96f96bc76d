//! Log lines as the Elastic Common Schema names things (<https://www.elastic.co/guide/en/ecs/8.11>):
//! one flat JSON object a line, which a pipeline takes as it is.
//!
//! A field whose name has a dot is the schema's own and keeps its type: only this program's code
//! names such. Every other one becomes a label, and labels are text: so no two events can disagree
//! about a field's type, whoever logs.

use std::fmt::{self, Write as _};

use serde_json::{Map, Value};
use tracing::field::{Field, Visit};
use tracing::{Event, Subscriber};
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::registry::LookupSpan;

use super::trace::TraceContext;
use crate::env::{SystemClock, WallClock as _};

/// The schema's version.
const ECS_VERSION: &str = "8.11.0";
/// Longest text of a field, in bytes; the rest is cut.
const TEXT_LEN_MAX: usize = 8 * 1024;

/// Writes events as ECS lines of one node.
#[derive(Clone, Debug)]
pub struct Ecs {
    node: String,
}

impl Ecs {
    /// Lines of this node.
    pub fn new(node: &str) -> Self {
        Self { node: node.to_owned() }
    }
}

impl<S, N> FormatEvent<S, N> for Ecs
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(
        &self,
        _: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let metadata = event.metadata();
        let is_own = is_own(metadata.target());
        let mut fields = Fields { is_own, message: String::new(), rest: Map::new() };
        event.record(&mut fields);
        let text = |text: &str| Value::from(text);
        let mut put = |name: &str, value: Value| {
            fields.rest.entry(name).or_insert(value);
        };
        put("ecs.version", text(ECS_VERSION));
        put("service.name", text("holm"));
        put("service.version", text(env!("CARGO_PKG_VERSION")));
        put("service.node.name", text(&self.node));
        put("event.dataset", text("holm.log"));
        put("log.logger", text(metadata.target()));
        if let Some(context) = TraceContext::current() {
            put("trace.id", text(&context.trace_id().to_string()));
            put("span.id", text(&context.span_id().to_string()));
        }
        // These come first, for those who read the lines themselves.
        let time = SystemClock.now();
        let level = metadata.level().as_str().to_ascii_lowercase();
        let message = Value::from(fields.message);
        let rest = serde_json::to_string(&fields.rest).map_err(|_| fmt::Error)?;
        let rest = rest.trim_start_matches('{');
        write!(
            writer,
            "{{\"@timestamp\":\"{time}\",\"log.level\":\"{level}\",\"message\":{message},"
        )?;
        writeln!(writer, "{rest}")
    }
}

/// Whether this program logs it, and not something that it uses.
fn is_own(target: &str) -> bool {
    target == "holm" || target.starts_with("holm::")
}

/// What an event says.
struct Fields {
    is_own: bool,
    message: String,
    rest: Map<String, Value>,
}

impl Fields {
    fn put(&mut self, field: &Field, value: Value) {
        let name = field.name();
        if name == "message" {
            self.message = as_text(value);
        } else if self.is_own && name.contains('.') {
            self.rest.insert(name.to_owned(), value);
        } else if name == "error" {
            self.rest.insert("error.message".to_owned(), as_text(value).into());
        } else {
            let name = format!("labels.{}", name.replace('.', "_"));
            self.rest.insert(name, as_text(value).into());
        }
    }
}

fn as_text(value: Value) -> String {
    match value {
        Value::String(text) => text,
        other => other.to_string(),
    }
}

fn cut(mut text: String) -> String {
    let end = text.floor_char_boundary(TEXT_LEN_MAX);
    text.truncate(end);
    text
}

impl Visit for Fields {
    fn record_f64(&mut self, field: &Field, value: f64) {
        self.put(field, value.into());
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.put(field, value.into());
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.put(field, value.into());
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.put(field, value.into());
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.put(field, cut(value.to_owned()).into());
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        let mut text = String::new();
        // Writing into a String has no way to fail.
        let _ = write!(text, "{value:?}");
        self.put(field, cut(text).into());
    }
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::sync::{Arc, Mutex};

    use super::*;

    #[derive(Clone, Default)]
    struct Lines(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Lines {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn logged(log: impl FnOnce()) -> Vec<Value> {
        let lines = Lines::default();
        let writer = lines.clone();
        let subscriber = tracing_subscriber::fmt()
            .with_max_level(tracing::Level::TRACE)
            .event_format(Ecs::new("eu-1"))
            .with_writer(move || writer.clone())
            .finish();
        tracing::subscriber::with_default(subscriber, log);
        let text = String::from_utf8(lines.0.lock().unwrap().clone()).unwrap();
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    #[test]
    fn every_line_says_what_the_schema_asks_for() {
        let [line] = &logged(|| tracing::warn!("a \"quoted\"\nline"))[..] else {
            panic!("one line")
        };
        let time = line["@timestamp"].as_str().unwrap();
        assert!(time.parse::<jiff::Timestamp>().is_ok() && time.ends_with('Z'), "{time}");
        for (name, value) in [
            ("log.level", "warn"),
            ("message", "a \"quoted\"\nline"),
            ("ecs.version", "8.11.0"),
            ("service.name", "holm"),
            ("service.node.name", "eu-1"),
            ("event.dataset", "holm.log"),
            ("log.logger", "holm::telemetry::ecs::tests"),
        ] {
            assert_eq!(line[name], value, "{line}");
        }
        assert!(line.get("trace.id").is_none(), "{line}");
    }

    #[test]
    fn the_schemas_fields_keep_their_types_and_all_others_are_labels_of_text() {
        let lines = logged(|| {
            let error = io::Error::other("no");
            tracing::info!(event.duration = 5_u64, event.dataset = "holm.request", n = 7, %error);
            tracing::info!(target: "quinn", { remote.port = 7, error = true }, "theirs");
            tracing::info!(target: "holmes", { event.duration = "text" }, "not ours either");
        });
        assert_eq!(lines[0]["event.duration"], 5);
        assert_eq!(lines[0]["event.dataset"], "holm.request");
        assert_eq!(lines[0]["labels.n"], "7");
        assert_eq!(lines[0]["error.message"], "no");
        assert_eq!(lines[1]["labels.remote_port"], "7");
        assert_eq!(lines[1]["error.message"], "true");
        assert_eq!(lines[2]["labels.event_duration"], "text");
    }

    #[test]
    fn what_is_too_long_is_cut_between_characters() {
        let long = "é".repeat(TEXT_LEN_MAX);
        let lines = logged(|| tracing::info!(long, "{long}"));
        assert_eq!(lines[0]["labels.long"].as_str().unwrap().len(), TEXT_LEN_MAX);
        assert_eq!(lines[0]["message"].as_str().unwrap().len(), TEXT_LEN_MAX);
    }
}
