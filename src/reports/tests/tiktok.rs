//! TikTok Ads Manager.

use super::*;

const CSV: &str = "Campaign name,Campaign ID,By Day,Currency,Cost,Impression(s),Clicks (Destination),Conversions,Total complete payment rate\n\
    Satu,\"=\"\"1790000000000000001\"\"\",2024-06-03,IDR,161074.000,52000,310,4,250000.000\n\
    Dua,\"=\"\"1790000000000000002\"\"\",2024-06-03,IDR,512.000,900,<5,-,0.000\n\
    Total of 2 results,-,-,IDR,161586.000,52900,310,4,250000.000\n";

#[test]
fn three_decimals_are_no_thousands_and_masks_are_unknown() {
    let report = read(CSV, &said());
    assert!(report.is_good(), "{:?}", report.refusals);
    assert_eq!(report.warnings, Vec::<String>::new());
    assert_eq!(
        shorts(&rows_of(CSV, &said())),
        [
            "2024-06-03 tiktok:123-456-7890:1790000000000000001 IDR [] 52000 310 4 161074 250000",
            "2024-06-03 tiktok:123-456-7890:1790000000000000002 IDR [] 900 ? ? 512 0",
        ]
    );
}

#[test]
fn the_workbook_is_the_same() {
    let rows: Vec<Vec<Cell>> = [
        "Campaign name;Campaign ID;By Day;Currency;Cost;Impression(s);Clicks (Destination);Conversions;Total complete payment rate",
        "Satu;1790000000000000001;2024-06-03;IDR;161074.000;52000;310;4;250000.000",
        "Dua;1790000000000000002;2024-06-03;IDR;512.000;900;<5;-;0.000",
    ]
    .iter()
    .map(|line| line.split(';').map(Cell::Text).collect())
    .collect();
    let found = rows_of(workbook("Sheet1", &rows), &said());
    assert_eq!(shorts(&found), shorts(&rows_of(CSV, &said())));
}
