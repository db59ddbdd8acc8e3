//! `adflux simulate --reports`: the files that platforms would give, in a folder, with a ledger of what is in them.

use std::fs::{self, File};
use std::io::{BufWriter, Write};
use std::path::Path;

use crate::simulator::reports::{Settings, World, Written};
use anyhow::{Context as _, bail};

/// The file in which the ledger is.
const LEDGER: &str = "ledger.json";
/// What that is called until it is complete.
const UNFINISHED: &str = "ledger.json.unfinished";

/// Writes the files and the ledger into `folder`, and to `out` what was written. The ledger appears when all is complete.
///
/// # Errors
/// When there is something in the folder, it cannot be written to, or the last day is too far away to be written.
pub fn run(out: &mut impl Write, folder: &Path, settings: &Settings) -> anyhow::Result<()> {
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
    let unfinished = folder.join(UNFINISHED);
    let file = File::create_new(&unfinished).with_context(to_ledger)?;
    let mut ledger = world.ledger(BufWriter::new(file)).with_context(to_ledger)?;
    let mut of_account: Vec<Written> = Vec::new();
    let mut table = Table::begin(out)?;
    for report in world.reports() {
        let path = folder.join(report.file_name());
        let to_file = || format!("writing '{}'", path.display());
        let mut file = BufWriter::new(File::create_new(&path).with_context(to_file)?);
        let written = report.write(&mut file, &mut ledger).with_context(to_file)?;
        if of_account
            .first()
            .is_some_and(|of| !of.is_same_series(&written))
        {
            table.line(&of_account)?;
            of_account.clear();
        }
        of_account.push(written);
    }
    table.line(&of_account)?;
    world.finish(ledger).with_context(to_ledger)?;
    fs::rename(&unfinished, folder.join(LEDGER)).with_context(to_ledger)?;
    table.end(LEDGER)
}

/// What was written, a line for each account in each form.
struct Table<'a, W: Write> {
    out: &'a mut W,
    files: usize,
    rows: u64,
}

impl<'a, W: Write> Table<'a, W> {
    fn begin(out: &'a mut W) -> anyhow::Result<Table<'a, W>> {
        let (form, account, currency, zone) = ("form", "account", "currency", "time zone");
        let (files, rows) = ("files", "rows");
        writeln!(
            out,
            "{form:14}{account:21}{currency:10}{zone:18}{files:>7}{rows:>12}"
        )?;
        Ok(Table {
            out,
            files: 0,
            rows: 0,
        })
    }

    fn line(&mut self, series: &[Written]) -> anyhow::Result<()> {
        let Some(first) = series.first() else {
            return Ok(());
        };
        let (form, account) = (first.form.name(), &first.account);
        let (currency, zone) = (first.currency, first.time_zone);
        let files = series.len();
        let rows: u64 = series.iter().map(|written| written.rows).sum();
        self.files += files;
        self.rows += rows;
        writeln!(
            self.out,
            "{form:14}{account:21}{currency:10}{zone:18}{files:>7}{rows:>12}"
        )?;
        Ok(())
    }

    fn end(self, ledger: &str) -> anyhow::Result<()> {
        let (files, rows) = (self.files, self.rows);
        writeln!(self.out, "{:63}{files:>7}{rows:>12}", "in all")?;
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
