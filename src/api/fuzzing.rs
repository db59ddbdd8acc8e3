//! What the fuzzer calls of the parsers that nobody else outside of here needs. Only there with the
//! feature `fuzzing`.

use chrono::{DateTime, Utc};

use super::filter::Filter;
use super::params::Query;
use super::window::{self, Increment};
use super::{asked, cursor, endpoints};

/// Reads a query string for every endpoint, and all that is in it.
pub fn query(raw: &str) {
    let now = DateTime::<Utc>::from_timestamp(1_769_860_800, 0).unwrap_or_default();
    for endpoint in endpoints::ALL {
        let Ok(query) = Query::parse(raw, endpoint) else {
            continue;
        };
        let _ = query.question(&[&endpoints::CURSOR]);
        let _ = (asked::fields(&query), asked::platforms(&query));
        for text in query.all(&endpoints::FILTER) {
            let _ = Filter::parse("filter", text);
        }
        if let Some(text) = query.get(&endpoints::CURSOR) {
            cursor(text);
        }
        let increment = query
            .get(&endpoints::TIME_INCREMENT)
            .and_then(Increment::parse)
            .unwrap_or(Increment::All);
        let Ok((asked, zone)) = asked::window(&query, now) else {
            continue;
        };
        for window in [asked.window, asked.previous].into_iter().flatten() {
            if let Ok(cuts) = window::cuts(window, increment, zone) {
                assert!(cuts.is_sorted_by(|a, b| a < b), "{cuts:?}");
                assert_eq!(cuts.first(), Some(&window.since()));
                assert_eq!(cuts.last(), Some(&window.until()));
            }
        }
    }
}

/// Reads a cursor, and one of ours with the numbers in `text`.
pub fn cursor(text: &str) {
    let _ = cursor::decode::<1>("question", text);
    let _ = cursor::decode::<2>(text, text);
    let _ = cursor::decode::<5>("question", text);
    let number = |n: usize| {
        let bytes = text.bytes().skip(n * 8).take(8);
        bytes.fold(0_i64, |number, byte| number << 8 | i64::from(byte))
    };
    let numbers = [number(0), number(1)];
    let ours = cursor::encode(text, &numbers);
    assert_eq!(cursor::decode(text, &ours).ok(), Some(numbers));
}
