//! The files that nodes know each other by: there, private, of this node, signed by the authority,
//! and valid for a while yet.

use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use rustls::pki_types::{CertificateDer, ServerName};
use webpki::{EndEntityCert, KeyUsage};

use super::report::Report;
use crate::env::{SystemClock, WallClock as _};
use crate::model::NodeName;
use crate::transport::certificate::OutOfTime;
use crate::transport::{Facts, Identity};

/// How long before its end a certificate is worth a warning, in days.
const WARN_DAYS: u64 = 30;
/// How long before its end it is too late to plan, in days.
const FAIL_DAYS: u64 = 3;
const DAY_S: u64 = 24 * 3_600;

pub(super) fn check(pki: &Path, node: &NodeName, report: &mut Report) {
    let identity = match Identity::load_from(pki, node) {
        Ok(identity) => identity,
        Err(error) => {
            let advice = "`holm pki issue` makes what is missing";
            return report.fail("certificates", pki.display(), error, advice);
        }
    };
    let key = pki.join(format!("{node}.key"));
    match std::fs::metadata(&key) {
        // One that others may read was refused before, as `holm serve` does.
        Ok(found) if found.mode() & 0o077 != 0 => {
            let found =
                format!("its group may read or change it (mode {:o})", found.mode() & 0o777);
            report.warn("certificates", key.display(), found, "chmod 600 it, unless it has to");
        }
        Ok(_) => report.ok("certificates", key.display(), "its owner's alone"),
        Err(error) => {
            report.fail("certificates", key.display(), error, "holm serve has to read it")
        }
    }
    if pki.join("ca.key").exists() {
        let found = "the authority's key lies beside the node's";
        let advice = "whoever has it can add nodes: keep it off the nodes";
        report.warn("certificates", pki.join("ca.key").display(), found, advice);
    }
    for (at, authority) in identity.authorities.iter().enumerate() {
        let of = format!("ca.pem, certificate {}", at + 1);
        check_time(&of, authority, "a new authority has to be made and spread before that", report);
    }
    let Some((own, more)) = identity.chain.split_first() else { return };
    check_time(&format!("{node}.pem"), own, "`holm pki renew` makes a new one", report);
    if let Err(error) = check_chain(&identity, own, more, node) {
        let advice = "it has to be issued by this cluster's authority, for this node's name";
        report.fail("certificates", format!("{node}.pem"), error, advice);
    } else {
        let found = "names the node, and ca.pem has its authority";
        report.ok("certificates", format!("{node}.pem"), found);
    }
}

fn check_time(of: &str, certificate: &CertificateDer<'_>, renew: &str, report: &mut Report) {
    let facts = match Facts::of(certificate) {
        Ok(facts) => facts,
        Err(why) => return report.fail("certificates", of, why, renew),
    };
    if let Err(why) = facts.check_time(SystemClock.unix_time()) {
        let advice = match why {
            OutOfTime::NotYet(_) => "is this machine's clock right?",
            OutOfTime::Expired(_) => renew,
        };
        return report.fail("certificates", of, why, advice);
    }
    let days = facts.left(SystemClock.now()).as_secs() / DAY_S;
    if days < FAIL_DAYS {
        report.fail("certificates", of, format!("it expires in {days} days"), renew);
    } else if days < WARN_DAYS {
        report.warn("certificates", of, format!("it expires in {days} days"), renew);
    } else {
        report.ok("certificates", of, format!("valid for {days} days"));
    }
}

fn check_chain(
    identity: &Identity,
    own: &CertificateDer<'static>,
    more: &[CertificateDer<'static>],
    node: &NodeName,
) -> Result<(), String> {
    let words = |error: webpki::Error| error.to_string();
    let anchors: Result<Vec<_>, _> =
        identity.authorities.iter().map(webpki::anchor_from_trusted_cert).collect();
    let anchors = anchors.map_err(words)?;
    let certificate = EndEntityCert::try_from(own).map_err(words)?;
    let name = ServerName::try_from(node.as_str()).map_err(|e| e.to_string())?;
    certificate.verify_is_valid_for_subject_name(&name).map_err(words)?;
    for usage in [KeyUsage::server_auth(), KeyUsage::client_auth()] {
        let algorithms = webpki::ALL_VERIFICATION_ALGS;
        let now = SystemClock.unix_time();
        certificate
            .verify_for_usage(algorithms, &anchors, more, now, usage, None, None)
            .map_err(words)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;
    use std::time::Duration;

    use super::*;
    use crate::cli::doctor::report::State;
    use crate::env::{Entropy, ManualClock};
    use crate::model::Stamp;
    use crate::transport::{Authority, NODE_VALID};

    /// What is found of a node whose certificate is valid for so long, with a key of that mode.
    fn found(left: Duration, mode: u32) -> (usize, usize, Vec<String>) {
        let dir = tempfile::tempdir().unwrap();
        let (entropy, node) = (Entropy::system(), NodeName::new("a-1").unwrap());
        let authority = Authority::create(&entropy, &SystemClock).unwrap();
        authority.save(dir.path()).unwrap();
        let issued_at =
            SystemClock.now().0 + left.as_micros() as u64 - NODE_VALID.as_micros() as u64;
        let clock = ManualClock::new(Stamp(issued_at));
        authority.issue(&node, &entropy, &clock).unwrap().save(dir.path(), "a-1").unwrap();
        std::fs::remove_file(dir.path().join("ca.key")).unwrap();
        let mode = std::fs::Permissions::from_mode(mode);
        std::fs::set_permissions(dir.path().join("a-1.key"), mode).unwrap();
        let mut report = Report::default();
        check(dir.path(), &node, &mut report);
        let advice = report.findings().iter().map(|it| it.advice.clone());
        let advice = advice.filter(|advice| !advice.is_empty()).collect();
        (report.count(State::Fail), report.count(State::Warn), advice)
    }

    #[test]
    fn a_certificate_that_ends_soon_is_told_of_with_what_renews_it() {
        let days = |days: u64| Duration::from_secs(days * DAY_S + 3_600);
        assert_eq!(found(days(100), 0o600), (0, 0, vec![]));
        let renew = vec!["`holm pki renew` makes a new one".to_owned()];
        assert_eq!(found(days(20), 0o600), (0, 1, renew.clone()));
        assert_eq!(found(days(2), 0o600), (1, 0, renew));
    }

    #[test]
    fn a_key_that_the_node_takes_does_not_fail() {
        let days = Duration::from_secs(100 * DAY_S);
        let (failed, warned, _) = found(days, 0o640);
        assert_eq!((failed, warned), (0, 1));
        assert_eq!(found(days, 0o644).0, 1);
    }
}
