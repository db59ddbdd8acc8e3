//! A Kafka that is logged in to by Kerberos: a KDC of the test's own, and keytabs.

use std::path::Path;
use std::process::Command;
use std::thread;

use crate::cluster::{Cluster, Listener};
use crate::process::Process;
use crate::support::kdc::Kdc;
use crate::wait::wait_until;
use crate::world::{World, services_folder};

const BROKER: &str = "kafka/127.0.0.1";
const USER: &str = "counting";

/// A broker that knows the realm's principals.
struct Kerberized {
    kdc: Kdc,
    cluster: Cluster,
    address: String,
}

impl Kerberized {
    fn start() -> Kerberized {
        let kdc = Kdc::start();
        let keytab = kdc.add(BROKER, "");
        let module = format!(
            "com.sun.security.auth.module.Krb5LoginModule required useKeyTab=true storeKey=true keyTab=\"{}\" \
             principal=\"{BROKER}\";",
            keytab.display()
        );
        let listener = Listener::new("KERBEROS", "SASL_PLAINTEXT")
            .set("sasl.enabled.mechanisms", "GSSAPI")
            .set("sasl.kerberos.service.name", "kafka")
            .set("gssapi.sasl.jaas.config", &module)
            // Who stays must show again who it is.
            .set("gssapi.connections.max.reauth.ms", "2000")
            .in_java(
                "java.security.krb5.conf",
                &kdc.settings().display().to_string(),
            );
        let (cluster, mut addresses) =
            Cluster::with_listeners(&services_folder(), &[listener], &[]);
        for operation in ["Create", "Write", "Read"] {
            cluster.allow(USER, operation, "topic", "*");
        }
        cluster.allow(USER, "Read", "group", "*");
        let address = addresses.remove("KERBEROS").expect("its address");
        Kerberized {
            kdc,
            cluster,
            address,
        }
    }

    fn world(&self, name: &str) -> World {
        let mut world = World::new(name);
        world.brokers = self.cluster.brokers.clone();
        world
    }

    /// As docs/operating.md says.
    fn command(&self, world: &World, keytab: &Path, args: &[&str]) -> Command {
        let mut command = world.command(args[0], &args[1..]);
        command
            .env("KAFKA_BROKERS", &self.address)
            .env("KAFKA_SECURITY", "sasl-plaintext")
            .env("KAFKA_MECHANISM", "gssapi")
            .env("KRB5_CONFIG", self.kdc.settings())
            .env("KRB5_CLIENT_KTNAME", keytab)
            .env("KRB5CCNAME", "MEMORY:adflux");
        command
    }
}

#[test]
fn who_has_a_keytab_is_let_in_and_stays() {
    let mut all = Kerberized::start();
    let keytab = all.kdc.add(USER, "-maxlife 10seconds");
    let world = all.world("kerberos");
    let run =
        |all: &Kerberized, args: &[&str]| Process::start(&mut all.command(&world, &keytab, args));
    let mut sending = run(&all, &["simulate", "--rate", "50"]);
    sending.wait_for_log("created topic");
    let told = run(&all, &["doctor", "--listen", "127.0.0.1:0"]).end();
    assert!(told.stdout.contains("partitions"), "{}", told.stdout);

    let mut process = run(&all, &["process"]);
    world.wait_until_counted(20);
    let before = all.kdc.logins(USER);
    wait_until("tickets end, and others are fetched", || {
        all.kdc.logins(USER) >= before + 4
    });
    let counted = world.counted();
    world.wait_until_counted(counted + 20);

    all.kdc.stop();
    // Of whichever ticket it notices first.
    process.wait_for_log("krb5.conf (KRB5_CONFIG) names for the realm");
    all.kdc.start_again();
    process.wait_for_log("Kafka lets us in again");
    let ledger = sending.stop_sending();
    world.wait_until_all_counted();
    process.terminate().success();
    world.assert_counted(&ledger);
}

#[test]
fn why_kerberos_lets_nobody_in_is_said_with_the_setting() {
    let all = Kerberized::start();
    let (kdc, world) = (&all.kdc, all.world("unkerberized"));
    let good = kdc.add(USER, "");
    let outdated = kdc.add("outdated", "");
    kdc.keytab_of("outdated", "outdated-anew");
    let expired = kdc.add("expired", "-expire 2020-01-01");
    let deleted = kdc.add("deleted", "");
    kdc.administer("delprinc -force deleted");
    let none = kdc.settings().with_file_name("none.keytab");
    let away = kdc.settings_of_one_away();
    let missing = kdc.settings().with_file_name("missing.conf");
    // The broker's own is outdated with it: for who comes as far as that.
    kdc.keytab_of(BROKER, "broker-anew");
    let nothing = tempfile::tempdir().expect("a folder");
    let service = "sasl.kerberos.service.name=other".to_owned();
    let of = |name: &'static str, path: &Path| vec![(name, path.display().to_string())];
    let doctor: &[&str] = &["doctor", "--listen", "127.0.0.1:0"];
    let cases = [
        (doctor, &none, vec![], "set KRB5_CLIENT_KTNAME"),
        (doctor, &outdated, vec![], "The KDC has another key"),
        (doctor, &expired, vec![], "Our principal has expired"),
        (
            doctor,
            &deleted,
            vec![],
            "The KDC does not know our principal",
        ),
        (
            doctor,
            &good,
            vec![("ADFLUX_KAFKA_PROPERTIES", service)],
            "sasl.kerberos.service.name",
        ),
        (doctor, &good, of("KRB5_CONFIG", &away), "No KDC answers"),
        (doctor, &good, of("KRB5_CONFIG", &missing), "(KRB5_CONFIG)"),
        (
            doctor,
            &good,
            of("SASL_PATH", nothing.path()),
            "libsasl2-modules-gssapi-mit",
        ),
        (doctor, &good, vec![], "The broker does not take our ticket"),
        (&["process"], &none, vec![], "set KRB5_CLIENT_KTNAME"),
        (
            &["process"],
            &good,
            of("KRB5_CONFIG", &away),
            "No KDC answers",
        ),
        (&["simulate"], &outdated, vec![], "The KDC has another key"),
    ];
    let (all, world) = (&all, &world);
    thread::scope(|scope| {
        for (args, keytab, settings, says) in cases {
            scope.spawn(move || {
                let mut command = all.command(world, keytab, args);
                command.envs(settings);
                let mut process = Process::start(&mut command);
                if args == doctor {
                    let told = process.end().code(1).stdout;
                    assert!(told.contains(says), "no '{says}':\n{told}");
                } else {
                    process.wait_for_log(says);
                    process.terminate();
                }
            });
        }
    });
}
