//! Memory is bounded in bytes, whatever the records are.

use crate::records::{Event, Record};
use crate::support::peak::peak;
use crate::wait::wait_until;
use crate::world::World;

#[test]
fn large_records_that_are_all_bad_are_kept_within_bounds() {
    const LARGE: usize = 600;
    let world = World::new("large");
    world.create_topic(2, &[("max.message.bytes", "2000000")]);
    let numbers: Vec<usize> = (0..LARGE).collect();
    for some in numbers.chunks(50) {
        let pair = |&n: &usize| {
            let event = Event::of(&format!("c{}", n % 20)).record();
            let payload = Some(vec![b'x'; 1_000_000 + n]);
            [
                Record {
                    payload,
                    ..event.clone()
                },
                event,
            ]
        };
        let records: Vec<Record> = some.iter().flat_map(pair).collect();
        world.send_packed(&records, &[("message.max.bytes", "2000000")]);
    }
    let mut process = world.start_process(&["--max-bad-share", "1", "--dlq-topic", "off"]);
    process.wait_for_log("assigned partitions");
    wait_until("all is counted", || world.counted() == 2 * LARGE as i64);
    let peak = peak(process.pid());
    process.terminate().success();
    assert_eq!(
        world.number("SELECT count(*) FROM dead_letters"),
        LARGE as i64
    );
    let bytes = "SELECT sum(length(payload)) FROM dead_letters";
    assert_eq!(
        world.number(bytes),
        (0..LARGE as i64).map(|n| 1_000_000 + n).sum::<i64>()
    );
    assert!(peak < 300, "{peak} MiB");
}
