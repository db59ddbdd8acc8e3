//! Meta Ads Manager: CSV and XLSX.

use super::*;

const CSV: &str = "Reporting starts,Reporting ends,Campaign name,Campaign ID,Attribution setting,Results,Result indicator,Amount spent (EUR),Impressions,Clicks (all),Purchases,Purchases conversion value\n\
    2024-06-03,2024-06-03,Sommer ☀,120210000000000011,7-day click,3,actions:offsite_conversion.fb_pixel_purchase,12.34,1000,20,3,99.5\n\
    2024-06-03,2024-06-03,Leads,120210000000000012,7-day click,5,actions:lead,1.5,500,7,,\n\
    2024-06-03,2024-06-03,,,,,,13.84,1500,27,3,99.5\n";

#[test]
fn the_currency_is_in_the_header_and_a_row_without_a_name_sums_up() {
    let report = read(CSV, &said());
    assert_eq!(report.warnings, Vec::<String>::new());
    assert_eq!(report.file_totals.len(), 1);
    assert_eq!(
        shorts(&rows_of(CSV, &said())),
        [
            "2024-06-03 meta:123-456-7890:120210000000000011 EUR [] 1000 20 3 12.34 99.5",
            "2024-06-03 meta:123-456-7890:120210000000000012 EUR [] 500 7 0 1.5 0",
        ]
    );
}

/// Where nothing is attributed Meta writes nothing. Whether it is measured, other rows show.
#[test]
fn an_empty_cell_of_a_measured_column_is_zero() {
    let without_revenue = CSV.replace(",3,99.5", ",3,");
    let short = shorts(&rows_of(&without_revenue, &said()));
    assert!(short[0].ends_with(" 3 12.34 ?") && short[1].ends_with(" 0 1.5 ?"));
    // What the platform keeps to itself is another thing.
    let masked = CSV.replace("7,,", "7,--,");
    assert!(shorts(&rows_of(masked, &said()))[1].ends_with(" ? 1.5 0"));
    // A sum that is not given is none.
    let report = read(CSV.replace("27,3,99.5", "27,,"), &said());
    assert_eq!(report.warnings, Vec::<String>::new());
}

#[test]
fn what_counts_is_called_as_the_api_calls_it() {
    let counted = |csv: &str, options: &Options| {
        let report = read(csv, options);
        assert!(report.is_good(), "{:?}", report.refusals);
        let shape = report.shape.expect("recognised");
        (shape.conversions, shape.revenue)
    };
    let both = |conversions: &str, revenue: &str| (conversions.to_owned(), revenue.to_owned());
    assert_eq!(
        counted(CSV, &said()),
        both("omni_purchase", "omni_purchase")
    );
    let german = CSV.replace("Purchases,", "Käufe,");
    assert_eq!(
        counted(&german, &said()),
        both("omni_purchase", "omni_purchase")
    );
    let website = CSV.replace("Purchases", "Website purchases");
    let pixel = "offsite_conversion.fb_pixel_purchase";
    assert_eq!(counted(&website, &said()), both(pixel, pixel));
    let one_kind = CSV
        .replace("Purchases,", "Other,")
        .replace("actions:lead", "");
    assert_eq!(counted(&one_kind, &said()), both(pixel, "omni_purchase"));
    let leads = Options {
        conversions: Some("actions:lead".to_owned()),
        ..said()
    };
    assert_eq!(counted(CSV, &leads), both("lead", "omni_purchase"));
}

#[test]
fn what_is_remembered_is_read_and_what_differs_is_refused() {
    let pixel = "offsite_conversion.fb_pixel_purchase";
    let remembered = |conversions: &str, revenue: &str, may_differ| Options {
        zone: None,
        remembered: Some(facts::Remembered {
            account: "123-456-7890".to_owned(),
            zone: chrono_tz::Europe::Paris,
            currency: crate::currency::Currency::from_code("EUR").expect("known"),
            conversions: conversions.to_owned(),
            revenue: revenue.to_owned(),
            may_differ,
        }),
        ..said()
    };
    let same = remembered("omni_purchase", "omni_purchase", false);
    // Conversions and their value are called the same, and are two columns.
    assert_eq!(shorts(&rows_of(CSV, &same)), shorts(&rows_of(CSV, &said())));
    let report = read(CSV, &same);
    let zone = report.shape.and_then(|shape| shape.zone);
    assert_eq!(zone, Some(chrono_tz::Europe::Paris));
    // Of two columns the remembered one is taken, though another would be by itself.
    let two = CSV.replace("Results,", "Website purchases,");
    let of_pixel = remembered(pixel, "omni_purchase", false);
    assert!(shorts(&rows_of(two, &of_pixel))[1].contains(" 5 1.5 "));
    // One that is not there is unknown.
    let without = CSV.replace("Purchases,", "a,").replace("Results,", "b,");
    let report = read(&without, &same);
    assert_eq!(
        report.shape.map(|s| s.conversions),
        Some("omni_purchase".to_owned())
    );
    // Another one is refused, unless days are to move over.
    let lead = remembered("lead", "omni_purchase", false);
    let text = refusals(CSV, &lead);
    assert!(
        text.contains("'lead' in what was imported before, and 'omni_purchase' here"),
        "{text}"
    );
    assert!(read(CSV, &remembered("lead", "omni_purchase", true)).is_good());
    let zone = Options {
        zone: Some(chrono_tz::Europe::Berlin),
        ..same
    };
    let text = refusals(CSV, &zone);
    assert!(
        text.contains("Europe/Paris in what was imported before, and Europe/Berlin here"),
        "{text}"
    );
}

#[test]
fn a_row_over_a_range_is_refused() {
    let text = refusals(
        CSV.replacen("2024-06-03,2024-06-03,S", "2024-06-03,2024-06-09,S", 1),
        &said(),
    );
    assert!(text.contains("line 2, column 'Reporting ends', '2024-06-09': the row sums up 2024-06-03 to 2024-06-09; export by day"), "{text}");
    // With a column for the day, the range is the report's.
    let by_day = "Day,Campaign name,Campaign ID,Amount spent (EUR),Impressions,Reporting starts,Reporting ends\n\
        2024-06-03,A,1,1.5,10,2024-06-01,2024-06-30\n";
    assert_eq!(
        shorts(&rows_of(by_day, &said())),
        ["2024-06-03 meta:123-456-7890:1 EUR [] 10 ? ? 1.5 ?"]
    );
}

#[test]
fn an_export_without_data_is_empty() {
    let header = CSV.lines().next().unwrap_or_default();
    let report = read(format!("{header}\nNo data available.\n"), &said());
    assert!(report.is_good(), "{:?}", report.refusals);
    assert_eq!(report.gathered.rows, 0);
}

#[test]
fn results_of_several_kinds_are_never_added() {
    let csv = CSV.replace("Purchases,", "Website leads,");
    let text = refusals(&csv, &said());
    assert!(
        text.contains("its results are of another kind than those of line 2"),
        "{text}"
    );
    let leads = Options {
        conversions: Some("actions:lead".to_owned()),
        ..said()
    };
    let conversions: Vec<_> = rows_of(&csv, &leads)
        .iter()
        .map(|row| row.values.conversions.map(|c| c.to_string()))
        .collect();
    assert_eq!(conversions, [None, Some("5".to_owned())]);
    let without_kind = csv.replace("Result indicator", "Other");
    let report = read(&without_kind, &said());
    assert!(report.is_good());
    assert!(
        report.warnings[0].contains("conversions stay unknown"),
        "{:?}",
        report.warnings
    );
}

#[test]
fn attribution_that_differs_is_said() {
    let report = read(CSV.replacen("7-day click", "1-day view", 1), &said());
    assert!(report.is_good());
    assert_eq!(
        report.warnings,
        ["attribution settings differ from row to row: 1-day view, 7-day click"]
    );
}

#[test]
fn ad_sets_are_slices() {
    let csv = "Day,Campaign name,Campaign ID,Ad set ID,Amount spent (EUR),Impressions\n\
        2024-06-03,A,1,7,1.5,10\n2024-06-03,A,1,8,2.5,10\n";
    assert_eq!(rows_of(csv, &said())[1].slice, "ad_set=8");
}

#[test]
fn a_workbook_is_the_same() {
    let rows: Vec<Vec<Cell>> = CSV
        .lines()
        .map(|line| {
            let cells = line.split(',').enumerate();
            cells
                .map(|(index, text)| match text.parse::<f64>() {
                    Ok(number) if index > 3 => Cell::Number(number),
                    _ => Cell::Text(text),
                })
                .collect()
        })
        .collect();
    let bytes = workbook("Raw Data Report", &rows);
    let found = rows_of(&bytes, &said());
    assert_eq!(shorts(&found), shorts(&rows_of(CSV, &said())));
    assert_eq!(found[0].place.to_string(), "Raw Data Report!2");
    // Packed once more, it is the same still.
    let mut out = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    std::io::Write::write_all(&mut out, &bytes).expect("memory");
    let packed = out.finish().expect("memory");
    assert_eq!(shorts(&rows_of(packed, &said())), shorts(&found));
}

#[test]
fn an_id_that_a_spreadsheet_kept_as_a_number_is_refused() {
    let header = ["Day", "Campaign name", "Campaign ID", "Amount spent (EUR)"].map(Cell::Text);
    let row = [
        Cell::Text("2024-06-03"),
        Cell::Text("A"),
        Cell::Number(120_210_000_000_000_011.0),
        Cell::Number(12.340_000_000_000_002),
    ];
    let text = refusals(workbook("a", &[header.to_vec(), row.to_vec()]), &said());
    assert!(
        text.contains("a!2, column 'Campaign ID'") && text.contains("loses digits"),
        "{text}"
    );
    let shortened = "Day,Campaign name,Campaign ID,Amount spent (EUR)\n2024-06-03,A,1.2021E+17,1\n";
    assert!(refusals(shortened, &said()).contains("loses digits"));
}

#[test]
fn bytes_that_are_no_workbook_are_refused() {
    let bytes = workbook("a", &[vec![Cell::Text("Day")]]);
    for cut in [40, bytes.len() / 2, bytes.len() - 1] {
        assert!(!read(&bytes[..cut], &said()).is_good());
    }
}
