//! The hello: what both sides of a connection say before anything else, and why one of them is
//! turned away. TLS alone has proven that the peer has *a* certificate of the cluster; the hello
//! proves that it is the node it says it is, in this topology, with a protocol that both speak.

use std::time::Duration;

use quinn::{Connection, VarInt};
use rustls::pki_types::{CertificateDer, ServerName};
use tokio::time::timeout;
use webpki::EndEntityCert;

use super::frame::{self, FrameError, FrameReader};
use crate::env::Release;
use crate::model::{Features, NodeName, Origin, RegionName, Stamp, Told};
use crate::topology::{Address, Node, Topology};

/// The protocol that this program speaks.
pub const PROTOCOL: u32 = 1;
/// The oldest protocol that it still speaks.
pub const PROTOCOL_MIN: u32 = 1;
/// Longest hello, in bytes: a vector of all origins fits.
const HELLO_LEN_MAX: usize = 128 * 1024;
/// Longest reason, in bytes.
const REASON_LEN_MAX: usize = 1_000;
/// How long a peer may take to say hello.
pub const HELLO_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a peer may take to read why it was refused.
const REASON_TIMEOUT: Duration = Duration::from_secs(2);

/// The connection ended as it should.
pub const CLOSE_DONE: VarInt = VarInt::from_u32(0);
/// The hello was refused.
pub const CLOSE_REFUSED: VarInt = VarInt::from_u32(1);
/// The peer broke the protocol.
pub const CLOSE_MISBEHAVED: VarInt = VarInt::from_u32(2);
/// The peer leaves: it is to be forgotten.
pub const CLOSE_LEFT: VarInt = VarInt::from_u32(3);

/// Who speaks.
#[derive(Clone, Debug, PartialEq, Eq, minicbor::Encode, minicbor::Decode)]
#[cbor(map)]
pub struct Hello {
    /// The newest protocol that it speaks.
    #[n(0)]
    pub protocol: u32,
    /// The oldest protocol that it speaks.
    #[n(1)]
    pub protocol_min: u32,
    /// The cluster it belongs to.
    #[n(2)]
    pub cluster: String,
    /// Its name.
    #[n(3)]
    pub node: String,
    /// Where it stands.
    #[n(4)]
    pub region: String,
    /// The origin of the changes it makes.
    #[n(5)]
    pub origin: Origin,
    /// Drawn when it started: another number is another start.
    #[n(6)]
    pub instance: u64,
    /// Its time of day.
    #[n(7)]
    pub now: Stamp,
    /// What it has.
    #[n(8)]
    pub vector: Told,
    /// Where it can be reached, where the topology's file does not name it.
    #[n(9)]
    pub announced: Option<Announced>,
    /// What it can do beyond its protocol; absent from programs that know of no features.
    #[n(10)]
    pub features: Option<Features>,
    /// Whether its clients have to speak HTTPS.
    #[n(11)]
    pub https: Option<bool>,
}

impl Hello {
    /// What that release knows of it.
    pub(crate) fn known_to(self, release: Release) -> Self {
        Self { features: release.knows(self.features), https: release.knows(self.https), ..self }
    }
}

/// What a node says of itself that joins.
#[derive(Clone, Debug, PartialEq, Eq, minicbor::Encode, minicbor::Decode)]
#[cbor(map)]
pub struct Announced {
    /// Where it speaks QUIC.
    #[n(0)]
    pub peer: String,
    /// Where it answers HTTP.
    #[n(1)]
    pub http: String,
    /// Greater than at its earlier starts.
    #[n(2)]
    pub incarnation: u64,
}

/// A hello that was checked.
#[derive(Clone, Debug)]
pub struct Peer {
    /// Its name, which its certificate carries.
    pub node: NodeName,
    /// Where it stands.
    pub region: RegionName,
    /// What it said.
    pub hello: Hello,
    /// Where it is not in the file, the node that it would be, and its incarnation.
    pub joins: Option<(Node, u64)>,
}

#[derive(minicbor::Encode, minicbor::Decode)]
enum Answer {
    #[n(0)]
    Welcome(#[n(0)] Box<Hello>),
    #[n(1)]
    Refused(#[n(0)] String),
}

/// Why a connection was not taken. The connection is closed.
#[derive(Debug, thiserror::Error)]
pub enum HelloError {
    /// Its protocols are others than this program's.
    #[error("it speaks protocol {min} to {max}; this node speaks {PROTOCOL_MIN} to {PROTOCOL}")]
    Protocol {
        /// Its oldest.
        min: u32,
        /// Its newest.
        max: u32,
    },
    /// It belongs to another cluster.
    #[error("it belongs to the cluster {0:?}")]
    Cluster(String),
    /// It has this node's name: one of the two was started twice or copied.
    #[error("it has this node's own name")]
    OwnName,
    /// It is not in the topology and does not join, or is in another region there.
    #[error("the topology has no node {node:?} in {region:?}")]
    Unknown {
        /// The name it gave.
        node: String,
        /// The region it gave.
        region: String,
    },
    /// It announced an address that is none, or where nobody can go.
    #[error("the node {0:?} joins, and announces no address where it could be reached")]
    Address(String),
    /// It is not taken in: another node has its name, or there are too many.
    #[error("{0}")]
    NotTaken(String),
    /// The certificate is another node's.
    #[error("its certificate is not for the name {0:?}")]
    Certificate(String),
    /// It is not the node that was dialed.
    #[error("it is {0:?}, which is not who was dialed")]
    Other(String),
    /// It refused this node.
    #[error("it refused this node: {0}")]
    Refused(String),
    /// It did not say hello in time.
    #[error("it said no hello in time")]
    Timeout,
    /// What it said is not a hello, or the connection failed.
    #[error(transparent)]
    Frame(#[from] FrameError),
}

impl HelloError {
    /// Whether it makes sense to try again soon: the network's fault, not the peer's.
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Timeout => true,
            Self::Frame(error) => !error.is_misbehaviour(),
            _ => false,
        }
    }
}

/// Says hello on a connection that this node dialed to `to`, and hears the answer.
pub async fn dial(
    connection: &Connection,
    topology: &Topology,
    mine: &Hello,
    to: &NodeName,
) -> Result<Peer, HelloError> {
    dial_to(connection, topology, mine, Some(to)).await
}

/// The same to whoever is there: its name is the one that it says and that its certificate carries.
pub async fn dial_any(
    connection: &Connection,
    topology: &Topology,
    mine: &Hello,
) -> Result<Peer, HelloError> {
    dial_to(connection, topology, mine, None).await
}

async fn dial_to(
    connection: &Connection,
    topology: &Topology,
    mine: &Hello,
    to: Option<&NodeName>,
) -> Result<Peer, HelloError> {
    let talk = async {
        let (mut send, receive) = connection.open_bi().await.map_err(lost)?;
        frame::write(&mut send, mine).await?;
        let mut reader = FrameReader::new(receive, HELLO_LEN_MAX);
        match reader.message().await? {
            Answer::Refused(reason) => Err(HelloError::Refused(printable(&reason))),
            Answer::Welcome(hello) => {
                let peer = check(*hello, certificate(connection).as_ref(), topology, mine)?;
                if to.is_some_and(|to| peer.node != *to) {
                    return Err(HelloError::Other(peer.node.to_string()));
                }
                Ok(peer)
            }
        }
    };
    let mut peer = timeout(HELLO_TIMEOUT, talk).await.unwrap_or(Err(HelloError::Timeout));
    // A peer that does not take this node's certificate says so only now, and the stream does not.
    if let (Err(HelloError::Frame(FrameError::Io(_))), Some(reason)) =
        (&peer, connection.close_reason())
    {
        peer = Err(HelloError::Frame(lost(reason)));
    }
    if let Err(error) = &peer {
        connection.close(CLOSE_REFUSED, error.to_string().as_bytes());
    }
    peer
}

/// Hears the hello on a connection that a peer dialed, and answers it: as `admit` says, where the
/// hello is one.
pub async fn accept(
    connection: &Connection,
    topology: &Topology,
    mine: &Hello,
    admit: impl Fn(&Peer) -> Result<(), HelloError>,
) -> Result<Peer, HelloError> {
    let talk = async {
        let (mut send, receive) = connection.accept_bi().await.map_err(lost)?;
        let mut reader = FrameReader::new(receive, HELLO_LEN_MAX);
        let hello = reader.message().await?;
        let peer = check(hello, certificate(connection).as_ref(), topology, mine);
        let peer = peer.and_then(|peer| admit(&peer).map(|()| peer));
        let answer = match &peer {
            Ok(_) => Answer::Welcome(Box::new(mine.clone())),
            Err(error) => Answer::Refused(error.to_string()),
        };
        frame::write(&mut send, &answer).await?;
        let _ = send.finish();
        peer
    };
    let peer = timeout(HELLO_TIMEOUT, talk).await.unwrap_or(Err(HelloError::Timeout));
    if let Err(error) = &peer {
        if !error.is_transient() {
            // The peer closes when it has read why; closing first would overtake the reason.
            let _ = timeout(REASON_TIMEOUT, connection.closed()).await;
        }
        connection.close(CLOSE_REFUSED, error.to_string().as_bytes());
    }
    peer
}

fn lost(error: quinn::ConnectionError) -> FrameError {
    FrameError::Io(error.into())
}

/// What the peer showed when the connection was made.
pub(super) fn chain(connection: &Connection) -> Option<Vec<CertificateDer<'static>>> {
    let chain = connection.peer_identity()?.downcast::<Vec<CertificateDer<'static>>>().ok()?;
    Some(*chain)
}

fn certificate(connection: &Connection) -> Option<CertificateDer<'static>> {
    chain(connection)?.into_iter().next()
}

fn check(
    hello: Hello,
    certificate: Option<&CertificateDer<'_>>,
    topology: &Topology,
    mine: &Hello,
) -> Result<Peer, HelloError> {
    if hello.protocol < PROTOCOL_MIN || hello.protocol_min > PROTOCOL {
        return Err(HelloError::Protocol { min: hello.protocol_min, max: hello.protocol });
    }
    if hello.cluster != topology.cluster {
        return Err(HelloError::Cluster(printable(&hello.cluster)));
    }
    if hello.node == mine.node {
        return Err(HelloError::OwnName);
    }
    let unknown = || {
        let (node, region) = (printable(&hello.node), printable(&hello.region));
        HelloError::Unknown { node, region }
    };
    let named = topology.named().find(|node| node.name.as_str() == hello.node);
    let (node, region, joins) = match named {
        Some(known) if known.region.as_str() == hello.region => {
            (known.name.clone(), known.region.clone(), None)
        }
        Some(_) => return Err(unknown()),
        None => {
            let region = topology.regions().iter().find(|r| r.name.as_str() == hello.region);
            let name = NodeName::new(&hello.node).ok();
            let (Some(region), Some(name)) = (region, name) else { return Err(unknown()) };
            let joins = joining(&hello, name.clone(), region.name.clone())?;
            (name, region.name.clone(), Some(joins))
        }
    };
    if !certificate.is_some_and(|certificate| is_for(certificate, &node)) {
        return Err(HelloError::Certificate(hello.node));
    }
    Ok(Peer { node, region, hello, joins })
}

/// The node that the hello's sender would be, and its incarnation.
fn joining(hello: &Hello, name: NodeName, region: RegionName) -> Result<(Node, u64), HelloError> {
    let Some(announced) = &hello.announced else {
        return Err(HelloError::Unknown { node: name.to_string(), region: region.to_string() });
    };
    let address = |text: &str| {
        let address = Address::new(text).filter(Address::is_reachable);
        address.ok_or_else(|| HelloError::Address(name.to_string()))
    };
    let (peer, http) = (address(&announced.peer)?, address(&announced.http)?);
    let incarnation = announced.incarnation;
    Ok((Node { name, region, peer, http, joined: true }, incarnation))
}

/// Whether the certificate is for the name of `node`.
pub(super) fn is_for(certificate: &CertificateDer<'_>, node: &NodeName) -> bool {
    let Ok(name) = ServerName::try_from(node.as_str()) else { return false };
    let certificate = EndEntityCert::try_from(certificate);
    certificate.is_ok_and(|certificate| certificate.verify_is_valid_for_subject_name(&name).is_ok())
}

/// What a peer said, fit for a log: bounded, and without control characters.
fn printable(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).take(REASON_LEN_MAX).collect()
}

#[cfg(test)]
mod tests;
