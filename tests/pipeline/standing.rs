//! What a running process tells those who ask how it is doing.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;

use crate::process::{Ended, Process};
use crate::world::World;

/// The status and all that follows; nothing as long as nobody listens.
pub fn get(address: &str, path: &str) -> Option<(u16, String)> {
    let mut stream = TcpStream::connect(address).ok()?;
    let request = format!("GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    let status = answer.split(' ').nth(1)?.parse().ok()?;
    Some((status, answer))
}

/// What the doctor says.
pub fn doctor(world: &World) -> Ended {
    Process::start(&mut world.command("doctor", &["--listen", "127.0.0.1:0"])).end()
}
