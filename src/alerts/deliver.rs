//! Tells webhooks what happened to alerts.
//!
//! Every processor that knows the webhooks delivers from the outbox, at least once: an attempt is
//! claimed before it is made, and one that dies with its process is made again by whoever is there.
//! Each webhook has a task of its own and few attempts under way, so that a slow one holds up nobody
//! else. A receiver tells a repetition by `Adflux-Delivery`, and ours from others' by
//! `Adflux-Signature: t=SECONDS,v1=HEX`: HMAC-SHA256, keyed with the secret, of the seconds since
//! 1970, a point, and the body. (The form is that of [Stripe's webhooks][stripe].)
//!
//! [stripe]: https://docs.stripe.com/webhooks#verify-manually

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::Context as _;
use hmac::{Hmac, KeyInit as _, Mac as _};
use rand::RngExt as _;
use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use reqwest::{Client, Url, redirect};
use sha2::Sha256;
use tokio::task::JoinSet;

use super::document::Told;
use super::file::{self, Setting};
use crate::database::{Database, Unavailable};
use crate::metrics;
use crate::outage::Outage;
use crate::pause::Backoff;
use crate::store::keep::alerts::deliveries::{self, Attempt};
use crate::time::{Length, Timestamp};

/// For a receiver to answer.
const TIMEOUT: Duration = Duration::from_secs(10);
/// An attempt that has not ended by then has died with its process.
const LEASE: Duration = Duration::from_secs(30);
/// Attempts under way for one webhook.
const UNDER_WAY: usize = 4;
/// How often the outbox is looked into.
const INTERVAL: Duration = Duration::from_millis(250);
/// Between the attempts of one delivery.
const PAUSES: Backoff = Backoff {
    first: Duration::from_secs(1),
    longest: Duration::from_secs(3_600),
};

/// A receiver. It has no `Debug`: URL and secret are nobody's business.
#[derive(Clone)]
pub struct Webhook {
    name: String,
    url: Url,
    secret: String,
}

impl Webhook {
    /// The webhook that a file says, with what the environment holds of it.
    ///
    /// # Errors
    /// When a variable is not set, or the URL in it is not one.
    pub fn of(said: &file::Webhook) -> anyhow::Result<Webhook> {
        let name = &said.name;
        let variable = |variable: &str| match std::env::var(variable) {
            Ok(value) if !value.is_empty() => Ok(value),
            _ => anyhow::bail!("webhook '{name}': the environment variable {variable} is not set"),
        };
        let url = match &said.url {
            Setting::Value(url) => url.clone(),
            Setting::Variable(name) => variable(name)?,
        };
        // Neither message repeats the URL.
        file::check_url(&url)
            .map_err(anyhow::Error::msg)
            .with_context(|| format!("webhook '{name}'"))?;
        let url = Url::parse(&url)?;
        if url.scheme() == "http" && !is_this_machine(url.host_str().unwrap_or_default()) {
            log::warn!(
                "webhook '{name}' is told over http: whoever is on the way reads what alerts say; use https"
            );
        }
        Ok(Webhook {
            name: name.clone(),
            url,
            secret: variable(&said.secret_env)?,
        })
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Scheme, host and port: what may be shown of where it is.
    pub fn receiver(&self) -> String {
        self.url.origin().ascii_serialization()
    }
}

/// The signature of a body that is sent at this time.
pub fn signature(secret: &str, at: Timestamp, body: &str) -> String {
    let seconds = (at - Timestamp::EPOCH) / Length::SECOND;
    // A key of any length is one, so there is always a code.
    let mac = Hmac::<Sha256>::new_from_slice(secret.as_bytes()).map(|mut mac| {
        mac.update(format!("{seconds}.{body}").as_bytes());
        mac.finalize().into_bytes()
    });
    let code = mac.map(|code| data_encoding::HEXLOWER.encode(&code));
    format!("t={seconds},v1={}", code.unwrap_or_default())
}

/// Whether a host is this machine by what it says, whatever any DNS says.
fn is_this_machine(host: &str) -> bool {
    let address = host.trim_start_matches('[').trim_end_matches(']');
    host.eq_ignore_ascii_case("localhost")
        || address
            .parse::<IpAddr>()
            .is_ok_and(|address| address.is_loopback())
}

/// Where a receiver's name leads, unless that is an address of the inside, which its DNS has no business to lead to: those
/// who run it could otherwise have us call whatever is near us. An address that the file itself says is not looked up,
/// and neither is `localhost` anybody else's to lead elsewhere.
struct Outside {
    receiver: String,
}

impl Resolve for Outside {
    fn resolve(&self, name: Name) -> Resolving {
        let name = name.as_str().to_owned();
        // Another name is that of a proxy which the environment says.
        let is_free = name != self.receiver || is_this_machine(&name);
        Box::pin(async move {
            let found = tokio::net::lookup_host((name.as_str(), 0)).await?;
            let (inside, outside): (Vec<SocketAddr>, Vec<SocketAddr>) =
                found.partition(|at| !is_free && is_inside(at.ip()));
            match inside.first().filter(|_| outside.is_empty()) {
                None => Ok(Box::new(outside.into_iter()) as Addrs),
                Some(at) => {
                    let address = at.ip();
                    Err(format!("'{name}' leads to {address}, an address of the inside; if it should, start with --private-webhooks").into())
                }
            }
        })
    }
}

/// Whether an address is one of this machine, or of networks that not everybody reaches.
fn is_inside(address: IpAddr) -> bool {
    let v6 = match address {
        IpAddr::V4(v4) => return is_inside_v4(v4),
        IpAddr::V6(v6) => v6,
    };
    match v6.to_ipv4_mapped() {
        Some(v4) => is_inside_v4(v4),
        None => {
            v6.is_loopback()
                || v6 == Ipv6Addr::UNSPECIFIED
                || v6.is_multicast()
                || v6.is_unique_local()
                || v6.is_unicast_link_local()
        }
    }
}

/// [RFC 6890](https://www.rfc-editor.org/rfc/rfc6890) lists them.
fn is_inside_v4(v4: Ipv4Addr) -> bool {
    let [a, b, c, _] = v4.octets();
    v4.is_loopback()
        || v4.is_private()
        || v4.is_link_local()
        || v4.is_multicast()
        || a == 0
        || a >= 240
        || (a == 100 && (64..128).contains(&b))
        || (a == 198 && (18..20).contains(&b))
        || (a, b, c) == (192, 0, 0)
}

/// What calls a webhook, wherever its name leads or only outside.
fn client(webhook: &Webhook, may_be_inside: bool) -> anyhow::Result<Client> {
    let client = Client::builder()
        .user_agent(concat!("adflux/", env!("CARGO_PKG_VERSION")))
        .timeout(TIMEOUT)
        // Where it leads, the signature has no business.
        .redirect(redirect::Policy::none());
    let client = match may_be_inside {
        true => client,
        false => client.dns_resolver(Arc::new(Outside {
            receiver: webhook.url.host_str().unwrap_or_default().to_owned(),
        })),
    };
    Ok(client.build()?)
}

/// Delivers until `done`.
///
/// # Errors
/// When the system gives us no runtime, or TLS cannot be set up.
pub fn run(
    database_url: &str,
    webhooks: &[Webhook],
    may_be_inside: bool,
    done: &AtomicBool,
) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let clients: Vec<Client> = webhooks
        .iter()
        .map(|webhook| client(webhook, may_be_inside))
        .collect::<anyhow::Result<_>>()?;
    let database = Database::new(database_url, 2);
    runtime.block_on(async {
        let mut tasks = JoinSet::new();
        for (webhook, client) in webhooks.iter().zip(clients) {
            let sender = Sender {
                webhook: Arc::new(webhook.clone()),
                client,
                database: database.clone(),
            };
            tasks.spawn(sender.run());
        }
        while !done.load(Ordering::Relaxed) {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        // What is under way is made again, by another process or the next: at least once.
    });
    runtime.shutdown_background();
    Ok(())
}

#[derive(Clone)]
struct Sender {
    webhook: Arc<Webhook>,
    client: Client,
    database: Database,
}

impl Sender {
    async fn run(self) {
        let mut under_way = JoinSet::new();
        let outage = Outage::default();
        loop {
            let free = UNDER_WAY.saturating_sub(under_way.len());
            let name = self.webhook.name.clone();
            let due = self
                .database
                .write(move |connection| deliveries::take_due(connection, &name, free, LEASE))
                .await;
            // The processor says it aloud when the database is away.
            let due = due.unwrap_or_else(|error| {
                log::debug!("webhook '{}' has to wait: {error}", self.webhook.name);
                Vec::new()
            });
            let is_more = free > 0 && due.len() == free;
            for attempt in due {
                under_way.spawn(self.clone().attempt(attempt));
            }
            let name = &self.webhook.name;
            tokio::select! {
                Some(ended) = under_way.join_next() => match ended {
                    Ok(Ok(())) => drop(outage.ended(format_args!("webhook '{name}' takes alerts again"))),
                    Ok(Err(why)) => outage.failed(format_args!("webhook '{name}': {why}")),
                    Err(panicked) => outage.failed(format_args!("webhook '{name}': {panicked}")),
                },
                () = tokio::time::sleep(INTERVAL), if !is_more || under_way.len() == UNDER_WAY => {}
            }
        }
    }

    /// Makes one attempt and notes how it ended; if it failed, says why.
    async fn attempt(self, attempt: Attempt) -> Result<(), String> {
        let Attempt {
            delivery_id,
            event,
            rule_name,
            alerts,
            alert_count,
            attempts,
        } = attempt;
        let told = Told {
            delivery_id: delivery_id.to_string(),
            event: &event,
            rule: &rule_name,
            count: alert_count,
            // Written by us, so they are what they were.
            alerts: alerts
                .iter()
                .filter_map(|alert| serde_json::from_str(alert).ok())
                .collect(),
        };
        // Numbers, texts and lists of them: nothing that JSON could refuse.
        let body = serde_json::to_string(&told).unwrap_or_default();
        let signed = signature(&self.webhook.secret, Timestamp::now(), &body);
        let sent = self
            .client
            .post(self.webhook.url.clone())
            .header("content-type", "application/json")
            .header("adflux-delivery", delivery_id.to_string())
            .header("adflux-event", &event)
            .header("adflux-signature", signed)
            .body(body)
            .send()
            .await;
        let (succeeded, result) = match sent {
            Ok(response) => (
                response.status().is_success(),
                format!("answered {}", response.status().as_u16()),
            ),
            // The URL may hold a secret.
            Err(error) if error.is_timeout() => (false, "no answer in time".to_owned()),
            Err(error) => (false, chain(&error.without_url())),
        };
        let outcome = if succeeded { "delivered" } else { "failed" };
        metrics::WEBHOOKS.with_label_values(&[outcome]).inc();
        let failure = format!("{result}; delivery {delivery_id} is tried again for a day");
        let noted = self
            .database
            .write(move |connection| {
                if succeeded {
                    deliveries::delivered(connection, delivery_id, &result).map(|()| false)
                } else {
                    // Not all at one moment.
                    let jitter = rand::rng().random_range(0.5..1.5);
                    let pause = pause_after(attempts).mul_f64(jitter);
                    deliveries::failed(connection, delivery_id, &result, pause)
                }
            })
            .await;
        match noted {
            Ok(true) => log::error!(
                "webhook '{}': delivery {delivery_id} is given up after {attempts} attempts",
                self.webhook.name
            ),
            Ok(false) => {}
            // Then it is made again after its lease.
            Err(Unavailable::Busy | Unavailable::Database(..) | Unavailable::Standby) => {}
        }
        if succeeded { Ok(()) } else { Err(failure) }
    }
}

/// How long to wait after so many attempts.
fn pause_after(attempts: i32) -> Duration {
    PAUSES.after(u32::try_from(attempts.saturating_sub(1)).unwrap_or(0))
}

/// An error and what caused it.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(&format!(": {cause}"));
        source = cause.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signature_is_what_openssl_makes() {
        // printf '1700000000.{"a":1}' | openssl dgst -sha256 -hmac whsec
        assert_eq!(
            signature("whsec", Timestamp::new(1_700_000_000_000_000), "{\"a\":1}"),
            "t=1700000000,v1=8ad37ba156048ae0e0a5533c75cdf26fee88b07f93cb57ee4c80adb053012032"
        );
    }

    #[test]
    fn what_is_inside() {
        for (address, inside) in [
            ("127.0.0.1", true),
            ("10.1.2.3", true),
            ("172.31.0.1", true),
            ("192.168.1.1", true),
            ("169.254.169.254", true),
            ("100.64.0.1", true),
            ("0.0.0.0", true),
            ("255.255.255.255", true),
            ("::1", true),
            ("::", true),
            ("fd00::1", true),
            ("fe80::1", true),
            ("::ffff:10.0.0.1", true),
            ("93.184.215.14", false),
            ("172.32.0.1", false),
            ("100.128.0.1", false),
            ("2606:2800:220:1::1", false),
            ("::ffff:93.184.215.14", false),
        ] {
            assert_eq!(
                is_inside(address.parse().expect("an address")),
                inside,
                "{address}"
            );
        }
        for (host, ours) in [
            ("localhost", true),
            ("127.0.0.1", true),
            ("[::1]", true),
            ("10.0.0.1", false),
            ("localhost.example", false),
        ] {
            assert_eq!(is_this_machine(host), ours, "{host}");
        }
    }

    #[test]
    fn pauses_grow_up_to_an_hour() {
        let seconds = |attempts| pause_after(attempts).as_secs();
        assert_eq!(
            [1, 2, 3, 4, 12, 13, 1_000].map(seconds),
            [1, 2, 4, 8, 2_048, 3_600, 3_600]
        );
    }

    #[test]
    fn a_variable_that_is_not_set_is_named_and_a_url_is_not_shown() {
        let said = |url: Setting| file::Webhook {
            name: "growth".into(),
            url,
            secret_env: "ADFLUX_TEST_NOT_SET".into(),
        };
        let shown = |url| match Webhook::of(&said(url)) {
            Ok(_) => String::new(),
            Err(error) => format!("{error:#}"),
        };
        assert_eq!(
            shown(Setting::Value("https://example.com/x".into())),
            "webhook 'growth': the environment variable ADFLUX_TEST_NOT_SET is not set"
        );
        assert!(!shown(Setting::Value("ftp://secret".into())).contains("secret"));
    }
}
