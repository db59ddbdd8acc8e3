//! Ten thousand campaigns.

use serde_json::json;

use crate::browser::Browser;
use crate::records::Event;
use crate::site::Site;

const CAMPAIGNS: i64 = 10_000;

/// What the page may have at once, whatever there is: rows of the table, elements in all.
const ROWS: usize = 50;
const ELEMENTS: f64 = 4_000.0;

/// Scrolls through the whole page and back, 90 pixels a frame; the number of frames.
const SCROLL: &str = "
    let frames = 0, down = true;
    const step = () => {
      const at = scrollY;
      scrollBy(0, down ? 90 : -90);
      frames += 1;
      if (scrollY !== at) requestAnimationFrame(step);
      else if (down) { down = false; requestAnimationFrame(step); }
      else done(frames);
    };
    requestAnimationFrame(step);";

#[test]
fn ten_thousand_campaigns_scroll_smoothly() {
    let site = Site::empty("page_many");
    let events: Vec<Event> = (0..CAMPAIGNS)
        .map(|n| Event::of(&format!("many-{n:04}")))
        .collect();
    site.send(&events);
    site.world.wait_until_counted(CAMPAIGNS);
    let browser = Browser::open(&site.origin);
    browser.visit_page("/?tz=UTC&range=all&sort=events");
    browser.until(
        "all are there",
        "document.querySelector('#campaigns .tools').innerText.includes('10,000 campaigns')",
    );
    assert_eq!(browser.texts(".board tbody th").len(), ROWS);

    // The first time through the page has its small charts still to draw.
    browser.run_async(SCROLL);
    browser.until(
        "the small charts are drawn",
        "[...document.querySelectorAll('.board .spark path:last-child')].every((p) => p.getAttribute('d'))",
    );
    // From then on scrolling is the browser's own work: no row is made or taken away.
    browser.run_async(
        "window.changes = 0;
         new MutationObserver((all) => { window.changes += all.length; })
           .observe(document.querySelector('.board tbody'), { childList: true });
         done();",
    );
    let frames = browser.run_async(SCROLL).as_f64().expect("frames");
    assert!(frames > 20.0, "{frames} frames");
    assert_eq!(browser.value("window.changes"), json!(0));

    // Page after page, the page itself does not grow.
    let mut seen = browser.texts(".board tbody th");
    for page in 2..=4_usize {
        let first = seen[seen.len() - ROWS].clone();
        browser.click(".pager button:last-child");
        browser.until(
            "the next page is shown",
            &format!("document.querySelector('.board tbody th').innerText !== '{first}'"),
        );
        browser.settled();
        seen.extend(browser.texts(".board tbody th"));
        assert_eq!(seen.len(), page * ROWS);
    }
    seen.sort();
    seen.dedup();
    assert_eq!(seen.len(), 4 * ROWS, "no campaign is on two pages");
    let elements = browser.value("document.querySelectorAll('*').length");
    assert!(elements.as_f64() < Some(ELEMENTS), "{elements} elements");

    // The one that is looked for is found among all.
    browser.type_into("[type=search]", "many-9876");
    browser.until(
        "it is found",
        "[...document.querySelectorAll('.board tbody th')].map((th) => th.innerText).join() === 'many-9876'",
    );
    browser.end(false);
}
