//! Real-time ad-campaign analytics: events through Kafka, counted exactly once into PostgreSQL,
//! served as insights.
//!
//! ```text
//! simulator ─▶ simulate ──────────────────┐
//! platforms' files ─▶ reports ─▶ import ──┤ events and report rows
//! POST /events, /reports ─▶ api::intake ──┴─▶ topic `ad-events` (codec: Avro, keyed by campaign)
//!                                                  │
//!  ┌─ processor: one thread polls ─────────────────▼───────────────────────────────────────┐
//!  │ kafka::consumer ─▶ codec ─┬▶ event: valid? ─▶ recent: duplicate? late? ─┬▶ batch      │
//!  │                           └▶ report_row: valid? ────────────────────────┘             │
//!  └───────────────────────────────────────────────────────────────────────────────┬───────┘
//!  ┌─ processor::writer: threads, each with its partitions and a connection ───────▼───────┐
//!  │ store::write::settle: whose campaign is it, what was counted before; of a report row: │
//!  │   what was known of the day, and by how much does that change?                        │
//!  │ store::write::commit, ONE transaction: position (fence), blocks, report rows, sums,   │
//!  │   dead letters                                                                        │
//!  └──────┬────────────────────────────────────────────────────────────────────────────────┘
//!         ▼ after the commit, and only then
//!  Kafka's offsets (for lag tools) · cache::refresh ─▶ Redis · notices to this process
//!                                                        │          │
//!  api ◀── cache: this process's memory ◀────────────────┴──────────┘
//!              ▲ on a miss: Redis, then database ─▶ store::read::insights
//! ```
//!
//! Data moves one way: nothing knows what comes after it. The pipeline is
//! synchronous, a few threads and no async runtime; tokio serves HTTP and delivers webhooks. What the design
//! promises, and why it is so, is in `ARCHITECTURE.md`.
//!
//! | module | what it is |
//! |---|---|
//! | [`event`] | an event, what it counts, and the reasons to refuse one; pure |
//! | [`report_row`] | what a platform says a campaign's day was, its revisions, and the reasons to refuse one; pure |
//! | [`currency`] | currencies, by their codes |
//! | [`time`] | instants, lengths of time, and RFC 3339 |
//! | [`offset`] | where a record stands in its partition |
//! | [`progress`] | what each partition is doing, in one word: counting, idle, stopped because of …; no standstill is unseen |
//! | [`outage`] | what fails is said once, and once that it is over |
//! | [`pause`] | how long to wait between tries |
//! | [`totals`] | sums, and the ratios derived from them; pure |
//! | [`codec`] | Avro in Confluent framing ⇄ [`event::AdEvent`] and [`report_row::ReportRow`] |
//! | [`simulator`] | a seeded, endless stream of records, and files such as platforms export; pure |
//! | [`simulate`] | `adflux simulate`: that stream, paced, into the topic; or those files into a folder |
//! | [`schema_registry`] | the company's own, if it has one: schemas by their ids, and the ids of ours |
//! | [`kafka`] | producer, consumer group member, topic; every property correctness rests on |
//! | [`processor`] | the loop: polls, drops duplicates, fills batches; the writer threads |
//! | [`store`] | PostgreSQL, in three rooms: `write` for the processor, `read` for questions, `keep` for upkeep; knows no Kafka |
//! | [`cache`] | insights from memory, Redis or PostgreSQL: old at worst, never wrong |
//! | [`shard`] | which partitions, and so which campaigns, one of several databases has; pure |
//! | [`database`] | the API's pooled connections, kept off the async threads |
//! | [`api`] | routes, documents, problem documents, the live feed; takes in events and reports; writes nothing but what people say of alerts, receipts, and the files it was sent |
//! | [`alerts`] | rules over what campaigns earn: their language, when they hold, who is told |
//! | [`memory`] | how much of it this process may use |
//! | [`metrics`] | what Prometheus scrapes |
//! | [`upkeep`] | beside counting: small blocks merged, sums carried to longer intervals |
//! | [`traces`] | the way of single records, told to an OpenTelemetry collector; empty without its feature |
//! | [`run`] | which parts run together as `process`, `serve` and `run` |
//! | [`demo`] | all of it with a broker and a PostgreSQL of its own |
//! | [`dlq`] | dead letters shown, sent back, and published to a topic of their own |
//! | [`skip`] | the command that gives up what cannot be read, and writes down what and why |
//! | [`doctor`] | the command for the person who asks what is wrong |
//! | [`retain`] | the command that drops what is older than it is to be kept |
//! | [`export`] | events and sums of a range, as CSV or Parquet |
//! | [`erase`] | the command that makes adflux forget a campaign, an account, or old dead letters, and certifies it |
//! | [`reports`] | files and answers of advertising platforms, read, checked and made report rows; pure but for files |
//! | [`import`] | the command that compares them with what is known, and sends them |
//! | [`expected`] | for how long platforms restate a day, and how it will end, from how past days did; pure but for its command and what it learns from |
//! | [`rates`] | exchange rates: what they convert, the file that has them, and its commands; pure but for these |
//! | [`spreadsheet`] | a cell of CSV is text or a number, never a formula |
//! | [`terminal`] | what came from outside shows itself there, and does nothing else |
//! | [`keys`] | API keys, and the commands that make them |
//! | [`config`] | every setting, once |
//! | [`crash`] | where the fault laboratory ends the process; empty in the product |
//! | [`guards`] | what the benchmark takes down to say what it costs; always up in the product |
//!
//! A reader who wants the heart reads [`processor`], then [`store::write::commit`],
//! [`store::write::settle`] and `processor::recent`.

// Only in kafka::headers, where rdkafka's safe reader would panic.
#![deny(unsafe_code)]
#![deny(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

pub mod alerts;
pub mod api;
pub mod cache;
pub mod codec;
pub mod config;
pub mod crash;
pub mod currency;
pub mod database;
pub mod demo;
pub mod dlq;
pub mod doctor;
pub mod erase;
pub mod event;
pub mod expected;
pub mod export;
pub mod guards;
pub mod import;
pub mod kafka;
pub mod keys;
pub mod memory;
pub mod metrics;
pub mod offset;
pub mod outage;
pub mod pause;
pub mod processor;
pub mod progress;
pub mod rates;
pub mod report_row;
pub mod reports;
pub mod retain;
pub mod run;
pub mod schema_registry;
pub mod shard;
pub mod simulate;
pub mod simulator;
pub mod skip;
pub mod spreadsheet;
pub mod store;
pub mod terminal;
pub mod time;
pub mod totals;
pub mod traces;
mod unit;
pub mod upkeep;
