//! What every request passes, whatever it asks: its id, by which name it came, how often its sender may ask, whether
//! they may at all, and whether they have it already.
//!
//! ```text
//! id ─▶ host ─┬▶ CORS ─▶ gzip ─▶ rate of the address ─▶ key, or where from ─▶ rate of the key ─▶ endpoint
//!             │                                                  ETag or 304 ◀───────────────────┘
//!             └▶ an answer at hand? rate of the address ─▶ that
//! ```

use std::convert::Infallible;
use std::net::{IpAddr, Ipv4Addr};
use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt as _, Either, Full};
use hyper::body::Incoming;
use hyper::{Request, Response};
use tower::{Service, ServiceBuilder, ServiceExt as _, service_fn};
use tower_http::compression::CompressionLayer;
use tower_http::cors::CorsLayer;
use warp::http::{HeaderMap, HeaderName, HeaderValue, Method, header};

use super::answer::{X_CACHE, X_NEXT_CURSOR};
use super::listen::{Peer, is_endless};
use super::pace::Pace;
use super::per_address::network;
use super::problem::Problem;
use super::request::{Client, KeyName};
use super::{Settings, endpoint, endpoints};
use crate::database::Database;

mod access;
mod at_hand;
pub(super) mod etag;
mod host;
mod origin;
mod proxies;
mod request_id;

use access::{Access, Opened};
pub(super) use at_hand::AtHand;
use host::Hosts;
pub use host::{HostName, PublicUrl};
pub use origin::Origin;
pub use proxies::{Network, TrustedProxies};

/// An answer as it leaves.
pub(super) type Outgoing = Response<Either<Full<Bytes>, BoxBody<Bytes, BoxError>>>;
/// One on its way.
pub(super) type Answering = Pin<Box<dyn Future<Output = Outgoing> + Send>>;
type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// Failed answers that are logged, a second: a database that is away fails each.
const LOGGED_A_SECOND: u32 = 5;
/// How long a browser may keep what a preflight said.
const PREFLIGHT_AGE: Duration = Duration::from_secs(3_600);

/// See the module.
pub(super) struct Gate {
    /// Where everybody may ask and is answered the same.
    at_hand: Option<AtHand>,
    access: Option<Arc<Access>>,
    addresses: Option<Pace<IpAddr>>,
    keys: Option<Pace<String>>,
    logged: Pace<()>,
    hosts: Hosts,
    public_url: Option<PublicUrl>,
    cors_origins: Vec<Origin>,
    proxies: TrustedProxies,
    header_bytes: usize,
}

impl Gate {
    /// As it was set up.
    pub fn new(settings: &Settings, database: Database, at_hand: AtHand) -> Gate {
        let all_alike = !settings.keys && settings.cors_origins.is_empty();
        Gate {
            at_hand: all_alike.then_some(at_hand),
            access: settings
                .keys
                .then(|| Arc::new(Access::new(database, &settings.limits))),
            addresses: Pace::new(settings.limits.requests_per_address),
            keys: Pace::new(settings.limits.requests_per_key),
            logged: Pace::always(LOGGED_A_SECOND),
            hosts: Hosts::new(&settings.allowed_hosts, settings.public_url.as_ref()),
            public_url: settings.public_url.clone(),
            cors_origins: settings.cors_origins.clone(),
            proxies: settings.trusted_proxies.clone(),
            header_bytes: settings.limits.header_bytes,
        }
    }

    /// The routes behind the gate, as what answers a connection's requests.
    pub fn before<S>(
        self,
        routes: S,
        settings: &Settings,
    ) -> impl Fn(Peer, Request<Incoming>) -> Answering + Clone + Send + Sync + 'static
    where
        S: Service<Request<Incoming>, Response = warp::reply::Response, Error = Infallible>
            + Clone
            + Send
            + Sync
            + 'static,
        S::Future: Send,
    {
        let gate = Arc::new(self);
        let short = Arc::clone(&gate);
        let service = ServiceBuilder::new()
            .option_layer(cors(&settings.cors_origins))
            .layer(CompressionLayer::new())
            .service(service_fn(move |request| {
                let (gate, routes) = (Arc::clone(&gate), routes.clone());
                async move { Ok::<_, Infallible>(gate.answer(request, routes).await) }
            }));
        move |peer, mut request| {
            let id = request_id::of(request.headers());
            if let Err(problem) = short.admit_head(peer, &request) {
                let mut answer = problem.response();
                let close = HeaderValue::from_static("close");
                answer.headers_mut().insert(header::CONNECTION, close);
                let answer = answer.map(|body| Either::Right(body.map_err(BoxError::from).boxed()));
                return Box::pin(std::future::ready(leaving(answer, id)));
            }
            let client = short.client(peer, request.headers());
            if let Some(answer) = short.at_hand(client, &request) {
                return Box::pin(std::future::ready(leaving(answer.map(Either::Left), id)));
            }
            let service = service.clone();
            Box::pin(async move {
                request.extensions_mut().insert(client);
                request.extensions_mut().insert(id.clone());
                let Ok(answer) = service.oneshot(request).await;
                let answer = answer.map(|body| body.map_err(BoxError::from).boxed());
                leaving(answer.map(Either::Right), id)
            })
        }
    }

    /// What hyper lets through and we do not: by a name that is not ours, say, or larger than it should be, since hyper
    /// reads a piece more than it may buffer.
    fn admit_head<B>(&self, peer: Peer, request: &Request<B>) -> Result<(), Problem> {
        // A proxy's connections are everybody's.
        if peer.is_one_too_many && !self.proxies.contain(peer.address) {
            return Err(Problem::too_many_connections());
        }
        self.hosts.admit(request)?;
        let headers = request.headers().iter();
        let headers = headers.map(|(name, value)| name.as_str().len() + value.len());
        let target = request.uri().path_and_query();
        let bytes = headers.sum::<usize>() + target.map_or(0, |target| target.as_str().len());
        if bytes > self.header_bytes {
            return Err(Problem::head_too_large(self.header_bytes));
        }
        Ok(())
    }

    fn at_hand<B>(&self, client: Client, request: &Request<B>) -> Option<Response<Full<Bytes>>> {
        let at_hand = self.at_hand.as_ref()?;
        let started = Instant::now();
        let written = at_hand.find(request)?;
        // One request too many takes nothing from the rate; the ordinary way refuses it again, in words.
        self.admit_client(client).ok()?;
        Some(at_hand.answer(&written, started))
    }

    async fn answer<S>(&self, mut request: Request<Incoming>, routes: S) -> warp::reply::Response
    where
        S: Service<Request<Incoming>, Response = warp::reply::Response, Error = Infallible>,
    {
        let (method, path) = (request.method().clone(), request.uri().path().to_owned());
        let id = request.extensions().get::<request_id::RequestId>().cloned();
        let held = request.headers().get_all(header::IF_NONE_MATCH);
        let held: Vec<HeaderValue> = held.iter().cloned().collect();
        let response = match self.admit(&request).await {
            Ok(opened) => {
                if let Some(opened) = &opened {
                    let name = KeyName(opened.row.name.clone());
                    request.extensions_mut().insert(name);
                }
                let Ok(response) = routes.oneshot(request).await;
                match (opened, &self.access) {
                    (Some(opened), Some(access)) if is_endless(response.headers()) => {
                        access.guard(opened, response)
                    }
                    _ => response,
                }
            }
            Err(problem) => problem.response(),
        };
        if response.status().is_server_error() {
            let id = id.as_ref().map_or("", |id| id.0.to_str().unwrap_or(""));
            let level = self.logged.level(log::Level::Warn);
            let status = response.status().as_u16();
            log::log!(level, "request {id}: {method} {path}: answered {status}");
        }
        if method == Method::GET || method == Method::HEAD {
            etag::validate(response, &held).await
        } else {
            response
        }
    }

    /// The key it came with, if it needs one.
    async fn admit(&self, request: &Request<Incoming>) -> Result<Option<Opened>, Problem> {
        let method = request.method();
        let endpoint = endpoint::find(endpoints::ALL, method, request.uri().path());
        if endpoint.is_some_and(|endpoint| !endpoint.is_paced) {
            return Ok(None);
        }
        // Each has one: see `before`.
        let client = request.extensions().get().copied();
        let client = client.unwrap_or(Client(Ipv4Addr::UNSPECIFIED.into()));
        self.admit_client(client)
            .map_err(|wait| Problem::too_many_requests("this address", wait))?;
        let Some(access) = &self.access else {
            if !method.is_safe() {
                let public = self.public_url.as_ref();
                origin::admit_change(request.headers(), &self.cors_origins, public)?;
            }
            return Ok(None);
        };
        let Some(scope) = access::needed(endpoint, method) else {
            return Ok(None);
        };
        let opened = access.open(request.headers(), scope, client).await?;
        if let Some(keys) = &self.keys {
            keys.admit(&opened.row.key_id)
                .map_err(|wait| Problem::too_many_requests("this key", wait))?;
        }
        Ok(Some(opened))
    }

    fn admit_client(&self, client: Client) -> Result<(), Duration> {
        match &self.addresses {
            Some(addresses) => addresses.admit(&client.0),
            None => Ok(()),
        }
    }

    /// Who asks: the peer, or whom the proxy before us says it speaks for.
    fn client(&self, peer: Peer, headers: &HeaderMap) -> Client {
        Client(network(self.proxies.client(peer.address, headers)))
    }
}

/// What every answer says, whichever way it went.
fn leaving(mut answer: Outgoing, id: request_id::RequestId) -> Outgoing {
    let headers = answer.headers_mut();
    headers.insert(request_id::HEADER, id.0);
    let nosniff = HeaderValue::from_static("nosniff");
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, nosniff);
    // Not for pages of elsewhere, unless CORS says so.
    headers.insert(RESOURCE_POLICY, HeaderValue::from_static("same-origin"));
    answer
}

const RESOURCE_POLICY: HeaderName = HeaderName::from_static("cross-origin-resource-policy");

fn cors(origins: &[Origin]) -> Option<CorsLayer> {
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
            header::LOCATION,
            header::RETRY_AFTER,
            X_CACHE,
            X_NEXT_CURSOR,
            request_id::HEADER,
        ])
        .max_age(PREFLIGHT_AGE);
    Some(if origins.iter().any(Origin::is_any) {
        layer.allow_origin(tower_http::cors::Any)
    } else {
        layer.allow_origin(origins.iter().map(Origin::header).collect::<Vec<_>>())
    })
}
