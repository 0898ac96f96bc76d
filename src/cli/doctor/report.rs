//! What was found: a line a check. Pure.

use std::fmt::Display;

use serde::Serialize;

/// How something is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum State {
    /// Nothing is to be done.
    Ok,
    /// It works, and something is to be looked at.
    Warn,
    /// It does not work, or is about to stop.
    Fail,
}

/// What one check found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(super) struct Finding {
    pub(super) state: State,
    pub(super) check: &'static str,
    /// What was looked at.
    pub(super) of: String,
    pub(super) found: String,
    /// What to do; empty where that is nothing.
    pub(super) advice: String,
}

impl Finding {
    pub(super) fn row(&self) -> Vec<String> {
        let state = match self.state {
            State::Ok => "ok",
            State::Warn => "warn",
            State::Fail => "FAIL",
        };
        vec![state.to_owned(), self.check.to_owned(), self.of.clone(), self.found.clone()]
    }
}

/// All that was found.
#[derive(Debug, Default)]
pub(super) struct Report(Vec<Finding>);

impl Report {
    pub(super) fn ok(&mut self, check: &'static str, of: impl Display, found: impl Display) {
        self.put(State::Ok, (check, &of), &found, "");
    }

    pub(super) fn warn(
        &mut self,
        check: &'static str,
        of: impl Display,
        found: impl Display,
        advice: &str,
    ) {
        self.put(State::Warn, (check, &of), &found, advice);
    }

    pub(super) fn fail(
        &mut self,
        check: &'static str,
        of: impl Display,
        found: impl Display,
        advice: &str,
    ) {
        self.put(State::Fail, (check, &of), &found, advice);
    }

    fn put(
        &mut self,
        state: State,
        (check, of): (&'static str, &dyn Display),
        found: &dyn Display,
        advice: &str,
    ) {
        let (of, found, advice) = (of.to_string(), found.to_string(), advice.to_owned());
        self.0.push(Finding { state, check, of, found, advice });
    }

    pub(super) fn findings(&self) -> &[Finding] {
        &self.0
    }

    pub(super) fn count(&self, state: State) -> usize {
        self.0.iter().filter(|finding| finding.state == state).count()
    }
}
