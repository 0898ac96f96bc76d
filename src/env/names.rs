//! Host names: `/etc/hosts`, then DNS as `/etc/resolv.conf` says, by hickory-resolver. Answers are
//! kept for as long as DNS lets them be, and what was known is used on while no server answers: a
//! node goes on without DNS. It opens no connection to what it finds, and no answer is proof of
//! anything: who is there is for certificates to say.

use std::fs::Metadata;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::num::NonZeroUsize;
use std::ops::RangeInclusive;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use futures_util::future::join_all;
use hickory_resolver::config::{ConnectionConfig, LookupIpStrategy, ServerOrderingStrategy};
use hickory_resolver::config::{NameServerConfig, ResolveHosts, ResolverConfig, ResolverOpts};
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::net::{DnsError, NetError};
use hickory_resolver::proto::op::{Query, ResponseCode};
use hickory_resolver::proto::rr::{Name, RData, RecordType};
use hickory_resolver::{Hosts, TokioResolver};
use lru::LruCache;
use tokio::time::{Instant, timeout};

use super::net::{LOOKUP_ADDRESSES_MAX, Service};

/// Where names are looked up before DNS is asked.
const HOSTS_FILE: &str = "/etc/hosts";
/// Where the system says which servers to ask.
const RESOLV_FILE: &str = "/etc/resolv.conf";
/// How long one question to one server may take; `resolv.conf` can only make it shorter.
const QUESTION_TIMEOUT: Duration = Duration::from_secs(2);
/// How long a look-up may take in all.
const LOOKUP_TIMEOUT: Duration = Duration::from_secs(5);
/// The same where an earlier answer could be used on.
const LOOKUP_TIMEOUT_KNOWN: Duration = Duration::from_millis(500);
/// A name that is not there is asked for again after this long, whatever DNS says.
const NEGATIVE_TTL_MAX: Duration = Duration::from_secs(5);
/// Answers that are kept for as long as they hold.
const CACHE_MAX: u64 = 1_024;
/// Names whose last answer is kept for when no server answers.
const KNOWN_MAX: NonZeroUsize = match NonZeroUsize::new(1_024) {
    Some(max) => max,
    None => NonZeroUsize::MIN,
};
/// How old that answer may be (RFC 8767, section 5: one to three days).
const KNOWN_AGE_MAX: Duration = Duration::from_secs(24 * 3600);

/// What a name may have none of.
const ADDRESS: &str = "address (A or AAAA)";
const SERVICE: &str = "service (SRV, with a target and a port)";

/// Why a name led nowhere. Each says which name, and what DNS said.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LookupError {
    /// It is no name.
    #[error("{0:?} is no name that could be looked up")]
    Form(String),
    /// DNS knows that there is no such name.
    #[error("{0}: there is no such name (DNS says NXDOMAIN)")]
    NoName(String),
    /// There is the name, with nothing of what was asked for.
    #[error("{name}: DNS has no {what} for it")]
    Empty {
        /// The name.
        name: String,
        /// What it has not.
        what: &'static str,
    },
    /// No server answered in time, or what came was no answer.
    #[error("{0}: no DNS server gave an answer in time")]
    Timeout(String),
    /// The server answered that it would not or could not.
    #[error("{name}: the DNS server answered {code}")]
    Refused {
        /// The name.
        name: String,
        /// What it answered, in its own words: `Server Failure`, `Query Refused`.
        code: String,
    },
    /// Something else.
    #[error("{name}: DNS failed: {why}")]
    Failed {
        /// The name.
        name: String,
        /// What, in words.
        why: String,
    },
}

impl LookupError {
    /// Whether DNS itself is at fault, so that what it said before may still hold.
    fn is_outage(&self) -> bool {
        matches!(self, Self::Timeout(_) | Self::Refused { .. } | Self::Failed { .. })
    }
}

impl From<LookupError> for io::Error {
    fn from(error: LookupError) -> Self {
        let kind = match &error {
            LookupError::Form(_) => io::ErrorKind::InvalidInput,
            LookupError::NoName(_) | LookupError::Empty { .. } => io::ErrorKind::NotFound,
            LookupError::Timeout(_) => io::ErrorKind::TimedOut,
            LookupError::Refused { .. } => io::ErrorKind::ConnectionRefused,
            LookupError::Failed { .. } => io::ErrorKind::Other,
        };
        Self::new(kind, error)
    }
}

/// Looks names up. One for each [`super::SystemNetwork`], and for each client that finds its regions
/// by DNS.
pub(crate) struct Names {
    source: Source,
    /// An answer holds for at least and at most so long, whatever DNS says; none where it decides.
    ttl: Option<RangeInclusive<Duration>>,
    state: Mutex<State>,
}

/// Where it is said whom to ask.
enum Source {
    /// The system's files, read again when they change.
    System,
    /// These servers; names are listed in no file but, in a test, in this text.
    Fixed(ResolverConfig, &'static str),
}

struct State {
    asked: Option<Asked>,
    addresses: Known<Vec<IpAddr>>,
    services: Known<Vec<Record>>,
}

/// Whom to ask, and from which state of the files that is known.
struct Asked {
    stamp: Stamp,
    resolver: TokioResolver,
    hosts: std::sync::Arc<Hosts>,
}

/// When the files were written last, and how long they are.
type Stamp = [Option<(SystemTime, u64)>; 2];

/// The last answers, by name.
struct Known<T>(LruCache<String, (T, Instant)>);

/// One SRV record (RFC 2782).
#[derive(Clone, Debug, PartialEq, Eq)]
struct Record {
    priority: u16,
    weight: u16,
    target: String,
    port: u16,
}

impl<T: Clone> Known<T> {
    fn new() -> Self {
        Self(LruCache::new(KNOWN_MAX))
    }

    fn get(&mut self, name: &str) -> Option<T> {
        let (answer, at) = self.0.get(name)?;
        (at.elapsed() <= KNOWN_AGE_MAX).then(|| answer.clone())
    }

    /// Remembers an answer; where DNS was at fault, gives the last one in its place.
    fn settle(&mut self, name: &str, found: Result<T, LookupError>) -> Result<T, LookupError> {
        match found {
            Ok(answer) => {
                self.0.put(name.to_owned(), (answer.clone(), Instant::now()));
                Ok(answer)
            }
            Err(error) if error.is_outage() => {
                let known = self.get(name);
                if known.is_some() {
                    tracing::debug!(name, %error, "uses what DNS said before");
                }
                known.ok_or(error)
            }
            Err(error) => {
                self.0.pop(name);
                Err(error)
            }
        }
    }
}

impl Names {
    /// As the system's files say. They are read at the first look-up.
    pub(super) fn system() -> Self {
        Self::new(Source::System, None)
    }

    /// For a client: as the system's files say, or where `servers` are named, as these answer. An
    /// answer holds for as long as DNS says, within `ttl`.
    pub(crate) fn for_client(servers: &[SocketAddr], ttl: RangeInclusive<Duration>) -> Self {
        let source = match servers {
            [] => Source::System,
            servers => Source::Fixed(these_servers(servers), ""),
        };
        Self::new(source, Some(ttl))
    }

    #[cfg(test)]
    fn fixed(config: ResolverConfig, hosts: &'static str) -> Self {
        Self::new(Source::Fixed(config, hosts), None)
    }

    fn new(source: Source, ttl: Option<RangeInclusive<Duration>>) -> Self {
        let state = State { asked: None, addresses: Known::new(), services: Known::new() };
        Self { source, ttl, state: Mutex::new(state) }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The addresses of `host:port`, of both families, at most [`LOOKUP_ADDRESSES_MAX`].
    pub(crate) async fn lookup(&self, address: &str) -> Result<Vec<SocketAddr>, LookupError> {
        if let Ok(address) = address.parse() {
            return Ok(vec![address]);
        }
        let form = || LookupError::Form(address.to_owned());
        let (host, port) = address.rsplit_once(':').ok_or_else(form)?;
        let port: u16 = port.parse().map_err(|_| form())?;
        let found = self.addresses(host).await?;
        Ok(found.into_iter().map(|ip| SocketAddr::new(ip, port)).collect())
    }

    /// Who offers the service `name` (`_holm._udp.example.com`), in the order in which they are to
    /// be tried, at most [`LOOKUP_ADDRESSES_MAX`] with as many addresses in all. A target that leads
    /// nowhere is left out, unless all do.
    pub(crate) async fn services(&self, name: &str) -> Result<Vec<Service>, LookupError> {
        let records = self.records(name).await?;
        let resolved = join_all(records.iter().map(|record| self.addresses(&record.target))).await;
        let mut services = Vec::new();
        let mut failed = None;
        let mut room = LOOKUP_ADDRESSES_MAX;
        for (record, found) in records.into_iter().zip(resolved) {
            let Record { priority, weight, target, port } = record;
            match found {
                Ok(found) => {
                    let addresses: Vec<SocketAddr> =
                        found.iter().take(room).map(|ip| SocketAddr::new(*ip, port)).collect();
                    room -= addresses.len();
                    services.push(Service { priority, weight, target, port, addresses });
                }
                Err(error) => {
                    tracing::debug!(service = name, %error, "a target of a service leads nowhere");
                    failed.get_or_insert(error);
                }
            }
        }
        services.retain(|service| !service.addresses.is_empty());
        match failed {
            Some(error) if services.is_empty() => Err(error),
            _ => Ok(services),
        }
    }

    async fn addresses(&self, host: &str) -> Result<Vec<IpAddr>, LookupError> {
        if let Ok(ip) = host.parse() {
            return Ok(vec![ip]);
        }
        let form = || LookupError::Form(host.to_owned());
        let name = Name::from_utf8(host).map_err(|_| form())?;
        if name.is_root() || host.is_empty() {
            return Err(form());
        }
        let (resolver, hosts) = self.asked(host)?;
        let listed = listed(&hosts, &name);
        if !listed.is_empty() {
            return Ok(listed);
        }
        let found = self
            .in_time(host, resolver.lookup_ip(name), |state| state.addresses.get(host).is_some());
        let found = found.await.and_then(|found| {
            let mut addresses: Vec<IpAddr> = Vec::new();
            for ip in found.iter() {
                if !addresses.contains(&ip) && addresses.len() < LOOKUP_ADDRESSES_MAX {
                    addresses.push(ip);
                }
            }
            if addresses.is_empty() {
                return Err(LookupError::Empty { name: host.to_owned(), what: ADDRESS });
            }
            Ok(addresses)
        });
        self.state().addresses.settle(host, found)
    }

    /// The service's records, the first to be tried first.
    async fn records(&self, service: &str) -> Result<Vec<Record>, LookupError> {
        let form = || LookupError::Form(service.to_owned());
        let name = Name::from_utf8(service).map_err(|_| form())?;
        let (resolver, _) = self.asked(service)?;
        let found = self.in_time(service, resolver.srv_lookup(name), |state| {
            state.services.get(service).is_some()
        });
        let found = found.await.and_then(|found| {
            let mut records: Vec<Record> =
                found.answers().iter().filter_map(|record| srv(&record.data)).collect();
            if records.is_empty() {
                return Err(LookupError::Empty { name: service.to_owned(), what: SERVICE });
            }
            // Whoever asks for a service here wants all that offer it: weight only orders them.
            records.sort_by(|a, b| {
                let key = |r: &Record| (r.priority, std::cmp::Reverse(r.weight));
                key(a).cmp(&key(b)).then_with(|| (&a.target, a.port).cmp(&(&b.target, b.port)))
            });
            records.dedup();
            records.truncate(LOOKUP_ADDRESSES_MAX);
            Ok(records)
        });
        self.state().services.settle(service, found)
    }

    /// What DNS answers in the time that there is: less of it where an earlier answer is known.
    async fn in_time<T>(
        &self,
        name: &str,
        asking: impl Future<Output = Result<T, NetError>>,
        is_known: impl Fn(&mut State) -> bool,
    ) -> Result<T, LookupError> {
        let is_known = is_known(&mut self.state());
        let patience = if is_known { LOOKUP_TIMEOUT_KNOWN } else { LOOKUP_TIMEOUT };
        match timeout(patience, asking).await {
            Ok(Ok(found)) => Ok(found),
            Ok(Err(error)) => Err(said(name, &error)),
            Err(_) => Err(LookupError::Timeout(name.to_owned())),
        }
    }

    /// Whom to ask now, and the names that the system lists.
    fn asked(&self, name: &str) -> Result<(TokioResolver, std::sync::Arc<Hosts>), LookupError> {
        let stamp = self.stamp();
        let mut state = self.state();
        if let Some(asked) = state.asked.as_ref().filter(|asked| asked.stamp == stamp) {
            return Ok((asked.resolver.clone(), asked.hosts.clone()));
        }
        let (config, options, hosts) = self.read();
        let mut builder =
            TokioResolver::builder_with_config(config, TokioRuntimeProvider::default());
        let mut options = bounded(options);
        if let Some(ttl) = &self.ttl {
            (options.positive_min_ttl, options.positive_max_ttl) =
                (Some(*ttl.start()), Some(*ttl.end()));
        }
        *builder.options_mut() = options;
        let resolver = builder.build().map_err(|error| said(name, &error))?;
        let hosts = std::sync::Arc::new(hosts);
        state.asked = Some(Asked { stamp, resolver: resolver.clone(), hosts: hosts.clone() });
        Ok((resolver, hosts))
    }

    fn stamp(&self) -> Stamp {
        match &self.source {
            Source::System => [HOSTS_FILE, RESOLV_FILE].map(|file| {
                let written = |meta: Metadata| Some((meta.modified().ok()?, meta.len()));
                std::fs::metadata(file).ok().and_then(written)
            }),
            Source::Fixed(..) => [None; 2],
        }
    }

    fn read(&self) -> (ResolverConfig, ResolverOpts, Hosts) {
        let mut hosts = Hosts::default();
        match &self.source {
            Source::System => {
                let system = hickory_resolver::system_conf::read_system_conf();
                let (config, options) = system.unwrap_or_else(|error| {
                    // As the C library does where nobody is named.
                    tracing::debug!(%error, "{RESOLV_FILE} names no server: asks this machine");
                    (own_server(), ResolverOpts::default())
                });
                let listed = std::fs::File::open(HOSTS_FILE);
                if let Err(error) = listed.and_then(|file| hosts.read_hosts_conf(file)) {
                    tracing::debug!(%error, "{HOSTS_FILE} was not read");
                }
                (config, options, hosts)
            }
            Source::Fixed(config, text) => {
                let _ = hosts.read_hosts_conf(text.as_bytes());
                (config.clone(), ResolverOpts::default(), hosts)
            }
        }
    }
}

/// These, by UDP and where an answer does not fit by TCP.
fn these_servers(servers: &[SocketAddr]) -> ResolverConfig {
    let of = |server: &SocketAddr| {
        let mut connections = vec![ConnectionConfig::udp(), ConnectionConfig::tcp()];
        for connection in &mut connections {
            connection.port = server.port();
        }
        NameServerConfig::new(server.ip(), true, connections)
    };
    ResolverConfig::from_name_servers(servers.iter().map(of).collect())
}

fn own_server() -> ResolverConfig {
    let server = NameServerConfig::udp_and_tcp(IpAddr::V4(Ipv4Addr::LOCALHOST));
    ResolverConfig::from_name_servers(vec![server])
}

/// The system's options, with a bound on everything.
fn bounded(mut options: ResolverOpts) -> ResolverOpts {
    options.timeout = options.timeout.clamp(Duration::from_millis(100), QUESTION_TIMEOUT);
    options.attempts = options.attempts.clamp(1, 2);
    options.ip_strategy = LookupIpStrategy::Ipv4AndIpv6;
    options.cache_size = CACHE_MAX;
    options.negative_max_ttl = Some(NEGATIVE_TTL_MAX);
    // They were looked through before, as the system does it: whatever stands there stands alone.
    options.use_hosts_file = ResolveHosts::Never;
    // In the order of the file, as the system does it.
    options.server_ordering_strategy = ServerOrderingStrategy::UserProvidedOrder;
    options
}

/// What the hosts file has for the name.
fn listed(hosts: &Hosts, name: &Name) -> Vec<IpAddr> {
    let mut lower = name.to_lowercase();
    lower.set_fqdn(true);
    let of = |kind| {
        let found = hosts.lookup_static_host(&Query::query(lower.clone(), kind));
        let answers = found.iter().flat_map(|found| found.answers().iter());
        answers.filter_map(|record| record.data.ip_addr()).collect::<Vec<_>>()
    };
    let mut found = of(RecordType::A);
    found.extend(of(RecordType::AAAA));
    found.truncate(LOOKUP_ADDRESSES_MAX);
    found
}

/// A record with a target and a port; the root as a target says that there is no such service.
fn srv(data: &RData) -> Option<Record> {
    let RData::SRV(srv) = data else { return None };
    let target = srv.target.to_utf8();
    let target = target.trim_end_matches('.');
    if target.is_empty() || srv.port == 0 {
        return None;
    }
    let (priority, weight, port) = (srv.priority, srv.weight, srv.port);
    // With its dot: a target is a whole name, whatever the search list says.
    Some(Record { priority, weight, target: format!("{target}."), port })
}

/// What DNS said, in our words.
fn said(name: &str, error: &NetError) -> LookupError {
    let name = name.to_owned();
    match error {
        NetError::Timeout => LookupError::Timeout(name),
        NetError::Dns(DnsError::NoRecordsFound(none)) => match none.response_code {
            ResponseCode::NXDomain => LookupError::NoName(name),
            ResponseCode::NoError => {
                let is_service = none.query.query_type() == RecordType::SRV;
                LookupError::Empty { name, what: if is_service { SERVICE } else { ADDRESS } }
            }
            code => LookupError::Refused { name, code: code.to_str().to_owned() },
        },
        NetError::Dns(DnsError::ResponseCode(code)) => {
            LookupError::Refused { name, code: code.to_str().to_owned() }
        }
        other => LookupError::Failed { name, why: other.to_string() },
    }
}

#[cfg(test)]
pub(crate) mod server;
#[cfg(test)]
mod tests;
