//! Which certificates each node of the cluster shows, and which authorities it believes: what has to
//! be known before an authority is dropped. A node says it of itself, when it is asked over gossip.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::{BoxFuture, FutureExt as _, join_all};
use rustls::pki_types::CertificateDer;
use schemars::JsonSchema;
use serde::Serialize;
use tokio::time::Instant;

use super::Node;
use crate::gossip::{Gossip, Responder, StreamKind};
use crate::model::{NodeName, cbor};
use crate::transport::certificate::Facts;
use crate::transport::{EndpointError, Identity, tls};

/// How long a peer has to answer.
const ASK_TIMEOUT: Duration = Duration::from_secs(5);

/// A certificate, and which of the cluster's authorities it is of.
#[derive(
    Clone, Debug, PartialEq, Eq, Serialize, minicbor::Encode, minicbor::Decode, JsonSchema,
)]
#[cbor(map)]
pub struct Certified {
    /// What it says.
    #[n(0)]
    #[serde(flatten)]
    pub facts: Facts,
    /// The fingerprint of the authority that the node believes and that signed it; none for one
    /// that somebody else signed.
    #[n(1)]
    pub authority: Option<String>,
}

/// What one node shows and believes.
#[derive(
    Clone, Debug, Default, PartialEq, Eq, Serialize, minicbor::Encode, minicbor::Decode, JsonSchema,
)]
#[cbor(map)]
#[schemars(rename = "ShownCertificates")]
pub struct Shown {
    /// What it shows to other nodes.
    #[n(0)]
    pub certificate: Option<Certified>,
    /// The authorities it believes.
    #[n(1)]
    pub authorities: Vec<Facts>,
    /// What it shows to clients; none where HTTP has no TLS.
    #[n(2)]
    pub http: Option<Certified>,
}

/// One node of the topology.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct NodeCertificates {
    /// Its name.
    pub node: NodeName,
    /// What it shows; none where it did not say.
    #[serde(flatten)]
    pub shown: Option<Shown>,
    /// Why it did not say.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unknown: Option<String>,
}

/// What this node shows now. Clones are one.
#[derive(Clone, Default)]
pub(super) struct Certificates(Arc<Mutex<Current>>);

#[derive(Default)]
struct Current {
    shown: Shown,
    authorities: Vec<CertificateDer<'static>>,
    http: Vec<CertificateDer<'static>>,
}

#[derive(minicbor::Encode, minicbor::Decode)]
struct Question {}

impl Certificates {
    fn change<T>(&self, change: impl FnOnce(&mut Current) -> T) -> T {
        change(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Those of an identity. Peers that ask are answered, by what holds nothing else of the node's.
    pub(super) fn of(identity: &Identity, gossip: Option<&Gossip>) -> Self {
        let certificates = Self::default();
        certificates.set_identity(identity);
        if let Some(gossip) = gossip {
            gossip.respond(StreamKind::Certificates, Arc::new(certificates.clone()));
        }
        certificates
    }

    pub(super) fn shown(&self) -> Shown {
        self.change(|current| current.shown.clone())
    }

    pub(super) fn set_identity(&self, identity: &Identity) {
        let certificate = certified(&identity.chain, &identity.authorities);
        // What is no certificate was refused before.
        let authorities = identity.authorities.iter().filter_map(|it| Facts::of(it).ok()).collect();
        self.change(|current| {
            current.authorities.clone_from(&identity.authorities);
            let http = certified(&current.http, &current.authorities);
            current.shown = Shown { certificate, authorities, http };
        });
    }

    pub(super) fn set_http(&self, chain: &[CertificateDer<'static>]) {
        self.change(|current| {
            current.http = chain.to_vec();
            current.shown.http = certified(chain, &current.authorities);
        });
    }
}

impl Responder for Certificates {
    fn answer(&self, _peer: NodeName, question: Bytes) -> BoxFuture<'static, Option<Vec<u8>>> {
        let is_known = cbor::decode::<Question>(&question).is_ok();
        let answer = is_known.then(|| cbor::encode(&self.shown()));
        async move { answer }.boxed()
    }
}

fn certified(
    chain: &[CertificateDer<'_>],
    authorities: &[CertificateDer<'static>],
) -> Option<Certified> {
    let facts = Facts::of(chain.first()?).ok()?;
    Some(Certified { facts, authority: tls::authority_of(chain, authorities) })
}

impl Node {
    /// Shows and believes something else from now on, without a restart.
    pub fn replace_identity(&self, identity: &Identity) -> Result<(), EndpointError> {
        if let Some(gossip) = self.0.gossip.get() {
            gossip.replace_identity(identity)?;
        }
        self.0.certificates.set_identity(identity);
        Ok(())
    }

    /// What clients of the HTTP side see from now on.
    pub(crate) fn set_http_certificate(&self, chain: &[CertificateDer<'static>]) {
        self.0.certificates.set_http(chain);
    }

    /// What this node shows and believes.
    pub fn certificate(&self) -> Shown {
        self.0.certificates.shown()
    }

    /// What every node of the topology shows and believes, each asked now.
    pub async fn certificates(&self) -> Vec<NodeCertificates> {
        let topology = self.0.members.topology();
        let nodes = topology.nodes().iter();
        join_all(nodes.map(|node| self.certificates_of(&node.name))).await
    }

    async fn certificates_of(&self, node: &NodeName) -> NodeCertificates {
        let said = if *node == self.0.name {
            Ok(self.certificate())
        } else {
            match self.0.gossip.get() {
                Some(gossip) => ask(gossip, node).await,
                None => Err("this node has no peers".to_owned()),
            }
        };
        let (shown, unknown) = match said {
            Ok(shown) => (Some(shown), None),
            Err(why) => (None, Some(why)),
        };
        NodeCertificates { node: node.clone(), shown, unknown }
    }

    /// The certificates whose end is watched: each kind's that ends first.
    pub fn certificate_ends(&self) -> Vec<(&'static str, Facts)> {
        let shown = self.certificate();
        let first_end = shown.authorities.into_iter().min_by_key(|facts| facts.not_after);
        [
            ("node", shown.certificate.map(|it| it.facts)),
            ("ca", first_end),
            ("http", shown.http.map(|it| it.facts)),
        ]
        .into_iter()
        .filter_map(|(kind, facts)| Some((kind, facts?)))
        .collect()
    }
}

async fn ask(gossip: &Gossip, node: &NodeName) -> Result<Shown, String> {
    let question = cbor::encode(&Question {});
    let deadline = Instant::now() + ASK_TIMEOUT;
    let answer = gossip.ask(node, StreamKind::Certificates, &question, deadline).await;
    let answer = answer.map_err(|error| error.to_string())?;
    cbor::decode(&answer).map_err(|error| format!("what it said does not decode: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::env::{Entropy, ManualClock};
    use crate::model::Stamp;
    use crate::transport::Authority;

    #[test]
    fn a_node_says_which_authority_each_of_its_certificates_is_of() {
        let (entropy, clock) = (Entropy::seeded(1), ManualClock::new(Stamp(1_800_000_000_000_000)));
        let authority = || Authority::create(&entropy, &clock).unwrap();
        let (old, new, other) = (authority(), authority(), authority());
        let name = NodeName::new("a-1").unwrap();
        let issue = |by: &Authority| by.issue(&name, &entropy, &clock).unwrap();
        let certificates = Certificates::default();
        certificates.set_http(&issue(&other).chain);
        let authorities = vec![old.certificate().clone(), new.certificate().clone()];
        certificates.set_identity(&Identity { authorities: authorities.clone(), ..issue(&new) });
        let shown = certificates.shown();
        assert_eq!(shown.certificate.as_ref().unwrap().authority, Some(new.fingerprint()));
        assert_eq!(shown.authorities.len(), 2);
        assert_eq!(shown.http.as_ref().unwrap().authority, None);
        certificates.set_http(&issue(&old).chain);
        let shown = certificates.shown();
        assert_eq!(shown.http.as_ref().unwrap().authority, Some(old.fingerprint()));
        // Whom the node believes decides of which authority what clients see is, too.
        certificates.set_identity(&issue(&new));
        assert_eq!(certificates.shown().http.unwrap().authority, None);
        certificates.set_identity(&Identity { authorities, ..issue(&new) });
        let shown = certificates.shown();
        assert_eq!(shown.http.as_ref().unwrap().authority, Some(old.fingerprint()));
        let answer = cbor::encode(&shown);
        assert_eq!(cbor::decode::<Shown>(&answer).unwrap(), shown);
    }
}
