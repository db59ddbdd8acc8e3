//! A primary that dies and a standby that takes over, behind a URL that names both.

use crate::process::Process;
use crate::records::Event;
use crate::roles::ask;
use crate::support::ports::free_address;
use crate::support::server::{Server, Standby};
use crate::wait::{wait_for, wait_until};
use crate::world::World;

/// Everything that was committed is there, as the standby was waited for; and whoever was connected finds it.
#[test]
fn a_synchronous_standby_takes_over_without_a_hand() {
    let primary = Server::start();
    let standby = Standby::of(&primary);
    primary.wait_for_standby();
    let world = World::on("failover", standby.pair(&primary));
    world.create_topic(3, &[]);
    let process = world.start_process(&[]);
    let address = free_address();
    let server = Process::start(&mut world.command("serve", &["--listen", &address]));
    let sending =
        world.start_simulate(&["--rate", "1500", "--malformed", "1%", "--duplicates", "2%"]);
    world.wait_until_counted(1500);
    let answers = || ask(&address, "GET", "/insights", "");
    let ready = || answers().filter(|answer| answer.starts_with("HTTP/1.1 200"));
    wait_for("an answer", ready);

    primary.kill();
    standby.promote();
    let then = world.counted();
    world.wait_until_counted(then + 1500);
    let ledger = sending.stop_sending();
    world.wait_until_all_counted();
    world.assert_counted(&ledger);
    // Of all that was counted since, by connections that led to the primary.
    let events = format!("\"events\":{}", ledger.totals.events.get());
    wait_until("the server answers from the one that took over", || {
        answers()
            .is_some_and(|answer| answer.starts_with("HTTP/1.1 200") && answer.contains(&events))
    });
    server.terminate().success();
    let log = process.terminate().success().log;
    assert!(!log.contains("lost commits"), "{log}");
}

/// What an asynchronous one had not received is counted again from the log.
#[test]
fn what_an_asynchronous_standby_lacked_is_read_again() {
    let primary = Server::start();
    let standby = Standby::of(&primary);
    let world = World::on("asynchronous", standby.pair(&primary));
    world.create_topic(1, &[]);
    let send = |range: std::ops::Range<i32>| {
        world.send(
            &range
                .map(|i| Event::of(&format!("c{i}")).record())
                .collect::<Vec<_>>(),
        );
    };
    send(0..50);
    let mut process = world.start_process(&[]);
    world.wait_until_counted(50);
    standby.catch_up(&primary);
    standby.lag();
    send(50..100);
    world.wait_until_all_counted();

    primary.kill();
    standby.promote();
    process.wait_for_log("PostgreSQL has lost commits");
    world.wait_until_all_counted();
    assert_eq!(world.number("SELECT sum(events) FROM metrics_total"), 100);
    world.assert_every_record_once();
    Process::start(&mut world.command("verify", &[]))
        .end()
        .success();
    process.terminate().success();
}
