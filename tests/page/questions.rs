//! Figures belong to the question they answer: on a line that is slow or gone, at the end of a day, and
//! wherever a link leads.

use adflux::event::Money;
use serde_json::{Value, json};

use crate::browser::{Browser, key};
use crate::proxy::{Link, Proxy};
use crate::records::Event;
use crate::site::Site;

/// What each panel of the page shows: `current`, `earlier` or `none`.
const PANELS: &str = "Object.fromEntries([...document.querySelectorAll('main [data-figures]')].map((p) => \
     [p.ariaLabel || p.className, p.dataset.figures]))";
/// What a person sees below the bar.
const SEEN: &str = "document.querySelector('main').innerText";

/// A line to the site, and a browser at its end.
fn line_to(site: &Site) -> (Proxy, Browser) {
    let line = Proxy::of_bytes();
    let server = site.origin.trim_start_matches("http://");
    line.leads_to(server.parse().expect("an address"));
    let browser = Browser::open(&format!("http://{}", line.address()));
    (line, browser)
}

/// The line is gone, and whoever waits hears of it.
fn cut(line: &Proxy) {
    line.cut();
    line.set_link(Link::Through);
}

/// Waits until all panels, or those named, show this.
fn until_panels(browser: &Browser, which: &[&str], figures: &str) {
    let named = if which.is_empty() {
        "panels.length > 0".to_owned()
    } else {
        format!("{} <= panels.length", which.len())
    };
    browser.until(
        &format!("panels {which:?} are {figures}: {}", browser.value(PANELS)),
        &format!(
            "((panels) => {named} && panels.every(([, f]) => f === '{figures}'))\
             (Object.entries({PANELS}).filter(([name]) => {which} .length === 0 || {which}.includes(name)))",
            which = json!(which)
        ),
    );
}

/// Waits until figures that answer another question say so: to the eye, and to a screen reader.
fn until_dimmed(browser: &Browser, which: &[&str]) {
    until_panels(browser, which, "earlier");
    browser.until(
        "they are dimmed",
        "[...document.querySelectorAll('[data-figures=earlier] .answer')].every((e) => getComputedStyle(e).opacity < 0.5) && \
         [...document.querySelectorAll('[data-figures=earlier]')].every((p) => p.ariaBusy === 'true')",
    );
}

fn spent(campaign: &str, cost: i64) -> Event {
    let mut event = Event::of(campaign);
    event.counts.cost_micros = Money::new(cost * 1_000_000);
    event
}

const OVERVIEW: [&str; 6] = [
    "Key figures",
    "Chart",
    "Platforms",
    "Earning most",
    "Burning most",
    "Campaigns",
];

#[test]
fn a_campaign_never_shows_the_figures_of_another() {
    let site = Site::empty("page_other_campaign");
    site.send(&[spent("spring", 111), spent("autumn", 222)]);
    site.world.wait_until_counted(2);
    let (line, browser) = line_to(&site);
    browser.visit_page("/?tz=UTC&range=all");
    browser.click(".board tbody a[href*='campaign=spring']");
    browser.settled();
    assert!(browser.text("main").contains("111.00"));
    browser.back();
    browser.click(".board tbody a[href*='campaign=autumn']");
    browser.settled();
    browser.back();

    line.set_link(Link::BlackHole);
    browser.click(".board tbody a[href*='campaign=spring']");
    browser.until(
        "its page is open",
        "document.querySelector('h1').innerText === 'spring'",
    );
    // Of neither: those of the one before are not its own, and its own may be old.
    let seen = browser.text("main");
    assert!(
        !seen.contains("222.00") && !seen.contains("111.00"),
        "{seen}"
    );
    until_panels(&browser, &[], "none");
    assert_eq!(
        browser.value(
            "[...document.querySelectorAll('[data-figures]')].every((p) => p.ariaBusy === 'true')"
        ),
        true
    );
    browser.shot("campaign-not-there-yet");

    cut(&line);
    browser.until(
        "it says that it cannot ask",
        "document.querySelector('#banner [data-state=disconnected]')",
    );
    let banner = browser.text("#banner");
    assert!(!banner.contains("as of"), "no numbers are there: {banner}");
    let seen = browser.text("main");
    assert!(
        !seen.contains("222.00") && !seen.contains("111.00"),
        "{seen}"
    );
    browser.shot("campaign-offline");

    line.mend();
    browser.until("its own come", &format!("{SEEN}.includes('111.00')"));
    until_panels(&browser, &[], "current");
    browser.end(true);
}

#[test]
fn what_answers_another_question_is_dimmed_until_it_is_answered_and_gone_if_it_is_not() {
    let site = Site::shared();
    let (line, browser) = line_to(&site);
    // Each of these asks all of a page anew.
    for (address, panels, change) in [
        ("/?tz=UTC&range=all", &OVERVIEW[..], "[data-range='30d']"),
        (
            "/?tz=UTC&range=all&campaign=cmp-3",
            &["Key figures", "Chart", "Platforms", "Newest events"][..],
            "[data-range='30d']",
        ),
    ] {
        browser.visit_page(address);
        until_panels(&browser, panels, "current");
        let was = browser.text(".kpis");
        line.set_link(Link::BlackHole);
        browser.click("#range");
        browser.click(change);
        browser.until(
            "the new label stands there",
            "document.querySelector('#range').innerText.includes('Last 30 days')",
        );
        until_dimmed(&browser, panels);
        assert_eq!(browser.text(".kpis"), was, "dimmed, not gone");
        if address.contains("campaign") {
            browser.shot("campaign-dimmed");
        } else {
            browser.shot("overview-dimmed");
        }
        cut(&line);
        until_panels(&browser, panels, "none");
        let seen = browser.text(".kpis");
        assert!(!seen.chars().any(|c| c.is_ascii_digit()), "{seen}");
        let banner = browser.text("#banner");
        assert!(
            !banner.contains("as of") || address.contains("campaign"),
            "{banner}"
        );
        line.mend();
        until_panels(&browser, panels, "current");
        browser.until(
            "nothing is dimmed",
            "[...document.querySelectorAll('main .answer')].every((e) => getComputedStyle(e).opacity === '1')",
        );
    }
    browser.end(true);
}

#[test]
fn a_question_that_only_some_panels_ask_dims_only_those() {
    let site = Site::shared();
    let (line, browser) = line_to(&site);
    let others = [
        "Key figures",
        "Chart",
        "Platforms",
        "Earning most",
        "Burning most",
    ];
    browser.visit_page("/?tz=UTC&range=all");
    line.set_link(Link::BlackHole);
    browser.click("[data-sort=cpa]");
    until_dimmed(&browser, &["Campaigns"]);
    until_panels(&browser, &others, "current");
    // What still answers its question stays, with its time; the list that is in no such order goes.
    cut(&line);
    until_panels(&browser, &["Campaigns"], "none");
    until_panels(&browser, &others, "current");
    browser.until(
        "it says from when",
        "document.querySelector('#banner').innerText.includes('as of')",
    );
    line.mend();
    until_panels(&browser, &OVERVIEW, "current");

    // Another metric: the chart, the platforms and the small lines of the rows are of it.
    browser.until(
        "the small lines are drawn",
        "document.querySelector('.board .spark path:last-child').getAttribute('d')",
    );
    line.set_link(Link::BlackHole);
    browser.click(".kpi[data-metric=roas]");
    until_dimmed(&browser, &["Chart", "Platforms"]);
    until_panels(
        &browser,
        &["Key figures", "Earning most", "Burning most", "Campaigns"],
        "current",
    );
    assert_eq!(
        browser.value("[...document.querySelectorAll('.board .spark path')].every((p) => !p.getAttribute('d'))"),
        true,
        "lines of revenue under the head of ROAS"
    );
    line.set_link(Link::Through);
    until_panels(&browser, &OVERVIEW, "current");
    browser.value("document.querySelector('.board').scrollIntoView()");
    browser.until(
        "the small lines are of it",
        "document.querySelector('.board .spark path:last-child').getAttribute('d')",
    );

    // Dead letters of another reason.
    browser.visit_page("/?tz=UTC&view=pipeline");
    let chip = "#dead-letters .chip";
    if browser.value(&format!("Boolean(document.querySelector({chip:?}))")) == json!(true) {
        line.set_link(Link::BlackHole);
        browser.click(chip);
        until_dimmed(&browser, &["Dead letters"]);
        line.set_link(Link::Through);
        until_panels(&browser, &["Dead letters"], "current");
    }
    browser.end(true);
}

#[test]
fn today_is_gone_when_the_day_is_over_and_nobody_answers() {
    let site = Site::empty("page_midnight");
    site.some_events();
    let (line, browser) = line_to(&site);
    browser.visit_page("/?tz=UTC&range=today");
    until_panels(&browser, &OVERVIEW, "current");
    // The page's clock goes on to the next day.
    browser.value("(() => { const now = Date.now; Date.now = () => now() + 86_400_000; })()");
    cut(&line);
    until_panels(&browser, &OVERVIEW, "none");
    line.mend();
    until_panels(&browser, &OVERVIEW, "current");
    browser.end(true);
}

#[test]
fn every_link_asks_what_the_page_asks_now() {
    let site = Site::shared();
    let (line, browser) = line_to(&site);
    browser.visit_page("/?tz=UTC&range=all");
    line.set_link(Link::BlackHole);
    browser.click("#range");
    browser.click("[data-range='30d']");
    let links = browser.value(
        "[...document.querySelectorAll('main a[href*=\"campaign=\"]')].map((a) => a.search)",
    );
    let links: Vec<String> = serde_json::from_value(links).expect("links");
    assert!(links.len() > 40, "{links:?}");
    for link in links {
        assert!(link.contains("range=30d"), "{link}");
    }
    line.set_link(Link::Through);
    browser.settled();
    for list in ["Earning most", "Burning most"] {
        let link = format!("[aria-label='{list}'] a");
        if browser.value(&format!("Boolean(document.querySelector({link:?}))")) == json!(false) {
            continue;
        }
        browser.click(&link);
        browser.settled();
        let address = browser.value("location.search");
        let address = address.as_str().expect("an address");
        assert!(
            address.contains("range=30d") && address.contains("campaign="),
            "{address}"
        );
        browser.back();
    }
    browser.end(false);
}

#[test]
fn a_day_of_a_campaign_has_the_events_of_that_day() {
    let site = Site::shared();
    let browser = Browser::open(&site.origin);
    browser.visit_page("/?tz=UTC&range=7d&campaign=cmp-3");
    let shown = || {
        browser.value("[...document.querySelectorAll(\"[aria-label='Newest events'] tbody tr\")].map((tr) => tr.title)")
    };
    let expected = |window: &str| -> Value {
        let events = site.api(&format!("/campaign/cmp-3/events?limit=12&{window}"));
        let events = events["data"].as_array().expect("events").iter();
        events
            .map(|e| format!("event {}", e["event_id"].as_str().expect("an id")))
            .collect()
    };
    assert_eq!(shown(), expected("date_preset=last_7d"));
    browser.value("document.querySelector('[role=slider]').focus()");
    browser.press(key::LEFT);
    browser.press(key::LEFT);
    browser.press(key::ENTER);
    browser.until("a day is chosen", "location.search.includes('from=')");
    browser.settled();
    let day = browser.value("new URLSearchParams(location.search).get('from')");
    let day = day.as_str().expect("a day");
    let next = day
        .parse::<chrono::NaiveDate>()
        .expect("a day")
        .succ_opt()
        .expect("a day");
    let of_day = expected(&format!("since={day}&until={next}"));
    assert_ne!(of_day, json!([]));
    assert_eq!(shown(), of_day);
    // And of the platform that is chosen.
    browser.click(".platforms [data-platform=Meta]");
    browser.settled();
    assert_eq!(
        shown(),
        expected(&format!("since={day}&until={next}&platform=Meta"))
    );
    browser.end(false);
}
