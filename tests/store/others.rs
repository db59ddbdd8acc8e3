//! Other people's PostgreSQL: URLs as they are written elsewhere, encodings, standbys, poolers, small memories.

use std::sync::atomic::AtomicBool;

use adflux::store::events::Fingerprinter;
use adflux::store::keep::rebuild_as_of::{AsOfError, rebuild_as_of};
use adflux::store::read::as_of::{self, Known, NotYet};
use adflux::store::{self, Limits, Schema, StoreError, identity};
use adflux::time::Timestamp;
use chrono::{DateTime, Utc};
use diesel::prelude::*;

use crate::database::{TestDatabase, execute, number, rows};
use crate::log::{Log, event};
use crate::server::{Pooler, Server, Standby};
use crate::wait::wait_until;

/// The same server with something else behind its address.
fn server_and(rest: &str) -> String {
    let url = std::env::var("DATABASE_URL").expect("it is set");
    let (scheme, place) = url.split_once("://").expect("a URL");
    let (place, _) = place.split_once('?').unwrap_or((place, ""));
    let (address, _) = place.rsplit_once('/').expect("a database");
    format!("{scheme}://{address}{rest}")
}

fn databases(connection: &mut PgConnection) -> Vec<String> {
    rows(
        connection,
        "SELECT datname FROM pg_database WHERE datname NOT LIKE 'adflux_store_%' ORDER BY 1",
    )
}

#[test]
fn the_database_is_the_one_that_libpq_connects_to() {
    let mut database = TestDatabase::create();
    let name = rows(&mut database, "SELECT current_database()").remove(0);
    let encoded = name.replace('_', "%5F");
    for rest in [
        format!("/{name}"),
        format!("/{name}?"),
        format!("/{encoded}?connect_timeout=3"),
        format!("?dbname={name}"),
        format!("/postgres?dbname={encoded}"),
        format!("/nowhere?dbname=postgres&dbname={name}"),
    ] {
        let url = server_and(&rest);
        let mut connection = store::connect(&url, Limits::API).expect(&url);
        let reached = rows(&mut connection, "SELECT current_database()").remove(0);
        assert_eq!(reached, name, "{url}");
        assert_eq!(store::migrate(&url).expect(&url), Vec::<String>::new());
    }
}

#[test]
fn a_database_is_created_only_where_the_url_plainly_names_it() {
    let database = TestDatabase::create();
    let before = databases(&mut database.connect());
    for rest in [
        "",
        "/",
        "?sslmode=prefer",
        "/new\n",
        "/new%0A",
        "/new;",
        "/new%20one",
        "/new?dbname=",
    ] {
        let refused = store::migrate(&server_and(rest))
            .expect_err(rest)
            .to_string();
        assert!(refused.contains("DATABASE_URL"), "{rest}: {refused}");
    }
    let long = format!("/{}", "n".repeat(64));
    let refused = store::migrate(&server_and(&long)).expect_err("PostgreSQL would shorten it");
    assert!(refused.to_string().contains("CREATE DATABASE"), "{refused}");
    assert_eq!(databases(&mut database.connect()), before);

    // A name with an encoded character is a plain one.
    let unique = format!("{:08x}", rand::random::<u32>());
    let url = server_and(&format!("/adflux_store%2D{unique}"));
    store::migrate(&url).expect("it is made");
    let mut made = store::connect(&url, Limits::API).expect("it is there");
    let name = rows(&mut made, "SELECT current_database()").remove(0);
    assert_eq!(name, format!("adflux_store-{unique}"));
    drop(made);
    execute(
        &mut database.connect(),
        &format!("DROP DATABASE \"{name}\" WITH (FORCE)"),
    );
}

#[test]
fn a_database_that_cannot_hold_every_text_is_refused_at_start() {
    let database = TestDatabase::create();
    let name = format!("adflux_store_latin_{:08x}", rand::random::<u32>());
    execute(
        &mut database.connect(),
        &format!(
            "CREATE DATABASE {name} ENCODING 'LATIN1' LC_COLLATE 'C' LC_CTYPE 'C' TEMPLATE template0"
        ),
    );
    let url = server_and(&format!("/{name}"));
    for may_migrate in [true, false] {
        let refused = store::migrate_when_there(&url, may_migrate, &AtomicBool::new(false));
        let refused = refused.expect_err("LATIN1").to_string();
        assert!(
            refused.contains("LATIN1") && refused.contains("ENCODING 'UTF8'"),
            "{refused}"
        );
    }
    execute(
        &mut database.connect(),
        &format!("DROP DATABASE {name} WITH (FORCE)"),
    );
}

#[test]
fn a_pooler_of_transactions_is_refused_and_one_of_sessions_works() {
    let database = TestDatabase::create();
    let pooler = Pooler::start(&database.url, "transaction");
    // Nor does a start leave anything behind there that the next one would wait for.
    for _ in 0..3 {
        let refused = store::migrate_when_there(&pooler.url, true, &AtomicBool::new(false));
        let refused = refused.expect_err("sessions are mixed up").to_string();
        assert!(refused.contains("pool_mode = session"), "{refused}");
    }
    let pooler = Pooler::start(&database.url, "session");
    for _ in 0..3 {
        let there = store::migrate_when_there(&pooler.url, true, &AtomicBool::new(false));
        assert!(there.expect("it works"));
    }
    let mut connection = store::connect(&pooler.url, Limits::PROCESSOR).expect("a connection");
    let prints = Fingerprinter::default();
    let mut log = Log::claim(&mut connection, 0);
    log.store(&mut connection, &prints, [event(1, "cmp-1", 0)]);
    assert_eq!(
        number(&mut connection, "SELECT sum(events) FROM metrics_total"),
        1
    );
}

/// What takes long has limits of its own.
#[test]
fn limits_that_a_database_was_given_stop_nothing_of_ours() {
    let database = TestDatabase::create();
    let (mut other, mut watching) = (database.connect(), database.connect());
    let name = rows(&mut other, "SELECT current_database()").remove(0);
    for limit in [
        "statement_timeout",
        "lock_timeout",
        "idle_session_timeout",
        "idle_in_transaction_session_timeout",
        "transaction_timeout",
    ] {
        let known = format!("SELECT count(*) FROM pg_settings WHERE name = '{limit}'");
        if number(&mut other, &known) == 0 {
            assert_eq!(limit, "transaction_timeout", "which is known since 17");
            continue;
        }
        let set = format!("ALTER DATABASE {name} SET {limit} = '1s'");
        execute(&mut other, &set);
    }
    let isolate =
        format!("ALTER DATABASE {name} SET default_transaction_isolation = 'serializable'");
    execute(&mut other, &isolate);
    let isolation = rows(
        &mut database.connect(),
        "SELECT current_setting('transaction_isolation')",
    );
    assert_eq!(isolation, ["read committed"]);
    let url = &*database.url;
    let verify = || {
        let mut connection = store::connect(url, Limits::MAINTENANCE)?;
        store::keep::verify::verify(&mut connection, &|_| {}).map(drop)
    };
    let rebuild = || store::keep::rebuild::rebuild(url, &mut |_, _| ()).map(drop);
    let migrate = || store::migrate(url).map(drop);
    type Work<'a> = &'a (dyn Fn() -> Result<(), StoreError> + Sync);
    let each: [(&str, Work<'_>); 3] = [
        ("stream_positions, event_blocks", &verify),
        ("stream_positions, event_blocks", &rebuild),
        ("__diesel_schema_migrations", &migrate),
    ];
    for (table, work) in each {
        execute(&mut other, &format!("BEGIN; LOCK TABLE {table}"));
        std::thread::scope(|scope| {
            let working = scope.spawn(work);
            wait_until("a statement takes longer than the limit", || {
                let asked = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()
                             AND wait_event_type = 'Lock' AND clock_timestamp() - query_start > interval '1.5 s'";
                assert!(!working.is_finished(), "nothing waited for {table}");
                number(&mut watching, asked) == 1
            });
            execute(&mut other, "COMMIT");
            working.join().expect("no panic").expect(table);
        });
    }
}

#[test]
fn a_standby_answers_and_says_what_is_not_final() {
    let primary = Server::start();
    store::migrate(&primary.url).expect("the schema");
    let standby = Standby::of(&primary);
    let mut connection = store::connect(&primary.url, Limits::PROCESSOR).expect("a connection");
    let prints = Fingerprinter::default();
    let mut log = Log::claim(&mut connection, 0);
    log.store(&mut connection, &prints, [event(1, "cmp-1", 0)]);
    let first = store::clock(&mut connection).expect("a clock");
    log.store(&mut connection, &prints, [event(2, "cmp-1", 1)]);

    // Nothing is migrated, as nothing is missing.
    let there = store::migrate_when_there(&standby.url, true, &AtomicBool::new(false));
    assert!(there.expect("it is up to date"));
    let mut reading = store::connect(&standby.url, Limits::API).expect("a connection");
    Schema::of(&mut reading)
        .expect("it can be read")
        .is_up_to_date()
        .expect("it is");
    wait_until("the commits arrive", || {
        number(
            &mut reading,
            "SELECT COALESCE(sum(events), 0) FROM metrics_total",
        ) == 2
    });
    identity::identity(&mut reading).expect("it says which it is");

    // Between two commits of the only partition, all is known.
    let known = ask(&mut reading, first);
    let Known::Sums(sums, _) = known else {
        panic!("{known:?}")
    };
    assert_eq!(
        sums,
        match ask(&mut connection, first) {
            Known::Sums(sums, _) => sums,
            other => panic!("{other:?}"),
        }
    );
    // After the last one, another may have begun that is not seen here.
    let now = store::clock(&mut connection).expect("a clock");
    let Known::NotYet(NotYet::NotReplayed { until }) = ask(&mut reading, now) else {
        panic!("that cannot be known");
    };
    assert!(until >= first && until < now, "{first} {until} {now}");
    assert!(matches!(ask(&mut connection, now), Known::Sums(..)));
    let refused = rebuild_as_of(&standby.url, now, "then").expect_err("it cannot be written");
    assert!(matches!(refused, AsOfError::Standby), "{refused}");

    // What is missing is said where it can be mended.
    execute(
        &mut connection,
        "DELETE FROM __diesel_schema_migrations WHERE version = '00000000000011'",
    );
    wait_until("the standby has it", || {
        Schema::of(&mut reading)
            .expect("it can be read")
            .is_up_to_date()
            .is_err()
    });
    let behind = store::migrate_when_there(&standby.url, true, &AtomicBool::new(false));
    let behind = behind.expect_err("it is behind").to_string();
    assert!(
        behind.contains("on the primary of this standby"),
        "{behind}"
    );
}

fn ask(connection: &mut PgConnection, instant: DateTime<Utc>) -> Known {
    let until = std::time::Instant::now() + crate::wait::PATIENCE;
    as_of::campaign(
        connection,
        "cmp-1",
        None,
        None,
        Timestamp::from(instant),
        until,
    )
    .expect("it answers")
}

#[test]
fn a_name_that_postgresql_would_shorten_is_refused() {
    let mut database = TestDatabase::create();
    let instant = store::clock(&mut database).expect("a clock");
    let name = "s".repeat(63);
    rebuild_as_of(&database.url, instant, &name).expect("it is made");
    for bad in [format!("{name}s"), String::new()] {
        let refused = rebuild_as_of(&database.url, instant, &bad).expect_err("too long");
        assert!(matches!(refused, AsOfError::NotAName), "{refused}");
    }
    let there = format!("SELECT count(*) FROM pg_namespace WHERE nspname = '{name}'");
    assert_eq!(number(&mut database, &there), 1);
}

#[test]
fn what_failed_is_said_once() {
    let mut database = TestDatabase::create();
    execute(&mut database, "DROP TABLE late_events CASCADE");
    let error = store::keep::verify::verify(&mut database, &|_| {}).expect_err("a table is gone");
    let said = format!("{:#}", anyhow::Error::from(error));
    assert_eq!(said.matches("late_events").count(), 1, "{said}");
    let error = StoreError::Full("no room".to_owned());
    assert_eq!(
        (error.cause(), error.remedy()),
        ("disk_full", store::Remedy::Wait)
    );
}
