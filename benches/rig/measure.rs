//! What a measurement is: latencies of one round, and what several rounds say together. Knows
//! nothing of where the numbers come from.

use std::time::Duration;

/// What one round of load gave.
#[derive(Clone, Default)]
pub(crate) struct Round {
    /// Answers that were as expected.
    pub(crate) count: usize,
    /// Other answers, and requests without one.
    pub(crate) failed: usize,
    /// What the first of those came to.
    pub(crate) why: Option<String>,
    /// How long the load was on.
    pub(crate) took: Duration,
    /// One for each good answer, in nanoseconds, sorted.
    pub(crate) latencies: Vec<u64>,
}

impl Round {
    /// Puts together what several connections measured at the same time.
    pub(crate) fn merge(parts: Vec<Self>) -> Self {
        let mut whole = Self::default();
        for part in parts {
            whole.count += part.count;
            whole.failed += part.failed;
            whole.why = whole.why.or(part.why);
            whole.took = whole.took.max(part.took);
            whole.latencies.extend(part.latencies);
        }
        whole.latencies.sort_unstable();
        whole
    }

    /// Counts a request that was not answered as it should be.
    pub(crate) fn fail(&mut self, why: impl FnOnce() -> String) {
        self.failed += 1;
        self.why.get_or_insert_with(why);
    }

    /// Good answers a second.
    pub(crate) fn rate(&self) -> f64 {
        self.count as f64 / self.took.as_secs_f64().max(1e-9)
    }

    /// The latency that `share` of the answers did not exceed, in milliseconds.
    pub(crate) fn percentile_ms(&self, share: f64) -> f64 {
        percentile(&self.latencies, share) as f64 / 1e6
    }

    /// One line: rate, percentiles, failures.
    pub(crate) fn line(&self) -> String {
        let mut line = format!(
            "{:9.0}/s   p50 {:7.3} ms   p99 {:7.3} ms   max {:8.3} ms   {} answers, {} failed",
            self.rate(),
            self.percentile_ms(0.50),
            self.percentile_ms(0.99),
            self.percentile_ms(1.0),
            self.count,
            self.failed
        );
        if let Some(why) = &self.why {
            line.push_str(": ");
            line.push_str(why);
        }
        line
    }
}

/// Nearest rank of a sorted list; 0 of an empty one.
pub(crate) fn percentile(sorted: &[u64], share: f64) -> u64 {
    let rank = (share * sorted.len() as f64).ceil() as usize;
    sorted.get(rank.saturating_sub(1)).copied().unwrap_or(0)
}

/// The same quantity from several rounds.
#[derive(Clone, Copy)]
pub(crate) struct Spread {
    pub(crate) min: f64,
    pub(crate) median: f64,
    pub(crate) max: f64,
}

impl Spread {
    /// Of at least one number.
    pub(crate) fn of(numbers: impl IntoIterator<Item = f64>) -> Self {
        let mut numbers: Vec<f64> = numbers.into_iter().collect();
        numbers.sort_unstable_by(f64::total_cmp);
        let middle = numbers.len() / 2;
        let median = if numbers.len().is_multiple_of(2) && middle > 0 {
            f64::midpoint(numbers[middle - 1], numbers[middle])
        } else {
            numbers[middle]
        };
        Self { min: numbers[0], median, max: numbers[numbers.len() - 1] }
    }

    /// `min / median / max`, with so many decimals.
    pub(crate) fn text(&self, decimals: usize) -> String {
        let Self { min, median, max } = self;
        format!("{min:.decimals$} / {median:.decimals$} / {max:.decimals$}")
    }
}

/// One line of the table at the end.
pub(crate) struct Finding {
    /// What was measured.
    pub(crate) what: String,
    /// Min, median and max over the rounds, as text.
    pub(crate) measured: String,
    /// What it should be.
    pub(crate) goal: String,
    /// Whether the median is as it should be; none where there is no goal.
    pub(crate) reached: Option<bool>,
}

impl Finding {
    /// A number that should be at least `goal`.
    pub(crate) fn at_least(what: &str, spread: Spread, goal: f64) -> Self {
        Self {
            what: what.to_owned(),
            measured: spread.text(2),
            goal: format!("at least {goal}"),
            reached: Some(spread.median >= goal),
        }
    }

    /// A number that should be at most `goal`, in that unit.
    pub(crate) fn at_most(what: &str, spread: Spread, goal: f64, unit: &str) -> Self {
        Self {
            what: what.to_owned(),
            measured: format!("{}{unit}", spread.text(2)),
            goal: format!("at most {goal}{unit}"),
            reached: Some(spread.median <= goal),
        }
    }

    /// A number to know, without a goal.
    pub(crate) fn note(what: &str, measured: String) -> Self {
        Self { what: what.to_owned(), measured, goal: String::new(), reached: None }
    }
}

/// The table, in Markdown.
pub(crate) fn table(findings: &[Finding]) -> String {
    let mut text =
        "| what | min / median / max | goal (median) | reached |\n|---|---|---|---|\n".to_owned();
    for Finding { what, measured, goal, reached } in findings {
        let reached = match reached {
            Some(true) => "yes",
            Some(false) => "no",
            None => "",
        };
        text.push_str(&format!("| {what} | {measured} | {goal} | {reached} |\n"));
    }
    text
}
