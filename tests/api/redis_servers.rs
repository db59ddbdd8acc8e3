//! Redis as others run it: with TLS, with users, behind Sentinels, as a Cluster. Everything under a user that has no right
//! but those that are documented.

use std::process::{Command, Output};
use std::sync::Arc;
use std::time::Duration;

use adflux::cache::cause::explained;
use adflux::cache::redis::{Names, try_writing};
use adflux::cache::refresh::{Changes, Refresher};
use adflux::cache::servers::Servers;
use adflux::cache::tls::TlsFiles;
use adflux::event::Platform;
use adflux::run::ServeSettings;
use adflux::store::identity::identity;
use diesel::PgConnection;
use uuid::Uuid;

use crate::support::proxy::Proxy;
use crate::support::redis::{RIGHTS, RedisServer, run, write_certificates};
use crate::world::{Api, TestDatabase, count, given, redis_at, settings, until};

const TIME: i64 = 1_769_817_600_000_000;
/// The campaign that all is about.
const PATH: &str = "/campaign/cmp-1/insights";

/// A server, and what a processor does for it, before one Redis.
struct Pair {
    connection: PgConnection,
    api: Api,
    changes: Changes,
    /// Clicks.
    counted: i64,
    _refresher: Refresher,
    _database: TestDatabase,
}

impl Pair {
    fn before(servers: &Servers) -> Pair {
        let database = TestDatabase::create();
        let refresher = Refresher::start(servers, &database.url()).expect("starts");
        Pair {
            connection: database.connect(),
            api: Api::serve(ServeSettings {
                redis: Some(servers.clone()),
                ..settings(&database.url(), None, Duration::from_millis(20))
            }),
            changes: refresher.changes().expect("a channel"),
            counted: 0,
            _refresher: refresher,
            _database: database,
        }
    }

    /// Counts a click, and says so.
    fn commit(&mut self) {
        let click = given("cmp-1", Platform::Meta, TIME, [10, 1, 0, 1, 1]);
        count(&mut self.connection, &[click]);
        self.changes.send(vec![Arc::from("cmp-1")]).expect("sends");
        self.counted += 1;
    }

    /// The next click is in Redis, and all the while there are answers.
    fn goes_on(&mut self, when: &str) {
        self.commit();
        until(when, || {
            let answer = self.api.get(PATH);
            assert_eq!(answer.status, 200, "{when}: {answer:?}");
            let clicks = answer.json()["totals"]["clicks"].as_i64();
            assert!(clicks <= Some(self.counted), "{when}: {answer:?}");
            clicks == Some(self.counted) && answer.cache == "redis"
        });
    }

    fn until_redis_is(&self, wanted: &str) {
        until(wanted, || {
            let ready = self.api.get("/readyz");
            assert_eq!(ready.status, 200, "Redis is not needed: {ready:?}");
            ready.json()["redis"] == wanted
        });
    }

    /// Changes when Redis did not take something.
    fn identity(&mut self) -> Uuid {
        identity(&mut self.connection).expect("an identity")
    }

    fn key(&mut self) -> String {
        Names::of(self.identity()).insight("cmp-1")
    }
}

/// Whether something can be written there, and if not, why, and what to do.
fn outcome(servers: &Servers) -> Result<(), String> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime");
    let tried = runtime.block_on(try_writing(servers));
    tried.map_err(|error| explained(&error))
}

fn refusal(servers: &Servers) -> String {
    outcome(servers).expect_err("is refused")
}

fn give_rights(redis: &RedisServer, more: &str) {
    redis.run(&format!("ACL SETUSER adflux on >secret {RIGHTS}{more}"));
}

fn with_user(redis: &RedisServer) -> String {
    redis.url().replace("redis://", "redis://adflux:secret@")
}

fn adflux(arguments: &[&str], environment: &[(&str, &str)]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_adflux"))
        .args(arguments)
        .env_remove("REDIS_URL")
        .envs(environment.iter().copied())
        .output()
        .expect("runs")
}

#[test]
fn a_user_with_the_documented_rights_is_enough_and_all_it_writes_has_an_end() {
    let redis = RedisServer::start();
    give_rights(&redis, "");
    let mut pair = Pair::before(&redis_at(&with_user(&redis)));
    pair.goes_on("the first click");
    pair.until_redis_is("ok");
    pair.goes_on("a second click");
    let mut connection = redis.connect().expect("connects");
    let keys: Vec<String> = redis::cmd("KEYS")
        .arg("*")
        .query(&mut connection)
        .expect("answers");
    assert!(keys.contains(&pair.key()), "{keys:?}");
    for key in keys {
        let left: i64 = redis::cmd("TTL")
            .arg(&key)
            .query(&mut connection)
            .expect("answers");
        // One that has gone meanwhile had an end, too.
        assert!((0..=600).contains(&left) || left == -2, "{key}: {left}");
        assert!(key.starts_with("adflux:"), "{key}");
    }
    let denied: Vec<redis::Value> = redis::cmd("ACL")
        .arg("LOG")
        .query(&mut connection)
        .expect("answers");
    assert!(denied.is_empty(), "{denied:?}");
}

#[test]
fn what_keeps_redis_from_taking_values_is_said_and_answers_come_from_postgresql() {
    let redis = RedisServer::start();
    give_rights(&redis, "");
    let mut pair = Pair::before(&redis_at(&with_user(&redis)));
    pair.goes_on("the first click");
    for (refuse, allow, word) in [
        ("CONFIG SET maxmemory 1", "CONFIG SET maxmemory 0", "full"),
        ("REPLICAOF 127.0.0.1 1", "REPLICAOF NO ONE", "read-only"),
        (
            "ACL SETUSER adflux -set",
            "ACL SETUSER adflux +set",
            "not permitted",
        ),
        // Who is connected stays so.
        (
            "ACL SETUSER adflux <secret >other",
            "ACL SETUSER adflux <other >secret",
            "ok",
        ),
    ] {
        redis.run(refuse);
        pair.until_redis_is(word);
        redis.run(allow);
        pair.until_redis_is("ok");
        pair.goes_on(allow);
    }
    let wrong = with_user(&redis).replace("secret", "hunter2");
    let mut refused = Pair::before(&redis_at(&wrong));
    refused.until_redis_is("not authenticated");
    refused.commit();
    until("it is read from PostgreSQL", || {
        refused.api.get(PATH).cache == "database"
    });
    let said = refusal(&redis_at(&wrong));
    assert!(
        said.contains("password in REDIS_URL") && !said.contains("hunter2"),
        "{said}"
    );
}

#[test]
fn tls_is_spoken_and_whom_not_to_trust_is_said() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = |name: &str| Some(folder.path().join(name));
    write_certificates(folder.path());
    let rights = format!("user adflux on >secret {RIGHTS}");
    let redis = RedisServer::start_with_tls(folder.path(), &["tls-auth-clients yes", &rights]);
    let url = with_user(&redis).replace("redis://", "rediss://");
    let ours = TlsFiles {
        authorities: file("ca.pem"),
        certificate: file("client.pem"),
        key: file("client.key"),
    };
    let servers = Servers::open(&url, &ours).expect("opens");
    let mut pair = Pair::before(&servers);
    pair.goes_on("the first click");
    pair.until_redis_is("ok");
    let of_the_system = Servers::open(&url, &TlsFiles::default()).expect("opens");
    let said = refusal(&of_the_system);
    assert!(said.contains("REDIS_CA_FILE"), "{said}");
    let mut untrusting = Pair::before(&of_the_system);
    untrusting.until_redis_is("not trusted");
    untrusting.commit();
    until("it is read from PostgreSQL", || {
        untrusting.api.get(PATH).cache == "database"
    });
    let nameless = TlsFiles {
        authorities: file("ca.pem"),
        ..TlsFiles::default()
    };
    let said = refusal(&Servers::open(&url, &nameless).expect("opens"));
    assert!(said.contains("REDIS_CERTIFICATE_FILE"), "{said}");
    let elsewhere = url.replace("127.0.0.1", "localhost");
    let said = refusal(&Servers::open(&elsewhere, &ours).expect("opens"));
    assert!(said.contains("as the certificate does"), "{said}");
    // As the system's authorities are told of another one.
    let ca = file("ca.pem").expect("a file");
    let redis = RedisServer::start_with_tls(folder.path(), &["tls-auth-clients no", &rights]);
    let url = with_user(&redis).replace("redis://", "rediss://");
    let told = adflux(
        &["doctor", "--brokers", "127.0.0.1:1", "--redis-url", &url],
        &[("SSL_CERT_FILE", &ca.display().to_string())],
    );
    let said = String::from_utf8_lossy(&told.stdout).into_owned();
    assert!(
        said.contains("takes what is written") && !said.contains("secret"),
        "{said}"
    );
}

#[test]
fn settings_that_cannot_be_used_end_the_process_at_once_and_do_not_show_the_password() {
    let folder = tempfile::tempdir().expect("a folder");
    write_certificates(folder.path());
    let file = |name: &str| folder.path().join(name).display().to_string();
    let (ca, key) = (file("ca.pem"), file("client.key"));
    let tls = "rediss://:hunter2@127.0.0.1:1";
    for (url, files, wrong) in [
        (
            "redis://:hunter2@127.0.0.1:port",
            vec![],
            "REDIS_URL cannot be read",
        ),
        (
            "127.0.0.1:6379/hunter2",
            vec![],
            "REDIS_URL does not begin with redis://",
        ),
        (
            tls,
            vec![("REDIS_CA_FILE", "/nowhere")],
            "REDIS_CA_FILE: '/nowhere' cannot be read",
        ),
        (
            tls,
            vec![("REDIS_CA_FILE", key.as_str())],
            "has no certificate in it",
        ),
        (
            tls,
            vec![("REDIS_KEY_FILE", key.as_str())],
            "set both or neither",
        ),
        (
            tls,
            vec![
                ("REDIS_CERTIFICATE_FILE", ca.as_str()),
                ("REDIS_KEY_FILE", ca.as_str()),
            ],
            "is not a private key",
        ),
        (
            "redis://:hunter2@127.0.0.1:1",
            vec![("REDIS_CA_FILE", ca.as_str())],
            "begin it with rediss",
        ),
        (
            "rediss+cluster://:hunter2@127.0.0.1:1",
            vec![("REDIS_CA_FILE", ca.as_str())],
            "SSL_CERT_FILE",
        ),
    ] {
        for command in ["serve", "process"] {
            let mut environment = files.clone();
            environment.extend([
                ("REDIS_URL", url),
                ("DATABASE_URL", "postgres://127.0.0.1:1/none"),
            ]);
            let address = if command == "serve" {
                "--listen"
            } else {
                "--metrics-listen"
            };
            let ended = adflux(&[command, address, "127.0.0.1:0"], &environment);
            let said = String::from_utf8_lossy(&ended.stderr).into_owned();
            assert!(
                !ended.status.success() && said.contains(wrong),
                "{command}, {url}: {said}"
            );
            assert!(!said.contains("hunter2"), "{said}");
        }
        let mut environment = files;
        environment.push(("REDIS_URL", url));
        let told = adflux(&["doctor", "--brokers", "127.0.0.1:1"], &environment);
        let said = String::from_utf8_lossy(&told.stdout).into_owned();
        let line = said.lines().find(|line| line.contains("Redis"));
        let line = line.unwrap_or_else(|| panic!("{said}"));
        assert!(
            line.starts_with("PROBLEM") && line.contains(wrong),
            "{line}"
        );
        assert!(!said.contains("hunter2"), "{said}");
    }
}

#[test]
fn a_master_that_was_demoted_is_left_for_whom_its_name_stands_now() {
    let (before, after) = (RedisServer::start(), RedisServer::start());
    let address = |redis: &RedisServer| ([127, 0, 0, 1], redis.port).into();
    let name = Proxy::of_bytes();
    name.leads_to(address(&before));
    let mut pair = Pair::before(&redis_at(&format!("redis://{}", name.address())));
    pair.goes_on("the first click");
    name.leads_to(address(&after));
    before.run(&format!("REPLICAOF 127.0.0.1 {}", after.port));
    pair.goes_on("a click after the demotion");
    pair.until_redis_is("ok");
    let key = pair.key();
    assert_eq!(after.run(&format!("EXISTS {key}")), redis::Value::Int(1));
}

#[test]
fn sentinels_lead_to_the_master_and_to_the_next_one() {
    let mut first = RedisServer::start();
    let second = RedisServer::start_with(&[&format!("replicaof 127.0.0.1 {}", first.port)]);
    for redis in [&first, &second] {
        give_rights(redis, " +role");
    }
    until("the replica follows", || {
        first.info("replication").contains("state=online")
    });
    let sentinel = RedisServer::sentinel_of(&first);
    let as_tester = format!("redis://tester:tester@127.0.0.1:{}", sentinel.port);
    until("the Sentinel knows the replica", || {
        let known = run(&as_tester, "SENTINEL REPLICAS main");
        format!("{known:?}").contains(&second.port.to_string())
    });
    // The first of them is away.
    let url = format!(
        "redis+sentinel://adflux:secret@127.0.0.1:1,127.0.0.1:{}/main",
        sentinel.port
    );
    let mut pair = Pair::before(&redis_at(&url));
    pair.goes_on("the first click");
    pair.until_redis_is("ok");
    first.kill();
    pair.goes_on("a click after the master's end");
    pair.until_redis_is("ok");
    assert!(second.info("replication").contains("role:master"));
    let said = refusal(&redis_at(&url.replace("/main", "/other")));
    assert!(said.contains("correct the service in REDIS_URL"), "{said}");
}

/// Three masters that share the slots, and a replica of the first.
struct Cluster {
    nodes: Vec<RedisServer>,
}

impl Cluster {
    fn start() -> Cluster {
        let bus = |_| crate::support::ports::free_port();
        let buses: Vec<u16> = (0..4).map(bus).collect();
        let start = |bus: &u16| {
            let bus = format!("cluster-port {bus}");
            RedisServer::start_with(&["cluster-enabled yes", "cluster-node-timeout 1000", &bus])
        };
        let nodes: Vec<RedisServer> = buses.iter().map(start).collect();
        for (node, slots) in nodes.iter().zip(["0 5460", "5461 10922", "10923 16383"]) {
            node.run(&format!("CLUSTER ADDSLOTSRANGE {slots}"));
        }
        for (epoch, node) in nodes.iter().enumerate() {
            node.run(&format!("CLUSTER SET-CONFIG-EPOCH {}", epoch + 1));
            give_rights(node, " +cluster|slots +asking +ping");
        }
        for (node, bus) in nodes.iter().zip(&buses).skip(1) {
            nodes[0].run(&format!("CLUSTER MEET 127.0.0.1 {} {bus}", node.port));
        }
        let cluster = Cluster { nodes };
        cluster.until_all("cluster_known_nodes:4");
        let first = cluster.id(0);
        cluster.nodes[3].run(&format!("CLUSTER REPLICATE {first}"));
        cluster.until_all("cluster_state:ok");
        until("the replica follows", || {
            cluster.nodes[0]
                .info("replication")
                .contains("state=online")
        });
        cluster
    }

    fn text(&self, node: usize, command: &str) -> String {
        match self.nodes[node].run(command) {
            redis::Value::BulkString(text) => String::from_utf8(text).expect("UTF-8"),
            redis::Value::VerbatimString { text, .. } | redis::Value::SimpleString(text) => text,
            other => panic!("{command}: {other:?}"),
        }
    }

    fn until_all(&self, line: &str) {
        until(line, || {
            (0..self.nodes.len()).all(|node| self.text(node, "CLUSTER INFO").contains(line))
        });
    }

    fn id(&self, node: usize) -> String {
        self.text(node, "CLUSTER MYID")
    }

    /// The slot of a key, the master that has it, and the next one.
    fn place(&self, key: &str) -> (i64, usize, usize) {
        let redis::Value::Int(slot) = self.nodes[0].run(&format!("CLUSTER KEYSLOT {key}")) else {
            panic!("a slot");
        };
        let node = usize::from(slot > 5460) + usize::from(slot > 10922);
        (slot, node, (node + 1) % 3)
    }

    fn url(&self) -> String {
        let address = |node: &RedisServer| format!("127.0.0.1:{}", node.port);
        let nodes: Vec<String> = self.nodes.iter().take(3).map(address).collect();
        format!("redis+cluster://adflux:secret@{}", nodes.join(","))
    }
}

#[test]
fn in_a_cluster_slots_may_move_and_masters_may_end() {
    let mut cluster = Cluster::start();
    let mut pair = Pair::before(&redis_at(&cluster.url()));
    pair.goes_on("the first click");
    pair.until_redis_is("ok");
    let (identity, key) = (pair.identity(), pair.key());
    let (slot, from, to) = cluster.place(&key);
    let (from_id, to_id) = (cluster.id(from), cluster.id(to));
    cluster.nodes[to].run(&format!("CLUSTER SETSLOT {slot} IMPORTING {from_id}"));
    cluster.nodes[from].run(&format!("CLUSTER SETSLOT {slot} MIGRATING {to_id}"));
    pair.goes_on("a click while the slot is to move");
    let port = cluster.nodes[to].port;
    cluster.nodes[from].run(&format!("MIGRATE 127.0.0.1 {port} {key} 0 5000"));
    pair.goes_on("a click while the key has moved and the slot has not");
    for node in [to, from] {
        cluster.nodes[node].run(&format!("CLUSTER SETSLOT {slot} NODE {to_id}"));
    }
    pair.goes_on("a click after the slot has moved");
    assert_eq!(pair.identity(), identity, "nothing was refused");
    // And a master that has a replica ends.
    cluster.nodes[0].kill();
    until("the replica took over", || {
        cluster.text(3, "CLUSTER INFO").contains("cluster_state:ok")
            && cluster.nodes[3].info("replication").contains("role:master")
    });
    pair.goes_on("a click after a master's end");
    pair.until_redis_is("ok");
    for node in &cluster.nodes[1..] {
        let denied = node.run("ACL LOG");
        assert_eq!(denied, redis::Value::Array(vec![]), "{denied:?}");
    }
    // Whoever takes it for a single server is told: of two nodes, one at least has not the slot.
    let said = [1, 2].map(|node| outcome(&redis_at(&with_user(&cluster.nodes[node]))));
    let said = said.map(|outcome| outcome.err().unwrap_or_default());
    assert!(
        said.iter().any(|said| said.contains("redis+cluster://")),
        "{said:?}"
    );
}
