//! Empty, disconnected, out of date and failing: each says what it is and what to do, and ends by
//! itself when its reason does.

use crate::browser::Browser;
use crate::proxy::Proxy;
use crate::records::Event;
use crate::site::Site;
use crate::world::required;

/// The state that the banner tells of.
const STATE: &str = "document.querySelector('#banner [data-state]')?.dataset.state";

#[test]
fn nothing_counted_yet() {
    let site = Site::empty("page_empty");
    let browser = Browser::open(&site.origin);
    browser.visit_page("/?tz=UTC");
    let text = browser.text("main");
    assert!(
        text.contains("No events yet") && text.contains("adflux simulate"),
        "{text}"
    );
    assert_eq!(browser.value(STATE), serde_json::Value::Null);
    browser.shot("empty");
    site.send(&[Event::of("first")]);
    browser.until(
        "the first event is shown",
        "document.querySelector('.board tbody th')?.innerText === 'first'",
    );
    browser.end(false);
}

#[test]
fn a_range_without_events() {
    let site = Site::empty("page_no_events");
    site.send(&[Event::of("today-only")]);
    site.world.wait_until_counted(1);
    let browser = Browser::open(&site.origin);
    browser.visit_page("/?tz=UTC&range=last_month");
    let text = browser.text("#campaigns");
    assert!(
        text.contains("No campaign has events in this range"),
        "{text}"
    );
    assert_eq!(browser.text(".kpi[data-metric=roas] .value"), "—");
    browser.click("#campaigns .blank button");
    browser.until(
        "all time is shown",
        "document.querySelector('.board tbody th')?.innerText === 'today-only'",
    );
    browser.end(false);
}

#[test]
fn a_server_that_went_away() {
    let mut site = Site::empty("page_gone");
    site.some_events();
    let browser = Browser::open(&site.origin);
    browser.visit_page("/?tz=UTC&range=all");
    let numbers = browser.text(".kpis");
    site.server.take().expect("a server").kill();
    browser.until("it says so", &format!("{STATE} === 'disconnected'"));
    let banner = browser.text("#banner");
    assert!(
        banner.contains("No connection") && banner.contains("as of"),
        "{banner}"
    );
    assert_eq!(browser.text(".pulse"), "Disconnected");
    // What was known stays.
    assert_eq!(browser.text(".kpis"), numbers);
    browser.shot("disconnected");
    let url = site.world.database_url.clone();
    site.serve(&url, &[]);
    browser.until(
        "it goes on by itself",
        &format!("!{STATE} && document.querySelector('.pulse.live')"),
    );
    browser.end(true);
}

#[test]
fn a_database_that_went_away() {
    let proxy = Proxy::before(&required("DATABASE_URL"));
    let site = Site::with("page_stale", |world| proxy.url(&world.database_url), &[]);
    site.some_events();
    let browser = Browser::open(&site.origin);
    browser.visit_page("/?tz=UTC&range=all");
    proxy.cut();
    browser.until("it says so", &format!("{STATE} === 'stale'"));
    let banner = browser.text("#banner");
    assert!(
        banner.contains("not up to date") && banner.contains("adflux doctor"),
        "{banner}"
    );
    browser.shot("stale");
    // Another question, of which nothing is known.
    browser.visit("/?tz=UTC&range=30d");
    browser.until("it says so", &format!("{STATE} === 'failing'"));
    let banner = browser.text("#banner");
    assert!(banner.contains("cannot read its database"), "{banner}");
    browser.shot("failing");
    proxy.mend();
    browser.until(
        "it goes on by itself",
        &format!("!{STATE} && document.querySelector('.kpis').dataset.figures === 'current'"),
    );
    browser.end(true);
}
