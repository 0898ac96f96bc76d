//! The report for programs: one JSON object. Its members:
//!
//! - `format`: [`FORMAT`]. Members may be added under the same number; one that changes its meaning or
//!   goes away gets another number.
//! - `verdict`: `pass`, `vacuous`, `undecided` or `violation`: the worst of the checks.
//! - `run`: what was run and how to run it again, as in the history ([`Run`]).
//! - `checks`: of each check its name, claim, verdict (`not_exercised`, where there was nothing to
//!   judge, among them), what it examined and its violations ([`Checked`]).
//! - `summary`: the numbers ([`Summary`]). Times are in microseconds of the run.

use serde::Serialize;

use super::{Checked, Report, Run, Summary, Verdict};

/// The version of the format.
pub const FORMAT: u32 = 1;

#[derive(Serialize)]
struct Json<'a> {
    format: u32,
    verdict: Verdict,
    run: &'a Run,
    checks: &'a [Checked],
    summary: &'a Summary,
}

/// The report as JSON, for whatever writes it.
pub fn json(report: &Report<'_>) -> Result<String, serde_json::Error> {
    serde_json::to_string(&Json {
        format: FORMAT,
        verdict: report.verdict,
        run: &report.run,
        checks: &report.checks,
        summary: &report.summary,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::simulation::report::example::example;

    #[test]
    fn programs_find_the_verdict_the_checks_and_the_numbers() {
        let (records, checks) = example(7);
        let report = Report::new(&records, checks);
        let text = json(&report).unwrap();
        let value: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!(value["format"], 1);
        assert_eq!(value["verdict"], "violation");
        assert_eq!(value["run"]["seed"], 7);
        assert_eq!(value["checks"][2]["violations"][0]["at_us"], 24_120_000);
        assert_eq!(value["summary"]["regions"][0]["kinds"][0]["kind"], "config_read");
        assert_eq!(value["summary"]["agreement"]["agreement"], "reached");
        let summary: Summary = serde_json::from_value(value["summary"].clone()).unwrap();
        assert_eq!(summary, report.summary);
    }
}
