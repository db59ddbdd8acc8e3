//! A PostgreSQL that speaks German behaves as one that speaks English: nothing is told by words.

use std::sync::atomic::{AtomicBool, Ordering};

use adflux::store::{self, Limits, Remedy};
use diesel::connection::SimpleConnection;
use diesel::prelude::*;

use crate::database::{execute, number, rows};
use crate::server::Server;

#[test]
fn a_missing_database_is_made_by_whoever_comes_first() {
    let german = Server::german();
    let url = german.url_of("missing");
    // At once, so that some of them find it missing that is there when they make it.
    let ran: usize = std::thread::scope(|scope| {
        let starts: Vec<_> = (0..6)
            .map(|_| scope.spawn(|| store::migrate(&url).expect("the schema").len()))
            .collect();
        starts
            .into_iter()
            .map(|start| start.join().expect("no panic"))
            .sum()
    });
    let mut connection = store::connect(&url, Limits::API).expect("a connection");
    let versions = "SELECT count(*) FROM __diesel_schema_migrations";
    assert_eq!(ran as i64, number(&mut connection, versions));

    // Who may not make one is told so, and does not wait for it.
    execute(&mut connection, "CREATE ROLE guest LOGIN PASSWORD 'guest'");
    let guest = german
        .url_of("another")
        .replace("adflux:adflux", "guest:guest");
    let refused = store::migrate_when_there(&guest, true, &AtomicBool::new(false));
    let refused = refused.expect_err("it may not").to_string();
    assert!(refused.contains("another"), "{refused}");
}

#[test]
fn a_server_that_is_away_is_waited_for() {
    let german = Server::german();
    let url = german.url_of("later");
    german.stop();
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let waiting = scope.spawn(|| store::migrate_when_there(&url, true, &stop));
        german.start_again();
        let there = waiting.join().expect("no panic").expect("it answers");
        assert!(there);
    });
    stop.store(true, Ordering::Relaxed);
}

#[test]
fn what_to_do_next_is_told_by_kind() {
    let german = Server::german();
    let url = german.url_of("kinds");
    store::migrate(&url).expect("the schema");
    let connect = || store::connect(&url, Limits::API).expect("a connection");
    let fails = |connection: &mut PgConnection, sql: &str| -> store::StoreError {
        connection.batch_execute(sql).expect_err(sql).into()
    };
    let mut connection = connect();
    execute(
        &mut connection,
        "ALTER TABLE stream_positions ADD CONSTRAINT only_one CHECK (stream_id < 0) NOT VALID",
    );
    let insert = "INSERT INTO stream_positions (cluster_id, topic, partition, owner, start_offset, next_offset) \
                  VALUES ('c', 't', 0, 'o', 0, 0)";
    let check = fails(&mut connection, insert);
    assert_eq!(check.remedy(), Remedy::Stop, "{check}");
    assert_eq!(check.cause(), "only_one");
    assert!(
        check.to_string().contains("verletzt"),
        "not German: {check}"
    );
    let unknown = fails(&mut connection, "SELECT 1 FROM nowhere");
    assert_eq!(unknown.remedy(), Remedy::Stop, "{unknown}");

    // The same row changed by two of which the second has not seen the first.
    execute(&mut connection, "CREATE TABLE t AS SELECT 1 AS n");
    let mut other = connect();
    execute(
        &mut connection,
        "BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT n FROM t",
    );
    execute(&mut other, "UPDATE t SET n = 2");
    let outrun = fails(&mut connection, "UPDATE t SET n = 3");
    assert_eq!(outrun.remedy(), Remedy::Again, "{outrun}");
    execute(&mut connection, "ROLLBACK");

    // Ended by an administrator.
    let pid = rows(&mut other, "SELECT pg_backend_pid()::text").remove(0);
    execute(
        &mut connection,
        &format!("SELECT pg_terminate_backend({pid}, 60000)"),
    );
    let ended = fails(&mut other, "SELECT 1");
    assert_eq!(ended.remedy(), Remedy::Wait, "{ended}");

    // diesel shows no kind for what a role may not do: the server is asked.
    execute(
        &mut connection,
        "CREATE ROLE reader LOGIN PASSWORD 'reader'; GRANT SELECT ON ALL TABLES IN SCHEMA public TO reader; \
         GRANT ALL ON campaigns TO reader",
    );
    let reader = url.replace("adflux:adflux", "reader:reader");
    let mut reader = store::connect(&reader, Limits::API).expect("a connection");
    let lacking = store::write::check_rights(&mut reader).expect_err("it may not write");
    assert_eq!(lacking.remedy(), Remedy::Stop, "{lacking}");
    let text = lacking.to_string();
    assert!(
        text.contains("INSERT on event_blocks") && !text.contains("INSERT on campaigns"),
        "{text}"
    );
    store::write::check_rights(&mut connection).expect("its owner may");
    german.stop();
    let away = store::connect(&url, Limits::API)
        .err()
        .expect("it has gone");
    assert_eq!(away.remedy(), Remedy::Wait, "{away}");
}
