//! The pieces of the pipeline one by one, each with its throughput in events (or rows, where it
//! says so) a second.
//!
//! `make bench` runs them against a PostgreSQL of their own. Those that need none can be run by
//! themselves: `cargo bench --bench pieces -- 'codec|totals|batch|report'`.
//!
//! What something else takes for the same work stands beside it: apache-avro's own reader and
//! writer beside our codec. What a ratio says of the whole is in the other benchmark, `pipeline`.

use std::hint::black_box;
use std::time::Duration;

use adflux::codec;
use adflux::event::{AdEvent, CampaignId, Count, Counts, MILLION, Platform};
use adflux::reports;
use adflux::reports::facts::Options;
use adflux::reports::source::{self, Limits};
use adflux::store::StreamId;
use adflux::store::events::Fingerprinter;
use adflux::store::sums::part::{self, Chunks};
use adflux::store::write::projections::Fold;
use adflux::time::Timestamp;
use adflux::totals::Totals;
use apache_avro::reader::datum::GenericDatumReader;
use apache_avro::types::Value;
use apache_avro::writer::datum::GenericDatumWriter;
use chrono::DateTime;
use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use diesel::Connection;
use uuid::Uuid;

mod database;
mod delivery;

use delivery::{COMMIT, FENCE, Log, RECENT, Store, assigned, decoder, fill, share};

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
    let records = Log::new(100).next(1_000);
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
            event_time: Timestamp::new(e.event_time),
            counts: Counts::of([
                e.impressions,
                e.clicks,
                e.conversions * MILLION,
                e.cost_micros,
                e.revenue_micros,
            ]),
        })
        .collect();
    group.bench_function("encode", |b| {
        let mut out = Vec::with_capacity(128);
        b.iter(|| {
            for event in &events {
                out.clear();
                codec::encode(event, codec::SchemaIds::OWN.event, &mut out);
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
        (
            "event_time".into(),
            Value::TimestampMicros(e.event_time.get()),
        ),
        ("impressions".into(), Value::Long(c.impressions.get())),
        ("clicks".into(), Value::Long(c.clicks.get())),
        ("conversions".into(), Value::Long(c.conversions.parts().0)),
        ("cost_micros".into(), Value::Long(c.cost_micros.get())),
        ("revenue_micros".into(), Value::Long(c.revenue_micros.get())),
    ])
}

/// A file of reports: read and checked, and read again and made records. The whole way does a third reading between, to compare.
fn report(c: &mut Criterion) {
    const ROWS: u64 = 100_000;
    let mut csv = String::from(
        "Day,Campaign ID,Campaign,Currency code,Impr.,Clicks,Cost,Conversions,Conv. value\n",
    );
    for number in 0..ROWS {
        let (day, campaign) = (number % 28 + 1, number / 28);
        csv.push_str(&format!(
            "2024-06-{day:02},{campaign},\"Campaign number {campaign}, brand\",EUR,{},57,42.85,1.50,{}.25\n",
            1_000 + number % 977,
            number % 499
        ));
    }
    let sources = source::from_reader("it", csv.as_bytes(), Limits::USUAL).expect("a report");
    let source = sources.first().expect("one");
    let options = Options {
        account: Some("1".to_owned()),
        zone: Some(chrono_tz::Europe::Berlin),
        observed_at: DateTime::from_timestamp(1_735_689_600, 0),
        ..Options::default()
    };
    let checked = reports::check(source, &options, &mut |_| {});
    let shape = checked.shape.as_ref().expect("recognised");
    let mut group = c.benchmark_group("report");
    group.throughput(Throughput::Elements(ROWS)).sample_size(10);
    group.bench_function("check a CSV", |b| {
        b.iter(|| {
            let report = reports::check(source, &options, &mut |_| {});
            assert!(report.is_good() && report.gathered.rows == ROWS);
        });
    });
    group.bench_function("a CSV to records", |b| {
        let mut payload = Vec::new();
        b.iter(|| {
            reports::rows(source, &options, &checked, &mut |row| {
                payload.clear();
                let row = shape.report_row(&row, [7; 32]).expect("complete");
                codec::report::encode(&row, 2, &mut payload);
                black_box(&payload);
                Ok(())
            })
            .expect("good");
        });
    });
    group.finish();
}

fn totals(c: &mut Criterion) {
    let mut group = c.benchmark_group("totals");
    for campaigns in [100, 10_000] {
        let share = share(StreamId(1), FENCE, 50_000, campaigns);
        group.throughput(Throughput::Elements(share.events.len() as u64));
        group.bench_function(format!("fold, {campaigns} campaigns"), |b| {
            b.iter(|| {
                let mut fold = Fold::default();
                fold.add(&share.events, |c| c, |_| (COMMIT.id, COMMIT.at))
                    .expect("no overflow");
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
        let mut log = Log::new(campaigns);
        let mut assigned = assigned(StreamId(1), FENCE);
        // A memory that is full, as it is but for the first seconds.
        while log.next_offset.get() < RECENT as i64 {
            fill(&mut assigned, &log.next(EVENTS), &mut decoder, &prints);
            assigned.take_share();
        }
        group.bench_function(format!("build, {campaigns} campaigns"), |b| {
            b.iter_batched(
                || log.next(EVENTS),
                |records| {
                    fill(&mut assigned, &records, &mut decoder, &prints);
                    (assigned.take_share(), records)
                },
                BatchSize::LargeInput,
            );
        });
    }
    // A replay: the same events at later offsets.
    let mut records = Log::new(100).next(EVENTS);
    let mut assigned = assigned(StreamId(1), FENCE);
    fill(&mut assigned, &records, &mut decoder, &prints);
    assigned.take_share();
    group.bench_function("build, all duplicates", |b| {
        b.iter(|| {
            for record in &mut records {
                record.offset = record.offset.plus(Count::new(EVENTS as i64));
            }
            fill(&mut assigned, &records, &mut decoder, &prints);
            assigned.take_share()
        });
    });
    group.finish();
}

/// Writing a batch's sums, in cells a second.
fn part(c: &mut Criterion) {
    let mut store = None;
    let mut group = c.benchmark_group("part");
    for campaigns in [100, 10_000] {
        let share = share(StreamId(1), FENCE, 100_000, campaigns);
        let mut fold = Fold::default();
        let added = fold.add(&share.events, |c| c, |_| (COMMIT.id, COMMIT.at));
        added.expect("no overflow");
        group.throughput(Throughput::Elements(fold.len() as u64));
        group.bench_function(
            format!("{campaigns} campaigns, {} cells", fold.len()),
            |b| {
                let store: &mut Store = store.get_or_insert_with(|| Store::create("part"));
                let stream = store.stream;
                b.iter(|| {
                    let written = store.connection.transaction(|connection| {
                        let mut chunks = Chunks::default();
                        let id = part::new_id(connection)?;
                        let part = fold.part((stream, id), &share.campaigns, &mut chunks);
                        chunks.flush(connection)?;
                        part::enter(connection, "sum_parts", part.as_slice())
                    });
                    written.expect("a part");
                });
            },
        );
    }
    group.finish();
}

/// All of it together stays within minutes.
fn config() -> Criterion {
    Criterion::default()
        .warm_up_time(Duration::from_secs(1))
        .measurement_time(Duration::from_secs(3))
}

criterion_group! { name = memory; config = config(); targets = codec, totals, batch, report }
criterion_group! { name = postgres; config = config().sample_size(10); targets = part }
criterion_main!(memory, postgres);
