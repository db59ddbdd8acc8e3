//! Dead letters of several databases are one list.

use diesel::connection::SimpleConnection;
use serde_json::Value;

use crate::divided::{Divided, assert_same};
use crate::live::one_click;
use crate::world::{Api, Given, Proxy, TestDatabase, server_of};

/// Letters of each partition, some of one instant.
fn with_letters() -> Divided {
    let divided = Divided::new();
    let events: Vec<Given> = (1..40)
        .flat_map(|n| one_click(&format!("cmp-{n}")))
        .collect();
    divided.count(&events);
    let store = |database: &TestDatabase| {
        let letters = "INSERT INTO dead_letters (stream_id, \"offset\", reason, key, payload, headers, commit_id, created_at)
             SELECT stream_id, n, CASE n % 3 WHEN 0 THEN 'truncated' ELSE 'no_payload' END,
                 convert_to('cmp-' || n % 2, 'UTF8'), CASE n % 3 WHEN 0 THEN '\\x00ff'::bytea END, '[]', 1,
                 timestamptz '2026-01-31T00:00:00Z' + n / 10 * interval '1 minute' + partition % 4 * interval '20 seconds'
             FROM stream_positions, generate_series(1000, 1029) AS n";
        database.connect().batch_execute(letters).expect("inserts");
    };
    store(&divided.whole);
    for (_, database) in &divided.shards {
        store(database);
    }
    divided
}

/// All pages of a list.
fn pages(api: &Api, path: &str) -> Vec<Value> {
    let mut rows = Vec::new();
    let mut page = api.get(path);
    loop {
        assert_eq!(page.status, 200, "{path}: {}", page.text);
        let document = page.json();
        rows.extend(document["data"].as_array().expect("a list").clone());
        let Some(cursor) = document["paging"]["next_cursor"].as_str() else {
            return rows;
        };
        page = api.get(&format!("{path}&cursor={cursor}"));
    }
}

#[test]
fn pages_go_on_over_all_databases() {
    let divided = with_letters();
    let (two, one) = divided.apis();
    for (path, count) in [
        ("/dead-letters?limit=7", 180),
        ("/dead-letters?limit=100&reason=truncated&key=cmp-1", 30),
        (
            "/dead-letters?limit=9&since=2026-01-31T01:41:00Z&until=2026-01-31T01:42:00Z",
            60,
        ),
        ("/dead-letters?limit=4&partition=1", 30),
        ("/dead-letters?limit=4&partition=4", 30),
        ("/dead-letters?limit=4&partition=6", 0),
    ] {
        let rows = pages(&two, path);
        assert_eq!(rows.len(), count, "{path}");
        assert_eq!(rows, pages(&one, path), "{path}");
    }
    let table = |api: &Api| api.get("/dead-letters?limit=180&format=csv").text;
    assert_eq!(table(&two), table(&one));
    let apis = (two, one);
    for partition in 0..6 {
        assert_same(&apis, &format!("/dead-letters/ad-events/{partition}/1003"));
    }
}

#[test]
fn what_the_other_database_has_is_answered_without_it() {
    let divided = with_letters();
    let mut settings = divided.settings();
    let (_, url) = &mut settings.shards[1];
    let server = server_of(url);
    let proxy = Proxy::before(&server);
    *url = url.replace(&server, &proxy.address.to_string());
    let api = Api::serve(settings);
    proxy.cut();
    for (path, status) in [
        ("/dead-letters?partition=0", 200),
        ("/dead-letters/ad-events/1/1003", 200),
        ("/dead-letters?partition=2", 503),
        ("/dead-letters/ad-events/5/1003", 503),
        ("/dead-letters", 503),
    ] {
        assert_eq!(api.get(path).status, status, "{path}");
    }
}
