//! What holds of any file: a person's own map, any style of numbers, any bytes.

use super::*;
use proptest::prelude::*;

#[test]
fn a_map_reads_what_nobody_knows() {
    let map = map::Map::parse(
        "platform = 'TikTok'\naccount = '77'\ntime_zone = 'Asia/Jakarta'\ncurrency = 'IDR'\n\
         [columns]\nday = 'Tanggal'\ncampaign_id = 'Nomor'\ncost = 'Biaya'\nclicks = 'Klik'\n[slices]\nregion = 'Daerah'\n",
    )
    .expect("a map");
    let options = Options {
        observed_at: said().observed_at,
        map: Some(map),
        ..Options::default()
    };
    let csv = "anything\nKlik;Nomor;Tanggal;Biaya;Daerah\n1.000;5;25/6/2024;1.234,5;Jawa, Barat\n2;5;3/6/2024;7;Bali\n";
    assert_eq!(
        shorts(&rows_of(csv, &options)),
        [
            "2024-06-25 tiktok:77:5 IDR [region=Jawa%2C Barat] ? 1000 ? 1234.5 ?",
            "2024-06-03 tiktok:77:5 IDR [region=Bali] ? 2 ? 7 ?",
        ]
    );
    let text = refusals("a,b\n1,2\n", &options);
    assert!(
        text.contains("no line has all the columns that --map names"),
        "{text}"
    );
}

#[test]
fn nuls_and_endless_cells_are_refused() {
    let text = refusals(
        "Day,Campaign ID,Currency code,Cost\n2024-06-03,1,EUR,1.5\n2024-06-03,\u{0}2,EUR,1.5\n",
        &said(),
    );
    assert!(
        text.contains("line 3, a NUL character, the line's character 12"),
        "{text}"
    );
    let endless = format!(
        "Day,Campaign ID,Currency code,Cost\n2024-06-03,\"1,EUR,1.5\n{}",
        "2024-06-03,2,EUR,1.5\n".repeat(100_000)
    );
    let text = refusals(endless, &said());
    assert!(text.contains("quotes without an end"), "{text}");
}

/// A row in a style: day, cost in cents, impressions.
fn styled(style: usize, (day, cents, impressions): (u32, u32, u32)) -> String {
    let group = |number: u32, by: &str| {
        let digits = number.to_string();
        let mut out = String::new();
        for (index, digit) in digits.chars().enumerate() {
            if index > 0 && (digits.len() - index).is_multiple_of(3) {
                out.push_str(by);
            }
            out.push(digit);
        }
        out
    };
    let (units, rest) = (cents / 100, cents % 100);
    match style {
        0 => format!(
            "2024-06-{day:02};{}.{rest:02};{}",
            group(units, ","),
            group(impressions, ",")
        ),
        1 => format!(
            "{day:02}.06.2024;{},{rest:02};{}",
            group(units, "."),
            group(impressions, ".")
        ),
        2 => format!(
            "{day} juin 2024;{},{rest:02};{}",
            group(units, "\u{202f}"),
            group(impressions, "\u{202f}")
        ),
        3 => format!(
            "Jun {day}, 2024;{}.{rest:02};{}",
            group(units, "’"),
            group(impressions, "’")
        ),
        4 => format!("2024/6/{day};€{units}.{rest:02};{impressions}"),
        _ => format!("202406{day:02};{units}.{rest:02}000000;{impressions}.0"),
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn any_style_gives_the_same_rows(values in prop::collection::vec((1..=30_u32, any::<u32>(), any::<u32>()), 1..8)) {
        let file = |style| {
            let mut csv = "Day;Cost;Impr.;Campaign ID;Currency code\n".to_owned();
            for (id, value) in values.iter().enumerate() {
                csv += &format!("{};{id};EUR\n", styled(style, *value));
            }
            csv
        };
        let first = shorts(&rows_of(file(0), &said()));
        for style in 1..6 {
            prop_assert_eq!(&shorts(&rows_of(file(style), &said())), &first);
        }
    }

    #[test]
    fn any_bytes_are_read_or_refused(start in 0..6_usize, bytes in prop::collection::vec(any::<u8>(), 0..400)) {
        let start: &[u8] = [
            &b""[..],
            b"Day,Campaign ID,Currency code,Cost\n",
            b"\xff\xfe",
            b"{\"data\":[",
            b"{\"type\":\"RECORD\",\"record\":",
            b"Campaign name;Day;Campaign ID;Amount spent (EUR)\n2024-06-03;",
        ][start];
        let bytes = [start, &bytes].concat();
        if let Ok(sources) = from_reader("it", &bytes[..], Limits::USUAL) {
            for source in &sources {
                let _ = check(source, &said(), &mut |_| {});
            }
        }
    }

    #[test]
    fn any_cells_are_read_or_refused(cells in "[-0-9.,;:<>%\"'= \n\tDayCostEUR/{}\\[\\]]{0,300}") {
        let csv = format!("Day,Campaign ID,Currency code,Cost\n{cells}");
        let _ = read(csv, &said());
    }

    #[test]
    fn a_workbook_with_a_broken_byte_is_read_or_refused(at in any::<prop::sample::Index>(), byte in any::<u8>()) {
        let header = ["Day", "Campaign ID", "Amount spent (EUR)", "Impressions"].map(Cell::Text);
        let row = [Cell::Text("2024-06-03"), Cell::Text("1"), Cell::Number(1.5), Cell::Number(2.0)];
        let mut bytes = workbook("a", &[header.to_vec(), row.to_vec()]);
        let at = at.index(bytes.len());
        bytes[at] = byte;
        if let Ok(sources) = from_reader("it", &bytes[..], Limits::USUAL) {
            for source in &sources {
                let _ = check(source, &said(), &mut |_| {});
            }
        }
    }
}
