//! The HTTP API: insights for people, schemas for consumers, health for those who run it.
//!
//! `routes` says which path is answered by what, `endpoints` which parameters each takes; `params`, `asked`,
//! `window`, `filter` and `cursor` read what was asked, `insights`, `campaigns` and `events` answer,
//! `as_of` of the past, `body` is what is sent and `answer` how it is written, `problem` is every
//! error. `alerts` lists alerts, `alert_rules` keeps their rules, `live` tells of changes, `pipeline` how the system is
//! doing, `openapi` what can be asked. `listen` accepts connections, `gate` is what every request
//! passes, `limits` what a client may take.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use anyhow::Context as _;
use diesel::PgConnection;
use tokio::net::TcpListener;
use tokio::sync::{Semaphore, watch};
use tower::ServiceExt as _;
use warp::http::HeaderValue;

use self::problem::Problem;
use crate::cache::InsightCache;
use crate::cache::answers::Answers;
use crate::database::{Database, Unavailable};
use crate::store::StoreError;
use crate::store::read::insights::series::{self, Series};
use crate::store::read::insights::sheet::Sheet;

mod alert_rules;
mod alerts;
mod answer;
mod as_of;
mod asked;
mod body;
mod campaigns;
mod cursor;
mod endpoints;
mod events;
mod filter;
#[cfg(feature = "fuzzing")]
pub mod fuzzing;
mod gate;
mod grid;
mod health;
mod insights;
mod limits;
mod listen;
mod live;
mod openapi;
mod page;
mod params;
mod pipeline;
mod problem;
mod routes;
mod schemas;
mod window;
mod written;

use gate::{AtHand, Gate};
pub use limits::Limits;

/// What handlers share.
#[derive(Clone)]
struct State {
    cache: Arc<InsightCache>,
    database: Database,
    written: written::WrittenAnswers,
    series: Arc<Answers<series::Question, Series>>,
    sheets: Arc<Answers<campaigns::SheetKey, Sheet>>,
    lists: campaigns::Lists,
    slow: Arc<Semaphore>,
    live: live::Feed,
    pipeline: pipeline::Reading,
    limits: Arc<Limits>,
    /// One question about the past at a time.
    as_of: Arc<Semaphore>,
}

impl State {
    /// Asks the database what may take a while, when there is a place for that.
    async fn slowly<T: Send + 'static>(
        &self,
        question: impl FnOnce(&mut PgConnection) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, Problem> {
        let place = tokio::time::timeout(SLOW_PATIENCE, self.slow.acquire()).await;
        let answer = match place {
            Ok(_place) => self.database.read(question).await,
            Err(_) => Err(Unavailable::Busy),
        };
        answer.map_err(|e| Problem::unavailable(&e))
    }
}

/// How long a question that takes a while waits for its place.
const SLOW_PATIENCE: Duration = Duration::from_secs(10);
/// How many of the questions that take a while are asked at a time.
const SLOW_QUESTIONS: usize = 2;
/// About the most bytes of answers to them that are kept, of each kind.
const ANSWER_BYTES: u64 = 128 << 20;

/// How the API is served, beside where.
#[derive(Clone, Debug, Default)]
pub struct Settings {
    pub limits: Limits,
    /// Whether an API key is required.
    pub keys: bool,
    /// Origins whose pages may ask; `*`: all.
    pub cors_origins: Vec<HeaderValue>,
    /// Whether a proxy before us says, in `X-Forwarded-For`, who asks.
    pub trust_proxy: bool,
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
    let limits = Arc::new(settings.limits.clone());
    let (close, closing) = watch::channel(false);
    let live = live::Feed::start(
        database.clone(),
        cache.changes(),
        closing,
        limits.live,
        limits.live_campaigns,
    );
    let slow = Arc::new(Semaphore::new(SLOW_QUESTIONS));
    let written = written::WrittenAnswers::new();
    let at_hand = AtHand::new(Arc::clone(&cache), written.clone());
    let gate = Gate::new(&settings, database.clone(), at_hand);
    let fresh_for = cache.fresh_for();
    let state = State {
        cache,
        database,
        written,
        series: Arc::new(Answers::new(ANSWER_BYTES, Arc::clone(&slow), fresh_for)),
        sheets: Arc::new(Answers::new(ANSWER_BYTES, Arc::clone(&slow), fresh_for)),
        slow,
        lists: campaigns::Lists::new(),
        live,
        pipeline: pipeline::Reading::new(),
        limits: Arc::clone(&limits),
        as_of: Arc::new(Semaphore::new(1)),
    };
    let answer = gate.before(warp::service(routes::all(state, registry)), &settings);
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
    let settings = Settings::default();
    let routes = warp::service(routes::metrics_only());
    let answer = move |_, request| {
        let answer = routes.clone().oneshot(request);
        async move { answer.await.unwrap_or_else(|never| match never {}) }
    };
    listen::accept(listener, answer, &settings.limits, stop, || ()).await
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
