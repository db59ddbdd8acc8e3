//! The HTTP API: insights for people, schemas for consumers, health for those who run it.
//!
//! An endpoint is one value (`endpoint`), beside its handler; `endpoints` lists them. `listen` accepts connections,
//! `gate` is what every request passes, `dispatch` finds its endpoint, `reading` makes a `request` of it as that
//! says, of the `parameters` there are. `asked`, `window`, `filter` and `cursor` say what is meant, `cursors` signs where a
//! page ended; `insights`, `campaigns`, `events`, `restatements` and `dead_letters` answer, `as_of` of the past,
//! `expected` says what days will come to that may still change, `rates` what money is converted by; `body` is what is sent and `answer` how it is
//! written; `problem` is every error. `intake` takes in events and reports, `receipts` says what became of them. `alerts` lists
//! alerts, `alert_rules` keeps their rules, `live` tells
//! of changes, `pipeline` and `health` how the system is doing, `registry` what events look like, `page` shows it all,
//! `openapi` describes it. `limits` is what a client may take, `per_address` what one address may.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use bytes::Bytes;
use chrono::{DateTime, Utc};
use diesel::PgConnection;
use serde_json::Value;
use tokio::net::TcpListener;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tower::ServiceExt as _;

use self::problem::Problem;
use crate::cache::answers::Answers;
use crate::cache::rates::RatesInMemory;
use crate::database::{Database, Unavailable, Which};
use crate::expected::account::Developments;
use crate::expected::provisional::ProvisionalDays;
use crate::store::StoreError;
use crate::store::read::growth::Account;
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
mod cursors;
mod dead_letters;
mod dispatch;
mod endpoint;
mod endpoints;
mod events;
mod expected;
mod filter;
#[cfg(feature = "fuzzing")]
pub mod fuzzing;
mod gate;
mod grid;
mod health;
mod insights;
mod intake;
mod limits;
mod listen;
mod live;
mod openapi;
mod pace;
mod page;
mod parameters;
mod per_address;
mod pipeline;
mod problem;
mod rates;
mod reading;
mod receipts;
mod registry;
mod request;
mod restatements;
mod shards;
mod window;
mod written;

use gate::{AtHand, Gate};
pub use gate::{HostName, Network, Origin, PublicUrl, TrustedProxies};
pub use intake::{Brokers, Intake};
use limits::Cost;
pub use limits::Limits;
pub use registry::Registry;
pub use shards::{Served, Shards};

/// What handlers share.
struct State {
    registry: Registry,
    cursors: cursors::Cursors,
    /// The document of the API, as JSON.
    openapi: Bytes,
    /// What stands before each path that an answer leads to: that of the public URL, usually nothing.
    base: String,
    shards: Shards,
    written: written::WrittenAnswers,
    series: Arc<Answers<series::Question, Series>>,
    sheets: Arc<Answers<campaigns::SheetKey, Sheet>>,
    lists: campaigns::Lists,
    heavy: Arc<Semaphore>,
    live: live::Feed,
    pipeline: pipeline::Reading,
    ready: health::Readiness,
    /// Set once the server is to end.
    stop: Arc<AtomicBool>,
    limits: Arc<Limits>,
    provisional_days: ProvisionalDays,
    rates: RatesInMemory,
    /// By account, how days grow that are restated.
    developments: Answers<Account, Option<Developments>>,
    /// None where nothing is taken in.
    intake: Option<Intake>,
    /// One question about the past at a time.
    as_of: Arc<Semaphore>,
}

impl State {
    /// Asks a database under the permit of what the question costs.
    async fn ask<T: Send + 'static>(
        &self,
        database: &Database,
        cost: Cost,
        question: impl FnOnce(&mut PgConnection) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, Problem> {
        let answer = match self.permit(cost).await? {
            Some(permit) => database.read_long(permit, question).await,
            None => database.read(question).await,
        };
        answer.map_err(|e| Problem::unavailable(&e))
    }

    /// Changes something in a database.
    async fn change<T: Send + 'static>(
        &self,
        database: &Database,
        change: impl FnOnce(&mut PgConnection) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, Problem> {
        let changed = database.write(change).await;
        changed.map_err(|e| Problem::unavailable(&e))
    }

    /// Asks the database that has a campaign.
    async fn ask_of<T: Send + 'static>(
        &self,
        campaign: &str,
        cost: Cost,
        question: impl FnOnce(&mut PgConnection) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, Problem> {
        self.ask(&self.shards.of(campaign).database, cost, question)
            .await
    }

    /// Asks all databases that have campaigns, under one permit.
    async fn ask_each<T: Send + 'static>(
        &self,
        cost: Cost,
        question: impl Fn(&mut PgConnection) -> Result<T, StoreError> + Clone + Send + 'static,
    ) -> Result<Vec<T>, Problem> {
        let permit = self.permit(cost).await?.map(Arc::new);
        let ask = |served: Served| {
            let (permit, question) = (permit.clone(), question.clone());
            async move {
                match permit {
                    Some(permit) => served.database.read_long(permit, question).await,
                    None => served.database.read(question).await,
                }
            }
        };
        let answers = self.shards.each(ask).await;
        answers.map_err(|e| Problem::unavailable(&e))
    }

    /// What time it is by the clock of the database with what is of no campaign.
    fn now(&self) -> DateTime<Utc> {
        self.shards.home().now()
    }

    /// Works through what was read, under the permit of what that costs and off the threads that answer everybody.
    async fn work<T: Send + 'static>(
        &self,
        cost: Cost,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, Problem> {
        let permit = self.permit(cost).await?;
        let worked = tokio::task::spawn_blocking(move || {
            // Kept until the work is done, also when the client has gone.
            let _permit = permit;
            work()
        });
        let worked = worked.await;
        worked.map_err(|e| {
            Problem::unavailable(&Unavailable::Database(Which::default(), e.to_string()))
        })
    }

    async fn permit(&self, cost: Cost) -> Result<Option<OwnedSemaphorePermit>, Problem> {
        if cost != Cost::Heavy {
            return Ok(None);
        }
        let permit = Arc::clone(&self.heavy).acquire_owned();
        match tokio::time::timeout(HEAVY_PATIENCE, permit).await {
            Ok(Ok(permit)) => Ok(Some(permit)),
            Ok(Err(_)) | Err(_) => Err(Problem::unavailable(&Unavailable::Busy)),
        }
    }
}

/// How long what is heavy waits for its permit.
const HEAVY_PATIENCE: Duration = Duration::from_secs(10);
/// How much of what is heavy is done at a time.
const HEAVY_AT_A_TIME: usize = 2;
/// About the most bytes that are kept of series, and of sheets.
const ANSWER_BYTES: u64 = 128 << 20;

/// How the API is served, beside where.
#[derive(Clone, Debug, Default)]
pub struct Settings {
    pub limits: Limits,
    /// Whether an API key is required.
    pub keys: bool,
    /// Origins whose pages may ask; `*`: all.
    pub cors_origins: Vec<Origin>,
    /// Where people find it, if a proxy stands before it.
    pub public_url: Option<PublicUrl>,
    /// Names under which it may be asked, besides `localhost`, addresses and that of the public URL.
    pub allowed_hosts: Vec<HostName>,
    /// Who may say, in `X-Forwarded-For`, for whom they ask.
    pub trusted_proxies: TrustedProxies,
    pub provisional_days: ProvisionalDays,
}

/// The API as an OpenAPI document.
pub fn openapi() -> Value {
    openapi::document(endpoints::ALL, "/")
}

/// Every endpoint as tables in Markdown, for `docs/api.md`.
pub fn endpoint_tables() -> String {
    openapi::markdown::tables(endpoints::ALL)
}

/// Serves the API on `listener` until `stop` is set.
///
/// # Errors
/// When connections can no longer be accepted.
pub async fn serve(
    listener: TcpListener,
    shards: Shards,
    registry: Registry,
    intake: Option<Intake>,
    settings: Settings,
    stop: &Arc<AtomicBool>,
) -> anyhow::Result<()> {
    let limits = Arc::new(settings.limits.clone());
    let (close, closing) = watch::channel(false);
    let live = live::Feed::start(shards.clone(), closing, &limits);
    let heavy = Arc::new(Semaphore::new(HEAVY_AT_A_TIME));
    let written = written::WrittenAnswers::new();
    let at_hand = AtHand::new(shards.clone(), written.clone());
    let gate = Gate::new(&settings, shards.home().clone(), at_hand);
    let fresh_for = shards.fresh_for();
    let public = settings.public_url.as_ref();
    let server = public.map_or("/", PublicUrl::as_str);
    let state = Arc::new(State {
        registry,
        cursors: cursors::Cursors::new(shards.home().clone()),
        openapi: openapi::document(endpoints::ALL, server).to_string().into(),
        base: public.map_or("", PublicUrl::path).to_owned(),
        rates: RatesInMemory::new(shards.home().clone()),
        shards,
        written,
        series: Arc::new(Answers::new(ANSWER_BYTES, Arc::clone(&heavy), fresh_for)),
        developments: Answers::new(ANSWER_BYTES, Arc::clone(&heavy), expected::FRESH_FOR),
        sheets: Arc::new(Answers::new(ANSWER_BYTES, Arc::clone(&heavy), fresh_for)),
        heavy,
        lists: campaigns::Lists::new(),
        live,
        pipeline: pipeline::Reading::new(),
        ready: health::Readiness::new(limits.ready_time),
        stop: Arc::clone(stop),
        limits: Arc::clone(&limits),
        provisional_days: settings.provisional_days,
        intake,
        as_of: Arc::new(Semaphore::new(1)),
    });
    let routes = dispatch::filter(endpoints::ALL, Some(state));
    let answer = gate.before(warp::service(routes), &settings);
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
pub async fn serve_metrics(listener: TcpListener, stop: &Arc<AtomicBool>) -> anyhow::Result<()> {
    let settings = Settings::default();
    let routes = warp::service(dispatch::filter(endpoints::OF_PROCESSOR, None));
    let answer = move |_: listen::Peer, request| {
        let answer = routes.clone().oneshot(request);
        async move { answer.await.unwrap_or_else(|never| match never {}) }
    };
    listen::accept(listener, answer, &settings.limits, stop, || ()).await
}
