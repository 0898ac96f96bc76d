//! The files that nodes know each other by: there, private, of this node, signed by the authority,
//! and valid for a while yet.

use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use rustls::pki_types::{CertificateDer, ServerName};
use webpki::{EndEntityCert, KeyUsage};

use super::report::Report;
use super::validity;
use crate::env::{SystemClock, WallClock as _};
use crate::model::NodeName;
use crate::transport::Identity;

/// How long before its end a certificate is worth a warning, in days.
const WARN_DAYS: i64 = 30;
/// How long before its end it is too late to plan, in days.
const FAIL_DAYS: i64 = 3;
const DAY_S: i64 = 24 * 3_600;

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
        Ok(found) if found.mode() & 0o077 != 0 => {
            let found = format!("others may read or change it (mode {:o})", found.mode() & 0o777);
            report.fail("certificates", key.display(), found, "chmod 600 it");
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
    check_time(&format!("{node}.pem"), own, "`holm pki issue` makes a new one", report);
    if let Err(error) = check_chain(&identity, own, more, node) {
        let advice = "it has to be issued by this cluster's authority, for this node's name";
        report.fail("certificates", format!("{node}.pem"), error, advice);
    } else {
        let found = "names the node, and ca.pem has its authority";
        report.ok("certificates", format!("{node}.pem"), found);
    }
}

fn check_time(of: &str, certificate: &CertificateDer<'_>, renew: &str, report: &mut Report) {
    let now = i64::try_from(SystemClock.unix_time().as_secs()).unwrap_or(i64::MAX);
    let Some((from, to)) = validity::of(certificate) else {
        return report.fail("certificates", of, "it is no certificate", renew);
    };
    let days = (to - now) / DAY_S;
    if from > now {
        let advice = "is this machine's clock right?";
        report.fail("certificates", of, "it is not valid yet", advice);
    } else if to <= now {
        report.fail("certificates", of, "it has expired", renew);
    } else if days < FAIL_DAYS {
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
