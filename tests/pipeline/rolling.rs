//! A cluster of three brokers as companies run it: two replicas must be in sync, and each broker is restarted in its turn.

use rdkafka::admin::TopicReplication;

use crate::cluster::Cluster;
use crate::process::Process;
use crate::roles::ask;
use crate::security::{EVENT, REPORT};
use crate::standing::{doctor, get};
use crate::support::ports::free_address;
use crate::wait::wait_until;
use crate::world::{World, services_folder};

const BROKERS: i32 = 3;

/// While they go and come back, leaders move, replicas move and partitions are added, one processor and one producer work on.
#[test]
fn each_broker_is_restarted_in_its_turn() {
    let mut cluster = Cluster::start(&services_folder(), BROKERS);
    let mut world = World::new("rolling");
    world.brokers = cluster.brokers.clone();
    let mut sending = world.start_simulate(&["--rate", "1000", "--duplicates", "2%"]);
    sending.wait_for_log("created topic");
    cluster.wait_until_in_sync();
    assert_eq!(
        cluster.replicas(&world.topic),
        [BROKERS as usize; 4],
        "as many as the cluster gives by itself"
    );
    let process = world.start_process(&[]);
    world.wait_until_counted(1000);

    let roll = |cluster: &mut Cluster, broker: i32, end: fn(&mut Cluster, i32)| {
        end(cluster, broker);
        // Two of three count on.
        world.wait_until_counted(world.counted() + 2000);
        cluster.start_again(broker);
        cluster.wait_until_in_sync();
        cluster.elect_preferred_leaders();
    };
    roll(&mut cluster, 1, Cluster::stop);
    world.add_partitions(6);
    wait_until("the partitions that were added are counted too", || {
        world.positions().len() == 6
    });
    // Only now: of two events with one id the first that is counted counts, and a campaign that changes its partition
    // has them on two, which are counted in any order.
    let faulty = ["--rate", "500", "--malformed", "2%", "--seed", "2"];
    let sending_faults = world.start_simulate(&faulty);
    roll(&mut cluster, 2, Cluster::kill);
    // Broker 1 gives partition 0 away, and gets it back.
    cluster.reassign(&world.topic, 0, &[2, 3]);
    cluster.reassign(&world.topic, 0, &[3, 2, 1]);
    roll(&mut cluster, 3, Cluster::stop);

    let mut ledger = sending.stop_sending();
    ledger.add(&sending_faults.stop_sending());
    world.wait_until_all_counted();
    let log = process.terminate().success().log;
    world.assert_counted(&ledger);
    assert!(!log.contains("standing still"), "{log}");
    assert_eq!(
        world.read(&world.dlq_topic()).len() as i64,
        ledger.dead.values().sum::<i64>()
    );
}

/// The brokers answer: each that sends says what the topic lacks, and goes on by itself once it has it.
#[test]
fn too_few_replicas_in_sync_are_told_from_an_outage() {
    const FEW: &str = "has min.insync.replicas=3, but only 2 of 3 replicas are in sync: partition";
    let mut cluster = Cluster::start(&services_folder(), BROKERS);
    let on_it = |test: &str| {
        let mut world = World::new(test);
        world.brokers = cluster.brokers.clone();
        world
    };
    let (replicas, all) = (
        TopicReplication::Fixed(BROKERS),
        [("min.insync.replicas", "3")],
    );
    let world = on_it("few");
    world.create_on(&world.topic, 2, &replicas, &all);
    // Whose dead letters alone want all replicas.
    let letters = on_it("few_letters");
    letters.create_on(&letters.topic, 1, &replicas, &[]);
    letters.create_on(&letters.dlq_topic(), 1, &replicas, &all);

    let mut publishing = letters.start_process(&[]);
    let process = world.start_process(&[]);
    let mut sending = world.start_simulate(&["--rate", "100"]);
    world.wait_until_counted(100);
    let address = free_address();
    let serve = ["--listen", &address];
    let mut server = Process::start(&mut world.command("serve", &serve));
    wait_until("it answers", || get(&address, "/readyz").is_some());

    cluster.stop(3);
    letters.simulate(&["--count", "20", "--rate", "max", "--malformed", "100%"]);
    sending.wait_for_log(FEW);
    let report = tempfile::NamedTempFile::new().expect("a file");
    std::fs::write(report.path(), REPORT).expect("written");
    let file = report.path().display().to_string();
    let (account, zone) = (["--account", "1"], ["--time-zone", "Europe/Berlin"]);
    let observed = ["--observed-at", "2024-07-01T08:00:00Z"];
    let args = [&account[..], &zone, &observed, &[&file]].concat();
    let mut importing = Process::start(&mut world.command("import", &args));
    importing.wait_for_log(FEW);
    let refused = ask(&address, "POST", "/events", EVENT).expect("an answer");
    assert!(refused.starts_with("HTTP/1.1 503"), "{refused}");
    assert!(refused.contains(FEW), "{refused}");
    server.wait_for_log(FEW);
    let told = doctor(&world);
    assert!(told.stdout.contains(FEW), "{}", told.stdout);
    publishing.wait_for_log(FEW);

    cluster.start_again(3);
    sending.wait_for_log("Kafka acknowledges again");
    importing.end().success();
    wait_until("the server takes events", || {
        let taken = ask(&address, "POST", "/events", EVENT);
        taken.is_some_and(|taken| taken.starts_with("HTTP/1.1 202"))
    });
    wait_until("dead letters are published", || {
        letters.read(&letters.dlq_topic()).len() == 20
    });
    sending.stop_sending();
    world.wait_until_all_counted();
    Process::start(&mut world.command("verify", &[]))
        .end()
        .success();
    for process in [server, process, publishing] {
        let log = process.terminate().success().log;
        assert!(!log.contains("standing still"), "{log}");
    }
}
