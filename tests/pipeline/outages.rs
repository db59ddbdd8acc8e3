//! Services go away and come back: it says so once, waits, and counts on.

use diesel::connection::SimpleConnection as _;
use rdkafka::mocking::MockCluster;
use rdkafka::producer::DefaultProducerContext;

use crate::process::Process;
use crate::proxy::{Fault, Proxy};
use crate::wait::wait_until;
use crate::world::World;

#[test]
fn postgres_away_is_said_once_and_waited_for() {
    let world = World::new("postgres_away");
    let mut sending = world.start_simulate(&["--rate", "5000"]);
    sending.wait_for_log("created topic");
    let proxy = Proxy::before(&world.database_url);
    let mut command = world.command("process", &[]);
    command.env("DATABASE_URL", proxy.url(&world.database_url));
    let process = Process::start(&mut command);
    for outage in 1..=2 {
        world.wait_until_counted(world.counted() + 3_000);
        proxy.cut();
        let cut_at = world.log_size();
        wait_until("events pile up", || world.log_size() > cut_at + 3_000);
        proxy.mend();
        wait_until("it is back", || {
            process.log().matches("PostgreSQL is back after").count() >= outage
        });
    }
    let ledger = sending.stop_sending();
    world.wait_until_all_counted();
    let log = process.terminate().success().log;
    world.assert_counted(&ledger);
    assert_eq!(log.matches("; retrying until").count(), 2, "{log}");
    assert_eq!(log.matches("PostgreSQL is back after").count(), 2, "{log}");
    assert!(!log.contains("evaluating alerts fails"), "{log}");
}

/// Stopped while the database is away, it gives up in time and loses nothing.
#[test]
fn sigterm_while_postgres_is_away_loses_nothing() {
    let world = World::new("stopped_away");
    let mut ledger = world.simulate(&["--count", "1000", "--rate", "max"]);
    let proxy = Proxy::before(&world.database_url);
    let mut command = world.command("process", &["--batch-records", "1000"]);
    command.env("DATABASE_URL", proxy.url(&world.database_url));
    let mut process = Process::start(&mut command);
    world.wait_until_counted(ledger.records);
    // However fast it is, it has not counted all when the database goes.
    proxy.fault_at_batch(Fault::Hold);
    ledger.add(&world.simulate(&["--count", "20000", "--rate", "max", "--seed", "2"]));
    wait_until("a COMMIT is on its way", || proxy.is_holding());
    proxy.cut();
    process.wait_for_log("; retrying until");
    process.terminate().success().says("it will be read again");
    assert!(world.counted() < ledger.records);
    world.process_until_end(&[]).success();
    world.assert_counted(&ledger);
}

/// A COMMIT without an answer may have happened or not. Asking the position tells.
#[test]
fn a_lost_answer_to_commit_is_neither_counted_twice_nor_lost() {
    let world = World::new("lost_commit");
    #[rustfmt::skip]
    let ledger = world.simulate(&[
        "--count", "30000", "--rate", "max", "--duplicates", "2%", "--late", "5%", "--malformed", "0.5%",
        "--start", "2026-01-31T12:00:00Z",
    ]);
    let proxy = Proxy::before(&world.database_url);
    // Few are remembered, so that a batch which is tried again finds itself in the event store.
    let args = [
        "--until-end",
        "--batch-records",
        "300",
        "--recent-events",
        "4000",
        // The report is of what this process wrote: no stall may give its partitions away.
        "--session-timeout",
        "60s",
    ];
    let mut command = world.command("process", &args);
    command.env("DATABASE_URL", proxy.url(&world.database_url));
    for n in 0..20 {
        proxy.fault_at_batch(Fault::LoseReply);
        if n % 4 == 0 {
            proxy.fault_at_batch(Fault::LoseRequest);
        }
    }
    let ended = Process::start(&mut command).end().success();
    assert_eq!(proxy.lost(), 25);
    world.assert_counted(&ledger);
    // What it says of itself is right, too.
    ended.says(&format!(
        ": {} events, {} duplicates, {} dead letters",
        ledger.totals.events,
        ledger.duplicates,
        ledger.dead.values().sum::<i64>()
    ));
}

/// librdkafka's own broker with the world's topic, for it can be switched off, which would disturb
/// the other tests if it were Kafka.
fn broker(world: &mut World) -> MockCluster<'static, DefaultProducerContext> {
    let cluster = MockCluster::new(1).expect("a broker");
    cluster.create_topic(&world.topic, 4, 1).expect("a topic");
    world.brokers = cluster.bootstrap_servers();
    cluster
}

#[test]
fn kafka_away_is_said_once_and_waited_for() {
    let mut world = World::new("kafka_away");
    let cluster = broker(&mut world);
    let sending = world.start_simulate(&["--rate", "2500"]);
    let mut process = world.start_process(&[]);
    world.wait_until_counted(3_000);
    cluster.broker_down(1).expect("it goes down");
    process.wait_for_log("no Kafka broker can be reached");
    cluster.broker_up(1).expect("it comes up");
    process.wait_for_log("Kafka is back");
    let ledger = sending.stop_sending();
    wait_until("all events are counted", || {
        world.number("SELECT coalesce(sum(events), 0) FROM metrics_total")
            == ledger.totals.events.get()
    });
    let log = process.terminate().success().log;
    // What was sent twice because its acknowledgement was lost is a duplicate.
    world.assert_totals(ledger.totals);
    // On a machine that holds the broker up for seconds, it may be away once more. Each time is said once.
    let said: Vec<bool> = log
        .lines()
        .filter_map(|line| {
            let away = line.contains("no Kafka broker can be reached");
            (away || line.contains("Kafka is back")).then_some(away)
        })
        .collect();
    assert!(said.windows(2).all(|two| two[0] != two[1]), "{log}");
}

/// The broker goes while a partition is being claimed: that is no reason to exit.
#[test]
fn kafka_away_while_a_partition_is_claimed_is_waited_for() {
    let mut world = World::new("claimed_away");
    let cluster = broker(&mut world);
    let ledger = world.simulate(&["--count", "2000", "--rate", "max"]);
    let proxy = Proxy::before(&world.database_url);
    proxy.fault("UPDATE stream_positions SET epoch", Fault::Hold);
    let mut command = world.command("process", &[]);
    command.env("DATABASE_URL", proxy.url(&world.database_url));
    let mut process = Process::start(&mut command);
    wait_until("a claim is on its way", || proxy.is_holding());
    cluster.broker_down(1).expect("it goes down");
    proxy.release();
    process.wait_for_log("no Kafka broker can be reached");
    cluster.broker_up(1).expect("it comes up");
    wait_until("all events are counted", || {
        world.counted() == ledger.records
    });
    process.terminate().success();
    world.assert_totals(ledger.totals);
}

/// A full disk as the server tells of it, in whatever language: by its code, wherever something would be written.
const FULL: &str = "
    CREATE FUNCTION no_row() RETURNS trigger LANGUAGE plpgsql AS
        'BEGIN RAISE EXCEPTION ''kein Platz'' USING ERRCODE = ''disk_full''; END';
    CREATE FUNCTION no_table() RETURNS event_trigger LANGUAGE plpgsql AS
        'BEGIN RAISE EXCEPTION ''kein Platz'' USING ERRCODE = ''disk_full''; END';
    CREATE TRIGGER full_disk BEFORE INSERT ON event_blocks EXECUTE FUNCTION no_row();
    CREATE EVENT TRIGGER full_disk ON ddl_command_start WHEN TAG IN ('CREATE TABLE') EXECUTE FUNCTION no_table();";
const ROOM: &str = "DROP EVENT TRIGGER full_disk; DROP TRIGGER full_disk ON event_blocks";

#[test]
fn a_full_disk_is_called_by_its_name_and_waited_for() {
    let world = World::new("full");
    let mut sending = world.start_simulate(&["--rate", "2000"]);
    sending.wait_for_log("created topic");
    let mut process = world.start_process(&[]);
    world.wait_until_counted(1_000);
    world.connect().batch_execute(FULL).expect("a full disk");
    process.wait_for_log("PostgreSQL's disk is full: kein Platz; retrying until");
    wait_until("its partitions say so", || {
        world.number("SELECT count(*) FROM partition_states WHERE cause = 'disk_full'") > 0
    });
    let mut doctor = world.command("doctor", &["--listen", "127.0.0.1:0"]);
    let found = Process::start(&mut doctor).end().code(1).stdout;
    assert!(found.contains("PostgreSQL's disk is full"), "{found}");
    let ledger = sending.stop_sending();
    world.connect().batch_execute(ROOM).expect("room");
    process.wait_for_log("PostgreSQL is back after");
    world.wait_until_all_counted();
    process.terminate().success();
    world.assert_counted(&ledger);
}
