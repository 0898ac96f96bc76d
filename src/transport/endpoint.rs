//! A node's QUIC endpoint: one UDP socket that both dials and accepts. Limits on streams, windows
//! and handshakes; no early data. Its identity can be replaced while it runs: what is dialed or
//! accepted from then on is under the new one, and what stands, stands.

use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use arc_swap::ArcSwap;
use quinn::crypto::rustls::{NoInitialCipherSuite, QuicClientConfig, QuicServerConfig};
use quinn::{ConnectionId, ConnectionIdGenerator, TimeSource, TransportConfig, VarInt};
use rand::{RngCore as _, SeedableRng as _};

use super::congestion::ForgivingConfig;
use super::pki::Identity;
use super::tls::{self, TlsError, Trust};
use crate::env::{Env, Stream, WallClock};
use crate::model::NodeName;

/// A connection that hears nothing for this long is gone.
pub const IDLE: Duration = Duration::from_secs(10);
/// Keeps the path and its address translations open.
const KEEP_ALIVE: Duration = Duration::from_secs(3);
/// One-way streams that a peer may have open.
const UNI_STREAMS_MAX: u32 = 16;
/// Two-way streams that a peer may have open: more than what all kinds of questions together take.
const BIDI_STREAMS_MAX: u32 = 128;
/// Bytes of one stream on their way: 40 MB/s at 100 ms.
const STREAM_WINDOW: u32 = 4 * 1024 * 1024;
/// Bytes of one connection on their way.
const CONNECTION_WINDOW: u32 = 8 * 1024 * 1024;
/// Sent before the first acknowledgement. More than QUIC's usual 12 KB, because catching up over
/// 200 ms would take 5 more round trips otherwise; a cluster's links are not a phone's.
const WINDOW_INITIAL: u64 = 256 * 1024;
/// Guess for a path that was never measured: a lost first packet is repeated after three times
/// this.
const RTT_INITIAL: Duration = Duration::from_millis(100);
/// Handshakes that wait to be taken.
const INCOMING_MAX: usize = 256;
/// What a handshake may send before it is taken, in bytes.
const INCOMING_BUFFER: u64 = 64 * 1024;

/// Why there is no endpoint.
#[derive(Debug, thiserror::Error)]
pub enum EndpointError {
    /// The certificates don't do.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// TLS is without the cipher that QUIC starts with.
    #[error(transparent)]
    Cipher(#[from] NoInitialCipherSuite),
    /// The address can't be bound.
    #[error("{addr}: {source}")]
    Bind {
        /// The address.
        addr: SocketAddr,
        /// What the system said.
        source: io::Error,
    },
}

/// A node's QUIC endpoint. Dialing and accepting (`connect`, `accept`), its identity (`replace_identity`,
/// `trusts`), where it is (`local_addr`), and its end (`close`, `wait_idle`).
pub struct Endpoint {
    quic: quinn::Endpoint,
    source: tls::Source,
    transport: Arc<TransportConfig>,
    token_key: Arc<dyn quinn::crypto::HandshakeTokenKey>,
    first_ids: Arc<dyn Fn() -> ConnectionId + Send + Sync>,
    clock: Arc<dyn WallClock>,
    current: ArcSwap<Current>,
}

/// What goes with the identity.
struct Current {
    client: quinn::ClientConfig,
    trust: Trust,
}

/// Binds `addr` and speaks QUIC there as `node`. Called inside a tokio runtime.
pub fn endpoint(
    env: &Env,
    node: &NodeName,
    addr: SocketAddr,
    identity: &Identity,
) -> Result<Endpoint, EndpointError> {
    let source = tls::Source::new(&env.entropy, env.clock.clone());
    let sides = source.sides(identity)?;
    let mut rng = env.entropy.stream("quic");
    let transport = Arc::new(transport_config());
    let token_key = Arc::new(
        ring::hkdf::Salt::new(ring::hkdf::HKDF_SHA256, &[]).extract(&bytes::<64>(&mut rng)),
    );
    let first_ids = Mutex::new(Stream::from_seed(bytes(&mut rng)));
    let first_ids = Arc::new(move || {
        let mut rng = first_ids.lock().unwrap_or_else(PoisonError::into_inner);
        ConnectionId::new(&bytes::<20>(&mut rng))
    });

    let reset_key = ring::hmac::Key::new(ring::hmac::HMAC_SHA256, &bytes::<64>(&mut rng));
    let mut config = quinn::EndpointConfig::new(Arc::new(reset_key));
    config.rng_seed(Some(bytes(&mut rng)));
    let ids: [u8; 32] = bytes(&mut rng);
    config.cid_generator(move || Box::new(Ids(Stream::from_seed(ids))));

    let server = server_config(sides.server, &transport, token_key.clone(), env.clock.clone())?;
    let client = client_config(sides.client, &transport, first_ids.clone())?;
    let bind = |source| EndpointError::Bind { addr, source };
    let socket = env.net.udp(node, addr).map_err(bind)?;
    let runtime = Arc::new(quinn::TokioRuntime);
    let quic = quinn::Endpoint::new_with_abstract_socket(config, Some(server), socket, runtime)
        .map_err(bind)?;
    let current = ArcSwap::from_pointee(Current { client, trust: sides.trust });
    let clock = env.clock.clone();
    Ok(Endpoint { quic, source, transport, token_key, first_ids, clock, current })
}

impl Endpoint {
    /// Begins to dial a node.
    pub fn connect(
        &self,
        addr: SocketAddr,
        name: &str,
    ) -> Result<quinn::Connecting, quinn::ConnectError> {
        self.quic.connect_with(self.current.load().client.clone(), addr, name)
    }

    /// The next handshake that a peer begins; none once the endpoint is closed.
    pub fn accept(&self) -> quinn::Accept<'_> {
        self.quic.accept()
    }

    /// Where it is bound.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.quic.local_addr()
    }

    /// Shows and believes something else from now on. Nothing changes where it cannot be used.
    pub fn replace_identity(&self, identity: &Identity) -> Result<(), EndpointError> {
        let sides = self.source.sides(identity)?;
        let (token_key, clock) = (self.token_key.clone(), self.clock.clone());
        let server = server_config(sides.server, &self.transport, token_key, clock)?;
        let client = client_config(sides.client, &self.transport, self.first_ids.clone())?;
        self.quic.set_server_config(Some(server));
        self.current.store(Arc::new(Current { client, trust: sides.trust }));
        Ok(())
    }

    /// Whether the peer's certificate on a connection that stands is one of an authority that is
    /// believed now.
    pub fn trusts(&self, connection: &quinn::Connection) -> bool {
        let chain = super::hello::chain(connection);
        chain.is_some_and(|chain| self.current.load().trust.includes(&chain))
    }

    /// Closes all connections.
    pub fn close(&self, code: VarInt, reason: &[u8]) {
        self.quic.close(code, reason);
    }

    /// Waits until what was said is sent.
    pub async fn wait_idle(&self) {
        self.quic.wait_idle().await;
    }
}

fn server_config(
    tls: rustls::ServerConfig,
    transport: &Arc<TransportConfig>,
    token_key: Arc<dyn quinn::crypto::HandshakeTokenKey>,
    clock: Arc<dyn WallClock>,
) -> Result<quinn::ServerConfig, EndpointError> {
    let crypto = Arc::new(QuicServerConfig::try_from(tls)?);
    let mut server = quinn::ServerConfig::new(crypto, token_key);
    server
        .transport_config(transport.clone())
        .time_source(Arc::new(Clock(clock)))
        .max_incoming(INCOMING_MAX)
        .incoming_buffer_size(INCOMING_BUFFER)
        .incoming_buffer_size_total(INCOMING_BUFFER * INCOMING_MAX as u64);
    Ok(server)
}

fn client_config(
    tls: rustls::ClientConfig,
    transport: &Arc<TransportConfig>,
    first_ids: Arc<dyn Fn() -> ConnectionId + Send + Sync>,
) -> Result<quinn::ClientConfig, EndpointError> {
    let mut client = quinn::ClientConfig::new(Arc::new(QuicClientConfig::try_from(tls)?));
    client.transport_config(transport.clone()).initial_dst_cid_provider(first_ids);
    Ok(client)
}

fn transport_config() -> TransportConfig {
    let mut transport = TransportConfig::default();
    transport
        .max_concurrent_bidi_streams(VarInt::from_u32(BIDI_STREAMS_MAX))
        .max_concurrent_uni_streams(VarInt::from_u32(UNI_STREAMS_MAX))
        .stream_receive_window(VarInt::from_u32(STREAM_WINDOW))
        .receive_window(VarInt::from_u32(CONNECTION_WINDOW))
        .send_window(u64::from(CONNECTION_WINDOW))
        .datagram_receive_buffer_size(None)
        .initial_rtt(RTT_INITIAL)
        .keep_alive_interval(Some(KEEP_ALIVE))
        .max_idle_timeout(IDLE.try_into().ok())
        .congestion_controller_factory(Arc::new(ForgivingConfig::new(WINDOW_INITIAL)));
    transport
}

fn bytes<const N: usize>(rng: &mut Stream) -> [u8; N] {
    let mut bytes = [0; N];
    rng.fill_bytes(&mut bytes);
    bytes
}

struct Ids(Stream);

impl ConnectionIdGenerator for Ids {
    fn generate_cid(&mut self) -> ConnectionId {
        ConnectionId::new(&bytes::<8>(&mut self.0))
    }

    fn cid_len(&self) -> usize {
        8
    }

    fn cid_lifetime(&self) -> Option<Duration> {
        None
    }
}

struct Clock(Arc<dyn WallClock>);

impl TimeSource for Clock {
    fn now(&self) -> SystemTime {
        self.0.system_time()
    }
}
