//! The cache can be old, never wrong; and with a server gone there is still an answer.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use adflux::cache::redis::{Names, SharedCache};
use adflux::cache::refresh::Refresher;
use adflux::event::Platform;
use adflux::store::identity::{identity, raise_generation};
use adflux::store::read::insights;
use diesel::PgConnection;
use diesel::connection::SimpleConnection as _;

use adflux::store::{self, Limits};

use crate::support::redis::RedisServer;
use crate::world::{Api, Proxy, TestDatabase, count, given, redis_at, server_of, until, variable};

const TIME: i64 = 1_769_817_600_000_000;
const LONG: Duration = Duration::from_secs(3_600);
const SHORT: Duration = Duration::from_millis(20);

fn one_click(campaign: &str) -> [crate::world::Given; 1] {
    [given(campaign, Platform::Meta, TIME, [10, 1, 0, 1, 1])]
}

/// Until the one server of this database hears its notices: what was said before is not said again.
fn until_it_listens(redis: &str, connection: &mut PgConnection) {
    let names = Names::of(identity(connection).expect("an id"));
    let mut redis = redis::Client::open(redis)
        .and_then(|client| client.get_connection())
        .expect("Redis answers");
    until("the server listens", || {
        let asked = redis::cmd("PUBSUB")
            .arg("NUMSUB")
            .arg(names.channel())
            .query::<(String, u32)>(&mut redis);
        asked.expect("Redis answers").1 == 1
    });
}

#[test]
fn answers_come_from_the_nearest_cache_that_has_them() {
    let database = TestDatabase::create();
    let redis = variable("REDIS_URL");
    count(&mut database.connect(), &one_click("cmp-1"));
    let first = Api::start(&database.url(), Some(&redis), SHORT);
    assert_eq!(first.get("/campaign/cmp-1/insights").cache, "database");
    until(
        "what the first server read from PostgreSQL is in Redis",
        || first.get("/campaign/cmp-1/insights").cache == "redis",
    );
    // It learns which keys are its database's in the background, and then looks again.
    let second = Api::start(&database.url(), Some(&redis), SHORT);
    until("another server finds it there", || {
        second.get("/campaign/cmp-1/insights").cache == "redis"
    });
    let third = Api::start(&database.url(), Some(&redis), LONG);
    until("one that may keeps it", || {
        third.get("/campaign/cmp-1/insights").cache == "process"
    });
}

#[test]
fn a_commit_reaches_every_server_through_redis_at_once() {
    let database = TestDatabase::create();
    let redis = variable("REDIS_URL");
    let mut connection = database.connect();
    count(&mut connection, &one_click("cmp-1"));
    // Fresh for an hour: only the notice can make it look again.
    let api = Api::start(&database.url(), Some(&redis), LONG);
    let refresher = Refresher::start(&redis_at(&redis), &database.url()).expect("starts");
    let changes = refresher.changes().expect("a channel");
    until_it_listens(&redis, &mut connection);
    let clicks = || api.get("/campaign/cmp-1/insights").json()["totals"]["clicks"].clone();
    assert_eq!(clicks(), 1);
    count(&mut connection, &one_click("cmp-1"));
    changes.send(vec![Arc::from("cmp-1")]).expect("sends");
    until("the commit is seen", || clicks() == 2);
}

#[test]
fn with_many_asking_and_events_flowing_nobody_sees_less_than_before() {
    let database = TestDatabase::create();
    let redis = variable("REDIS_URL");
    let mut connection = database.connect();
    count(&mut connection, &one_click("cmp-1"));
    // Fresh for an hour: only notices make it look again.
    let api = Api::start(&database.url(), Some(&redis), LONG);
    let refresher = Refresher::start(&redis_at(&redis), &database.url()).expect("starts");
    let changes = refresher.changes().expect("a channel");
    let clicks = || {
        let answer = api.get("/campaign/cmp-1/insights");
        assert_eq!(answer.status, 200, "{answer:?}");
        answer.json()["totals"]["clicks"]
            .as_i64()
            .expect("a number")
    };
    until_it_listens(&redis, &mut connection);
    let mut counted = 1;
    let mut commit = || {
        count(&mut connection, &one_click("cmp-1"));
        changes.send(vec![Arc::from("cmp-1")]).expect("sends");
        counted += 1;
        counted
    };
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                let mut last = 0;
                while !done.load(Ordering::Relaxed) {
                    let now = clicks();
                    assert!(now >= last, "{now} after {last}");
                    last = now;
                }
            });
        }
        let counted = (0..50).map(|_| commit()).last().expect("some");
        // The last notice may come while what was counted before it is being read.
        let seen = std::panic::catch_unwind(AssertUnwindSafe(|| {
            until("the last commit is seen", || clicks() == counted);
        }));
        done.store(true, Ordering::Relaxed);
        seen.expect("seen");
    });
}

#[test]
fn a_slow_writer_cannot_put_an_older_value_back() {
    let database = TestDatabase::create();
    let mut connection = database.connect();
    let names = Names::of(identity(&mut connection).expect("an id"));
    count(&mut connection, &one_click("cmp-1"));
    let older = insights::totals(&mut connection, &["cmp-1"])
        .expect("reads")
        .remove(0);
    count(&mut connection, &one_click("cmp-1"));
    let newer = insights::totals(&mut connection, &["cmp-1"])
        .expect("reads")
        .remove(0);
    assert!(newer.freshness.commit_id > older.freshness.commit_id);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime");
    let shared = SharedCache::new(redis_at(&variable("REDIS_URL")));
    let get = || runtime.block_on(shared.get(&names, "cmp-1"));
    assert_eq!(get(), None);
    // A Redis that was slow for a moment is left alone for a second.
    until("it is put", || {
        runtime.block_on(shared.put(&names, &newer));
        get().as_ref() == Some(&newer)
    });
    // Whether it is asked or not.
    runtime.block_on(shared.put(&names, &older));
    assert_eq!(get(), Some(newer));
}

#[test]
fn a_redis_that_reads_but_refuses_writes_makes_no_answer_old() {
    for (refuse, allow) in [
        ("CONFIG SET maxmemory 1", "CONFIG SET maxmemory 0"),
        ("REPLICAOF 127.0.0.1 1", "REPLICAOF NO ONE"),
        ("ACL SETUSER default -set", "ACL SETUSER default +set"),
    ] {
        let redis = RedisServer::start();
        let database = TestDatabase::create();
        let mut connection = database.connect();
        let api = Api::start(&database.url(), Some(&redis.url()), SHORT);
        let refresher = Refresher::start(&redis_at(&redis.url()), &database.url()).expect("starts");
        let changes = refresher.changes().expect("a channel");
        let mut commit = || {
            count(&mut connection, &one_click("cmp-1"));
            changes.send(vec![Arc::from("cmp-1")]).expect("sends");
        };
        let clicks = || api.get("/campaign/cmp-1/insights").json()["totals"]["clicks"].clone();
        let is_in_redis = || api.get("/campaign/cmp-1/insights").cache == "redis";
        commit();
        until("the first commit is in Redis", is_in_redis);
        redis.run(refuse);
        commit();
        until(refuse, || clicks() == 2);
        redis.run(allow);
        commit();
        until("the third commit is in Redis", || {
            clicks() == 3 && is_in_redis()
        });
    }
}

#[test]
fn what_is_not_ours_under_our_names_is_replaced() {
    let redis = RedisServer::start();
    let database = TestDatabase::create();
    let mut connection = database.connect();
    let names = Names::of(identity(&mut connection).expect("an identity"));
    redis.run(&format!("SET {} 12", names.insight("cmp-1")));
    redis.run(&format!("RPUSH {} a b", names.insight("cmp-2")));
    let refresher = Refresher::start(&redis_at(&redis.url()), &database.url()).expect("starts");
    let both = ["cmp-1", "cmp-2"];
    both.iter()
        .for_each(|c| count(&mut connection, &one_click(c)));
    let changes = refresher.changes().expect("a channel");
    changes.send(both.map(Arc::from).to_vec()).expect("sends");
    let api = Api::start(&database.url(), Some(&redis.url()), SHORT);
    for campaign in both {
        let path = format!("/campaign/{campaign}/insights");
        until("it is in Redis", || {
            let answer = api.get(&path);
            assert_eq!(
                (answer.status, &answer.json()["totals"]["clicks"]),
                (200, &1.into())
            );
            answer.cache == "redis"
        });
    }
    let now = Names::of(identity(&mut connection).expect("an identity"));
    assert_eq!(now, names, "nothing was refused");
}

#[test]
fn what_a_history_that_was_lost_had_counted_is_not_current() {
    let database = TestDatabase::create();
    let redis = variable("REDIS_URL");
    let mut connection = database.connect();
    count(&mut connection, &one_click("cmp-1"));
    count(&mut connection, &one_click("cmp-1"));
    for redis in [None, Some(redis.as_str())] {
        // Fresh for an hour, and in Redis for ten minutes.
        let api = Api::start(&database.url(), redis, LONG);
        let clicks = || api.get("/campaign/cmp-1/insights").json()["totals"]["clicks"].clone();
        assert_eq!(clicks(), 2);
        if redis.is_some() {
            let second = Api::start(&database.url(), redis, SHORT);
            until("it is in Redis", || {
                second.get("/campaign/cmp-1/insights").cache == "redis"
            });
        }
        // As after a standby took over that had not got the second commit.
        let go_back = "CREATE TABLE kept AS SELECT * FROM sum_parts ORDER BY part_id DESC LIMIT 1;
             DELETE FROM sum_parts AS p USING kept AS k WHERE p.part_id = k.part_id";
        connection.batch_execute(go_back).expect("goes back");
        raise_generation(&mut connection).expect("raises");
        until("it is read anew", || clicks() == 1);
        let again = "INSERT INTO sum_parts SELECT * FROM kept; DROP TABLE kept";
        connection.batch_execute(again).expect("counts again");
        raise_generation(&mut connection).expect("raises");
    }
}

#[test]
fn a_copy_of_a_database_has_other_keys() {
    let database = TestDatabase::create();
    let copy = format!("{}_copy", database.name);
    let url = database.url();
    let (server, _) = url.rsplit_once('/').expect("a database");
    let mut maintenance =
        store::connect(&format!("{server}/postgres"), Limits::PROCESSOR).expect("connects");
    let before = identity(&mut database.connect()).expect("an identity");
    let made = format!("CREATE DATABASE {copy} TEMPLATE {}", database.name);
    until("nobody is connected any more", || {
        maintenance.batch_execute(&made).is_ok()
    });
    let mut connection =
        store::connect(&format!("{server}/{copy}"), Limits::API).expect("connects");
    let of_copy = identity(&mut connection).expect("an identity");
    drop(connection);
    maintenance
        .batch_execute(&format!("DROP DATABASE {copy} WITH (FORCE)"))
        .expect("drops");
    assert_ne!(of_copy, before);
    assert_eq!(
        identity(&mut database.connect()).expect("an identity"),
        before
    );
}

#[test]
fn with_redis_gone_answers_come_from_postgresql_and_with_it_back_from_redis() {
    let database = TestDatabase::create();
    let proxy = Proxy::before(&server_of(&variable("REDIS_URL")));
    let redis = format!("redis://{}", proxy.address);
    let mut connection = database.connect();
    count(&mut connection, &one_click("cmp-1"));
    let api = Api::start(&database.url(), Some(&redis), SHORT);
    let from = |wanted: &str| {
        until(wanted, || {
            let answer = api.get("/campaign/cmp-1/insights");
            assert_eq!(answer.status, 200, "{answer:?}");
            answer.cache == wanted
        });
    };
    from("redis");
    proxy.cut();
    from("database");
    until("it is said", || {
        let ready = api.get("/readyz");
        assert_eq!(ready.status, 200, "{ready:?}");
        ready.json()["redis"] == "unreachable"
    });
    // What Redis missed while it was away does not make it wrong.
    count(&mut connection, &one_click("cmp-1"));
    from("database");
    proxy.mend();
    let refresher = Refresher::start(&redis_at(&redis), &database.url()).expect("starts");
    refresher
        .changes()
        .expect("a channel")
        .send(vec![Arc::from("cmp-1")])
        .expect("sends");
    drop(refresher);
    from("redis");
    assert_eq!(
        api.get("/campaign/cmp-1/insights").json()["totals"]["clicks"],
        2
    );
}

#[test]
fn with_postgresql_gone_known_answers_are_stale_and_others_are_503() {
    let database = TestDatabase::create();
    let direct = database.url();
    let proxy = Proxy::before(&server_of(&direct));
    count(&mut database.connect(), &one_click("cmp-1"));
    let api = Api::start(
        &direct.replace(&server_of(&direct), &proxy.address.to_string()),
        None,
        SHORT,
    );
    assert_eq!(api.get("/campaign/cmp-1/insights").cache, "database");
    assert_eq!(api.get("/readyz").json()["postgresql"], "ok");
    proxy.cut();
    until("the entry is no longer fresh", || {
        let answer = api.get("/campaign/cmp-1/insights");
        assert_eq!(answer.status, 200, "{answer:?}");
        assert_eq!(answer.json()["totals"]["clicks"], 1);
        answer.cache == "stale" && answer.json()["freshness"]["stale"] == true
    });
    let unknown = api.get("/campaign/cmp-2/insights");
    assert_eq!(
        (unknown.status, unknown.retry_after.as_str()),
        (503, "1"),
        "{unknown:?}"
    );
    assert_eq!(unknown.json()["type"], "urn:adflux:problem:unavailable");
    until("it is said", || {
        let ready = api.get("/readyz");
        ready.status == 503 && ready.json()["postgresql"] == "unreachable"
    });
    proxy.mend();
    until("PostgreSQL is back", || {
        api.get("/campaign/cmp-1/insights").cache == "database"
    });
    assert_eq!(api.get("/campaign/cmp-2/insights").status, 404);
}
