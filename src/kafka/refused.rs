//! Why no broker lets us in: what librdkafka says of it, and the setting to look at.
//!
//! Of a certificate that does not hold librdkafka says only that it does not; so that is looked at once more, over a
//! connection of its own.

// What brokers show comes through here.
#![deny(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

use std::fmt::{self, Display, Formatter};
use std::net::{TcpStream, ToSocketAddrs as _};
use std::time::Duration;

use openssl::ssl::{HandshakeError, SslConnector, SslMethod, SslVerifyMode};
use openssl::x509::{X509, X509Ref, X509VerifyResult};

use super::Cluster;

/// How long the broker may take to show its certificate.
const PATIENCE: Duration = Duration::from_secs(2);

/// Why a question to the cluster was not answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Why {
    said: String,
    /// Whether it is the topic that takes nothing, while brokers answer.
    of_topic: bool,
    /// What to do, if that is known.
    pub advice: Option<String>,
}

impl Why {
    /// What is wrong with a topic, whose brokers answer.
    pub(super) fn of_topic(said: String, advice: &str) -> Why {
        Why {
            said,
            of_topic: true,
            advice: Some(advice.to_owned()),
        }
    }

    /// What is wrong with the topic, if it is that which takes nothing: unlike how a broker lets nobody in, it is for everybody
    /// to know.
    pub fn wrong_with_topic(&self) -> Option<&str> {
        self.of_topic.then_some(&self.said)
    }

    /// What was said, with what to do if that is known.
    pub(super) fn of(said: String, cluster: &Cluster) -> Why {
        let advice = match advice(&said) {
            Some(CERTIFICATE) => shown(&said, cluster).or_else(|| Some(CERTIFICATE.to_owned())),
            other => other.map(str::to_owned),
        };
        Why {
            advice,
            ..Why::from(said)
        }
    }

    /// The same for who was let in before, and cannot wait for a broker to be asked: of a certificate it says less, and that a
    /// broker hangs up says nothing of settings.
    pub(super) fn at_once(said: String) -> Why {
        let advice = advice(&said).filter(|advice| ![IS_TLS, NO_LOGIN].contains(advice));
        Why {
            advice: advice.map(str::to_owned),
            ..Why::from(said)
        }
    }
}

impl Display for Why {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match &self.advice {
            Some(advice) => write!(f, "{}. {advice}", self.said),
            None => f.write_str(&self.said),
        }
    }
}

impl From<String> for Why {
    fn from(said: String) -> Why {
        Why {
            said,
            of_topic: false,
            advice: None,
        }
    }
}

const CERTIFICATE: &str = "The broker's certificate does not hold: look at KAFKA_CA_FILE (ssl.ca.location), at the day until which \
     it is valid, and whether it is for the name in KAFKA_BROKERS";
const LOGIN: &str = "Check KAFKA_USERNAME and KAFKA_PASSWORD (sasl.username, sasl.password)";
const MECHANISM: &str = "Set KAFKA_MECHANISM (sasl.mechanism) to one that this listener takes, if it takes any login: otherwise set \
     KAFKA_SECURITY (security.protocol) to plaintext or tls";
const NOT_TLS: &str = "This listener speaks no TLS: set KAFKA_SECURITY (security.protocol) to plaintext or sasl-plaintext, or \
     KAFKA_BROKERS to the port that does";
const IS_TLS: &str =
    "This listener seems to speak TLS: set KAFKA_SECURITY (security.protocol) to tls or sasl-tls";
const NO_LOGIN: &str = "If this listener wants a login, set KAFKA_SECURITY (security.protocol) to sasl-tls or sasl-plaintext, and \
     KAFKA_MECHANISM, KAFKA_USERNAME and KAFKA_PASSWORD";
const OURS: &str = "The broker does not take our certificate: set KAFKA_CERTIFICATE_FILE and KAFKA_KEY_FILE \
     (ssl.certificate.location, ssl.key.location) to one that is valid and signed by whom the broker trusts";
const TOKEN: &str = "No token came: check KAFKA_TOKEN_URL, KAFKA_USERNAME (the client's id) and KAFKA_PASSWORD (its secret)";
const TOKEN_SERVER: &str = "Nobody whom this system trusts vouches for the server of KAFKA_TOKEN_URL: set https.ca.location with \
     --kafka-property to a file with the certificate of who does";
const TOKEN_REFUSED: &str = "The broker does not take our token: check KAFKA_TOKEN_SCOPE, which issuer and audience the listener \
     wants, and the clocks";
const NO_KEYTAB: &str = "We have no ticket, and no key to fetch one with: set KRB5_CLIENT_KTNAME to the keytab that has our principal, \
     a file that this user may read";
const NO_PRINCIPAL: &str = "The KDC does not know our principal: set KRB5_CLIENT_KTNAME to the keytab of one that it knows";
const OTHER_KEY: &str = "The KDC has another key for our principal: set KRB5_CLIENT_KTNAME to the keytab that was made last";
const PRINCIPAL_ENDED: &str = "Our principal has expired: have it renewed in the KDC, or set KRB5_CLIENT_KTNAME to the keytab of another";
const NO_BROKER: &str = "The KDC does not know the broker: name brokers in KAFKA_BROKERS, and in what they advertise, as their \
     principals do, kafka/NAME; if these begin otherwise, set sasl.kerberos.service.name with --kafka-property";
const NO_KDC: &str = "No KDC answers: check those that krb5.conf (KRB5_CONFIG) names for the realm";
const TICKET_ENDED: &str = "Our ticket has ended, and no new one came: check the KDCs that krb5.conf (KRB5_CONFIG) names for the realm, \
     and KRB5_CLIENT_KTNAME";
const CLOCKS: &str = "The clocks of this machine and of the KDC differ: set them right (NTP)";
const TICKET_REFUSED: &str = "The broker does not take our ticket: check that its keytab has the key that the KDC has, and the clocks";
const NO_MODULE: &str = "Install libsasl2's module for it: libsasl2-modules-gssapi-mit on Debian, cyrus-sasl-gssapi on others";
const NAME: &str = "Check the names in KAFKA_BROKERS, and those that the brokers advertise";

/// Which advice goes with which words of librdkafka, OpenSSL and the brokers. The first that is found counts.
const ADVICE: &[(&str, &str)] = &[
    ("unsupported sasl mechanism", MECHANISM),
    ("not valid in current sasl state", MECHANISM),
    ("oauthbearer token: ssl certificate problem", TOKEN_SERVER),
    ("oauthbearer token", TOKEN),
    ("token from", TOKEN),
    ("invalid_token", TOKEN_REFUSED),
    ("no worthy mechs found", NO_MODULE),
    ("no kerberos credentials available", NO_KEYTAB),
    ("(client '", NO_PRINCIPAL),
    ("not found in kerberos database", NO_BROKER),
    ("decrypt integrity check failed", OTHER_KEY),
    ("preauthentication failed", OTHER_KEY),
    ("entry in database has expired", PRINCIPAL_ENDED),
    ("cannot contact any kdc", NO_KDC),
    ("cannot find kdc", NO_KDC),
    ("ticket expired", TICKET_ENDED),
    ("clock skew too great", CLOCKS),
    ("sasl mechanism gssapi", TICKET_REFUSED),
    ("certificate required", OURS),
    ("bad certificate", OURS),
    ("alert certificate", OURS),
    ("alert unknown ca", OURS),
    ("client ssl authentication might be required", OURS),
    ("certificate verify failed", CERTIFICATE),
    ("certificate could not be verified", CERTIFICATE),
    ("wrong version number", NOT_TLS),
    ("connecting to a plaintext broker listener", NOT_TLS),
    // The first bytes of an alert, read as a length.
    ("invalid response size", IS_TLS),
    ("connecting to a ssl listener", IS_TLS),
    ("might require sasl authentication", NO_LOGIN),
    ("authentication fail", LOGIN),
    ("sasl authentication error", LOGIN),
    ("failed to resolve", NAME),
];

fn advice(said: &str) -> Option<&'static str> {
    let said = said.to_lowercase();
    if said.contains("disconnected") && said.contains("in state up") {
        return Some(NO_LOGIN);
    }
    let hung_up = said.contains("disconnected") && said.contains("in state apiversion_query");
    if hung_up && !said.contains("ssl://") {
        return Some(IS_TLS);
    }
    let found = ADVICE.iter().find(|(words, _)| said.contains(words));
    found.map(|(_, advice)| *advice)
}

/// What is wrong with the certificate that the broker shows which librdkafka spoke of: `ssl://host:port/id: …`.
fn shown(said: &str, cluster: &Cluster) -> Option<String> {
    let (_, rest) = said.split_once("ssl://")?;
    let (address, _) = rest.split_once('/')?;
    let (host, _) = address.rsplit_once(':')?;
    let host = host.trim_start_matches('[').trim_end_matches(']');
    let mut connector = SslConnector::builder(SslMethod::tls_client()).ok()?;
    let ca = cluster.property("ssl.ca.location");
    if let Some(ca) = ca {
        connector.set_ca_file(ca).ok()?;
    }
    // It is only looked at: nothing is sent.
    connector.set_verify(SslVerifyMode::NONE);
    let to = address.to_socket_addrs().ok()?.next()?;
    let stream = TcpStream::connect_timeout(&to, PATIENCE).ok()?;
    stream.set_read_timeout(Some(PATIENCE)).ok()?;
    stream.set_write_timeout(Some(PATIENCE)).ok()?;
    let (found, certificate) = match connector.build().connect(host, stream) {
        Ok(stream) => (
            stream.ssl().verify_result(),
            stream.ssl().peer_certificate(),
        ),
        Err(HandshakeError::Failure(broken)) => (
            broken.ssl().verify_result(),
            broken.ssl().peer_certificate(),
        ),
        Err(_) => return None,
    };
    wrong(found, &certificate?, host, ca)
}

/// What that is, and what to set. None if it holds by now.
fn wrong(
    found: X509VerifyResult,
    certificate: &X509,
    host: &str,
    ca: Option<&str>,
) -> Option<String> {
    // OpenSSL's numbers.
    const NOT_YET: i32 = 9;
    const EXPIRED: i32 = 10;
    const OTHER_NAME: [i32; 2] = [62, 64];
    if found == X509VerifyResult::OK {
        return None;
    }
    Some(match found.as_raw() {
        EXPIRED => format!(
            "The broker's certificate was valid until {}: it must be renewed there",
            certificate.not_after()
        ),
        NOT_YET => format!(
            "The broker's certificate is valid from {} only: set this machine's clock right (NTP), or the broker's certificate",
            certificate.not_before()
        ),
        code if OTHER_NAME.contains(&code) => format!(
            "The broker's certificate is for {}, not for {host}: name the broker in KAFKA_BROKERS, and in what it advertises, \
             as its certificate does",
            names(certificate)
        ),
        _ => match ca {
            Some(ca) => format!(
                "The broker's certificate is not signed by any in '{ca}' ({found}): put that of who signed it there \
                 (KAFKA_CA_FILE, ssl.ca.location)"
            ),
            None => format!(
                "The broker's certificate is signed by nobody that this system trusts ({found}): set KAFKA_CA_FILE \
                 (ssl.ca.location) to a file with the certificate of who signed it"
            ),
        },
    })
}

/// Those a certificate is for.
fn names(certificate: &X509Ref) -> String {
    let names = certificate.subject_alt_names();
    let text = |name: &openssl::x509::GeneralNameRef| {
        let address = |bytes: &[u8]| match <[u8; 4]>::try_from(bytes) {
            Ok(four) => Some(std::net::IpAddr::from(four)),
            Err(_) => <[u8; 16]>::try_from(bytes).ok().map(std::net::IpAddr::from),
        };
        let dns = name.dnsname().map(|name| name.escape_debug().to_string());
        dns.or_else(|| Some(address(name.ipaddress()?)?.to_string()))
    };
    let names: Vec<String> = names.iter().flatten().filter_map(text).collect();
    if names.is_empty() {
        return "no name".to_owned();
    }
    names.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Words of librdkafka 2.12, OpenSSL 3 and Kafka 4.
    #[test]
    fn each_refusal_has_its_advice() {
        for (said, wanted) in [
            (
                "127.0.0.1:9093/bootstrap: Disconnected: connection closed by peer: receive 0 after POLLIN (after 4ms in state \
                 APIVERSION_QUERY)",
                Some(IS_TLS),
            ),
            (
                "127.0.0.1:9093/bootstrap: Receive failed: Invalid response size 352518912 (0..100000512): increase \
                 receive.message.max.bytes",
                Some(IS_TLS),
            ),
            (
                "ssl://127.0.0.1:9093/bootstrap: Disconnected: SSL connection closed by peer (after 3ms in state UP)",
                Some(NO_LOGIN),
            ),
            (
                "ssl://127.0.0.1:9092/bootstrap: SSL handshake failed: Disconnected: SSL connection closed by peer: connecting to a \
                 PLAINTEXT broker listener? (after 78ms in state SSL_HANDSHAKE)",
                Some(NOT_TLS),
            ),
            (
                "sasl_ssl://127.0.0.1:9094/bootstrap: SASL authentication error: Authentication failed: Invalid username or password",
                Some(LOGIN),
            ),
            (
                "sasl_plaintext://127.0.0.1:9092/1: SASL PLAIN mechanism handshake failed: Broker: Request not valid in current SASL \
                 state: broker's supported mechanisms: ",
                Some(MECHANISM),
            ),
            (
                "ssl://127.0.0.1:9093/bootstrap: Receive failed: error:0A00045C:SSL routines::tlsv13 alert certificate required",
                Some(OURS),
            ),
            (
                "sasl_ssl://127.0.0.1:9094/bootstrap: Failed to initialize SASL authentication: SASL handshake failed (start (-1)): \
                 SASL(-1): generic failure: GSSAPI Error: Unspecified GSS failure.  Minor code may provide more information \
                 (Clock skew too great)",
                Some(CLOCKS),
            ),
            (
                "GSSAPI Error: No credentials were supplied, or the credentials were unavailable or inaccessible \
                 (Preauthentication failed)",
                Some(OTHER_KEY),
            ),
            (
                "Failed to acquire SASL OAUTHBEARER token: SSL certificate problem: certificate has expired",
                Some(TOKEN_SERVER),
            ),
            (
                "kafka.invalid:9092/bootstrap: Failed to resolve 'kafka.invalid:9092': Name or service not known",
                Some(NAME),
            ),
            (
                "127.0.0.1:9092/bootstrap: Connect to ipv4#127.0.0.1:9092 failed: Connection refused (after 0ms in state CONNECT)",
                None,
            ),
        ] {
            assert_eq!(advice(said), wanted, "{said}");
        }
    }
}
