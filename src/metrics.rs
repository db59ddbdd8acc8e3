//! What Prometheus scrapes at `GET /metrics`. One registry a process; the names are documented in
//! `docs/operating.md`.

use std::sync::LazyLock;

use prometheus::{
    Encoder, Gauge, GaugeVec, Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec,
    IntGauge, IntGaugeVec, Opts, Registry, TextEncoder,
};

static REGISTRY: LazyLock<Registry> = LazyLock::new(Registry::new);

fn register<C: prometheus::core::Collector + Clone + 'static>(
    collector: Result<C, prometheus::Error>,
) -> C {
    // Names and labels are constants: what fails here fails in every test.
    #[expect(clippy::expect_used, reason = "constant input")]
    let collector = collector.expect("a metric's name and labels are valid");
    #[expect(clippy::expect_used, reason = "constant input")]
    REGISTRY
        .register(Box::new(collector.clone()))
        .expect("a metric is registered once");
    collector
}

macro_rules! metric {
    ($(#[$doc:meta])* $name:ident: $type:ty = $make:expr) => {
        $(#[$doc])*
        pub static $name: LazyLock<$type> = LazyLock::new(|| register($make));
    };
}

metric!(/// Events counted.
    EVENTS: IntCounter = IntCounter::new("adflux_events_total", "Events counted into the event store"));
metric!(/// Duplicates.
    DUPLICATES: IntCounter = IntCounter::new("adflux_duplicates_total", "Records whose event had been counted before"));
metric!(/// Report rows that said what was known.
    UNCHANGED: IntCounter = IntCounter::new("adflux_unchanged_total", "Report rows that were newer than what was known, and said the same"));
metric!(/// Report rows older than what was known.
    SUPERSEDED: IntCounter = IntCounter::new("adflux_superseded_total", "Report rows that were older than what was known"));
metric!(/// Dead letters by reason.
    DEAD_LETTERS: IntCounterVec = IntCounterVec::new(
        Opts::new("adflux_dead_letters_total", "Records that could not be counted, by reason"), &["reason"]));
metric!(/// Dead letters copied to the dead-letter topic.
    DEAD_LETTERS_PUBLISHED: IntCounter = IntCounter::new("adflux_dead_letters_published_total", "Dead letters published to the dead-letter topic"));
metric!(/// Dead letters not copied there yet.
    DEAD_LETTERS_WAITING: IntGauge = IntGauge::new(
        "adflux_dead_letters_waiting", "Dead letters not yet published, as the process that publishes them sees it"));
metric!(/// Shares that failed their fence.
    FENCED: IntCounter = IntCounter::new("adflux_fenced_total", "Writes refused because another process owned the partition"));
metric!(/// Records per batch.
    BATCH_EVENTS: Histogram = Histogram::with_opts(HistogramOpts::new("adflux_batch_records", "Records in a batch")
        .buckets(vec![1.0, 10.0, 100.0, 1e3, 1e4, 1e5, 1e6])));
metric!(/// Seconds per transaction.
    BATCH_SECONDS: Histogram = Histogram::with_opts(HistogramOpts::new("adflux_batch_seconds", "Seconds to make a batch true in PostgreSQL")
        .buckets(vec![0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0])));
metric!(/// Failed attempts to write, by what was done next.
    COMMIT_FAILURES: IntCounterVec = IntCounterVec::new(
        Opts::new("adflux_commit_failures_total", "Attempts that PostgreSQL refused, by what the writer does next"), &["remedy"]));
metric!(/// Partitions that stand still.
    STANDSTILL: IntGaugeVec = IntGaugeVec::new(
        Opts::new("adflux_standstill", "Partitions that stand still, by the constraint that failed or what else is in the way"), &["cause"]));
metric!(/// What each partition is doing.
    STATE: IntGaugeVec = IntGaugeVec::new(
        Opts::new("adflux_partition_state", "1 for what the partition is doing, 0 for what it is not"), &["partition", "state"]));
metric!(/// Seconds without progress by partition.
    STALLED: GaugeVec = GaugeVec::new(
        Opts::new("adflux_partition_stalled_seconds", "Seconds since the position last moved while there was more to read"), &["partition"]));
metric!(/// This machine's clock against another.
    CLOCK_SKEW: GaugeVec = GaugeVec::new(
        Opts::new("adflux_clock_skew_seconds", "How far this machine's clock is ahead of another; negative if behind"), &["of"]));
metric!(/// Consumer lag by partition.
    LAG: IntGaugeVec = IntGaugeVec::new(
        Opts::new("adflux_consumer_lag", "Records of the log not yet counted, by partition"), &["partition"]));
metric!(/// Parts of sums.
    SUM_PARTS: IntGauge = IntGauge::new("adflux_sum_parts", "Parts that the sums are in"));
metric!(/// Parts of sums not carried yet.
    SUM_PARTS_WAITING: IntGauge = IntGauge::new(
        "adflux_sum_parts_waiting", "Parts of a commit each that are not carried yet, in the partition that has most; at 64 counting waits"));
metric!(/// Chunks of sums not cleared away yet.
    SUM_CHUNKS_DEAD: IntGauge = IntGauge::new(
        "adflux_sum_chunks_dead", "Chunks of sums that were replaced and still take room, as PostgreSQL estimates"));
metric!(/// How old what is known of accounts is.
    REPORT_AGE: GaugeVec = GaugeVec::new(
        Opts::new("adflux_report_age_seconds", "Seconds since the account's platform was asked for its newest report"), &["platform", "account"]));
metric!(/// How far apart commits are made.
    COMMITS_APART: Gauge = Gauge::new(
        "adflux_commits_apart_seconds", "How far apart commits are made, since somebody holds a snapshot; 0 if nobody does"));
metric!(/// Cache look-ups by where the answer came from.
    CACHE: IntCounterVec = IntCounterVec::new(
        Opts::new("adflux_cache_total", "Insights answered, by where they came from"), &["source"]));
metric!(/// Questions to the schema registry, by what came of them.
    SCHEMA_LOOKUPS: IntCounterVec = IntCounterVec::new(
        Opts::new("adflux_schema_lookups_total", "Questions to the schema registry what an id stands for, by result"), &["result"]));
metric!(/// Schemas that are known from there.
    SCHEMAS_KNOWN: IntGauge = IntGauge::new("adflux_schemas_known", "Schemas that are known from the schema registry"));
metric!(/// What happened to alerts.
    ALERTS: IntCounterVec = IntCounterVec::new(
        Opts::new("adflux_alerts_total", "Alerts opened and resolved by this process"), &["event"]));
metric!(/// Attempts to tell webhooks.
    WEBHOOKS: IntCounterVec = IntCounterVec::new(
        Opts::new("adflux_webhook_attempts_total", "Attempts to deliver an alert to a webhook, by result"), &["result"]));
metric!(/// Seconds per round of rules.
    ALERT_SECONDS: Histogram = Histogram::with_opts(HistogramOpts::new("adflux_alert_round_seconds", "Seconds to hold all rules against up to 1,000 campaigns")
        .buckets(vec![0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0])));
metric!(/// Request latency by route and status.
    REQUESTS: HistogramVec = HistogramVec::new(HistogramOpts::new("adflux_http_request_seconds", "Seconds to answer a request")
        .buckets(vec![0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 5.0]), &["route", "status"]));

/// Seconds that a transaction took, on average; none in a process that made none.
pub fn mean_batch_seconds() -> Option<f64> {
    let batches = BATCH_SECONDS.get_sample_count();
    (batches > 0).then(|| BATCH_SECONDS.get_sample_sum() / batches as f64)
}

/// Everything, in Prometheus' text format.
pub fn text() -> String {
    // Seen at zero before anything happened.
    for metric in [&EVENTS, &DUPLICATES, &FENCED, &DEAD_LETTERS_PUBLISHED] {
        LazyLock::force(metric);
    }
    let mut out = Vec::new();
    if let Err(error) = TextEncoder::new().encode(&REGISTRY.gather(), &mut out) {
        log::error!("encoding metrics failed: {error}");
    }
    String::from_utf8_lossy(&out).into_owned()
}
