//! A topic, a consumer group and a database of their own on the laboratory's services, for what would
//! spoil the main flow: topics that are deleted, sums that are compared from run to run.

use std::collections::BTreeMap;
use std::net::TcpStream;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use adflux::kafka::topic;
use anyhow::Context as _;
use diesel::connection::SimpleConnection;
use diesel::sql_types::{BigInt, Integer, Text};
use diesel::{Connection, PgConnection, QueryableByName, RunQueryDsl, sql_query};
use nix::sys::signal::Signal;
use rdkafka::ClientConfig;
use rdkafka::TopicPartitionList;
use rdkafka::admin::{AdminClient, AdminOptions, NewPartitions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::topic_partition_list::Offset;

use crate::check::{self, Target, Violations};
use crate::fleet::{Process, Settings};
use crate::producer::SharedLedger;
use crate::sender::Sender;
use crate::services::Services;
use crate::support::ports::free_address;
use crate::traffic::Traffic;
use crate::wait::{limit, wait_for, wait_until};

const KAFKA_TIMEOUT: Duration = Duration::from_secs(20);
/// Nothing takes longer than this, on a busy machine too.
pub const PATIENCE: Duration = limit(Duration::from_secs(100));

/// Numbers the stages of a run.
static NUMBER: AtomicU32 = AtomicU32::new(1);

/// See the module. The topic remains, as long as the services.
pub struct Stage {
    pub target: Target,
    pub ledger: SharedLedger,
    pub settings: Settings,
    name: String,
    /// The database that is there without us.
    server_url: String,
}

impl Stage {
    /// A new one, with nothing on it yet.
    pub fn new(services: &Services, logs: &std::path::Path, name: &str) -> anyhow::Result<Stage> {
        let name = format!("{name}-{}", NUMBER.fetch_add(1, Ordering::Relaxed));
        let brokers = services.setting("KAFKA_BROKERS")?.to_owned();
        let server_url = services.setting("DATABASE_URL")?.to_owned();
        let database = name.replace('-', "_");
        let (base, _) = server_url.rsplit_once('/').context("a database URL")?;
        let database_url = format!("{base}/{database}");
        let env = [
            ("KAFKA_BROKERS", &brokers),
            ("DATABASE_URL", &database_url),
            ("ADFLUX_TOPIC", &name),
            ("ADFLUX_GROUP", &name),
        ];
        let mut env: Vec<_> = env.map(|(key, value)| (key, value.clone())).to_vec();
        env.push(("RUST_LOG", "info".to_owned()));
        Ok(Stage {
            settings: Settings {
                env,
                logs: logs.to_owned(),
            },
            target: Target {
                brokers,
                topic: name.clone(),
                group: name.clone(),
                database_url,
                redis_url: None,
                servers: Vec::new(),
            },
            ledger: SharedLedger::default(),
            name,
            server_url,
        })
    }

    /// The same topic and ledger, with a consumer group and a database that have counted nothing.
    pub fn again(&self, services: &Services) -> anyhow::Result<Stage> {
        let mut again = Stage::new(services, &self.settings.logs, &self.name)?;
        again.use_topic(&self.target.topic);
        again.ledger = self.ledger.clone();
        Ok(again)
    }

    fn use_topic(&mut self, topic: &str) {
        self.target.topic = topic.to_owned();
        self.set("ADFLUX_TOPIC", topic);
    }

    /// Has the topic on other brokers than the laboratory's.
    pub fn use_brokers(&mut self, brokers: &str) {
        self.target.brokers = brokers.to_owned();
        self.set("KAFKA_BROKERS", brokers);
    }

    /// Has the database on another server than the laboratory's: the processes are told `to_processes`, such as a
    /// proxy before it, and whoever checks goes straight to `url`.
    pub fn use_database(&mut self, url: &str, to_processes: &str) {
        self.target.database_url = url.to_owned();
        self.set("DATABASE_URL", to_processes);
    }

    fn set(&mut self, setting: &str, to: &str) {
        for (name, value) in &mut self.settings.env {
            if *name == setting {
                *value = to.to_owned();
            }
        }
    }

    // Processes

    /// Starts `adflux SUBCOMMAND` with this stage's topic, group and database.
    pub fn start(&self, subcommand: &str, args: &[&str]) -> anyhow::Result<Process> {
        let args: Vec<&str> = [subcommand].iter().chain(args).copied().collect();
        let name = format!("{}-{subcommand}", self.name);
        Process::start(&self.settings, &name, &args, &[])
    }

    /// Runs `adflux SUBCOMMAND` to its end. Returns whether it succeeded, and its log.
    pub fn run(&self, subcommand: &str, args: &[&str]) -> anyhow::Result<(bool, String)> {
        let log = self.log_of(subcommand);
        let before = std::fs::read(&log).map_or(0, |text| text.len());
        let mut process = self.start(subcommand, args)?;
        let status = wait_for(PATIENCE, || process.ended())?;
        let status = status.with_context(|| format!("{} never ended", log.display()))?;
        let text = std::fs::read(&log)?;
        let said = String::from_utf8_lossy(&text[before..]).into_owned();
        Ok((status.success(), said))
    }

    /// Has processes started from now on share this Redis.
    pub fn share(&mut self, redis_url: &str) {
        self.settings.env.push(("REDIS_URL", redis_url.to_owned()));
        self.target.redis_url = Some(redis_url.to_owned());
    }

    /// Starts a server, which belongs to the target from now on.
    pub fn serve(&mut self) -> anyhow::Result<Process> {
        let address = free_address();
        let server = self.start("serve", &["--listen", &address])?;
        wait_until(PATIENCE, "the server listens", || {
            Ok(TcpStream::connect(&address).is_ok())
        })?;
        self.target.servers.push(format!("http://{address}"));
        Ok(server)
    }

    /// Where the log of a subcommand is.
    pub fn log_of(&self, subcommand: &str) -> std::path::PathBuf {
        let file = format!("{}-{subcommand}.log", self.name);
        self.settings.logs.join(file)
    }

    /// Sends so many records, and waits until they are acknowledged.
    pub fn send(&self, traffic: &mut Traffic, records: usize) -> anyhow::Result<()> {
        let sender = self.sender()?;
        for _ in 0..records {
            sender.send_next(traffic, chrono::Utc::now().timestamp_micros())?;
        }
        sender.flush()
    }

    /// A producer to the topic, which must be there.
    pub fn sender(&self) -> anyhow::Result<Sender> {
        Sender::new(&self.target.brokers, &self.target.topic, &self.ledger)
    }

    // Kafka

    fn administer<T, F: Future<Output = Result<T, KafkaError>>>(
        &self,
        ask: impl FnOnce(AdminClient<DefaultClientContext>, AdminOptions) -> F,
    ) -> anyhow::Result<T> {
        let admin = ClientConfig::new()
            .set("bootstrap.servers", &self.target.brokers)
            .create()?;
        let options = AdminOptions::new().operation_timeout(Some(KAFKA_TIMEOUT));
        let runtime = tokio::runtime::Builder::new_current_thread().build()?;
        runtime
            .block_on(ask(admin, options))
            .context("Kafka's answer")
    }

    fn consumer(&self) -> anyhow::Result<BaseConsumer> {
        Ok(ClientConfig::new()
            .set("bootstrap.servers", &self.target.brokers)
            .set("group.id", &self.target.group)
            .create()?)
    }

    /// Creates the topic, again if need be.
    pub fn create_topic(&self, partitions: i32) -> anyhow::Result<()> {
        self.create_topic_with(partitions, &[], &[])
    }

    /// As [`Stage::create_topic`], with settings; `replicas` says which brokers have which partition, if that matters.
    pub fn create_topic_with(
        &self,
        partitions: i32,
        replicas: &[&[i32]],
        settings: &[(&str, &str)],
    ) -> anyhow::Result<()> {
        wait_until(PATIENCE, "the topic is created", || {
            let replicas = match replicas {
                [] => TopicReplication::Fixed(topic::OF_THE_CLUSTER),
                placed => TopicReplication::Variable(placed),
            };
            let new = NewTopic::new(&self.target.topic, partitions, replicas);
            let new = settings
                .iter()
                .fold(new, |new, (key, value)| new.set(key, value));
            let created = self
                .administer(async |admin, options| admin.create_topics(&[new], &options).await)?;
            match created.into_iter().next() {
                // One that was just deleted exists for a moment longer.
                Some(Err((_, RDKafkaErrorCode::TopicAlreadyExists))) => Ok(false),
                // So says a controller that has not heard from its broker for a moment.
                Some(Err((_, RDKafkaErrorCode::InvalidReplicationFactor))) => Ok(false),
                Some(Err((topic, code))) => anyhow::bail!("creating {topic}: {code}"),
                _ => Ok(true),
            }
        })?;
        wait_until(PATIENCE, "the topic is there", || {
            Ok(self
                .log_ends()
                .is_ok_and(|ends| ends.len() == partitions as usize))
        })
    }

    /// Adds partitions up to so many in all.
    pub fn add_partitions(&self, to: usize) -> anyhow::Result<()> {
        let more = NewPartitions::new(&self.target.topic, to);
        let added = self
            .administer(async |admin, options| admin.create_partitions(&[more], &options).await)?;
        for result in added {
            result.map_err(|(topic, code)| anyhow::anyhow!("adding to {topic}: {code}"))?;
        }
        wait_until(PATIENCE, "the partitions are there", || {
            Ok(self.log_ends().is_ok_and(|ends| ends.len() == to))
        })
    }

    /// Deletes the topic; what the ledger says of it is over as well.
    pub fn delete_topic(&mut self) -> anyhow::Result<()> {
        let topic = self.target.topic.clone();
        self.administer(async |admin, options| admin.delete_topics(&[&topic], &options).await)?;
        wait_until(PATIENCE, "the topic is gone", || {
            Ok(self.log_ends().is_ok_and(|ends| ends.is_empty()))
        })?;
        self.ledger = SharedLedger::default();
        Ok(())
    }

    /// Has Kafka delete the records before these offsets, as retention would.
    pub fn delete_records_before(&self, offsets: &BTreeMap<i32, i64>) -> anyhow::Result<()> {
        let list = self.list(offsets)?;
        let deleted =
            self.administer(async |admin, options| admin.delete_records(&list, &options).await)?;
        for element in deleted.elements() {
            element.error()?;
        }
        Ok(())
    }

    fn list(&self, offsets: &BTreeMap<i32, i64>) -> anyhow::Result<TopicPartitionList> {
        let mut list = TopicPartitionList::new();
        for (&partition, &offset) in offsets {
            list.add_partition_offset(&self.target.topic, partition, Offset::Offset(offset))?;
        }
        Ok(list)
    }

    /// Commits these offsets for the group, as an operator's tool does. Kafka takes them only once
    /// the group has no member.
    pub fn reset_offsets(&self, offsets: &BTreeMap<i32, i64>) -> anyhow::Result<()> {
        let (consumer, list) = (self.consumer()?, self.list(offsets)?);
        wait_until(PATIENCE, "Kafka takes the offsets", || {
            Ok(consumer.commit(&list, CommitMode::Sync).is_ok())
        })
    }

    /// The end of every partition; none if there is no topic.
    pub fn log_ends(&self) -> anyhow::Result<BTreeMap<i32, i64>> {
        let consumer = self.consumer()?;
        // Asked for by name, it would be created where topics come by themselves.
        let metadata = consumer.fetch_metadata(None, KAFKA_TIMEOUT)?;
        let mut ends = BTreeMap::new();
        for topic in metadata.topics() {
            if topic.name() == self.target.topic && topic.error().is_none() {
                for partition in topic.partitions() {
                    let asked =
                        consumer.fetch_watermarks(topic.name(), partition.id(), KAFKA_TIMEOUT);
                    ends.insert(partition.id(), asked?.1);
                }
            }
        }
        Ok(ends)
    }

    // PostgreSQL

    /// A connection to the stage's database, which must be there.
    pub fn connect(&self) -> anyhow::Result<PgConnection> {
        Ok(PgConnection::establish(&self.target.database_url)?)
    }

    /// The stored positions; none before the first processor has come.
    pub fn positions(&self) -> BTreeMap<i32, i64> {
        Stage::positions_in(&self.target.database_url)
    }

    /// The positions that are stored in a database.
    pub fn positions_in(database_url: &str) -> BTreeMap<i32, i64> {
        #[derive(QueryableByName)]
        struct Row {
            #[diesel(sql_type = Integer)]
            partition: i32,
            #[diesel(sql_type = BigInt)]
            next_offset: i64,
        }
        let Ok(mut connection) = PgConnection::establish(database_url) else {
            return BTreeMap::new();
        };
        let rows = sql_query("SELECT partition, next_offset FROM stream_positions")
            .load::<Row>(&mut connection)
            .unwrap_or_default();
        let rows = rows.into_iter();
        rows.map(|row| (row.partition, row.next_offset)).collect()
    }

    /// Waits until everything acknowledged was counted.
    pub fn wait_until_counted(&self, limit: Duration) -> anyhow::Result<()> {
        self.wait_until_others_are_counted(limit, &[])
    }

    /// Waits until everything acknowledged was counted but for what these partitions hold.
    pub fn wait_until_others_are_counted(
        &self,
        limit: Duration,
        than: &[i32],
    ) -> anyhow::Result<()> {
        let ends: BTreeMap<i32, i64> = {
            let ledger = self.ledger.lock();
            let log = ledger.log().iter();
            let others = log.filter(|(partition, _)| !than.contains(partition));
            others
                .map(|(partition, log)| (*partition, log.len() as i64))
                .collect()
        };
        wait_until(limit, "everything is counted", || {
            let positions = self.positions();
            Ok(ends
                .iter()
                .all(|(p, end)| positions.get(p).is_some_and(|next| next >= end)))
        })
    }

    /// A digest of all rows of these tables or subqueries.
    pub fn digest(&self, tables: &[&str]) -> anyhow::Result<String> {
        #[derive(QueryableByName)]
        struct Digest {
            #[diesel(sql_type = Text)]
            digest: String,
        }
        let digests: Vec<String> = tables
            .iter()
            .map(|table| {
                format!("(SELECT md5(string_agg(t::text, ' ' ORDER BY t::text)) FROM {table} AS t)")
            })
            .collect();
        let sql = format!("SELECT concat_ws(' ', {}) AS digest", digests.join(", "));
        let digest: Digest = sql_query(sql).get_result(&mut self.connect()?)?;
        Ok(digest.digest)
    }

    /// Checks everything.
    pub fn check(&self) -> Violations {
        check::check(&self.target, &self.ledger.lock())
    }
}

/// Ends a processor or a server as an operator does.
pub fn end(process: &mut Process) -> anyhow::Result<()> {
    process.signal(Signal::SIGTERM)?;
    wait_until(PATIENCE, "the process ends", || {
        Ok(process.ended()?.is_some())
    })
}

impl Drop for Stage {
    fn drop(&mut self) {
        // Best effort: it all goes with the services.
        if let Ok(mut server) = PgConnection::establish(&self.server_url) {
            let database = self.name.replace('-', "_");
            let drop = format!("DROP DATABASE IF EXISTS {database} WITH (FORCE)");
            let _ = server.batch_execute(&drop);
        }
    }
}
