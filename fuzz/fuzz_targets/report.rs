//! Any bytes as a file of an advertising platform: it is read or refused.
#![no_main]

use adflux::reports::check;
use adflux::reports::facts::Options;
use adflux::reports::source::{Kind, Limits, from_reader};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let limits = Limits {
        unpacked: 1 << 20,
        workbook: 1 << 20,
        ..Limits::USUAL
    };
    let Ok(sources) = from_reader("it", bytes, limits) else {
        return;
    };
    // A panic of the workbooks' reader is a refusal; here it would end the fuzzer.
    for source in sources.iter().filter(|source| source.kind != Kind::Workbook) {
        let _ = check(source, &Options::default(), &mut |_| {});
    }
});
