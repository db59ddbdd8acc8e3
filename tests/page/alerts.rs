//! Alerts open and resolve before one's eyes.

use adflux::event::Money;
use serde_json::json;

use crate::browser::Browser;
use crate::records::Event;
use crate::site::Site;

/// The words beside the title.
const COUNT: &str = "document.querySelector('h1 + .state')?.innerText";

#[test]
fn open_and_resolve_without_a_reload() {
    let site = Site::empty("page_alerts");
    let browser = Browser::open(&site.origin);
    browser.visit_page("/?view=alerts&tz=UTC");
    let text = browser.text("main");
    assert!(
        text.contains("No rules yet") && text.contains("--alert-rules"),
        "{text}"
    );
    browser.shot("alerts-none");

    site.rule(
        "burning",
        &json!({ "when": "roas < 1 over 1h and cost > 50" }),
    );
    let event = |cost: i64, revenue: i64| {
        let mut event = Event::of("cmp-hot");
        event.counts.cost_micros = Money::new(cost * 1_000_000);
        event.counts.revenue_micros = Money::new(revenue * 1_000_000);
        event
    };
    site.send(&[event(60, 15), Event::of("cmp-cold")]);
    browser.until("it is open", &format!("{COUNT} === '1 open'"));
    let alert = browser.text("[aria-label=Open] li");
    for part in [
        "burning",
        "cmp-hot",
        "roas < 1 over 1h and cost > 50",
        "ROAS 0.25×, Spend 60.00",
    ] {
        assert!(alert.contains(part), "{alert} has no {part}");
    }
    let rules = browser.texts("[aria-label=Rules] tbody tr");
    assert_eq!(
        rules,
        ["burning\troas < 1 over 1h and cost > 50\tall\tlog and page\tAPI"]
    );

    // On to the campaign, which has it too.
    browser.click("[aria-label=Open] li a");
    browser.settled();
    assert_eq!(browser.text("h1"), "cmp-hot");
    let of_campaign = "document.querySelector('[aria-label=Alerts] li .state')?.innerText";
    browser.until("it is there", &format!("{of_campaign} === 'open'"));
    site.send(&[event(0, 100)]);
    browser.until("it has resolved", &format!("{of_campaign} === 'resolved'"));
    browser.back();
    browser.until("none is open", &format!("{COUNT} === 'none open'"));
    let text = browser.text("[aria-label=Open]");
    assert!(text.contains("No alert is open"), "{text}");
    assert!(browser.text("[aria-label=Resolved] li").contains("cmp-hot"));

    let told = site.api("/alerts");
    assert_eq!(told["data"].as_array().map(Vec::len), Some(1), "{told}");
    assert_eq!(told["data"][0]["state"], "resolved");
    browser.end(false);
}
