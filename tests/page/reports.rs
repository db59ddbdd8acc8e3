//! What reports say is on the page: whose campaigns are, which days are still restated and how, what was known before, and what a day
//! will come to.

use std::sync::LazyLock;

use adflux::codec::{self, SchemaIds};
use adflux::currency::Currency;
use adflux::event::{CampaignId, Platform};
use adflux::report_row::{Definition, Origin, ReportRow, Values};
use adflux::time::Timestamp;
use chrono::{DateTime, Days, NaiveDate, Utc};
use diesel::connection::SimpleConnection as _;
use serde_json::{Value, json};

use crate::browser::{Browser, key};
use crate::process::Process;
use crate::records::{Event, Record};
use crate::site::Site;
use crate::wait::wait_until;
use crate::world::required;

/// What a platform says of a campaign's day.
struct Said {
    campaign: &'static str,
    name: &'static str,
    platform: Platform,
    account: &'static str,
    currency: &'static str,
    day: NaiveDate,
    observed_at: DateTime<Utc>,
    /// Impressions, clicks, conversions, cost and revenue, in micros where they are fractions.
    values: [Option<i64>; 5],
    line: i64,
}

impl Said {
    fn record(&self) -> Record {
        let row = ReportRow {
            campaign_id: CampaignId::parse(self.campaign).expect("a campaign id"),
            campaign_name: self.name,
            definition: Definition {
                platform: self.platform,
                account: self.account,
                time_zone: chrono_tz::Europe::Berlin,
                currency: Currency::from_code(self.currency).expect("a currency"),
                conversions: "purchase",
                revenue: "",
            },
            day: self.day,
            slice: "",
            observed_at: Timestamp::from(self.observed_at),
            values: Values::of(self.values),
            origin: Origin {
                file: Some([0xab; 32]),
                line: Some(self.line),
            },
        };
        let mut payload = Vec::new();
        codec::report::encode(&row, SchemaIds::OWN.report, &mut payload);
        Record {
            key: Some(self.campaign.as_bytes().to_vec()),
            payload: Some(payload),
            ..Record::default()
        }
    }
}

const EURO: &str = "google:1:10";
const NAME: &str = "Sommer\u{202e} Ä";
/// As the page shows it.
const SHOWN_NAME: &str = "Sommer\\u{202e} Ä";
const DOLLAR: &str = "meta:2:20";

/// Today in Berlin, when the tests began.
static TODAY: LazyLock<NaiveDate> = LazyLock::new(|| {
    Utc::now()
        .with_timezone(&chrono_tz::Europe::Berlin)
        .date_naive()
});

/// So many days before today.
fn day(before: u64) -> NaiveDate {
    *TODAY - Days::new(before)
}

/// Seven in the evening, so many days ago.
fn evening(before: u64) -> DateTime<Utc> {
    day(before).and_hms_opt(19, 0, 0).expect("a time").and_utc()
}

/// An account in euro and one in dollars. Each evening for 75 days until yesterday's, the first is asked about the day, and on the next
/// evening again: by then the day has half as many conversions more, and half as much revenue. It stays with that, as a question of a
/// month later says.
fn reports() -> Vec<Said> {
    let euro = |before: u64, later: u64, conversions: i64, revenue: Option<i64>| Said {
        campaign: EURO,
        name: NAME,
        platform: Platform::Google,
        account: "1",
        currency: "EUR",
        day: day(before),
        observed_at: evening(before - later),
        values: [
            Some(1_000),
            Some(50),
            Some(conversions * 1_000_000),
            Some(12_300_000),
            revenue,
        ],
        line: i64::try_from(before).expect("small") + 1,
    };
    let mut said = Vec::new();
    for before in (1..=75).rev() {
        // The day before yesterday has no revenue that is known.
        let revenue = |millions: i64| (before != 2).then_some(millions * 1_000_000);
        said.push(euro(before, 0, 10, revenue(40)));
        if before > 1 {
            said.push(euro(before, 1, 15, revenue(60)));
        }
        if before > 40 {
            said.push(euro(before, 35, 15, revenue(60)));
        }
    }
    // The newest export again; and an old one that comes late.
    said.push(euro(3, 1, 15, Some(60_000_000)));
    said.push(Said {
        observed_at: evening(3) + chrono::Duration::hours(2),
        ..euro(3, 0, 11, Some(44_000_000))
    });
    said.push(Said {
        campaign: DOLLAR,
        name: "Winter",
        platform: Platform::Meta,
        account: "2",
        currency: "USD",
        ..euro(4, 0, 5, Some(20_000_000))
    });
    said
}

/// A site that has counted these and an event of a campaign that nobody reports.
fn site(test: &str) -> Site {
    let site = Site::empty(test);
    let said = reports();
    let records: Vec<Record> = said.iter().map(Said::record).collect();
    // One after the other: what comes late is to come late.
    site.world.send(&records);
    site.send(&[Event::of("cmp-3")]);
    site.world.wait_until_all_counted();
    site
}

/// Texts with the spaces that do not break as others.
fn plain(text: &str) -> String {
    text.replace('\u{a0}', " ")
}

fn text(browser: &Browser, selector: &str) -> String {
    plain(&browser.text(selector))
}

fn texts(browser: &Browser, selector: &str) -> Vec<String> {
    let all = browser.texts(selector);
    all.iter().map(|text| plain(text)).collect()
}

/// The page of the campaign in euro, with the last seven days of its account.
fn euro(more: &str) -> String {
    let (from, to) = (day(7), day(1));
    format!("/?tz=Europe/Berlin&from={from}&to={to}&campaign={EURO}{more}")
}

#[test]
fn names_accounts_and_currencies_are_shown_and_never_added_up() {
    let site = site("page_names");
    let browser = Browser::open(&site.origin);
    browser.visit_page("/?tz=Europe/Berlin&range=all&compare=off&sort=cost");

    // The list: the name, its id beneath, money with its currency; of whom nothing is known, its id alone.
    let rows = texts(&browser, ".board tbody tr");
    let row = |id: &str| {
        let found = rows.iter().find(|row| row.contains(id));
        found.unwrap_or_else(|| panic!("no {id}: {rows:?}"))
    };
    for part in [SHOWN_NAME, "EUR 922.50"] {
        assert!(row(EURO).contains(part), "{part}: {rows:?}");
    }
    for part in ["Winter", "USD 12.30", "USD 20.00"] {
        assert!(row(DOLLAR).contains(part), "{part}: {rows:?}");
    }
    assert!(!row("cmp-3").contains("EUR"), "{rows:?}");
    assert!(row("cmp-3").contains("\t2.50\t"), "{rows:?}");

    // What has no common measure is sorted all the same, which is said.
    let note = "document.querySelector('#campaigns .note').hidden";
    assert_eq!(browser.value(note), false);

    // Sums of several currencies: one figure each.
    let spend = text(&browser, ".kpi[data-metric=cost] .value");
    let lines: Vec<&str> = spend.lines().collect();
    for line in ["EUR 922.50", "USD 12.30", "2.50, no currency"] {
        assert!(lines.contains(&line), "{line}: {lines:?}");
    }
    assert_eq!(lines.len(), 3, "{lines:?}");
    assert!(text(&browser, ".kpi[data-metric=roas] .value").contains("EUR "));
    assert_eq!(
        texts(&browser, ".kpi[data-metric=conversions] .value"),
        ["1,126"]
    );
    let total = text(&browser, ".board tfoot");
    for part in ["Total of 3 campaigns", "EUR 922.50", "USD 12.30"] {
        assert!(total.contains(part), "{total}");
    }
    let chart = || {
        let words =
            browser.value("document.querySelector('[role=slider]').getAttribute('aria-valuetext')");
        plain(words.as_str().expect("words"))
    };
    assert!(chart().contains("EUR "), "{}", chart());
    browser.choose("[aria-label='Currency of the chart']", "USD");
    browser.until(
        "the address says so",
        "location.search.includes('currency=USD')",
    );
    browser.settled();
    assert!(chart().contains("USD "), "{}", chart());
    assert!(text(&browser, ".claims").contains("two may claim one purchase"));
    // The sums of a platform are of its own currencies.
    let amount = |platform: &str| {
        text(
            &browser,
            &format!(".platforms [data-platform={platform}] .amount"),
        )
    };
    assert_eq!(amount("Meta"), "USD 20.00");
    assert!(amount("Google").contains("EUR 4,"), "{}", amount("Google"));
    // Nor has a small line, through numbers of one and then of another.
    let small =
        "document.querySelector('.kpi[data-metric=cost] .spark path:last-child').getAttribute('d')";
    assert_eq!(browser.value(small), "");
    // Of one currency there is one sum.
    browser.visit_page("/?tz=Europe/Berlin&range=all&compare=off&platform=Meta");
    assert_eq!(browser.value(note), true);
    assert_eq!(
        texts(&browser, ".kpi[data-metric=cost] .value"),
        ["USD 12.30"]
    );
    assert_eq!(
        browser.value("document.querySelector(\"[aria-label='Currency of the chart']\").hidden"),
        true
    );

    // Names are found.
    browser.visit_page("/?tz=Europe/Berlin&range=all");
    assert_eq!(
        browser.value("document.querySelector('[type=search]').placeholder"),
        "Search names and ids"
    );
    browser.type_into("[type=search]", "winter");
    browser.until("it is looked for", "location.search.includes('q=winter')");
    browser.settled();
    assert_eq!(texts(&browser, ".board tbody th").len(), 1);

    // Its own page: the name, the id, whose it is.
    browser.click(".board tbody a");
    browser.settled();
    assert_eq!(browser.text("h1"), "Winter");
    let title = browser.text(".title");
    for part in [DOLLAR, "account 2", "USD", "Europe/Berlin"] {
        assert!(title.contains(part), "{title}");
    }
    // In another zone its days are not whole: a link shows those that are.
    browser.visit_page(&format!("/?tz=UTC&range=7d&campaign={DOLLAR}"));
    browser.click(".title a");
    browser.settled();
    let zone = browser.value("new URLSearchParams(location.search).get('tz')");
    assert_eq!(zone, "Europe/Berlin");
    browser.visit_page("/?tz=UTC&range=all&campaign=cmp-3");
    assert_eq!(browser.text("h1"), "cmp-3");
    assert_eq!(
        browser.value("document.querySelector('.title code').hidden"),
        true
    );
    browser.end(false);
}

#[test]
fn a_day_that_is_still_restated_is_marked_and_has_its_history() {
    let site = site("page_restated");
    let browser = Browser::open(&site.origin);
    browser.visit_page(&euro("&metric=conversions"));
    // To the eye, and to a screen reader.
    let marked = "document.querySelectorAll('.plot rect').length";
    assert_eq!(browser.value(marked), 7);
    let legend = text(&browser, ".legend");
    assert!(
        legend.contains("provisional: the platform still restates this day"),
        "{legend}"
    );
    browser.value("document.querySelector('[role=slider]').focus()");
    browser.press(key::LEFT);
    let said =
        browser.value("document.querySelector('[role=slider]').getAttribute('aria-valuetext')");
    let said = said.as_str().expect("words");
    for part in ["provisional, reported ", "revenue unknown"] {
        assert!(said.contains(part), "{said}");
    }
    // By keyboard: its history, in the address as well.
    browser.press(key::ENTER);
    browser.until(
        "its history is open",
        "document.querySelector('#restatements')",
    );
    browser.settled();
    assert_eq!(
        browser.value("new URLSearchParams(location.search).get('day')"),
        json!(day(2).to_string())
    );
    assert_eq!(browser.value("document.activeElement.id"), "restatements");
    assert_eq!(texts(&browser, "#restatements tbody tr").len(), 2);
    browser.back();
    assert_eq!(
        browser.value("document.querySelector('#restatements')"),
        Value::Null
    );

    // From the table: a day of three answers, one of which came late.
    browser.click(".twin summary");
    browser.until(
        "the table is open",
        "document.querySelector('.twin tbody tr')",
    );
    browser.click(".twin tbody tr:nth-child(5) button");
    browser.settled();
    let rows = texts(&browser, "#restatements tbody tr");
    assert_eq!(rows.len(), 3, "{rows:?}");
    for (row, parts) in [
        (0, ["11 → 15", "EUR 44.00 → EUR 60.00", "what counts now"]),
        (1, ["10 → 11", "EUR 40.00 → EUR 44.00", "EUR 12.30"]),
        (2, ["\t10\t", "EUR 40.00", "line 4"]),
    ] {
        for part in parts {
            assert!(rows[row].contains(part), "{part}: {rows:?}");
        }
    }
    assert!(
        rows.iter().all(|row| row.contains("file abababababab")),
        "{rows:?}"
    );
    let meaning = text(&browser, ".meaning");
    for part in ["account 1", "Europe/Berlin", "EUR", "“purchase”"] {
        assert!(meaning.contains(part), "{meaning}");
    }
    // The address alone shows the same; a day that nobody reported says so.
    let shown = browser.text("#restatements");
    let address = browser.value("location.pathname + location.search");
    browser.visit_page("/?view=pipeline");
    browser.visit_page(address.as_str().expect("an address"));
    assert_eq!(browser.text("#restatements"), shown);
    browser.shot("restatements");
    browser.click("#restatements a.button");
    browser.settled();
    let alone = browser.value("location.search");
    let alone = alone.as_str().expect("an address");
    let third = day(3);
    assert!(
        alone.contains(&format!("from={third}&to={third}&tz=Europe/Berlin")),
        "{alone}"
    );
    browser.back();
    browser.click("#restatements button");
    browser.until("it is closed", "!document.querySelector('#restatements')");
    browser.visit_page(&euro("&day=2020-01-01"));
    assert!(text(&browser, "#restatements").contains("No report is about this day"));
    // Days long gone are settled.
    let (from, to) = (day(70), day(66));
    browser.visit_page(&format!(
        "/?tz=Europe/Berlin&from={from}&to={to}&campaign={EURO}"
    ));
    assert_eq!(browser.value(marked), 0);
    browser.end(false);
}

#[test]
fn each_restatement_of_a_day_is_a_row_of_its_own() {
    let site = site("page_restatements");
    let browser = Browser::open(&site.origin);
    browser.visit_page(&euro(""));
    let rows = "[aria-label='Newest events'] tbody tr";
    // Twice more something else is said of a day: both at its noon, and with its id.
    for (before, conversions) in [(2, 16), (1, 17)] {
        let of_the_day = |said: &Said| said.campaign == EURO && said.day == day(4);
        let said = reports().into_iter().find(of_the_day);
        let mut said = said.expect("a day that is reported");
        said.observed_at = evening(before);
        said.values[2] = Some(conversions * 1_000_000);
        site.world.send(&[said.record()]);
        let offset = "(tr) => tr.lastElementChild.innerText";
        let news = format!(
            "[...document.querySelectorAll({rows:?})].filter((tr) => tr.children[0].innerText.includes('12:00') && tr.children[4].innerText === '1').length"
        );
        browser.until("it is there", &format!("{news} === {}", conversions - 15));
        browser.settled();
        let twice = format!(
            "((offsets) => offsets.length - new Set(offsets).size)([...document.querySelectorAll({rows:?})].map({offset}))"
        );
        assert_eq!(browser.value(&twice), 0);
    }
    let shown = browser.value(&format!("document.querySelectorAll({rows:?}).length"));
    assert_eq!(shown, 12);
    browser.end(false);
}

#[test]
fn what_a_day_will_come_to_is_a_band_and_words() {
    let site = site("page_expected");
    let browser = Browser::open(&site.origin);
    browser.visit_page(&euro("&metric=conversions"));
    let band = "document.querySelector('.plot .band').getAttribute('d')";
    assert_ne!(browser.value(band), "");
    let said =
        browser.value("document.querySelector('[role=slider]').getAttribute('aria-valuetext')");
    let said = said.as_str().expect("words");
    assert!(
        said.contains(": 10") && said.contains("expected 15, between 15 and 15; rests on "),
        "{said}"
    );
    browser.click(".twin summary");
    browser.until(
        "the table is open",
        "document.querySelector('.twin tbody tr')",
    );
    let heads = browser.texts(".twin thead th");
    assert!(heads.contains(&"Expected".to_owned()), "{heads:?}");
    browser.visit_page(&euro("&metric=revenue"));
    assert_ne!(browser.value(band), "");
    // Of what grows with nothing, nothing is said.
    for hidden in [
        euro("&metric=cost"),
        "/?tz=UTC&range=all&campaign=cmp-3&metric=conversions".to_owned(),
    ] {
        browser.visit_page(&hidden);
        assert_eq!(browser.value(band), "", "{hidden}");
        assert_eq!(
            browser.value("document.querySelector('.key.expected').parentElement.hidden"),
            true
        );
    }
    browser.end(false);
}

#[test]
fn figures_of_now_are_compared_with_what_was_known_then() {
    let site = site("page_then");
    let browser = Browser::open(&site.origin);
    let (from, to) = (day(4), day(3));
    let window = format!("/?tz=Europe/Berlin&from={from}&to={to}&campaign={EURO}");
    browser.visit_page(&window);
    assert_eq!(
        browser.value("document.querySelector('#then')"),
        Value::Null
    );
    // As known at noon on the day after the first of them: that one as it was told first.
    let local = format!("{}T12:00", day(3));
    browser.value(&format!(
        "(() => {{ document.querySelector('[name=as_of]').value = '{local}'; }})()"
    ));
    browser.click(".then .button:not(.plain)");
    browser.until("the address says so", "location.search.includes('as_of=')");
    browser.settled();
    let title = text(&browser, "#then h2");
    assert!(
        title.starts_with("As known on ") && title.contains("12:00"),
        "{title}"
    );
    let stat = |metric: &str| text(&browser, &format!("#then [data-metric={metric}]"));
    let conversions = stat("conversions");
    for part in ["10", "now 30", "+20", "↑ 200.0% better"] {
        assert!(conversions.contains(part), "{conversions}");
    }
    let revenue = stat("revenue");
    for part in ["EUR 40.00", "now EUR 120.00", "+EUR 80.00"] {
        assert!(revenue.contains(part), "{revenue}");
    }
    // The same from the history of a day, by a link.
    browser.visit_page(&format!("{window}&day={to}"));
    browser.click("#restatements tbody tr:last-child a");
    browser.settled();
    let conversions = stat("conversions");
    assert!(conversions.contains("+5"), "{conversions}");
    // Another campaign has another past.
    browser.click("main a[href^='?']");
    browser.settled();
    let address = browser.value("location.search");
    assert!(
        !address.as_str().expect("an address").contains("as_of"),
        "{address}"
    );
    // An instant of which nothing is known says so, and takes nothing else down.
    browser.visit_page(&format!("{window}&as_of=2020-01-01T00:00:00Z"));
    assert_eq!(
        browser.value("document.querySelector('#then dl').hidden"),
        true
    );
    assert_ne!(text(&browser, "#then p"), "");
    assert_eq!(text(&browser, ".kpi[data-metric=conversions] .value"), "30");
    browser.end(true);
}

#[test]
fn the_pipeline_says_how_many_reports_said_nothing_new() {
    let site = site("page_unchanged");
    let browser = Browser::open(&site.origin);
    browser.visit_page("/?view=pipeline&tz=UTC");
    let shown = |name: &str| -> Value {
        browser.value(&format!(
            "[...document.querySelectorAll('.stat')].find((s) => s.querySelector('dt').innerText === '{name}' && !s.hidden)?.querySelector('dd span').innerText ?? null"
        ))
    };
    let counted = &site.api("/pipeline")["totals"];
    for (name, count) in [("Unchanged", "unchanged"), ("Superseded", "superseded")] {
        assert_ne!(counted[count], 0, "{counted}");
        assert_eq!(shown(name), counted[count].to_string(), "{name}");
    }
    let heads = browser.texts("[aria-label='Partitions and their positions'] th:not([hidden])");
    for name in ["Unchanged", "Superseded"] {
        assert!(heads.contains(&name.to_owned()), "{heads:?}");
    }
    browser.end(false);

    // Where there are none, nothing is said of them.
    let other = Site::shared();
    let browser = Browser::open(&other.origin);
    browser.visit_page("/?view=pipeline&tz=UTC");
    let text = browser.text("main");
    assert!(
        !text.contains("Unchanged") && !text.contains("uperseded"),
        "{text}"
    );
    browser.end(false);
}

#[test]
fn all_money_can_be_in_one_currency() {
    let axe = std::fs::read_to_string(required("ADFLUX_AXE")).expect("axe-core is there");
    let site = Site::empty("page_converted");
    let said = reports();
    site.world
        .send(&said.iter().map(Said::record).collect::<Vec<_>>());
    site.world.wait_until_all_counted();
    let browser = Browser::open(&site.origin);
    browser.visit_page("/?tz=Europe/Berlin&range=all&compare=off&sort=cost");
    // Nothing is known to convert by.
    assert_eq!(browser.value("document.getElementById('in').hidden"), true);
    let mut file = "Date,USD,JPY,\n".to_owned();
    for before in (1..90).rev() {
        file.push_str(&format!("{},1.25,160,\n", day(before)));
    }
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("eurofxref-hist.csv");
    std::fs::write(&path, file).expect("writes");
    let path = path.to_str().expect("text");
    Process::start(&mut site.world.command("rates", &["import", path]))
        .end()
        .success();
    wait_until("the server knows them", || {
        site.api("/rates")["currencies"] != json!([])
    });
    browser.visit_page("/?tz=Europe/Berlin&range=all&compare=off&sort=cost");
    browser.until("there is a choice", "!document.getElementById('in').hidden");
    assert_eq!(
        browser.value("[...document.querySelectorAll('#in option')].map((o) => o.value)"),
        json!(["", "EUR", "USD", "JPY"])
    );
    browser.choose("#in", "EUR");
    browser.until("the address says so", "location.search.includes('in=EUR')");
    browser.settled();
    // 12.30 dollars are 9.84 euros.
    assert_eq!(
        texts(&browser, ".kpi[data-metric=cost] .value"),
        ["EUR 932.34"]
    );
    assert!(text(&browser, ".board tfoot").contains("EUR 932.34"));
    assert!(text(&browser, ".board tbody").contains("EUR 9.84"));
    let words = text(&browser, ".converted");
    assert!(words.contains("the European Central Bank"), "{words}");
    for scheme in ["light", "dark"] {
        browser.prefer("prefers-color-scheme", scheme);
        for (size, width) in [("wide", 1440), ("phone", 390)] {
            browser.window(width, 900);
            browser.visit_page("/?tz=Europe/Berlin&range=30d&in=EUR");
            browser.shot(&format!("converted-{size}-{scheme}"));
            let over = browser.value("document.documentElement.scrollWidth - innerWidth");
            assert_eq!(over, json!(0), "wider than a {size} window");
            let serious = browser.run_async(&format!(
                "{axe};\naxe.run(document, {{ resultTypes: ['violations'] }}).then((r) => done(r.violations \
                 .filter((v) => ['serious', 'critical'].includes(v.impact)).map((v) => [v.help, v.nodes.map((n) => n.html)])));"
            ));
            assert_eq!(serious, json!([]), "{size} {scheme}");
        }
    }
    // A campaign's page says of what currency its account is.
    browser.visit_page(&format!(
        "/?tz=Europe/Berlin&range=30d&in=EUR&campaign={DOLLAR}"
    ));
    assert!(text(&browser, ".title").contains("account 2, USD"));
    assert_eq!(
        texts(&browser, ".kpi[data-metric=cost] .value"),
        ["EUR 9.84"]
    );
    browser.choose("#in", "");
    browser.settled();
    assert_eq!(
        texts(&browser, ".kpi[data-metric=cost] .value"),
        ["USD 12.30"]
    );
    browser.end(false);
}

#[test]
fn it_can_be_read_in_any_light_on_any_screen() {
    let axe = std::fs::read_to_string(required("ADFLUX_AXE")).expect("axe-core is there");
    let site = site("page_reported_looks");
    let browser = Browser::open(&site.origin);
    let then = evening(2).format("%Y-%m-%dT%H:%M:%SZ");
    let views = [
        ("names", "/?tz=Europe/Berlin&range=30d".to_owned()),
        (
            "reported",
            euro(&format!("&metric=conversions&day={}&as_of={then}", day(3))),
        ),
        ("reports-pipeline", "/?tz=UTC&view=pipeline".to_owned()),
    ];
    for scheme in ["light", "dark"] {
        browser.prefer("prefers-color-scheme", scheme);
        for (size, width) in [("wide", 1440), ("phone", 390)] {
            browser.window(width, 900);
            for (name, address) in &views {
                browser.visit_page(address);
                browser.shot(&format!("{name}-{size}-{scheme}"));
                let over = browser.value("document.documentElement.scrollWidth - innerWidth");
                assert_eq!(over, json!(0), "{name} is wider than a {size} window");
                browser.value(
                    "document.querySelectorAll('details').forEach((d) => { d.open = true; })",
                );
                let serious = browser.run_async(&format!(
                    "{axe};\naxe.run(document, {{ resultTypes: ['violations'] }}).then((r) => done(r.violations \
                     .filter((v) => ['serious', 'critical'].includes(v.impact)).map((v) => [v.help, v.nodes.map((n) => n.html)])));"
                ));
                assert_eq!(serious, json!([]), "{name} {size} {scheme}");
            }
        }
    }
    browser.prefer("forced-colors", "active");
    browser.window(1440, 900);
    browser.visit_page(&views[1].1);
    browser.shot("reported-forced-colours");
    browser.end(false);
}

#[test]
fn alerts_say_whose_they_are_and_in_which_money() {
    let site = site("page_alerts_of_accounts");
    let written = format!(
        "INSERT INTO alerts (alert_id, rule_name, campaign_id, condition, webhooks, pending_since, opened_at,
             resolved_at, resolved_because, opened_values, transition_id)
         VALUES (gen_random_uuid(), 'spends', '{EURO}', 'cost > 50 over 7d settled', '{{}}', now(), now(), now(), 'condition',
             '[{{\"condition\": \"cost > 50 over 7d settled\", \"value\": 86.1, \"threshold\": 50.0}},
               {{\"condition\": \"expected roas < 1 over 7d\", \"value\": 0.5, \"threshold\": 1.0}}]',
             nextval('alert_transition_ids'))"
    );
    site.world
        .connect()
        .batch_execute(&written)
        .expect("it is written");
    let browser = Browser::open(&site.origin);
    browser.visit_page("/?view=alerts&tz=UTC");
    // The account in dollars was asked four days ago.
    browser.until(
        "its reports are overdue",
        "document.querySelector('[aria-label=Open] li')?.innerText.includes('account 2 of Meta')",
    );
    let open = text(&browser, "[aria-label=Open] li");
    for part in ["reports", "newest report", "h old when it opened"] {
        assert!(open.contains(part), "{open} has no {part}");
    }
    assert_eq!(browser.texts("[aria-label=Open] li").len(), 1);
    let resolved = text(&browser, "[aria-label=Resolved] li");
    for part in [
        SHOWN_NAME,
        EURO,
        "in days of the account",
        "Spend EUR 86.10, Expected ROAS 0.50× when it opened",
    ] {
        assert!(resolved.contains(part), "{resolved} has no {part}");
    }
    browser.shot("alerts-of-accounts");
    browser.end(false);
}
