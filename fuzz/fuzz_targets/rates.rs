//! Any bytes as a file of exchange rates: it is read or refused.
#![no_main]

use std::path::Path;

use adflux::rates::ecb;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let today = "2026-11-30".parse().expect("a date");
    let _ = ecb::open(Path::new("-"), bytes, today);
});
