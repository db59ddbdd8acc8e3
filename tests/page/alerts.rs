//! Alerts open and resolve before one's eyes.

use adflux::event::Money;
use diesel::connection::SimpleConnection as _;
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

/// An event that cost and brought in so much.
fn event(cost: i64, revenue: i64) -> Event {
    let mut event = Event::of("cmp-hot");
    event.counts.cost_micros = Money::new(cost * 1_000_000);
    event.counts.revenue_micros = Money::new(revenue * 1_000_000);
    event
}

#[test]
fn what_is_open_comes_first_with_what_is_measured_now() {
    let site = Site::empty("page_open_alert");
    let browser = Browser::open(&site.origin);
    site.rule(
        "burning",
        &json!({ "when": "roas < 1 over 1d and cost > 50" }),
    );
    site.send(&[event(60, 15)]);
    browser.visit_page("/?view=alerts&tz=UTC");
    browser.until("it is open", &format!("{COUNT} === '1 open'"));
    // More resolve afterwards than are shown.
    site.world
        .connect()
        .batch_execute(
            "INSERT INTO alerts (alert_id, rule_name, campaign_id, condition, webhooks, pending_since, opened_at,
                 resolved_at, resolved_because, opened_values, transition_id)
             SELECT gen_random_uuid(), 'other', 'cmp-hot', 'cost > 1 over 1h', '{}', now(), now(), now(), 'condition',
                 '[{\"condition\": \"cost > 1 over 1h\", \"value\": 2.0, \"threshold\": 1.0}]',
                 nextval('alert_transition_ids')
             FROM generate_series(1, 12)",
        )
        .expect("they are written");
    browser.visit_page("/?campaign=cmp-hot&tz=UTC&range=all");
    let first = browser.text("[aria-label=Alerts] li");
    assert!(
        first.starts_with("open") && first.contains("burning"),
        "{first}"
    );
    assert_eq!(browser.texts("[aria-label=Alerts] li").len(), 9);

    // What opened it stays what it was; beside it stands what has become of it.
    site.send(&[event(40, 10)]);
    for address in [
        "/?campaign=cmp-hot&tz=UTC&range=all",
        "/?view=alerts&tz=UTC",
    ] {
        browser.visit_page(address);
        let open = "[...document.querySelectorAll('main .alerts li')].find((li) => li.innerText.includes('burning')).innerText";
        browser.until(
            "what is measured now is there",
            &format!("{open}.includes('ROAS 0.25×, Spend 100.00 now')"),
        );
        let open = browser.value(open);
        let open = open.as_str().expect("text");
        assert!(
            open.contains("ROAS 0.25×, Spend 60.00 when it opened"),
            "{open}"
        );
    }
    browser.shot("alert-now");
    browser.end(false);
}

#[test]
fn a_budget_says_whose_day_it_is_and_yesterdays_says_what_today_is() {
    let site = Site::empty("page_budget");
    let browser = Browser::open(&site.origin);
    // However late the day is, so much is too much; while it is early, nothing is decided.
    let condition = "cost pace > 110% of budget 1 per day";
    site.rule("overspending", &json!({ "when": condition }));
    site.world
        .connect()
        .batch_execute(&format!(
            "INSERT INTO alerts (alert_id, rule_name, campaign_id, condition, webhooks, pending_since, opened_at, opened_values,
                 transition_id)
             VALUES (gen_random_uuid(), 'overspending', 'cmp-hot', '{condition}', '{{}}', now(), now() - interval '1 day',
                 '[{{\"condition\": \"{condition}\", \"value\": 4076.42, \"threshold\": 2902.78}}]',
                 nextval('alert_transition_ids'))",
        ))
        .expect("it is written");
    site.send(&[event(700, 0)]);
    site.world.wait_until_counted(1);
    browser.visit_page("/?view=alerts&tz=Asia/Kolkata");
    let open = "document.querySelector('[aria-label=Open] li').innerText";
    browser.until(
        "what is spent today is there",
        &format!("/Spend 700\\.00 .*now/.test({open})"),
    );
    let open = browser.text("[aria-label=Open] li");
    for part in [
        "Spend 4,076.42 against 2,902.78 when it opened",
        "in days of UTC",
    ] {
        assert!(open.contains(part), "{open} has no {part}");
    }
    assert!(
        browser
            .text("[aria-label=Rules] tbody tr")
            .contains("in days of UTC")
    );
    assert!(
        browser
            .text("[aria-label=Rules]")
            .contains("are those of UTC")
    );
    browser.end(false);
}
