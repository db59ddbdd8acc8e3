//! What a test has to itself: a topic, a consumer group and a database on the real services. All
//! of it is gone when the test is over, passed or not.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::process::Command;
use std::sync::Mutex;
use std::time::Duration;

use adflux::event::{Count, Counts};
use adflux::store::read::dead_letters::{self, Filter};
use adflux::totals::Totals;
use diesel::connection::SimpleConnection;
use diesel::sql_types::{BigInt, Integer, Nullable, Text};
use diesel::{Connection, PgConnection, QueryableByName, RunQueryDsl, sql_query};
use rdkafka::admin::{AdminClient, AdminOptions, NewPartitions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{DeliveryResult, Header, Headers, Message, OwnedHeaders};
use rdkafka::producer::{BaseRecord, Producer, ProducerContext, ThreadedProducer};
use rdkafka::{ClientConfig, ClientContext, Offset, TopicPartitionList};

use crate::ledger::Ledger;
use crate::process::{self, Ended, Process};
use crate::records::Record;
use crate::wait::{wait_for, wait_until};

const KAFKA_TIMEOUT: Duration = Duration::from_secs(20);

/// See the module.
pub struct World {
    pub brokers: String,
    pub topic: String,
    pub group: String,
    /// What is behind the group's name, where the database has a range of the topic's partitions.
    of_range: String,
    pub database_url: String,
    database: String,
    server_url: String,
}

/// The setting of a service, without which nothing here can pass.
pub fn required(name: &str) -> String {
    match std::env::var(name) {
        Ok(value) if !value.is_empty() => value,
        _ => panic!("{name} is not set: run `make test`, which starts the services and sets it"),
    }
}

/// The folder of the services that `scripts/services` has started.
pub fn services_folder() -> PathBuf {
    required("ADFLUX_SERVICES_DIR").into()
}

impl World {
    /// A world named after the test. The topic is created by who sends first, or by
    /// [`World::create_topic`]; the database by the first processor.
    pub fn new(test: &str) -> World {
        World::on(test, required("DATABASE_URL"))
    }

    /// The same on a server of the test's own.
    pub fn on(test: &str, server_url: String) -> World {
        let unique = format!("{:08x}", rand::random::<u32>());
        required("REDIS_URL");
        let database = format!("adflux_{test}_{unique}");
        World {
            brokers: required("KAFKA_BROKERS"),
            topic: format!("test-{test}-{unique}"),
            group: format!("test-{test}-{unique}"),
            of_range: String::new(),
            database_url: with_database(&server_url, &database),
            database,
            server_url,
        }
    }

    /// A world on the same topic whose database has a range of its partitions, such as `0-1/6`.
    pub fn shard(&self, range: &str) -> World {
        let (ends, _) = range.split_once('/').expect("a range");
        let database = format!("{}_{}", self.database, ends.replace('-', "_"));
        let world = World {
            brokers: self.brokers.clone(),
            topic: self.topic.clone(),
            group: self.group.clone(),
            of_range: format!("-{ends}"),
            database_url: with_database(&self.server_url, &database),
            database,
            server_url: self.server_url.clone(),
        };
        let mut migrate = world.command("migrate", &["--shard", range]);
        Process::start(&mut migrate).end().success();
        world
    }

    /// The consumer group of those who count the whole range.
    pub fn consumer_group(&self) -> String {
        format!("{}{}", self.group, self.of_range)
    }

    // Kafka

    fn client(&self) -> ClientConfig {
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", &self.brokers);
        config
    }

    /// Asks the cluster to do something.
    fn administer<T, F: Future<Output = Result<T, KafkaError>>>(
        &self,
        ask: impl FnOnce(AdminClient<DefaultClientContext>, AdminOptions) -> F,
    ) -> T {
        let admin = self.client().create().expect("an admin client");
        let options = AdminOptions::new().operation_timeout(Some(KAFKA_TIMEOUT));
        tokio::runtime::Builder::new_current_thread()
            .build()
            .expect("a runtime")
            .block_on(ask(admin, options))
            .expect("Kafka answers")
    }

    /// Creates the topic, again if need be; `settings` are Kafka's for topics.
    pub fn create_topic(&self, partitions: i32, settings: &[(&str, &str)]) {
        self.create(&self.topic, partitions, settings);
    }

    /// Creates another topic.
    pub fn create(&self, topic: &str, partitions: i32, settings: &[(&str, &str)]) {
        self.create_on(topic, partitions, &TopicReplication::Fixed(1), settings);
    }

    /// Creates another topic, on brokers of the test's choice.
    pub fn create_on(
        &self,
        topic: &str,
        partitions: i32,
        replicas: &TopicReplication<'_>,
        settings: &[(&str, &str)],
    ) {
        // A topic that was just deleted exists for a moment longer.
        wait_until("the topic is created", || {
            let mut new = NewTopic::new(
                topic,
                partitions,
                match replicas {
                    TopicReplication::Fixed(number) => TopicReplication::Fixed(*number),
                    TopicReplication::Variable(brokers) => TopicReplication::Variable(brokers),
                },
            );
            for (key, value) in settings {
                new = new.set(key, value);
            }
            let results =
                self.administer(async |admin, options| admin.create_topics(&[new], &options).await);
            match results.into_iter().next() {
                Some(Err((_, RDKafkaErrorCode::TopicAlreadyExists))) => false,
                // So says a controller that has not heard from its broker for a moment.
                Some(Err((_, RDKafkaErrorCode::InvalidReplicationFactor))) => false,
                Some(Err((_, code))) => panic!("creating {topic}: {code}"),
                _ => true,
            }
        });
        wait_until("the topic is there", || {
            self.ranges_of(topic).len() == partitions as usize
        });
    }

    /// Deletes the topic.
    pub fn delete_topic(&self) {
        self.delete(&self.topic);
    }

    /// Deletes another topic.
    pub fn delete(&self, topic: &str) {
        self.administer(async |admin, options| admin.delete_topics(&[topic], &options).await);
        wait_until("the topic is gone", || !self.topic_exists(topic));
    }

    /// Gives the topic more partitions.
    pub fn add_partitions(&self, to: usize) {
        let results = self.administer(async |admin, options| {
            admin
                .create_partitions(&[NewPartitions::new(&self.topic, to)], &options)
                .await
        });
        for result in results {
            result.expect("partitions can be added");
        }
    }

    /// Has Kafka delete the records before these offsets, as retention would.
    pub fn delete_records_before(&self, offsets: &BTreeMap<i32, i64>) {
        let list = self.offsets(offsets);
        let deleted =
            self.administer(async |admin, options| admin.delete_records(&list, &options).await);
        for element in deleted.elements() {
            element.error().expect("records can be deleted");
        }
    }

    fn offsets(&self, offsets: &BTreeMap<i32, i64>) -> TopicPartitionList {
        offsets_of(&self.topic, offsets)
    }

    fn consumer(&self) -> BaseConsumer {
        self.client()
            .set("group.id", self.consumer_group())
            .set("enable.auto.commit", "false")
            .set("enable.partition.eof", "true")
            .set("auto.offset.reset", "error")
            .create()
            .expect("a consumer")
    }

    /// A member of the group of another kind, which assigns partitions by range. It has all of them.
    pub fn join_by_range(&self) -> BaseConsumer {
        let member: BaseConsumer = self
            .client()
            .set("group.id", &self.group)
            .set("enable.auto.commit", "false")
            .set("partition.assignment.strategy", "range")
            .create()
            .expect("a consumer");
        member.subscribe(&[&self.topic]).expect("it subscribes");
        wait_until("it has the partitions", || {
            let _ = member.poll(Duration::from_millis(100));
            let assigned = member.assignment().expect("its assignment");
            assigned.count() == self.log_ends().len()
        });
        member
    }

    /// The first offset and the end of every partition.
    pub fn log_ranges(&self) -> BTreeMap<i32, (i64, i64)> {
        self.ranges_of(&self.topic)
    }

    /// Those of another topic; none if it is not there.
    fn ranges_of(&self, topic: &str) -> BTreeMap<i32, (i64, i64)> {
        let consumer = self.consumer();
        let metadata = consumer
            .fetch_metadata(Some(topic), KAFKA_TIMEOUT)
            .expect("Kafka answers");
        metadata
            .topics()
            .iter()
            .filter(|topic| topic.error().is_none())
            .flat_map(|topic| topic.partitions())
            .map(|partition| {
                // A partition that was just added has no leader yet.
                let range = wait_for("the partition's leader answers", || {
                    let asked = consumer.fetch_watermarks(topic, partition.id(), KAFKA_TIMEOUT);
                    asked.ok()
                });
                (partition.id(), range)
            })
            .collect()
    }

    /// The end of every partition.
    pub fn log_ends(&self) -> BTreeMap<i32, i64> {
        let ranges = self.log_ranges();
        ranges.into_iter().map(|(p, (_, end))| (p, end)).collect()
    }

    /// How many records were ever sent.
    pub fn log_size(&self) -> i64 {
        self.log_ends().values().sum()
    }

    /// The offsets that the consumer group has committed to Kafka.
    pub fn kafka_offsets(&self) -> BTreeMap<i32, i64> {
        let consumer = self.consumer();
        let mut list = TopicPartitionList::new();
        for partition in self.log_ranges().keys() {
            list.add_partition(&self.topic, *partition);
        }
        // The group's coordinator may be found only the next time.
        let committed = wait_for("the group's coordinator answers", || {
            consumer.committed_offsets(list.clone(), KAFKA_TIMEOUT).ok()
        });
        committed
            .elements()
            .iter()
            .filter_map(|e| Some((e.partition(), e.offset().to_raw().filter(|o| *o >= 0)?)))
            .collect()
    }

    /// Commits these offsets for the consumer group, as an operator's tool does.
    ///
    /// Kafka only takes them while the group has no member, and a member that was killed is one
    /// until its session times out.
    pub fn reset_kafka_offsets(&self, offsets: &BTreeMap<i32, i64>) {
        let (consumer, list) = (self.consumer(), self.offsets(offsets));
        wait_until("Kafka takes the offsets", || {
            consumer.commit(&list, CommitMode::Sync).is_ok()
        });
        assert_eq!(&self.kafka_offsets(), offsets);
    }

    /// Deletes a consumer group other than this world's own.
    pub fn delete_group(&self, group: &str) {
        self.administer(async |admin, options| admin.delete_groups(&[group], &options).await);
    }

    /// The cluster's own id.
    pub fn cluster_id(&self) -> String {
        self.consumer()
            .client()
            .fetch_cluster_id(KAFKA_TIMEOUT)
            .expect("Kafka answers")
    }

    /// Everything on the topic, partition by partition.
    pub fn read_topic(&self) -> Vec<Record> {
        self.read(&self.topic)
    }

    /// The topic where dead letters are published.
    pub fn dlq_topic(&self) -> String {
        format!("{}.dlq", self.topic)
    }

    /// Whether there is such a topic; asked of all topics, since asking by name may create one.
    pub fn topic_exists(&self, topic: &str) -> bool {
        let metadata = self.consumer().fetch_metadata(None, KAFKA_TIMEOUT);
        let metadata = metadata.expect("Kafka answers");
        metadata.topics().iter().any(|t| t.name() == topic)
    }

    /// Everything on a topic, partition by partition.
    pub fn read(&self, topic: &str) -> Vec<Record> {
        let ranges = self.ranges_of(topic);
        let consumer = self.consumer();
        let starts = ranges.iter().map(|(p, (start, _))| (*p, *start)).collect();
        consumer
            .assign(&offsets_of(topic, &starts))
            .expect("an assignment");
        let mut records = Vec::new();
        let mut ended = BTreeSet::new();
        while ended.len() < ranges.len() {
            match consumer.poll(KAFKA_TIMEOUT).expect("Kafka answers") {
                Ok(message) => records.push(Record {
                    partition: message.partition(),
                    offset: message.offset(),
                    timestamp: message.timestamp().to_millis(),
                    key: message.key().map(<[u8]>::to_vec),
                    payload: message.payload().map(<[u8]>::to_vec),
                    headers: message.headers().map_or_else(Vec::new, |headers| {
                        headers
                            .iter()
                            .map(|h| (h.key.to_owned(), h.value.map(<[u8]>::to_vec)))
                            .collect()
                    }),
                }),
                Err(KafkaError::PartitionEOF(partition)) => {
                    ended.insert(partition);
                }
                Err(error) => panic!("reading {topic}: {error}"),
            }
        }
        records.sort_unstable_by_key(|r| (r.partition, r.offset));
        records
    }

    /// Sends records in order, each to the partition that its key has with Java clients.
    pub fn send(&self, records: &[Record]) {
        self.send_with(&self.producer(&[]), records);
    }

    /// Sends a record to a partition, wherever its key leads.
    pub fn send_to(&self, partition: i32, record: &Record) {
        self.send_placed(
            &self.producer(&[]),
            std::slice::from_ref(record),
            Some(partition),
        );
    }

    /// Sends records in a transaction, and ends it.
    pub fn send_in_transaction(
        &self,
        records: &[Record],
        end: fn(&ThreadedProducer<Failures>, Duration) -> Result<(), KafkaError>,
    ) {
        let producer = self.producer(&[("transactional.id", &self.topic)]);
        // A broker that was just started has yet to load who runs which transaction.
        wait_until("an id for transactions", || {
            producer.init_transactions(KAFKA_TIMEOUT).is_ok()
        });
        producer.begin_transaction().expect("a transaction");
        self.send_with(&producer, records);
        end(&producer, KAFKA_TIMEOUT).expect("its end");
    }

    /// Sends records through a producer with settings of its own.
    pub fn send_packed(&self, records: &[Record], settings: &[(&str, &str)]) {
        self.send_with(&self.producer(settings), records);
    }

    fn producer(&self, settings: &[(&str, &str)]) -> ThreadedProducer<Failures> {
        let mut config = self.client();
        config
            .set("partitioner", "murmur2_random")
            .set("enable.idempotence", "true")
            .set("max.in.flight", "1");
        for (name, value) in settings {
            config.set(*name, *value);
        }
        config
            .create_with_context(Failures::default())
            .expect("a producer")
    }

    fn send_with(&self, producer: &ThreadedProducer<Failures>, records: &[Record]) {
        self.send_placed(producer, records, None);
    }

    fn send_placed(
        &self,
        producer: &ThreadedProducer<Failures>,
        records: &[Record],
        partition: Option<i32>,
    ) {
        for record in records {
            let mut send: BaseRecord<'_, Vec<u8>, Vec<u8>> = BaseRecord::to(&self.topic);
            send.partition = partition;
            send.key = record.key.as_ref();
            send.payload = record.payload.as_ref();
            send.timestamp = record.timestamp;
            if !record.headers.is_empty() {
                let headers =
                    record
                        .headers
                        .iter()
                        .fold(OwnedHeaders::new(), |all, (key, value)| {
                            all.insert(Header {
                                key,
                                value: value.as_ref(),
                            })
                        });
                send = send.headers(headers);
            }
            producer
                .send(send)
                .map_err(|(error, _)| error)
                .expect("a record is queued");
        }
        producer.flush(KAFKA_TIMEOUT).expect("Kafka acknowledges");
        let failures = producer.context().0.lock().expect("no panic").clone();
        assert!(failures.is_empty(), "{failures:?}");
    }

    // Processes

    /// `adflux` with this world's topic, group and database.
    pub fn command(&self, subcommand: &str, args: &[&str]) -> Command {
        let mut command = process::command();
        command
            .arg(subcommand)
            .args(args)
            .env("KAFKA_BROKERS", &self.brokers)
            .env("ADFLUX_TOPIC", &self.topic)
            .env("ADFLUX_GROUP", &self.group)
            .env("DATABASE_URL", &self.database_url)
            // One that was killed is not waited for as long as where brokers fail.
            .env("ADFLUX_SESSION_TIMEOUT", "6s");
        command
    }

    /// Starts `adflux simulate`.
    pub fn start_simulate(&self, args: &[&str]) -> Process {
        Process::start(&mut self.command("simulate", args))
    }

    /// Runs `adflux simulate` to its end.
    pub fn simulate(&self, args: &[&str]) -> Ledger {
        self.start_simulate(args).ledger()
    }

    /// Starts `adflux process`.
    pub fn start_process(&self, args: &[&str]) -> Process {
        Process::start(&mut self.command("process", args))
    }

    /// Runs `adflux process --until-end`.
    pub fn process_until_end(&self, args: &[&str]) -> Ended {
        let args: Vec<&str> = ["--until-end"].iter().chain(args).copied().collect();
        self.start_process(&args).end()
    }

    // PostgreSQL

    /// The name of this world's database.
    pub fn database(&self) -> &str {
        &self.database
    }

    /// A connection to the server's own database.
    pub fn server(&self) -> PgConnection {
        PgConnection::establish(&self.server_url).expect("PostgreSQL answers")
    }

    /// A connection to this world's database.
    pub fn connect(&self) -> PgConnection {
        PgConnection::establish(&self.database_url).expect("PostgreSQL answers")
    }

    /// The number that `sql` asks for.
    pub fn number(&self, sql: &str) -> i64 {
        #[derive(QueryableByName)]
        struct Number {
            #[diesel(sql_type = BigInt)]
            n: i64,
        }
        let sql = format!("SELECT ({sql})::bigint AS n");
        let row: Number = sql_query(&sql)
            .get_result(&mut self.connect())
            .unwrap_or_else(|e| panic!("{sql}: {e}"));
        row.n
    }

    /// Records counted so far, whatever became of them. None before the schema is there.
    pub fn counted(&self) -> i64 {
        match PgConnection::establish(&self.database_url) {
            Ok(mut connection) => {
                sql_query("SELECT sum(records)::bigint AS n FROM stream_positions")
                    .get_result::<MaybeNumber>(&mut connection)
                    .ok()
                    .and_then(|row| row.n)
                    .unwrap_or(0)
            }
            Err(_) => 0,
        }
    }

    /// Waits until so many records were counted.
    pub fn wait_until_counted(&self, records: i64) {
        wait_until(&format!("{records} records are counted"), || {
            self.counted() >= records
        });
    }

    /// Waits until everything on the topic was counted.
    pub fn wait_until_all_counted(&self) {
        let ends = self.log_ends();
        wait_until("all records are counted", || self.positions() == ends);
    }

    /// The stored position of every partition.
    pub fn positions(&self) -> BTreeMap<i32, i64> {
        self.by_partition("next_offset")
    }

    /// The process each partition was last assigned to.
    pub fn owners(&self) -> BTreeMap<i32, u32> {
        self.by_partition("split_part(owner, ':', 2)::bigint")
            .into_iter()
            .map(|(partition, pid)| (partition, u32::try_from(pid).expect("a pid")))
            .collect()
    }

    /// The epoch of every partition's owner.
    pub fn epochs(&self) -> BTreeMap<i32, i64> {
        self.by_partition("epoch")
    }

    /// Waits until `process` has `share` of the partitions.
    pub fn wait_until_owner(&self, process: &Process, share: impl Fn(usize) -> bool) {
        wait_until("partitions move", || {
            let owners = self.owners();
            share(owners.values().filter(|pid| **pid == process.pid()).count())
        });
    }

    fn by_partition(&self, expression: &str) -> BTreeMap<i32, i64> {
        #[derive(QueryableByName)]
        struct Row {
            #[diesel(sql_type = Integer)]
            partition: i32,
            #[diesel(sql_type = BigInt)]
            value: i64,
        }
        let rows: Vec<Row> = sql_query(format!(
            "SELECT partition, {expression} AS value FROM stream_positions"
        ))
        .load(&mut self.connect())
        .expect("PostgreSQL answers");
        rows.into_iter().map(|r| (r.partition, r.value)).collect()
    }

    /// The sums over `rows`, a table or view with the columns of an event, where `events` counts.
    fn totals(&self, rows: &str, events: &str) -> Totals {
        #[derive(QueryableByName)]
        struct Row {
            #[diesel(sql_type = BigInt)]
            events: i64,
            #[diesel(sql_type = BigInt)]
            impressions: i64,
            #[diesel(sql_type = BigInt)]
            clicks: i64,
            #[diesel(sql_type = BigInt)]
            conversions: i64,
            #[diesel(sql_type = BigInt)]
            cost_micros: i64,
            #[diesel(sql_type = BigInt)]
            revenue_micros: i64,
        }
        let sum = |column| format!("coalesce(sum({column}), 0)::bigint AS {column}");
        let row: Row = sql_query(format!(
            "SELECT coalesce({events}, 0)::bigint AS events, {}, {}, {}, {}, {} FROM {rows}",
            sum("impressions"),
            sum("clicks"),
            "coalesce(sum(conversions) * 1000000, 0)::bigint AS conversions",
            sum("cost_micros"),
            sum("revenue_micros"),
        ))
        .get_result(&mut self.connect())
        .expect("PostgreSQL answers");
        Totals {
            events: Count::new(row.events),
            counts: Counts::of([
                row.impressions,
                row.clicks,
                row.conversions,
                row.cost_micros,
                row.revenue_micros,
            ]),
        }
    }

    /// Prints who has come how far, for the reader of a failed test.
    fn say_how_far(&self) {
        #[derive(Debug, QueryableByName)]
        struct Row {
            #[diesel(sql_type = Text)]
            text: String,
        }
        if let Ok(mut connection) = PgConnection::establish(&self.database_url) {
            let rows: Vec<Row> = sql_query(
                "SELECT concat_ws(' ', 'partition', partition, 'epoch', epoch, 'owner', owner, 'next', next_offset, \
                     'at', committed_at) AS text FROM stream_positions ORDER BY partition",
            )
            .load(&mut connection)
            .unwrap_or_default();
            eprintln!("--- positions in {}:", self.database);
            rows.iter().for_each(|row| eprintln!("{}", row.text));
        }
        if let Ok(metadata) = self
            .consumer()
            .fetch_metadata(Some(&self.topic), KAFKA_TIMEOUT)
            && metadata.topics().iter().any(|t| t.error().is_none())
        {
            eprintln!("--- ends: {:?}", self.log_ends());
        }
    }

    /// The sums over everything counted so far.
    pub fn totals_counted(&self) -> Totals {
        self.totals("metrics_total", "sum(events)")
    }

    /// Fails unless this is what was counted, in each table that has it.
    pub fn assert_totals(&self, expected: Totals) {
        for (rows, events) in [
            ("ad_events", "count(*)"),
            ("metrics_by_minute", "sum(events)"),
            ("metrics_by_hour", "sum(events)"),
            ("metrics_by_day", "sum(events)"),
            ("metrics_total", "sum(events)"),
        ] {
            assert_eq!(self.totals(rows, events), expected, "{rows}");
        }
        assert_eq!(
            self.number(
                "SELECT count(DISTINCT (event_id, event_time, observed_at)) FROM ad_events"
            ),
            expected.events.get(),
            "an event is in the store twice"
        );
    }

    /// The dead letters that fit, whole.
    pub fn letters(&self, filter: &Filter) -> Vec<dead_letters::Row> {
        let mut connection = self.connect();
        let now = adflux::store::clock(&mut connection).expect("PostgreSQL answers");
        let mut letters: Vec<dead_letters::Row> = Vec::new();
        loop {
            let after = letters
                .last()
                .map_or((0, adflux::offset::Offset::BEFORE_ALL), |l| {
                    (l.stream_id, l.offset)
                });
            let page = dead_letters::page(&mut connection, filter, after, now);
            let page = page.expect("PostgreSQL answers");
            if page.is_empty() {
                return letters;
            }
            letters.extend(page);
        }
    }

    /// Dead letters by reason.
    pub fn dead_letters(&self) -> BTreeMap<String, i64> {
        let all = Filter::everything();
        dead_letters::count_by_reason(&mut self.connect(), &all)
            .expect("PostgreSQL answers")
            .into_iter()
            .map(|(reason, letters)| (reason, letters.get()))
            .collect()
    }

    /// Fails unless every record of the topic was counted, exactly once and as the ledger says,
    /// to the end of the log.
    pub fn assert_counted(&self, ledger: &Ledger) {
        let sum = |column| self.number(&format!("SELECT sum({column}) FROM stream_positions"));
        let counted = Ledger {
            records: sum("records"),
            duplicates: sum("duplicates"),
            dead: self.dead_letters(),
            totals: self.totals_counted(),
        };
        assert_eq!(&counted, ledger, "what was counted, and what was sent");
        self.assert_totals(ledger.totals);
        assert_eq!(sum("events"), ledger.totals.events.get());
        assert_eq!(sum("dead_letters"), ledger.dead.values().sum::<i64>());
        self.assert_every_record_once();
        assert_eq!(self.positions(), self.log_ends());
        Process::start(&mut self.command("verify", &[]))
            .end()
            .success();
    }

    /// Fails if an offset was stored twice, or one was skipped. (Our topics have no gaps.)
    pub fn assert_every_record_once(&self) {
        assert_eq!(
            self.number(
                "SELECT count(*) FROM stream_positions WHERE records <> next_offset - start_offset"
            ),
            0,
            "records were skipped"
        );
        assert_eq!(
            self.number(
                "SELECT count(*) - count(DISTINCT (partition, \"offset\")) FROM (SELECT partition, \"offset\" FROM ad_events \
                 UNION ALL SELECT partition, \"offset\" FROM dead_letters JOIN stream_positions USING (stream_id)) AS r"
            ),
            0,
            "an offset was stored twice"
        );
    }
}

impl Drop for World {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.say_how_far();
        }
        // Leftovers are a nuisance, not a failure, and a test may be failing already.
        match PgConnection::establish(&self.server_url) {
            Ok(mut server) => {
                let drop = format!("DROP DATABASE IF EXISTS {} WITH (FORCE)", self.database);
                if let Err(error) = server.batch_execute(&drop) {
                    eprintln!("{} remains: {error}", self.database);
                }
            }
            Err(error) => eprintln!("{} remains: {error}", self.database),
        }
        // Where a test has a broker of its own, that goes by itself, and nothing is found here.
        self.brokers = required("KAFKA_BROKERS");
        let admin: Result<AdminClient<DefaultClientContext>, _> = self.client().create();
        let runtime = tokio::runtime::Builder::new_current_thread().build();
        if let (Ok(admin), Ok(runtime)) = (admin, runtime) {
            let options = AdminOptions::new().operation_timeout(Some(KAFKA_TIMEOUT));
            // Whether they were there at all is all the same. The topic of several worlds is the first's.
            if self.of_range.is_empty() {
                let topics = [self.topic.as_str(), &self.dlq_topic()];
                let _ = runtime.block_on(admin.delete_topics(&topics, &options));
            }
            let _ = runtime.block_on(admin.delete_groups(&[&self.consumer_group()], &options));
        }
    }
}

#[derive(QueryableByName)]
struct MaybeNumber {
    #[diesel(sql_type = Nullable<BigInt>)]
    n: Option<i64>,
}

/// Records that were not delivered, and why.
#[derive(Default)]
pub struct Failures(Mutex<Vec<KafkaError>>);

impl ClientContext for Failures {}

impl ProducerContext for Failures {
    type DeliveryOpaque = ();

    fn delivery(&self, result: &DeliveryResult<'_>, (): ()) {
        if let Err((error, _)) = result {
            self.0.lock().expect("no panic").push(error.clone());
        }
    }
}

fn offsets_of(topic: &str, offsets: &BTreeMap<i32, i64>) -> TopicPartitionList {
    let mut list = TopicPartitionList::new();
    for (&partition, &offset) in offsets {
        list.add_partition_offset(topic, partition, Offset::Offset(offset))
            .expect("a valid offset");
    }
    list
}

/// The same server with another database.
pub fn with_database(url: &str, database: &str) -> String {
    let (server, query) = match url.split_once('?') {
        Some((server, query)) => (server, format!("?{query}")),
        None => (url, String::new()),
    };
    let (base, _) = server
        .rsplit_once('/')
        .expect("DATABASE_URL names a database");
    format!("{base}/{database}{query}")
}
