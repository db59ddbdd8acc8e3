//! The pieces of the pipeline one by one, each with its throughput in events (or rows, where it
//! says so) a second.
//!
//! `make bench` runs them against a PostgreSQL of their own. Those that need none can be run by
//! themselves: `cargo bench --bench pieces -- 'codec|totals|batch'`.
//!
//! What something else takes for the same work stands beside it: apache-avro's own reader and
//! writer beside our codec, rows through text COPY beside the event store's blocks. The last lines
//! say the ratio, since numbers of two machines, or of two moments on a busy one, do not compare.

use std::hint::black_box;
use std::io::Write;
use std::time::{Duration, Instant};

use adflux::codec::{self, Decoder};
use adflux::event::{AdEvent, CampaignId, Counts, Platform};
use adflux::processor::assigned::{Assigned, Record};
use adflux::processor::recent::Recent;
use adflux::simulator::{self, Faults, Simulator};
use adflux::store::batch::{Fence, Fingerprinter, Share};
use adflux::store::positions::{self, Claim, Commit, Partition};
use adflux::store::projections::{self, Fold};
use adflux::store::{StreamId, blocks};
use adflux::totals::Totals;
use apache_avro::reader::datum::GenericDatumReader;
use apache_avro::types::Value;
use apache_avro::writer::datum::GenericDatumWriter;
use criterion::{BatchSize, Bencher, Criterion, Throughput, criterion_group, criterion_main};
use diesel::connection::SimpleConnection;
use diesel::data_types::PgTimestamp;
use diesel::result::Error as DieselError;
use diesel::{Connection, ExecuteCopyFromDsl, PgConnection};
use uuid::Uuid;

mod database;
use database::Database;

/// 2026-01-31T12:00:00Z: the same events in every run.
const START: i64 = 1_769_860_800_000_000;

/// Recent events that a partition remembers by default, with four of them.
const RECENT: usize = 250_000;

/// Records as Kafka would deliver them, a millisecond of event time apart.
struct Topic {
    simulator: Simulator,
    next_offset: i64,
}

struct Delivered {
    offset: i64,
    key: Vec<u8>,
    payload: Vec<u8>,
}

impl Topic {
    fn new(campaigns: u32) -> Topic {
        Topic {
            simulator: Simulator::new(&simulator::Settings {
                seed: 7,
                campaigns,
                faults: Faults::default(),
                schema_id: codec::SCHEMA_ID,
            }),
            next_offset: 0,
        }
    }

    fn next(&mut self, count: usize) -> Vec<Delivered> {
        let mut next = || {
            let offset = self.next_offset;
            self.next_offset += 1;
            let record = self.simulator.next_record(START + offset * 1_000);
            Delivered {
                offset,
                key: record.key.to_vec(),
                payload: record.value.to_vec(),
            }
        };
        (0..count).map(|_| next()).collect()
    }
}

/// A partition that was assigned and has no events yet.
fn assigned(stream: StreamId, fence: Fence) -> Assigned {
    let claim = Claim {
        stream,
        fence,
        last_record_time: None,
    };
    Assigned::new(&claim, Recent::new(RECENT), false)
}

const COMMIT: Commit = Commit {
    id: 1,
    at: PgTimestamp(0),
};

const FENCE: Fence = Fence {
    epoch: 1,
    next_offset: 0,
    campaigns_moved: 0,
};

fn fill(
    assigned: &mut Assigned,
    records: &[Delivered],
    decoder: &mut Decoder,
    prints: &Fingerprinter,
) {
    for record in records {
        let record = Record {
            offset: record.offset,
            record_time: None,
            key: Some(&record.key),
            payload: Some(&record.payload),
            headers: &Vec::new,
        };
        let refused = assigned.push(&record, decoder, prints, START);
        assert_eq!(refused, None);
    }
}

/// What a processor hands over after reading `events` records.
fn share(stream: StreamId, fence: Fence, events: usize, campaigns: u32) -> Share {
    let mut assigned = assigned(stream, fence);
    let records = Topic::new(campaigns).next(events);
    fill(
        &mut assigned,
        &records,
        &mut decoder(),
        &Fingerprinter::default(),
    );
    assigned.take_share().expect("a share")
}

fn decoder() -> Decoder {
    Decoder::new(codec::SCHEMA_ID).expect("the schema is the layout")
}

fn codec(c: &mut Criterion) {
    /// The event as one would first declare it for apache-avro.
    #[derive(serde::Serialize, serde::Deserialize)]
    #[serde(rename = "AdEvent")]
    struct Owned {
        event_id: Uuid,
        campaign_id: String,
        platform: OwnedPlatform,
        event_time: i64,
        impressions: i64,
        clicks: i64,
        conversions: i64,
        cost_micros: i64,
        revenue_micros: i64,
    }
    #[derive(serde::Serialize, serde::Deserialize)]
    #[serde(rename = "Platform")]
    enum OwnedPlatform {
        Meta,
        Google,
        LinkedIn,
        TikTok,
    }

    const HEADER: usize = 5;
    let records = Topic::new(100).next(1_000);
    let schema = codec::schema().expect("a schema");
    let reader = GenericDatumReader::builder(schema)
        .human_readable(true)
        .build()
        .expect("a reader");
    let writer = GenericDatumWriter::builder(schema)
        .human_readable(true)
        .build()
        .expect("a writer");

    let mut group = c.benchmark_group("codec");
    group.throughput(Throughput::Elements(records.len() as u64));
    group.bench_function("decode", |b| {
        let mut decoder = decoder();
        b.iter(|| {
            for record in &records {
                black_box(decoder.decode(&record.payload).expect("an event"));
            }
        });
    });
    group.bench_function("decode, apache-avro to a struct", |b| {
        b.iter(|| {
            for record in &records {
                let event: Owned = reader
                    .read_deser(&mut &record.payload[HEADER..])
                    .expect("an event");
                black_box(event);
            }
        });
    });
    group.bench_function("decode, apache-avro to a Value", |b| {
        b.iter(|| {
            for record in &records {
                let value = reader.read_value(&mut &record.payload[HEADER..]);
                black_box(value.expect("an event"));
            }
        });
    });

    let owned: Vec<Owned> = records
        .iter()
        .map(|r| {
            reader
                .read_deser(&mut &r.payload[HEADER..])
                .expect("an event")
        })
        .collect();
    let events: Vec<AdEvent<'_>> = owned
        .iter()
        .map(|e| AdEvent {
            event_id: e.event_id,
            campaign_id: CampaignId::parse(&e.campaign_id).expect("an id"),
            platform: match e.platform {
                OwnedPlatform::Meta => Platform::Meta,
                OwnedPlatform::Google => Platform::Google,
                OwnedPlatform::LinkedIn => Platform::LinkedIn,
                OwnedPlatform::TikTok => Platform::TikTok,
            },
            event_time: e.event_time,
            counts: Counts {
                impressions: e.impressions,
                clicks: e.clicks,
                conversions: e.conversions,
                cost_micros: e.cost_micros,
                revenue_micros: e.revenue_micros,
            },
        })
        .collect();
    group.bench_function("encode", |b| {
        let mut out = Vec::with_capacity(128);
        b.iter(|| {
            for event in &events {
                out.clear();
                codec::encode(event, codec::SCHEMA_ID, &mut out);
                black_box(&out);
            }
        });
    });
    group.bench_function("encode, apache-avro from a struct", |b| {
        let mut out = Vec::with_capacity(128);
        b.iter(|| {
            for event in &owned {
                out.clear();
                writer.write_ser(&mut out, event).expect("encodes");
                black_box(&out);
            }
        });
    });
    group.bench_function("encode, apache-avro from a Value", |b| {
        b.iter(|| {
            for event in &events {
                black_box(writer.write_value_to_vec(value(event)).expect("encodes"));
            }
        });
    });
    group.finish();
}

fn value(e: &AdEvent<'_>) -> Value {
    let c = &e.counts;
    let platform = Value::Enum(e.platform.index().into(), e.platform.name().into());
    Value::Record(vec![
        ("event_id".into(), Value::Uuid(e.event_id)),
        (
            "campaign_id".into(),
            Value::String(e.campaign_id.as_str().into()),
        ),
        ("platform".into(), platform),
        ("event_time".into(), Value::TimestampMicros(e.event_time)),
        ("impressions".into(), Value::Long(c.impressions)),
        ("clicks".into(), Value::Long(c.clicks)),
        ("conversions".into(), Value::Long(c.conversions)),
        ("cost_micros".into(), Value::Long(c.cost_micros)),
        ("revenue_micros".into(), Value::Long(c.revenue_micros)),
    ])
}

fn totals(c: &mut Criterion) {
    let mut group = c.benchmark_group("totals");
    for campaigns in [100, 10_000] {
        let share = share(StreamId(1), FENCE, 50_000, campaigns);
        group.throughput(Throughput::Elements(share.events.len() as u64));
        group.bench_function(format!("fold, {campaigns} campaigns"), |b| {
            b.iter(|| {
                let mut fold = Fold::default();
                fold.add(&share.events, |c| c).expect("no overflow");
                fold
            });
        });
    }
    let share = share(StreamId(1), FENCE, 50_000, 100);
    group.bench_function("checked sum", |b| {
        b.iter(|| {
            (0..share.events.len()).try_fold(Totals::default(), |sum, row| {
                sum.checked_add(Totals::of(share.events.counts(row)))
            })
        });
    });
    group.finish();
}

/// From a record's bytes to its place in the batch: decode, validate, tell duplicates, columns.
fn batch(c: &mut Criterion) {
    const EVENTS: usize = 10_000;
    let (mut decoder, prints) = (decoder(), Fingerprinter::default());
    let mut group = c.benchmark_group("batch");
    group.throughput(Throughput::Elements(EVENTS as u64));
    for campaigns in [100, 10_000] {
        let mut topic = Topic::new(campaigns);
        let mut assigned = assigned(StreamId(1), FENCE);
        // A memory that is full, as it is but for the first seconds.
        while topic.next_offset < RECENT as i64 {
            fill(&mut assigned, &topic.next(EVENTS), &mut decoder, &prints);
            assigned.take_share();
        }
        group.bench_function(format!("build, {campaigns} campaigns"), |b| {
            b.iter_batched(
                || topic.next(EVENTS),
                |records| {
                    fill(&mut assigned, &records, &mut decoder, &prints);
                    (assigned.take_share(), records)
                },
                BatchSize::LargeInput,
            );
        });
    }
    // A replay: the same events at later offsets.
    let mut records = Topic::new(100).next(EVENTS);
    let mut assigned = assigned(StreamId(1), FENCE);
    fill(&mut assigned, &records, &mut decoder, &prints);
    assigned.take_share();
    group.bench_function("build, all duplicates", |b| {
        b.iter(|| {
            for record in &mut records {
                record.offset += EVENTS as i64;
            }
            fill(&mut assigned, &records, &mut decoder, &prints);
            assigned.take_share()
        });
    });
    group.finish();
}

diesel::table! {
    /// What one would store without blocks.
    event_rows (stream_id, offset) {
        stream_id -> Integer,
        offset -> BigInt,
        event_id -> Uuid,
        campaign_id -> Text,
        platform -> SmallInt,
        event_time -> Timestamptz,
        impressions -> BigInt,
        clicks -> BigInt,
        conversions -> BigInt,
        cost_micros -> BigInt,
        revenue_micros -> BigInt,
    }
}

const EVENT_ROWS: &str = "CREATE TABLE event_rows (
    stream_id integer NOT NULL, \"offset\" bigint NOT NULL, event_id uuid NOT NULL, campaign_id text NOT NULL,
    platform smallint NOT NULL, event_time timestamptz NOT NULL, impressions bigint NOT NULL, clicks bigint NOT NULL,
    conversions bigint NOT NULL, cost_micros bigint NOT NULL, revenue_micros bigint NOT NULL,
    PRIMARY KEY (stream_id, \"offset\"))";

/// A database with one partition in it.
struct Store {
    connection: PgConnection,
    stream: StreamId,
    // Last, so that it is dropped when nobody is connected any more.
    _database: Database,
}

impl Store {
    fn create(name: &str) -> Store {
        let database = Database::create(name);
        let mut connection = database.connect();
        connection.batch_execute(EVENT_ROWS).expect("creates");
        let partition = Partition {
            cluster_id: "bench",
            topic: "bench",
            partition: 0,
        };
        let claim = positions::claim(&mut connection, partition, 0, "bench").expect("claims");
        Store {
            connection,
            stream: claim.stream,
            _database: database,
        }
    }
}

/// Criterion's own times, kept: for a ratio.
fn measured(b: &mut Bencher<'_>, times: &mut Vec<Duration>, mut once: impl FnMut() -> Duration) {
    b.iter_custom(|iterations| {
        let first = times.len();
        times.extend((0..iterations).map(|_| once()));
        times[first..].iter().sum()
    });
}

fn timed(work: impl FnOnce()) -> Duration {
    let start = Instant::now();
    work();
    start.elapsed()
}

fn median(times: &mut [Duration]) -> Option<Duration> {
    times.sort_unstable();
    times.get(times.len() / 2).copied()
}

/// The event store's way into PostgreSQL, beside rows through text COPY: the same events made
/// durable in one transaction, with a primary key by stream and offset either way. COPY gets its
/// text ready-made, in its favour.
fn append(c: &mut Criterion) {
    let mut store = None;
    let mut group = c.benchmark_group("append");
    for events in [10_000, 50_000] {
        let (mut as_blocks, mut as_rows) = (Vec::new(), Vec::new());
        group.throughput(Throughput::Elements(events as u64));
        let mut offset = 0;
        group.bench_function(format!("blocks, {events} a commit"), |b| {
            let store: &mut Store = store.get_or_insert_with(|| Store::create("append"));
            let mut share = share(store.stream, FENCE, events, 100);
            measured(b, &mut as_blocks, || {
                offset = renumber(&mut share, offset);
                timed(|| {
                    store
                        .connection
                        .transaction(|connection| blocks::append(connection, &share, COMMIT))
                        .expect("appends");
                })
            });
        });
        let mut offset = 0;
        group.bench_function(format!("rows by text COPY, {events} a commit"), |b| {
            let store: &mut Store = store.get_or_insert_with(|| Store::create("append"));
            let mut share = share(store.stream, FENCE, events, 100);
            measured(b, &mut as_rows, || {
                offset = renumber(&mut share, offset);
                let text = as_text(&share);
                timed(|| {
                    diesel::copy_from(event_rows::table)
                        .from_raw_data(event_rows::table, |copy| {
                            copy.write_all(&text)
                                .map_err(|e| DieselError::SerializationError(e.into()))
                        })
                        .execute(&mut store.connection)
                        .expect("copies");
                })
            });
        });
        if let Some(store) = &mut store {
            let empty = "TRUNCATE event_blocks, event_rows; CHECKPOINT";
            store.connection.batch_execute(empty).expect("empties");
        }
        if let (Some(as_blocks), Some(as_rows)) = (median(&mut as_blocks), median(&mut as_rows)) {
            println!(
                "append of {events} events a commit: blocks are {:.1} x as fast as rows by text COPY\n",
                as_rows.as_secs_f64() / as_blocks.as_secs_f64()
            );
        }
    }
    group.finish();
}

/// Gives the events the next offsets; returns the one after them.
fn renumber(share: &mut Share, first: i64) -> i64 {
    for (offset, next) in share.events.offset.iter_mut().zip(first..) {
        *offset = next;
    }
    first + share.events.len() as i64
}

fn as_text(share: &Share) -> Vec<u8> {
    let mut text = Vec::new();
    let e = &share.events;
    for row in 0..e.len() {
        let c = e.counts(row);
        let time = chrono::DateTime::from_timestamp_micros(e.event_time[row]).expect("a time");
        writeln!(
            text,
            "{}\t{}\t{}\t{}\t{}\t{}\t{}\t{}\t{}\t{}\t{}",
            share.stream,
            e.offset[row],
            e.event_id[row],
            share.campaigns[e.campaign[row] as usize],
            e.platform[row],
            time.to_rfc3339(),
            c.impressions,
            c.clicks,
            c.conversions,
            c.cost_micros,
            c.revenue_micros
        )
        .expect("memory takes it");
    }
    text
}

/// Adding a batch to the projections, in rows of `metrics_by_minute` a second (the coarser ones
/// come on top). The rows are there already, as they are for all but a minute's first batch.
fn upsert(c: &mut Criterion) {
    let mut store = None;
    let mut group = c.benchmark_group("upsert");
    for campaigns in [100, 10_000] {
        let mut share = share(StreamId(1), FENCE, 100_000, campaigns);
        share.events.event_time.fill(START);
        let mut fold = Fold::default();
        fold.add(&share.events, |c| c).expect("no overflow");
        group.throughput(Throughput::Elements(fold.len() as u64));
        group.bench_function(format!("{campaigns} campaigns, {} rows", fold.len()), |b| {
            let store: &mut Store = store.get_or_insert_with(|| Store::create("upsert"));
            b.iter(|| {
                store
                    .connection
                    .transaction(|connection| {
                        projections::upsert(connection, "", &fold, &share.campaigns, COMMIT)
                    })
                    .expect("upserts");
            });
        });
    }
    group.finish();
}

/// All of it together stays within minutes.
fn config() -> Criterion {
    Criterion::default()
        .warm_up_time(Duration::from_secs(1))
        .measurement_time(Duration::from_secs(4))
}

criterion_group! { name = memory; config = config(); targets = codec, totals, batch }
// The insight read joins these.
criterion_group! { name = postgres; config = config().sample_size(10); targets = append, upsert }
criterion_main!(memory, postgres);
