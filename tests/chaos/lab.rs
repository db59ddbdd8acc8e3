//! The laboratory: one flowing system, and what the faults need to break it and to see it recover.

use std::collections::BTreeMap;
use std::net::TcpStream;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use diesel::sql_types::{BigInt, Integer, Nullable};
use diesel::{Connection, PgConnection, QueryableByName, RunQueryDsl, sql_query};
use rand::{RngExt as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;
use rdkafka::ClientConfig;
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::error::RDKafkaErrorCode;

use crate::check::{self, Target};
use crate::faults::members::Members;
use crate::fleet::{self, Fleet, Process};
use crate::producer::Producer;
use crate::reader::Reader;
use crate::services::Services;
use crate::support::cluster::Cluster;
use crate::support::ports::free_address;
use crate::table::Row;
use crate::wait::{wait_for, wait_until};

/// Enough that each processor has some.
const PARTITIONS: i32 = 6;
/// Records a second.
pub const RATE: u64 = 1_000;
/// In the cluster of [`Lab::take_cluster`].
pub const BROKERS: i32 = 3;
const TOPIC: &str = "chaos";
const GROUP: &str = "chaos";
/// A processor that is silent for so long loses its partitions; shorter than the default of 6 s, so
/// that hundreds of faults fit into the time there is.
const SESSION_TIMEOUT: &str = "1500ms";
/// Nothing takes longer than this to recover, on a busy machine too.
pub const HANG: Duration = Duration::from_secs(60);

/// What a partition's row in `stream_positions` says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Position {
    pub epoch: i64,
    /// The process that claimed it last.
    pub owner: u32,
    pub next_offset: i64,
}

/// The positions by partition.
pub type Positions = BTreeMap<i32, Position>;

/// See the module. Everything ends with it.
pub struct Lab {
    pub seed: u64,
    pub chance: ChaCha8Rng,
    pub target: Target,
    pub producer: Producer,
    /// Reads throughout.
    pub reader: Reader,
    pub server: Process,
    pub fleet: Fleet,
    pub services: Services,
    pub folder: PathBuf,
    /// Members that come and go in the background of another row.
    pub members: Option<Members>,
    /// Three brokers, once a row has started them: it takes seconds.
    cluster: Option<Cluster>,
    connection: Option<PgConnection>,
}

impl Lab {
    /// Starts the services, three processors, a server and the producer.
    pub fn start(seed: u64, folder: PathBuf) -> anyhow::Result<Lab> {
        let services = Services::start_all(&folder)?;
        let logs = folder.join("logs");
        std::fs::create_dir_all(&logs)?;
        let brokers = services.setting("KAFKA_BROKERS")?.to_owned();
        let database_url = services.setting("DATABASE_URL")?.to_owned();
        let redis_url = services.setting("REDIS_URL")?.to_owned();
        create_topic(&brokers)?;
        let settings = fleet::Settings {
            env: vec![
                ("KAFKA_BROKERS", services.kafka_proxy.address().to_string()),
                (
                    "REDIS_URL",
                    format!("redis://{}", services.redis_proxy.address()),
                ),
                ("ADFLUX_TOPIC", TOPIC.to_owned()),
                ("ADFLUX_GROUP", GROUP.to_owned()),
                ("ADFLUX_SESSION_TIMEOUT", SESSION_TIMEOUT.to_owned()),
                // So that copies of older events have to be looked up.
                ("ADFLUX_RECENT_EVENTS", "2000".to_owned()),
                ("ADFLUX_LINGER", "100ms".to_owned()),
                ("RUST_LOG", "info,adflux::processor=debug".to_owned()),
            ],
            logs,
        };
        let fleet = Fleet::start(settings.clone(), &database_url)?;
        // Once all proxies listen, so that none of them takes it.
        let listen = free_address();
        let env = [
            ("DATABASE_URL", database_url.as_str()),
            ("ADFLUX_LISTEN", listen.as_str()),
        ];
        let server = Process::start(&settings, "server", &["serve"], &env)?;
        wait_until(HANG, "the server listens", || {
            Ok(TcpStream::connect(&listen).is_ok())
        })?;
        let producer = Producer::start(&brokers, TOPIC, seed, RATE)?;
        let target = Target {
            brokers,
            topic: TOPIC.to_owned(),
            group: GROUP.to_owned(),
            database_url,
            redis_url: Some(redis_url),
            servers: vec![format!("http://{listen}")],
        };
        Ok(Lab {
            seed,
            chance: ChaCha8Rng::seed_from_u64(seed),
            reader: Reader::start(&target),
            target,
            producer,
            server,
            fleet,
            services,
            folder,
            members: None,
            cluster: None,
            connection: None,
        })
    }

    /// A cluster of three brokers beside the one that all else goes through, for a row that hands it back whole.
    pub fn take_cluster(&mut self) -> Cluster {
        let started = self.cluster.take();
        started.unwrap_or_else(|| Cluster::start(&self.services.folder(), BROKERS))
    }

    pub fn hand_back(&mut self, cluster: Cluster) {
        self.cluster = Some(cluster);
    }

    /// Waits until the processors have begun.
    pub fn begins_to_count(&mut self) -> anyhow::Result<()> {
        wait_until(HANG, "every partition is counted", || {
            let positions = self.positions();
            Ok(positions.is_some_and(|p| {
                p.len() == PARTITIONS as usize && p.values().all(|p| p.next_offset > 0)
            }))
        })
    }

    /// The stored positions; none while PostgreSQL is away.
    pub fn positions(&mut self) -> Option<Positions> {
        #[derive(QueryableByName)]
        struct Found {
            #[diesel(sql_type = Integer)]
            partition: i32,
            #[diesel(sql_type = BigInt)]
            epoch: i64,
            #[diesel(sql_type = Nullable<BigInt>)]
            owner: Option<i64>,
            #[diesel(sql_type = BigInt)]
            next_offset: i64,
        }
        if self.connection.is_none() {
            self.connection = PgConnection::establish(&self.target.database_url).ok();
        }
        let connection = self.connection.as_mut()?;
        let found = sql_query(
            "SELECT partition, epoch, split_part(owner, ':', 2)::bigint AS owner, next_offset FROM stream_positions",
        )
        .load::<Found>(connection);
        match found {
            Ok(found) => Some(
                found
                    .into_iter()
                    .map(|row| {
                        let owner = row.owner.and_then(|pid| u32::try_from(pid).ok());
                        let position = Position {
                            epoch: row.epoch,
                            owner: owner.unwrap_or(0),
                            next_offset: row.next_offset,
                        };
                        (row.partition, position)
                    })
                    .collect(),
            ),
            Err(_) => {
                self.connection = None;
                None
            }
        }
    }

    /// The stored positions, waiting for PostgreSQL.
    pub fn positions_now(&mut self) -> anyhow::Result<Positions> {
        wait_for(HANG, || Ok(self.positions()))?.context("PostgreSQL does not answer")
    }

    /// A processor that owns some of the partitions, by chance.
    pub fn any_owner(&mut self) -> anyhow::Result<usize> {
        let owners = wait_for(HANG, || {
            let positions = self.positions().unwrap_or_default();
            let mut owners: Vec<usize> = positions
                .values()
                .filter_map(|position| self.fleet.slot_of(position.owner))
                .collect();
            owners.sort_unstable();
            owners.dedup();
            Ok((!owners.is_empty()).then_some(owners))
        })?;
        let owners = owners.context("no processor owns a partition")?;
        Ok(owners[self.chance.random_range(0..owners.len())])
    }

    /// The partitions of `before` that this process owned.
    pub fn owned(before: &Positions, pid: u32) -> Positions {
        let owned = before.iter().filter(|(_, position)| position.owner == pid);
        owned.map(|(p, position)| (*p, *position)).collect()
    }

    /// Waits until each of these partitions was claimed anew and has moved since, and notes how long
    /// that took `since` the fault; not within `limit` is a violation.
    pub fn taken_over(
        &mut self,
        partitions: &Positions,
        since: Instant,
        limit: Duration,
        row: &mut Row,
    ) -> anyhow::Result<()> {
        self.recovery(since, limit, row, |now| was_taken_over(partitions, now))
    }

    /// As [`Lab::taken_over`], whoever owns them.
    pub fn moved(
        &mut self,
        partitions: &Positions,
        since: Instant,
        limit: Duration,
        row: &mut Row,
    ) -> anyhow::Result<()> {
        self.recovery(since, limit, row, |now| has_moved(partitions, now))
    }

    fn recovery(
        &mut self,
        since: Instant,
        limit: Duration,
        row: &mut Row,
        is_well: impl Fn(&Positions) -> bool,
    ) -> anyhow::Result<()> {
        let well = wait_for(HANG, || {
            self.look_after(row)?;
            Ok(self.positions().filter(|now| is_well(now)))
        })?;
        let took = since.elapsed();
        row.recovered(took);
        if well.is_none() {
            bail!(
                "stood still for {HANG:?}; positions: {:?}",
                self.positions()
            );
        }
        if took > limit {
            row.violation(format!(
                "took {took:?} to move again; {limit:?} is the limit"
            ));
        }
        Ok(())
    }

    /// Nobody has ended who was not killed.
    pub fn look_after(&mut self, row: &mut Row) -> anyhow::Result<()> {
        for slot in 0..fleet::PROCESSORS {
            if self.fleet.slots[slot].armed {
                continue;
            }
            let process = &mut self.fleet.slots[slot].process;
            if let Some(status) = process.ended()? {
                let log = process.log.display().to_string();
                row.violation(format!(
                    "processor {} ended by itself ({status}): see {log}",
                    slot + 1
                ));
                self.fleet.restart(slot, &[])?;
            }
        }
        if let Some(status) = self.server.ended()? {
            bail!("the server ended by itself ({status})");
        }
        if let Some(mut members) = self.members.take() {
            let went_on = members.go_on(self);
            self.members = Some(members);
            went_on?;
        }
        Ok(())
    }

    /// Everything is healed: lets the processors come to the end of the log and checks all there is
    /// to check. Sends on afterwards.
    pub fn check(&mut self, row: &mut Row) -> anyhow::Result<()> {
        let rate = self.producer.pause()?;
        let ends: BTreeMap<i32, i64> = {
            let ledger = self.producer.ledger().lock();
            let log = ledger.log().iter();
            log.map(|(p, log)| (*p, log.len() as i64)).collect()
        };
        let drained = wait_for(HANG, || {
            self.look_after(row)?;
            let now = self.positions().unwrap_or_default();
            let there = ends
                .iter()
                .all(|(p, end)| now.get(p).is_some_and(|now| now.next_offset >= *end));
            Ok(there.then_some(()))
        })?;
        if drained.is_none() {
            let now = self.positions();
            row.violation(format!(
                "not drained after {HANG:?}: ends {ends:?}, {now:?}"
            ));
            row.wrong = true;
        }
        let checked = check::check(&self.target, &self.producer.ledger().lock());
        for violations in [checked, self.reader.violations()] {
            if violations.count() > 0 {
                row.violation(violations.to_string());
                row.wrong = true;
            }
        }
        self.producer.set_rate(rate);
        Ok(())
    }
}

/// Whether each of `partitions` was claimed anew and has moved since.
pub fn was_taken_over(partitions: &Positions, now: &Positions) -> bool {
    partitions.iter().all(|(p, then)| {
        now.get(p)
            .is_some_and(|now| now.epoch > then.epoch && now.next_offset > then.next_offset)
    })
}

/// Whether each of `partitions` has moved.
pub fn has_moved(partitions: &Positions, now: &Positions) -> bool {
    partitions.iter().all(|(p, then)| {
        now.get(p)
            .is_some_and(|now| now.next_offset > then.next_offset)
    })
}

fn create_topic(brokers: &str) -> anyhow::Result<()> {
    let admin: AdminClient<DefaultClientContext> = ClientConfig::new()
        .set("bootstrap.servers", brokers)
        .create()?;
    let topic = NewTopic::new(TOPIC, PARTITIONS, TopicReplication::Fixed(1));
    let options = AdminOptions::new().operation_timeout(Some(Duration::from_secs(20)));
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    wait_until(HANG, "the topic is created", || {
        let created = runtime.block_on(admin.create_topics([&topic], &options))?;
        match created.into_iter().next() {
            // So says a controller that has not heard from its broker for a moment.
            Some(Err((_, RDKafkaErrorCode::InvalidReplicationFactor))) => Ok(false),
            Some(Err((topic, code))) => bail!("creating {topic}: {code}"),
            _ => Ok(true),
        }
    })
}
