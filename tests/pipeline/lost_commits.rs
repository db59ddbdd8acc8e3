//! A database that has lost commits, as a standby does that lagged and takes over: noticed without a new record, and
//! read again from the log.

use diesel::connection::SimpleConnection as _;

use crate::records::Event;
use crate::wait::wait_until;
use crate::world::World;

#[test]
fn positions_that_went_back_are_noticed_and_read_again() {
    let world = World::new("went_back");
    world.create_topic(1, &[]);
    let events = || (0..50).map(|i| Event::of(&format!("c{i}")).record());
    world.send(&events().collect::<Vec<_>>());
    world.process_until_end(&[]).success();
    let copy = format!("{}_copy", world.database());
    let database = world.database().to_owned();
    let mut server = world.server();
    let copied = format!("CREATE DATABASE {copy} TEMPLATE {database}");
    wait_until("the sessions of the process that ended are gone", || {
        server.batch_execute(&copied).is_ok()
    });

    world.send(&events().collect::<Vec<_>>());
    let mut process = world.start_process(&[]);
    world.wait_until_all_counted();
    assert_eq!(world.counted(), 100);

    // The copy takes the place of the one that has counted more.
    let closed = format!("ALTER DATABASE {database} ALLOW_CONNECTIONS false");
    server.batch_execute(&closed).expect("nobody new is let in");
    // One who was let in just before that may not have come far enough to be ended.
    let dropped = format!("DROP DATABASE {database} WITH (FORCE)");
    wait_until("nobody is connected any more", || {
        server.batch_execute(&dropped).is_ok()
    });
    let renamed = format!("ALTER DATABASE {copy} RENAME TO {database}");
    server
        .batch_execute(&renamed)
        .expect("nobody uses the copy");
    process.wait_for_log("PostgreSQL has lost commits");
    wait_until("it is read again", || world.counted() == 100);
    assert_eq!(world.number("SELECT sum(events) FROM metrics_total"), 100);
    assert!(world.number("SELECT generation FROM store_identity") > 1);
    process.terminate().success();
}
