//! `adflux retain` beside a processor that counts, and then the whole topic once more.

use crate::process::{Ended, Process};
use crate::wait::wait_until;
use crate::world::World;

fn run(world: &World, command: &str, args: &[&str]) -> Ended {
    Process::start(&mut world.command(command, args)).end()
}

#[test]
fn what_was_dropped_and_comes_again_moves_no_total() {
    let world = World::new("retain");
    let faulty = ["--count", "5000", "--rate", "max", "--duplicates", "2%"];
    let mut ledger = world.simulate(&[&faulty[..], &["--seed", "7"]].concat());
    let process = world.start_process(&[]);
    wait_until("the schema is there", || world.counted() > 0);
    world.wait_until_all_counted();
    let dry = run(
        &world,
        "retain",
        &["--events", "0s", "--dry-run", "--format", "json"],
    );
    let plan: serde_json::Value = serde_json::from_str(&dry.success().stdout).expect("a document");
    let planned = plan["events"]["dropped"][0]["events"].as_i64();
    assert_eq!(planned, Some(ledger.totals.events.get()));
    let told = run(&world, "retain", &["--events", "0s", "--period", "0s"]).success();
    assert!(
        told.stdout.contains("dropped  period 1: "),
        "{}",
        told.stdout
    );
    assert_eq!(world.number("SELECT count(*) FROM ad_events"), 0);
    assert_eq!(world.totals_counted(), ledger.totals);

    // The processor remembers what it counted, and it goes on with what is new.
    let records = world.read_topic();
    world.send(&records);
    let more = world.simulate(
        &[
            &faulty[..],
            &["--seed", "8", "--start", "2026-10-01T00:00:00Z"],
        ]
        .concat(),
    );
    world.wait_until_all_counted();
    process.terminate().success();
    let too_old = |world: &World| world.dead_letters().get("too_old").copied().unwrap_or(0);
    let duplicates = |world: &World| world.number("SELECT sum(duplicates) FROM stream_positions");
    // What of the new ones happened before the last of the old ones is new to the memory, so it counts.
    ledger.add(&more);
    assert_eq!(world.totals_counted(), ledger.totals);
    let refused = too_old(&world);
    assert_eq!(
        refused + duplicates(&world),
        ledger.duplicates + records.len() as i64
    );

    // Another one remembers nothing of it: whether these were counted nobody can tell.
    world.send(&records);
    world.process_until_end(&[]).success();
    assert_eq!(world.totals_counted(), ledger.totals);
    assert_eq!(too_old(&world), refused + records.len() as i64);
    run(&world, "dlq", &["redrive"]).success();
    let verified = run(&world, "verify", &[]).success().stdout;
    assert!(verified.contains("were dropped"), "{verified}");
    run(&world, "rebuild", &[]).success();
    assert_eq!(world.totals_counted(), ledger.totals);

    let all = ["events"];
    run(&world, "retain", &["--events", "0s", "--period", "0s"]).success();
    run(&world, "export", &all)
        .code(1)
        .says("no event of this range is kept");
    run(&world, "retain", &["--period", "1d"]).code(2);
}
