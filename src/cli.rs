//! The subcommands and their arguments. Those that several share are in [`adflux::config`].

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use adflux::config::{
    self, DatabaseArgs, FramingArgs, IntakeArgs, KafkaArgs, MetricsArgs, MigrationArgs,
    OriginalsArgs, ProcessArgs, RedisArgs, RegistryArgs, ReportArgs, RestatingArgs, SchemaArgs,
    ServeArgs, ShardsArgs, SimulateArgs, SimulatedReportsArgs, SubjectArgs, WriterArgs,
};
use adflux::currency::Currency;
use adflux::keys::Scope;
use adflux::shard::{self, Shard};
use adflux::store::keep::erase::Subject;
use adflux::store::read::dead_letters::Filter;
use adflux::store::sums::Grain;
use adflux::time::{Timestamp, instant};
use adflux::{dlq, erase, export, import};
use chrono::{DateTime, NaiveDate, Utc};
use clap::{Parser, Subcommand};

/// Real-time ad-campaign analytics: events through Kafka, counted exactly once into PostgreSQL,
/// served as insights.
#[derive(Parser)]
#[command(
    name = "adflux",
    version,
    max_term_width = 100,
    after_help = "RUST_LOG sets the log level, for example RUST_LOG=debug (default: info)."
)]
pub struct Cli {
    #[command(subcommand)]
    pub command: Command,
}

#[derive(Subcommand)]
pub enum Command {
    /// Try adflux: one process, with its own broker and database
    Demo {
        /// Keep the data in this folder (default: a temporary one that is removed)
        #[arg(long, value_name = "DIR")]
        data: Option<PathBuf>,
        /// Stop after this long
        #[arg(long = "for", value_name = "TIME", value_parser = config::duration)]
        length: Option<Duration>,
        /// Port of the demo's PostgreSQL
        #[arg(long, default_value_t = 15432)]
        postgres_port: u16,
        /// Topic of the events
        #[arg(long, default_value = "ad-events")]
        topic: String,
        #[command(flatten)]
        schema: SchemaArgs,
        #[command(flatten)]
        simulate: SimulateArgs,
        #[command(flatten)]
        process: ProcessArgs,
        #[command(flatten)]
        serve: ServeArgs,
    },
    /// Simulate, process and serve in one process, on real services
    Run {
        #[command(flatten)]
        kafka: KafkaArgs,
        #[command(flatten)]
        framing: FramingArgs,
        #[command(flatten)]
        database: DatabaseArgs,
        #[command(flatten)]
        migration: MigrationArgs,
        #[command(flatten)]
        redis: RedisArgs,
        #[command(flatten)]
        simulate: SimulateArgs,
        #[command(flatten)]
        process: ProcessArgs,
        #[command(flatten)]
        serve: Box<ServeArgs>,
    },
    /// Send simulated events to the topic, or write files such as platforms export, and print what was made
    Simulate {
        #[command(flatten)]
        kafka: KafkaArgs,
        #[command(flatten)]
        framing: FramingArgs,
        #[command(flatten)]
        simulate: SimulateArgs,
        #[command(flatten)]
        reports: SimulatedReportsArgs,
        #[command(flatten)]
        metrics: MetricsArgs,
    },
    /// Count the topic's events into PostgreSQL, each exactly once
    Process {
        #[command(flatten)]
        kafka: KafkaArgs,
        #[command(flatten)]
        schema: SchemaArgs,
        #[command(flatten)]
        registry: RegistryArgs,
        #[command(flatten)]
        database: DatabaseArgs,
        #[command(flatten)]
        migration: MigrationArgs,
        #[command(flatten)]
        redis: RedisArgs,
        #[command(flatten)]
        process: ProcessArgs,
        #[command(flatten)]
        restating: RestatingArgs,
        /// Count only these partitions of the range that the database has, one of several (default: all of it): the group is one
        /// of their own
        #[arg(long, env = "ADFLUX_PROCESS_PARTITIONS", value_name = "FIRST-LAST", value_parser = shard::ends)]
        partitions: Option<(i32, i32)>,
        /// Stop once the end of the log, as it was at start, is committed
        #[arg(long)]
        until_end: bool,
        #[command(flatten)]
        metrics: MetricsArgs,
    },
    /// Answer insights over HTTP
    Serve {
        #[command(flatten)]
        database: DatabaseArgs,
        #[command(flatten)]
        migration: MigrationArgs,
        #[command(flatten)]
        redis: RedisArgs,
        #[command(flatten)]
        framing: FramingArgs,
        #[command(flatten)]
        writers: WriterArgs,
        /// Topic of the events: where those go that are sent to the API, and the name of the schema's subject
        #[arg(long, env = "ADFLUX_TOPIC", default_value = "ad-events")]
        topic: String,
        #[command(flatten)]
        intake: IntakeArgs,
        #[command(flatten)]
        serve: ServeArgs,
    },
    /// Create the database and its schema, or bring it up to date
    Migrate {
        #[command(flatten)]
        database: DatabaseArgs,
        /// The range of the topic's partitions that this database has, one of several: 0-59/120 is the first half of a topic with
        /// 120. To be said before anything is counted
        #[arg(long, value_name = "FIRST-LAST/NUMBER")]
        shard: Option<Shard>,
        /// Drop the tables of sums that a migration has replaced; there is no way back to an earlier version then
        #[arg(long, conflicts_with = "shard")]
        drop_replaced: bool,
    },
    /// Rebuild the projections from the event store and swap them in
    Rebuild {
        #[command(flatten)]
        database: DatabaseArgs,
        /// Rebuild them as they were known at this instant (RFC 3339), in a separate schema; the live
        /// projections are not touched
        #[arg(long, value_name = "TIME", value_parser = instant)]
        as_of: Option<DateTime<Utc>>,
        /// Name of that schema (default: as_of_ followed by the instant)
        #[arg(long, value_name = "SCHEMA", requires = "as_of")]
        into: Option<String>,
    },
    /// Drop events, by the period, and imported files that are older than they are to be kept; sums stay. Run it every day
    #[command(group(clap::ArgGroup::new("what").args(["events", "originals"]).required(true).multiple(true)))]
    Retain {
        #[command(flatten)]
        database: DatabaseArgs,
        /// How long to keep events after their period is closed: 400d. One that comes later than that and is new becomes a
        /// dead letter (too_old)
        #[arg(long, value_name = "LENGTH", value_parser = config::duration)]
        events: Option<Duration>,
        /// How long a period is open before this command closes it (default: a thirteenth of --events)
        #[arg(long, value_name = "LENGTH", value_parser = config::duration, requires = "events")]
        period: Option<Duration>,
        /// How long to keep what was in imported files, where that is in the database, after a file was last imported
        #[arg(long, value_name = "LENGTH", value_parser = config::duration)]
        originals: Option<Duration>,
        /// Say what would be dropped and what kept, and change nothing
        #[arg(long)]
        dry_run: bool,
        /// text or json
        #[arg(long, value_enum, default_value_t)]
        format: import::Format,
    },
    /// Check that every record is accounted for and the projections equal the event store
    Verify {
        #[command(flatten)]
        database: DatabaseArgs,
    },
    /// Give up what cannot be read at a partition's position, and go on behind it
    Skip {
        #[command(flatten)]
        kafka: KafkaArgs,
        #[command(flatten)]
        database: DatabaseArgs,
        /// Partition that stopped
        #[arg(long)]
        partition: i32,
        /// Offset at which it stopped, as the log and `adflux doctor` say
        #[arg(long)]
        from: i64,
        /// Offset to go on from, whether or not what is before it can be read (default: the first that can be read, if
        /// what comes at --from cannot)
        #[arg(long)]
        to: Option<i64>,
        /// Why, for those who read skipped_offsets later
        #[arg(long)]
        reason: String,
    },
    /// Inspect the records that could not be counted, or send them back
    Dlq {
        #[command(subcommand)]
        command: DlqCommand,
    },
    /// Export events or metrics of a time range as CSV or Parquet
    Export {
        #[command(flatten)]
        database: DatabaseArgs,
        #[command(subcommand)]
        what: ExportWhat,
    },
    /// Import reports of advertising platforms, and list, show or take back what was imported
    #[command(
        args_conflicts_with_subcommands = true,
        subcommand_negates_reqs = true,
        after_help = "A file that is called list, show, undo or help is ./list, ./show, ./undo or ./help."
    )]
    Import {
        #[command(subcommand)]
        command: Option<ImportCommand>,
        #[command(flatten)]
        kafka: KafkaArgs,
        #[command(flatten)]
        framing: FramingArgs,
        #[command(flatten)]
        database: DatabaseArgs,
        #[command(flatten)]
        shards: ShardsArgs,
        #[command(flatten)]
        report: ReportArgs,
        #[command(flatten)]
        originals: OriginalsArgs,
        /// Files, - for standard input: CSV, XLSX or JSON as the platform exports it, also as .gz or .zip
        #[arg(required = true, value_name = "FILE")]
        files: Vec<PathBuf>,
        /// The files are all there is of their accounts and days: what is known and is not in them becomes zero
        #[arg(long)]
        complete: bool,
        /// Where a campaign's day counts from another kind of report (grain, time zone, what is a conversion), take that back first
        #[arg(long)]
        replace: bool,
        /// Read, check and compare, and send nothing
        #[arg(long)]
        dry_run: bool,
        /// Wait until a processor has counted what was sent
        #[arg(long, conflicts_with = "dry_run")]
        wait: bool,
        /// What processors call the cluster, where that is not its own id, as in the demo
        #[arg(long, env = "ADFLUX_CLUSTER_ID", value_name = "ID")]
        cluster_id: Option<String>,
        /// How what was found is written
        #[arg(long, value_enum, default_value_t)]
        format: import::Format,
    },
    /// Import exchange rates, by which sums of several currencies become one, and show them
    Rates {
        #[command(subcommand)]
        command: RatesCommand,
    },
    /// Say what days will come to that platforms still restate, from how past days grew
    Expect {
        #[command(flatten)]
        database: DatabaseArgs,
        /// Only the account that its platform calls so (default: all)
        #[arg(long, value_name = "ID")]
        account: Option<String>,
        /// Say instead how good that would have been: each past day is expected again from what was known of it at each age
        #[arg(long)]
        backtest: bool,
        /// Of the backtest, only with all hidden that was known of a day more than so many days after it
        #[arg(long, value_name = "DAYS", requires = "backtest", value_parser = clap::value_parser!(u32).range(0..=29))]
        hide: Option<u32>,
        /// How it is written
        #[arg(long, value_enum, default_value_t)]
        format: import::Format,
    },
    /// Remove a campaign, an account, or old dead letters from all that adflux keeps, and certify it
    Erase {
        #[command(flatten)]
        what: EraseWhat,
        #[command(flatten)]
        database: DatabaseArgs,
        #[command(flatten)]
        redis: RedisArgs,
        #[command(flatten)]
        originals: OriginalsArgs,
        #[command(flatten)]
        schema: SchemaArgs,
        #[command(flatten)]
        registry: RegistryArgs,
        #[command(flatten)]
        writers: WriterArgs,
        /// Show what would be removed, and remove nothing
        #[arg(long, conflicts_with = "yes")]
        dry_run: bool,
        /// Remove it without asking
        #[arg(long)]
        yes: bool,
        /// How what was removed is written
        #[arg(long, value_enum, default_value_t)]
        format: import::Format,
        /// Write the certificate to this file, too
        #[arg(long, value_name = "FILE")]
        certificate: Option<PathBuf>,
    },
    /// Create, list, rotate and revoke API keys
    Keys {
        #[command(flatten)]
        database: DatabaseArgs,
        #[command(flatten)]
        migration: MigrationArgs,
        #[command(subcommand)]
        command: KeysCommand,
    },
    /// Register our own schemas in a schema registry
    Schemas {
        #[command(subcommand)]
        command: SchemasCommand,
    },
    /// Check, test and list alert rules and their alerts
    Alerts {
        #[command(subcommand)]
        command: AlertsCommand,
    },
    /// Check broker, topic, database, cache and port, and say how to fix what is wrong
    Doctor {
        #[command(flatten)]
        kafka: KafkaArgs,
        #[command(flatten)]
        database: DatabaseArgs,
        #[command(flatten)]
        redis: RedisArgs,
        #[command(flatten)]
        registry: RegistryArgs,
        #[command(flatten)]
        subjects: SubjectArgs,
        /// Address and port of the API
        #[arg(long, env = "ADFLUX_LISTEN", default_value = "127.0.0.1:8080")]
        listen: SocketAddr,
        /// Consumer group
        #[arg(long, env = "ADFLUX_GROUP", default_value = "adflux")]
        group: String,
        /// The database was restored: hold its positions against the log, disown what caches hold of what is lost, and say what is
        /// left to do
        #[arg(long)]
        restored: bool,
    },
    /// Print what the API answers: its OpenAPI document, or the tables of docs/api.md
    Openapi {
        /// json or markdown
        #[arg(long, value_enum, default_value_t)]
        format: DocumentFormat,
    },
    /// Exit with 0 if a server answers with a success status: for container health checks
    Healthcheck {
        /// The URL to request
        #[arg(long, default_value = "http://127.0.0.1:8080/readyz")]
        url: String,
    },
}

#[derive(clap::Args)]
#[group(required = true, multiple = false)]
pub struct EraseWhat {
    /// The campaign with this id
    #[arg(long, value_name = "ID", value_parser = erase::campaign)]
    pub campaign: Option<String>,
    /// The account of a platform, with all its campaigns
    #[arg(long, value_name = "PLATFORM:ACCOUNT", value_parser = erase::account)]
    pub account: Option<Subject>,
    /// Dead letters that were stored before this time
    #[arg(long, value_name = "TIME", value_parser = config::bound)]
    pub dead_letters_before: Option<Timestamp>,
}

impl EraseWhat {
    /// The one that was given.
    pub fn subject(self) -> Option<Subject> {
        let campaign = self.campaign.map(Subject::Campaign);
        let letters = self.dead_letters_before.map(Subject::DeadLettersBefore);
        campaign.or(self.account).or(letters)
    }
}

#[derive(Clone, Copy, Default, clap::ValueEnum)]
pub enum DocumentFormat {
    #[default]
    Json,
    Markdown,
}

#[derive(Subcommand)]
pub enum ExportWhat {
    /// One row for each event in the range, partition by partition
    Events {
        #[command(flatten)]
        to: ExportArgs,
    },
    /// One row of sums for each campaign, platform and interval
    Metrics {
        #[command(flatten)]
        to: ExportArgs,
        /// Length of the interval: minute, hour or day, in UTC
        #[arg(long, default_value = "day", value_parser = export::grain)]
        increment: Grain,
    },
}

#[derive(clap::Args)]
pub struct ExportArgs {
    /// Start of the range (inclusive): an RFC 3339 time or a date
    #[arg(long, value_name = "TIME", value_parser = config::bound, default_value = "1970-01-01")]
    pub since: Timestamp,
    /// End of the range (exclusive)
    #[arg(long, value_name = "TIME", value_parser = config::bound, default_value = "9999-12-31")]
    pub until: Timestamp,
    /// csv or parquet
    #[arg(long, default_value = "csv")]
    pub format: export::Format,
    /// Write text into CSV as it is: without it, what a spreadsheet would take for a formula has a ' before it
    #[arg(long)]
    pub raw: bool,
    /// The file to write (default: standard output)
    #[arg(long, short, value_name = "FILE")]
    pub output: Option<PathBuf>,
}

#[derive(Subcommand)]
pub enum RatesCommand {
    /// Import the European Central Bank's file of rates, as it is published
    Import {
        #[command(flatten)]
        database: DatabaseArgs,
        /// eurofxref-hist.csv or eurofxref-hist.zip, or that of the last day; - for standard input
        #[arg(value_name = "FILE")]
        file: PathBuf,
        /// Where another rate of a day is known, take this file's
        #[arg(long)]
        replace: bool,
        /// How what was found is written
        #[arg(long, value_enum, default_value_t)]
        format: import::Format,
    },
    /// Show of which days which rates are known
    Show {
        #[command(flatten)]
        database: DatabaseArgs,
        /// Only this currency, by its code of ISO 4217
        #[arg(long, value_name = "CODE", value_parser = Currency::from_flag)]
        currency: Option<Currency>,
        /// The rate that this day is converted by, and of which day that is
        #[arg(long, value_name = "DATE")]
        on: Option<NaiveDate>,
        /// How it is written
        #[arg(long, value_enum, default_value_t)]
        format: import::Format,
    },
}

impl Command {
    /// Whether records go through it, which may be traced.
    pub fn has_records(&self) -> bool {
        matches!(
            self,
            Command::Demo { .. }
                | Command::Run { .. }
                | Command::Simulate { .. }
                | Command::Process { .. }
                | Command::Serve { .. }
                | Command::Import { command: None, .. }
        )
    }
}

#[derive(Subcommand)]
pub enum ImportCommand {
    /// List what was imported, newest first, and how much of it counts
    List {
        #[command(flatten)]
        database: DatabaseArgs,
        #[command(flatten)]
        shards: ShardsArgs,
        /// Only what is of this account, by the platform's id of it
        #[arg(long, value_name = "ID")]
        account: Option<String>,
        /// List at most this many
        #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=10_000))]
        limit: u32,
        /// How it is written
        #[arg(long, value_enum, default_value_t)]
        format: import::Format,
    },
    /// Show what is known of a file and which of its rows count, or the file itself
    Show {
        #[command(flatten)]
        database: DatabaseArgs,
        #[command(flatten)]
        shards: ShardsArgs,
        #[command(flatten)]
        originals: OriginalsArgs,
        /// The file's SHA-256 or how it begins, as `list` shows it
        #[arg(value_parser = import::imported::hash)]
        hash: String,
        /// Write the file to standard output, as it was read
        #[arg(long, conflicts_with = "line")]
        original: bool,
        /// Show this line of it, or row of its sheet, or report of an answer, and what came of it
        #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
        line: Option<u64>,
    },
    /// Take a file back: what was known without it counts again
    Undo {
        #[command(flatten)]
        kafka: KafkaArgs,
        #[command(flatten)]
        framing: FramingArgs,
        #[command(flatten)]
        database: DatabaseArgs,
        #[command(flatten)]
        shards: ShardsArgs,
        /// The file's SHA-256 or how it begins, as `list` shows it
        #[arg(value_parser = import::imported::hash)]
        hash: String,
        /// Send nothing, and say what would be
        #[arg(long)]
        dry_run: bool,
        /// Wait until a processor has counted what was sent
        #[arg(long, conflicts_with = "dry_run")]
        wait: bool,
    },
}

#[derive(Subcommand)]
pub enum KeysCommand {
    /// Create a key and print it; it is never shown again
    Create {
        /// A name that tells people whose key it is
        name: String,
        /// What the key may do: read, write, ingest, dead-letters or admin; repeat the flag for more than one
        #[arg(long = "scope", default_value = "read", value_delimiter = ',')]
        scopes: Vec<Scope>,
        /// The key expires after this long (default: never)
        #[arg(long, value_parser = config::duration)]
        expires_in: Option<Duration>,
    },
    /// List the keys, newest first
    List,
    /// Replace a key's secret and print the new key
    Rotate {
        /// The id, as `list` shows it
        id: String,
        /// How long the old secret stays valid
        #[arg(long, default_value = "1h", value_parser = config::duration)]
        grace: Duration,
    },
    /// Revoke a key; within seconds no server accepts it
    Revoke {
        /// The id, as `list` shows it
        id: String,
    },
}

#[derive(Subcommand)]
pub enum DlqCommand {
    /// Count dead letters by reason, and list the newest
    List {
        #[command(flatten)]
        database: DatabaseArgs,
        /// Only those with this reason
        #[arg(long, value_parser = dlq::reason)]
        reason: Option<String>,
        /// Only those of this topic
        #[arg(long)]
        topic: Option<String>,
        /// Only those of this partition
        #[arg(long)]
        partition: Option<i32>,
        /// Include those that redrive has sent back
        #[arg(long)]
        redriven: bool,
        /// List at most this many
        #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=10_000))]
        limit: u32,
    },
    /// Show one dead letter in full, and what can be done about it
    Show {
        #[command(flatten)]
        database: DatabaseArgs,
        #[command(flatten)]
        schema: SchemaArgs,
        #[command(flatten)]
        registry: RegistryArgs,
        #[command(flatten)]
        writers: WriterArgs,
        /// TOPIC:PARTITION:OFFSET
        #[arg(value_parser = dlq::place)]
        place: Filter,
    },
    /// Send back, unchanged, the dead letters that can be counted by now; each counts once
    Redrive {
        #[command(flatten)]
        kafka: KafkaArgs,
        #[command(flatten)]
        database: DatabaseArgs,
        #[command(flatten)]
        schema: SchemaArgs,
        #[command(flatten)]
        registry: RegistryArgs,
        #[command(flatten)]
        writers: WriterArgs,
        /// Only the dead letter at TOPIC:PARTITION:OFFSET
        #[arg(value_parser = dlq::place)]
        place: Option<Filter>,
        /// Only those with this reason
        #[arg(long, value_parser = dlq::reason)]
        reason: Option<String>,
        /// Only those of this partition
        #[arg(long, conflicts_with = "place")]
        partition: Option<i32>,
        /// Send at most this many
        #[arg(long)]
        limit: Option<u64>,
        /// Send nothing; show what would be sent, and why the rest cannot be counted
        #[arg(long)]
        dry_run: bool,
        /// Include those that were sent back before and refused again
        #[arg(long)]
        again: bool,
    },
}

#[derive(Subcommand)]
pub enum SchemasCommand {
    /// Register the schemas of events and report rows, where they are not there, and print their ids
    Register {
        /// Topic of the events, after which the subjects are named
        #[arg(long, env = "ADFLUX_TOPIC", default_value = "ad-events")]
        topic: String,
        #[command(flatten)]
        registry: RegistryArgs,
        #[command(flatten)]
        subjects: SubjectArgs,
    },
}

#[derive(Subcommand)]
pub enum AlertsCommand {
    /// Check a rules file, and show how each rule is understood
    Check {
        /// The file
        #[arg(value_name = "FILE")]
        rules: PathBuf,
    },
    /// List open alerts
    List {
        #[command(flatten)]
        database: DatabaseArgs,
        /// Include resolved alerts
        #[arg(long)]
        all: bool,
        /// List at most this many
        #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=10_000))]
        limit: u32,
    },
    /// Replay rules over past events: when would alerts have opened and resolved?
    Test {
        #[command(flatten)]
        database: DatabaseArgs,
        #[command(flatten)]
        restating: RestatingArgs,
        /// The file of rules
        #[arg(long, value_name = "FILE")]
        rules: PathBuf,
        /// Start of the replay (RFC 3339; default: seven days before --until)
        #[arg(long, value_name = "TIME", value_parser = instant)]
        since: Option<DateTime<Utc>>,
        /// End of the replay (RFC 3339; default: now)
        #[arg(long, value_name = "TIME", value_parser = instant)]
        until: Option<DateTime<Utc>>,
    },
}
