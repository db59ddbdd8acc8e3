//! Answers of APIs, and what Singer taps write.

use super::*;

fn no_account() -> Options {
    Options {
        account: None,
        ..said()
    }
}

#[test]
fn google_ads_in_either_writing() {
    let camel = r#"[{"results":[
        {"campaign":{"resourceName":"customers/1/campaigns/11","id":"11","name":"Brand"},
         "metrics":{"impressions":"1204","clicks":"57","costMicros":"42850000","conversions":3.5,"conversionsValue":120},
         "segments":{"date":"2024-06-03"},
         "customer":{"id":"1234567890","currencyCode":"EUR","timeZone":"Europe/Paris"}}],
        "fieldMask":"campaign.id","requestId":"x"},
        {"results":[
        {"campaign":{"id":"12","name":"Shoes"},"metrics":{"impressions":"1","clicks":"0","costMicros":"-2"},
         "segments":{"date":"2024-06-03"},"customer":{"id":"1234567890","currencyCode":"EUR"}}]}]"#;
    let options = Options {
        zone: None,
        ..no_account()
    };
    let report = read(camel, &options);
    assert_eq!(
        report.shape.as_ref().and_then(|shape| shape.zone),
        Some(chrono_tz::Europe::Paris)
    );
    let expected = [
        "2024-06-03 google:1234567890:11 EUR [] 1204 57 3.5 42.85 120",
        "2024-06-03 google:1234567890:12 EUR [] 1 0 ? -0.000002 ?",
    ];
    assert_eq!(shorts(&rows_of(camel, &options)), expected);
    let zones = camel.replace(
        r#""currencyCode":"EUR"}}]}]"#,
        r#""currencyCode":"EUR","timeZone":"Asia/Tokyo"}}]}]"#,
    );
    let text = refusals(zones, &options);
    assert!(
        text.contains("report 2, a report in the time zone Asia/Tokyo"),
        "{text}"
    );
    let snake = camel
        .replace("costMicros", "cost_micros")
        .replace("conversionsValue", "conversions_value")
        .replace("currencyCode", "currency_code")
        .replace("timeZone", "time_zone");
    assert_eq!(shorts(&rows_of(snake, &options)), expected);
    let asked = camel.replace("\"conversions\":3.5", "\"allConversions\":9.25");
    let all = Options {
        conversions: Some("allConversions".to_owned()),
        ..options.clone()
    };
    assert!(shorts(&rows_of(asked, &all))[0].contains(" 9.25 "));
    let week = camel.replace("\"date\"", "\"week\"");
    assert!(refusals(week, &options).contains("not a day"));
}

#[test]
fn meta_takes_one_of_the_names_of_a_purchase() {
    let json = r#"{"data":[
        {"account_id":"555","account_currency":"EUR","campaign_id":"120210000000000011","campaign_name":"A",
         "date_start":"2024-06-03","date_stop":"2024-06-03","impressions":"1000","clicks":"20","spend":"12.34",
         "actions":[{"action_type":"link_click","value":"18"},{"action_type":"omni_purchase","value":"3","7d_click":"2"},
                    {"action_type":"purchase","value":"3"},{"action_type":"offsite_conversion.fb_pixel_purchase","value":"3"}],
         "action_values":[{"action_type":"omni_purchase","value":"99.5"},{"action_type":"purchase","value":"99.5"}]},
        {"account_id":"555","account_currency":"EUR","campaign_id":"2","date_start":"2024-06-03","date_stop":"2024-06-03",
         "impressions":"5","clicks":"0","spend":"0"}],
        "paging":{"cursors":{"before":"x","after":"y"}}}"#;
    let expected = [
        "2024-06-03 meta:555:120210000000000011 EUR [] 1000 20 3 12.34 99.5",
        "2024-06-03 meta:555:2 EUR [] 5 0 0 0 0",
    ];
    assert_eq!(shorts(&rows_of(json, &no_account())), expected);
    let window = Options {
        conversions: Some("omni_purchase@7d_click".to_owned()),
        ..no_account()
    };
    assert!(shorts(&rows_of(json, &window))[0].contains(" 20 2 12.34 "));
    let no_values = json.replace("action_values", "other_values");
    assert!(shorts(&rows_of(no_values, &no_account()))[0].ends_with(" 3 12.34 ?"));
    let range = json.replacen(
        "\"date_stop\":\"2024-06-03\"",
        "\"date_stop\":\"2024-06-09\"",
        1,
    );
    let text = refusals(range, &no_account());
    assert!(
        text.contains("report 1, the report sums up 2024-06-03 to 2024-06-09"),
        "{text}"
    );
    let nul = json.replace("\"campaign_name\":\"A\"", "\"campaign_name\":\"A\\u0000\"");
    assert!(refusals(nul, &no_account()).contains("a NUL character in a name"));
    let more = json.replace(
        "\"cursors\"",
        "\"next\":\"https://graph.example/\",\"cursors\"",
    );
    assert!(read(more, &no_account()).warnings[0].contains("more pages"));
    let none = json.replace("purchase", "view");
    assert!(read(none, &no_account()).warnings[0].contains("no purchases among the actions"));
}

#[test]
fn linkedin_has_urns_dates_as_objects_and_tiny_doubles() {
    let json = r#"{"paging":{"start":0,"count":10,"links":[]},"elements":[
        {"pivotValues":["urn:li:sponsoredCampaign:111"],"impressions":100,"clicks":2,"costInLocalCurrency":"-2e-18",
         "externalWebsitePostClickConversions":2,"externalWebsitePostViewConversions":1,
         "dateRange":{"start":{"year":2024,"month":6,"day":3},"end":{"year":2024,"month":6,"day":3}}}]}"#;
    let options = Options {
        currency: crate::currency::Currency::from_code("EUR"),
        zone: None,
        ..said()
    };
    assert_eq!(
        shorts(&rows_of(json, &options)),
        ["2024-06-03 linkedin:123-456-7890:111 EUR [] 100 2 3 0 ?"]
    );
    let range = json.replace("\"day\":3}}}", "\"day\":9}}}");
    assert!(refusals(range, &options).contains("sums up 2024-06-03 to 2024-06-09"));
    let creative = json.replace("sponsoredCampaign", "sponsoredCreative");
    assert!(refusals(creative, &options).contains("no campaign among its pivots"));
}

#[test]
fn tiktok_has_metrics_as_text() {
    let json = r#"{"code":0,"message":"OK","data":{"list":[
        {"dimensions":{"campaign_id":"1790000000000000001","stat_time_day":"2024-06-03 00:00:00"},
         "metrics":{"campaign_name":"Satu","spend":"161074.000","impressions":"52000","clicks":"<5","conversion":"4",
                    "complete_payment":"3","total_complete_payment_rate":"250000.5","currency":"IDR"}}],
        "page_info":{"page":1,"total_page":1}}}"#;
    assert_eq!(
        shorts(&rows_of(json, &said())),
        ["2024-06-03 tiktok:123-456-7890:1790000000000000001 IDR [] 52000 ? 4 161074 250000.5"]
    );
    let payments = Options {
        conversions: Some("complete_payment".to_owned()),
        ..said()
    };
    assert!(shorts(&rows_of(json, &payments))[0].contains(" ? 3 161074 "));
    let text = refusals(
        r#"{"code":40105,"message":"Access token is incorrect","data":{}}"#,
        &said(),
    );
    assert!(
        text.contains("an API's answer that is an error: Access token is incorrect"),
        "{text}"
    );
}

#[test]
fn singer_taps_write_lines() {
    let lines = [
        r#"{"type":"SCHEMA","stream":"ads_insights","schema":{"properties":{}},"key_properties":[]}"#,
        r#"{"type":"RECORD","stream":"campaigns","record":{"id":"1","name":"A"}}"#,
        r#"{"type":"RECORD","stream":"ads_insights","record":{"account_id":"555","account_currency":"EUR","campaign_id":"1","campaign_name":"A","date_start":"2024-06-03T00:00:00.000000Z","date_stop":"2024-06-03T00:00:00.000000Z","impressions":10,"clicks":1,"spend":0.5},"time_extracted":"2024-06-04T05:06:07.000000Z"}"#,
        r#"{"type":"STATE","value":{}}"#,
    ]
    .join("\n");
    let options = Options {
        observed_at: None,
        ..no_account()
    };
    let report = read(&lines, &options);
    assert!(report.is_good(), "{:?}", report.refusals);
    let shape = report.shape.as_ref().expect("recognised");
    assert_eq!(shape.name, "Meta insights, Singer");
    assert_eq!(
        shape.observed_at,
        parse_rfc3339("2024-06-04T05:06:07Z").ok()
    );
    assert!(
        report
            .warnings
            .iter()
            .any(|w| w.contains("1 records of the tap are no reports"))
    );
    assert_eq!(
        shorts(&rows_of(&lines, &options)),
        ["2024-06-03 meta:555:1 EUR [] 10 1 ? 0.5 ?"]
    );
    for (record, row) in [
        (
            r#"{"campaign_id":11,"customer_id":1234567890,"customer_currency_code":"EUR","date":"2024-06-03T00:00:00.000000Z","clicks":3,"impressions":9,"cost_micros":1500000,"conversions":0.25}"#,
            "2024-06-03 google:1234567890:11 EUR [] 9 3 0.25 1.5 ?",
        ),
        (
            r#"{"campaign_id":"179","advertiser_id":"77","currency":"EUR","stat_time_day":"2024-06-03T00:00:00.000000Z","spend":1.5,"impressions":9,"clicks":3,"conversion":2}"#,
            "2024-06-03 tiktok:77:179 EUR [] 9 3 2 1.5 ?",
        ),
    ] {
        let line = format!("{{\"type\":\"RECORD\",\"stream\":\"x\",\"record\":{record}}}\n");
        assert_eq!(shorts(&rows_of(line, &no_account())), [row]);
    }
    let linkedin = "{\"type\":\"RECORD\",\"stream\":\"x\",\"record\":{\"campaign_id\":111,\"start_at\":\"2024-06-03T00:00:00Z\",\"end_at\":\"2024-06-03T00:00:00Z\",\"cost_in_local_currency\":1.5,\"impressions\":9,\"clicks\":3,\"external_website_conversions\":1}}\n";
    let euros = Options {
        currency: crate::currency::Currency::from_code("EUR"),
        zone: None,
        ..said()
    };
    assert_eq!(
        shorts(&rows_of(linkedin, &euros)),
        ["2024-06-03 linkedin:123-456-7890:111 EUR [] 9 3 1 1.5 ?"]
    );
}

#[test]
fn what_is_no_report_is_refused() {
    for (json, said_so) in [
        (r#"{"hello":"world"}"#, "not a report that is known"),
        (r#"{"data":[]}"#, "an answer without a report"),
        ("[1,2]", "not JSON"),
        (r#"{"data":[{"date_start":"#, "not JSON"),
    ] {
        let text = refusals(json, &said());
        assert!(text.contains(said_so), "{text}");
    }
}
