//! The accept loop: connections over the node's listener, each with limits on what it may send and
//! how long it may take, to send and to read, and an end in order: no more connections, requests under way are answered,
//! watches are closed.

mod date;
mod door;
mod h2;
mod last_word;
mod write_timeout;

use std::convert::Infallible;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::Request;
use axum::http::{Method, header};
use axum::response::Response;
use futures_util::future::BoxFuture;
use futures_util::{FutureExt as _, TryFutureExt as _};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior};
use tower::ServiceExt as _;

use super::edge::{self, Remote};
use super::limits::Address;
use super::operation::Route;
use super::{App, oauth};
use crate::env::HttpListener;
use crate::telemetry::Shed;

use date::Dates;
pub use door::Door;
use door::Entered;
use write_timeout::WriteTimeout;

/// How long accepting pauses after it failed, for example for want of file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
/// How often metrics are put together.
const UPKEEP_EVERY: Duration = Duration::from_secs(5);

/// As [`serve_behind`], with no TLS.
pub async fn serve(listener: Box<dyn HttpListener>, app: App, router: Router) {
    serve_behind(listener, None, app, router).await;
}

/// Serves `router`, which is [`App::router`] or has its routes among others, until the app's stop
/// signal; returns when all connections have ended, or were given up after the drain's time. Where
/// there is a `door`, connections have to come through its TLS.
pub async fn serve_behind(
    mut listener: Box<dyn HttpListener>,
    door: Option<Arc<Door>>,
    app: App,
    router: Router,
) {
    let limits = &app.settings().limits;
    let room = app.0.connections.clone();
    let mut builder = http1::Builder::new();
    builder
        .auto_date_header(false)
        .timer(TokioTimer::new())
        .header_read_timeout(app.settings().http.header_read_timeout)
        .max_buf_size(limits.header_bytes_max);
    let denials = tokio::spawn(oauth::flush_denials(app.clone()));
    let dates = Dates::new(app.0.env.clock.clone());
    let mut connections = JoinSet::new();
    let mut upkeep = tokio::time::interval(UPKEEP_EVERY);
    upkeep.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut stop = app.0.stop.clone();
    loop {
        let stopped = async {
            // The sender is gone: that is a stop, too.
            let _ = stop.wait_for(|stop| *stop).await;
        };
        let accepted = tokio::select! {
            biased;
            () = stopped => break,
            Some(_) = connections.join_next() => continue,
            _ = upkeep.tick() => {
                app.node().metrics().upkeep();
                continue;
            }
            accepted = listener.accept() => accepted,
        };
        let (io, remote) = match accepted {
            Ok(accepted) => accepted,
            // The client went away before it was accepted.
            Err(error) if is_clients(&error) => continue,
            Err(error) => {
                tracing::warn!(%error, "a connection could not be accepted");
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        let Ok(place) = room.clone().try_acquire_owned() else {
            app.node().metrics().connection_refused();
            continue;
        };
        let Some(of_address) = app.0.gate.connections.take(&Address::of(remote.ip())) else {
            app.node().metrics().shed(Shed::ConnectionsOfAddress);
            continue;
        };
        let io = WriteTimeout::new(io, app.settings().http.write_timeout);
        let (builder, app, dates) = (builder.clone(), app.clone(), dates.clone());
        let (router, door) = (router.clone(), door.clone());
        connections.spawn(async move {
            let _places = (place, of_address);
            let _counted = app.node().metrics().connected();
            let remote = Remote { address: remote, is_shared: false };
            let routes = Routes { app: app.clone(), router, remote, dates };
            let Some(door) = door else {
                return connection(&app, &builder, io, routes).await;
            };
            match Box::pin(door.enter(io, app.node().metrics(), app.0.stop.clone())).await {
                Some(Entered::Http1(io)) => connection(&app, &builder, io, routes).await,
                Some(Entered::Http2(io)) => Box::pin(h2::connection(&app, io, routes)).await,
                None => {}
            }
        });
    }
    drop(listener);
    drain(&app, connections).await;
    if let Err(error) = denials.await {
        tracing::error!(%error, "refused token requests are not recorded any more");
    }
}

fn is_clients(error: &std::io::Error) -> bool {
    use std::io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset};
    matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset)
}

/// What answers the requests of one connection.
#[derive(Clone)]
struct Routes {
    app: App,
    router: Router,
    remote: Remote,
    dates: Dates,
}

impl Routes {
    /// The request's answer. Reading one key goes past the router, which would cost as much as
    /// the rest of it.
    fn answer(
        &self,
        mut request: Request<Incoming>,
    ) -> impl Future<Output = Result<Response, Infallible>> + Send + use<> {
        request.extensions_mut().insert(self.remote);
        let is_read = request.method() == Method::GET && Route::is_key(request.uri().path());
        let answer = match is_read {
            true => {
                let request = request.map(Body::new);
                edge::answer(self.app.clone(), Route::Key, request).map(Ok).left_future()
            }
            false => self.router.clone().oneshot(request).right_future(),
        };
        let dates = self.dates.clone();
        answer.map_ok(move |mut response| {
            response.headers_mut().insert(header::DATE, dates.now());
            response
        })
    }
}

impl hyper::service::Service<Request<Incoming>> for Routes {
    type Response = Response;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Response, Infallible>>;

    fn call(&self, request: Request<Incoming>) -> Self::Future {
        self.answer(request).boxed()
    }
}

async fn connection(
    app: &App,
    builder: &http1::Builder,
    io: impl AsyncRead + AsyncWrite + Send + Unpin + 'static,
    routes: Routes,
) {
    let mut stop = app.0.stop.clone();
    let (io, kept) = last_word::lend(io);
    let mut connection = pin!(builder.serve_connection(TokioIo::new(io), routes).with_upgrades());
    let stopped = async {
        let _ = stop.wait_for(|stop| *stop).await;
    };
    let ended = tokio::select! {
        biased;
        () = stopped => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
        ended = connection.as_mut() => ended,
    };
    if let Err(error) = ended {
        // Mostly clients that went away or were too slow.
        tracing::debug!(%error, "a connection ended early");
        if error.is_timeout() && kept.tell_too_slow().await {
            app.node().metrics().shed(Shed::SlowHeaders);
        }
    }
}

async fn drain(app: &App, mut connections: JoinSet<()>) {
    let deadline = Instant::now() + app.settings().http.drain_timeout;
    let all_watches = u32::try_from(app.settings().limits.watchers_max).unwrap_or(u32::MAX);
    let ended = async {
        while connections.join_next().await.is_some() {}
        // WebSockets have left their connections' tasks: their places tell when they are done.
        let _ = app.0.watches.acquire_many(all_watches).await;
    };
    if tokio::time::timeout_at(deadline, ended).await.is_err() {
        tracing::warn!("requests that were still under way after the drain's time are given up");
    }
    app.0.watches.close();
    connections.shutdown().await;
}
