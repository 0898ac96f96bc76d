//! A DNS server for tests: on a real socket, with answers that can be changed and that can be bad.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use hickory_resolver::config::ResolverConfig;
use hickory_resolver::proto::op::{Message, ResponseCode};
use hickory_resolver::proto::rr::rdata::{CNAME, SRV};
use hickory_resolver::proto::rr::{Name, RData, Record, RecordType};
use tokio::net::UdpSocket;

/// What is answered to a question.
#[derive(Clone, Debug)]
pub(crate) enum Reply {
    /// These records, with this many seconds to live.
    Records(u32, Vec<RData>),
    /// This code, and nothing.
    Code(ResponseCode),
    /// Nothing at all.
    Silence,
    /// Bytes that are no message.
    Garbage,
    /// A message that says it was cut, with nothing in it.
    Cut,
    /// The first half of a message.
    Half,
    /// An answer to another question.
    Other,
}

/// The server's answers. Clones are one.
#[derive(Clone, Default)]
pub(crate) struct Zone(Arc<Mutex<Answers>>);

#[derive(Default)]
struct Answers {
    by_question: BTreeMap<(String, RecordType), Reply>,
    asked: usize,
}

impl Zone {
    pub(crate) fn set(&self, name: &str, kind: RecordType, reply: Reply) {
        self.0.lock().unwrap().by_question.insert((name.to_owned(), kind), reply);
    }

    /// For addresses of both families.
    pub(crate) fn set_both(&self, name: &str, reply: &Reply) {
        self.set(name, RecordType::A, reply.clone());
        self.set(name, RecordType::AAAA, reply.clone());
    }

    pub(crate) fn address(&self, name: &str, ttl: u32, addresses: &[&str]) {
        let of = |v4: bool| {
            let parsed = addresses.iter().map(|a| a.parse::<std::net::IpAddr>().unwrap());
            parsed.filter(|a| a.is_ipv4() == v4).map(RData::from).collect::<Vec<_>>()
        };
        for (kind, records) in [(RecordType::A, of(true)), (RecordType::AAAA, of(false))] {
            self.set(name, kind, Reply::Records(ttl, records));
        }
    }

    pub(crate) fn service(&self, name: &str, ttl: u32, targets: &[(u16, u16, u16, &str)]) {
        let record = |(priority, weight, port, target): &(u16, u16, u16, &str)| {
            RData::SRV(SRV::new(*priority, *weight, *port, Name::from_utf8(target).unwrap()))
        };
        let records = targets.iter().map(record).collect();
        self.set(name, RecordType::SRV, Reply::Records(ttl, records));
    }

    /// How many questions came.
    pub(crate) fn asked(&self) -> usize {
        self.0.lock().unwrap().asked
    }

    fn reply(&self, name: &str, kind: RecordType) -> Reply {
        let mut zone = self.0.lock().unwrap();
        zone.asked += 1;
        let reply = zone.by_question.get(&(name.to_owned(), kind)).cloned();
        reply.unwrap_or(Reply::Code(ResponseCode::NXDomain))
    }
}

/// An alias.
pub(crate) fn alias(target: &str) -> RData {
    RData::CNAME(CNAME(Name::from_utf8(target).unwrap()))
}

/// Starts a server, and gives the configuration that asks it and no other.
pub(crate) async fn start(zone: Zone) -> (ResolverConfig, tokio::task::JoinHandle<()>) {
    let (addr, task) = listen(zone).await;
    (config(addr), task)
}

/// Starts a server.
pub(crate) async fn listen(zone: Zone) -> (SocketAddr, tokio::task::JoinHandle<()>) {
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let addr = socket.local_addr().unwrap();
    let task = tokio::spawn(async move {
        let mut buffer = [0; 4096];
        loop {
            let (len, from) = socket.recv_from(&mut buffer).await.unwrap();
            let question = Message::from_vec(&buffer[..len]).unwrap();
            if let Some(answer) = answer(&zone, question) {
                socket.send_to(&answer, from).await.unwrap();
            }
        }
    });
    (addr, task)
}

/// Asks the server at `addr`, by UDP and then TCP, as any server is asked.
pub(crate) fn config(addr: SocketAddr) -> ResolverConfig {
    super::these_servers(&[addr])
}

fn answer(zone: &Zone, question: Message) -> Option<Vec<u8>> {
    let query = question.queries[0].clone();
    let name = query.name().to_utf8().to_lowercase();
    let mut message = Message::response(question.metadata.id, question.metadata.op_code);
    message.add_query(query.clone());
    let reply = zone.reply(&name, query.query_type());
    match &reply {
        Reply::Records(ttl, records) => {
            for data in records {
                message.add_answer(Record::from_rdata(query.name().clone(), *ttl, data.clone()));
            }
        }
        Reply::Code(code) => message.metadata.response_code = *code,
        Reply::Silence => return None,
        Reply::Garbage => return Some(b"\xff\xfe no message at all \x00\x01\x02".to_vec()),
        Reply::Cut => message.metadata.truncation = true,
        Reply::Half => {
            let ip = RData::from("192.0.2.1".parse::<std::net::IpAddr>().unwrap());
            message.add_answer(Record::from_rdata(query.name().clone(), 60, ip));
            let mut bytes = message.to_vec().unwrap();
            bytes.truncate(bytes.len() - 7);
            return Some(bytes);
        }
        Reply::Other => {
            let other = Name::from_utf8("bank.example.").unwrap();
            message.queries.clear();
            let ip = RData::from("192.0.2.66".parse::<std::net::IpAddr>().unwrap());
            message.add_answer(Record::from_rdata(other, 60, ip));
        }
    }
    Some(message.to_vec().unwrap())
}
