//! The page by keyboard, and as a screen reader has it.

use serde_json::{Value, json};

use crate::browser::{Browser, key};
use crate::site::Site;
use crate::world::required;

/// Where the focus is.
const FOCUS: &str = "document.activeElement.innerText || document.activeElement.ariaLabel || document.activeElement.tagName";

#[test]
fn by_keyboard_alone() {
    let site = Site::shared();
    let browser = Browser::open(&site.origin);
    browser.visit_page("/?tz=UTC&range=all");
    let tab_to = |what: &str, test: &str| {
        for _ in 0..120 {
            if browser.value(&format!("Boolean({test})")) == json!(true) {
                return;
            }
            browser.press(key::TAB);
        }
        panic!(
            "no tab leads to {what}; the focus is on {}",
            browser.value(FOCUS)
        );
    };
    let focus = |selector: &str| format!("document.activeElement.matches({selector:?})");

    // Past the bar, to the numbers.
    browser.press(key::TAB);
    assert_eq!(browser.value(FOCUS), "Skip to the numbers");
    browser.press(key::ENTER);
    browser.until("the numbers have the focus", &focus("main"));

    // A range, from the popover; Escape leaves it as it was.
    tab_to("the range", &focus("#range"));
    browser.press(key::ENTER);
    browser.until(
        "the ranges are open",
        "document.querySelector('#ranges').matches(':popover-open')",
    );
    browser.press(key::ESCAPE);
    browser.until(
        "they are closed",
        "!document.querySelector('#ranges').matches(':popover-open')",
    );
    browser.press(key::ENTER);
    tab_to("the last 30 days", &focus("[data-range='30d']"));
    browser.press(key::ENTER);
    browser.until("they are shown", "location.search.includes('range=30d')");
    browser.until("the focus is where it was", &focus("#range"));
    browser.settled();

    // The chart says each of its points.
    tab_to("the chart", &focus("[role=slider]"));
    let said = "document.querySelector('[role=slider]').getAttribute('aria-valuetext')";
    let last = browser.value(said);
    browser.press(key::LEFT);
    let before = browser.value(said);
    assert_ne!(last, before);
    browser.press(key::END);
    assert_eq!(browser.value(said), last);

    // And is a table as well, with the same numbers.
    tab_to("the table", &focus(".twin summary"));
    browser.press(key::ENTER);
    browser.until(
        "the table is open",
        "document.querySelector('.twin tbody tr')",
    );
    let rows = browser.texts(".twin tbody tr");
    let last = last.as_str().expect("words");
    let cells: Vec<&str> = rows.last().expect("a row").split('\t').collect();
    assert!(
        last.starts_with(&format!("{}: {}", cells[0], cells[1])),
        "{last}: {cells:?}"
    );
    assert_eq!(
        json!(rows.len() - 1).to_string(),
        browser
            .value("document.querySelector('[role=slider]').getAttribute('aria-valuemax')")
            .as_str()
            .expect("a number")
    );

    // Sort, and on to a campaign.
    tab_to("a column", &focus("[data-sort=roas]"));
    browser.press(key::ENTER);
    browser.until("it is sorted", "location.search.includes('sort=roas')");
    browser.settled();
    tab_to("a campaign", &focus(".board tbody a"));
    let name = browser.value(FOCUS);
    browser.press(key::ENTER);
    browser.until(
        "its page is open",
        &format!("document.querySelector('h1').innerText === {name}"),
    );
    browser.settled();
    browser.end(false);
}

#[test]
fn nothing_serious_for_axe() {
    let path = required("ADFLUX_AXE");
    let axe = std::fs::read_to_string(path).expect("axe-core is there");
    let site = Site::shared();
    let browser = Browser::open(&site.origin);
    let judge = |what: &str| {
        // Tables and all.
        browser.run_async(
            "document.querySelectorAll('details').forEach((d) => { d.open = true; }); done();",
        );
        let found = browser.run_async(&format!(
            "{axe};\naxe.run(document, {{ resultTypes: ['violations'] }}).then((r) => done(r.violations));"
        ));
        let serious: Vec<String> = found
            .as_array()
            .expect("violations")
            .iter()
            .filter(|v| v["impact"] == "serious" || v["impact"] == "critical")
            .map(describe)
            .collect();
        assert!(serious.is_empty(), "{what}: {serious:#?}");
    };
    for scheme in ["light", "dark"] {
        browser.prefer("prefers-color-scheme", scheme);
        for width in [1440, 390] {
            browser.window(width, 900);
            for address in [
                "/?range=all",
                "/?campaign=cmp-3&range=all",
                "/?view=alerts",
                "/?view=pipeline",
            ] {
                browser.visit_page(address);
                judge(&format!("{address} {scheme} {width}"));
            }
        }
        browser.visit("/docs");
        browser.until(
            "the API is described",
            "document.querySelector('main details')",
        );
        judge(&format!("/docs {scheme}"));
    }
    browser.end(false);
}

#[test]
fn nothing_moves_for_those_who_ask_for_that() {
    let site = Site::shared();
    let browser = Browser::open(&site.origin);
    browser.prefer("prefers-reduced-motion", "reduce");
    browser.visit_page("/?range=all");
    let moving = browser.value(
        "[...document.querySelectorAll('*')].map((e) => getComputedStyle(e)) \
         .filter((s) => s.animationName !== 'none' || parseFloat(s.transitionDuration) > 0).length",
    );
    assert_eq!(moving, json!(0));
    browser.end(false);
}

fn describe(violation: &Value) -> String {
    let nodes: Vec<String> = violation["nodes"]
        .as_array()
        .into_iter()
        .flatten()
        .take(5)
        .map(|n| format!("{}: {}", n["html"], n["failureSummary"]))
        .collect();
    format!("{}: {}", violation["help"], nodes.join("; "))
}
