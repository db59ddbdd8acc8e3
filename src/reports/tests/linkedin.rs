//! LinkedIn Campaign Manager.

use super::*;

const TSV: &str = "Campaign Performance Report (in UTC)\n\
    Report Start: June 1, 2024, 12:00 AM\n\
    Report End: June 30, 2024, 11:59 PM\n\
    Date Generated: July 3, 2024, 9:05 AM\n\
    \n\
    Start Date (in UTC)\tAccount Name\tCurrency\tCampaign Name\tCampaign ID\tTotal Spent\tImpressions\tClicks\tConversions\tTotal Conversion Value\n\
    6/13/2024\tOurs\tEUR\tHiring\t111\t1,042.85\t1,204\t57\t3\t0.00\n\
    6/3/2024\tOurs\tEUR\tHiring\t111\t2.50\t10\t1\t0\t0.00\n";

/// The file says its zone and when it was made.
fn only_the_account() -> Options {
    Options {
        account: said().account,
        ..Options::default()
    }
}

#[test]
fn lines_before_the_header_say_when_it_was_made() {
    let report = read(utf16(TSV), &only_the_account());
    assert!(report.is_good(), "{:?}", report.refusals);
    let shape = report.shape.expect("recognised");
    assert_eq!(shape.encoding, "UTF-16LE");
    assert_eq!(shape.zone, Some(chrono_tz::UTC));
    assert_eq!(
        shape.observed_at,
        parse_rfc3339("2024-07-03T09:05:00Z").ok()
    );
    let rows = rows_of(utf16(TSV), &only_the_account());
    assert_eq!(
        shorts(&rows),
        [
            "2024-06-13 linkedin:123-456-7890:111 EUR [] 1204 57 3 1042.85 0",
            "2024-06-03 linkedin:123-456-7890:111 EUR [] 10 1 0 2.5 0",
        ]
    );
    assert_eq!(rows[0].place, Place::Line(7));
}

#[test]
fn language_and_number_format_change_from_export_to_export() {
    let german = TSV
        .replace("Start Date (in UTC)", "Startdatum (in UTC)")
        .replace("Campaign Name\t", "Kampagnenname\t")
        .replace("\tCampaign ID", "\tKampagnen-ID")
        .replace("Total Spent", "Gesamtausgaben")
        .replace("Clicks", "Klicks")
        .replace("6/13/2024", "13.06.2024")
        .replace("6/3/2024", "03.06.2024")
        .replace("1,042.85", "1.042,85")
        .replace("1,204", "1.204")
        .replace("2.50", "2,50")
        .replace("0.00", "0,00");
    let rows = shorts(&rows_of(utf16(&german), &only_the_account()));
    assert_eq!(rows, shorts(&rows_of(utf16(TSV), &only_the_account())));
}

#[test]
fn a_range_on_its_first_day_is_refused() {
    let range = TSV
        .replace("6/13/2024", "6/1/2024")
        .replace("6/3/2024", "6/1/2024")
        .replacen("\t111\t", "\t112\t", 1);
    let range = range.replace("6/1/2024", "2024-06-01");
    let text = refusals(utf16(&range), &only_the_account());
    assert!(
        text.contains("the report is of several days, and all its rows are of the first"),
        "{text}"
    );
}
