//! Kinds of files that the simulator does not write, through a processor: what is known then is what they say.

use std::collections::BTreeMap;
use std::fs::File;
use std::path::PathBuf;
use std::process::Command;

use diesel::sql_types::Text;
use diesel::{QueryableByName, RunQueryDsl as _, sql_query};
use rand::SeedableRng as _;
use rand::seq::SliceRandom as _;
use tempfile::TempDir;

use crate::process::Process;
use crate::sent::{FIRST, SECOND, verify, world};
use crate::support::workbook::{Cell, workbook};
use crate::wait::wait_until;
use crate::world::World;

/// A file of a platform, as it is asked for twice: where it says CLICKS it says other clicks then, and where it says when it
/// was asked, another time.
struct Kind {
    name: &'static str,
    says: &'static str,
    args: &'static [&'static str],
    /// Whether it is a table that comes as a workbook.
    is_workbook: bool,
    /// Campaign, day, impressions, CLICKS, conversions, cost and revenue in millionths.
    known: &'static [&'static str],
}

const KINDS: [Kind; 8] = [
    Kind {
        name: "meta.xlsx",
        says: "Day;Campaign name;Campaign ID;Impressions;Clicks (all);Amount spent (EUR);Purchases;Purchases conversion value\n\
            2024-06-03;A;120210000000000011;1000;CLICKS;12.34;3;99.5\n\
            2024-06-04;A;120210000000000011;10;1;0.1;;\n",
        args: &["--account", "501", "--time-zone", "Europe/Berlin"],
        is_workbook: true,
        known: &[
            "meta:501:120210000000000011 2024-06-03 1000 CLICKS 3000000 12340000 99500000",
            "meta:501:120210000000000011 2024-06-04 10 1 0 100000 0",
        ],
    },
    Kind {
        name: "tiktok.xlsx",
        says: "Campaign name;Campaign ID;By Day;Currency;Cost;Impression(s);Clicks (Destination);Conversions;Total complete payment rate\n\
            Satu;1790000000000000001;2024-06-03;IDR;161074.25;52000;CLICKS;4;250000.000\n\
            Dua;1790000000000000002;2024-06-03;IDR;512.000;900;<5;-;0.000\n",
        args: &["--account", "502", "--time-zone", "Asia/Jakarta"],
        is_workbook: true,
        known: &[
            "tiktok:502:1790000000000000001 2024-06-03 52000 CLICKS 4000000 161074250000 250000000000",
            "tiktok:502:1790000000000000002 2024-06-03 900 ? ? 512000000 0",
        ],
    },
    Kind {
        name: "singer of Meta",
        says: r#"{"type":"SCHEMA","stream":"ads_insights","schema":{"properties":{}},"key_properties":[]}
{"type":"RECORD","stream":"ads_insights","record":{"account_id":"503","account_currency":"EUR","campaign_id":"1","campaign_name":"A","date_start":"2024-06-03T00:00:00.000000Z","date_stop":"2024-06-03T00:00:00.000000Z","impressions":100,"clicks":CLICKS,"spend":0.5},"time_extracted":"OBSERVED_AT"}
{"type":"STATE","value":{}}
{"type":"RECORD","stream":"ads_insights","record":{"account_id":"503","account_currency":"EUR","campaign_id":"2","campaign_name":"B","date_start":"2024-06-03T00:00:00.000000Z","date_stop":"2024-06-03T00:00:00.000000Z","impressions":7,"clicks":0,"spend":0},"time_extracted":"OBSERVED_AT"}
"#,
        args: &["--time-zone", "Europe/Berlin"],
        is_workbook: false,
        known: &[
            "meta:503:1 2024-06-03 100 CLICKS ? 500000 ?",
            "meta:503:2 2024-06-03 7 0 ? 0 ?",
        ],
    },
    Kind {
        name: "singer of Google",
        says: r#"{"type":"RECORD","stream":"campaign_performance","record":{"campaign_id":11,"customer_id":504,"customer_currency_code":"EUR","date":"2024-06-03T00:00:00.000000Z","clicks":CLICKS,"impressions":900,"cost_micros":1500001,"conversions":0.25}}
"#,
        args: &["--time-zone", "Europe/Berlin"],
        is_workbook: false,
        known: &["google:504:11 2024-06-03 900 CLICKS 250000 1500001 ?"],
    },
    Kind {
        name: "linkedin.json",
        says: r#"{"paging":{"start":0,"count":10,"links":[]},"elements":[
            {"pivotValues":["urn:li:sponsoredCampaign:111"],"impressions":100,"clicks":CLICKS,"costInLocalCurrency":"-2e-18",
             "externalWebsitePostClickConversions":2,"externalWebsitePostViewConversions":1,
             "dateRange":{"start":{"year":2024,"month":6,"day":3},"end":{"year":2024,"month":6,"day":3}}},
            {"pivotValues":["urn:li:sponsoredCampaign:111"],"impressions":50,"clicks":1,"costInLocalCurrency":"3.99",
             "externalWebsitePostClickConversions":0,"externalWebsitePostViewConversions":0,
             "dateRange":{"start":{"year":2024,"month":6,"day":4},"end":{"year":2024,"month":6,"day":4}}}]}"#,
        args: &["--account", "505", "--currency", "EUR"],
        is_workbook: false,
        known: &[
            "linkedin:505:111 2024-06-03 100 CLICKS 3000000 0 ?",
            "linkedin:505:111 2024-06-04 50 1 0 3990000 ?",
        ],
    },
    Kind {
        name: "tiktok.json",
        says: r#"{"code":0,"message":"OK","data":{"list":[
            {"dimensions":{"campaign_id":"1790000000000000001","stat_time_day":"2024-06-03 00:00:00"},
             "metrics":{"campaign_name":"Satu","spend":"161074.000","impressions":"52000","clicks":"CLICKS","conversion":"4",
                        "total_complete_payment_rate":"250000.5","currency":"IDR"}}],
            "page_info":{"page":1,"total_page":1}}}"#,
        args: &["--account", "506", "--time-zone", "Asia/Jakarta"],
        is_workbook: false,
        known: &[
            "tiktok:506:1790000000000000001 2024-06-03 52000 CLICKS 4000000 161074000000 250000500000",
        ],
    },
    Kind {
        name: "meta.json",
        says: r#"{"data":[
            {"account_id":"507","account_currency":"EUR","campaign_id":"120210000000000011","campaign_name":"A",
             "date_start":"2024-06-03","date_stop":"2024-06-03","impressions":"1000","clicks":"CLICKS","spend":"12.34",
             "actions":[{"action_type":"link_click","value":"18"},{"action_type":"omni_purchase","value":"3"},
                        {"action_type":"purchase","value":"3"},{"action_type":"offsite_conversion.fb_pixel_purchase","value":"3"}],
             "action_values":[{"action_type":"omni_purchase","value":"99.5"},{"action_type":"purchase","value":"99.5"}]},
            {"account_id":"507","account_currency":"EUR","campaign_id":"2","date_start":"2024-06-03","date_stop":"2024-06-03",
             "impressions":"5","clicks":"0","spend":"0"}],
            "paging":{"cursors":{"before":"x","after":"y"}}}"#,
        args: &["--time-zone", "Europe/Berlin"],
        is_workbook: false,
        known: &[
            "meta:507:120210000000000011 2024-06-03 1000 CLICKS 3000000 12340000 99500000",
            "meta:507:2 2024-06-03 5 0 0 0 0",
        ],
    },
    Kind {
        name: "mapped.csv",
        says: "anything\nKlik;Nomor;Tanggal;Biaya;Daerah\n\
            CLICKS;5;25/5/2024;1.234,5;Jawa, Barat\n2;5;25/5/2024;7;Bali\n",
        args: &["--map", "MAP"],
        is_workbook: false,
        known: &[
            "tiktok:508:5 2024-05-25 ? CLICKS ? 1234500000 ?",
            "tiktok:508:5 2024-05-25 ? 2 ? 7000000 ?",
        ],
    },
];

const MAP: &str = "platform = 'TikTok'\naccount = '508'\ntime_zone = 'Asia/Jakarta'\ncurrency = 'IDR'\n\
    [columns]\nday = 'Tanggal'\ncampaign_id = 'Nomor'\ncost = 'Biaya'\nclicks = 'Klik'\n[slices]\nregion = 'Daerah'\n";

/// A kind's file as of a time.
struct Asked {
    kind: &'static Kind,
    observed_at: &'static str,
    path: PathBuf,
}

fn asked(folder: &TempDir, kind: &'static Kind, observed_at: &'static str) -> Asked {
    let says = kind
        .says
        .replace("CLICKS", clicks(observed_at))
        .replace("OBSERVED_AT", observed_at);
    let bytes = if kind.is_workbook {
        let rows = says.lines();
        let rows: Vec<Vec<Cell>> = rows
            .map(|line| line.split(';').map(Cell::Text).collect())
            .collect();
        workbook("Sheet1", &rows)
    } else {
        says.into_bytes()
    };
    let path = folder.path().join(format!("{} {observed_at}", kind.name));
    std::fs::write(&path, bytes).expect("room");
    Asked {
        kind,
        observed_at,
        path,
    }
}

fn clicks(observed_at: &str) -> &'static str {
    if observed_at == FIRST { "310" } else { "297" }
}

/// Imports it: what a tap writes, from standard input.
fn import(world: &World, folder: &TempDir, asked: &Asked) {
    let mut command: Command = world.command("import", &[]);
    for arg in asked.kind.args {
        match *arg {
            "MAP" => command.arg(folder.path().join("map.toml")),
            arg => command.arg(arg),
        };
    }
    if !asked.kind.says.contains("OBSERVED_AT") {
        command.args(["--observed-at", asked.observed_at]);
    }
    if asked.kind.name.starts_with("singer") {
        command.arg("-");
    } else {
        command.arg(&asked.path);
    }
    let ended = Process::fed(&mut command, File::open(&asked.path).expect("it is there")).end();
    let what = &asked.kind.name;
    assert!(
        ended.status.success(),
        "{what}: {}{}",
        ended.log,
        ended.stdout
    );
}

/// What is known now, as [`Kind::known`] writes it.
fn known(world: &World) -> Vec<String> {
    #[derive(QueryableByName)]
    struct Row {
        #[diesel(sql_type = Text)]
        line: String,
    }
    let rows: Vec<Row> = sql_query(
        "SELECT concat_ws(' ', campaign_id, day, COALESCE(impressions::text, '?'), COALESCE(clicks::text, '?'),
             COALESCE(conversion_micros::text, '?'), COALESCE(cost_micros::text, '?'), COALESCE(revenue_micros::text, '?')) AS line
         FROM report_rows",
    )
    .load(&mut world.connect())
    .expect("rows");
    let mut lines: Vec<String> = rows.into_iter().map(|row| row.line).collect();
    lines.sort();
    lines
}

/// Each as of two times, each twice, in any order, the processor killed between.
#[test]
fn each_kind_of_file_is_counted_as_it_says() {
    let folder = TempDir::new().expect("room");
    std::fs::write(folder.path().join("map.toml"), MAP).expect("room");
    let world = world("kinds", 3);
    let mut random = rand::rngs::StdRng::seed_from_u64(11);
    let mut files: Vec<Asked> = KINDS
        .iter()
        .flat_map(|kind| [FIRST, SECOND].map(|observed_at| asked(&folder, kind, observed_at)))
        .collect();
    for round in 0..2 {
        files.shuffle(&mut random);
        for (number, file) in files.iter().enumerate() {
            import(&world, &folder, file);
            if number == 7 {
                // Some of what was sent is counted, and some of that perhaps again.
                let before = world.counted();
                let process = world.start_process(&["--batch-records", "3"]);
                wait_until("something is counted", || {
                    world.counted() > before || world.counted() == world.log_size()
                });
                process.kill();
            }
        }
        world.process_until_end(&["--batch-records", "5"]).success();
        let mut expected: Vec<String> = KINDS
            .iter()
            .flat_map(|kind| kind.known)
            .map(|line| line.replace("CLICKS", clicks(SECOND)))
            .collect();
        expected.sort();
        assert_eq!(known(&world), expected, "round {round}");
    }
    assert_eq!(world.dead_letters(), BTreeMap::new());
    // Of each kind one row was restated, and the first of what it said is in the history.
    assert_eq!(
        world.number("SELECT count(*) FROM report_history WHERE clicks = 310"),
        i64::try_from(KINDS.len()).expect("few")
    );
    assert_eq!(
        world.number("SELECT sum(clicks)::bigint FROM metrics_total"),
        world.number("SELECT sum(clicks)::bigint FROM report_rows")
    );
    verify(&world);
    world.assert_every_record_once();
}
