//! Whether an agent's settings make sense together. Each refusal names the field.

use std::time::Duration;

use super::AgentSettings;
use crate::settings::{SettingsError, refuse};

const DOCUMENTS_MAX: usize = 64;
const SECRETS_MAX: usize = 256;
const TEMPLATES_MAX: usize = 64;
const ARGUMENTS_MAX: usize = 256;

impl AgentSettings {
    pub(super) fn check(&self) -> Result<(), SettingsError> {
        self.check_lists()?;
        self.check_listen()?;
        self.check_times()?;
        self.check_templates()
    }

    fn check_lists(&self) -> Result<(), SettingsError> {
        let (documents, names) = (self.documents.len(), self.secrets.names.len());
        refuse(documents + names == 0, "documents", "neither documents nor secrets are named")?;
        refuse(documents > DOCUMENTS_MAX, "documents", "more than 64 are named")?;
        refuse(names > SECRETS_MAX, "secrets.names", "more than 256 are named")?;
        refuse(self.templates.len() > TEMPLATES_MAX, "templates", "there are more than 64")?;
        let both = self.secrets.key_file.is_some() && self.secrets.key_env.is_some();
        refuse(both, "secrets.key_env", "a key comes from a file or a variable, not from both")?;
        let mut seen = std::collections::BTreeSet::new();
        let twice = self.documents.iter().any(|document| !seen.insert(&document.0));
        refuse(twice, "documents", "one is named twice")?;
        let limits = &self.limits;
        for (field, value, max) in [
            ("limits.connections_max", limits.connections_max as u64, 100_000),
            ("limits.template_bytes_max", limits.template_bytes_max, 64 << 20),
            ("limits.output_bytes_max", limits.output_bytes_max as u64, 64 << 20),
            ("limits.render_steps_max", limits.render_steps_max, u64::MAX),
            ("limits.reload_output_bytes_max", limits.reload_output_bytes_max as u64, 1 << 20),
        ] {
            refuse(value == 0, field, "0 would refuse everything")?;
            refuse(value > max, field, &format!("more than {max} is no limit"))?;
        }
        Ok(())
    }

    fn check_listen(&self) -> Result<(), SettingsError> {
        let remote = self.listen.address.is_some_and(|address| !address.ip().is_loopback());
        refuse(
            remote,
            "listen.address",
            "is no loopback address: whoever reaches the agent may read without a token",
        )
    }

    fn check_times(&self) -> Result<(), SettingsError> {
        let (times, day) = (&self.times, Duration::from_secs(24 * 3600));
        for (field, value, max) in [
            ("times.start_within", times.start_within, day),
            ("times.fresh_within", times.fresh_within, day),
            ("times.debounce_max", times.debounce_max, day),
            ("secrets.refresh", self.secrets.refresh, day),
            ("secrets.max_age", self.secrets.max_age, 3650 * day),
        ] {
            refuse(value.is_zero(), field, "may not be 0")?;
            refuse(
                value > max,
                field,
                &format!("may not be more than {} h", max.as_secs() / 3600),
            )?;
        }
        let (least, most) = (times.debounce, times.debounce_max);
        refuse(least > most, "times.debounce", "is above times.debounce_max")?;
        let second = Duration::from_secs(1);
        refuse(self.secrets.refresh < second, "secrets.refresh", "may not be below 1s")?;
        let (refresh, max_age) = (self.secrets.refresh, self.secrets.max_age);
        refuse(max_age < refresh, "secrets.max_age", "is below secrets.refresh")
    }

    fn check_templates(&self) -> Result<(), SettingsError> {
        let mut targets = std::collections::BTreeSet::new();
        for (template, i) in self.templates.iter().zip(0..) {
            let place = |field: &str| format!("templates[{i}].{field}");
            let named = template.document.as_ref();
            let is_kept = named.is_none_or(|named| self.documents.contains(named));
            refuse(!is_kept, &place("document"), "is not one of `documents`")?;
            let both = !template.reload.is_empty() && template.reload_shell.is_some();
            refuse(both, &place("reload_shell"), "`reload` is given, too")?;
            let many = template.reload.len() > ARGUMENTS_MAX;
            refuse(many, &place("reload"), "has more than 256 arguments")?;
            let empty = template.reload.first().is_some_and(String::is_empty);
            refuse(empty, &place("reload"), "names no program")?;
            let long = template.reload_timeout > Duration::from_secs(3600);
            refuse(
                long || template.reload_timeout.is_zero(),
                &place("reload_timeout"),
                "has to be above 0 and at most 1h",
            )?;
            let has_name = template.target.file_name().is_some();
            refuse(!has_name, &place("target"), "names no file")?;
            let again = !targets.insert(&template.target);
            refuse(again, &place("target"), "another template has the same target")?;
            let itself = template.target == template.source;
            refuse(itself, &place("target"), "is the template itself")?;
        }
        Ok(())
    }
}
