//! The HTTP API: insights for people, schemas for consumers, health for those who run it.
//!
//! `routes` says which path is answered by what, `endpoints` which parameters each takes; `params`,
//! `window`, `filter` and `cursor` read what was asked, `insights` answers, `body` is what is sent,
//! `problem` is every error.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::Context as _;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use hyper_util::service::TowerToHyperService;
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use warp::Filter;
use warp::reply::Response;

use crate::cache::InsightCache;
use crate::database::Database;

mod body;
mod cursor;
mod endpoints;
#[allow(dead_code, reason = "the endpoints that use the rest follow")]
mod filter;
mod health;
mod insights;
#[allow(dead_code, reason = "the endpoints that use the rest follow")]
mod params;
mod problem;
mod routes;
mod schemas;
#[allow(dead_code, reason = "the endpoints that use the rest follow")]
mod window;

/// What handlers share.
#[derive(Clone)]
struct State {
    cache: Arc<InsightCache>,
    database: Database,
}

/// The bounds of a connection.
mod limits {
    use std::time::Duration;

    /// Connections at a time; more wait to be accepted.
    pub const CONNECTIONS: usize = 10_000;
    /// For the head of a request to arrive, and for the next request on an idle connection.
    pub const HEADER_TIME: Duration = Duration::from_secs(15);
    /// Bytes of the head of a request.
    pub const HEADER_BYTES: usize = 32 * 1024;
    /// Headers of a request.
    pub const HEADERS: usize = 64;
    /// For open connections to end when we stop.
    pub const DRAIN: Duration = Duration::from_secs(5);
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
    stop: &AtomicBool,
) -> anyhow::Result<()> {
    let registry = Arc::new(schemas::Registry::new(topic, schema_id));
    accept(
        listener,
        routes::all(State { cache, database }, registry),
        stop,
    )
    .await
}

/// Serves `/livez` and `/metrics` alone, for a processor.
///
/// # Errors
/// When connections can no longer be accepted.
pub async fn serve_metrics(listener: TcpListener, stop: &AtomicBool) -> anyhow::Result<()> {
    accept(listener, routes::metrics_only(), stop).await
}

/// Binds an address; `warp` itself would panic where this explains.
///
/// # Errors
/// When the address is taken or not ours.
pub async fn bind(address: std::net::SocketAddr) -> anyhow::Result<TcpListener> {
    TcpListener::bind(address).await.with_context(|| {
        format!("cannot listen on {address} (is the port taken? choose another with --listen)")
    })
}

/// Our own loop around `warp`'s routes: it has no bound on slow headers, their size or the number
/// of connections.
async fn accept<F>(listener: TcpListener, routes: F, stop: &AtomicBool) -> anyhow::Result<()>
where
    F: Filter<Extract = (Response,), Error = std::convert::Infallible>
        + Clone
        + Send
        + Sync
        + 'static,
    F::Future: Send,
{
    let connections = Arc::new(Semaphore::new(limits::CONNECTIONS));
    let graceful = GracefulShutdown::new();
    while !stop.load(Ordering::Relaxed) {
        // The flag is set by a signal handler, which can wake nobody.
        let accepted = tokio::time::timeout(Duration::from_millis(50), async {
            let permit = Arc::clone(&connections).acquire_owned().await?;
            Ok::<_, anyhow::Error>((permit, listener.accept().await))
        })
        .await;
        let (permit, stream) = match accepted {
            Err(_) => continue,
            Ok(accepted) => accepted?,
        };
        let stream = match stream {
            Ok((stream, _)) => stream,
            Err(error) => {
                // A client that has gone already, or no file descriptor left: neither ends us.
                log::debug!("accepting a connection failed: {error}");
                tokio::time::sleep(Duration::from_millis(10)).await;
                continue;
            }
        };
        stream.set_nodelay(true).ok();
        let service = TowerToHyperService::new(warp::service(routes.clone()));
        let connection = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(limits::HEADER_TIME)
            .max_buf_size(limits::HEADER_BYTES)
            .max_headers(limits::HEADERS)
            .serve_connection(TokioIo::new(stream), service);
        let connection = graceful.watch(connection);
        tokio::spawn(async move {
            let _permit = permit;
            if let Err(error) = connection.await {
                log::debug!("a connection ended: {error}");
            }
        });
    }
    drop(listener);
    if tokio::time::timeout(limits::DRAIN, graceful.shutdown())
        .await
        .is_err()
    {
        log::debug!("connections were still open after {:?}", limits::DRAIN);
    }
    Ok(())
}
