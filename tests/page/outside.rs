//! Text from outside is shown as it is, and turns and hides nothing.

use serde_json::json;

use crate::browser::Browser;
use crate::records::{Event, Record};
use crate::site::Site;

/// Whatever on the page holds a character that nobody sees: its texts, and what is said of them.
const UNSEEN: &str = "(() => {
    const bad = /(?![\\n\\t])[\\p{Cc}\\p{Cf}\\p{Zl}\\p{Zp}]/u;
    const found = [document.title, document.body.innerText].filter((text) => bad.test(text));
    for (const e of document.querySelectorAll('*'))
      for (const a of e.attributes) if (bad.test(a.value)) found.push(`${e.tagName} ${a.name}=${a.value}`);
    return found;
  })()";

#[test]
fn what_hides_or_turns_text_is_seen_and_does_nothing() {
    let site = Site::empty("page_outside");
    let browser = Browser::open(&site.origin);
    // A name that would read as another one, and a terminal's escape.
    let turned = "spring\u{202e}gnirps";
    let record = Record {
        key: Some(format!("{turned}\u{1b}[31m").into_bytes()),
        payload: Some(b"no event \x1b[2J \xe2\x80\xae".to_vec()),
        headers: vec![(
            "trace\u{2066}\u{5d0}".to_owned(),
            Some("\u{202e}\u{1b}".into()),
        )],
        ..Record::default()
    };
    site.world.send(&[record]);
    site.send(&[Event::of("spring")]);
    site.world.wait_until_counted(2);

    browser.visit_page("/?view=pipeline&tz=UTC");
    browser.click("#dead-letters summary");
    browser.until(
        "the letter is open",
        "document.querySelector('#dead-letters li')?.innerText.includes('trace')",
    );
    let letter = browser.text("#dead-letters li");
    for part in ["spring\\u{202e}gnirps\\u{1b}[31m", "trace\\u{2066}\u{5d0}"] {
        assert!(letter.contains(part), "{letter} has no {part}");
    }
    assert_eq!(browser.value(UNSEEN), json!([]));
    browser.shot("dead-letter-turned");

    // Of a link: it is told, and neither the page nor its title turn.
    for address in [
        "/?tz=UTC&range=%E2%80%AEall&%E2%80%AEx=1",
        "/?tz=UTC&range=all&q=%E2%80%AEgnirps",
        "/?tz=UTC&range=all&filter=%E2%80%AE%3C1",
        "/?tz=UTC&campaign=spring%E2%80%AE",
        "/?tz=UTC&campaign=spring%1B%5B31m",
    ] {
        browser.visit_page(address);
        let note = browser.text(".note[role=status]");
        assert!(note.contains("\\u{"), "{note}");
        assert_eq!(browser.value(UNSEEN), json!([]), "{address}");
    }
    // Of what is typed.
    browser.visit_page("/?tz=UTC&range=all");
    browser.type_into("[type=search]", turned);
    browser.until("it is looked for", "location.search.includes('q=')");
    browser.settled();
    assert_eq!(browser.value(UNSEEN), json!([]));

    // And in what /docs shows of an answer.
    browser.visit("/docs");
    browser.until(
        "the API is described",
        "document.querySelector('main details')",
    );
    browser.run_async(
        "const box = [...document.querySelectorAll('main details')].find((d) => d.querySelector('summary').innerText.includes('GET /dead-letters') && !d.innerText.includes('{'));
         box.open = true;
         box.querySelector('form').requestSubmit();
         done();",
    );
    browser.until("it is answered", "[...document.querySelectorAll('pre')].some((pre) => !pre.hidden && pre.innerText.includes('spring\\\\u{202e}'))");
    assert_eq!(browser.value(UNSEEN), json!([]));
    browser.end(false);
}
