//! One partition's trouble is its own: the others count on, and everybody is told.

use rdkafka::admin::TopicReplication;

use crate::cluster::Cluster;
use crate::process::Process;
use crate::records::Event;
use crate::standing::{doctor, get};
use crate::support::ports::free_address;
use crate::wait::wait_until;
use crate::world::{World, services_folder};

fn events(n: i64) -> Vec<crate::records::Record> {
    (0..n)
        .map(|i| Event::of(&format!("c{}", i % 20)).record())
        .collect()
}

#[test]
fn a_partition_without_a_leader_waits_and_the_others_count_on() {
    let mut cluster = Cluster::start(&services_folder(), 2);
    let mut world = World::new("leaderless");
    world.brokers = cluster.brokers.clone();
    // The group's coordinator is the first broker; each partition has a broker of its own.
    let compacted = [("cleanup.policy", "compact")];
    world.create_on(
        "__consumer_offsets",
        1,
        &TopicReplication::Variable(&[&[1]]),
        &compacted,
    );
    let placed = TopicReplication::Variable(&[&[1], &[2]]);
    world.create_on(&world.topic, 2, &placed, &[]);
    world.send(&events(100));
    let address = free_address();
    let args = ["--metrics-listen", &address, "--standstill-after", "3s"];
    let mut process = world.start_process(&args);
    process.wait_for_log("assigned partitions");
    world.wait_until_all_counted();
    let before = world.positions();
    let records = world.read_topic().into_iter();
    let of_the_first = records.filter(|record| record.partition == 0);
    let keys: Vec<Vec<u8>> = of_the_first
        .map(|record| record.key.expect("a key"))
        .collect();

    cluster.kill(2);
    process.wait_for_log(&format!("{}[1] waiting for no_leader", world.topic));
    process.wait_for_log(&format!(
        "{}[1] standing still, waiting for no_leader",
        world.topic
    ));
    wait_until("it is not ready, and says why", || {
        get(&address, "/readyz").is_some_and(|(status, body)| {
            status == 503 && body.contains("\"standstill\":\"no_leader\"")
        })
    });
    let more = || -> Vec<_> {
        let keys = keys.iter().map(|key| String::from_utf8_lossy(key));
        keys.map(|key| Event::of(&key).record()).collect()
    };
    world.send(&more());
    let counted = before[&0] + keys.len() as i64;
    wait_until("the other one counts on", || {
        world.positions()[&0] == counted
    });
    wait_until("the doctor knows", || {
        let told = doctor(&world);
        !told.status.success() && told.stdout.contains("no_leader")
    });
    process.terminate().success();

    // Nor does it keep a processor from starting.
    let mut process = world.start_process(&args);
    world.send(&more());
    let counted = counted + keys.len() as i64;
    wait_until("the other one counts on", || {
        world.positions()[&0] == counted
    });
    process.wait_for_log(&format!(
        "{}[1] standing still, waiting for no_leader",
        world.topic
    ));
    assert_eq!(world.positions()[&1], before[&1]);
    process.terminate().success();
}

#[test]
fn partitions_that_are_added_while_it_runs_are_counted() {
    let world = World::new("added");
    world.create_topic(1, &[]);
    world.send(&events(20));
    let mut process = world.start_process(&[]);
    process.wait_for_log("assigned partitions");
    world.wait_until_all_counted();
    world.add_partitions(3);
    world.send(&events(60));
    world.wait_until_all_counted();
    assert_eq!(world.positions().len(), 3);
    process.terminate().success();
}

#[test]
fn a_topic_that_is_deleted_while_it_is_counted_is_missed() {
    let world = World::new("taken_away");
    world.create_topic(2, &[]);
    world.send(&events(20));
    let address = free_address();
    let args = ["--metrics-listen", &address, "--standstill-after", "3s"];
    let mut process = world.start_process(&args);
    process.wait_for_log("assigned partitions");
    world.wait_until_all_counted();
    world.delete_topic();
    process.wait_for_log("waiting for no_topic");
    wait_until("it is not ready, and says why", || {
        get(&address, "/readyz").is_some_and(|(status, body)| {
            status == 503 && body.contains("\"standstill\":\"no_topic\"")
        })
    });
    process.terminate().success();
}

/// A consumer of another kind in the same group keeps us out of it.
#[test]
fn a_member_that_assigns_in_another_way_is_named() {
    let world = World::new("range");
    world.create_topic(2, &[]);
    world.send(&events(20));
    let member = world.join_by_range();
    let address = free_address();
    let args = ["--metrics-listen", &address, "--standstill-after", "3s"];
    let mut process = world.start_process(&args);
    process.wait_for_log("is ours, waiting for group_protocol");
    wait_until("it is not ready, and says why", || {
        get(&address, "/readyz").is_some_and(|(status, body)| {
            status == 503 && body.contains("\"standstill\":\"group_protocol\"")
        })
    });
    wait_until("the doctor knows", || {
        let told = doctor(&world);
        !told.status.success() && told.stdout.contains("group_protocol")
    });
    drop(member);
    world.wait_until_all_counted();
    wait_until("it is ready", || {
        get(&address, "/readyz").is_some_and(|(status, _)| status == 200)
    });
    process.terminate().success();
}

/// A clock that is behind must not take good events for ones of the future.
#[test]
fn events_are_of_the_future_only_if_the_log_says_so_too() {
    let world = World::new("future");
    world.create_topic(1, &[("message.timestamp.after.max.ms", "99999999999")]);
    let ahead = 400 * 86_400_000_000;
    let mut good = Event::of("a");
    good.time += ahead;
    let mut record = good.record();
    record.timestamp = Some(good.time / 1_000);
    let mut bad = Event::of("a");
    bad.time += ahead;
    world.send(&[record, bad.record()]);
    let ended = world.process_until_end(&[]).success();
    ended.says("s ahead of this machine's clock");
    assert_eq!(world.number("SELECT sum(events) FROM stream_positions"), 1);
    assert_eq!(
        world.number("SELECT sum(dead_letters) FROM stream_positions"),
        1
    );
}

/// What Kafka does not allow is said as that, and counting begins once it is allowed.
#[test]
fn a_wrong_password_and_missing_rights_are_named() {
    let (cluster, guarded) = Cluster::guarded(&services_folder());
    let mut world = World::new("guarded");
    world.brokers = cluster.brokers.clone();
    world.create_topic(1, &[]);
    world.send(&events(20));
    world.brokers = guarded;
    let address = free_address();
    let as_reader = |subcommand: &str, password: &str, args: &[&str]| {
        let mut command = world.command(subcommand, args);
        let properties = format!(
            "security.protocol=SASL_PLAINTEXT;sasl.mechanism=PLAIN;sasl.username=reader;sasl.password={password}"
        );
        command.env("ADFLUX_KAFKA_PROPERTIES", properties);
        command
    };
    let mut process = Process::start(&mut as_reader("process", "wrong", &[]));
    process.wait_for_log("Check KAFKA_USERNAME and KAFKA_PASSWORD");
    process.terminate().success();
    let mut sending = Process::start(&mut as_reader("simulate", "wrong", &[]));
    sending.wait_for_log("Check KAFKA_USERNAME and KAFKA_PASSWORD");
    sending.terminate();
    let refused = Process::start(&mut as_reader("simulate", "secret", &[]));
    refused.end().code(1).says("may not create topic");
    let told = Process::start(&mut as_reader(
        "doctor",
        "wrong",
        &["--listen", "127.0.0.1:0"],
    ));
    let told = told.end().code(1).stdout;
    assert!(
        told.contains("Check KAFKA_USERNAME and KAFKA_PASSWORD"),
        "{told}"
    );

    let args = [
        "--metrics-listen",
        &address,
        "--standstill-after",
        "3s",
        "--dlq-topic",
        "off",
    ];
    let mut process = Process::start(&mut as_reader("process", "secret", &args));
    process.wait_for_log(&format!("may not read topic '{}'", world.topic));
    cluster.allow("reader", "Read", "topic", &world.topic);
    process.wait_for_log("waiting for group_authorization");
    wait_until("it is not ready, and says why", || {
        get(&address, "/readyz").is_some_and(|(status, body)| {
            status == 503 && body.contains("\"standstill\":\"group_authorization\"")
        })
    });
    cluster.allow("reader", "Read", "group", &world.group);
    wait_until("it counts", || world.counted() == 20);
    wait_until("it is ready", || {
        get(&address, "/readyz").is_some_and(|(status, _)| status == 200)
    });
    process.terminate().success();
}
