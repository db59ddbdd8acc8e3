//! What the fuzzer calls of the parsers that nobody else outside of here needs. Only there with the
//! feature `fuzzing`.

use std::convert::Infallible;
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::runtime::{Builder, Runtime};
use warp::http::HeaderMap;

use super::cursor::Signer;
use super::filter::Filter;
use super::gate::{Answering, AtHand, Gate, TrustedProxies};
use super::listen::{self, Peer};
use super::parameters::CURSOR;
use super::window::{self, Increment};
use super::written::WrittenAnswers;
use super::{Settings, Shards, asked, campaigns, dispatch, endpoints, insights, reading};
use crate::cache::InsightCache;
use crate::database::Database;

/// Reads all that is sent over connections, up to where handlers begin: there is nobody behind the endpoints here.
pub struct Connections {
    runtime: Runtime,
    settings: Settings,
    answer: Box<dyn Fn(Peer, hyper::Request<hyper::body::Incoming>) -> Answering>,
}

impl Connections {
    /// Connections to a server without a database.
    ///
    /// # Errors
    /// When the system gives us no runtime.
    pub fn new() -> std::io::Result<Connections> {
        let settings = Settings {
            cors_origins: "https://pages.example".parse().into_iter().collect(),
            public_url: "https://example.com/adflux".parse().ok(),
            trusted_proxies: TrustedProxies::WhoeverConnects,
            ..Settings::default()
        };
        let nowhere = Database::new("postgres://127.0.0.1:1/nothing", 1);
        let cache = InsightCache::new(nowhere.clone(), None, Duration::ZERO);
        let at_hand = AtHand::new(Shards::nowhere(Arc::new(cache)), WrittenAnswers::new());
        let routes = warp::service(dispatch::filter(endpoints::ALL, None));
        let answer = Gate::new(&settings, nowhere, at_hand).before(routes, &settings);
        Ok(Connections {
            runtime: Builder::new_current_thread().enable_time().build()?,
            settings,
            answer: Box::new(answer),
        })
    }

    /// One connection: requests one after another, or what is none. Whatever comes, it ends, and what is answered is HTTP
    /// and says that the client is at fault, not the server.
    pub fn serve(&self, sent: &[u8]) {
        let peer = Peer {
            address: Ipv4Addr::LOCALHOST.into(),
            is_one_too_many: false,
        };
        let service = service_fn(|request| {
            let answering = (self.answer)(peer, request);
            async move { Ok::<_, Infallible>(answering.await) }
        });
        let (mut client, server) = tokio::io::duplex(1 << 20);
        let connection = listen::http(&self.settings.limits);
        let connection = connection.serve_connection(TokioIo::new(server), service);
        let mut received = Vec::new();
        self.runtime.block_on(async {
            let asking = async {
                // The server may hang up before it has read everything.
                let _ = client.write_all(sent).await;
                let _ = client.shutdown().await;
                let _ = client.read_to_end(&mut received).await;
            };
            let _ = tokio::join!(connection, asking);
        });
        assert!(received.is_empty() || received.starts_with(b"HTTP/1."));
        let status = received.get(9..12).unwrap_or_default();
        assert!(
            !status.starts_with(b"5"),
            "{}",
            String::from_utf8_lossy(&received)
        );
    }
}

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
