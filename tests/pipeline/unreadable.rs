//! A batch whose bytes cannot be read stops its partition, loudly, and no other. A person may give it up.

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use uuid::Uuid;

use crate::process::Process;
use crate::records::{Event, Record};
use crate::segment::Segment;
use crate::standing::{doctor, get};
use crate::support::ports::free_address;
use crate::wait::wait_until;
use crate::world::{World, services_folder};

#[test]
fn a_corrupt_batch_stops_its_partition_alone_until_it_is_given_up() {
    let world = World::new("corrupt");
    world.create_topic(2, &[]);
    let events = |n: i64| -> Vec<_> {
        (0..n)
            .map(|i| Event::of(&format!("c{}", i % 20)).record())
            .collect()
    };
    world.send(&events(100));
    world.process_until_end(&[]).success();
    let before = world.positions();
    // One batch a partition.
    world.send(&events(100));
    let after = world.log_ends();
    world.send(&events(100));
    let ends = world.log_ends();
    Segment::of(&services_folder(), &world.topic, 0).flip(before[&0]);

    let ended = world.process_until_end(&[]).code(1);
    ended.says("all else is counted, but what comes at offset");

    let address = free_address();
    let mut process = world.start_process(&["--metrics-listen", &address]);
    let stopped = format!(
        "{}[0] stopped because of unreadable: what comes at offset {}",
        world.topic, before[&0]
    );
    process.wait_for_log(&stopped);
    wait_until("the other partition counts on", || {
        world.positions()[&1] == ends[&1]
    });
    assert_eq!(world.positions()[&0], before[&0], "nothing is skipped");
    wait_until("it is not ready", || {
        get(&address, "/readyz").is_some_and(|(status, body)| {
            status == 503 && body.contains("\"standstill\":\"unreadable\"")
        })
    });
    let (_, metrics) = get(&address, "/metrics").expect("it answers");
    for line in [
        "adflux_standstill{cause=\"unreadable\"} 1",
        "adflux_partition_state{partition=\"0\",state=\"stopped\"} 1",
    ] {
        assert!(metrics.contains(line), "{metrics}");
    }
    let api = free_address();
    let server = Process::start(&mut world.command("serve", &["--listen", &api]));
    for text in ["\"state\":\"stopped\"", "\"cause\":\"unreadable\""] {
        wait_until(&format!("/pipeline says {text}"), || {
            get(&api, "/pipeline").is_some_and(|(_, body)| body.contains(text))
        });
    }
    server.terminate().success();
    let told = doctor(&world).code(1).stdout;
    assert!(
        told.contains("unreadable") && told.contains("adflux skip"),
        "{told}"
    );

    let skip = |partition: i32, from: i64| {
        let (partition, from) = (partition.to_string(), from.to_string());
        let args = [
            "--partition",
            &partition,
            "--from",
            &from,
            "--reason",
            "a disk failed",
        ];
        Process::start(&mut world.command("skip", &args)).end()
    };
    skip(0, before[&0] + 1).code(1).says("stands at offset");
    skip(1, ends[&1])
        .code(1)
        .says("can be read: nothing was skipped");
    let told = skip(0, before[&0]).success().stdout;
    assert!(
        told.contains(&format!("it goes on from {}", after[&0])),
        "{told}"
    );
    world.wait_until_all_counted();
    wait_until("it is ready", || {
        get(&address, "/readyz").is_some_and(|(status, _)| status == 200)
    });
    assert_eq!(
        world.number("SELECT sum(next_offset - first_offset) FROM skipped_offsets WHERE reason = 'a disk failed'"),
        after[&0] - before[&0]
    );
    let records = 300 - (after[&0] - before[&0]);
    assert_eq!(
        world.number("SELECT sum(events) FROM stream_positions"),
        records
    );
    process.terminate().success();
    Process::start(&mut world.command("verify", &[]))
        .end()
        .success();
    let told = doctor(&world).success().stdout;
    assert!(told.contains("offsets were given up"), "{told}");
}

/// A few kilobytes that unpack to more than a consumer takes.
#[test]
fn a_batch_that_unpacks_to_too_much_stops_its_partition_alone() {
    let world = World::new("bomb");
    world.create_topic(2, &[]);
    let keys: Vec<_> = (0..20)
        .map(|i| Event::of(&format!("c{i}")).record())
        .collect();
    world.send(&keys);
    let mut bomb = Event::of("c0").record();
    bomb.payload = Some(vec![0; 8 << 20]);
    let packed = [
        ("compression.type", "zstd"),
        ("message.max.bytes", "16777216"),
    ];
    world.send_packed(&[bomb], &packed);
    world.send(&keys);
    let args = [
        "--kafka-property",
        "receive.message.max.bytes=2000000",
        "--kafka-property",
        "fetch.max.bytes=1000000",
        "--kafka-property",
        "message.max.bytes=900000",
    ];
    let mut process = world.start_process(&args);
    process.wait_for_log(" stopped because of unreadable: what comes at offset ");
    // The bomb, and what comes after it in its partition.
    wait_until("all else is counted", || {
        let (positions, ends) = (world.positions(), world.log_ends());
        ends.iter()
            .filter(|(p, end)| positions.get(p) == Some(end))
            .count()
            == 1
    });
    process.terminate().success();
}

/// Whatever bytes a batch unpacks to, or fails to: what can be read of it is counted or a dead letter, and for the rest
/// its partition is told to stand still: at once where librdkafka says why, after a minute where it does not. A person gives
/// it up, and all else is counted.
#[test]
fn a_packed_batch_of_any_bytes_is_counted_or_told() {
    const PARTITIONS: i32 = 8;
    const CODECS: [&str; 4] = ["gzip", "snappy", "lz4", "zstd"];
    // 2026-01-01: the same bytes are forged in the same places each time.
    const TIME: i64 = 1_767_225_600_000_000;
    let mut chance = StdRng::seed_from_u64(7);
    let world = World::new("forged");
    world.create_topic(PARTITIONS, &[]);
    let mut starts = Vec::new();
    for codec in CODECS {
        starts.push(world.log_ends());
        let events: Vec<_> = (0..1_000)
            .map(|i| Event {
                id: Uuid::from_u128(chance.random()),
                time: TIME,
                ..Event::of(&format!("c{}", i % 80))
            })
            .map(|event| Record {
                timestamp: Some(TIME / 1_000),
                ..event.record()
            })
            .collect();
        // As long as it takes for one batch of each partition.
        let packed = [("compression.type", codec), ("linger.ms", "500")];
        world.send_packed(&events, &packed);
    }
    for partition in 0..PARTITIONS {
        let codec = partition as usize % CODECS.len();
        let offset = starts[codec].get(&partition).copied().unwrap_or_default();
        let which = chance.random::<u32>() as usize;
        println!("partition {partition}, {}: bit {which}", CODECS[codec]);
        Segment::of(&services_folder(), &world.topic, partition).forge(offset, which);
    }
    let ends = world.log_ends();
    let process = world.start_process(&[]);
    world.wait_until_counted(1);
    let counted = |partition: i32| world.positions().get(&partition) == ends.get(&partition);
    // A record may say that it is at an offset which the log does not have yet; that ends it, loudly.
    let is_halted = || process.log().contains("is beyond the end of the log");
    wait_until("each partition is counted, or told to stand still", || {
        let still = "SELECT count(*) FROM partition_states WHERE is_still AND partition";
        let is_told = |p: &i32| world.number(&format!("{still} = {p}")) == 1;
        is_halted() || (0..PARTITIONS).all(|p| counted(p) || is_told(&p))
    });
    for partition in (0..PARTITIONS).filter(|p| !counted(*p)) {
        let (from, to) = (world.positions()[&partition], ends[&partition]);
        if is_halted() || from > to {
            break;
        }
        let args = [
            format!("--partition={partition}"),
            format!("--from={from}"),
            format!("--to={to}"),
            "--reason=forged".to_owned(),
        ];
        let args: Vec<&str> = args.iter().map(String::as_str).collect();
        let skipped = Process::start(&mut world.command("skip", &args)).end();
        skipped.success();
        wait_until("it goes on", || is_halted() || counted(partition));
    }
    let beyond = |partition: i32| world.positions().get(&partition) > ends.get(&partition);
    if (0..PARTITIONS).any(beyond) {
        process.end().code(1).says("is beyond the end of the log");
    } else {
        process.terminate().success();
    }
    Process::start(&mut world.command("verify", &[]))
        .end()
        .success();
}

/// A batch of one record, whose offset is a byte of the record: 64 means 32 after that of the batch.
#[test]
fn a_record_that_says_it_is_beyond_the_log_halts_it() {
    const OFFSET_BIT: usize = (65 - 61) * 8 + 6;
    let world = World::new("astray");
    world.create_topic(1, &[]);
    world.send_packed(&[Event::of("c0").record()], &[("compression.type", "none")]);
    Segment::of(&services_folder(), &world.topic, 0).forge(0, OFFSET_BIT);
    let process = world.start_process(&[]);
    process.end().code(1).says("is beyond the end of the log");
    Process::start(&mut world.command("verify", &[]))
        .end()
        .success();
}
