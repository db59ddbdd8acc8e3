//! The page follows what is counted.

use adflux::event::{Conversions, Count};
use serde_json::json;

use crate::browser::Browser;
use crate::records::Event;
use crate::site::Site;
use crate::wait::wait_until;

/// Milliseconds from the commit of the newest event to the moment the page showed it, both on the
/// clock of this machine.
fn delay(site: &Site, browser: &Browser) -> i64 {
    let newest = "SELECT extract(epoch FROM max(committed_at)) * 1000 FROM stream_positions";
    let shown = browser.value("window.shownAt").as_i64().expect("a time");
    shown - site.world.number(newest)
}

#[test]
fn an_event_appears_by_itself_once_it_is_committed() {
    let site = Site::empty("page_live");
    site.some_events();
    let browser = Browser::open(&site.origin);
    browser.visit_page("/?tz=UTC&range=all");
    browser.until("the page is live", "document.querySelector('.pulse.live')");
    browser.run_async(
        "new MutationObserver(() => { window.shownAt = Date.now(); })
           .observe(document.querySelector('.kpi[data-metric=conversions] .value'), { childList: true, subtree: true });
         done();",
    );
    let height = browser.value("document.documentElement.scrollHeight");
    let first =
        "document.querySelector('.ticker li a') && document.querySelector('.ticker li').innerText";
    let delays = [(); 3].map(|()| {
        browser.run_async("window.shownAt = null; done();");
        let mut event = Event::of("cmp-3");
        event.counts.conversions = Conversions::whole(3).expect("few");
        site.send(&[event]);
        browser.until("the event is shown", "window.shownAt");
        // How many events it had before is not known at first, and not what was counted just now.
        browser.until("the ticker tells of it", first);
        let newest = browser.text(".ticker li");
        assert!(
            newest.contains("cmp-3") && !newest.contains("in all"),
            "{newest}"
        );
        delay(&site, &browser)
    });
    println!("events were shown {delays:?} ms after their commit");
    let conversions = &site.api("/insights?date_preset=maximum")["totals"]["conversions"];
    browser.until(
        "what is shown is what was counted",
        &format!(
            "document.querySelector('.kpi[data-metric=conversions] .value').textContent.replaceAll(',', '') === '{conversions}'"
        ),
    );
    // The ticker tells of it, and nothing has moved.
    let newest = browser.text(".ticker li");
    assert!(
        newest.contains("cmp-3") && newest.contains("conversions"),
        "{newest}"
    );
    assert_eq!(
        browser.value("document.documentElement.scrollHeight"),
        height
    );
    browser.until(
        "it says when",
        "/updated \\d+ s ago/.test(document.querySelector('.pulse').innerText)",
    );
    browser.end(false);
}

#[test]
fn a_campaign_has_its_figures_and_its_newest_events() {
    let site = Site::empty("page_campaign");
    site.some_events();
    let mut event = Event::of("cmp-3");
    event.counts.clicks = Count::new(77);
    let browser = Browser::open(&site.origin);
    browser.visit_page("/?tz=UTC&range=all");
    browser.type_into("[type=search]", "cmp-3");
    browser.until(
        "it is found",
        "document.querySelector('.board tbody th')?.innerText === 'cmp-3'",
    );
    browser.click(".board tbody th a");
    browser.until(
        "its page is open",
        "document.querySelector('h1').innerText === 'cmp-3'",
    );
    browser.settled();
    let clicks =
        |n: &str| site.api("/campaign/cmp-3/insights?date_preset=maximum")["totals"][n].clone();
    let before = clicks("clicks");
    browser.choose("[aria-label='Metric of the chart']", "clicks");
    site.send(&[event]);
    browser.until(
        "its newest event is shown",
        "[...document.querySelectorAll('[aria-label=\"Newest events\"] tbody tr:first-child td')].some((td) => td.innerText === '77')",
    );
    // Events are read from PostgreSQL, and sums may come from Redis, which hears of them next.
    let after = before.as_i64().map(|n| n + 77);
    wait_until("the API's sums have it", || {
        clicks("clicks").as_i64() == after
    });
    let sum = clicks("conversions");
    browser.until(
        "the figures have it as well",
        &format!("document.querySelector('.kpi[data-metric=conversions] .value').textContent.replaceAll(',', '') === '{sum}'"),
    );
    assert_eq!(
        browser.value("new URLSearchParams(location.search).get('campaign')"),
        json!("cmp-3")
    );
    browser.back();
    browser.end(false);
}
