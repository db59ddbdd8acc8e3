//! The rules and the names of webhooks.

use chrono::{DateTime, Utc};
use diesel::prelude::*;
use diesel::sql_query;
use diesel::sql_types::{Array, BigInt, Nullable, Text, Timestamptz};

use crate::event::Count;
use crate::store::StoreError;

/// The most rules, of the file and of the API each.
pub const MAX_RULES: usize = 200;

/// A rule as somebody wrote it. The fields are those of the file and the API; what they may say is the business
/// of `alerts`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Draft {
    pub name: String,
    pub when: String,
    pub campaigns: Vec<String>,
    pub platforms: Vec<String>,
    pub hold: Option<String>,
    pub severity: Option<String>,
    pub to: Vec<String>,
}

/// Where a rule comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// The file of rules; read-only for everybody else.
    File,
    Api,
}

impl Source {
    /// As it stands in the table and in answers.
    pub const fn as_str(self) -> &'static str {
        match self {
            Source::File => "file",
            Source::Api => "api",
        }
    }
}

/// A rule as it is stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stored {
    pub draft: Draft,
    pub source: Source,
    /// The name of the API key it was last written with, if there was one.
    pub written_by: Option<String>,
    /// Until when webhooks are told nothing of it, if they are not.
    pub muted_until: Option<DateTime<Utc>>,
    pub muted_by: Option<String>,
    pub created_at: DateTime<Utc>,
    pub updated_at: DateTime<Utc>,
}

#[derive(QueryableByName)]
struct Row {
    #[diesel(sql_type = Text)]
    name: String,
    #[diesel(sql_type = Text)]
    source: String,
    #[diesel(sql_type = Text)]
    condition: String,
    #[diesel(sql_type = Array<Text>)]
    campaigns: Vec<String>,
    #[diesel(sql_type = Array<Text>)]
    platforms: Vec<String>,
    #[diesel(sql_type = Nullable<Text>)]
    hold: Option<String>,
    #[diesel(sql_type = Nullable<Text>)]
    severity: Option<String>,
    #[diesel(sql_type = Array<Text>)]
    webhooks: Vec<String>,
    #[diesel(sql_type = Nullable<Text>)]
    written_by: Option<String>,
    #[diesel(sql_type = Nullable<Timestamptz>)]
    muted_until: Option<DateTime<Utc>>,
    #[diesel(sql_type = Nullable<Text>)]
    muted_by: Option<String>,
    #[diesel(sql_type = Timestamptz)]
    created_at: DateTime<Utc>,
    #[diesel(sql_type = Timestamptz)]
    updated_at: DateTime<Utc>,
}

/// Every rule, by name.
///
/// # Errors
/// When the database does not answer.
pub fn all(connection: &mut PgConnection) -> Result<Vec<Stored>, StoreError> {
    let rows: Vec<Row> = sql_query(
        "SELECT r.name, r.source, r.condition, r.campaigns, r.platforms, r.hold, r.severity, r.webhooks, r.written_by,
             m.until AS muted_until, m.muted_by, r.created_at, r.updated_at
         FROM alert_rules AS r LEFT JOIN alert_mutes AS m ON m.rule_name = r.name AND m.until > clock_timestamp()
         ORDER BY r.name",
    )
    .load(connection)?;
    let stored = rows.into_iter().map(|row| Stored {
        draft: Draft {
            name: row.name,
            when: row.condition,
            campaigns: row.campaigns,
            platforms: row.platforms,
            hold: row.hold,
            severity: row.severity,
            to: row.webhooks,
        },
        source: if row.source == Source::File.as_str() {
            Source::File
        } else {
            Source::Api
        },
        written_by: row.written_by,
        muted_until: row.muted_until,
        muted_by: row.muted_by,
        created_at: row.created_at,
        updated_at: row.updated_at,
    });
    Ok(stored.collect())
}

/// The names of the webhooks there are.
///
/// # Errors
/// When the database does not answer.
pub fn webhooks(connection: &mut PgConnection) -> Result<Vec<String>, StoreError> {
    #[derive(QueryableByName)]
    struct Row {
        #[diesel(sql_type = Text)]
        name: String,
    }
    let rows: Vec<Row> =
        sql_query("SELECT name FROM alert_webhooks ORDER BY name").load(connection)?;
    Ok(rows.into_iter().map(|row| row.name).collect())
}

/// Makes the file's rules and webhooks the stored ones, in one transaction. A rule of the API whose
/// name the file takes becomes the file's. Webhooks are names and their receivers.
///
/// # Errors
/// When the database does not do it.
pub fn take_file(
    connection: &mut PgConnection,
    rules: &[Draft],
    webhooks: &[(String, String)],
) -> Result<(), StoreError> {
    connection.transaction(|connection| {
        let names: Vec<&str> = rules.iter().map(|r| r.name.as_str()).collect();
        sql_query("DELETE FROM alert_rules WHERE source = 'file' AND name <> ALL($1)")
            .bind::<Array<Text>, _>(names)
            .execute(connection)?;
        for draft in rules {
            upsert(connection, draft, Source::File, None)?;
        }
        let (names, receivers): (Vec<&str>, Vec<&str>) = webhooks
            .iter()
            .map(|(name, receiver)| (name.as_str(), receiver.as_str()))
            .unzip();
        sql_query("DELETE FROM alert_webhooks WHERE name <> ALL($1)")
            .bind::<Array<Text>, _>(&names)
            .execute(connection)?;
        sql_query(
            "INSERT INTO alert_webhooks AS w (name, receiver) SELECT name, receiver FROM unnest($1, $2) AS f (name, receiver)
             ON CONFLICT (name) DO UPDATE SET receiver = EXCLUDED.receiver, updated_at = clock_timestamp()",
        )
        .bind::<Array<Text>, _>(&names)
        .bind::<Array<Text>, _>(&receivers)
        .execute(connection)?;
        Ok(())
    })
}

fn upsert(
    connection: &mut PgConnection,
    draft: &Draft,
    source: Source,
    written_by: Option<&str>,
) -> Result<(), StoreError> {
    sql_query(
        "INSERT INTO alert_rules AS r (name, source, condition, campaigns, platforms, hold, severity, webhooks, written_by)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)
         ON CONFLICT (name) DO UPDATE SET source = EXCLUDED.source, condition = EXCLUDED.condition,
             campaigns = EXCLUDED.campaigns, platforms = EXCLUDED.platforms, hold = EXCLUDED.hold,
             severity = EXCLUDED.severity, webhooks = EXCLUDED.webhooks, written_by = EXCLUDED.written_by,
             updated_at = clock_timestamp()
         WHERE (r.source, r.condition, r.campaigns, r.platforms, r.hold, r.severity, r.webhooks) IS DISTINCT FROM
             (EXCLUDED.source, EXCLUDED.condition, EXCLUDED.campaigns, EXCLUDED.platforms, EXCLUDED.hold,
                 EXCLUDED.severity, EXCLUDED.webhooks)",
    )
    .bind::<Text, _>(&draft.name)
    .bind::<Text, _>(source.as_str())
    .bind::<Text, _>(&draft.when)
    .bind::<Array<Text>, _>(&draft.campaigns)
    .bind::<Array<Text>, _>(&draft.platforms)
    .bind::<Nullable<Text>, _>(&draft.hold)
    .bind::<Nullable<Text>, _>(&draft.severity)
    .bind::<Array<Text>, _>(&draft.to)
    .bind::<Nullable<Text>, _>(written_by)
    .execute(connection)?;
    Ok(())
}

/// What became of a rule that was put or deleted through the API.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Edited {
    Created,
    Replaced,
    Deleted,
    /// There is one of this name already.
    Exists,
    /// There is none of this name.
    Unknown,
    /// It belongs to the file.
    OfFile,
    /// There are as many rules as there may be.
    TooMany,
}

/// Stores a rule of the API; with `only_new`, unless there is one of its name.
///
/// # Errors
/// When the database does not do it.
pub fn put(
    connection: &mut PgConnection,
    draft: &Draft,
    only_new: bool,
    written_by: Option<&str>,
) -> Result<Edited, StoreError> {
    connection.transaction(|connection| {
        let before = lock(connection, &draft.name)?;
        let edited = match before {
            Found::None { of_api } if of_api >= Count::of(MAX_RULES) => Edited::TooMany,
            Found::None { .. } => Edited::Created,
            Found::Api if only_new => Edited::Exists,
            Found::Api => Edited::Replaced,
            Found::File => Edited::OfFile,
        };
        if matches!(edited, Edited::Created | Edited::Replaced) {
            upsert(connection, draft, Source::Api, written_by)?;
        }
        Ok(edited)
    })
}

/// Deletes a rule of the API. Its alerts resolve when the evaluating process notices.
///
/// # Errors
/// When the database does not do it.
pub fn delete(connection: &mut PgConnection, name: &str) -> Result<Edited, StoreError> {
    connection.transaction(|connection| {
        Ok(match lock(connection, name)? {
            Found::None { .. } => Edited::Unknown,
            Found::File => Edited::OfFile,
            Found::Api => {
                sql_query("DELETE FROM alert_rules WHERE name = $1")
                    .bind::<Text, _>(name)
                    .execute(connection)?;
                Edited::Deleted
            }
        })
    })
}

/// Until when webhooks are told nothing of a rule, and since who wants it so.
#[derive(Clone, Debug, PartialEq, Eq, QueryableByName)]
pub struct Mute {
    #[diesel(sql_type = Timestamptz)]
    pub until: DateTime<Utc>,
    #[diesel(sql_type = Nullable<Text>)]
    pub muted_by: Option<String>,
}

/// Mutes a rule until a time, or with none no longer.
///
/// # Errors
/// When the database does not do it.
pub fn mute(
    connection: &mut PgConnection,
    name: &str,
    until: Option<DateTime<Utc>>,
    by: Option<&str>,
) -> Result<(), StoreError> {
    let Some(until) = until else {
        sql_query("DELETE FROM alert_mutes WHERE rule_name = $1")
            .bind::<Text, _>(name)
            .execute(connection)?;
        return Ok(());
    };
    sql_query(
        "INSERT INTO alert_mutes (rule_name, until, muted_by) VALUES ($1, $2, $3)
         ON CONFLICT (rule_name) DO UPDATE
         SET until = EXCLUDED.until, muted_by = EXCLUDED.muted_by, muted_at = clock_timestamp()",
    )
    .bind::<Text, _>(name)
    .bind::<Timestamptz, _>(until)
    .bind::<Nullable<Text>, _>(by)
    .execute(connection)?;
    Ok(())
}

/// How a rule is muted now, if it is.
///
/// # Errors
/// When the database does not answer.
pub fn muted(connection: &mut PgConnection, name: &str) -> Result<Option<Mute>, StoreError> {
    Ok(sql_query(
        "SELECT until, muted_by FROM alert_mutes WHERE rule_name = $1 AND until > clock_timestamp()",
    )
    .bind::<Text, _>(name)
    .get_result(connection)
    .optional()?)
}

enum Found {
    None { of_api: Count },
    Api,
    File,
}

/// Looks for a rule, while nobody else can add or change one.
fn lock(connection: &mut PgConnection, name: &str) -> Result<Found, StoreError> {
    #[derive(QueryableByName)]
    struct Row {
        #[diesel(sql_type = Nullable<Text>)]
        source: Option<String>,
        #[diesel(sql_type = BigInt)]
        of_api: Count,
    }
    // Conflicts with itself and with writers, not with readers.
    sql_query("LOCK TABLE alert_rules IN SHARE ROW EXCLUSIVE MODE").execute(connection)?;
    let row: Row = sql_query(
        "SELECT max(source) FILTER (WHERE name = $1) AS source, count(*) FILTER (WHERE source = 'api') AS of_api
         FROM alert_rules",
    )
    .bind::<Text, _>(name)
    .get_result(connection)?;
    Ok(match row.source.as_deref() {
        None => Found::None { of_api: row.of_api },
        Some("file") => Found::File,
        Some(_) => Found::Api,
    })
}
