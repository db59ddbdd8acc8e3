//! `adflux import`: what platforms report goes to the topic.
//!
//! ```text
//! files ─▶ open, check (crate::reports) ─▶ compare with what is known ─▶ all good? ─▶ keep ─▶ send ─▶ wait, if asked to
//!              └ what an account said before completes them   └ withdrawals (--replace), absent rows (--complete)
//! ```
//!
//! All files of a call are sent, or none. To import the same again changes nothing: a row's revision is its identity.

use std::fmt;
use std::io::{self, Write as _};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use anyhow::Context as _;
use diesel::PgConnection;
use serde_json::json;

use crate::codec::SchemaIds;
use crate::kafka::Cluster;
use crate::reports::facts::Options;
use crate::terminal;

pub mod across;
pub mod compare;
pub mod databases;
mod document;
pub mod files;
pub mod imported;
pub mod originals;
pub mod remember;
pub mod send;
mod show;
pub mod spool;
pub mod wait;

use compare::Orders;
use databases::Urls;
use files::{Call, Opened};
use originals::Originals;
use send::Topic;

/// How what was found is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Format {
    /// For people
    #[default]
    Text,
    /// One document
    Json,
}

/// Some file was refused; what and why was written.
#[derive(Debug)]
pub struct Refused;

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a file was refused")
    }
}

impl std::error::Error for Refused {}

/// What to import, and where to.
pub struct Settings {
    /// `-` is standard input.
    pub files: Vec<PathBuf>,
    pub options: Options,
    pub cluster: Cluster,
    pub topic: String,
    pub schema_ids: SchemaIds,
    pub databases: Urls,
    pub orders: Orders,
    /// Where the files themselves are kept.
    pub originals: Originals,
    /// Send nothing, and say what would be.
    pub dry_run: bool,
    /// Until what was sent is counted.
    pub wait: bool,
    /// Overrides the cluster's own id, where processors go by another one.
    pub cluster_id: Option<String>,
    pub format: Format,
}

/// What became of a call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    Refused,
    /// Nothing was sent, as was asked for. With why the database said nothing, if it did not.
    Dry(Option<String>),
    Sent,
    /// And a processor has counted it.
    Counted,
    /// Waiting was given up.
    GivenUp,
}

/// Imports files, and writes what is in them and what became of them. `stop_on_signal` is called once something is sent: until
/// then a signal may end the process.
///
/// # Errors
/// [`Refused`] when a file is not good: then nothing was sent. Others when database or Kafka do not answer.
pub fn run(
    settings: &Settings,
    stop_on_signal: impl FnOnce() -> io::Result<Arc<AtomicBool>>,
) -> anyhow::Result<()> {
    let (mut databases, away) = match settings.databases.open() {
        Ok(databases) => (Some(databases), None),
        Err(why) if settings.dry_run => (None, Some(format!("{why:#}"))),
        Err(why) => {
            return Err(why.context(
                "to send, the database is needed: it knows what was imported before (--dry-run only reads); nothing was sent",
            ));
        }
    };
    let call = Call {
        files: &settings.files,
        options: &settings.options,
        orders: settings.orders,
        report_schema_id: settings.schema_ids.report,
    };
    let mut files = files::check(call, databases.as_mut())?;
    let outcome = if files.iter().any(|one| !one.report.is_good()) {
        Outcome::Refused
    } else if settings.dry_run {
        Outcome::Dry(away)
    } else {
        let mut topic = Topic::find(&settings.cluster, &settings.topic, settings.schema_ids)?;
        if let Some(cluster_id) = &settings.cluster_id {
            topic.cluster_id.clone_from(cluster_id);
        }
        if let Some(databases) = &mut databases {
            databases.check(&topic)?;
            keep(databases.home(), settings, &files)?;
        }
        // Nobody asks anything more until all is sent.
        drop(databases);
        deliver(settings, &topic, &mut files, &*stop_on_signal()?)?
    };
    match settings.format {
        Format::Text => show::write(&mut terminal::out(), &files, &outcome)?,
        Format::Json => writeln!(io::stdout(), "{:#}", document::of(&files, &outcome))?,
    }
    match outcome {
        Outcome::Refused => Err(Refused.into()),
        _ => Ok(()),
    }
}

/// Keeps the files, and notes as what they are imported, before anything of them is sent.
fn keep(
    connection: &mut PgConnection,
    settings: &Settings,
    files: &[Opened],
) -> anyhow::Result<()> {
    let options = json!({
        "complete": settings.orders.complete,
        "replace": settings.orders.replace,
        "id_from_name": settings.options.id_from_name,
    });
    for one in files.iter().filter(|one| one.same_as.is_none()) {
        let import = originals::noted(&one.report, one.accounts.clone(), &options);
        let (Some(import), Some(mut content)) = (import, one.bytes()?) else {
            continue;
        };
        let originals = &settings.originals;
        originals
            .put(&one.file, &mut content)
            .and_then(|()| originals.note(connection, &one.file, &mut content, &import))
            .with_context(|| format!("{}: keeping the file; nothing was sent", import.name))?;
    }
    Ok(())
}

/// Sends what is good, and waits until it is counted if that is asked for.
fn deliver(
    settings: &Settings,
    topic: &Topic,
    files: &mut [Opened],
    stop: &AtomicBool,
) -> anyhow::Result<Outcome> {
    let landed = send::send(topic, files, stop)?;
    if !settings.wait {
        return Ok(Outcome::Sent);
    }
    let sent = "all rows are sent, but whether they are counted is not known";
    let mut databases = settings.databases.open().context(sent)?;
    if !wait::counted(&mut databases, topic, &landed, stop).context(sent)? {
        return Ok(Outcome::GivenUp);
    }
    wait::dead_letters(&mut databases, topic, &landed, files).context(sent)?;
    Ok(Outcome::Counted)
}
