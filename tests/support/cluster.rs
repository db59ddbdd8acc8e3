//! A cluster of brokers that a test has to itself, since it takes some of them away.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use rdkafka::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::metadata::MetadataPartition;
use tempfile::TempDir;

use super::certificates::{Authority, Issued};
use super::ports::free_port;
use super::wait::wait_until;

/// Brokers with node ids from 1 on. They are killed when the test is over.
pub struct Cluster {
    /// Where all of them can be asked for.
    pub brokers: String,
    classpath: String,
    /// Options of Java.
    options: Vec<String>,
    nodes: BTreeMap<i32, Node>,
    folder: TempDir,
}

/// Name and password.
pub type User<'a> = (&'a str, &'a str);

const READER: User<'static> = ("reader", "secret");

/// A listener beside the one for everybody.
pub struct Listener {
    name: &'static str,
    protocol: &'static str,
    settings: String,
    options: Vec<String>,
}

impl Listener {
    pub fn new(name: &'static str, protocol: &'static str) -> Listener {
        Listener {
            name,
            protocol,
            settings: String::new(),
            options: vec![],
        }
    }

    /// With a property of Java, which the whole broker then has.
    pub fn in_java(mut self, name: &str, value: &str) -> Listener {
        self.options.push(format!("-D{name}={value}"));
        self
    }

    /// With one more of Kafka's settings, which is this listener's alone.
    pub fn set(mut self, name: &str, value: &str) -> Listener {
        let listener = self.name.to_lowercase();
        self.settings += &format!("listener.name.{listener}.{name}={value}\n");
        self
    }

    /// Where one logs in by these mechanisms; PLAIN knows these users.
    pub fn logging_in(self, mechanisms: &[&str], plain: &[User]) -> Listener {
        let mut listener = self.set("sasl.enabled.mechanisms", &mechanisms.join(","));
        for mechanism in mechanisms {
            let module = match *mechanism {
                "PLAIN" => {
                    let user = |(name, password): &User| format!(" user_{name}=\"{password}\"");
                    let users: String = plain.iter().map(user).collect();
                    format!("plain.PlainLoginModule required{users}")
                }
                _ => "scram.ScramLoginModule required".to_owned(),
            };
            listener = listener.set(
                &format!("{}.sasl.jaas.config", mechanism.to_lowercase()),
                &format!("org.apache.kafka.common.security.{module};"),
            );
        }
        listener
    }

    /// Which shows a certificate.
    pub fn showing(self, issued: &Issued) -> Listener {
        self.set("ssl.keystore.type", "PEM").set(
            "ssl.keystore.location",
            &issued.keystore.display().to_string(),
        )
    }

    /// Which wants to be shown one that this authority has signed.
    pub fn trusting(self, authority: &Authority) -> Listener {
        self.set("ssl.truststore.type", "PEM")
            .set(
                "ssl.truststore.location",
                &authority.file().display().to_string(),
            )
            .set("ssl.client.auth", "required")
    }
}

/// How long a question may take.
const PATIENCE: Duration = Duration::from_secs(30);

/// Which question it is, in which version; its number, and who asks.
fn header(question: i16, version: i16) -> Vec<u8> {
    let number = 7i32;
    [
        &question.to_be_bytes()[..],
        &version.to_be_bytes(),
        &number.to_be_bytes(),
        &text("test"),
    ]
    .concat()
}

/// How long it may take, in milliseconds.
fn patience() -> [u8; 4] {
    (PATIENCE.as_millis() as i32).to_be_bytes()
}

fn text(text: &str) -> Vec<u8> {
    let length = i16::try_from(text.len()).expect("short");
    [&length.to_be_bytes(), text.as_bytes()].concat()
}

struct Node {
    address: String,
    /// None while it is away.
    process: Option<Child>,
}

impl Cluster {
    /// Starts so many, and waits until all are there. Of two, the first is the controller; three and more elect one of
    /// them, and keep three copies, of which two must be in sync, unless a topic says otherwise. `services` is the folder in which
    /// `scripts/services` has put where Kafka's jars are.
    pub fn start(services: &Path, brokers: i32) -> Cluster {
        let controllers = if brokers < 3 { 1 } else { brokers };
        let copies = if brokers < 3 { 1 } else { 3 };
        let controllers: BTreeMap<i32, u16> =
            (1..=controllers).map(|node| (node, free_port())).collect();
        let ports: BTreeMap<i32, u16> = (1..=brokers).map(|node| (node, free_port())).collect();
        let in_sync = copies.min(2);
        let replication = format!(
            "default.replication.factor={copies}
min.insync.replicas={in_sync}
unclean.leader.election.enable=false
offsets.topic.replication.factor={copies}
transaction.state.log.replication.factor={copies}
transaction.state.log.min.isr={in_sync}
"
        );
        let mut cluster = Cluster::of(services, &ports);
        for (&node, &port) in &ports {
            cluster.write(node, port, &controllers, &replication);
        }
        // Each takes a second or two.
        std::thread::scope(|scope| {
            for &node in ports.keys() {
                let cluster = &cluster;
                scope.spawn(move || cluster.format(node, &[]));
            }
        });
        for node in ports.into_keys() {
            cluster.start_node(node);
        }
        cluster.wait_until_they_listen();
        cluster
    }

    /// One broker that lets nobody do anything but superusers, who are those without a name. The other address is for
    /// the user `reader` with the password `secret`.
    pub fn guarded(services: &Path) -> (Cluster, String) {
        let sasl = Listener::new("SASL", "SASL_PLAINTEXT").logging_in(&["PLAIN"], &[READER]);
        let (cluster, mut addresses) = Cluster::with_listeners(services, &[sasl], &[]);
        (cluster, addresses.remove("SASL").expect("its address"))
    }

    /// The same with listeners of the test's choice, and where each of them is; users of SCRAM are known at all of them.
    pub fn with_listeners(
        services: &Path,
        listeners: &[Listener],
        scram: &[User],
    ) -> (Cluster, BTreeMap<&'static str, String>) {
        let (port, controller) = (free_port(), free_port());
        let at = |listener: &Listener| (listener.name, format!("127.0.0.1:{}", free_port()));
        let addresses: BTreeMap<&str, String> = listeners.iter().map(at).collect();
        let listed = |(name, address): (&&str, &String)| format!(",{name}://{address}");
        let listed: String = addresses.iter().map(listed).collect();
        let protocol = |l: &Listener| format!(",{}:{}", l.name, l.protocol);
        let protocols: String = listeners.iter().map(protocol).collect();
        let settings = |l: &Listener| l.settings.clone();
        let settings: String = listeners.iter().map(settings).collect();
        let more = format!(
            "listeners=PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller}{listed}
advertised.listeners=PLAINTEXT://127.0.0.1:{port}{listed}
listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT{protocols}
{settings}
authorizer.class.name=org.apache.kafka.metadata.authorizer.StandardAuthorizer
super.users=User:ANONYMOUS
offsets.topic.replication.factor=1
transaction.state.log.replication.factor=1
"
        );
        let mut cluster = Cluster::of(services, &BTreeMap::from([(1, port)]));
        let options = listeners.iter().flat_map(|l| l.options.clone());
        cluster.options = options.collect();
        // Of a setting that is there twice, the last counts.
        cluster.write(1, port, &BTreeMap::from([(1, controller)]), &more);
        let known = |mechanism: &'static str| {
            let user = move |(name, password): &User| {
                format!("{mechanism}=[name={name},password={password}]")
            };
            scram.iter().map(user)
        };
        let users: Vec<String> = known("SCRAM-SHA-256")
            .chain(known("SCRAM-SHA-512"))
            .collect();
        cluster.format(1, &users);
        cluster.start_node(1);
        cluster.wait_until_they_listen();
        (cluster, addresses)
    }

    fn of(services: &Path, ports: &BTreeMap<i32, u16>) -> Cluster {
        let node = |(&node, port): (&i32, &u16)| {
            let address = format!("127.0.0.1:{port}");
            let process = None;
            (node, Node { address, process })
        };
        let nodes: BTreeMap<i32, Node> = ports.iter().map(node).collect();
        let addresses: Vec<&str> = nodes.values().map(|node| node.address.as_str()).collect();
        let classpath = std::fs::read_to_string(services.join("kafka/classpath"));
        Cluster {
            brokers: addresses.join(","),
            classpath: classpath.expect("Kafka's jars"),
            options: vec![],
            nodes,
            folder: tempfile::tempdir().expect("a folder"),
        }
    }

    fn java(&self, class: &str, arguments: &[&str]) -> Command {
        let home = std::env::var("JAVA_HOME").map(|home| format!("{home}/bin/"));
        let mut command = Command::new(format!("{}java", home.unwrap_or_default()));
        command
            .env("CLASSPATH", &self.classpath)
            .args(["-Xmx256m", "-Dorg.apache.logging.log4j.level=WARN"])
            .args(&self.options)
            .arg(class)
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        command
    }

    fn settings(&self, node: i32) -> PathBuf {
        self.folder.path().join(format!("{node}.properties"))
    }

    /// Writes a broker's settings.
    fn write(&self, node: i32, port: u16, controllers: &BTreeMap<i32, u16>, more: &str) {
        let (roles, and) = match controllers.get(&node) {
            Some(controller) => (
                "broker,controller",
                format!(",CONTROLLER://127.0.0.1:{controller}"),
            ),
            None => ("broker", String::new()),
        };
        let voter = |(node, port): (&i32, &u16)| format!("{node}@127.0.0.1:{port}");
        let voters: Vec<String> = controllers.iter().map(voter).collect();
        let settings = format!(
            "process.roles={roles}
node.id={node}
controller.quorum.voters={}
listeners=PLAINTEXT://127.0.0.1:{port}{and}
advertised.listeners=PLAINTEXT://127.0.0.1:{port}
controller.listener.names=CONTROLLER
inter.broker.listener.name=PLAINTEXT
listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT
log.dirs={}
auto.create.topics.enable=false
group.initial.rebalance.delay.ms=0
broker.session.timeout.ms=3000
broker.heartbeat.interval.ms=500
offsets.topic.num.partitions=1
transaction.state.log.num.partitions=1
{more}",
            voters.join(","),
            self.folder.path().join(node.to_string()).display()
        );
        std::fs::write(self.settings(node), settings).expect("its settings");
    }

    /// Formats its folder; in it are users of SCRAM, as the tool takes them.
    fn format(&self, node: i32, scram: &[String]) {
        let path = self.settings(node).display().to_string();
        let id = "adfluxadfluxadfluxadfA";
        let mut format = vec!["format", "--config", &path, "--cluster-id", id];
        for user in scram {
            format.extend(["--add-scram", user]);
        }
        let formatted = self.java("kafka.tools.StorageTool", &format).status();
        assert!(
            formatted.expect("java runs").success(),
            "its folder is formatted"
        );
    }

    fn wait_until_they_listen(&self) {
        for node in self.nodes.values() {
            wait_until("the broker listens", || {
                TcpStream::connect(&node.address).is_ok()
            });
        }
    }

    /// Allows a user to do something with a `topic` or a `group` of this name; `*` are all.
    pub fn allow(&self, user: &str, operation: &str, resource: &str, name: &str) {
        // Kafka's numbers.
        let resource = match resource {
            "topic" => 2,
            "group" => 3,
            other => panic!("{other}?"),
        };
        let operation = match operation {
            "Read" => 3,
            "Write" => 4,
            "Create" => 5,
            "Describe" => 8,
            other => panic!("{other}?"),
        };
        let (literal, allow) = (3, 3);
        // CreateAcls in its version 1.
        let request = [
            &header(30, 1)[..],
            &1i32.to_be_bytes(),
            &[resource],
            &text(name),
            &[literal],
            &text(&format!("User:{user}")),
            &text("*"),
            &[operation, allow],
        ]
        .concat();
        let answer = self.ask(&request);
        // For how long to wait, how many answers, the first one's error.
        assert_eq!(answer[4..10], [0, 0, 0, 1, 0, 0], "an ACL is added");
    }

    /// Has each partition led by the first of its replicas, as a tool does after brokers have come back.
    pub fn elect_preferred_leaders(&self) {
        let (preferred, all) = ([0], (-1i32).to_be_bytes());
        // ElectLeaders in its version 1.
        let request = [&header(43, 1)[..], &preferred, &all, &patience()].concat();
        let answer = self.ask(&request);
        // For how long to wait, the error.
        assert_eq!(answer[4..6], [0, 0], "leaders are elected");
    }

    /// Has these brokers hold a partition from now on, of which the first is to lead it; waits until they do.
    pub fn reassign(&self, topic: &str, partition: i32, brokers: &[i32]) {
        // In newer versions lengths count from 1, and tags follow, of which there are none.
        let length = |n: usize| u8::try_from(n + 1).expect("short");
        let numbers: Vec<u8> = brokers.iter().flat_map(|n| n.to_be_bytes()).collect();
        // AlterPartitionReassignments in its version 0.
        let request = [
            &header(45, 0)[..],
            &[0],
            &patience(),
            &[length(1), length(topic.len())],
            topic.as_bytes(),
            &[length(1)],
            &partition.to_be_bytes(),
            &[length(brokers.len())],
            &numbers,
            &[0, 0, 0],
        ]
        .concat();
        let answer = self.ask(&request);
        // A tag, for how long to wait, the error, no message, one topic.
        assert_eq!(answer[5..9], [0, 0, 0, 2], "it is reassigned: {answer:?}");
        self.wait_until("the partition is with them", |described, p| {
            described != topic || p.id() != partition || p.replicas() == brokers
        });
    }

    /// Waits until every replica has what its leader has.
    pub fn wait_until_in_sync(&self) {
        self.wait_until("all replicas are in sync", |_, p| {
            p.error().is_none() && p.isr().len() == p.replicas().len()
        });
    }

    /// How many brokers hold each partition of a topic.
    pub fn replicas(&self, topic: &str) -> Vec<usize> {
        let metadata = self.asking().fetch_metadata(Some(topic), PATIENCE);
        let metadata = metadata.expect("Kafka answers");
        let partitions = metadata.topics().iter().flat_map(|t| t.partitions());
        partitions.map(|p| p.replicas().len()).collect()
    }

    fn asking(&self) -> BaseConsumer {
        ClientConfig::new()
            .set("bootstrap.servers", &self.brokers)
            .create()
            .expect("a consumer")
    }

    /// Waits until every partition of every topic is so.
    fn wait_until(&self, what: &str, is_so: impl Fn(&str, &MetadataPartition) -> bool) {
        let asking = self.asking();
        wait_until(what, || {
            let metadata = asking.fetch_metadata(None, PATIENCE);
            metadata.is_ok_and(|metadata| {
                let mut topics = metadata.topics().iter();
                topics.all(|t| t.partitions().iter().all(|p| is_so(t.name(), p)))
            })
        });
    }

    /// Asks a broker that runs, and returns what it answers after the number of the question. By hand, as
    /// https://kafka.apache.org/protocol describes it: librdkafka does not ask this, and Kafka's tools take seconds.
    fn ask(&self, request: &[u8]) -> Vec<u8> {
        let mut running = self.nodes.values().filter(|node| node.process.is_some());
        let address = &running.next().expect("a broker runs").address;
        let mut stream = TcpStream::connect(address).expect("the broker listens");
        let length = i32::try_from(request.len()).expect("short").to_be_bytes();
        stream
            .write_all(&[&length, request].concat())
            .expect("sent");
        let mut length = [0; 4];
        stream.read_exact(&mut length).expect("an answer");
        let mut answer = vec![0; i32::from_be_bytes(length) as usize];
        stream.read_exact(&mut answer).expect("all of it");
        answer.split_off(4)
    }

    /// Takes a broker away.
    pub fn kill(&mut self, node: i32) {
        let node = self.nodes.get_mut(&node).expect("one of ours");
        if let Some(mut process) = node.process.take() {
            process.kill().expect("it runs");
            process.wait().expect("it ends");
        }
    }

    /// Takes a broker away as who rolls a cluster does: it hands over first what it leads.
    pub fn stop(&mut self, node: i32) {
        let node = self.nodes.get_mut(&node).expect("one of ours");
        if let Some(mut process) = node.process.take() {
            let pid = i32::try_from(process.id()).expect("a pid");
            kill(Pid::from_raw(pid), Signal::SIGTERM).expect("it runs");
            process.wait().expect("it ends");
        }
    }

    /// Brings a broker back, with what it had.
    pub fn start_again(&mut self, node: i32) {
        self.start_node(node);
        let address = &self.nodes[&node].address;
        wait_until("the broker listens", || TcpStream::connect(address).is_ok());
    }

    fn start_node(&mut self, node: i32) {
        let path = self.settings(node).display().to_string();
        let process = self.java("kafka.Kafka", &[&path]).spawn();
        let node = self.nodes.get_mut(&node).expect("one of ours");
        node.process = Some(process.expect("java runs"));
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        // The controller last.
        for mut process in self
            .nodes
            .values_mut()
            .rev()
            .filter_map(|n| n.process.take())
        {
            let _ = process.kill();
            let _ = process.wait();
        }
    }
}
