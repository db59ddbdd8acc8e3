//! The HTTP API: insights for people, schemas for consumers, health for those who run it.
//!
//! `routes` says which path is answered by what, `endpoints` which parameters each takes; `params`,
//! `window`, `filter` and `cursor` read what was asked, `insights` answers, `as_of` of the past, `body` is what
//! is sent, `problem` is every error. `live` tells of changes, `listen` accepts connections, `limits` is what a
//! client may take.

use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use anyhow::Context as _;
use hyper::Request;
use hyper::body::Incoming;
use hyper::service::Service as _;
use hyper_util::service::TowerToHyperService;
use tokio::net::TcpListener;
use tokio::sync::{Semaphore, watch};
use warp::Filter;
use warp::reply::Response;

use crate::cache::InsightCache;
use crate::database::Database;

mod as_of;
mod body;
mod cursor;
mod endpoints;
#[allow(dead_code, reason = "the endpoints that use the rest follow")]
mod filter;
mod health;
mod insights;
mod limits;
mod listen;
mod live;
#[allow(dead_code, reason = "the endpoints that use the rest follow")]
mod params;
mod problem;
mod routes;
mod schemas;
#[allow(dead_code, reason = "the endpoints that use the rest follow")]
mod window;

pub use limits::Limits;

/// What handlers share.
#[derive(Clone)]
struct State {
    cache: Arc<InsightCache>,
    database: Database,
    live: live::Feed,
    limits: Arc<Limits>,
    /// One question about the past at a time.
    as_of: Arc<Semaphore>,
}

/// How the API is served, beside where.
#[derive(Clone, Debug, Default)]
pub struct Settings {
    pub limits: Limits,
}

/// Serves the API on `listener` until `stop` is set.
///
/// # Errors
/// When connections can no longer be accepted.
pub async fn serve(
    listener: TcpListener,
    cache: Arc<InsightCache>,
    database: Database,
    topic: &str,
    schema_id: u32,
    settings: Settings,
    stop: &AtomicBool,
) -> anyhow::Result<()> {
    let registry = Arc::new(schemas::Registry::new(topic, schema_id));
    let limits = Arc::new(settings.limits);
    let (close, closing) = watch::channel(false);
    let live = live::Feed::start(
        database.clone(),
        cache.changes(),
        closing,
        limits.live,
        limits.live_campaigns,
    );
    let state = State {
        cache,
        database,
        live,
        limits: Arc::clone(&limits),
        as_of: Arc::new(Semaphore::new(1)),
    };
    let answer = answering(routes::all(state, registry));
    listen::accept(listener, answer, &limits, stop, || {
        // Live feeds never end by themselves.
        close.send_replace(true);
    })
    .await
}

/// Serves `/livez` and `/metrics` alone, for a processor.
///
/// # Errors
/// When connections can no longer be accepted.
pub async fn serve_metrics(listener: TcpListener, stop: &AtomicBool) -> anyhow::Result<()> {
    let answer = answering(routes::metrics_only());
    listen::accept(listener, answer, &Limits::default(), stop, || ()).await
}

/// Binds an address; `warp` itself would panic where this explains.
///
/// # Errors
/// When the address is taken or not ours.
pub async fn bind(address: SocketAddr) -> anyhow::Result<TcpListener> {
    TcpListener::bind(address).await.with_context(|| {
        format!("cannot listen on {address} (is the port taken? choose another with --listen)")
    })
}

/// `warp`'s routes as a function.
fn answering<F>(
    routes: F,
) -> impl Fn(SocketAddr, Request<Incoming>) -> BoxFuture + Clone + Send + Sync + 'static
where
    F: Filter<Extract = (Response,), Error = std::convert::Infallible>
        + Clone
        + Send
        + Sync
        + 'static,
    F::Future: Send,
{
    let service = TowerToHyperService::new(warp::service(routes));
    move |_, request| {
        let answer = service.call(request);
        Box::pin(async move { answer.await.unwrap_or_else(|never| match never {}) })
    }
}

type BoxFuture = Pin<Box<dyn Future<Output = Response> + Send>>;
