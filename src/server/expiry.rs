//! Warns of certificates that expire soon, once a day each. When they do is a metric, too.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::sync::watch;

use crate::env::Env;
use crate::model::Stamp;
use crate::node::Node;
use crate::transport::certificate::{Date, Facts};

const DAY: Duration = Duration::from_secs(24 * 3600);
/// How often it is looked at.
const LOOK_EVERY: Duration = Duration::from_secs(3600);
/// From how many days before its end on a certificate is worth a word, and then a sharper one.
const DAYS: [u32; 4] = [1, 7, 14, 30];

/// What was said of a certificate last.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Said {
    /// Which one it was.
    fingerprint: String,
    at: Stamp,
}

/// The least of [`DAYS`] that the certificate has no more than; none where nothing is to be said.
fn due(facts: &Facts, said: Option<&Said>, now: Stamp) -> Option<u32> {
    let left = facts.left(now);
    let days = DAYS.into_iter().find(|days| left < DAY * *days)?;
    let day = u64::try_from(DAY.as_micros()).unwrap_or(u64::MAX);
    let is_told = said.is_some_and(|said| {
        said.fingerprint == facts.fingerprint && now.0.abs_diff(said.at.0) < day
    });
    (!is_told).then_some(days)
}

/// Looks at the node's certificates until it is told to stop.
pub(super) async fn run(node: Node, env: Env, mut stop: watch::Receiver<bool>) {
    let mut said = BTreeMap::new();
    loop {
        look(&node, env.clock.now(), &mut said);
        let stopped = async { stop.wait_for(|stop| *stop).await.map(drop) };
        if tokio::time::timeout(LOOK_EVERY, stopped).await.is_ok() {
            return;
        }
    }
}

fn look(node: &Node, now: Stamp, said: &mut BTreeMap<&'static str, Said>) {
    for (kind, facts) in node.certificate_ends() {
        let Some(under_days) = due(&facts, said.get(kind), now) else { continue };
        let (subject, at) = (&facts.subject, Date(facts.not_after));
        let days_left = facts.left(now).as_secs() / DAY.as_secs();
        if facts.left(now).is_zero() {
            tracing::error!(kind, subject, under_days, "a certificate has expired, at {at}");
        } else {
            tracing::warn!(
                kind,
                subject,
                under_days,
                days_left,
                "a certificate expires soon, at {at}"
            );
        }
        said.insert(kind, Said { fingerprint: facts.fingerprint, at: now });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const END_S: u64 = 1_800_000_000;

    fn facts(fingerprint: &str) -> Facts {
        Facts {
            fingerprint: fingerprint.into(),
            subject: "a-1".into(),
            not_before: 0,
            not_after: END_S,
            names: vec![],
        }
    }

    fn before(days: u64) -> Stamp {
        Stamp((END_S - days * DAY.as_secs()) * 1_000_000)
    }

    #[test]
    fn a_certificate_is_spoken_of_from_30_days_before_its_end_once_a_day() {
        let it = facts("a");
        assert_eq!(due(&it, None, before(31)), None);
        for (days, said) in [(29, 30), (13, 14), (6, 7), (0, 1)] {
            assert_eq!(due(&it, None, before(days)), Some(said), "{days} days before");
        }
        assert_eq!(due(&it, None, Stamp((END_S + 1) * 1_000_000)), Some(1), "after its end");
        let said = Said { fingerprint: "a".into(), at: before(29) };
        assert_eq!(due(&it, Some(&said), Stamp(before(28).0 - 1)), None);
        assert_eq!(due(&it, Some(&said), before(28)), Some(30));
        // Another certificate is another matter.
        assert_eq!(due(&facts("b"), Some(&said), before(29)), Some(30));
    }
}
