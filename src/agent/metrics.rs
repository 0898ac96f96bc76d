//! What an agent counts of itself, and how it tells that to Prometheus: a page of text, made when it is
//! asked for. Names of documents, secrets and files are labels; their number is the settings'.

use std::fmt::Write as _;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use axum::http::StatusCode;

use super::Shared;

/// Answers by the first digit of their status, and connections that found no place.
#[derive(Debug, Default)]
pub(super) struct Metrics {
    answers: [AtomicU64; 6],
    refused: AtomicU64,
}

impl Metrics {
    pub(super) fn answered(&self, status: StatusCode) {
        let class = usize::from(status.as_u16() / 100).min(self.answers.len() - 1);
        self.answers[class].fetch_add(1, Relaxed);
    }

    pub(super) fn refused(&self) {
        self.refused.fetch_add(1, Relaxed);
    }
}

/// A page that is being written.
struct Page(String);

impl Page {
    fn head(&mut self, name: &str, kind: &str, help: &str) {
        // A string takes whatever is written.
        let _ = write!(self.0, "# HELP {name} {help}\n# TYPE {name} {kind}\n");
    }

    fn put(&mut self, name: &str, labels: &[(&str, &str)], value: impl std::fmt::Display) {
        let escaped =
            |text: &str| text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
        let labels: Vec<String> =
            labels.iter().map(|(name, value)| format!("{name}=\"{}\"", escaped(value))).collect();
        let labels =
            if labels.is_empty() { String::new() } else { format!("{{{}}}", labels.join(",")) };
        let _ = writeln!(self.0, "{name}{labels} {value}");
    }
}

impl Shared {
    /// The page.
    pub(super) fn metrics_text(&self) -> String {
        let mut page = Page(String::new());
        let name = "holm_agent_answers_total";
        page.head(name, "counter", "Answers, by the first digit of their status.");
        for (class, count) in self.metrics.answers.iter().enumerate().skip(1) {
            page.put(name, &[("status", &format!("{class}xx"))], count.load(Relaxed));
        }
        let name = "holm_agent_connections_refused_total";
        page.head(name, "counter", "Connections that found no place.");
        page.put(name, &[], self.metrics.refused.load(Relaxed));
        self.put_copies(&mut page);
        let name = "holm_agent_secret_age_seconds";
        page.head(name, "gauge", "Time since a region confirmed a secret.");
        for (secret, age) in self.vault.ages() {
            page.put(name, &[("secret", secret.as_str())], age.as_secs_f64());
        }
        let name = "holm_agent_secrets_missing";
        page.head(name, "gauge", "Listed secrets that are not held.");
        page.put(name, &[], self.vault.missing().len());
        self.put_templates(&mut page);
        page.0
    }

    fn put_copies(&self, page: &mut Page) {
        let ages: Vec<_> =
            self.copies.iter().map(|(document, copy)| (document.to_string(), copy.age())).collect();
        let name = "holm_agent_copy_age_seconds";
        page.head(name, "gauge", "Time since a region confirmed a copy.");
        for (document, age) in &ages {
            page.put(name, &[("document", document)], age.confirmed_ago.as_secs_f64());
        }
        let name = "holm_agent_copy_connected";
        page.head(name, "gauge", "Whether a copy's watch is open and up to date.");
        for (document, age) in &ages {
            page.put(name, &[("document", document)], u8::from(age.is_connected));
        }
        let name = "holm_agent_copy_from_file";
        page.head(name, "gauge", "Whether no region has confirmed a copy since the start.");
        for (document, age) in &ages {
            page.put(name, &[("document", document)], u8::from(age.is_from_file));
        }
        let name = "holm_agent_copy_keys";
        page.head(name, "gauge", "Keys of a copy.");
        for (document, copy) in &self.copies {
            let keys = copy.state().items().len();
            page.put(name, &[("document", &document.to_string())], keys);
        }
    }

    fn put_templates(&self, page: &mut Page) {
        let standings = self.renderer.standings();
        let mut counts = |name: &str, help: &str, of: fn(&super::render::Standing) -> u64| {
            page.head(name, "counter", help);
            for (target, standing) in &standings {
                page.put(name, &[("target", &target.to_string_lossy())], of(standing));
            }
        };
        counts("holm_agent_renders_total", "Renderings that succeeded.", |it| it.renders);
        counts("holm_agent_render_failures_total", "Renderings that failed.", |it| it.failures);
        counts("holm_agent_writes_total", "Files that were replaced.", |it| it.writes);
        counts("holm_agent_reloads_total", "Reload commands that succeeded.", |it| it.reloads);
        counts("holm_agent_reload_failures_total", "Reload commands that failed.", |it| {
            it.reload_failures
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_are_escaped() {
        let mut page = Page(String::new());
        page.put("a", &[("b", "x\"y\\z\n")], 1);
        assert_eq!(page.0, "a{b=\"x\\\"y\\\\z\\n\"} 1\n");
    }
}
