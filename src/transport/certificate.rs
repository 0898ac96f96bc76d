//! What a certificate says, for people and for checks: whom it is for, from when to when, and its
//! fingerprint. It says nothing of trust: that is `tls`'s business.

use std::fmt;
use std::time::Duration;

use rustls::pki_types::{CertificateDer, UnixTime};
use schemars::JsonSchema;
use serde::{Serialize, Serializer};
use sha2::{Digest as _, Sha256};
use x509_parser::prelude::{FromDer as _, GeneralName, X509Certificate};

use crate::model::Stamp;

/// Most names of one certificate that are looked at.
const NAMES_MAX: usize = 64;
/// Longest subject that is kept, in bytes.
const SUBJECT_LEN_MAX: usize = 256;

/// What one certificate says.
#[derive(
    Clone, Debug, PartialEq, Eq, Serialize, minicbor::Encode, minicbor::Decode, JsonSchema,
)]
#[cbor(map)]
#[schemars(rename = "Certificate")]
pub struct Facts {
    /// SHA-256 of the certificate, in hexadecimal: its name for machines.
    #[n(0)]
    pub fingerprint: String,
    /// Whom it is for: its common name, else the whole subject.
    #[n(1)]
    pub subject: String,
    /// From when on it is valid, in seconds since the Unix epoch.
    #[n(2)]
    #[serde(serialize_with = "date")]
    #[schemars(with = "Stamp")]
    pub not_before: u64,
    /// Until when it is valid, in seconds since the Unix epoch.
    #[n(3)]
    #[serde(serialize_with = "date")]
    #[schemars(with = "Stamp")]
    pub not_after: u64,
    /// The host names and addresses it is for.
    #[n(4)]
    pub names: Vec<String>,
}

/// Why a certificate is not valid now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OutOfTime {
    /// It will be, from then on (seconds since the Unix epoch).
    NotYet(u64),
    /// It was, until then (seconds since the Unix epoch).
    Expired(u64),
}

impl fmt::Display for OutOfTime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotYet(at) => write!(f, "it is not valid before {}", Date(*at)),
            Self::Expired(at) => write!(f, "it expired at {}", Date(*at)),
        }
    }
}

/// Seconds since the Unix epoch, written as RFC 3339 in UTC.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Date(pub u64);

impl fmt::Display for Date {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let time = i64::try_from(self.0).ok().map(jiff::Timestamp::from_second);
        match time {
            Some(Ok(time)) => write!(f, "{time}"),
            _ => write!(f, "{}", self.0),
        }
    }
}

fn date<S: Serializer>(at: &u64, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(&Date(*at))
}

impl Facts {
    /// Reads a certificate; the error says why it is none.
    pub fn of(der: &CertificateDer<'_>) -> Result<Self, String> {
        let (rest, certificate) = X509Certificate::from_der(der)
            .map_err(|error| format!("this is no X.509 certificate: {error}"))?;
        if !rest.is_empty() {
            return Err("there are bytes after the certificate".to_owned());
        }
        let subject = certificate.subject();
        let common_name = subject.iter_common_name().next().and_then(|name| name.as_str().ok());
        let subject = common_name.map_or_else(|| subject.to_string(), str::to_owned);
        let validity = certificate.validity();
        // A time before 1970 is as good as 1970.
        let seconds = |at: i64| u64::try_from(at).unwrap_or(0);
        Ok(Self {
            fingerprint: fingerprint(der),
            subject: printable(&subject),
            not_before: seconds(validity.not_before.timestamp()),
            not_after: seconds(validity.not_after.timestamp()),
            names: names(&certificate),
        })
    }

    /// Whether it is valid at `now`.
    pub fn check_time(&self, now: UnixTime) -> Result<(), OutOfTime> {
        match now.as_secs() {
            now if now < self.not_before => Err(OutOfTime::NotYet(self.not_before)),
            now if now > self.not_after => Err(OutOfTime::Expired(self.not_after)),
            _ => Ok(()),
        }
    }

    /// How long it is still valid at `now`; zero once it is not.
    pub fn left(&self, now: Stamp) -> Duration {
        Duration::from_secs(self.not_after.saturating_sub(now.0 / 1_000_000))
    }

    /// The start of the fingerprint: enough for people to tell certificates apart.
    pub fn short(&self) -> &str {
        self.fingerprint.get(..16).unwrap_or(&self.fingerprint)
    }
}

/// SHA-256 in hexadecimal.
pub(crate) fn fingerprint(der: &[u8]) -> String {
    Sha256::digest(der).iter().map(|byte| format!("{byte:02x}")).collect()
}

fn names(certificate: &X509Certificate<'_>) -> Vec<String> {
    let Ok(Some(names)) = certificate.subject_alternative_name() else { return Vec::new() };
    let name = |name: &GeneralName<'_>| match name {
        GeneralName::DNSName(name) => Some(printable(name)),
        GeneralName::IPAddress(bytes) => address(bytes).map(|address| address.to_string()),
        _ => None,
    };
    names.value.general_names.iter().filter_map(name).take(NAMES_MAX).collect()
}

fn address(bytes: &[u8]) -> Option<std::net::IpAddr> {
    let v4 = <[u8; 4]>::try_from(bytes).map(std::net::IpAddr::from);
    v4.or_else(|_| <[u8; 16]>::try_from(bytes).map(std::net::IpAddr::from)).ok()
}

/// Bounded, and without control characters: it goes into logs.
fn printable(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).take(SUBJECT_LEN_MAX).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::env::{Entropy, ManualClock, WallClock as _};
    use crate::model::NodeName;
    use crate::transport::{Authority, NODE_VALID};
    use proptest::prelude::*;

    const NOW_S: u64 = 1_800_000_000;

    fn certificate() -> CertificateDer<'static> {
        let (entropy, clock) = (Entropy::seeded(1), ManualClock::new(Stamp(NOW_S * 1_000_000)));
        let authority = Authority::create(&entropy, &clock).unwrap();
        let names = ["holm.example.com".to_owned(), "10.0.0.1".to_owned()];
        let node = NodeName::new("eu-west-1").unwrap();
        authority.issue_for(&node, &names, &entropy, &clock).unwrap().chain[0].clone()
    }

    #[test]
    fn a_certificate_says_whom_it_is_for_and_how_long() {
        let facts = Facts::of(&certificate()).unwrap();
        assert_eq!(facts.subject, "eu-west-1");
        assert_eq!(facts.names, ["eu-west-1", "holm.example.com", "10.0.0.1"]);
        assert_eq!(facts.not_after, NOW_S + NODE_VALID.as_secs());
        assert_eq!(facts.fingerprint.len(), 64);
        let at = |seconds: u64| UnixTime::since_unix_epoch(Duration::from_secs(seconds));
        assert_eq!(facts.check_time(at(NOW_S)), Ok(()));
        let early = facts.check_time(at(facts.not_before - 1)).unwrap_err();
        assert_eq!(early.to_string(), "it is not valid before 2027-01-15T07:00:00Z");
        let late = facts.check_time(at(facts.not_after + 1)).unwrap_err();
        assert_eq!(late.to_string(), "it expired at 2028-01-15T08:00:00Z");
        let now = ManualClock::new(Stamp(NOW_S * 1_000_000)).now();
        assert_eq!(facts.left(now), NODE_VALID);
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..512)) {
            let _ = Facts::of(&CertificateDer::from(bytes));
        }

        #[test]
        fn no_damage_to_a_certificate_makes_it_panic(
            at in any::<prop::sample::Index>(),
            with in prop::collection::vec(any::<u8>(), 1..8),
            len in any::<prop::sample::Index>(),
        ) {
            let mut bytes = certificate().to_vec();
            let at = at.index(bytes.len());
            for (byte, new) in bytes[at..].iter_mut().zip(with) {
                *byte = new;
            }
            let _ = Facts::of(&CertificateDer::from(bytes.as_slice()));
            bytes.truncate(len.index(bytes.len() + 1));
            let _ = Facts::of(&CertificateDer::from(bytes));
        }
    }
}
