//! The live feed over several databases: what either counts is told once, also when one was away meanwhile.

use std::collections::BTreeMap;
use std::time::Duration;

use adflux::run::ServeSettings;

use crate::divided::Divided;
use crate::live::{Client, Event, clicks, one_click};
use crate::world::{Api, Given, Proxy, server_of};

/// Campaigns of which each database has some.
fn campaigns() -> Vec<String> {
    (1..20).map(|n| format!("cmp-{n}")).collect()
}

fn one_click_each(campaigns: &[String]) -> Vec<Given> {
    campaigns.iter().flat_map(|id| one_click(id)).collect()
}

/// One campaign of the first database, and one of the second.
fn one_of_each(divided: &Divided) -> [String; 2] {
    let of = |n: usize| {
        let (shard, _) = &divided.shards[n];
        let has = |id: &String| shard.has_campaign(id);
        campaigns().into_iter().find(has).expect("a campaign")
    };
    [of(0), of(1)]
}

fn campaign(event: &Event) -> String {
    let id = event.data["campaign_id"].as_str();
    id.expect("an id").to_owned()
}

/// Before two databases, of which the second can be cut off.
fn with_second_behind(divided: &Divided) -> (Api, Proxy) {
    let mut settings: ServeSettings = divided.settings();
    let (_, url) = &mut settings.shards[1];
    let server = server_of(url);
    let proxy = Proxy::before(&server);
    *url = url.replace(&server, &proxy.address.to_string());
    let api = Api::serve(ServeSettings {
        fresh_for: Duration::from_millis(20),
        ..settings
    });
    (api, proxy)
}

/// The id to go on from, of the next round in which so many events are counted.
fn counted(client: &mut Client, events: i64) -> String {
    let end = client.until("the end of a round", |event| {
        assert_ne!(event.name, "reset");
        event.name == "progress" && event.data["events"] == events
    });
    end.id.expect("an id")
}

#[test]
fn what_either_database_counts_is_told() {
    let divided = Divided::new();
    let all = campaigns();
    divided.count(&one_click_each(&all));
    let api = Api::serve(divided.settings());
    let mut client = Client::open(&api, "/live", None);
    let id = counted(&mut client, 19);
    let [first, second] = one_of_each(&divided);
    let mut own =
        [&first, &second].map(|id| Client::open(&api, &format!("/campaign/{id}/live"), None));
    for client in &mut own {
        assert_eq!(clicks(&client.event().expect("where it stands")), 1);
    }

    divided.count(&one_click_each(&all));
    let mut told = BTreeMap::new();
    let last = client.until("the final values", |event| {
        if event.name == "totals" {
            let before = told.insert(campaign(event), clicks(event));
            assert_eq!(before, None, "each has changed once");
        }
        event.name == "progress" && event.data["events"] == 38
    });
    let expected: BTreeMap<String, i64> = all.iter().map(|id| (id.clone(), 2)).collect();
    assert_eq!(told, expected);
    for client in &mut own {
        assert_eq!(clicks(&client.event().expect("its change")), 2);
    }

    // Who comes back is told the same, and who has seen all of it nothing.
    let mut back = Client::open(&api, "/live", Some(&id));
    let mut told = BTreeMap::new();
    back.until("the end of what was missed", |event| {
        if event.name == "totals" {
            told.insert(campaign(event), clicks(event));
        }
        event.name == "progress"
    });
    assert_eq!(told, expected);
    let last = last.id.expect("an id");
    let mut back = Client::open(&api, "/live", Some(&last));
    assert_eq!(back.event().expect("an event").name, "progress");
    // Streams of a third database.
    let mut elsewhere = Client::open(&api, "/live", Some(&format!("{last}-900001.5")));
    assert_eq!(elsewhere.event().expect("an event").name, "reset");
}

#[test]
fn while_one_database_is_away_the_other_is_told_of() {
    let divided = Divided::new();
    let [first, second] = one_of_each(&divided);
    divided.count(&one_click(&first));
    divided.count(&one_click(&second));
    let (api, proxy) = with_second_behind(&divided);
    let mut client = Client::open(&api, "/live", None);
    let before = counted(&mut client, 2);
    divided.count(&one_click(&second));
    let seen = counted(&mut client, 3);

    proxy.cut();
    divided.count(&one_click(&second));
    divided.count(&one_click(&first));
    let told = client.until("the one that is there", |event| event.name == "totals");
    assert_eq!((campaign(&told), clicks(&told)), (first.clone(), 2));
    // What is counted where nobody can look is not in the numbers.
    let while_away = counted(&mut client, 4);
    let mut up_to_date = Client::open(&api, "/live", Some(&while_away));
    assert_eq!(counted(&mut up_to_date, 4), while_away);
    // One that has not seen the last of the database that is away: that is still to be told.
    let mut owed = Client::open(&api, "/live", Some(&before));
    let told = owed.event().expect("what can be told");
    assert_eq!((campaign(&told), clicks(&told)), (first.clone(), 2));
    let id = counted(&mut owed, 4);
    assert_ne!(id, while_away);
    assert_eq!(seen.split('-').count(), id.split('-').count());

    proxy.mend();
    for client in [&mut client, &mut up_to_date] {
        let told = client.until("the other", |event| event.name == "totals");
        assert_eq!((campaign(&told), clicks(&told)), (second.clone(), 3));
        counted(client, 5);
    }
    // It is ended, to come again for what it missed.
    while let Some(event) = owed.event() {
        assert_eq!(event.name, "progress");
    }
    let mut back = Client::open(&api, "/live", Some(&id));
    let told = back.event().expect("what it missed");
    assert_eq!((campaign(&told), clicks(&told)), (second.clone(), 3));
    assert_eq!(
        counted(&mut back, 5),
        counted(&mut Client::open(&api, "/live", None), 5)
    );
}

#[test]
fn a_database_that_was_away_from_the_start_is_told_of_once_it_is_there() {
    let divided = Divided::new();
    let [first, second] = one_of_each(&divided);
    divided.count(&one_click(&first));
    divided.count(&one_click(&second));
    let (api, proxy) = with_second_behind(&divided);
    proxy.cut();
    let mut client = Client::open(&api, "/live", None);
    let id = counted(&mut client, 1);
    assert_eq!(
        Client::open(&api, &format!("/campaign/{second}/live"), None).status,
        503
    );
    proxy.mend();
    while let Some(event) = client.event() {
        assert_eq!(event.name, "progress");
    }
    let mut back = Client::open(&api, "/live", Some(&id));
    let told = back.event().expect("what was never told");
    assert_eq!((campaign(&told), clicks(&told)), (second, 1));
    counted(&mut back, 2);
}
