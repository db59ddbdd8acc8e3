//! Google Ads, exported from its pages.

use super::*;

const CSV: &str = "Campaign report\n\
    \"June 1, 2024 - June 30, 2024\"\n\
    Campaign status,Campaign,Campaign ID,Day,Currency code,Impr.,Clicks,Cost,Conversions,Conv. value,CTR\n\
    Enabled,Brand,111,2024-06-03,EUR,\"1,204\",57,42.85,3.50,120.00,4.73%\n\
    Enabled,\"Shoes, \"\"red\"\"\",222,2024-06-03,EUR,10,1,0.40, --, --,< 10 %\n\
    Enabled,Brand,111,2024-06-04,EUR,300,9,\"1,000.15\",1.00,0.00,3.00%\n\
    Total: Campaigns, --, --, --,EUR,\"1,514\",67,\"1,043.40\",4.50,120.00,4.4%\n\
    Total: Account, --, --, --,EUR,\"1,514\",67,\"1,043.40\",4.50,120.00,4.4%\n";

#[test]
fn titles_and_totals_are_no_rows() {
    let report = read(CSV, &said());
    assert!(report.is_good(), "{:?}", report.refusals);
    assert_eq!((report.gathered.rows, report.gathered.campaigns()), (3, 2));
    assert_eq!(report.file_totals.len(), 2);
    assert_eq!(report.warnings, Vec::<String>::new());
    assert_eq!(
        shorts(&rows_of(CSV, &said())),
        [
            "2024-06-03 google:1234567890:111 EUR [] 1204 57 3.5 42.85 120",
            "2024-06-03 google:1234567890:222 EUR [] 10 1 ? 0.4 ?",
            "2024-06-04 google:1234567890:111 EUR [] 300 9 1 1000.15 0",
        ]
    );
    let rows = rows_of(CSV, &said());
    assert_eq!(rows[1].campaign_name, "Shoes, \"red\"");
    assert_eq!(rows[1].place, Place::Line(5));
}

#[test]
fn totals_that_the_rows_do_not_add_up_to_are_a_warning() {
    let report = read(CSV.replace("57,42.85", "57,43.85"), &said());
    assert!(report.is_good());
    assert_eq!(
        report.warnings,
        [
            "line 7, 'Total: Campaigns': cost 1043.4, and the rows add up to 1044.4",
            "line 8, 'Total: Account': cost 1043.4, and the rows add up to 1044.4",
        ]
    );
}

#[test]
fn the_excel_csv_is_the_same() {
    let rows = rows_of(CSV, &said());
    let tabs = CSV
        .replace("\"1,204\"", "1204")
        .replace("\"1,000.15\"", "1000.15");
    let tabs = tabs
        .replace("\"1,514\"", "1514")
        .replace("\"1,043.40\"", "1043.4");
    let tabs = tabs
        .replace("\"June 1, 2024 - June 30, 2024\"", "June")
        .replace("\"Shoes, \"\"red\"\"\"", "Shoes;red");
    let tabs = tabs
        .replace(',', "\t")
        .replace("Shoes;red", "\"Shoes, \"\"red\"\"\"");
    assert_eq!(rows_of(utf16(&tabs), &said()), rows);
}

#[test]
fn german_with_decimal_commas() {
    let csv = "Kampagnenbericht\n1. Juni 2024 - 30. Juni 2024\n\
        Tag;Kampagne;Kampagnen-ID;Währungscode;Impr.;Klicks;Kosten;Conversions;Conv.-Wert\n\
        03.06.2024;Schuhe;111;EUR;1.204;57;42,85;3,50;1.120,00\n\
        Gesamt: Kampagnen; --; --;EUR;1.204;57;42,85;3,50;1.120,00\n";
    let (latin, _, _) = encoding_rs::WINDOWS_1252.encode(csv);
    for bytes in [csv.as_bytes(), &latin] {
        let report = read(bytes, &said());
        assert_eq!(report.warnings, Vec::<String>::new());
        assert_eq!(
            shorts(&rows_of(bytes, &said())),
            ["2024-06-03 google:1234567890:111 EUR [] 1204 57 3.5 42.85 1120"]
        );
    }
}

#[test]
fn what_the_file_does_not_say_is_asked_for() {
    let without_ids = CSV.replace(",Campaign ID", ",Other");
    let asked = refusals(&without_ids, &Options::default());
    for flag in [
        "--account",
        "--time-zone",
        "--observed-at",
        "--id-from-name",
    ] {
        assert!(asked.contains(flag), "{asked}");
    }
    assert!(!asked.contains("--currency"), "{asked}");
    let by_name = Options {
        id_from_name: true,
        ..said()
    };
    let rows = rows_of(&without_ids, &by_name);
    assert!(rows[0].campaign_id.starts_with("google:1234567890:n"));
    assert_eq!(rows[0].campaign_id, rows[2].campaign_id);
    let no_currency = CSV.replace("Currency code", "Other");
    assert!(refusals(no_currency, &said()).contains("--currency"));
}

#[test]
fn what_is_wrong_is_named_with_its_place() {
    for (what, by, said_so) in [
        (
            "42.85",
            "4x",
            "line 4, column 'Cost', '4x': not a number in the style of this file",
        ),
        (
            "42.85",
            "\"1.042,85\"",
            "line 4, column 'Cost', '1.042,85': not a number",
        ),
        (
            "0.40",
            "0.1234567",
            "line 5, column 'Cost', '0.1234567': more than six decimals",
        ),
        (
            "57",
            "57.5",
            "line 4, column 'Clicks', '57.5': a count that is not whole",
        ),
        (
            "57",
            "-57",
            "line 4, column 'clicks', '-57': a count below zero",
        ),
        (
            "222,2024-06-03",
            "222,2024-06-31",
            "line 5, column 'Day', '2024-06-31': not a day",
        ),
        (
            "222,2024-06-03",
            "222,2024-07-03",
            "a day that had not begun",
        ),
        (
            "2024-06-03,EUR,10",
            "2024-06-03,EUX,10",
            "not a currency of ISO 4217",
        ),
        (
            "222,2024-06-03",
            "111,2024-06-03",
            "line 5, says something else of the same campaign and day than line 4",
        ),
    ] {
        let text = refusals(CSV.replacen(what, by, 1), &said());
        assert!(text.contains(said_so), "{text}");
    }
}

#[test]
fn a_row_that_is_there_twice_counts_once() {
    let row = "Enabled,Brand,111,2024-06-04,EUR,300,9,\"1,000.15\",1.00,0.00,3.00%\n";
    let twice = CSV.replace(row, &row.repeat(3));
    let report = read(&twice, &said());
    assert_eq!((report.gathered.rows, report.repeated), (3, vec![7, 8]));
    assert_eq!(report.warnings, Vec::<String>::new());
    assert_eq!(
        shorts(&rows_of(twice, &said())),
        shorts(&rows_of(CSV, &said()))
    );
}

#[test]
fn ad_groups_are_slices_and_grains_do_not_mix() {
    let csv = "Day,Campaign ID,Campaign,Ad group ID,Currency code,Clicks,Cost\n\
        2024-06-03,1,A,7,EUR,1,0.5\n2024-06-03,1,A,8,EUR,1,0.5\n";
    let rows = shorts(&rows_of(csv, &said()));
    assert_eq!(
        rows[1],
        "2024-06-03 google:1234567890:1 EUR [ad_group=8] ? 1 ? 0.5 ?"
    );
    let mixed = csv.replace("A,8,", "A,,");
    let text = refusals(mixed, &said());
    assert!(
        text.contains("line 3, a row of another grain than line 2"),
        "{text}"
    );
}

#[test]
fn an_ambiguous_file_asks_for_the_decimal() {
    let csv = "Day,Campaign ID,Currency code,Clicks,Cost\n2024-06-03,1,EUR,1,\"1,234\"\n";
    let text = refusals(csv, &said());
    assert!(
        text.contains("line 2, '1,234' can be read in two ways"),
        "{text}"
    );
    assert!(text.contains("--decimal"), "{text}");
    for (decimal, cost) in [
        (number::Decimal::Point, "1234"),
        (number::Decimal::Comma, "1.234"),
    ] {
        let options = Options {
            decimal: Some(decimal),
            ..said()
        };
        let rows = shorts(&rows_of(csv, &options));
        assert_eq!(
            rows,
            [format!(
                "2024-06-03 google:1234567890:1 EUR [] ? 1 ? {cost} ?"
            )]
        );
    }
    let slashes = csv
        .replace("2024-06-03", "3/6/2024")
        .replace("\"1,234\"", "1.5");
    assert!(refusals(slashes, &said()).contains("can be read as two days"));
}

#[test]
fn flags_and_file_must_agree() {
    let dollars = Options {
        currency: crate::currency::Currency::from_code("USD"),
        ..said()
    };
    assert!(
        refusals(CSV, &dollars)
            .contains("the row is in EUR, and --currency or the header says USD")
    );
    let with_account = CSV
        .replace("Campaign status", "Customer ID")
        .replace("Enabled", "999-999-9999");
    assert!(
        refusals(with_account, &said())
            .contains("the row is of account 9999999999, and --account says 1234567890")
    );
}

#[test]
fn conversions_can_be_another_column() {
    let options = Options {
        conversions: Some("All conv.".to_owned()),
        ..said()
    };
    let csv = CSV
        .replace("CTR", "All conv.")
        .replace("4.73%", "9.25")
        .replace("3.00%", "2")
        .replace("4.4%", "11.25");
    assert!(short(&rows_of(&csv, &options)[0]).contains(" 9.25 42.85 "));
    let text = refusals(CSV, &options);
    assert!(
        text.contains("no column is named 'All conv.', as --conversions says"),
        "{text}"
    );
}

#[test]
fn without_a_day_or_a_known_header_it_is_refused() {
    let text = refusals(CSV.replace("Day", "Week"), &said());
    assert!(text.contains("no column says the day"), "{text}");
    let text = refusals("a,b\n1,2\n", &said());
    assert!(
        text.contains("no line is the header of a report that is known"),
        "{text}"
    );
}
