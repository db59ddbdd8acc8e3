//! A constraint fails, and no record explains it: nothing is skipped and nothing is lost. It is said
//! loudly, everybody who asks is told, and counting goes on once it is mended.

use diesel::connection::SimpleConnection as _;

use crate::process::Process;
use crate::standing::{doctor, get};
use crate::support::ports::free_address;
use crate::wait::wait_until;
use crate::world::World;

const BREAK: &str =
    "ALTER TABLE event_blocks ADD CONSTRAINT no_block_is_good CHECK (event_count < 0) NOT VALID";
const MEND: &str = "ALTER TABLE event_blocks DROP CONSTRAINT no_block_is_good";

fn execute(world: &World, sql: &str) {
    world.connect().batch_execute(sql).expect(sql);
}

#[test]
fn a_failed_check_is_told_to_everybody_and_counting_goes_on_when_it_is_mended() {
    let world = World::new("standstill");
    let mut sending = world.start_simulate(&["--rate", "500"]);
    sending.wait_for_log("created topic");
    let address = free_address();
    let mut command = world.command("process", &["--metrics-listen", &address]);
    command.env("ADFLUX_HALT_AFTER", "1h");
    let mut process = Process::start(&mut command);
    world.wait_until_counted(500);
    let (status, body) = get(&address, "/readyz").expect("it answers");
    assert_eq!(status, 200, "{body}");
    let api = free_address();
    let server = Process::start(&mut world.command("serve", &["--listen", &api]));
    let pipeline_says = |text: &str| {
        wait_until(&format!("/pipeline says {text}"), || {
            get(&api, "/pipeline").is_some_and(|(_, body)| body.contains(text))
        });
    };
    pipeline_says("\"standstills\":[]");
    doctor(&world).success();

    execute(&world, BREAK);
    process.wait_for_log("no_block_is_good");
    wait_until("it is not ready, and says why", || {
        get(&address, "/readyz").is_some_and(|(status, body)| {
            status == 503 && body.contains("\"standstill\":\"no_block_is_good\"")
        })
    });
    let (status, _) = get(&address, "/livez").expect("it answers");
    assert_eq!(status, 200, "it lives");
    let (_, metrics) = get(&address, "/metrics").expect("it answers");
    for line in [
        "adflux_standstill{cause=\"no_block_is_good\"}",
        "state=\"stopped\"} 1",
        "adflux_commit_failures_total{remedy=\"stop\"}",
    ] {
        assert!(metrics.contains(line), "{metrics}");
    }
    wait_until("the doctor sees it", || {
        let told = doctor(&world);
        !told.status.success() && told.stdout.contains("no_block_is_good")
    });

    pipeline_says(&format!(
        "\"standstills\":[{{\"topic\":\"{}\",\"partition\":",
        world.topic
    ));
    pipeline_says("\"state\":\"stopped\"");
    pipeline_says("\"cause\":\"no_block_is_good\"");

    execute(&world, MEND);
    process.wait_for_log("counting goes on after");
    let ledger = sending.stop_sending();
    world.wait_until_all_counted();
    wait_until("it is ready", || {
        get(&address, "/readyz").is_some_and(|(status, _)| status == 200)
    });
    wait_until("the doctor sees it", || doctor(&world).status.success());
    pipeline_says("\"standstills\":[]");
    server.terminate().success();
    let log = process.terminate().success().log;
    assert!(!log.contains("; retrying until"), "no outage: {log}");
    world.assert_counted(&ledger);
}

#[test]
fn a_standstill_that_stays_ends_the_process_and_the_doctor_still_knows() {
    let world = World::new("halted");
    let ledger = world.simulate(&["--count", "100", "--rate", "max"]);
    Process::start(&mut world.command("migrate", &[]))
        .end()
        .success();
    execute(&world, BREAK);
    let mut command = world.command("process", &[]);
    command.env("ADFLUX_HALT_AFTER", "0s");
    Process::start(&mut command)
        .end()
        .code(1)
        .says("no_block_is_good");
    let told = doctor(&world).code(1).stdout;
    assert!(
        told.contains("no_block_is_good") && told.contains(&world.topic),
        "{told}"
    );
    assert_eq!(world.counted(), 0);

    execute(&world, MEND);
    world.process_until_end(&[]).success();
    doctor(&world).success();
    world.assert_counted(&ledger);
}
