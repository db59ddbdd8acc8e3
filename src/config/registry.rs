//! The schema registry, and the ids of our own schemas.

use std::path::PathBuf;
use std::sync::atomic::AtomicBool;

use anyhow::{Context as _, bail};
use clap::Args;
use clap::builder::BoolishValueParser;
use reqwest::Url;

use crate::codec::{KnownIds, SchemaIds};
use crate::schema_registry::own::Finding;
use crate::schema_registry::{Client, Credentials, Settings, Subjects};

/// The schema ids that frame our own values.
#[derive(Args, Clone, Copy)]
pub struct SchemaArgs {
    /// Schema id of AdEvent version 1 on the topic (default: 1; with --schema-registry, as that says)
    #[arg(long, env = "ADFLUX_SCHEMA_ID")]
    pub schema_id: Option<u32>,
    /// Schema id of ReportRow on the topic (default: 2; with --schema-registry, as that says)
    #[arg(long, env = "ADFLUX_REPORT_SCHEMA_ID")]
    pub report_schema_id: Option<u32>,
}

/// Where the schema registry is.
#[derive(Args, Clone, Default)]
pub struct RegistryArgs {
    /// URL of a schema registry with Confluent's API, which knows schemas by their ids; several of one registry, separated by
    /// commas (default: none)
    #[arg(
        long,
        env = "SCHEMA_REGISTRY_URL",
        value_name = "URL",
        value_delimiter = ','
    )]
    pub schema_registry: Vec<String>,
    /// User of the registry
    #[arg(long, env = "SCHEMA_REGISTRY_USERNAME", value_name = "NAME")]
    pub schema_registry_username: Option<String>,
    /// Password of that user
    #[arg(
        long,
        env = "SCHEMA_REGISTRY_PASSWORD",
        value_name = "PASSWORD",
        hide_env_values = true
    )]
    pub schema_registry_password: Option<String>,
    /// Token of the registry, in place of user and password
    #[arg(
        long,
        env = "SCHEMA_REGISTRY_TOKEN",
        value_name = "TOKEN",
        hide_env_values = true
    )]
    pub schema_registry_token: Option<String>,
    /// File of certificates, in PEM, of the authority of the registry's (default: those that the system trusts)
    #[arg(long, env = "SCHEMA_REGISTRY_CA_FILE", value_name = "FILE")]
    pub schema_registry_ca_file: Option<PathBuf>,
}

/// How a command that sends values of ours finds the ids to frame them with.
#[derive(Args, Clone)]
pub struct FramingArgs {
    #[command(flatten)]
    pub schema: SchemaArgs,
    #[command(flatten)]
    pub registry: RegistryArgs,
    #[command(flatten)]
    pub subjects: SubjectArgs,
    /// Register our own schemas in the schema registry, if they are not there
    #[arg(long, env = "ADFLUX_REGISTER_SCHEMAS", value_parser = BoolishValueParser::new())]
    pub register_schemas: bool,
}

/// How the subjects of our own schemas are named.
#[derive(Args, Clone, Copy)]
pub struct SubjectArgs {
    /// Subjects of our own schemas in the schema registry
    #[arg(
        long,
        env = "ADFLUX_SUBJECT_STRATEGY",
        value_enum,
        default_value_t,
        value_name = "NAME"
    )]
    pub subject_strategy: Subjects,
}

impl RegistryArgs {
    /// The registry that these describe, if any.
    ///
    /// # Errors
    /// What is wrong with which setting.
    pub fn settings(&self) -> anyhow::Result<Option<Settings>> {
        let urls = self
            .schema_registry
            .iter()
            .filter(|url| !url.trim().is_empty());
        let urls: Vec<Url> = urls
            .map(|url| registry_url(url.trim()))
            .collect::<Result<_, _>>()?;
        if urls.is_empty() {
            return Ok(None);
        }
        let credentials = match (
            &self.schema_registry_username,
            &self.schema_registry_password,
            &self.schema_registry_token,
        ) {
            (None, None, None) => None,
            (Some(user), Some(password), None) => Some(Credentials::Basic {
                user: user.clone(),
                password: password.clone(),
            }),
            (None, None, Some(token)) => Some(Credentials::Bearer(token.clone())),
            (Some(_), None, None) => {
                bail!("SCHEMA_REGISTRY_USERNAME is set, and no SCHEMA_REGISTRY_PASSWORD")
            }
            (None, Some(_), None) => {
                bail!("SCHEMA_REGISTRY_PASSWORD is set, and no SCHEMA_REGISTRY_USERNAME")
            }
            (_, _, Some(_)) => bail!(
                "SCHEMA_REGISTRY_TOKEN is set beside a user or a password; the registry is told one or the other"
            ),
        };
        Ok(Some(Settings {
            urls,
            credentials,
            ca_file: self.schema_registry_ca_file.clone(),
        }))
    }

    /// The registry, and how our schemas are found there.
    ///
    /// # Errors
    /// What is wrong with which setting.
    pub fn finding(
        &self,
        topic: &str,
        subjects: SubjectArgs,
    ) -> anyhow::Result<Option<(Settings, Finding)>> {
        let with = |registry| {
            let finding = Finding {
                topic: topic.to_owned(),
                subjects: subjects.subject_strategy,
                register: false,
                known: KnownIds::default(),
            };
            (registry, finding)
        };
        Ok(self.settings()?.map(with))
    }
}

/// The URL of a server. What is wrong with it is said without it: it may hold a password.
fn registry_url(text: &str) -> anyhow::Result<Url> {
    let url = Url::parse(text)
        .context("SCHEMA_REGISTRY_URL is not a URL such as https://registry:8081")?;
    if !matches!(url.scheme(), "http" | "https") || !url.has_host() {
        bail!("SCHEMA_REGISTRY_URL must begin with http:// or https://");
    }
    if !url.username().is_empty() || url.password().is_some() {
        bail!(
            "SCHEMA_REGISTRY_URL has a user in it; give that by SCHEMA_REGISTRY_USERNAME and SCHEMA_REGISTRY_PASSWORD"
        );
    }
    if url.query().is_some() || url.fragment().is_some() {
        bail!("SCHEMA_REGISTRY_URL must end with its path, without ? or #");
    }
    Ok(url)
}

impl SchemaArgs {
    /// The ids, where no registry hands them out.
    pub fn ids(self) -> SchemaIds {
        SchemaIds {
            event: self.schema_id.unwrap_or(SchemaIds::OWN.event),
            report: self.report_schema_id.unwrap_or(SchemaIds::OWN.report),
        }
    }

    /// What is known of the ids without asking the registry: where there is one, only what was said.
    pub fn known(self, registry: Option<&Settings>) -> KnownIds {
        match registry {
            None => self.ids().into(),
            Some(_) => KnownIds {
                event: self.schema_id,
                report: self.report_schema_id,
            },
        }
    }
}

impl FramingArgs {
    /// The registry, and how the ids are found there; none: it is not asked.
    ///
    /// # Errors
    /// What is wrong with which setting.
    pub fn finding(&self, topic: &str) -> anyhow::Result<Option<(Settings, Finding)>> {
        let found = self.registry.finding(topic, self.subjects)?;
        Ok(found.map(|(registry, finding)| {
            let finding = Finding {
                register: self.register_schemas,
                known: self.schema.known(Some(&registry)),
                ..finding
            };
            (registry, finding)
        }))
    }

    /// The ids, asked for once.
    ///
    /// # Errors
    /// When the registry does not answer, or does not have our schemas.
    pub fn ids(&self, topic: &str) -> anyhow::Result<SchemaIds> {
        match self.finding(topic)? {
            None => Ok(self.schema.ids()),
            Some((registry, finding)) => Ok(finding.ids(&Client::new(&registry)?)?),
        }
    }

    /// The ids, for which a registry that is away is waited for. None if `stop` was set before it answered.
    ///
    /// # Errors
    /// When the registry does not have our schemas, or refuses.
    pub fn await_ids(&self, topic: &str, stop: &AtomicBool) -> anyhow::Result<Option<SchemaIds>> {
        match self.finding(topic)? {
            None => Ok(Some(self.schema.ids())),
            Some((registry, finding)) => finding.await_ids(&Client::new(&registry)?, stop),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(url: &str, args: RegistryArgs) -> anyhow::Result<Option<Settings>> {
        RegistryArgs {
            schema_registry: url.split(',').map(str::to_owned).collect(),
            ..args
        }
        .settings()
    }

    #[test]
    fn a_registry_may_have_several_servers_or_not_be_there() {
        let none = settings("", RegistryArgs::default());
        assert!(none.is_ok_and(|settings| settings.is_none()));
        let two = settings(
            "http://a:8081, https://b/apis/ccompat/v7",
            RegistryArgs::default(),
        );
        let urls = two.ok().flatten().map(|settings| settings.urls.len());
        assert_eq!(urls, Some(2));
    }

    #[test]
    fn what_is_wrong_is_said_by_its_name_and_without_a_password() {
        let said = |url: &str, args: RegistryArgs| {
            let settings = settings(url, args).map(|_| ());
            format!("{:#}", settings.expect_err(url))
        };
        for url in [
            "registry:8081",
            "ftp://registry",
            "http://me:hunter2@registry",
            "http://[me:hunter2",
            "http://registry?a=hunter2",
        ] {
            let said = said(url, RegistryArgs::default());
            assert!(said.contains("SCHEMA_REGISTRY_URL"), "{said}");
            assert!(!said.contains("hunter2"), "{said}");
        }
        let both = RegistryArgs {
            schema_registry_username: Some("me".to_owned()),
            schema_registry_password: Some("hunter2".to_owned()),
            schema_registry_token: Some("hunter2".to_owned()),
            ..RegistryArgs::default()
        };
        let said = said("http://registry", both);
        assert!(
            said.contains("SCHEMA_REGISTRY_TOKEN") && !said.contains("hunter2"),
            "{said}"
        );
    }
}
