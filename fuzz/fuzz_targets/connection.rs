//! Any bytes over a connection of the API: requests whole, with heads and bodies, one after another.
#![no_main]

use adflux::api::fuzzing::Connections;
use libfuzzer_sys::fuzz_target;

thread_local! {
    static CONNECTIONS: Connections = Connections::new().expect("a runtime");
}

fuzz_target!(|sent: &[u8]| CONNECTIONS.with(|connections| connections.serve(sent)));
