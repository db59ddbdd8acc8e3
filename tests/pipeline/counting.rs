//! What is sent is counted: each event once, whatever happens to who counts it.

use chrono::{DateTime, TimeDelta, Utc};
use rand::{RngExt, SeedableRng};

use crate::process::Process;
use crate::wait::wait_until;
use crate::world::World;

#[test]
fn totals_equal_the_simulators_ledger_and_kafkas_offsets_follow() {
    let world = World::new("totals");
    let ledger = world.simulate(&["--count", "100000", "--rate", "max", "--seed", "7"]);
    world.process_until_end(&[]).success();
    world.assert_counted(&ledger);
    assert_eq!(world.kafka_offsets(), world.log_ends());
}

#[test]
fn killed_at_any_moment_it_counts_on_without_loss_or_repetition() {
    let world = World::new("killed");
    #[rustfmt::skip]
    let mut sending = world.start_simulate(&[
        "--rate", "8000", "--seed", "11", "--duplicates", "2%", "--late", "2%", "--malformed", "0.5%",
    ]);
    sending.wait_for_log("created topic");
    // Small batches, so that there are many moments between two commits and within one.
    let args = ["--batch-records", "400", "--recent-events", "20000"];
    let mut chance = rand_chacha::ChaCha8Rng::seed_from_u64(11);
    for _ in 0..3 {
        let process = world.start_process(&args);
        world.wait_until_counted(world.counted() + chance.random_range(1..6_000));
        process.kill();
        world.assert_every_record_once();
    }
    let ledger = sending.stop_sending();
    world.process_until_end(&args).success();
    world.assert_counted(&ledger);
}

/// Killed between PostgreSQL's commit and Kafka's, it must still tell Kafka how far it has come.
#[test]
fn kafkas_offsets_catch_up_after_a_kill_even_if_nothing_new_comes() {
    let world = World::new("lagging");
    let ledger = world.simulate(&["--count", "2000", "--rate", "max"]);
    let process = world.start_process(&[]);
    wait_until("everything is counted", || {
        world.counted() == ledger.records
    });
    process.kill();
    // As if it had been killed before it told Kafka anything.
    let starts = world.log_ends().keys().map(|p| (*p, 0)).collect();
    world.reset_kafka_offsets(&starts);
    let process = world.start_process(&[]);
    wait_until("Kafka knows", || world.kafka_offsets() == world.log_ends());
    process.terminate().success();
    world.assert_counted(&ledger);
}

#[test]
fn sigterm_finishes_leaves_the_group_and_exits_with_0() {
    let world = World::new("sigterm");
    let mut sending = world.start_simulate(&["--rate", "4000"]);
    sending.wait_for_log("created topic");
    // If partitions had to wait for this timeout, the test would fail.
    let args = ["--session-timeout", "300s"];
    let first = world.start_process(&args);
    world.wait_until_counted(1_000);
    let second = world.start_process(&args);
    world.wait_until_owner(&second, |share| share > 0);
    let ended = first.terminate().success().says("stopped: ");
    assert!(!ended.log.contains("WARN"), "{}", ended.log);
    world.wait_until_owner(&second, |share| share == 4);
    let ledger = sending.stop_sending();
    world.wait_until_all_counted();
    second.terminate().success();
    world.assert_counted(&ledger);
    assert_eq!(world.kafka_offsets(), world.log_ends());
}

#[test]
fn kafkas_offsets_do_not_matter() {
    let world = World::new("offsets");
    let args = ["--count", "5000", "--rate", "max"];
    let mut ledger = world.simulate(&args);
    world.process_until_end(&[]).success();
    let first_ends = world.log_ends();

    ledger.add(&world.simulate(&["--count", "5000", "--rate", "max", "--seed", "2"]));
    let starts = first_ends.keys().map(|p| (*p, 0)).collect();
    world.reset_kafka_offsets(&starts);
    world.process_until_end(&[]).success();
    world.assert_counted(&ledger);

    ledger.add(&world.simulate(&["--count", "5000", "--rate", "max", "--seed", "3"]));
    world.reset_kafka_offsets(&world.log_ends());
    world.process_until_end(&[]).success();
    world.assert_counted(&ledger);
    assert_eq!(world.kafka_offsets(), world.log_ends());
}

#[test]
fn no_log_line_more_than_one_a_second() {
    let world = World::new("quiet");
    let mut sending = world.start_simulate(&["--rate", "3000"]);
    sending.wait_for_log("created topic");
    // No stall may give its partitions away, which is worth a line.
    let mut process = world.start_process(&["--session-timeout", "300s"]);
    let summaries = |process: &Process| process.log().matches(" CTR ").count();
    wait_until("it has said some", || summaries(&process) >= 3);
    let ledger = sending.stop_sending();
    world.wait_until_all_counted();
    process.wait_for_log("lag 0");
    let log = process.terminate().success().log;
    world.assert_counted(&ledger);
    let lines: Vec<&str> = log.lines().filter(|l| l.contains(" CTR ")).collect();
    let at = |line: &&str| -> DateTime<Utc> {
        let time = line.trim_start_matches('[').split(' ').next();
        time.expect("a word").parse().expect("a time")
    };
    for pair in lines.windows(2) {
        let apart = at(&pair[1]) - at(&pair[0]);
        // To the millisecond that is printed.
        assert!(apart >= TimeDelta::milliseconds(999), "{log}");
    }
    assert!(
        lines
            .iter()
            .all(|l| l.contains(" ROAS ") && l.contains("duplicates"))
    );
    // The schema is made, start, assignment, end, and that a busy machine falls behind: nothing else is worth a line.
    let expected = [" CTR ", "ran migration", "catching_up", "caught up"];
    let others = log
        .lines()
        .filter(|line| !expected.iter().any(|words| line.contains(words)));
    assert!(others.count() <= 4, "{log}");
}
