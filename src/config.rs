//! Every setting: its flag, its environment variable, its default and its unit.
//!
//! A setting stands here once; the subcommands share the groups they need.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use chrono::{DateTime, Utc};
use chrono_tz::Tz;
use clap::builder::BoolishValueParser;
use clap::error::ErrorKind;
use clap::{ArgMatches, Args, Command, FromArgMatches};

use crate::alerts::overdue::Overdue;
use crate::api::{HostName, Network, Origin, PublicUrl, TrustedProxies};
use crate::cache::servers::{BadSetting, Servers};
use crate::cache::tls::TlsFiles;
use crate::codec::SchemaIds;
use crate::currency::Currency;
use crate::expected::provisional::ProvisionalDays;
use crate::import::originals::Originals;
use crate::kafka::security::{self, Mechanism, Security};
use crate::kafka::{Cluster, Properties, topic};
use crate::reports::facts::Options;
use crate::reports::map;
use crate::reports::number::Decimal;
use crate::simulate::{self, Rate};
use crate::simulator::reports::{self, Form};
use crate::simulator::{self, Faults};
use crate::time::{Timestamp, instant};
use crate::{alerts, api, memory, processor};

mod environment;
mod registry;
mod shards;
mod values;

use environment::secret;
pub use environment::{with_secrets_from_files, without_empty_variables};
pub use registry::{FramingArgs, RegistryArgs, SchemaArgs, SubjectArgs};
pub use shards::ShardsArgs;
use values::{
    PropertiesParser, backfill, body_size, database_url, share, topic_name, writer_schema,
};
pub use values::{bound, duration};

/// Where Kafka is.
#[derive(Args, Clone)]
pub struct KafkaArgs {
    /// Kafka or Redpanda brokers, host:port, separated by commas
    #[arg(long, env = "KAFKA_BROKERS", default_value = "localhost:9092")]
    pub brokers: String,
    /// Topic of the events
    #[arg(long, env = "ADFLUX_TOPIC", default_value = "ad-events", value_parser = topic_name)]
    pub topic: String,
    #[command(flatten)]
    pub client: ClientArgs,
}

/// Where Kafka is, for a server that takes in events and reports.
#[derive(Args, Clone)]
pub struct IntakeArgs {
    /// Kafka or Redpanda brokers, host:port, separated by commas, to which events and reports go that are sent to the API
    /// (default: none are taken in)
    #[arg(long, env = "KAFKA_BROKERS")]
    pub brokers: Option<String>,
    #[command(flatten)]
    pub client: ClientArgs,
    /// Where files are kept that are sent to the API: as `adflux import` keeps them (default: they are not kept)
    #[arg(long, env = "ADFLUX_ORIGINALS", value_name = Originals::PLACES, value_parser = Originals::from_flag)]
    pub originals: Option<Originals>,
}

impl IntakeArgs {
    /// The brokers, if there are any.
    pub fn brokers(&self) -> Option<api::Brokers> {
        let brokers = self.brokers.as_ref()?;
        Some(api::Brokers {
            cluster: self.client.cluster(brokers),
            cluster_id: None,
        })
    }
}

/// How Kafka is spoken to: librdkafka's properties. What the settings contradict each other in is said as what is wrong with a
/// flag is.
#[derive(Clone, Default)]
pub struct ClientArgs {
    pub properties: Vec<(String, String)>,
}

/// The settings of which those properties are made.
#[derive(Args)]
struct ClientFlags {
    /// What protects connections to Kafka: plaintext, tls, sasl-plaintext or sasl-tls (default: plaintext)
    #[arg(long, env = "KAFKA_SECURITY", value_name = "PROTOCOL")]
    kafka_security: Option<Security>,
    /// How to log in to Kafka: plain, scram-sha-256, scram-sha-512, oauthbearer or gssapi
    #[arg(long, env = "KAFKA_MECHANISM", value_name = "MECHANISM")]
    kafka_mechanism: Option<Mechanism>,
    /// User of Kafka, or the client's id of oauthbearer. Its password or secret is in KAFKA_PASSWORD, or in a file that
    /// KAFKA_PASSWORD_FILE names
    #[arg(long, env = "KAFKA_USERNAME", value_name = "NAME")]
    kafka_username: Option<String>,
    /// Certificates (PEM) of who may vouch for the brokers (default: those of this system)
    #[arg(long, env = "KAFKA_CA_FILE", value_name = "FILE")]
    kafka_ca_file: Option<PathBuf>,
    /// Certificate (PEM) to show to the brokers
    #[arg(long, env = "KAFKA_CERTIFICATE_FILE", value_name = "FILE")]
    kafka_certificate_file: Option<PathBuf>,
    /// Its private key (PEM). If that is encrypted, its password is in KAFKA_KEY_PASSWORD, or in a file that
    /// KAFKA_KEY_PASSWORD_FILE names
    #[arg(long, env = "KAFKA_KEY_FILE", value_name = "FILE")]
    kafka_key_file: Option<PathBuf>,
    /// Where oauthbearer gets its token, by OpenID Connect with the client's id and secret
    #[arg(long, env = "KAFKA_TOKEN_URL", value_name = "URL")]
    kafka_token_url: Option<String>,
    /// What the token is to be good for
    #[arg(long, env = "KAFKA_TOKEN_SCOPE", value_name = "SCOPE")]
    kafka_token_scope: Option<String>,
    /// Any other librdkafka property, key=value; repeat the flag for more.
    /// In the environment, separate them with semicolons. Write one that is part of a value as \;
    #[arg(long = "kafka-property", env = "ADFLUX_KAFKA_PROPERTIES", value_name = "KEY=VALUE",
          value_parser = PropertiesParser, hide_env_values = true)]
    properties: Vec<Properties>,
}

impl ClientFlags {
    fn properties(self) -> Result<Vec<(String, String)>, String> {
        let settings = security::Settings {
            security: self.kafka_security,
            mechanism: self.kafka_mechanism,
            username: self.kafka_username,
            password: secret("KAFKA_PASSWORD")?,
            ca_file: self.kafka_ca_file,
            certificate_file: self.kafka_certificate_file,
            key_file: self.kafka_key_file,
            key_password: secret("KAFKA_KEY_PASSWORD")?,
            token_url: self.kafka_token_url,
            token_scope: self.kafka_token_scope,
        };
        settings.properties(self.properties.into_iter().flat_map(|p| p.0).collect())
    }
}

impl FromArgMatches for ClientArgs {
    fn from_arg_matches(matches: &ArgMatches) -> Result<ClientArgs, clap::Error> {
        let flags = ClientFlags::from_arg_matches(matches)?;
        let properties = flags.properties().map_err(|why| {
            clap::Error::raw(ErrorKind::ValueValidation, format!("{}\n", why.trim_end()))
        })?;
        Ok(ClientArgs { properties })
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        *self = ClientArgs::from_arg_matches(matches)?;
        Ok(())
    }
}

impl Args for ClientArgs {
    fn augment_args(command: Command) -> Command {
        ClientFlags::augment_args(command)
    }

    fn augment_args_for_update(command: Command) -> Command {
        ClientFlags::augment_args_for_update(command)
    }
}

impl KafkaArgs {
    /// The cluster these describe.
    pub fn cluster(&self) -> Cluster {
        self.client.cluster(&self.brokers)
    }
}

impl ClientArgs {
    fn cluster(&self, brokers: &str) -> Cluster {
        Cluster {
            brokers: brokers.to_owned(),
            properties: self.properties.clone(),
        }
    }
}

/// What reports of platforms may not say of themselves.
#[derive(Args, Clone)]
pub struct ReportArgs {
    /// The platform's id of the account, where the file does not say it
    #[arg(long, value_name = "ID")]
    pub account: Option<String>,
    /// Time zone of the account, in which its days are: Europe/Berlin
    #[arg(long, value_name = "ZONE", value_parser = map::zone)]
    pub time_zone: Option<Tz>,
    /// Currency of the account, where the file does not say it: EUR
    #[arg(long, value_name = "CODE", value_parser = Currency::from_flag)]
    pub currency: Option<Currency>,
    /// When the platform was asked (RFC 3339), where the file does not say it
    #[arg(long, value_name = "TIME", value_parser = instant)]
    pub observed_at: Option<DateTime<Utc>>,
    /// Tell campaigns by their names where the file has no ids; another name is another campaign then
    #[arg(long)]
    pub id_from_name: bool,
    /// What stands before the fraction of numbers, . or , (default: as the file's numbers show)
    #[arg(long, value_name = ". | ,", value_parser = Decimal::from_flag)]
    pub decimal: Option<Decimal>,
    /// The platform's own name of the column or action that counts as a conversion: Purchases, purchase
    #[arg(long, value_name = "NAME")]
    pub conversions: Option<String>,
    /// The platform's own name of the column or action whose value is revenue
    #[arg(long, value_name = "NAME")]
    pub revenue: Option<String>,
    /// A TOML file that says what the columns of an unknown file are
    #[arg(long, value_name = "FILE", value_parser = map::Map::from_flag)]
    pub map: Option<map::Map>,
}

impl ReportArgs {
    /// What these say.
    pub fn options(&self) -> Options {
        Options {
            account: self.account.clone(),
            zone: self.time_zone,
            currency: self.currency,
            observed_at: self.observed_at,
            id_from_name: self.id_from_name,
            decimal: self.decimal,
            conversions: self.conversions.clone(),
            revenue: self.revenue.clone(),
            map: self.map.clone(),
            remembered: None,
        }
    }
}

/// Where imported files are kept.
#[derive(Args, Clone)]
pub struct OriginalsArgs {
    /// Where the files themselves are kept: postgres (in the database), a folder, a bucket of S3 (AWS_ACCESS_KEY_ID,
    /// AWS_SECRET_ACCESS_KEY, AWS_REGION, AWS_ENDPOINT), or off
    #[arg(long, env = "ADFLUX_ORIGINALS", default_value = "postgres", value_name = Originals::PLACES,
          value_parser = Originals::from_flag)]
    pub originals: Originals,
}

/// Where PostgreSQL is.
#[derive(Args, Clone)]
pub struct DatabaseArgs {
    /// URL of PostgreSQL, with user, password and database; libpq's keywords (host=db dbname=campaigns) and environment
    /// (PGPASSFILE, PGSSLROOTCERT) mean the same as for psql
    #[arg(
        long,
        env = "DATABASE_URL",
        hide_env_values = true,
        value_parser = database_url,
        default_value = "postgres://adflux:adflux@localhost:5432/campaigns"
    )]
    pub database_url: String,
}

/// Who brings the schema up to date.
#[derive(Args, Clone, Copy)]
pub struct MigrationArgs {
    /// Never change the database's schema; if it is not up to date, say what to run and stop
    #[arg(long, env = "ADFLUX_NO_MIGRATE", value_parser = BoolishValueParser::new())]
    pub no_migrate: bool,
}

/// Where Redis is, and how it is spoken to.
#[derive(Args, Clone)]
pub struct RedisArgs {
    /// URL of Redis, of its Sentinels or of its Cluster, which lets several servers share insights (default: each process
    /// caches on its own)
    #[arg(long, env = "REDIS_URL", hide_env_values = true)]
    pub redis_url: Option<String>,
    /// Authorities that vouch for Redis with TLS, in PEM (default: those of the system)
    #[arg(long, env = "REDIS_CA_FILE", value_name = "FILE")]
    pub redis_ca_file: Option<PathBuf>,
    /// Certificate with which adflux says to Redis who it is, in PEM
    #[arg(long, env = "REDIS_CERTIFICATE_FILE", value_name = "FILE")]
    pub redis_certificate_file: Option<PathBuf>,
    /// Its private key, in PEM
    #[arg(long, env = "REDIS_KEY_FILE", value_name = "FILE")]
    pub redis_key_file: Option<PathBuf>,
}

impl RedisArgs {
    /// The servers, if there are any.
    ///
    /// # Errors
    /// When the URL or a file cannot be used.
    pub fn servers(&self) -> Result<Option<Servers>, BadSetting> {
        let files = TlsFiles {
            authorities: self.redis_ca_file.clone(),
            certificate: self.redis_certificate_file.clone(),
            key: self.redis_key_file.clone(),
        };
        let url = self.redis_url.as_deref();
        url.map(|url| Servers::open(url, &files)).transpose()
    }
}

/// How `process` works.
#[derive(Args, Clone)]
pub struct ProcessArgs {
    /// Consumer group
    #[arg(long, env = "ADFLUX_GROUP", default_value = "adflux")]
    pub group: String,
    /// Most records that may wait to be written
    #[arg(long, env = "ADFLUX_BATCH_RECORDS", default_value_t = 200_000, value_parser = clap::value_parser!(u32).range(1..=5_000_000))]
    pub batch_records: u32,
    /// Memory that the process may use, such as 512MB (default: the limit of its control group, or what the machine has)
    #[arg(long, env = "ADFLUX_MEMORY", value_parser = memory::size)]
    pub memory: Option<u64>,
    /// Transactions at a time; each writes some of the partitions
    #[arg(long, env = "ADFLUX_TRANSACTIONS", default_value_t = 2, value_parser = clap::value_parser!(u16).range(1..=64))]
    pub transactions: u16,
    /// How long a batch waits for more records when it could be written at once: fewer transactions, older answers
    #[arg(long, env = "ADFLUX_LINGER", default_value = "0ms", value_parser = duration)]
    pub linger: Duration,
    /// Recent events kept in memory to recognise duplicates, over all partitions (about 40 bytes each)
    #[arg(long, env = "ADFLUX_RECENT_EVENTS", default_value_t = 800_000, value_parser = clap::value_parser!(u32).range(1..=100_000_000))]
    pub recent_events: u32,
    /// Stop when more than this share of the last 10,000 records cannot be counted (0 to 1; 1 never stops)
    #[arg(long, env = "ADFLUX_MAX_BAD_SHARE", default_value = "0.5", value_parser = share)]
    pub max_bad_share: f64,
    /// Halt when the database has refused a batch for this long that it must take
    #[arg(long, env = "ADFLUX_HALT_AFTER", default_value = "60s", value_parser = duration)]
    pub halt_after: Duration,
    /// A partition that waits for this long, for whatever reason, stands still: an error in the log, and not ready
    #[arg(long, env = "ADFLUX_STANDSTILL_AFTER", default_value = "60s", value_parser = duration)]
    pub standstill_after: Duration,
    /// After this long without a heartbeat, a processor loses its partitions to the others
    #[arg(long, env = "ADFLUX_SESSION_TIMEOUT", default_value = "15s", value_parser = duration)]
    pub session_timeout: Duration,
    /// TOML file of alert rules, read at start (default: only the rules made through the API)
    #[arg(long, env = "ADFLUX_ALERT_RULES", value_name = "FILE")]
    pub alert_rules: Option<PathBuf>,
    /// Call webhooks whose name leads to an address of a private network, or of this machine
    #[arg(long, env = "ADFLUX_PRIVATE_WEBHOOKS", value_parser = BoolishValueParser::new())]
    pub private_webhooks: bool,
    /// An account whose newest report is older than this opens an alert, such as 36h; or 'off'
    #[arg(
        long,
        env = "ADFLUX_REPORTS_OVERDUE",
        value_name = "TIME",
        default_value_t
    )]
    pub reports_overdue: Overdue,
    /// If retention has deleted records before they were counted, continue from the oldest one left
    #[arg(long)]
    pub accept_loss: bool,
    #[command(flatten)]
    pub writers: WriterArgs,
    /// Topic to publish dead letters to, or 'off' (default: TOPIC.dlq)
    #[arg(long, env = "ADFLUX_DLQ_TOPIC", value_name = "NAME", value_parser = topic_name)]
    pub dlq_topic: Option<String>,
}

/// Schemas other than ours.
#[derive(Args, Clone)]
pub struct WriterArgs {
    /// Schema of another writer, ID=FILE, of records named AdEvent or ReportRow; repeat the flag for more
    #[arg(long = "writer-schema", env = "ADFLUX_WRITER_SCHEMAS", value_name = "ID=FILE", value_delimiter = ';', value_parser = writer_schema)]
    pub writer_schemas: Vec<(u32, PathBuf)>,
}

impl ProcessArgs {
    /// The processor's settings.
    ///
    /// # Errors
    /// When the schema registry is not given as it must be.
    pub fn settings(
        &self,
        kafka: &KafkaArgs,
        database: &DatabaseArgs,
        schema: SchemaArgs,
        registry: &RegistryArgs,
    ) -> anyhow::Result<processor::Settings> {
        let schema_registry = registry.settings()?;
        Ok(processor::Settings {
            cluster: kafka.cluster(),
            topic: kafka.topic.clone(),
            group: self.group.clone(),
            shard: None,
            database_url: database.database_url.clone(),
            batch_events: self.batch_records as usize,
            memory: self.memory.unwrap_or_else(memory::allowed),
            transactions: usize::from(self.transactions),
            linger: self.linger,
            recent_events: self.recent_events as usize,
            max_bad_share: self.max_bad_share,
            halt_after: self.halt_after,
            standstill_after: self.standstill_after,
            session_timeout: self.session_timeout,
            until_end: false,
            accept_loss: self.accept_loss,
            schema_ids: schema.known(schema_registry.as_ref()),
            writer_schemas: self.writers.writer_schemas.clone(),
            schema_registry,
            dlq_topic: match self.dlq_topic.as_deref() {
                Some("off") => None,
                Some(name) => Some(name.to_owned()),
                None => Some(format!("{}.dlq", kafka.topic)),
            },
            cluster_id: None,
        })
    }

    /// Its alerts.
    ///
    /// # Errors
    /// When the file of rules is not as it must be, or a secret it names is not set.
    pub fn alerts(&self, restating: RestatingArgs) -> anyhow::Result<alerts::Settings> {
        Ok(alerts::Settings {
            private_webhooks: self.private_webhooks,
            provisional_days: restating.provisional_days,
            reports_overdue: self.reports_overdue,
            ..alerts::Settings::read(self.alert_rules.as_deref())?
        })
    }
}

/// One event every two seconds.
const DEFAULT_RATE: f64 = 0.5;
/// Campaigns of the stream.
const DEFAULT_CAMPAIGNS: u32 = 100;
/// Campaigns of each account of which files are written.
const DEFAULT_CAMPAIGNS_OF_ACCOUNT: u32 = 8;

/// What `simulate` sends.
#[derive(Args, Clone)]
pub struct SimulateArgs {
    /// Events a second, or 'max' (default: 0.5; in the demo 1)
    #[arg(long, env = "ADFLUX_RATE")]
    pub rate: Option<Rate>,
    /// Records to send (default: until stopped)
    #[arg(long)]
    pub count: Option<u64>,
    /// Campaigns, named cmp-0, cmp-1, ... (default: 100; with simulate --reports, 8 of each account)
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=10_000_000))]
    pub campaigns: Option<u32>,
    /// Seed of the simulation: the same seed and event times give the same bytes
    #[arg(long, default_value_t = 7)]
    pub seed: u64,
    /// History to send first if the topic is empty, such as 7d (default: none; in the demo 7d)
    #[arg(long, env = "ADFLUX_BACKFILL", value_parser = backfill)]
    pub backfill: Option<Duration>,
    /// Event time of the first record (RFC 3339); the rest follow at the pace of --rate, or a
    /// millisecond apart at 'max' (default: an event happens when it is sent). With simulate --reports: the first
    /// day (default: 2026-01-01)
    #[arg(long, value_name = "TIME", value_parser = bound)]
    pub start: Option<Timestamp>,
    /// Share of records that are sent twice, for example 1% or 0.01
    #[arg(long, default_value = "0", value_parser = share)]
    pub duplicates: f64,
    /// Share of events that arrive late, by 1 s to 2 h
    #[arg(long, default_value = "0", value_parser = share)]
    pub late: f64,
    /// Share of records that are malformed
    #[arg(long, default_value = "0", value_parser = share)]
    pub malformed: f64,
    /// Partitions of the topic, if it has to be created
    #[arg(long, env = "ADFLUX_PARTITIONS", default_value_t = 4, value_parser = clap::value_parser!(i32).range(1..=10_000))]
    pub partitions: i32,
    /// Replicas of each partition, if the topic has to be created (default: as many as the cluster gives by itself)
    #[arg(long, env = "ADFLUX_REPLICATION", value_parser = clap::value_parser!(i32).range(1..=100))]
    pub replication: Option<i32>,
}

impl SimulateArgs {
    /// The settings of the simulation.
    pub fn settings(&self, kafka: &KafkaArgs, ids: SchemaIds) -> simulate::Settings {
        simulate::Settings {
            cluster: kafka.cluster(),
            topic: kafka.topic.clone(),
            partitions: self.partitions,
            replication: self.replication.unwrap_or(topic::OF_THE_CLUSTER),
            simulator: simulator::Settings {
                seed: self.seed,
                campaigns: self.campaigns.unwrap_or(DEFAULT_CAMPAIGNS),
                faults: Faults {
                    duplicates: self.duplicates,
                    late: self.late,
                    malformed: self.malformed,
                },
                schema_id: ids.event,
            },
            rate: self.rate.unwrap_or(Rate::PerSecond(DEFAULT_RATE)),
            count: self.count,
            backfill: self.backfill.unwrap_or_default(),
            reports: None,
            start: self.start,
        }
    }
}

/// Files that `simulate` writes instead of sending events.
#[derive(Args, Clone)]
pub struct SimulatedReportsArgs {
    /// Send no events, but what platforms report: days, told again and again. As files such as platforms export, written into this
    /// folder, which must be empty, or as records; what is in them is in its ledger.json
    #[arg(long, value_name = "DIR", conflicts_with_all = ["count", "duplicates", "late", "malformed"])]
    pub reports: Option<PathBuf>,
    /// What the files look like: google-csv, google-excel, meta-csv, linkedin-csv, tiktok-csv, google-api, meta-api or
    /// tiktok-api; repeat the flag for more. Or records: report rows on the topic, of all platforms
    #[arg(
        long = "as",
        value_name = "FORM",
        value_delimiter = ',',
        default_value = "google-csv",
        requires = "reports"
    )]
    pub forms: Vec<As>,
    /// Accounts of each platform
    #[arg(long, default_value_t = 4, requires = "reports", value_parser = clap::value_parser!(u32).range(1..=1_000))]
    pub accounts: u32,
    /// Days in each export
    #[arg(long, default_value_t = 60, requires = "reports", value_parser = clap::value_parser!(u32).range(1..=3_660))]
    pub days: u32,
    /// Exports of each account
    #[arg(long, default_value_t = 4, requires = "reports", value_parser = clap::value_parser!(u32).range(1..=1_000))]
    pub exports: u32,
    /// Days from one export to the next
    #[arg(long, value_name = "DAYS", default_value_t = 7, requires = "reports", value_parser = clap::value_parser!(u32).range(1..=366))]
    pub every: u32,
}

impl SimulatedReportsArgs {
    /// The folder and what to write into it or send, if that was asked for: without forms, records.
    ///
    /// # Errors
    /// When records are asked for together with files.
    pub fn settings(
        &self,
        simulate: &SimulateArgs,
    ) -> anyhow::Result<Option<(&Path, reports::Settings)>> {
        let Some(folder) = self.reports.as_deref() else {
            return Ok(None);
        };
        let form = |one: &As| match one {
            As::Records => None,
            As::Files(form) => Some(*form),
        };
        let forms: Vec<Form> = self.forms.iter().filter_map(form).collect();
        if forms.len() != self.forms.len() && !forms.is_empty() {
            anyhow::bail!("--as records goes alone: ask for the files by themselves");
        }
        let campaigns = simulate.campaigns.unwrap_or(DEFAULT_CAMPAIGNS_OF_ACCOUNT);
        let start = simulate.start.and_then(Timestamp::datetime);
        let settings = reports::Settings {
            seed: simulate.seed,
            forms,
            accounts: self.accounts,
            campaigns,
            days: self.days,
            start: start.map_or(reports::DEFAULT_START, |start| start.date_naive()),
            exports: self.exports,
            every: self.every,
        };
        Ok(Some((folder, settings)))
    }
}

/// How reports are given.
#[derive(Clone, Copy, Debug)]
pub enum As {
    Records,
    Files(Form),
}

impl std::str::FromStr for As {
    type Err = String;

    fn from_str(text: &str) -> Result<As, String> {
        if text == reports::RECORDS {
            return Ok(As::Records);
        }
        let form = text.parse().map(As::Files);
        form.map_err(|why: String| format!("{why}, {}", reports::RECORDS))
    }
}

/// Where `serve` listens.
#[derive(Args, Clone)]
pub struct ServeArgs {
    /// Address and port of the API
    #[arg(long, env = "ADFLUX_LISTEN", default_value = "127.0.0.1:8080")]
    pub listen: SocketAddr,
    #[command(flatten)]
    pub shards: ShardsArgs,
    /// Database connections of the API, to each database
    #[arg(long, env = "ADFLUX_API_CONNECTIONS", default_value_t = 8, value_parser = clap::value_parser!(u32).range(1..=1_000))]
    pub api_connections: u32,
    /// How long the process cache may answer without checking for newer commits
    #[arg(long, env = "ADFLUX_CACHE_FRESH", default_value = "50ms", value_parser = duration)]
    pub cache_fresh: Duration,
    /// Require an API key (see `adflux keys`)
    #[arg(long = "require-keys", env = "ADFLUX_REQUIRE_KEYS", value_parser = BoolishValueParser::new())]
    pub require_keys: bool,
    /// Requests a second allowed for one address; 0 means no limit
    #[arg(long, env = "ADFLUX_REQUESTS_PER_ADDRESS", default_value_t = api::Limits::default().requests_per_address)]
    pub requests_per_address: u32,
    /// Requests a second allowed for one API key; 0 means no limit
    #[arg(long, env = "ADFLUX_REQUESTS_PER_KEY", default_value_t = api::Limits::default().requests_per_key)]
    pub requests_per_key: u32,
    /// Most connections at a time; beyond that, those idle for longest are closed
    #[arg(long, env = "ADFLUX_MAX_CONNECTIONS", default_value_t = api::Limits::default().connections as u32, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub max_connections: u32,
    /// Most connections of one address at a time; 0 means no limit. Not applied to trusted proxies
    #[arg(long, env = "ADFLUX_MAX_CONNECTIONS_PER_ADDRESS", default_value_t = api::Limits::default().connections_per_address as u32)]
    pub max_connections_per_address: u32,
    /// How long a connection is kept open between two requests. Keep it above the idle timeout of a proxy in front
    #[arg(long, env = "ADFLUX_KEEP_ALIVE", default_value = "75s", value_parser = duration)]
    pub keep_alive: Duration,
    /// How long a client may take to receive an answer
    #[arg(long, env = "ADFLUX_DOWNLOAD_TIME", default_value = "5m", value_parser = duration)]
    pub download_time: Duration,
    /// Most live feeds at a time
    #[arg(long, env = "ADFLUX_MAX_LIVE", default_value_t = api::Limits::default().live as u32, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub max_live: u32,
    /// Most live feeds of one address at a time; 0 means no limit
    #[arg(long, env = "ADFLUX_MAX_LIVE_PER_ADDRESS", default_value_t = api::Limits::default().live_per_address as u32)]
    pub max_live_per_address: u32,
    /// Largest body of POST /events and POST /reports, such as 8MB
    #[arg(long, env = "ADFLUX_MAX_BODY", default_value = "8MB", value_parser = body_size)]
    pub max_body: u64,
    /// Origin allowed to call the API from a browser, scheme and host, or *; repeat the flag for more
    #[arg(
        long = "cors-origin",
        env = "ADFLUX_CORS_ORIGINS",
        value_name = "ORIGIN",
        value_delimiter = ';'
    )]
    pub cors_origins: Vec<Origin>,
    /// URL at which people find the API and the page through a proxy, such as <https://example.com/adflux>
    #[arg(long, env = "ADFLUX_PUBLIC_URL", value_name = "URL")]
    pub public_url: Option<PublicUrl>,
    /// Host names under which the API may be asked, besides localhost, IP addresses and that of --public-url, or *;
    /// repeat the flag for more
    #[arg(
        long = "allowed-hosts",
        env = "ADFLUX_ALLOWED_HOSTS",
        value_name = "NAME",
        value_delimiter = ';'
    )]
    pub allowed_hosts: Vec<HostName>,
    /// Take the client's address from X-Forwarded-For, as set by whoever connects; for ports that only a proxy reaches
    #[arg(long, env = "ADFLUX_TRUST_PROXY", value_parser = BoolishValueParser::new())]
    pub trust_proxy: bool,
    /// Take the client's address from X-Forwarded-For where a proxy with this address, or in this network, such as
    /// 10.0.1.0/24, has set it; repeat the flag for more
    #[arg(
        long = "trusted-proxy",
        env = "ADFLUX_TRUSTED_PROXIES",
        value_name = "NETWORK",
        value_delimiter = ';'
    )]
    pub trusted_proxies: Vec<Network>,
    /// How long, once told to end, to go on answering while /readyz says so, for balancers to notice
    #[arg(long, env = "ADFLUX_SHUTDOWN_DELAY", default_value = "0s", value_parser = duration)]
    pub shutdown_delay: Duration,
    #[command(flatten)]
    pub restating: RestatingArgs,
}

impl ServeArgs {
    /// How the API is served.
    pub fn api(&self) -> api::Settings {
        api::Settings {
            limits: api::Limits {
                connections: self.max_connections as usize,
                connections_per_address: self.max_connections_per_address as usize,
                keep_alive: self.keep_alive,
                download_time: self.download_time,
                shutdown_delay: self.shutdown_delay,
                live: self.max_live as usize,
                live_per_address: self.max_live_per_address as usize,
                requests_per_address: self.requests_per_address,
                requests_per_key: self.requests_per_key,
                body_bytes: self.max_body,
                ..api::Limits::default()
            },
            keys: self.require_keys,
            cors_origins: self.cors_origins.clone(),
            public_url: self.public_url.clone(),
            allowed_hosts: self.allowed_hosts.clone(),
            trusted_proxies: self.trusted_proxies(),
            provisional_days: self.restating.provisional_days,
        }
    }
}

impl ServeArgs {
    fn trusted_proxies(&self) -> TrustedProxies {
        if !self.trusted_proxies.is_empty() {
            TrustedProxies::In(self.trusted_proxies.clone())
        } else if self.trust_proxy {
            TrustedProxies::WhoeverConnects
        } else {
            TrustedProxies::None
        }
    }
}

/// How platforms restate days, for whatever tells days that are final from others.
#[derive(Args, Clone, Copy)]
pub struct RestatingArgs {
    /// For how many days after a day platforms restate it, 1 to 90, PLATFORM=DAYS separated by commas; 30 for those not named
    #[arg(long, env = "ADFLUX_PROVISIONAL_DAYS", value_name = "PLATFORM=DAYS", default_value_t = ProvisionalDays::default())]
    pub provisional_days: ProvisionalDays,
}

/// Where `process` and `simulate`, which serve nothing else, tell how they are.
#[derive(Args, Clone, Copy)]
pub struct MetricsArgs {
    /// Serve /livez, /readyz and /metrics on this address (default: not at all)
    #[arg(long, env = "ADFLUX_METRICS_LISTEN")]
    pub metrics_listen: Option<SocketAddr>,
}
