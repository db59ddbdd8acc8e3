//! Somebody holds a snapshot, as `pg_dump` does: what each commit replaces stays, and readers walk over it.

use diesel::connection::SimpleConnection as _;

use crate::process::Process;
use crate::standing::get;
use crate::support::ports::free_address;
use crate::wait::wait_until;
use crate::world::World;

#[test]
fn commits_are_further_apart_until_it_is_gone() {
    let world = World::new("held");
    let mut sending = world.start_simulate(&["--rate", "200"]);
    sending.wait_for_log("created topic");
    let address = free_address();
    let mut process =
        Process::start(&mut world.command("process", &["--metrics-listen", &address]));
    world.wait_until_counted(200);
    let apart = || {
        let (_, metrics) = get(&address, "/metrics")?;
        let line = metrics
            .lines()
            .find(|line| line.starts_with("adflux_commits_apart_seconds"))?;
        line.split(' ').nth(1)?.parse::<f64>().ok()
    };
    wait_until("it is looked how far apart", || apart() == Some(0.0));
    let mut holder = world.connect();
    holder
        .batch_execute("BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT FROM stream_positions")
        .expect("a snapshot");
    // As many versions as some ten seconds of a busy processor leave.
    let mut busy = world.connect();
    busy.batch_execute(
        "DO $$ BEGIN FOR n IN 1..2000 LOOP UPDATE stream_positions SET owner = owner; END LOOP; END $$",
    )
    .expect("versions");
    process.wait_for_log("are not cleared away");
    let waits = apart().expect("a number");
    assert!((0.02..=0.5).contains(&waits), "{waits}");
    holder.batch_execute("ROLLBACK").expect("an end");
    busy.batch_execute("VACUUM stream_positions")
        .expect("clears away");
    process.wait_for_log("commits are made as records come after");
    wait_until("that is over", || apart() == Some(0.0));
    sending.stop_sending();
    world.wait_until_all_counted();
    process.terminate().success();
    world.assert_every_record_once();
}
