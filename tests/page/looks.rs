//! Dark and light, wide and narrow. Each is kept as a picture in `target/page/`.

use serde_json::json;

use crate::browser::Browser;
use crate::site::Site;

const VIEWS: &[(&str, &str)] = &[
    ("overview", "/?tz=Europe/Berlin&range=7d"),
    (
        "campaign",
        "/?tz=Europe/Berlin&range=7d&campaign=cmp-3&metric=roas",
    ),
    ("alerts", "/?tz=Europe/Berlin&view=alerts"),
    ("pipeline", "/?tz=Europe/Berlin&view=pipeline"),
];

/// Whether the small charts of all rows are there.
const DRAWN: &str = "[...document.querySelectorAll('.board .spark path:last-child')].every((p) => p.getAttribute('d'))";

/// How bright the background is, 0 to 255.
const BRIGHTNESS: &str = "Number(/\\d+/.exec(getComputedStyle(document.body).backgroundColor)[0])";

#[test]
fn dark_light_wide_and_narrow() {
    let site = Site::shared();
    let browser = Browser::open(&site.origin);
    for scheme in ["light", "dark"] {
        browser.prefer("prefers-color-scheme", scheme);
        for (size, width, height) in [("wide", 1440, 900), ("phone", 390, 844)] {
            browser.window(width, height);
            for (view, address) in VIEWS {
                browser.visit_page(address);
                browser.until("fonts are there", "document.fonts.status === 'loaded'");
                browser.shot_when(&format!("{view}-{size}-{scheme}"), DRAWN);
                fits(&browser, view, size);
            }
            browser.visit("/docs");
            browser.until(
                "the API is described",
                "document.querySelector('main details')",
            );
            browser.shot(&format!("docs-{size}-{scheme}"));
            fits(&browser, "docs", size);
            let bright = browser.value(BRIGHTNESS).as_f64() > Some(128.0);
            assert_eq!(bright, scheme == "light", "docs, {scheme}");
        }
        browser.visit_page(VIEWS[0].1);
        let bright = browser.value(BRIGHTNESS).as_f64() > Some(128.0);
        assert_eq!(bright, scheme == "light", "{scheme}");
    }
    // The button wins over the system, and is remembered.
    browser.click("#theme");
    assert!(browser.value(BRIGHTNESS).as_f64() > Some(128.0));
    browser.visit_page(VIEWS[0].1);
    assert!(browser.value(BRIGHTNESS).as_f64() > Some(128.0));
    assert_eq!(
        browser.value("document.getElementById('theme').ariaLabel"),
        "Switch to dark mode"
    );
    browser.end(false);
}

/// Fails if one has to scroll sideways.
fn fits(browser: &Browser, view: &str, size: &str) {
    let over = browser.value("document.documentElement.scrollWidth - innerWidth");
    assert_eq!(over, json!(0), "{view} is wider than a {size} window");
}

#[test]
fn the_first_view_is_small_and_waits_for_no_chain_of_files() {
    let site = Site::shared();
    let browser = Browser::open(&site.origin);
    browser.visit_page("/");
    // All that the page is made of, with its headers. The answers to its questions come on top.
    let bytes = browser.value(
        "[...performance.getEntriesByType('resource'), ...performance.getEntriesByType('navigation')] \
         .filter((e) => e.initiatorType !== 'fetch').reduce((sum, e) => sum + e.transferSize, 0)",
    );
    println!("{bytes} bytes were sent for the first view");
    assert!(
        bytes.as_f64() > Some(20_000.0) && bytes.as_f64() < Some(110_000.0),
        "{bytes} bytes"
    );
    // The browser hears of every file from the first: none is found only when another one has been read.
    let unannounced = browser.value(
        "((announced) => performance.getEntriesByType('resource').map((e) => e.name) \
           .filter((name) => name.endsWith('.js') && !announced.includes(name))) \
         ([...document.querySelectorAll('link[rel=modulepreload], script[src]')].map((e) => e.href || e.src))",
    );
    assert_eq!(unannounced, json!([]));
    let took = browser.value("performance.getEntriesByName('numbers')[0].startTime");
    println!("the numbers were there after {took} ms");
    browser.end(false);
}
