//! The bounds of what a client may take. docs/api.md lists them.

use std::time::Duration;

/// See the module. The defaults are those of production; tests make some of them small.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Connections at a time; when there are more, the longest idle ones are closed.
    pub connections: usize,
    /// Connections of one address at a time; zero: without limit. Not those of a trusted proxy, which are everybody's.
    pub connections_per_address: usize,
    /// For the head of a request to arrive.
    pub header_time: Duration,
    /// Between two requests on a connection.
    pub keep_alive: Duration,
    /// Bytes of the head of a request.
    pub header_bytes: usize,
    /// Headers of a request.
    pub headers: usize,
    /// For an answer to begin.
    pub answer_time: Duration,
    /// Requests a second of an address, and at once; zero: without limit.
    pub requests_per_address: u32,
    /// Requests a second with an API key, and at once; zero: without limit.
    pub requests_per_key: u32,
    /// Until an API key is looked up again.
    pub key_time: Duration,
    /// For which an API key stays good that cannot be looked up again.
    pub key_grace: Duration,
    /// Look-ups a second of API keys that are not known yet, for one address; zero: without limit.
    pub look_ups_per_address: u32,
    /// For which an answer to `/readyz` is kept.
    pub ready_time: Duration,
    /// For a client to take more of an answer that it has stopped reading.
    pub write_time: Duration,
    /// For a client to take all of an answer.
    pub download_time: Duration,
    /// For which requests are still answered once we are told to end, and who asks whether we are ready hears of it.
    pub shutdown_delay: Duration,
    /// For open connections to end when we stop.
    pub drain: Duration,
    /// Live feeds at a time.
    pub live: usize,
    /// Live feeds of one address at a time; zero: without limit.
    pub live_per_address: usize,
    /// Campaigns whose newest values are kept for clients of the live feed.
    pub live_campaigns: usize,
    /// Bytes of a body of events or reports.
    pub body_bytes: u64,
    /// Requests that send events or reports, at a time.
    pub sending: usize,
    /// For such a body to arrive.
    pub upload_time: Duration,
    /// For the broker to acknowledge what was sent.
    pub delivery_time: Duration,
    /// A live feed on which nothing happens is written to this often.
    pub heartbeat: Duration,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            connections: 10_000,
            connections_per_address: 1_000,
            header_time: Duration::from_secs(15),
            keep_alive: Duration::from_secs(75),
            header_bytes: 16 * 1024,
            headers: 64,
            answer_time: Duration::from_secs(15),
            requests_per_address: 5_000,
            requests_per_key: 5_000,
            key_time: Duration::from_secs(5),
            key_grace: Duration::from_secs(60),
            look_ups_per_address: 50,
            ready_time: Duration::from_millis(500),
            write_time: Duration::from_secs(10),
            download_time: Duration::from_secs(300),
            shutdown_delay: Duration::ZERO,
            drain: Duration::from_secs(5),
            live: 1_000,
            live_per_address: 100,
            live_campaigns: 20_000,
            body_bytes: 8 << 20,
            sending: 64,
            upload_time: Duration::from_secs(60),
            delivery_time: Duration::from_secs(10),
            heartbeat: Duration::from_secs(15),
        }
    }
}

/// What an answer costs at most: which permits it waits for, and whether it has a deadline.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Cost {
    /// Answered from memory: no permit, no deadline.
    Memory,
    /// Asks the database by an index: a permit of the pool.
    Index,
    /// Reads or works through much: one of a few permits besides.
    Heavy,
    /// Takes in what is sent: room for it, and deadlines of its own.
    Intake,
}

impl Cost {
    /// Its name.
    pub const fn as_str(self) -> &'static str {
        match self {
            Cost::Memory => "memory",
            Cost::Index => "index",
            Cost::Heavy => "heavy",
            Cost::Intake => "intake",
        }
    }
}
