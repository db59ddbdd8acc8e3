//! Two databases that each have a range of a topic's partitions, and one that has all of it: what an API answers from the
//! two must be what another answers from the one.

use std::collections::BTreeMap;
use std::time::Duration;

use adflux::run::ServeSettings;
use adflux::shard::Shard;
use adflux::store::shard;
use serde_json::{Value, json};

use crate::world::{Api, Given, TestDatabase, count_on, settings};

/// See the module.
pub struct Divided {
    pub shards: [(Shard, TestDatabase); 2],
    pub whole: TestDatabase,
}

impl Divided {
    /// A topic with six partitions, of which the first two are in the first database.
    pub fn new() -> Divided {
        let range = |text: &str| {
            let (shard, database): (Shard, _) =
                (text.parse().expect("a shard"), TestDatabase::create());
            shard::set(&mut database.connect(), shard).expect("a range of its own");
            (shard, database)
        };
        Divided {
            shards: [range("0-1/6"), range("2-5/6")],
            whole: TestDatabase::create(),
        }
    }

    /// Counts events in one of the two databases, and in the one that has everything.
    pub fn count(&self, events: &[Given]) {
        let mut by_partition: BTreeMap<i32, Vec<Given>> = BTreeMap::new();
        for event in events {
            let (any, _) = &self.shards[0];
            let partition = any.partition(&event.campaign);
            by_partition
                .entry(partition)
                .or_default()
                .push(event.clone());
        }
        for (partition, events) in by_partition {
            let has = |(shard, _): &&(Shard, TestDatabase)| shard.has(partition);
            let (_, database) = self.shards.iter().find(has).expect("a database");
            count_on(&mut database.connect(), partition, &events);
            count_on(&mut self.whole.connect(), partition, &events);
        }
    }

    /// The database that has a campaign.
    pub fn of(&self, campaign: &str) -> &TestDatabase {
        let has = |(shard, _): &&(Shard, TestDatabase)| shard.has_campaign(campaign);
        &self.shards.iter().find(has).expect("a database").1
    }

    /// How an API is served before the two.
    pub fn settings(&self) -> ServeSettings {
        let [(_, home), _] = &self.shards;
        let shards = self.shards.iter();
        ServeSettings {
            shards: shards
                .map(|(shard, database)| (*shard, database.url()))
                .collect(),
            ..settings(&home.url(), None, Duration::ZERO)
        }
    }

    /// One before the two, and one before the one.
    pub fn apis(&self) -> (Api, Api) {
        let whole = settings(&self.whole.url(), None, Duration::ZERO);
        (Api::serve(self.settings()), Api::serve(whole))
    }
}

/// Leaves out what two databases count for themselves: when, and in which transaction.
pub fn without_when(mut document: Value) -> Value {
    fn clear(value: &mut Value) {
        match value {
            Value::Object(fields) => {
                for name in ["counted_at", "commit_id", "measured_at", "next_cursor"] {
                    fields.remove(name);
                }
                fields.values_mut().for_each(clear);
            }
            Value::Array(values) => values.iter_mut().for_each(clear),
            _ => {}
        }
    }
    clear(&mut document);
    document
}

/// Fails unless both answer the same.
pub fn assert_same((two, one): &(Api, Api), path: &str) -> Value {
    let (two, one) = (two.get(path), one.get(path));
    assert_eq!(one.status, 200, "{path}: {}", one.text);
    assert_eq!(two.status, 200, "{path}: {}", two.text);
    let (two, one) = (without_when(two.json()), without_when(one.json()));
    assert_eq!(two, one, "{path}");
    two
}

#[cfg(test)]
mod tests {
    use adflux::event::Platform;

    use super::*;
    use crate::world::given;

    /// Some on each database.
    fn events() -> Vec<Given> {
        let noon = 1_719_835_200_000_000;
        let event = |n: i64| {
            let numbers = [1_000 + n, 10 + n, n, 5_000_000 * n, 9_000_000 * n];
            given(
                &format!("cmp-{n}"),
                Platform::Meta,
                noon + n * 60_000_000,
                numbers,
            )
        };
        (1..40).map(event).collect()
    }

    #[test]
    fn what_is_asked_of_a_campaign_is_asked_of_its_database() {
        let divided = Divided::new();
        divided.count(&events());
        let apis = divided.apis();
        for campaign in (1..40).map(|n| format!("cmp-{n}")) {
            for path in ["insights", "events", "restatements"] {
                assert_same(&apis, &format!("/campaign/{campaign}/{path}"));
            }
        }
        assert_eq!(apis.0.get("/campaign/cmp-40/insights").status, 404);
        let ready = |api: &Api| api.get("/readyz").json()["shards"].clone();
        let of = |partitions| json!({ "partitions": partitions, "postgresql": "ok" });
        assert_eq!(ready(&apis.0), json!([of("0-1/6"), of("2-5/6")]));
        assert_eq!(ready(&apis.1), Value::Null);
    }

    #[test]
    fn a_server_serves_no_database_by_another_range_than_it_has() {
        let divided = Divided::new();
        let [(first, home), (second, other)] = &divided.shards;
        let refused = |shards: &[(Shard, &TestDatabase)]| {
            Api::refused(ServeSettings {
                shards: shards
                    .iter()
                    .map(|(shard, of)| (*shard, of.url()))
                    .collect(),
                ..settings(&home.url(), None, Duration::ZERO)
            })
        };
        for (shards, words) in [
            (
                &[][..],
                "one of several databases, which has the partitions 0-1/6 alone",
            ),
            // Of whichever is found first.
            (&[(*first, other), (*second, home)], "/6: correct --shard"),
            (
                &[(*first, home), (*second, &divided.whole)],
                "migrate --shard 2-5/6",
            ),
            (&[(*first, home)], "nobody has the partitions 2 to 5"),
        ] {
            let why = refused(shards);
            assert!(why.contains(words), "{words}: {why}");
        }
    }
}
