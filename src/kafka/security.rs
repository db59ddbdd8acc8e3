//! How brokers are told who we are, and how it is told who they are: adflux's settings, and the properties of librdkafka that
//! they stand for.
//!
//! What contradicts itself is refused before anything is asked, with the setting to change. A message names settings and
//! files, and never what is secret.

use std::path::PathBuf;
use std::str::FromStr;

use rdkafka::ClientConfig;

mod pem;

/// What protects a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Security {
    Plaintext,
    Tls,
    SaslPlaintext,
    SaslTls,
}

impl Security {
    /// Each with adflux's name and librdkafka's.
    const NAMES: [(Security, &str, &str); 4] = [
        (Security::Plaintext, "plaintext", "plaintext"),
        (Security::Tls, "tls", "ssl"),
        (Security::SaslPlaintext, "sasl-plaintext", "sasl_plaintext"),
        (Security::SaslTls, "sasl-tls", "sasl_ssl"),
    ];

    fn names(self) -> (&'static str, &'static str) {
        let names = Security::NAMES.iter().find(|(of, ..)| *of == self);
        names.map_or(("", ""), |(_, ours, theirs)| (ours, theirs))
    }

    fn is_tls(self) -> bool {
        matches!(self, Security::Tls | Security::SaslTls)
    }

    fn is_sasl(self) -> bool {
        matches!(self, Security::SaslPlaintext | Security::SaslTls)
    }
}

impl FromStr for Security {
    type Err = String;

    fn from_str(text: &str) -> Result<Security, String> {
        let name = text.to_ascii_lowercase();
        let found = Security::NAMES
            .iter()
            .find(|(_, ours, theirs)| name == *ours || name == *theirs);
        found.map(|(of, ..)| *of).ok_or_else(|| {
            format!("'{text}' is not one of plaintext, tls, sasl-plaintext, sasl-tls")
        })
    }
}

/// How we log in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mechanism {
    Plain,
    ScramSha256,
    ScramSha512,
    OauthBearer,
    Gssapi,
}

impl Mechanism {
    /// Each with its registered name, which is librdkafka's; in small letters it is adflux's.
    const NAMES: [(Mechanism, &str); 5] = [
        (Mechanism::Plain, "PLAIN"),
        (Mechanism::ScramSha256, "SCRAM-SHA-256"),
        (Mechanism::ScramSha512, "SCRAM-SHA-512"),
        (Mechanism::OauthBearer, "OAUTHBEARER"),
        (Mechanism::Gssapi, "GSSAPI"),
    ];

    fn name(self) -> &'static str {
        let name = Mechanism::NAMES.iter().find(|(of, _)| *of == self);
        name.map_or("", |(_, name)| name)
    }
}

impl FromStr for Mechanism {
    type Err = String;

    fn from_str(text: &str) -> Result<Mechanism, String> {
        let found = Mechanism::NAMES
            .iter()
            .find(|(_, name)| name.eq_ignore_ascii_case(text));
        found.map(|(of, _)| *of).ok_or_else(|| {
            format!(
                "'{text}' is not one of plain, scram-sha-256, scram-sha-512, oauthbearer, gssapi"
            )
        })
    }
}

/// What is set of it. Not to be printed: two of these are secrets.
#[derive(Clone, Default)]
pub struct Settings {
    pub security: Option<Security>,
    pub mechanism: Option<Mechanism>,
    /// Of OAUTHBEARER, the client's id.
    pub username: Option<String>,
    /// Of OAUTHBEARER, the client's secret.
    pub password: Option<String>,
    pub ca_file: Option<PathBuf>,
    pub certificate_file: Option<PathBuf>,
    pub key_file: Option<PathBuf>,
    pub key_password: Option<String>,
    pub token_url: Option<String>,
    pub token_scope: Option<String>,
}

/// One setting that is set.
struct Set {
    setting: &'static str,
    /// What it is in librdkafka.
    property: &'static str,
    value: String,
}

impl Settings {
    /// The properties these stand for, and those given beside them.
    ///
    /// # Errors
    /// The first contradiction, and what to set.
    pub fn properties(
        &self,
        given: Vec<(String, String)>,
    ) -> Result<Vec<(String, String)>, String> {
        let value = |property: &str| {
            let found = given.iter().find(|(key, _)| key == property);
            found.map(|(_, value)| value.as_str())
        };
        let mechanism = self
            .mechanism
            .or_else(|| value("sasl.mechanism")?.parse().ok());
        let set = self.set(mechanism);
        // Who sets properties only is answered by librdkafka.
        if set.is_empty() {
            return Ok(given);
        }
        for Set {
            setting, property, ..
        } in &set
        {
            if value(property).is_some() {
                return Err(format!(
                    "{property} is set with --kafka-property, and {setting} sets it too: unset one of them"
                ));
            }
        }
        let security = self
            .security
            .or_else(|| value("security.protocol")?.parse().ok())
            .unwrap_or(Security::Plaintext);
        let is_set = |property: &str| {
            value(property).is_some() || set.iter().any(|set| set.property == property)
        };
        fits(security, &set)?;
        if security.is_sasl() {
            logs_in(security, mechanism, &is_set)?;
        }
        is_whole(&is_set)?;
        self.check_files(security)?;
        let set = set
            .into_iter()
            .map(|set| (set.property.to_owned(), set.value));
        Ok(given.into_iter().chain(set).collect())
    }

    fn set(&self, mechanism: Option<Mechanism>) -> Vec<Set> {
        let is_oauth = mechanism == Some(Mechanism::OauthBearer);
        let (id, secret) = if is_oauth {
            (
                "sasl.oauthbearer.client.id",
                "sasl.oauthbearer.client.secret",
            )
        } else {
            ("sasl.username", "sasl.password")
        };
        let file = |path: &Option<PathBuf>| Some(path.as_ref()?.display().to_string());
        let security = self.security.map(|of| of.names().1.to_owned());
        let oidc = self
            .token_url
            .as_ref()
            .filter(|_| is_oauth)
            .map(|_| "oidc".to_owned());
        let by_kerberos = self.mechanism == Some(Mechanism::Gssapi);
        let all = [
            ("KAFKA_SECURITY", "security.protocol", security),
            (
                "KAFKA_MECHANISM",
                "sasl.mechanism",
                self.mechanism.map(|of| of.name().to_owned()),
            ),
            ("KAFKA_USERNAME", id, self.username.clone()),
            ("KAFKA_PASSWORD", secret, self.password.clone()),
            ("KAFKA_CA_FILE", "ssl.ca.location", file(&self.ca_file)),
            (
                "KAFKA_CERTIFICATE_FILE",
                "ssl.certificate.location",
                file(&self.certificate_file),
            ),
            ("KAFKA_KEY_FILE", "ssl.key.location", file(&self.key_file)),
            (
                "KAFKA_KEY_PASSWORD",
                "ssl.key.password",
                self.key_password.clone(),
            ),
            (
                "KAFKA_TOKEN_URL",
                "sasl.oauthbearer.token.endpoint.url",
                self.token_url.clone(),
            ),
            (
                "KAFKA_TOKEN_SCOPE",
                "sasl.oauthbearer.scope",
                self.token_scope.clone(),
            ),
            ("KAFKA_TOKEN_URL", "sasl.oauthbearer.method", oidc),
            // Libgssapi fetches tickets itself: librdkafka would have a shell call kinit, which has to be installed, and says
            // only that it failed.
            (
                "KAFKA_MECHANISM",
                "sasl.kerberos.min.time.before.relogin",
                by_kerberos.then(|| "0".to_owned()),
            ),
        ];
        let set = |(setting, property, value): (_, _, Option<String>)| {
            value.map(|value| Set {
                setting,
                property,
                value,
            })
        };
        all.into_iter().filter_map(set).collect()
    }

    fn check_files(&self, security: Security) -> Result<(), String> {
        if !security.is_tls() {
            return Ok(());
        }
        if let Some(ca) = &self.ca_file {
            pem::authorities(ca)?;
        }
        if let (Some(certificate), Some(key)) = (&self.certificate_file, &self.key_file) {
            pem::pair(certificate, key, self.key_password.as_deref())?;
        }
        Ok(())
    }
}

/// Whether what is set is of any use with such connections.
fn fits(security: Security, set: &[Set]) -> Result<(), String> {
    let (name, _) = security.names();
    for Set {
        setting, property, ..
    } in set
    {
        if property.starts_with("ssl.") && !security.is_tls() {
            let instead = if security.is_sasl() {
                "sasl-tls"
            } else {
                "tls or sasl-tls"
            };
            return Err(format!(
                "{setting} is set, and KAFKA_SECURITY is {name}, without TLS: set KAFKA_SECURITY to {instead}"
            ));
        }
        if property.starts_with("sasl.") && !security.is_sasl() {
            let instead = if security.is_tls() {
                "sasl-tls"
            } else {
                "sasl-tls or sasl-plaintext"
            };
            return Err(format!(
                "{setting} is set, and KAFKA_SECURITY is {name}, without a login: set KAFKA_SECURITY to {instead}"
            ));
        }
    }
    Ok(())
}

/// Whether all is there that the mechanism needs.
fn logs_in(
    security: Security,
    mechanism: Option<Mechanism>,
    is_set: &dyn Fn(&str) -> bool,
) -> Result<(), String> {
    let Some(mechanism) = mechanism else {
        // One that only librdkafka knows.
        if is_set("sasl.mechanism") {
            return Ok(());
        }
        let (name, _) = security.names();
        return Err(format!(
            "KAFKA_SECURITY is {name}: set KAFKA_MECHANISM to plain, scram-sha-256, scram-sha-512, oauthbearer or gssapi, as the \
             brokers want it"
        ));
    };
    let name = mechanism.name().to_ascii_lowercase();
    let needs = |property: &str, setting: &str| {
        if is_set(property) {
            return Ok(());
        }
        Err(format!("KAFKA_MECHANISM is {name}: set {setting}"))
    };
    match mechanism {
        Mechanism::Plain | Mechanism::ScramSha256 | Mechanism::ScramSha512 => {
            needs("sasl.username", "KAFKA_USERNAME")?;
            needs("sasl.password", "KAFKA_PASSWORD or KAFKA_PASSWORD_FILE")?;
        }
        Mechanism::OauthBearer => {
            is_built_in("oidc", "OAUTHBEARER by OpenID Connect", "oidc")?;
            needs("sasl.oauthbearer.token.endpoint.url", "KAFKA_TOKEN_URL")?;
            needs(
                "sasl.oauthbearer.client.id",
                "KAFKA_USERNAME to the client's id",
            )?;
            needs(
                "sasl.oauthbearer.client.secret",
                "KAFKA_PASSWORD or KAFKA_PASSWORD_FILE to the client's secret",
            )?;
        }
        Mechanism::Gssapi => {
            is_built_in("sasl_gssapi", "Kerberos", "kerberos")?;
            by_keytab(is_set)?;
        }
    }
    let is_oauth = mechanism == Mechanism::OauthBearer;
    if !is_oauth && is_set("sasl.oauthbearer.token.endpoint.url") {
        return Err(format!(
            "KAFKA_TOKEN_URL is set, and KAFKA_MECHANISM is {name}: set that to oauthbearer, or unset KAFKA_TOKEN_URL"
        ));
    }
    Ok(())
}

/// Whether nothing else says who we are than Kerberos' own settings.
fn by_keytab(is_set: &dyn Fn(&str) -> bool) -> Result<(), String> {
    let others = [
        ("sasl.username", "KAFKA_USERNAME"),
        ("sasl.password", "KAFKA_PASSWORD"),
        ("sasl.kerberos.principal", "sasl.kerberos.principal"),
        ("sasl.kerberos.keytab", "sasl.kerberos.keytab"),
        ("sasl.kerberos.kinit.cmd", "sasl.kerberos.kinit.cmd"),
    ];
    let other = others.iter().find(|(property, _)| is_set(property));
    other.map_or(Ok(()), |(_, setting)| {
        Err(format!(
            "{setting} is set, and KAFKA_MECHANISM is gssapi: unset it, and set KRB5_CLIENT_KTNAME to the keytab that has our \
             principal"
        ))
    })
}

/// Whether librdkafka was built with it: cargo's features alone do not say.
fn is_built_in(part: &str, what: &str, feature: &str) -> Result<(), String> {
    let config = ClientConfig::new().create_native_config();
    let features = config.and_then(|config| config.get("builtin.features"));
    if features.is_ok_and(|features| features.split(',').any(|one| one == part)) {
        return Ok(());
    }
    Err(format!(
        "{what} is not in this adflux: build it with `cargo build --features {feature}`, or set KAFKA_MECHANISM to plain, \
         scram-sha-256 or scram-sha-512"
    ))
}

/// Whether a certificate has its key, and the other way round.
fn is_whole(is_set: &dyn Fn(&str) -> bool) -> Result<(), String> {
    let certificate = is_set("ssl.certificate.location");
    let key = is_set("ssl.key.location");
    let wrong = if certificate && !key {
        "KAFKA_CERTIFICATE_FILE is set without KAFKA_KEY_FILE: set both"
    } else if key && !certificate {
        "KAFKA_KEY_FILE is set without KAFKA_CERTIFICATE_FILE: set both"
    } else if is_set("ssl.key.password") && !key {
        "KAFKA_KEY_PASSWORD is set without KAFKA_KEY_FILE: set both, or neither"
    } else {
        return Ok(());
    };
    Err(wrong.to_owned())
}

#[cfg(test)]
mod tests;
