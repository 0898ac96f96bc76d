//! What programs ask an agent: the read half of a node's interface, from its copies. Connections come
//! over loopback or a Unix socket, are bounded in number and in how slow they may be, and end in order.
//!
//! There is no token to check: whoever reaches it is on this machine, and may read. A web page in a
//! browser of this machine may not: over loopback the `Host` has to be one.

mod answer;
mod listen;
mod watch;

use std::convert::Infallible;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::http::{Request, Response};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::sync::{Semaphore, watch as signal};
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::Shared;
use crate::env::{HttpListener, Io};

pub use listen::ListenError;
pub(super) use listen::{Socket, bind_socket};

/// How long a request's head may take to come.
const HEAD_WITHIN: Duration = Duration::from_secs(10);
/// Longest head, in bytes.
const HEAD_BYTES_MAX: usize = 64 * 1024;
/// How long accepting pauses after it failed, for example for want of file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// By which way somebody asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Way {
    /// A loopback address: any user of this machine, and what browsers of theirs are led to.
    Loopback,
    /// The Unix socket, whose mode says who.
    Socket,
}

/// Serves until the stop signal, and then until what is under way has ended, or its time is over.
pub(super) async fn serve(
    shared: Arc<Shared>,
    way: Way,
    mut listener: Box<dyn HttpListener>,
    room: Arc<Semaphore>,
    stop: signal::Receiver<bool>,
) {
    let mut connections = JoinSet::new();
    loop {
        let mut stopping = stop.clone();
        let accepted = tokio::select! {
            biased;
            () = stopped(&mut stopping) => break,
            Some(_) = connections.join_next() => continue,
            accepted = listener.accept() => accepted,
        };
        let io = match accepted {
            Ok((io, _)) => io,
            Err(error) => {
                tracing::debug!(%error, "a connection could not be accepted");
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        let Ok(place) = room.clone().try_acquire_owned() else {
            shared.metrics.refused();
            continue;
        };
        let (shared, stop) = (shared.clone(), stop.clone());
        connections.spawn(async move {
            let _place = place;
            connection(shared, way, io, stop).await;
        });
    }
    drop(listener);
    let ended = async { while connections.join_next().await.is_some() {} };
    let _ = timeout(shared.settings.times.drain, ended).await;
    connections.shutdown().await;
}

/// Returns when the agent stops; also when nobody is left who could say so.
async fn stopped(stop: &mut signal::Receiver<bool>) {
    let _ = stop.wait_for(|stop| *stop).await;
}

async fn connection(
    shared: Arc<Shared>,
    way: Way,
    io: Box<dyn Io>,
    mut stop: signal::Receiver<bool>,
) {
    let mut builder = http1::Builder::new();
    builder.timer(TokioTimer::new()).header_read_timeout(HEAD_WITHIN).max_buf_size(HEAD_BYTES_MAX);
    let answers = stop.clone();
    let service = service_fn(move |request: Request<Incoming>| {
        let (shared, stop) = (shared.clone(), answers.clone());
        async move {
            let answer: Response<Body> = answer::answer(&shared, way, &request, stop);
            shared.metrics.answered(answer.status());
            Ok::<_, Infallible>(answer)
        }
    });
    let mut connection = pin!(builder.serve_connection(TokioIo::new(io), service));
    let ended = tokio::select! {
        biased;
        () = stopped(&mut stop) => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
        ended = connection.as_mut() => ended,
    };
    if let Err(error) = ended {
        // Mostly clients that went away or were too slow.
        tracing::debug!(%error, "a connection ended early");
    }
}
