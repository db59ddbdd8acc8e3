//! Which parts run together. `process`, `serve`, `run` and `demo` are the same parts:
//!
//! ```text
//! process            processor ──▶ Redis                  (and dead letters ──▶ Kafka, in all but serve)
//! serve                             Redis ──▶ cache ──▶ API
//! run, demo          processor ──▶ cache ──▶ API          (and through Redis, if there is one)
//! ```

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use anyhow::Context as _;
use tokio::net::TcpListener;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

use crate::alerts::{deliver, watch};
use crate::api::{Served, Shards};
use crate::cache::redis::{SharedCache, listen};
use crate::cache::refresh::Refresher;
use crate::cache::servers::Servers;
use crate::cache::{InsightCache, Notice};
use crate::codec::SchemaIds;
use crate::database::Database;
use crate::dlq::publish;
use crate::import::originals::Originals;
use crate::outage::Outage;
use crate::pause::pause;
use crate::processor::{Listener, Report};
use crate::schema_registry::own::Finding;
use crate::shard::Shard;
use crate::store::{self, Remedy, StoreError};
use crate::{alerts, api, codec, processor, schema_registry, simulate, upkeep};

/// How often a registry that does not have our schemas is asked for them again.
const FIND_AGAIN: Duration = Duration::from_secs(5);

/// How the API is served.
#[derive(Clone)]
pub struct ServeSettings {
    pub database_url: String,
    /// The databases that have ranges of the topic's partitions; none: that one has everything.
    pub shards: Vec<(Shard, String)>,
    /// Whether the schema is brought up to date at start.
    pub may_migrate: bool,
    pub redis: Option<Servers>,
    /// Connections to the database.
    pub connections: u32,
    /// How long an answer may go unchecked.
    pub fresh_for: Duration,
    /// Names the subject under which the schema is found.
    pub topic: String,
    pub schema_ids: SchemaIds,
    /// Where a registry hands out the ids: how to find them there, for what is taken in.
    pub finding: Option<(schema_registry::Settings, Finding)>,
    /// Schemas of other writers, which are answered by their ids.
    pub writer_schemas: Vec<(u32, PathBuf)>,
    /// None: nothing is taken in.
    pub brokers: Option<api::Brokers>,
    /// Where files are kept that are taken in; none: nowhere, and they are not noted.
    pub originals: Option<Originals>,
    pub api: api::Settings,
}

/// What a process that counts does.
pub struct Processing {
    /// Without the range of its database, which is read there.
    pub settings: processor::Settings,
    /// The first and the last partition of the part that it takes of the database's range; none: all of that.
    pub part: Option<(i32, i32)>,
    /// Whether the schema is brought up to date at start.
    pub may_migrate: bool,
    pub alerts: alerts::Settings,
}

/// Runs a processor until `stop` is set or it is done, and tells the caches of every commit:
/// those of other processes through Redis, that of this one through `local`. Beside it, small blocks are
/// merged and alert rules evaluated.
///
/// # Errors
/// As [`processor::run`].
pub fn process(
    processing: &Processing,
    redis: Option<&Servers>,
    local: Option<UnboundedSender<Notice>>,
    counted: Option<Arc<AtomicU64>>,
    stop: &AtomicBool,
) -> anyhow::Result<Report> {
    let Processing {
        settings,
        part,
        may_migrate,
        alerts,
    } = processing;
    if !store::migrate_when_there(&settings.database_url, *may_migrate, stop)? {
        return Ok(Report::default());
    }
    let settings = &of_range(settings, *part, stop)?;
    let publishing = publishing(settings)?;
    let refresher = redis
        .map(|servers| Refresher::start(servers, &settings.database_url))
        .transpose()?;
    let changes = refresher.as_ref().and_then(Refresher::changes);
    let listener: Listener = Box::new(move |changed| {
        if !changed.campaigns.is_empty() {
            if let Some(changes) = &changes {
                // The refresher ends after the processor.
                let _ = changes.send(changed.campaigns.to_vec());
            }
            if let Some(local) = &local {
                let _ = local.send(Notice::Changed(changed.campaigns.to_vec()));
            }
        }
        if let Some(counted) = &counted {
            counted.fetch_add(changed.records.as_u64(), Ordering::Relaxed);
        }
    });
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| upkeep::merge_blocks(&settings.database_url, &done));
        scope.spawn(|| upkeep::carry_minutes(&settings.database_url, &done));
        scope.spawn(|| upkeep::carry_others(&settings.database_url, &done));
        scope.spawn(|| upkeep::tell_ages(&settings.database_url, &done));
        scope.spawn(|| upkeep::forget_receipts(&settings.database_url, &done));
        if let Some(publishing) = &publishing {
            scope.spawn(|| publish::run(publishing, &done));
        }
        scope.spawn(|| watch::run(&settings.database_url, alerts, &done));
        if !alerts.webhooks.is_empty() {
            scope.spawn(|| {
                let ended = deliver::run(
                    &settings.database_url,
                    &alerts.webhooks,
                    alerts.private_webhooks,
                    &done,
                );
                if let Err(error) = ended {
                    log::error!("telling webhooks of alerts cannot begin: {error:#}");
                }
            });
        }
        let report = processor::run(settings, stop, Some(listener));
        done.store(true, Ordering::Relaxed);
        report
    })
}

/// The settings of a processor for the range of its database, or a part of that, if it is one of several.
fn of_range(
    settings: &processor::Settings,
    part: Option<(i32, i32)>,
    stop: &AtomicBool,
) -> anyhow::Result<processor::Settings> {
    let range = store::shard::read_when_there(&settings.database_url, stop)?;
    let shard = match (range, part) {
        (Some(range), Some(ends)) => {
            let (first, last) = ends;
            let part = range.part(ends);
            Some(part.with_context(|| {
                format!(
                    "--partitions {first}-{last} is not within {range}, which this database has"
                )
            })?)
        }
        (None, Some(_)) if !stop.load(Ordering::Relaxed) => anyhow::bail!(
            "--partitions takes a part of the range that a database has, and this one has none: give it one with `adflux migrate \
             --shard`, or leave the flag out"
        ),
        (range, _) => range,
    };
    let group = &settings.group;
    Ok(processor::Settings {
        group: shard.map_or_else(|| group.clone(), |shard| shard.group(group)),
        shard,
        ..settings.clone()
    })
}

/// How dead letters are published, if they are.
fn publishing(settings: &processor::Settings) -> anyhow::Result<Option<publish::Settings>> {
    let Some(dlq_topic) = settings.dlq_topic.clone() else {
        return Ok(None);
    };
    if dlq_topic == settings.topic {
        anyhow::bail!(
            "--dlq-topic must not be the topic itself: each dead letter would become one again"
        );
    }
    Ok(Some(publish::Settings {
        cluster: settings.cluster.clone(),
        database_url: settings.database_url.clone(),
        topic: settings.topic.clone(),
        dlq_topic,
        group: settings.group.clone(),
        cluster_id: settings.cluster_id.clone(),
    }))
}

/// Listens on an address, which the flag says.
///
/// # Errors
/// When the address is taken or not ours.
pub fn listen_on(address: SocketAddr, flag: &str) -> anyhow::Result<std::net::TcpListener> {
    std::net::TcpListener::bind(address).with_context(|| {
        format!("cannot listen on {address} (is the port taken? choose another with {flag})")
    })
}

/// The same listener for async tasks. To be called inside a runtime.
fn in_runtime(listener: std::net::TcpListener) -> std::io::Result<TcpListener> {
    listener.set_nonblocking(true)?;
    TcpListener::from_std(listener)
}

/// Serves `/livez`, `/readyz` and `/metrics` in the background, for as long as the process runs.
///
/// # Errors
/// When the address cannot be listened on.
pub fn metrics_in_background(address: SocketAddr) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let listener = listen_on(address, "--metrics-listen")?;
    std::thread::Builder::new()
        .name("metrics".into())
        .spawn(move || {
            let never = Arc::default();
            let served =
                runtime.block_on(async { api::serve_metrics(in_runtime(listener)?, &never).await });
            if let Err(error) = served {
                log::error!("serving metrics ended: {error:#}");
            }
        })?;
    Ok(())
}

/// Finds the ids of our schemas in the background: what is read needs none, and what is taken in waits for nobody.
fn find_ids(
    (registry, finding): (schema_registry::Settings, Finding),
    ids: Arc<OnceLock<SchemaIds>>,
    stop: Arc<AtomicBool>,
) -> anyhow::Result<()> {
    let client = schema_registry::Client::new(&registry)?;
    let look = move || {
        let refused = Outage::default();
        loop {
            match finding.await_ids(&client, &stop) {
                Ok(Some(found)) => {
                    refused.ended(format_args!("events and reports are taken in"));
                    let _ = ids.set(found);
                    return;
                }
                Ok(None) => return,
                Err(why) => {
                    refused.failed(format_args!(
                        "{why}. Until then no events and no reports are taken in"
                    ));
                }
            }
            pause(FIND_AGAIN, &stop);
        }
    };
    std::thread::Builder::new()
        .name("schema-ids".into())
        .spawn(look)?;
    Ok(())
}

impl ServeSettings {
    /// The URLs of all databases, each with its range, if it is one of several.
    fn databases(&self) -> BTreeMap<String, Option<Shard>> {
        let home = (self.database_url.clone(), None);
        let shards = self.shards.iter();
        let shards = shards.map(|(shard, url)| (url.clone(), Some(*shard)));
        std::iter::once(home).chain(shards).collect()
    }
}

/// Waits until a database is as it must be, with the range that was said of it: by another one, campaigns would be looked for
/// where they are not.
fn prepare(
    url: &str,
    said: Option<Shard>,
    may_migrate: bool,
    stop: &AtomicBool,
) -> Result<(), StoreError> {
    if !store::migrate_when_there(url, may_migrate, stop)? {
        return Ok(());
    }
    let found = store::shard::read_when_there(url, stop)?;
    if stop.load(Ordering::Relaxed) {
        return Ok(());
    }
    store::shard::check(found, said)
}

/// The databases that are served, each with a cache that follows it; of what changes, `local` hears too.
fn shards(
    settings: &ServeSettings,
    notices: UnboundedReceiver<Notice>,
    to_cache: UnboundedSender<Notice>,
) -> anyhow::Result<Shards> {
    // In order, so that all servers share lists under the name of the same database.
    let mut ranges = settings.shards.clone();
    ranges.sort_unstable_by_key(|(shard, _)| shard.ends());
    let database = |url: &str| {
        let database = Database::new(url, settings.connections);
        match ranges.iter().find(|(_, of)| of == url) {
            Some((shard, _)) => database.of_shard(*shard),
            None => database,
        }
    };
    let home = database(&settings.database_url);
    let served = |shard: Option<Shard>, database: Database, (to_cache, notices): Notices| {
        let shared = settings.redis.clone();
        let shared = shared.map(|servers| Arc::new(SharedCache::new(servers)));
        let cache = InsightCache::new(database.clone(), shared.clone(), settings.fresh_for);
        let cache = Arc::new(cache);
        let following = Arc::clone(&cache);
        tokio::spawn(async move { following.follow(notices).await });
        let following = Arc::clone(&cache);
        tokio::spawn(async move { following.follow_identity().await });
        if let Some(shared) = shared {
            tokio::spawn(listen(shared, to_cache));
        }
        Served {
            shard,
            database,
            cache,
            learned: Arc::default(),
        }
    };
    let mut others = ranges.iter();
    let Some((shard, url)) = others.next() else {
        let first = served(None, home.clone(), (to_cache, notices));
        return Shards::new(home, first, Vec::new()).map_err(anyhow::Error::msg);
    };
    let of = |url: &str| match url == settings.database_url {
        true => home.clone(),
        false => database(url),
    };
    let first = served(Some(*shard), of(url), (to_cache, notices));
    let others = others.map(|(shard, url)| served(Some(*shard), of(url), unbounded_channel()));
    let others = others.collect();
    Shards::new(home, first, others).map_err(|why| anyhow::anyhow!("ADFLUX_SHARDS: {why}"))
}

/// What tells a cache of changes, and what it hears them from.
type Notices = (UnboundedSender<Notice>, UnboundedReceiver<Notice>);

/// Serves the API on `listener` until `stop` is set. The database need not be there yet; one that is not as it must be sets
/// it.
///
/// # Errors
/// When the URL of the database is not one, a schema cannot be read, the database is not as it must be, or connections can no
/// longer be accepted.
pub async fn serve(
    settings: ServeSettings,
    listener: std::net::TcpListener,
    local: (UnboundedSender<Notice>, UnboundedReceiver<Notice>),
    stop: Arc<AtomicBool>,
) -> anyhow::Result<()> {
    for url in settings.databases().keys() {
        store::check_url(url)?;
    }
    let others = codec::writer_schemas(settings.schema_ids, &settings.writer_schemas)?;
    let ids = Arc::new(OnceLock::new());
    match settings
        .finding
        .clone()
        .filter(|_| settings.brokers.is_some())
    {
        Some(finding) => find_ids(finding, Arc::clone(&ids), Arc::clone(&stop))?,
        None => drop(ids.set(settings.schema_ids)),
    }
    let intake = settings.brokers.as_ref().map(|brokers| {
        let limits = &settings.api.limits;
        let originals = settings.originals.clone();
        api::Intake::new(brokers, &settings.topic, ids, originals, limits)
    });
    let intake = intake.transpose()?;
    let listener = in_runtime(listener)?;
    let (to_cache, notices) = local;
    let shards = shards(&settings, notices, to_cache)?;
    // Blocks for as long as a database is away, so on a thread of its own.
    let refused = Arc::new(OnceLock::new());
    for (url, range) in settings.databases() {
        let (stopping, refusing) = (Arc::clone(&stop), Arc::clone(&refused));
        let may_migrate = settings.may_migrate;
        std::thread::Builder::new()
            .name("migrate".into())
            .spawn(move || match prepare(&url, range, may_migrate, &stopping) {
                Err(error) if error.remedy() == Remedy::Stop => {
                    let _ = refusing.set(error);
                    stopping.store(true, Ordering::Relaxed);
                }
                Err(error) => log::error!("preparing the database failed: {error}"),
                Ok(()) => {}
            })?;
    }
    api::serve(
        listener,
        shards,
        api::Registry::new(&settings.topic, settings.schema_ids, others),
        intake,
        settings.api,
        &stop,
    )
    .await?;
    match refused.get() {
        Some(error) => anyhow::bail!("{error}"),
        None => Ok(()),
    }
}

/// Everything in one process: simulates, counts and serves until `stop` is set or a part fails.
/// `counted` follows how many records have been counted; `may_send` may slow the simulation down.
///
/// # Errors
/// The first failure of a part; the others are stopped then.
pub fn all(
    simulation: &simulate::Settings,
    processing: &Processing,
    serving: ServeSettings,
    listener: std::net::TcpListener,
    counted: &Arc<AtomicU64>,
    may_send: &(dyn Fn(u64) -> bool + Sync),
    stop: &Arc<AtomicBool>,
) -> anyhow::Result<()> {
    let (to_cache, notices) = unbounded_channel();
    let redis = serving.redis.clone();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()?;
    // The part that ends first, for whatever reason, ends the others.
    let and_stop = |result: anyhow::Result<()>| {
        if result.is_err() {
            stop.store(true, Ordering::Relaxed);
        }
        result
    };
    std::thread::scope(|scope| {
        let local = to_cache.clone();
        let processor = scope.spawn(move || {
            let counted = Some(Arc::clone(counted));
            and_stop(process(processing, redis.as_ref(), Some(local), counted, stop).map(drop))
        });
        let simulator =
            scope.spawn(move || and_stop(simulate::run(simulation, stop, may_send).map(drop)));
        let served = and_stop(runtime.block_on(async {
            serve(serving, listener, (to_cache, notices), Arc::clone(stop)).await
        }));
        let panicked = |_| Err(anyhow::anyhow!("a thread panicked; this is a bug"));
        served
            .and(processor.join().unwrap_or_else(panicked))
            .and(simulator.join().unwrap_or_else(panicked))
    })
}
