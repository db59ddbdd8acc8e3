//! What every request passes, whatever it asks: its id, how often its sender may ask, whether they
//! may at all, how long an answer may take, and whether they have it already.
//!
//! ```text
//! id ─▶ CORS ─▶ gzip ─▶ rate of the address ─▶ key ─▶ rate of the key ─▶ time ─▶ routes
//!                                                        ETag or 304 ◀──────────────┘
//! ```

use std::convert::Infallible;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::BodyExt as _;
use http_body_util::combinators::BoxBody;
use hyper::body::Incoming;
use hyper::{Request, Response};
use tower::{Service, ServiceBuilder, ServiceExt as _, service_fn};
use tower_http::compression::CompressionLayer;
use tower_http::cors::CorsLayer;
use warp::http::{HeaderName, HeaderValue, Method, header};

use super::Settings;
use super::problem::Problem;
use crate::database::Database;

mod access;
pub(super) mod etag;
mod pace;
mod request_id;

use access::Access;
use pace::Pace;

/// An answer as it leaves.
pub(super) type Answer = Response<BoxBody<Bytes, BoxError>>;
type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// Failed answers that are logged, a second: a database that is away fails each.
const LOGGED_A_SECOND: u32 = 5;
/// How long a browser may keep what a preflight said.
const PREFLIGHT_AGE: Duration = Duration::from_secs(3_600);

/// See the module.
pub(super) struct Gate {
    access: Option<Access>,
    addresses: Option<Pace<IpAddr>>,
    keys: Option<Pace<String>>,
    logged: Pace<()>,
    trust_proxy: bool,
    time: Duration,
}

impl Gate {
    /// As it was set up.
    pub fn new(settings: &Settings, database: Database) -> Gate {
        Gate {
            access: settings.keys.then(|| Access::new(database)),
            addresses: Pace::new(settings.limits.requests_per_address),
            keys: Pace::new(settings.limits.requests_per_key),
            logged: Pace::always(LOGGED_A_SECOND),
            trust_proxy: settings.trust_proxy,
            time: settings.limits.answer_time,
        }
    }

    /// The routes behind the gate, as what answers a connection's requests.
    pub fn before<S>(
        self,
        routes: S,
        settings: &Settings,
    ) -> impl Fn(SocketAddr, Request<Incoming>) -> Pin<Box<dyn Future<Output = Answer> + Send>>
    + Clone
    + Send
    + Sync
    + 'static
    where
        S: Service<Request<Incoming>, Response = warp::reply::Response, Error = Infallible>
            + Clone
            + Send
            + Sync
            + 'static,
        S::Future: Send,
    {
        let gate = Arc::new(self);
        let service = ServiceBuilder::new()
            .option_layer(cors(&settings.cors_origins))
            .layer(CompressionLayer::new())
            .service(service_fn(move |request| {
                let (gate, routes) = (Arc::clone(&gate), routes.clone());
                async move { Ok::<_, Infallible>(gate.answer(request, routes).await) }
            }));
        move |peer, mut request| {
            let service = service.clone();
            Box::pin(async move {
                let id = request_id::of(request.headers());
                request.extensions_mut().insert(Peer(peer.ip()));
                request.extensions_mut().insert(id.clone());
                let Ok(mut answer) = service.oneshot(request).await;
                let headers = answer.headers_mut();
                headers.insert(request_id::HEADER, id.0);
                let nosniff = HeaderValue::from_static("nosniff");
                headers.insert(header::X_CONTENT_TYPE_OPTIONS, nosniff);
                answer.map(|body| body.map_err(BoxError::from).boxed())
            })
        }
    }

    async fn answer<S>(&self, request: Request<Incoming>, routes: S) -> warp::reply::Response
    where
        S: Service<Request<Incoming>, Response = warp::reply::Response, Error = Infallible>,
    {
        let (method, path) = (request.method().clone(), request.uri().path().to_owned());
        let id = request.extensions().get::<request_id::RequestId>().cloned();
        let held = request.headers().get(header::IF_NONE_MATCH).cloned();
        let response = match self.admit(&request).await {
            Ok(()) => match tokio::time::timeout(self.time, routes.oneshot(request)).await {
                Ok(Ok(response)) => response,
                Err(_) => Problem::too_slow(self.time).response(),
            },
            Err(problem) => problem.response(),
        };
        if response.status().is_server_error() {
            let id = id.as_ref().map_or("", |id| id.0.to_str().unwrap_or(""));
            let level = if self.logged.admit(&()).is_ok() {
                log::Level::Warn
            } else {
                log::Level::Debug
            };
            let status = response.status().as_u16();
            log::log!(level, "request {id}: {method} {path}: answered {status}");
        }
        if method == Method::GET || method == Method::HEAD {
            etag::validate(response, held.as_ref()).await
        } else {
            response
        }
    }

    async fn admit(&self, request: &Request<Incoming>) -> Result<(), Problem> {
        let path = request.uri().path();
        // An orchestrator that asks whether we live must not be told to slow down.
        if path == "/livez" {
            return Ok(());
        }
        if let Some(addresses) = &self.addresses
            && let Some(address) = self.address(request)
        {
            addresses
                .admit(&address)
                .map_err(|wait| Problem::too_many_requests("this address", wait))?;
        }
        let Some(access) = &self.access else {
            return Ok(());
        };
        let Some(scope) = access::needed(request.method(), path) else {
            return Ok(());
        };
        let key_id = access.check(request.headers(), scope).await?;
        if let Some(keys) = &self.keys {
            keys.admit(&key_id)
                .map_err(|wait| Problem::too_many_requests("this key", wait))?;
        }
        Ok(())
    }

    /// Who asks: the peer, or whom the proxy before us says it speaks for. Of an IPv6 address the
    /// network: whoever has one address there has all of them.
    fn address(&self, request: &Request<Incoming>) -> Option<IpAddr> {
        let forwarded = self.trust_proxy.then(|| {
            let all = request.headers().get_all(FORWARDED_FOR);
            let last = all.iter().next_back()?.to_str().ok()?;
            // What stands before the last one, anybody may have written.
            last.rsplit(',').next()?.trim().parse().ok()
        });
        let peer = request.extensions().get::<Peer>().map(|peer| peer.0);
        forwarded.flatten().or(peer).map(|address| match address {
            IpAddr::V4(_) => address,
            IpAddr::V6(v6) => match v6.to_ipv4_mapped() {
                Some(v4) => IpAddr::V4(v4),
                None => IpAddr::V6((u128::from(v6) & (u128::MAX << 64)).into()),
            },
        })
    }
}

const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");

#[derive(Clone, Copy)]
struct Peer(IpAddr);

fn cors(origins: &[HeaderValue]) -> Option<CorsLayer> {
    if origins.is_empty() {
        return None;
    }
    let layer = CorsLayer::new()
        .allow_methods([
            Method::GET,
            Method::HEAD,
            Method::POST,
            Method::PUT,
            Method::DELETE,
        ])
        .allow_headers([
            header::AUTHORIZATION,
            header::CONTENT_TYPE,
            header::IF_NONE_MATCH,
            HeaderName::from_static("last-event-id"),
            request_id::HEADER,
        ])
        .expose_headers([
            header::ETAG,
            header::RETRY_AFTER,
            HeaderName::from_static("x-cache"),
            request_id::HEADER,
        ])
        .max_age(PREFLIGHT_AGE);
    Some(if origins.iter().any(|origin| origin == "*") {
        layer.allow_origin(tower_http::cors::Any)
    } else {
        layer.allow_origin(origins.to_vec())
    })
}
