//! What is to be forgotten, gone from every table; and what was read still adds up.
//!
//! ```text
//! look for it, nobody held up ─▶ one transaction: hold the partitions that have it; look at what came since;
//!            blocks, sums, reports, letters, alerts without it; events and letters become erased ─▶ afterwards, outside of it:
//!            originals in a folder or a bucket, Redis; then the row of `erasures` says that it is finished
//! ```
//!
//! Why nobody is hurt:
//!
//! - **Processors** of these partitions wait at their first statement. Then their fence fails (`campaigns_moved`), and they
//!   claim again: what they remember of events, owners and report rows is read afresh.
//! - **Readers** see all of it or nothing of it. What caches hold is of another generation.
//! - **Look-ups** name the place of an event, so a block keeps its own, and the commits that it was made of, when events
//!   are erased from it.
//! - **Merges and rebuilds** are kept out from the beginning: blocks stay where they were found. **Carrying** waits for the
//!   locks of these partitions, and finds parts as they are afterwards.
//!
//! It leaves no mark by which a record that is sent again could be told: that would be what is to be forgotten.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::time::Duration;

use chrono::{DateTime, Utc};
use diesel::connection::SimpleConnection as _;
use diesel::prelude::*;
use diesel::sql_query;
use diesel::sql_types::{Array, BigInt, Binary, Bool, Integer, SmallInt, Text, Timestamptz};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use uuid::Uuid;

mod events;
mod letters;
mod others;
mod reports;
mod retired;

use crate::event::{Count, Platform};
use crate::offset::Offset;
use crate::store::columns::Bigints;
use crate::store::locks::{self, Lock};
use crate::store::read::dead_letters::Row as Letter;
use crate::store::sums::without::without;
use crate::store::write::positions;
use crate::store::{StoreError, StreamId, identity};
use crate::time::Timestamp;

/// How long it waits for a rebuild or a redrive that was killed to let go.
const PATIENCE: Duration = Duration::from_secs(20);
/// How often it looks anew where campaigns came or moved meanwhile.
const MOST_LOOKS: u32 = 5;

/// What is to be forgotten.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Subject {
    Campaign(String),
    /// An account of a platform, with all its campaigns: those whose ids begin with `prefix`, and those of its reports.
    Account {
        platform: Platform,
        account: String,
        prefix: String,
    },
    /// Dead letters that were stored before.
    DeadLettersBefore(Timestamp),
}

impl Subject {
    /// The word for it in `erasures`.
    pub fn kind(&self) -> &'static str {
        match self {
            Subject::Campaign(_) => "campaign",
            Subject::Account { .. } => "account",
            Subject::DeadLettersBefore(_) => "dead_letters",
        }
    }

    /// As it was asked for.
    pub fn name(&self) -> String {
        match self {
            Subject::Campaign(id) => id.clone(),
            Subject::Account {
                platform, account, ..
            } => format!("{}:{account}", platform.name().to_ascii_lowercase()),
            Subject::DeadLettersBefore(before) => before.to_string(),
        }
    }

    /// What stands for it in `erasures`.
    pub fn sha256(&self) -> [u8; 32] {
        Sha256::digest(self.name().as_bytes()).into()
    }

    /// The account, if it is one.
    fn account(&self) -> Option<(i16, &str)> {
        match self {
            Subject::Account {
                platform, account, ..
            } => Some((platform.index().into(), account)),
            _ => None,
        }
    }

    /// The campaigns that it is, of all that are known.
    fn campaigns(&self, connection: &mut PgConnection) -> Result<Vec<String>, StoreError> {
        #[derive(QueryableByName)]
        struct Row {
            #[diesel(sql_type = Text)]
            campaign_id: String,
        }
        let (prefix, (platform, account)) = match self {
            Subject::Campaign(id) => return Ok(vec![id.clone()]),
            Subject::DeadLettersBefore(_) => return Ok(Vec::new()),
            Subject::Account { prefix, .. } => (prefix, self.account().unwrap_or_default()),
        };
        let rows: Vec<Row> = sql_query(
            r#"WITH d AS (SELECT definition_id FROM report_definitions WHERE platform = $2 AND account = $3)
             SELECT campaign_id FROM campaigns
             WHERE starts_with(campaign_id, $1) OR definition_id IN (SELECT definition_id FROM d)
             UNION SELECT campaign_id FROM report_rows WHERE definition_id IN (SELECT definition_id FROM d)
             UNION SELECT campaign_id FROM report_history WHERE definition_id IN (SELECT definition_id FROM d)
             UNION SELECT campaign_id FROM alerts WHERE starts_with(campaign_id, $1)
             ORDER BY 1"#,
        )
        .bind::<Text, _>(prefix)
        .bind::<SmallInt, _>(platform)
        .bind::<Text, _>(account)
        .load(connection)?;
        Ok(rows.into_iter().map(|row| row.campaign_id).collect())
    }
}

/// Records of a partition.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Records {
    pub cluster_id: String,
    pub topic: String,
    pub partition: i32,
    pub events: Count,
    pub dead_letters: Count,
    /// The first of them and the last.
    pub first_offset: Offset,
    pub last_offset: Offset,
}

/// What was removed, or would be.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Removed {
    pub campaigns: Count,
    pub events: Count,
    pub sums: Count,
    pub report_rows: Count,
    pub report_history: Count,
    pub names: Count,
    pub dead_letters: Count,
    pub alerts: Count,
    pub alert_rules: Count,
    pub deliveries: Count,
    pub imports: Count,
    /// The files whose content is not kept any more, by SHA-256.
    pub originals: Vec<String>,
    /// Where the records are on the topic.
    pub records: Vec<Records>,
}

/// An erasure of `erasures`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Erasure {
    pub number: i32,
    pub asked_by: String,
    pub begun_at: DateTime<Utc>,
    pub removed: Removed,
    /// The campaigns, by name.
    pub campaigns: Vec<String>,
    /// Under which identities of the store answers were cached.
    pub identities: Vec<Uuid>,
}

/// Says of a dead letter in which the subject's name occurs whether it is of it.
pub type Judge<'a> = dyn FnMut(&Letter) -> anyhow::Result<bool> + 'a;

/// Why nothing was erased.
#[derive(Debug, thiserror::Error)]
pub enum EraseError {
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A dead letter could not be judged.
    #[error(transparent)]
    Letter(anyhow::Error),
    /// Another partition took a campaign over since it was looked for, or an account has more of them.
    #[error(
        "campaigns come, or go from one partition to another, faster than they are looked for; try again"
    )]
    Outrun,
}

impl From<diesel::result::Error> for EraseError {
    fn from(error: diesel::result::Error) -> EraseError {
        EraseError::Store(error.into())
    }
}

/// What was found, as of some positions.
struct Found {
    names: Vec<String>,
    /// Up to where each partition was looked through.
    until: BTreeMap<StreamId, Offset>,
    held: Vec<events::Held>,
    retired: Vec<retired::Held>,
    letters: Vec<letters::Found>,
}

impl Found {
    fn look(
        connection: &mut PgConnection,
        subject: &Subject,
        judge: &mut Judge<'_>,
    ) -> Result<Found, EraseError> {
        let until = events::positions(connection)?;
        let everywhere: BTreeMap<StreamId, Offset> = until
            .keys()
            .map(|stream| (*stream, Offset::default()))
            .collect();
        let names = subject.campaigns(connection)?;
        let held = events::held(connection, &names, &everywhere)?;
        let retired = retired::held(connection, &names)?;
        let letters = letters::find(connection, subject, &names, &everywhere, judge)?;
        Ok(Found {
            names,
            until,
            held,
            retired,
            letters,
        })
    }

    /// Adds what came since into these partitions.
    fn look_again(
        &mut self,
        connection: &mut PgConnection,
        subject: &Subject,
        streams: &[StreamId],
        judge: &mut Judge<'_>,
    ) -> Result<(), EraseError> {
        let since: BTreeMap<StreamId, Offset> = streams
            .iter()
            .map(|stream| (*stream, self.until.get(stream).copied().unwrap_or_default()))
            .collect();
        self.held
            .extend(events::held(connection, &self.names, &since)?);
        self.letters.extend(letters::find(
            connection,
            subject,
            &self.names,
            &since,
            judge,
        )?);
        Ok(())
    }

    /// The partitions that have it. Of an account all: whatever they know of its reports' definitions and files is read afresh.
    fn streams(
        &self,
        connection: &mut PgConnection,
        subject: &Subject,
    ) -> Result<BTreeSet<StreamId>, StoreError> {
        if subject.account().is_some() {
            return Ok(events::positions(connection)?.into_keys().collect());
        }
        let mut streams = events::owners(connection, &self.names)?;
        streams.extend(self.held.iter().map(|held| held.stream));
        streams.extend(self.retired.iter().map(|held| held.stream));
        streams.extend(self.letters.iter().map(|letter| letter.stream));
        Ok(streams)
    }

    /// How many events, those that were dropped included.
    fn events(&self) -> Count {
        let stored = self.held.iter().map(|held| held.events);
        stored
            .chain(self.retired.iter().map(|held| held.events))
            .sum()
    }

    /// The records, by partition.
    fn records(&self, connection: &mut PgConnection) -> Result<Vec<Records>, StoreError> {
        let mut of: BTreeMap<StreamId, Records> = BTreeMap::new();
        let streams: BTreeSet<StreamId> = self
            .held
            .iter()
            .map(|held| held.stream)
            .chain(self.retired.iter().map(|held| held.stream))
            .chain(self.letters.iter().map(|letter| letter.stream))
            .collect();
        for stream in streams {
            of.insert(stream, events::partition(connection, stream)?);
        }
        let mut add = |stream: &StreamId, events, letters, first: Offset, last: Offset| {
            if let Some(records) = of.get_mut(stream) {
                records.events += events;
                records.dead_letters += letters;
                records.first_offset = records.first_offset.min(first);
                records.last_offset = records.last_offset.max(last);
            }
        };
        for held in &self.held {
            add(
                &held.stream,
                held.events,
                Count::ZERO,
                held.first,
                held.last,
            );
        }
        for held in &self.retired {
            add(
                &held.stream,
                held.events,
                Count::ZERO,
                held.first,
                held.last,
            );
        }
        for letter in &self.letters {
            let at = letter.offset;
            add(&letter.stream, Count::ZERO, Count::new(1), at, at);
        }
        Ok(of.into_values().collect())
    }
}

/// What would be removed. Holds nobody up, and keeps nobody out.
///
/// # Errors
/// As the database, or the judge.
pub fn plan(
    connection: &mut PgConnection,
    subject: &Subject,
    judge: &mut Judge<'_>,
) -> Result<(Removed, Vec<String>), EraseError> {
    let found = Found::look(connection, subject, judge)?;
    let files = reports::files(connection, &found.names, subject.account())?;
    let mut removed = Removed {
        campaigns: events::known(connection, &found.names)?,
        events: found.events(),
        dead_letters: Count::of(found.letters.len()),
        originals: files.iter().map(reports::File::hash).collect(),
        records: found.records(connection)?,
        ..Removed::default()
    };
    reports::count(connection, &found.names, &mut removed)?;
    others::count(connection, &found.names, subject.account(), &mut removed)?;
    Ok((removed, found.names))
}

/// Removes it from the tables. What is elsewhere is for the caller to remove, and then [`finish`].
///
/// # Errors
/// [`StoreError::Busy`] when a rebuild or a redrive runs, and as the database, or the judge. Nothing is removed then.
pub fn erase(
    connection: &mut PgConnection,
    subject: &Subject,
    judge: &mut Judge<'_>,
) -> Result<Erasure, EraseError> {
    if !Lock::Rebuild.take_within(connection, PATIENCE)? {
        return Err(StoreError::Busy("a rebuild is running; wait for its end").into());
    }
    Lock::Merge.take(connection)?;
    if !Lock::Redrive.take_within(connection, PATIENCE)? {
        return Err(StoreError::Busy("`adflux dlq redrive` is running; wait for its end").into());
    }
    super::rebuild::forget(connection)?;
    let before = identity::identity(connection)?;
    let mut looks = 0;
    let mut erasure = loop {
        let found = Found::look(connection, subject, judge)?;
        let erased = connection.transaction(|connection| remove(connection, subject, found, judge));
        match erased {
            Err(EraseError::Outrun) if looks < MOST_LOOKS => looks += 1,
            other => break other?,
        }
    };
    erasure.identities = vec![before, identity::identity(connection)?];
    Ok(erasure)
}

fn remove(
    connection: &mut PgConnection,
    subject: &Subject,
    mut found: Found,
    judge: &mut Judge<'_>,
) -> Result<Erasure, EraseError> {
    let streams = found.streams(connection, subject)?;
    let ids: Vec<StreamId> = streams.iter().copied().collect();
    locks::take_sums(connection, &ids)?;
    positions::lock(connection, &ids)?;
    // Whoever takes a campaign over holds the position of who has it; and an account may have come to more of them.
    let has_moved = !found.streams(connection, subject)?.is_subset(&streams);
    if has_moved || subject.campaigns(connection)? != found.names {
        return Err(EraseError::Outrun);
    }
    found.look_again(connection, subject, &ids, judge)?;
    let mut removed = Removed {
        campaigns: events::known(connection, &found.names)?,
        records: found.records(connection)?,
        ..Removed::default()
    };
    let mut erased: BTreeMap<StreamId, (Count, Count)> = BTreeMap::new();
    let mut blocks: BTreeMap<StreamId, Vec<Offset>> = BTreeMap::new();
    let mut expected: BTreeMap<StreamId, Count> = BTreeMap::new();
    for held in &found.held {
        blocks.entry(held.stream).or_default().push(held.block);
        *expected.entry(held.stream).or_default() += held.events;
    }
    for (stream, blocks) in blocks {
        let events = events::remove(connection, stream, &blocks, &found.names)?;
        if Some(&events) != expected.get(&stream) {
            return Err(StoreError::Busy(
                "the blocks are not the ones that were looked at; nothing was erased",
            )
            .into());
        }
        removed.events += events;
        erased.entry(stream).or_default().0 += events;
    }
    let names: HashSet<&str> = found.names.iter().map(String::as_str).collect();
    for stream in &ids {
        removed.sums += without(connection, "sum_parts", *stream, &names)?;
    }
    retired::remove(connection, &names, &found.retired)?;
    for held in &found.retired {
        removed.events += held.events;
        erased.entry(held.stream).or_default().0 += held.events;
    }
    events::forget_replaced(connection, &found.names)?;
    for (stream, letters) in letters::remove(connection, &found.letters)? {
        removed.dead_letters += letters;
        erased.entry(stream).or_default().1 += letters;
    }
    let files = reports::remove(connection, &found.names, subject.account(), &mut removed)?;
    removed.originals = files.iter().map(reports::File::hash).collect();
    others::remove(connection, &found.names, subject.account(), &mut removed)?;
    events::disown(connection, &found.names)?;
    settle(connection, &ids, &erased)?;
    let noted = note(connection, subject, &removed)?;
    // Last: whoever notes that answers are outdated waits for it.
    identity::raise_generation(connection)?;
    Ok(Erasure {
        number: noted.erasure_id,
        asked_by: noted.asked_by,
        begun_at: noted.begun_at,
        removed,
        campaigns: found.names,
        identities: Vec::new(),
    })
}

/// Says at the positions what events and letters have become, and makes the fences of their processors fail.
fn settle(
    connection: &mut PgConnection,
    streams: &[StreamId],
    erased: &BTreeMap<StreamId, (Count, Count)>,
) -> Result<(), StoreError> {
    let of = |stream: &StreamId| erased.get(stream).copied().unwrap_or_default();
    let events: Vec<Count> = streams.iter().map(|stream| of(stream).0).collect();
    let letters: Vec<Count> = streams.iter().map(|stream| of(stream).1).collect();
    sql_query(
        "UPDATE stream_positions AS s
         SET events = s.events - e.events, dead_letters = s.dead_letters - e.letters,
             erased = s.erased + e.events + e.letters, campaigns_moved = s.campaigns_moved + 1
         FROM unnest($1, $2, $3) AS e (stream_id, events, letters) WHERE s.stream_id = e.stream_id",
    )
    .bind::<Array<Integer>, _>(streams.iter().map(|stream| stream.0).collect::<Vec<_>>())
    .bind::<Array<BigInt>, _>(Bigints(&events))
    .bind::<Array<BigInt>, _>(Bigints(&letters))
    .execute(connection)?;
    Ok(())
}

#[derive(QueryableByName)]
struct Noted {
    #[diesel(sql_type = Integer)]
    erasure_id: i32,
    #[diesel(sql_type = Text)]
    asked_by: String,
    #[diesel(sql_type = Timestamptz)]
    begun_at: DateTime<Utc>,
}

fn note(
    connection: &mut PgConnection,
    subject: &Subject,
    removed: &Removed,
) -> Result<Noted, StoreError> {
    let sha256 = subject.sha256();
    // Numbers and texts: nothing that JSON could refuse.
    let json = serde_json::to_string(removed).unwrap_or_default();
    Ok(sql_query(
        "INSERT INTO erasures (kind, subject_sha256, begun_at, removed) VALUES ($1, $2, clock_timestamp(), $3::jsonb)
         RETURNING erasure_id, asked_by, begun_at",
    )
    .bind::<Text, _>(subject.kind())
    .bind::<Binary, _>(sha256.as_slice())
    .bind::<Text, _>(json)
    .get_result(connection)?)
}

/// The originals that an earlier run of the same has not removed to the end.
///
/// # Errors
/// When the database does not answer.
pub fn left(connection: &mut PgConnection, subject: &Subject) -> Result<Vec<String>, StoreError> {
    #[derive(QueryableByName)]
    struct Row {
        #[diesel(sql_type = Text)]
        original: String,
    }
    let sha256 = subject.sha256();
    let rows: Vec<Row> = sql_query(
        "SELECT DISTINCT jsonb_array_elements_text(removed -> 'originals') AS original FROM erasures
         WHERE kind = $1 AND subject_sha256 = $2 AND finished_at IS NULL",
    )
    .bind::<Text, _>(subject.kind())
    .bind::<Binary, _>(sha256.as_slice())
    .load(connection)?;
    Ok(rows.into_iter().map(|row| row.original).collect())
}

/// Notes that all of it is gone; what the planner remembers of the tables, too.
///
/// # Errors
/// When the database does not do it.
pub fn finish(
    connection: &mut PgConnection,
    subject: &Subject,
    campaigns: &[String],
) -> Result<DateTime<Utc>, StoreError> {
    #[derive(QueryableByName)]
    struct Row {
        #[diesel(sql_type = Timestamptz)]
        finished_at: DateTime<Utc>,
    }
    // A round of alerts that had begun before may have told of it once more.
    others::remove(
        connection,
        campaigns,
        subject.account(),
        &mut Removed::default(),
    )?;
    connection.batch_execute(
        "ANALYZE campaigns, event_blocks, sum_parts, sum_chunks, report_rows, report_history, report_definitions,
             report_files, report_imports, campaign_names, dead_letters, alerts, alert_rules, alert_deliveries",
    )?;
    let sha256 = subject.sha256();
    let rows: Vec<Row> = sql_query(
        "UPDATE erasures SET finished_at = clock_timestamp()
         WHERE kind = $1 AND subject_sha256 = $2 AND finished_at IS NULL RETURNING finished_at",
    )
    .bind::<Text, _>(subject.kind())
    .bind::<Binary, _>(sha256.as_slice())
    .load(connection)?;
    let last = rows.into_iter().map(|row| row.finished_at).max();
    match last {
        Some(at) => Ok(at),
        None => crate::store::clock(connection),
    }
}

/// Schemas of `adflux rebuild --as-of`, which keep what they were made of.
///
/// # Errors
/// When the database does not answer.
pub fn copies(connection: &mut PgConnection) -> Result<Vec<String>, StoreError> {
    #[derive(QueryableByName)]
    struct Row {
        #[diesel(sql_type = Text)]
        name: String,
    }
    let rows: Vec<Row> = sql_query(
        "SELECT nspname::text AS name FROM pg_namespace
         WHERE obj_description(oid, 'pg_namespace') LIKE 'adflux rebuild --as-of%' ORDER BY 1",
    )
    .load(connection)?;
    Ok(rows.into_iter().map(|row| row.name).collect())
}

/// Whether the role may erase: only the owner of the tables may.
///
/// # Errors
/// [`StoreError::Privileges`] if not; else as the database does.
pub fn check_rights(connection: &mut PgConnection) -> Result<(), StoreError> {
    #[derive(QueryableByName)]
    struct Row {
        #[diesel(sql_type = Bool)]
        is_owner: bool,
    }
    let row: Option<Row> = sql_query(
        "SELECT pg_has_role(relowner, 'USAGE') AS is_owner FROM pg_class WHERE oid = to_regclass('erasures')",
    )
    .get_result(connection)
    .optional()?;
    let Some(row) = row else {
        return Err(StoreError::Outdated(
            "the schema is older than this program: run adflux migrate".to_owned(),
        ));
    };
    if row.is_owner {
        return Ok(());
    }
    Err(StoreError::Privileges(
        "what erasing takes: be the owner of the tables, as for adflux migrate".to_owned(),
    ))
}
