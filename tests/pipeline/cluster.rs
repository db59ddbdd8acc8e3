//! A cluster of two brokers that a test has to itself, since one of them is taken away.

use std::collections::BTreeMap;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use crate::wait::wait_until;
use crate::world::required;

/// Two brokers, with node ids 1 and 2; the first is the controller too. They are killed when the test is over.
pub struct Cluster {
    /// Where both can be asked for.
    pub brokers: String,
    processes: BTreeMap<i32, Child>,
    folder: PathBuf,
}

/// The services' folder of Kafka.
fn kafka() -> PathBuf {
    PathBuf::from(required("ADFLUX_SERVICES_DIR")).join("kafka")
}

fn java(class: &str, arguments: &[&str]) -> Command {
    let classpath = std::fs::read_to_string(kafka().join("classpath")).expect("Kafka's jars");
    let home = std::env::var("JAVA_HOME").map(|home| format!("{home}/bin/"));
    let mut command = Command::new(format!("{}java", home.unwrap_or_default()));
    command
        .env("CLASSPATH", classpath)
        .args(["-Xmx256m", "-Dorg.apache.logging.log4j.level=WARN", class])
        .args(arguments)
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    command
}

fn free_port() -> u16 {
    let free = TcpListener::bind("127.0.0.1:0").and_then(|l| l.local_addr());
    free.expect("a port").port()
}

impl Cluster {
    /// Starts both, and waits until both are there.
    pub fn start() -> Cluster {
        let name = format!("adflux-cluster-{:08x}", rand::random::<u32>());
        let folder = std::env::temp_dir().join(name);
        let ports = BTreeMap::from([(1, free_port()), (2, free_port())]);
        let controller = free_port();
        let addresses: Vec<String> = ports.values().map(|p| format!("127.0.0.1:{p}")).collect();
        let mut cluster = Cluster {
            brokers: addresses.join(","),
            processes: BTreeMap::new(),
            folder,
        };
        for (&node, &port) in &ports {
            let process = start(&cluster.folder, node, port, controller, "");
            cluster.processes.insert(node, process);
        }
        for address in &addresses {
            wait_until("the broker listens", || {
                std::net::TcpStream::connect(address).is_ok()
            });
        }
        cluster
    }

    /// One broker that lets nobody do anything but superusers, who are those without a name. The other address is for
    /// the user `reader` with the password `secret`.
    pub fn guarded() -> (Cluster, String) {
        let name = format!("adflux-cluster-{:08x}", rand::random::<u32>());
        let folder = std::env::temp_dir().join(name);
        let (port, sasl, controller) = (free_port(), free_port(), free_port());
        let address = format!("127.0.0.1:{port}");
        let guarded = format!("127.0.0.1:{sasl}");
        let more = format!(
            "listeners=PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller},SASL://{guarded}
advertised.listeners=PLAINTEXT://127.0.0.1:{port},SASL://{guarded}
listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT,SASL:SASL_PLAINTEXT
listener.name.sasl.sasl.enabled.mechanisms=PLAIN
listener.name.sasl.plain.sasl.jaas.config=org.apache.kafka.common.security.plain.PlainLoginModule required user_reader=\"secret\";
authorizer.class.name=org.apache.kafka.metadata.authorizer.StandardAuthorizer
super.users=User:ANONYMOUS
transaction.state.log.replication.factor=1
"
        );
        // Of a setting that is there twice, the last counts.
        let process = start(&folder, 1, port, controller, &more);
        let cluster = Cluster {
            brokers: address.clone(),
            processes: BTreeMap::from([(1, process)]),
            folder,
        };
        wait_until("the broker listens", || {
            std::net::TcpStream::connect(&address).is_ok()
        });
        (cluster, guarded)
    }

    /// Allows `reader` to do something with a topic or a group.
    pub fn allow(&self, operation: &str, resource: &str, name: &str) {
        let arguments = [
            "--bootstrap-server",
            &self.brokers,
            "--add",
            "--allow-principal",
            "User:reader",
            "--operation",
            operation,
            resource,
            name,
        ];
        let allowed = java("org.apache.kafka.tools.AclCommand", &arguments).status();
        assert!(allowed.expect("java runs").success(), "an ACL is added");
    }

    /// Takes a broker away.
    pub fn kill(&mut self, node: i32) {
        if let Some(mut process) = self.processes.remove(&node) {
            process.kill().expect("it runs");
            process.wait().expect("it ends");
        }
    }
}

fn start(folder: &Path, node: i32, port: u16, controller: u16, more: &str) -> Child {
    let folder = folder.join(node.to_string());
    std::fs::create_dir_all(&folder).expect("a folder");
    let (roles, and) = match node {
        1 => (
            "broker,controller",
            format!(",CONTROLLER://127.0.0.1:{controller}"),
        ),
        _ => ("broker", String::new()),
    };
    let settings = format!(
        "process.roles={roles}
node.id={node}
controller.quorum.voters=1@127.0.0.1:{controller}
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
offsets.topic.replication.factor=1
offsets.topic.num.partitions=1
{more}",
        folder.join("data").display()
    );
    let path = folder.join("server.properties");
    std::fs::write(&path, settings).expect("its settings");
    let path = path.display().to_string();
    let id = "adfluxadfluxadfluxadfA";
    let format = ["format", "--config", &path, "--cluster-id", id];
    let formatted = java("kafka.tools.StorageTool", &format).status();
    assert!(
        formatted.expect("java runs").success(),
        "its folder is formatted"
    );
    java("kafka.Kafka", &[&path]).spawn().expect("java runs")
}

impl Drop for Cluster {
    fn drop(&mut self) {
        for node in [2, 1] {
            self.kill(node);
        }
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}
