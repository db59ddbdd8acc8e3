//! Where nobody listens now.

use std::net::TcpListener;

/// A port on the loopback interface.
pub fn free_port() -> u16 {
    let free = TcpListener::bind("127.0.0.1:0").and_then(|l| l.local_addr());
    free.expect("a port").port()
}

/// The same, as an address.
pub fn free_address() -> String {
    format!("127.0.0.1:{}", free_port())
}
