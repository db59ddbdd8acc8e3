//! Partitions move between processors: what one has not written another writes, and never both.

use adflux::offset::Offset;
use adflux::store::write::positions::{self, Partition};
use nix::sys::signal::Signal;

use crate::process::Process;
use crate::proxy::{Fault, Proxy};
use crate::wait::wait_until;
use crate::world::World;

#[test]
fn processors_come_and_go_while_events_flow() {
    let world = World::new("rebalance");
    #[rustfmt::skip]
    let mut sending = world.start_simulate(&[
        "--rate", "3000", "--partitions", "6", "--duplicates", "1%", "--late", "1%",
    ]);
    sending.wait_for_log("created topic");
    let first = world.start_process(&[]);
    world.wait_until_counted(2_000);
    let second = world.start_process(&[]);
    world.wait_until_owner(&second, |share| share == 3);
    let third = world.start_process(&[]);
    world.wait_until_owner(&third, |share| share == 2);
    second.terminate().success();
    world.wait_until_owner(&third, |share| share == 3);
    let fourth = world.start_process(&[]);
    world.wait_until_owner(&fourth, |share| share == 2);
    third.terminate().success();
    first.terminate().success();
    world.wait_until_owner(&fourth, |share| share == 6);
    let ledger = sending.stop_sending();
    world.wait_until_all_counted();
    fourth.terminate().success();
    world.assert_counted(&ledger);
}

#[test]
fn a_frozen_processor_writes_nothing_more_once_another_has_taken_over() {
    let world = World::new("frozen");
    let mut sending = world.start_simulate(&["--rate", "3000"]);
    sending.wait_for_log("created topic");
    let mut frozen = world.start_process(&[]);
    world.wait_until_counted(3_000);
    frozen.signal(Signal::SIGSTOP);
    let other = world.start_process(&[]);
    world.wait_until_owner(&other, |share| share == 4);
    let epochs = world.epochs();
    world.wait_until_counted(world.counted() + 3_000);
    frozen.signal(Signal::SIGCONT);
    // It learns that it was given up, and joins again.
    frozen.wait_for_log("revoked partitions");
    world.wait_until_owner(&frozen, |share| share == 2);
    assert!(world.epochs().iter().all(|(p, epoch)| *epoch >= epochs[p]));
    let ledger = sending.stop_sending();
    world.wait_until_all_counted();
    frozen.terminate().success();
    other.terminate().success();
    world.assert_counted(&ledger);
}

/// The worst moment: everything is written and locked, only the COMMIT is missing.
#[test]
fn frozen_in_mid_transaction_it_neither_blocks_the_next_owner_nor_writes() {
    let world = World::new("midway");
    let mut ledger = world.simulate(&["--count", "2000", "--rate", "max"]);
    let proxy = Proxy::before(&world.database_url);
    let mut command = world.command("process", &["--batch-records", "2000"]);
    command.env("DATABASE_URL", proxy.url(&world.database_url));
    let mut frozen = Process::start(&mut command);
    world.wait_until_counted(ledger.records);
    proxy.fault_at_batch(Fault::Hold);
    ledger.add(&world.simulate(&["--count", "20000", "--rate", "max", "--seed", "2"]));
    wait_until("a COMMIT is on its way", || proxy.is_holding());
    frozen.signal(Signal::SIGSTOP);
    let counted = world.counted();
    assert!(counted < ledger.records);
    let other = world.start_process(&[]);
    world.wait_until_all_counted();
    frozen.signal(Signal::SIGCONT);
    proxy.release();
    // It tries the batch again, to find that its epoch is over.
    frozen.wait_for_log("PostgreSQL is back");
    frozen.terminate().success();
    other.terminate().success();
    world.assert_counted(&ledger);
}

/// A processor whose database is slow pauses its consumer. What is taken from it then and given back
/// later must not have stayed paused.
#[test]
fn partitions_taken_while_paused_are_read_when_they_come_back() {
    let world = World::new("paused");
    let mut ledger = world.simulate(&["--count", "500", "--rate", "max"]);
    let proxy = Proxy::before(&world.database_url);
    let mut command = world.command("process", &["--batch-records", "500"]);
    command
        .env("DATABASE_URL", proxy.url(&world.database_url))
        .env("RUST_LOG", "info,adflux=debug");
    let mut slow = Process::start(&mut command);
    world.wait_until_counted(ledger.records);
    proxy.fault_at_batch(Fault::Hold);
    ledger.add(&world.simulate(&["--count", "12000", "--rate", "max", "--seed", "2"]));
    slow.wait_for_log("reading is paused");
    let other = world.start_process(&[]);
    slow.wait_for_log("revoked partitions");
    proxy.release();
    world.wait_until_all_counted();
    other.terminate().success();
    world.wait_until_owner(&slow, |share| share == 4);
    ledger.add(&world.simulate(&["--count", "4000", "--rate", "max", "--seed", "3"]));
    world.wait_until_all_counted();
    slow.terminate().success();
    world.assert_counted(&ledger);
}

/// A claim that was on its way while the group changed its mind fences the rightful owner off.
/// Nobody else reads the partition then, so the owner must claim it once more.
#[test]
fn fenced_off_by_a_processor_that_has_gone_it_claims_again() {
    let world = World::new("ghost");
    let mut ledger = world.simulate(&["--count", "2000", "--rate", "max"]);
    let mut process = world.start_process(&[]);
    wait_until("everything is counted", || {
        world.counted() == ledger.records
    });
    let cluster_id = world.cluster_id();
    for partition in 0..4 {
        let partition = Partition {
            cluster_id: &cluster_id,
            topic: &world.topic,
            partition,
        };
        positions::claim(
            &mut world.connect(),
            partition,
            Offset::default(),
            "ghost:0",
        )
        .expect("a claim");
    }
    ledger.add(&world.simulate(&["--count", "2000", "--rate", "max", "--seed", "2"]));
    process.wait_for_log("was claimed by another process");
    world.wait_until_all_counted();
    process.terminate().success();
    world.assert_counted(&ledger);
}

/// Both are given every partition, each by its own group. They take turns: the claim of one is
/// the end of the other's, and none waits for ever.
#[test]
fn two_groups_on_one_database_still_count_once() {
    let world = World::new("groups");
    let mut sending = world.start_simulate(&["--rate", "5000"]);
    sending.wait_for_log("created topic");
    let mut first = world.start_process(&[]);
    world.wait_until_counted(2_000);
    let mut second = world.command("process", &[]);
    second.env("ADFLUX_GROUP", format!("{}-2", world.group));
    let mut second = Process::start(&mut second);
    for process in [&mut first, &mut second] {
        process.wait_for_log("was claimed by another process");
    }
    let ledger = sending.stop_sending();
    world.wait_until_all_counted();
    world.assert_counted(&ledger);
    first.terminate().success();
    second.terminate().success();
    world.assert_counted(&ledger);
    world.delete_group(&format!("{}-2", world.group));
}

#[test]
fn partitions_added_while_events_flow_move_campaigns() {
    let world = World::new("partitions");
    world.create_topic(2, &[]);
    // Five minutes by default.
    let soon = ["--kafka-property", "topic.metadata.refresh.interval.ms=500"];
    #[rustfmt::skip]
    let sending = world.start_simulate(&[
        "--rate", "4000", "--duplicates", "2%", "--late", "2%", soon[0], soon[1],
    ]);
    let first = world.start_process(&soon);
    let second = world.start_process(&[&soon[..], &["--recent-events", "2000"]].concat());
    world.wait_until_counted(5_000);
    world.add_partitions(6);
    wait_until("new partitions have records", || {
        world.log_ends().values().filter(|end| **end > 0).count() == 6
    });
    wait_until("campaigns move", || {
        world.number("SELECT sum(campaigns_moved)::bigint FROM stream_positions") > 0
    });
    let ledger = sending.stop_sending();
    world.wait_until_all_counted();
    first.terminate().success();
    second.terminate().success();
    world.assert_counted(&ledger);
    assert!(world.number("SELECT count(DISTINCT stream_id) FROM campaigns") > 2);
}
