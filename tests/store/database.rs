//! A database of a test's own, on the server that `DATABASE_URL` names.

use std::ops::{Deref, DerefMut};
use std::sync::atomic::{AtomicU32, Ordering};

use adflux::store::{self, Limits};
use diesel::connection::SimpleConnection;
use diesel::prelude::*;
use diesel::sql_query;
use diesel::sql_types::{BigInt, Text};

/// Made with the schema in it; dropped with the value, also when the test panics.
pub struct TestDatabase {
    pub url: String,
    name: String,
    connection: PgConnection,
}

impl TestDatabase {
    pub fn create() -> TestDatabase {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let name = format!(
            "adflux_store_{}_{}_{}",
            std::process::id(),
            NUMBER.fetch_add(1, Ordering::Relaxed),
            uuid::Uuid::from_u128(rand::random()).simple()
        );
        let url = url_of(&name);
        store::migrate(&url).expect("the schema");
        let connection = store::connect(&url, Limits::PROCESSOR).expect("a connection");
        TestDatabase {
            url,
            name,
            connection,
        }
    }

    /// Another connection to it.
    pub fn connect(&self) -> PgConnection {
        store::connect(&self.url, Limits::PROCESSOR).expect("a connection")
    }
}

impl Deref for TestDatabase {
    type Target = PgConnection;
    fn deref(&self) -> &PgConnection {
        &self.connection
    }
}

impl DerefMut for TestDatabase {
    fn deref_mut(&mut self) -> &mut PgConnection {
        &mut self.connection
    }
}

impl Drop for TestDatabase {
    fn drop(&mut self) {
        let dropped = PgConnection::establish(&base_url())
            .map_err(|e| e.to_string())
            .and_then(|mut server| {
                server
                    .batch_execute(&format!("DROP DATABASE \"{}\" WITH (FORCE)", self.name))
                    .map_err(|e| e.to_string())
            });
        if let Err(error) = dropped {
            eprintln!("database {} is left behind: {error}", self.name);
        }
    }
}

fn base_url() -> String {
    std::env::var("DATABASE_URL").expect(
        "DATABASE_URL must name a PostgreSQL server on which these tests may create databases \
         (scripts/services up starts one, and source <(scripts/services env) sets it)",
    )
}

fn url_of(name: &str) -> String {
    let base = base_url();
    let (server, query) = base.split_once('?').unwrap_or((&base, ""));
    let (host, _) = server
        .rsplit_once('/')
        .expect("a database name in DATABASE_URL");
    match query {
        "" => format!("{host}/{name}"),
        query => format!("{host}/{name}?{query}"),
    }
}

/// Runs statements.
pub fn execute(connection: &mut PgConnection, sql: &str) {
    connection
        .batch_execute(sql)
        .unwrap_or_else(|e| panic!("{e}: {sql}"));
}

/// The rows of a query with one column of text.
pub fn rows(connection: &mut PgConnection, sql: &str) -> Vec<String> {
    #[derive(QueryableByName)]
    struct Row {
        #[diesel(sql_type = Text)]
        line: String,
    }
    sql_query(format!("SELECT q.line FROM ({sql}) AS q (line)"))
        .load::<Row>(connection)
        .unwrap_or_else(|e| panic!("{e}: {sql}"))
        .into_iter()
        .map(|row| row.line)
        .collect()
}

/// A number.
pub fn number(connection: &mut PgConnection, sql: &str) -> i64 {
    #[derive(QueryableByName)]
    struct Row {
        #[diesel(sql_type = BigInt)]
        value: i64,
    }
    sql_query(format!("SELECT ({sql})::bigint AS value"))
        .get_result::<Row>(connection)
        .unwrap_or_else(|e| panic!("{e}: {sql}"))
        .value
}

/// Everything the four projections say, row by row.
pub fn projections(connection: &mut PgConnection) -> Vec<String> {
    let mut all = Vec::new();
    for table in [
        "metrics_by_minute",
        "metrics_by_hour",
        "metrics_by_day",
        "metrics_total",
    ] {
        all.extend(rows(
            connection,
            &format!("SELECT '{table} ' || t::text FROM {table} AS t ORDER BY t"),
        ));
    }
    all
}

/// Every event, with the place it came from.
pub fn events(connection: &mut PgConnection) -> Vec<String> {
    rows(
        connection,
        "SELECT e::text FROM ad_events AS e ORDER BY partition, \"offset\"",
    )
}
