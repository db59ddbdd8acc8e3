//! `adflux simulate --reports`: what platforms would answer, as files in a folder or as records on the topic, with a ledger of what
//! is in them.

use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};

use crate::codec;
use crate::kafka::Cluster;
use crate::kafka::producer::Producer;
use crate::pause::pause;
use crate::simulator::reports::{Ledger, Settings, World, Written};

/// The file in which the ledger is.
const LEDGER: &str = "ledger.json";
/// What that is called until it is complete.
const UNFINISHED: &str = "ledger.json.unfinished";

/// Writes the files and the ledger into `folder`, and to `out` what was written. The ledger appears when all is complete.
///
/// # Errors
/// When there is something in the folder, it cannot be written to, or the last day is too far away to be written.
pub fn run(out: &mut impl Write, folder: &Path, settings: &Settings) -> anyhow::Result<()> {
    let ledgered = Ledgered::begin(folder, settings)?;
    let mut ledger = ledgered.ledger;
    let mut table = Table::begin(out)?;
    for report in ledgered.world.reports() {
        let path = folder.join(report.file_name());
        let to_file = || format!("writing '{}'", path.display());
        let mut file = BufWriter::new(File::create_new(&path).with_context(to_file)?);
        let written = report.write(&mut file, &mut ledger).with_context(to_file)?;
        table.add(written)?;
    }
    Ledgered { ledger, ..ledgered }.end()?;
    table.end(LEDGER)
}

/// Sends the rows to the topic of these settings and writes the ledger into `folder`, and to `out` what was sent. The ledger
/// appears when all is acknowledged.
///
/// # Errors
/// As [`run`] fails; and when the topic can neither be found nor created, or a record is refused.
pub fn send(
    out: &mut impl Write,
    folder: &Path,
    settings: &Settings,
    to: &super::Settings,
    report_schema_id: u32,
    stop: &AtomicBool,
) -> anyhow::Result<()> {
    let mut ledgered = Ledgered::begin(folder, settings)?;
    super::ensure_topic(to, stop)?;
    let mut table = Table::begin(out)?;
    let world = &ledgered.world;
    let to = (&to.cluster, to.topic.as_str());
    send_all(
        world,
        &mut ledgered.ledger,
        to,
        report_schema_id,
        stop,
        &|_| true,
        &mut |written| table.add(written),
    )?;
    ledgered.end()?;
    table.end(LEDGER)
}

/// Sends the rows to a topic that is there, in the order in which platforms are asked, and waits for the acknowledgements. Before each
/// row, `may_send` is asked as [`super::run`] asks it.
///
/// # Errors
/// When a record is refused, or `stop` is set.
pub fn send_all<W: Write>(
    world: &World,
    ledger: &mut Ledger<W>,
    (cluster, topic): (&Cluster, &str),
    report_schema_id: u32,
    stop: &AtomicBool,
    may_send: &dyn Fn(u64) -> bool,
    told: &mut dyn FnMut(Written) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    let producer = Producer::new(cluster, topic)?;
    let stopped = || stop.load(Ordering::Relaxed);
    let mut value = Vec::new();
    let mut sent = 0;
    for answer in world.answers() {
        let written = answer.tell(ledger, &mut |row| {
            while !may_send(sent) && pause(Duration::from_millis(1), stop) {}
            sent += 1;
            value.clear();
            codec::report::encode(row, report_schema_id, &mut value);
            producer
                .send(row.campaign_id.as_str().as_bytes(), &value, stopped)
                .map_err(io::Error::other)
        });
        told(written.context("sending a record")?)?;
        ensure!(!stopped(), "stopped before all was sent");
    }
    super::await_acknowledgements(&producer)?;
    ensure!(
        producer.failed() == 0,
        "{} records were not delivered",
        producer.failed()
    );
    Ok(())
}

/// A world and its ledger, which is in the folder when it is complete.
struct Ledgered {
    world: World,
    ledger: Ledger<BufWriter<File>>,
    folder: PathBuf,
}

impl Ledgered {
    fn begin(folder: &Path, settings: &Settings) -> anyhow::Result<Ledgered> {
        if World::last_day(settings).is_none() {
            bail!(
                "the last export would be made after the year 9999: give an earlier --start, or fewer --exports"
            );
        }
        let name = folder.display();
        fs::create_dir_all(folder).with_context(|| format!("creating the folder '{name}'"))?;
        let mut entries =
            fs::read_dir(folder).with_context(|| format!("reading the folder '{name}'"))?;
        if entries.next().is_some() {
            bail!("'{name}' is not empty: give a folder that is, or a new one");
        }
        let world = World::new(settings.clone());
        let to_ledger = || format!("writing the ledger into '{name}'");
        let file = File::create_new(folder.join(UNFINISHED)).with_context(to_ledger)?;
        let ledger = world.ledger(BufWriter::new(file)).with_context(to_ledger)?;
        Ok(Ledgered {
            world,
            ledger,
            folder: folder.to_owned(),
        })
    }

    fn end(self) -> anyhow::Result<()> {
        let to_ledger = || format!("writing the ledger into '{}'", self.folder.display());
        self.world.finish(self.ledger).with_context(to_ledger)?;
        fs::rename(self.folder.join(UNFINISHED), self.folder.join(LEDGER)).with_context(to_ledger)
    }
}

/// What was written, a line for each account in each form.
struct Table<'a, W: Write> {
    out: &'a mut W,
    /// Those of each account in each form, in the order in which the first of them came.
    series: Vec<(Written, usize)>,
}

impl<'a, W: Write> Table<'a, W> {
    fn begin(out: &'a mut W) -> anyhow::Result<Table<'a, W>> {
        let (form, account, currency, zone) = ("form", "account", "currency", "time zone");
        let (files, rows) = ("files", "rows");
        writeln!(
            out,
            "{form:14}{account:21}{currency:10}{zone:18}{files:>7}{rows:>12}"
        )?;
        let series = Vec::new();
        Ok(Table { out, series })
    }

    fn add(&mut self, written: Written) -> anyhow::Result<()> {
        let known = self
            .series
            .iter_mut()
            .find(|(of, _)| of.is_same_series(&written));
        match known {
            Some((of, files)) => {
                of.rows += written.rows;
                *files += 1;
            }
            None => self.series.push((written, 1)),
        }
        Ok(())
    }

    fn end(self, ledger: &str) -> anyhow::Result<()> {
        let (mut all, mut all_rows) = (0, 0);
        for (of, files) in self.series {
            let Written {
                form,
                account,
                currency,
                time_zone,
                rows,
            } = of;
            (all, all_rows) = (all + files, all_rows + rows);
            writeln!(
                self.out,
                "{form:14}{account:21}{currency:10}{time_zone:18}{files:>7}{rows:>12}"
            )?;
        }
        writeln!(self.out, "{:63}{all:>7}{all_rows:>12}", "in all")?;
        writeln!(
            self.out,
            "{ledger} says what is in each, and what is known when all are read"
        )?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::simulator::reports::{DEFAULT_START, Form};

    #[test]
    fn a_folder_is_filled_once() {
        let parent = tempfile::tempdir().expect("a folder");
        let folder = parent.path().join("new");
        let settings = Settings {
            seed: 7,
            forms: vec![Form::GoogleCsv, Form::MetaCsv],
            accounts: 2,
            campaigns: 3,
            days: 10,
            start: DEFAULT_START,
            exports: 2,
            every: 7,
        };
        let mut out = Vec::new();
        run(&mut out, &folder, &settings).expect("files");
        let names = |folder: &Path| -> Vec<String> {
            let entries = fs::read_dir(folder).expect("a folder");
            let name = |entry: fs::DirEntry| entry.file_name().to_string_lossy().into_owned();
            let mut names: Vec<String> = entries.map(|e| name(e.expect("an entry"))).collect();
            names.sort();
            names
        };
        let all = names(&folder);
        assert_eq!(all.len(), 9, "{all:?}");
        assert!(all.iter().any(|name| name == LEDGER));
        let said = String::from_utf8(out).expect("UTF-8");
        assert_eq!(said.lines().count(), 1 + 4 + 2, "{said}");

        let refused = run(&mut Vec::new(), &folder, &settings).expect_err("it is not empty");
        assert!(refused.to_string().contains("is not empty"), "{refused}");
        assert_eq!(names(&folder), all);
    }
}
