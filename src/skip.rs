//! `adflux skip`: gives up what cannot be read, by a person's word, and writes down which offsets and why.

use anyhow::{Context as _, bail};
use diesel::PgConnection;

use crate::kafka::Cluster;
use crate::kafka::logs::{self, Log, Next};
use crate::offset::{LogRange, Offset};
use crate::store::write::positions::{Partition, skip};
use crate::store::{self, Limits, positions};

/// What is to be given up.
pub struct Settings {
    pub cluster: Cluster,
    pub topic: String,
    pub database_url: String,
    pub partition: i32,
    /// Where the partition must stand for it.
    pub from: Offset,
    /// Where it is to go on, whether or not what comes before can be read. None: where it can be read again.
    pub to: Option<Offset>,
    pub reason: String,
    /// Overrides the cluster's own id, where that does not identify its log.
    pub cluster_id: Option<String>,
}

/// Moves a partition past what cannot be read from its position on, up to what can, and returns these offsets. The
/// processor that has it goes on from there within seconds.
///
/// # Errors
/// When the partition does not stand there, or what comes there can be read: that is never given up unless it is said where to
/// go on.
pub fn run(settings: &Settings) -> anyhow::Result<LogRange> {
    let Settings {
        topic,
        partition,
        from,
        ..
    } = settings;
    let (cluster_id, _) = logs::describe(&settings.cluster, topic)
        .map_err(|why| anyhow::anyhow!("Kafka at {}: {why}", settings.cluster.brokers))?;
    let cluster_id = settings.cluster_id.as_deref().unwrap_or(&cluster_id);
    let mut connection = store::open(&settings.database_url, Limits::API)?;
    if let Some(shard) = store::shard::read(&mut connection)?
        && !shard.has(*partition)
    {
        bail!(
            "{topic}[{partition}] is not counted into this database, which has the partitions {shard}: nothing was skipped. Set \
             DATABASE_URL to the one that has it"
        );
    }
    let stands_at = |connection: &mut PgConnection| -> anyhow::Result<Offset> {
        let positions = positions::next_offsets(connection, cluster_id, topic)?;
        let position = positions.iter().find(|(p, _)| p == partition);
        Ok(position
            .with_context(|| format!("{topic}[{partition}] was never counted"))?
            .1)
    };
    let position = stands_at(&mut connection)?;
    if position != *from {
        bail!(
            "{topic}[{partition}] stands at offset {position}, not at {from}: nothing was skipped"
        );
    }
    let log = Log::of(&settings.cluster, topic)?;
    let end = match log.ranges(&[*partition]).remove(partition) {
        Some(Ok(range)) => range.end,
        Some(Err(cause)) => bail!("{topic}[{partition}]: {}", cause.message),
        None => bail!("{topic}[{partition}] is not there"),
    };
    let next = match settings.to {
        Some(to) if *from < to && to <= end => to,
        Some(to) => bail!(
            "--to {to} is not behind --from {from} and within the log, which ends at {end}: nothing was skipped"
        ),
        None => first_readable(&log, *partition, *from, end)?,
    };
    let of = Partition {
        cluster_id,
        topic,
        partition: *partition,
    };
    let who = std::env::var("USER").unwrap_or_else(|_| "adflux skip".to_owned());
    if !skip(&mut connection, of, (*from, next), &settings.reason, &who)? {
        let position = stands_at(&mut connection)?;
        bail!("{topic}[{partition}] has moved to offset {position} meanwhile: nothing was skipped");
    }
    Ok(LogRange {
        start: *from,
        end: next,
    })
}

/// The first offset after `from` from which can be read. Up to there it cannot, and from there it can, or the next
/// that cannot be read is another one's business.
fn first_readable(log: &Log, partition: i32, from: Offset, end: Offset) -> anyhow::Result<Offset> {
    let is_readable = |offset: Offset| match log.next(partition, offset) {
        Next::Record(..) | Next::End => Ok(true),
        Next::Unreadable(_) => Ok(false),
        Next::Silence(why) => {
            bail!(
                "partition {partition} does not answer at offset {offset} ({why}), so whether that can be read is not known: \
                 nothing was skipped. If its broker works, say where to go on: --to"
            )
        }
    };
    if is_readable(from)? {
        bail!(
            "what comes at offset {from} of partition {partition} can be read: nothing was skipped"
        );
    }
    let (mut bad, mut step) = (from.get(), 1i64);
    let mut good = loop {
        let offset = bad.saturating_add(step).min(end.get());
        if offset >= end.get() || is_readable(Offset::new(offset))? {
            break offset;
        }
        bad = offset;
        step = step.saturating_mul(2);
    };
    while good.saturating_sub(bad) > 1 {
        let middle = bad.midpoint(good);
        if is_readable(Offset::new(middle))? {
            good = middle;
        } else {
            bad = middle;
        }
    }
    Ok(Offset::new(good))
}
