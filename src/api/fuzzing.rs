//! What the fuzzer calls of the parsers that nobody else outside of here needs. Only there with the
//! feature `fuzzing`.

use chrono::{DateTime, Utc};
use warp::http::HeaderMap;

use super::cursor::Signer;
use super::filter::Filter;
use super::parameters::CURSOR;
use super::window::{self, Increment};
use super::{asked, campaigns, endpoints, insights, reading};

/// Reads a query string for every endpoint, and all that is in it.
pub fn query(raw: &str) {
    let now = DateTime::<Utc>::from_timestamp(1_769_860_800, 0).unwrap_or_default();
    for endpoint in endpoints::ALL {
        // Every path as if its values were named as their parameters.
        let path = endpoint.path.replace(['{', '}'], "");
        let Ok(given) = reading::arguments(endpoint, &path, raw, &HeaderMap::new()) else {
            continue;
        };
        let _ = given.question(&[&CURSOR]);
        let _ = (asked::fields(&given), asked::platforms(&given));
        for text in given.all(&campaigns::FILTER) {
            let _ = Filter::parse("filter", text);
        }
        if let Some(text) = given.get(&CURSOR) {
            cursor(text);
        }
        let increment = given
            .get(&insights::TIME_INCREMENT)
            .and_then(Increment::parse)
            .unwrap_or(Increment::All);
        let Ok((asked, zone)) = asked::window(&given, now) else {
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

/// Reads a cursor, and one of ours with the numbers in `text`, which another key does not read.
pub fn cursor(text: &str) {
    let (signer, other) = (Signer::new(&[7; 32]), Signer::new(&[8; 32]));
    let _ = signer.decode::<1>("question", text);
    let _ = signer.decode::<2>(text, text);
    let _ = signer.decode::<5>("question", text);
    let number = |n: usize| {
        let bytes = text.bytes().skip(n * 8).take(8);
        bytes.fold(0_i64, |number, byte| number << 8 | i64::from(byte))
    };
    let numbers = [number(0), number(1)];
    let ours = signer.encode(text, &numbers);
    assert_eq!(signer.decode(text, &ours).ok(), Some(numbers));
    assert!(other.decode::<2>(text, &ours).is_err());
}
