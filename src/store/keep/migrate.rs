//! The schema: whether it is the one this program knows, and brought up to date.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use diesel::connection::SimpleConnection;
use diesel::migration::{Migration, MigrationSource};
use diesel::pg::Pg;
use diesel::prelude::*;
use diesel::sql_query;
use diesel::sql_types::{Bool, Text};
use diesel_migrations::{EmbeddedMigrations, MigrationHarness, embed_migrations};

use super::rebuild;
use crate::outage::Outage;
use crate::pause::{Backoff, pause, within};
use crate::store::connect::check_sessions;
use crate::store::locks::Lock;
use crate::store::{Limits, Remedy, StoreError, connect, open, redact, url};

const MIGRATIONS: EmbeddedMigrations = embed_migrations!("migrations");

/// The migration from which on sums are read from parts. Where something was counted, they are made first, while
/// whoever knows only the tables before goes on counting and answering.
const FROM_PARTS: &str = "00000000000019";

/// What the parts are made with, beyond what the schema had then: a later migration adds it, where it is not there. It is looked
/// for first, since who only tries waits for everybody who reads and writes.
const FOR_PARTS: &str = "DO $$
     DECLARE
         missing record;
     BEGIN
         FOR missing IN SELECT name, col, kind FROM (VALUES ('event_blocks', 'conversion_millionths', 'integer[]'),
                 ('sum_chunks', 'conversion_millionths', 'bytea'), ('event_blocks', 'observed_at', 'timestamptz[]'))
                 AS t (name, col, kind)
             WHERE NOT EXISTS (SELECT FROM pg_attribute WHERE attrelid = name::regclass AND attname = col)
         LOOP
             EXECUTE format('ALTER TABLE %I ADD COLUMN %I %s', missing.name, missing.col, missing.kind);
         END LOOP;
     END $$";

/// How often it is said how far they are.
const BETWEEN_WORDS: Duration = Duration::from_secs(10);

/// How long another process may take for it, and how often that is looked at.
const WHILE_ANOTHER_DOES: Duration = Duration::from_secs(60);
const BETWEEN_LOOKS: Duration = Duration::from_millis(100);

/// Brings the schema up to date, creating the database when the server has none of that name.
/// Returns the migrations that were run. Safe to run from several processes at once.
///
/// # Errors
/// [`StoreError::Connect`] when the server cannot be reached, [`StoreError::Outdated`] when the role may not do it,
/// [`StoreError::Migrate`] when a migration fails.
pub fn migrate(url: &str) -> Result<Vec<String>, StoreError> {
    within(WHILE_ANOTHER_DOES, BETWEEN_LOOKS, || attempt(url, true))?.ok_or(StoreError::Busy(
        "another process is bringing the schema up to date",
    ))
}

/// As [`migrate`], or with `may_migrate` unset only looks whether that is needed; waits for a server that is away. `false`
/// if `stop` was set before it came.
///
/// # Errors
/// When the server answers, but the schema is not up to date and cannot be brought there.
pub fn migrate_when_there(
    url: &str,
    may_migrate: bool,
    stop: &AtomicBool,
) -> Result<bool, StoreError> {
    let outage = Outage::default();
    let mut failures = 0;
    while !stop.load(Ordering::Relaxed) {
        match attempt(url, may_migrate) {
            Ok(Some(run)) => {
                outage.ended(format_args!("PostgreSQL is there"));
                for version in run {
                    log::info!("ran migration {version}");
                }
                return Ok(true);
            }
            Ok(None) => drop(pause(BETWEEN_LOOKS, stop)),
            Err(error) if matches!(error.remedy(), Remedy::Wait | Remedy::Again) => {
                outage.failed(format_args!(
                    "{error}; retrying until {} is ready",
                    redact(url)
                ));
                pause(Backoff::SERVER.after(failures), stop);
                failures += 1;
            }
            Err(other) => return Err(other),
        }
    }
    Ok(false)
}

/// Runs what is missing. `None` if another process is at it.
fn attempt(url: &str, may_migrate: bool) -> Result<Option<Vec<String>>, StoreError> {
    match check_sessions(url) {
        Err(StoreError::Connect(error)) if !has_or_gets_database(url, may_migrate)? => {
            return Err(error.into());
        }
        Err(StoreError::Connect(_)) => check_sessions(url)?,
        other => other?,
    }
    let mut connection = connect(url, Limits::MAINTENANCE)?;
    let schema = Schema::of(&mut connection)?;
    if let Some(warning) = schema.is_newer() {
        log::warn!("{warning}");
    }
    // What is up to date is not written to: the role may not, or it is a standby.
    if schema.missing.is_empty() {
        return Ok(Some(Vec::new()));
    }
    if !may_migrate || !schema.may_be_changed {
        return Err(schema.outdated());
    }
    // A lock of the transaction ends with it, whatever is between us and the server.
    let run = connection.transaction(|connection| {
        if !Lock::Migrate.try_take_in_transaction(connection)? {
            return Ok(None);
        }
        let counted = has_counted(connection)?;
        let mut run = Vec::new();
        for migration in pending(connection)? {
            if counted && migration.name().version().to_string() == FROM_PARTS {
                connection.batch_execute(FOR_PARTS)?;
                break;
            }
            run.push(run_one(connection, &*migration)?);
        }
        Ok::<_, StoreError>(Some(run))
    });
    if run.is_err() {
        // A server that went away meanwhile has not refused anything: that is another error.
        connection.batch_execute("SELECT 1")?;
    }
    let Some(mut run) = run? else {
        return Ok(None);
    };
    match sums_from_parts(url)? {
        Some(version) => run.extend(version),
        None => return Ok(None),
    }
    Ok(Some(run))
}

/// Makes the sums from the event store and runs the migrations from [`FROM_PARTS`] on, if they were not. Returns which
/// were run; `None` if another process is at it.
fn sums_from_parts(url: &str) -> Result<Option<Vec<String>>, StoreError> {
    let mut connection = connect(url, Limits::MAINTENANCE)?;
    if Schema::of(&mut connection)?.missing.is_empty() {
        return Ok(Some(Vec::new()));
    }
    let mut said = Instant::now();
    let mut progress = |done: u64, all: u64| {
        if said.elapsed() >= BETWEEN_WORDS {
            said = Instant::now();
            log::info!("adding up the event store: {done} of {all} events");
        }
    };
    let mut run = Vec::new();
    let made = rebuild::first(url, &mut progress, &mut |connection| {
        for migration in pending(connection)? {
            run.push(run_one(connection, &*migration)?);
        }
        Ok(())
    })?;
    let Some(made) = made else {
        return Ok(None);
    };
    log::info!(
        "sums of {} events are made; processors waited {:.1?}",
        made.events,
        made.held_up
    );
    if made.corrected_campaigns > 0 {
        log::warn!(
            "the sums of {} campaigns come out otherwise than the tables before had them; what the event store says is right",
            made.corrected_campaigns
        );
    }
    Ok(Some(run))
}

fn pending(connection: &mut PgConnection) -> Result<Vec<Box<dyn Migration<Pg>>>, StoreError> {
    connection
        .pending_migrations(MIGRATIONS)
        .map_err(|error| StoreError::Migrate(error.to_string()))
}

fn run_one(
    connection: &mut PgConnection,
    migration: &dyn Migration<Pg>,
) -> Result<String, StoreError> {
    connection
        .run_migration(migration)
        .map(|version| version.to_string())
        .map_err(|error| StoreError::Migrate(error.to_string()))
}

/// Whether the store has any events; one without tables has none.
fn has_counted(connection: &mut PgConnection) -> Result<bool, StoreError> {
    let table: Yes = sql_query("SELECT to_regclass('event_blocks') IS NOT NULL AS yes")
        .get_result(connection)?;
    if !table.yes {
        return Ok(false);
    }
    let counted: Yes =
        sql_query("SELECT EXISTS (SELECT FROM event_blocks) AS yes").get_result(connection)?;
    Ok(counted.yes)
}

/// Drops the tables of sums that parts have replaced; there is no way back to a version that reads them then. `false` if
/// there are none.
///
/// # Errors
/// [`StoreError::Outdated`] when the schema is not up to date; else as the database does.
pub fn drop_replaced(url: &str) -> Result<bool, StoreError> {
    let mut connection = open(url, Limits::MAINTENANCE)?;
    Schema::of(&mut connection)?.is_up_to_date()?;
    let there: Yes = sql_query("SELECT to_regclass('replaced_metrics_total') IS NOT NULL AS yes")
        .get_result(&mut connection)?;
    connection.batch_execute(
        "DROP TABLE IF EXISTS replaced_metrics_by_minute, replaced_metrics_by_hour, replaced_metrics_by_day, \
         replaced_metrics_total",
    )?;
    Ok(there.yes)
}

/// How the schema of a database stands to what this program knows.
pub struct Schema {
    /// Migrations that were not run.
    missing: Vec<String>,
    /// Migrations that another version of this program has run.
    unknown: Vec<String>,
    is_empty: bool,
    /// Whether this role may run any, here.
    may_be_changed: bool,
    is_standby: bool,
}

impl Schema {
    /// Reads it.
    ///
    /// # Errors
    /// [`StoreError::Encoding`] when the database cannot hold every text, [`StoreError::Privileges`] when the role may
    /// not look.
    pub fn of(connection: &mut PgConnection) -> Result<Schema, StoreError> {
        #[derive(QueryableByName)]
        struct Found {
            #[diesel(sql_type = Text)]
            encoding: String,
            #[diesel(sql_type = Bool)]
            is_visible: bool,
            #[diesel(sql_type = Bool)]
            is_there: bool,
            #[diesel(sql_type = Bool)]
            may_be_changed: bool,
            #[diesel(sql_type = Bool)]
            is_standby: bool,
        }
        #[derive(QueryableByName)]
        struct Run {
            #[diesel(sql_type = Text)]
            version: String,
        }
        let found: Found = sql_query(
            "SELECT current_setting('server_encoding') AS encoding, current_schema() IS NOT NULL AS is_visible,
                 m.oid IS NOT NULL AS is_there, pg_is_in_recovery() AS is_standby,
                 COALESCE(has_schema_privilege(current_schema(), 'CREATE'), false)
                     AND COALESCE(pg_has_role(m.relowner, 'USAGE'), true) AND NOT pg_is_in_recovery() AS may_be_changed
             FROM (SELECT to_regclass('__diesel_schema_migrations') AS oid) AS t
             LEFT JOIN pg_class AS m ON m.oid = t.oid",
        )
        .get_result(connection)?;
        if found.encoding != "UTF8" {
            return Err(StoreError::Encoding(found.encoding));
        }
        if !found.is_visible {
            let what = "USAGE on the schema public (docs/operating.md, Roles)";
            return Err(StoreError::Privileges(what.to_owned()));
        }
        let mut run = BTreeSet::new();
        if found.is_there {
            let rows: Vec<Run> =
                sql_query("SELECT version FROM __diesel_schema_migrations").load(connection)?;
            run.extend(rows.into_iter().map(|row| row.version));
        }
        let known: Vec<Box<dyn Migration<Pg>>> = MIGRATIONS
            .migrations()
            .map_err(|error| StoreError::Migrate(error.to_string()))?;
        let known: BTreeSet<String> = known
            .iter()
            .map(|migration| migration.name().version().to_string())
            .collect();
        Ok(Schema {
            missing: known.difference(&run).cloned().collect(),
            unknown: run.difference(&known).cloned().collect(),
            is_empty: run.is_empty(),
            may_be_changed: found.may_be_changed,
            is_standby: found.is_standby,
        })
    }

    /// Whether every migration was run that this program knows.
    ///
    /// # Errors
    /// [`StoreError::Outdated`] if not.
    pub fn is_up_to_date(&self) -> Result<(), StoreError> {
        if self.missing.is_empty() {
            Ok(())
        } else {
            Err(self.outdated())
        }
    }

    /// What to say when a newer program has changed the schema. That is so while one is being brought out, and until
    /// then the older ones go on.
    pub fn is_newer(&self) -> Option<String> {
        (!self.unknown.is_empty()).then(|| {
            format!(
                "the schema is newer than this adflux, which does not know migration {}: update it",
                self.unknown.join(", ")
            )
        })
    }

    fn outdated(&self) -> StoreError {
        let who = if self.is_standby {
            "on the primary of this standby"
        } else {
            "as the owner of the schema"
        };
        let what = if self.is_empty {
            "the database has no schema of adflux".to_owned()
        } else {
            format!("the schema lacks migration {}", self.missing.join(", "))
        };
        StoreError::Outdated(format!("{what}: run `adflux migrate` {who}"))
    }
}

/// Whether the server answers and has the database, which is created if it is missing. Why a
/// connection fails is told in words alone, so the server is asked over its maintenance database.
fn has_or_gets_database(url: &str, may_create: bool) -> Result<bool, StoreError> {
    // One that a service of libpq's names is its owner's to create.
    let Some(name) = url::database(url) else {
        return Ok(false);
    };
    let mut server = match connect(&url::with(url, "dbname", "postgres"), Limits::MAINTENANCE) {
        Err(StoreError::Connect(_)) => return Ok(false),
        other => other?,
    };
    if has_database(&mut server, &name)? {
        return Ok(true);
    }
    let create = format!(
        "CREATE DATABASE \"{}\" ENCODING 'UTF8' TEMPLATE template0",
        name.replace('"', "\"\"")
    );
    let missing = |why: &str| {
        StoreError::Migrate(format!(
            "there is no database {name:?}, and {why}: correct DATABASE_URL, or run {create}"
        ))
    };
    if !may_create {
        return Err(missing("--no-migrate is set"));
    }
    if !url::is_plain(&name) {
        return Err(missing("one of such a name is not created unasked"));
    }
    match server.batch_execute(&create) {
        Ok(()) => Ok(true),
        // Another process was quicker.
        Err(_) if has_database(&mut server, &name)? => Ok(true),
        Err(error) if !may_create_databases(&mut server)? => {
            Err(missing(&format!("the role may not create it ({error})")))
        }
        Err(error) => Err(error.into()),
    }
}

fn has_database(server: &mut PgConnection, name: &str) -> Result<bool, StoreError> {
    let asked = sql_query("SELECT EXISTS (SELECT FROM pg_database WHERE datname = $1) AS yes");
    Ok(asked.bind::<Text, _>(name).get_result::<Yes>(server)?.yes)
}

fn may_create_databases(server: &mut PgConnection) -> Result<bool, StoreError> {
    let asked = sql_query(
        "SELECT rolcreatedb OR rolsuper AS yes FROM pg_roles WHERE rolname = current_user",
    );
    Ok(asked.get_result::<Yes>(server)?.yes)
}

#[derive(QueryableByName)]
struct Yes {
    #[diesel(sql_type = Bool)]
    yes: bool,
}
