//! `adflux doctor --restored`: what a database that was put back to an earlier state means, and what is left to do.
//!
//! Positions, events and sums went back together, so counting goes on from the log, as long as the log is the same and still
//! has what is missing: that is held against it here. What caches hold of the history that is lost is disowned.

use std::collections::{BTreeMap, BTreeSet};

use diesel::PgConnection;

use super::Finding;
use crate::event::Count;
use crate::kafka::Cluster;
use crate::kafka::logs::{self, Log, Next};
use crate::offset::{LogRange, Offset};
use crate::processor::range::{self, Fit};
use crate::shard::Shard;
use crate::store::read::restored::{self, Left, Since};
use crate::store::{self, Limits, Schema, StoreError, identity};
use crate::time::rfc3339_seconds;

/// What was found, and what a person has to look at: nobody else can know whether there is something to do.
#[derive(Default)]
pub(super) struct Restored {
    pub findings: Vec<Finding>,
    pub to_look_at: Vec<(String, String)>,
}

impl Restored {
    fn finds(&mut self, what: impl Into<String>, result: Result<String, String>) {
        self.findings.push(Finding {
            what: what.into(),
            result,
        });
    }

    fn look_at(&mut self, what: &str, why: String) {
        self.to_look_at.push((what.to_owned(), why));
    }
}

/// Compares the database with the log, and with what the group has committed; and gives it an identity of its own.
pub(super) fn check(
    cluster: &Cluster,
    topic: &str,
    (group, shard): (&str, Option<Shard>),
    database_url: &str,
) -> Restored {
    let mut found = Restored::default();
    let of_database = store::connect(database_url, Limits::API).and_then(|mut connection| {
        Schema::of(&mut connection)?.is_up_to_date()?;
        found.finds("identity", renew(&mut connection));
        found.finds("sequences", sequences(&mut connection)?);
        let since = restored::since(&mut connection)?;
        Ok((since, restored::left(&mut connection)?))
    });
    match of_database {
        Ok((since, left)) => {
            if let Err(why) = positions(&mut found, cluster, (topic, group, shard), &left) {
                found.finds("the log", Err(why));
            }
            look_around(&mut found, &since);
        }
        Err(error) => found.finds(
            "the backup",
            Err(format!(
                "cannot be looked at: {error}. Ask as the owner of the schema, once that is up to date"
            )),
        ),
    }
    found
}

fn renew(connection: &mut PgConnection) -> Result<String, String> {
    match identity::renew(connection) {
        Ok(()) => Ok(
            "is new: what caches hold of the history that is lost is not read any more".to_owned(),
        ),
        Err(error) => Err(format!(
            "is that of the history that is lost, of which caches hold answers for ten minutes ({error}): ask as the owner of \
             the schema, at the primary"
        )),
    }
}

fn sequences(connection: &mut PgConnection) -> Result<Result<String, String>, StoreError> {
    let behind = restored::sequences_behind(connection)?;
    if behind.is_empty() {
        return Ok(Ok("give numbers that are not taken".to_owned()));
    }
    let set: Vec<String> = behind
        .iter()
        .map(|b| format!("SELECT setval('{}', {});", b.sequence, b.taken))
        .collect();
    Ok(Err(format!(
        "would give numbers that are taken, since tables were copied without them: {}",
        set.join(" ")
    )))
}

/// Holds each position against its log.
fn positions(
    found: &mut Restored,
    cluster: &Cluster,
    (topic, group, shard): (&str, &str, Option<Shard>),
    left: &[Left],
) -> Result<(), String> {
    let (cluster_id, mut partitions) =
        logs::describe(cluster, topic).map_err(|why| format!("is not known: {why}"))?;
    partitions.retain(|partition| shard.is_none_or(|shard| shard.has(*partition)));
    let ours: BTreeMap<i32, &Left> = left
        .iter()
        .filter(|l| l.cluster_id == cluster_id && l.topic == topic)
        .map(|l| (l.partition, l))
        .collect();
    if let Some(other) = left.first().filter(|_| ours.is_empty()) {
        return Err(format!(
            "is another one than was counted, that of topic {} of cluster {}: here is topic {topic} of cluster {cluster_id}. A \
             processor would count it from its beginning, beside what is there. Set KAFKA_BROKERS and ADFLUX_TOPIC to the log \
             that was counted",
            other.topic, other.cluster_id
        ));
    }
    let log = Log::of(cluster, topic).map_err(|error| error.to_string())?;
    let there: BTreeSet<i32> = partitions.iter().copied().collect();
    let ranges = log.ranges(&partitions);
    let mut again = Count::ZERO;
    let mut fitting = 0;
    for partition in there
        .iter()
        .chain(ours.keys().filter(|p| !there.contains(p)))
    {
        let range = match ranges.get(partition) {
            Some(Ok(range)) => Ok(*range),
            Some(Err(cause)) => Err(cause.message.clone()),
            None => Err("was counted, and the topic has no such partition: it is another topic, or was created anew".to_owned()),
        };
        let left = ours.get(partition).copied();
        match range.and_then(|range| to_read(&log, topic, *partition, left, range)) {
            Ok(records) => {
                again += records;
                fitting += 1;
            }
            Err(wrong) => found.finds(format!("{topic}[{partition}]"), Err(wrong)),
        }
    }
    if fitting > 0 {
        let fine = format!(
            "has what is missing of {fitting} partitions: up to {again} records are read again and counted, as processors come to them"
        );
        found.finds("the log", Ok(fine));
    }
    match logs::committed(cluster, topic, group, &partitions) {
        Ok(committed) => {
            let ahead = |(partition, left): (&i32, &&Left)| {
                let ahead = committed.get(partition)?.since(left.next_offset);
                (ahead > Count::ZERO).then_some(ahead)
            };
            let ahead: Count = ours.iter().filter_map(ahead).sum();
            if ahead > Count::ZERO {
                found.finds(
                    "the group",
                    Ok(format!(
                        "{group} has committed {ahead} offsets more to Kafka than are counted here, which is harmless: positions \
                         count. Lag tools say too little until processors have come there again"
                    )),
                );
            }
        }
        Err(error) => log::debug!("what {group} has committed is not known: {error}"),
    }
    Ok(())
}

/// How many records are to be read, or why they must not be.
fn to_read(
    log: &Log,
    topic: &str,
    partition: i32,
    left: Option<&Left>,
    range: LogRange,
) -> Result<Count, String> {
    let Some(left) = left else {
        return Ok(range.end.since(range.start));
    };
    let position = left.next_offset;
    match range::fit(position, range) {
        Fit::Behind => Err(behind(position, range.start)),
        Fit::Beyond => Err(range::beyond(topic, partition, position, range.end).to_string()),
        Fit::Within => {
            if let Some((offset, counted)) = left.last_record_offset.zip(left.last_record_time)
                && offset >= range.start
            {
                match log.next(partition, offset) {
                    Next::Record(at, time) if at == offset && time != Some(counted) => {
                        let another = range::another(topic, partition, offset, time, counted);
                        return Err(another.to_string());
                    }
                    Next::Silence(why) | Next::Unreadable(why) => {
                        return Err(format!(
                            "whether the record at offset {offset} is the one that was counted is not known: {why}"
                        ));
                    }
                    // What was counted there may have been compacted away or deleted since.
                    Next::Record(..) | Next::End => {}
                }
            }
            Ok(range.end.since(position))
        }
    }
}

fn behind(position: Offset, start: Offset) -> String {
    format!(
        "stands at offset {position}, and the log begins at {start}: up to {} records (offsets {position} to {}) are neither in \
         the backup nor in the log any more. Restore a later backup; or start `adflux process --accept-loss` once, which goes on \
         from {start} and writes down what is lost (skipped_offsets)",
        start.since(position),
        start.previous()
    )
}

/// What the log does not bring back.
fn look_around(found: &mut Restored, since: &Since) {
    let instant = match since.last_commit {
        Some(at) => rfc3339_seconds(at),
        None => "the backup".to_owned(),
    };
    found.finds(
        "the backup",
        Ok(match since.last_commit {
            Some(_) => format!("goes up to {instant}, when the last commit was made that is there"),
            None => {
                "has nothing that was counted: the log is counted from its beginning".to_owned()
            }
        }),
    );
    if since.keys > Count::ZERO {
        found.look_at(
            "API keys",
            format!(
                "{} in all are good, of these what was revoked or rotated after {instant}: see `adflux keys list`, and revoke it again",
                since.keys
            ),
        );
    }
    found.look_at(
        "by hand",
        format!(
            "alert rules and mutes made through the API, exchange rates, and files kept in the database after {instant} are gone: \
             make, import and send them again. Report rows that are in the log are known again, and count once"
        ),
    );
    if since.letters > Count::ZERO {
        found.look_at(
            "dead letters",
            format!(
                "{} in all are not marked as sent back. Those that were after {instant} are in the log a second time already: \
                 sent again, they count as duplicates",
                since.letters
            ),
        );
    }
    if since.webhooks > Count::ZERO {
        found.look_at(
            "webhooks",
            format!("are told again of alerts that opened or resolved after {instant}"),
        );
    }
    found.look_at(
        "the past",
        format!(
            "what is read again is known as of when it is: a question as of an instant after {instant} is not answered as it was then"
        ),
    );
    found.look_at(
        "sums",
        "`adflux verify` holds them against the events, once processors run".to_owned(),
    );
}
