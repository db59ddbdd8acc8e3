//! Any query string, to every endpoint.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|raw: &str| adflux::api::fuzzing::query(raw));
