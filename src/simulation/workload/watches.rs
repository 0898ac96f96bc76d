//! Clients that watch a document as server-sent events, are moved to other regions, and resume there
//! with what they have seen. Where a node that goes sends them elsewhere, they go on there at once.

use std::time::Duration;

use serde_json::Value;
use tokio::time::{Instant, timeout_at};

use super::{CONFIG_TIMEOUT, Caller, How, Site};
use crate::model::{NodeName, RegionName};
use crate::simulation::history::{Event, Outcome, Request, Watched};
use crate::simulation::http::{HttpAnswer, HttpStream};
use crate::simulation::wire::{self, Carried};

/// How long a watcher waits before it connects again.
const AGAIN_AFTER: Duration = Duration::from_millis(300);
/// Why a watch ended that was sent elsewhere, in a history.
pub(crate) const MOVED: &str = "sent elsewhere";
/// A watch without a sign of life for this long is given up: heartbeats come more often.
const SILENCE_MAX: Duration = Duration::from_secs(40);

pub(super) fn start(site: &Site, region: &RegionName) {
    for number in 0..site.workload().watchers {
        let document = format!("service-{}/prod", number % site.workload().documents.max(1));
        site.spawn(region, |mut caller| async move {
            loop {
                let mut sent_to = watch(&mut caller, &document, None).await;
                while let Some(node) = sent_to {
                    sent_to = watch(&mut caller, &document, Some(node)).await;
                }
                tokio::time::sleep(AGAIN_AFTER).await;
                if !caller.site.workload().watchers_move_every.is_zero() {
                    caller.travel();
                }
            }
        });
    }
}

/// Opens a watch, at `node` where it was sent there, and follows it until it ends or the watcher moves.
/// Says where it was sent.
async fn watch(caller: &mut Caller, document: &str, node: Option<NodeName>) -> Option<NodeName> {
    let node = node.or_else(|| caller.node())?;
    let resumed = caller.session.is_some();
    let request = Request::ConfigWatch { document: document.to_owned(), resumed };
    let op = caller.record_call(&node, &request, How { with_session: resumed, ..How::default() });
    let stream = open(caller, &node, &request, op).await?;
    let moves = caller.site.workload().watchers_move_every;
    let until = (!moves.is_zero()).then(|| Instant::now() + moves);
    let (why, sent_to) = match follow(caller, stream, op, until).await {
        End::Sent(node) => (MOVED.to_owned(), Some(node)),
        End::Other(why) => (why, None),
    };
    caller.record_answer(op, &Outcome::Unknown { why });
    sent_to
}

/// Why a watch ended.
enum End {
    /// The node goes, and named another one.
    Sent(NodeName),
    /// In words.
    Other(String),
}

async fn open(
    caller: &mut Caller,
    node: &NodeName,
    request: &Request,
    op: u64,
) -> Option<HttpStream> {
    let carried =
        Carried { token: &caller.token, session: caller.session.as_deref(), ..Carried::default() };
    let opened = match wire::to_http(request, &carried) {
        Ok(http) => caller.http.stream(node, http, CONFIG_TIMEOUT).await,
        Err(error) => Err(error),
    };
    let stream = match opened {
        Ok(stream) if stream.status.is_success() => {
            caller.record_answer(op, &Outcome::Opened);
            return Some(stream);
        }
        other => other,
    };
    let answer = stream.map(|stream| HttpAnswer {
        status: stream.status,
        headers: stream.headers,
        body: bytes::Bytes::new(),
    });
    caller.record_answer(op, &wire::outcome(request, &answer));
    None
}

/// Records what comes, until it ends.
async fn follow(
    caller: &mut Caller,
    mut stream: HttpStream,
    op: u64,
    until: Option<Instant>,
) -> End {
    let mut message = Message::default();
    loop {
        let silence = Instant::now() + SILENCE_MAX;
        let deadline = until.map_or(silence, |until| until.min(silence));
        let line = match timeout_at(deadline, stream.line()).await {
            Err(_) if until.is_some_and(|until| Instant::now() >= until) => {
                return End::Other("moves on".to_owned());
            }
            Err(_) => return End::Other("silence".to_owned()),
            Ok(Err(error)) => return End::Other(error.to_string()),
            Ok(Ok(None)) => return End::Other("ended".to_owned()),
            Ok(Ok(Some(line))) => line,
        };
        if !line.is_empty() {
            message.take(&line);
            continue;
        }
        let message = std::mem::take(&mut message);
        if let Some(id) = &message.id {
            caller.session = Some(id.clone());
        }
        let sent_to = message.sent_to();
        if let Some(watched) = message.into_watched(op, caller.number) {
            caller.record(Event::Watched(watched));
        }
        if let Some(node) = sent_to {
            return End::Sent(node);
        }
    }
}

/// One message as its lines come.
#[derive(Default)]
struct Message {
    kind: String,
    data: String,
    id: Option<String>,
}

impl Message {
    fn take(&mut self, line: &str) {
        let Some((field, value)) = line.split_once(':') else { return };
        let value = value.strip_prefix(' ').unwrap_or(value);
        match field {
            "event" => value.clone_into(&mut self.kind),
            "data" => self.data.push_str(value),
            "id" => self.id = Some(value.to_owned()),
            _ => {}
        }
    }

    /// Where the first node that is named is, where the watch is sent elsewhere.
    fn sent_to(&self) -> Option<NodeName> {
        let data: Value = serde_json::from_str(&self.data).ok().filter(|_| self.kind == "moved")?;
        NodeName::new(data["nodes"][0]["name"].as_str()?).ok()
    }

    fn into_watched(self, op: u64, client: u32) -> Option<Watched> {
        let mut watched =
            Watched { op, client, has_session: self.id.is_some(), ..Watched::default() };
        match self.kind.as_str() {
            "put" | "remove" => {
                let item: Value = serde_json::from_str(&self.data).ok()?;
                let key = item["key"].as_str()?.to_owned();
                watched.rows.push((key, wire::row(&item)));
            }
            "ready" => watched.ready = true,
            "reset" => watched.reset = true,
            _ if watched.has_session => {}
            _ => return None,
        }
        Some(watched)
    }
}
