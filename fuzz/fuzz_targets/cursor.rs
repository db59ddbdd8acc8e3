//! Any text as a cursor, and any cursor of ours back.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| adflux::api::fuzzing::cursor(text));
