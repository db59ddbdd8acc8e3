//! The files of a call: opened, read and checked, and compared with what is known. If one is not good, none is sent.

use std::collections::HashMap;
use std::io;
use std::path::{Path, PathBuf};

use indicatif::{ProgressBar, ProgressStyle};

use super::across::{Across, Where};
use super::compare::comparison::Comparison;
use super::compare::{Compared, Failure, Orders};
use super::databases::Databases;
use super::spool::Spool;
use super::wait::Dead;
use crate::event::Platform;
use crate::reports::facts::Options;
use crate::reports::refusal::Refusal;
use crate::reports::row::Place;
use crate::reports::source::{self, Limits, Source};
use crate::reports::{self, FileReport};

/// One file of a call; of what is packed, each file in it is one.
pub struct Opened {
    /// None where it could not be opened.
    source: Option<Source>,
    /// With what is remembered of its account.
    options: Options,
    /// The SHA-256.
    pub file: [u8; 32],
    pub report: FileReport,
    /// The platform's own ids of its accounts.
    pub accounts: Vec<String>,
    /// What its rows are to what is known; none where nobody could say.
    pub compared: Option<Compared>,
    /// What goes before its rows, and behind them.
    pub withdrawals: Spool,
    pub absent: Spool,
    /// The place of some row: how places of this file are named.
    place: Option<Place>,
    /// The file of the call that is the same, byte for byte: then this one is not sent.
    pub same_as: Option<String>,
    /// Records that were sent.
    pub sent: u64,
    /// What could not be counted of it, if that was waited for.
    pub dead: Option<Vec<Dead>>,
}

impl Opened {
    fn refused(name: &str, refusal: Refusal) -> Opened {
        Opened::of(
            None,
            FileReport::refused(name, refusal),
            Options::default(),
            [0; 32],
        )
    }

    fn of(source: Option<Source>, report: FileReport, options: Options, file: [u8; 32]) -> Opened {
        Opened {
            source,
            options,
            file,
            report,
            accounts: Vec::new(),
            compared: None,
            withdrawals: Spool::default(),
            absent: Spool::default(),
            place: None,
            same_as: None,
            sent: 0,
            dead: None,
        }
    }

    /// Hands over its rows, each key once.
    ///
    /// # Errors
    /// When the file is not what it was.
    pub fn rows(
        &self,
        each: &mut dyn FnMut(reports::row::FileRow) -> Result<(), Refusal>,
    ) -> Result<(), Refusal> {
        match &self.source {
            Some(source) => reports::rows(source, &self.options, &self.report, each),
            None => Ok(()),
        }
    }

    /// Its bytes, from the start; none where it could not be opened.
    ///
    /// # Errors
    /// When it cannot be read any more.
    pub fn bytes(&self) -> Result<Option<std::fs::File>, Refusal> {
        self.source.as_ref().map(Source::bytes).transpose()
    }

    /// How a line of it is named.
    fn named(&self, line: u64) -> String {
        match &self.place {
            Some(place) => format!("{}, {}", self.report.name, place.with_number(line)),
            None => self.report.name.clone(),
        }
    }
}

/// A bar that shows how far something has come, on a terminal.
pub fn bar(length: u64, what: &'static str, unit: &str) -> ProgressBar {
    let bar = ProgressBar::new(length).with_message(what);
    let template = match unit {
        "bytes" => "{msg:9} {bar:40} {bytes}/{total_bytes} ({bytes_per_sec}, {eta} left)",
        _ => "{msg:9} {bar:40} {human_pos}/{human_len} ({per_sec}, {eta} left)",
    };
    match ProgressStyle::with_template(template) {
        Ok(style) => bar.with_style(style),
        Err(_) => bar,
    }
}

/// What to do with the files of a call.
#[derive(Clone, Copy)]
pub struct Call<'a> {
    pub files: &'a [PathBuf],
    pub options: &'a Options,
    pub orders: Orders,
    pub report_schema_id: u32,
}

/// Opens, checks and compares all files of a call.
///
/// # Errors
/// When the database does not answer, or there is no room. What is wrong with a file is in its report.
pub fn check(
    call: Call<'_>,
    mut databases: Option<&mut Databases>,
) -> Result<Vec<Opened>, Failure> {
    let mut files = Vec::new();
    for path in call.files {
        for source in opened(path, &mut files) {
            let one = checked(source, call, databases.as_deref_mut())?;
            files.push(one);
        }
    }
    let mut known: HashMap<[u8; 32], String> = HashMap::new();
    for one in files.iter_mut().filter(|one| one.source.is_some()) {
        match known.get(&one.file) {
            Some(name) => one.same_as = Some(name.clone()),
            None => {
                known.insert(one.file, one.report.name.clone());
            }
        }
    }
    if files.iter().any(|one| !one.report.is_good()) {
        return Ok(files);
    }
    let mut across = (known.len() > 1).then(Across::default);
    for (nth, one) in files.iter_mut().enumerate() {
        if one.same_as.is_none() {
            compare(nth, one, call, databases.as_deref_mut(), across.as_mut())?;
        }
    }
    if let Some(across) = across {
        refuse_contradictions(&mut files, across);
    }
    Ok(files)
}

/// What can be read of a path. What cannot is among the files, with the reason.
fn opened(path: &Path, files: &mut Vec<Opened>) -> Vec<Source> {
    let (name, sources) = if path == Path::new("-") {
        let name = "standard input";
        let sources = source::from_reader(name, io::stdin().lock(), Limits::USUAL);
        (name.to_owned(), sources)
    } else {
        (
            path.display().to_string(),
            source::open(path, Limits::USUAL),
        )
    };
    sources.unwrap_or_else(|refusal| {
        files.push(Opened::refused(&name, refusal));
        Vec::new()
    })
}

fn checked(
    source: Source,
    call: Call<'_>,
    databases: Option<&mut Databases>,
) -> Result<Opened, Failure> {
    let mut options = call.options.clone();
    let file = match source.sha256() {
        Ok(file) => file,
        Err(refusal) => return Ok(Opened::refused(&source.name, refusal)),
    };
    if let Some(databases) = databases {
        let account: Option<(Platform, String)> = match reports::account_of(&source, &options) {
            Ok(account) => account,
            Err(refusal) => return Ok(Opened::refused(&source.name, refusal)),
        };
        if let Some((platform, account)) = account {
            options.remembered = databases.remembered(platform, &account, call.orders.replace)?;
        }
    }
    let bar = bar(source.length, "checking", "bytes");
    let report = reports::check(&source, &options, &mut |read| bar.set_position(read));
    bar.finish_and_clear();
    Ok(Opened::of(Some(source), report, options, file))
}

/// Compares a good file with what is known, and with the others of the call.
fn compare(
    nth: usize,
    one: &mut Opened,
    call: Call<'_>,
    databases: Option<&mut Databases>,
    mut across: Option<&mut Across>,
) -> Result<(), Failure> {
    let Some(shape) = one.report.shape.clone() else {
        return Ok(());
    };
    let is_known = databases.is_some();
    let mut comparing = Comparison::new(
        databases,
        shape.clone(),
        one.file,
        call.orders,
        call.report_schema_id,
    );
    let bar = bar(one.report.gathered.rows, "comparing", "rows");
    let mut failure = None;
    // Said apart, while the file is read by what stands in the report.
    let mut said = FileReport::of(&one.report.name);
    said.gathered.first_day = one.report.gathered.first_day;
    said.gathered.last_day = one.report.gathered.last_day;
    let mut place = None;
    let mut rows = 0_u64;
    let read = one.rows(&mut |row| {
        if let (Some(across), Some(report_row)) =
            (across.as_deref_mut(), shape.report_row(&row, one.file))
        {
            let line = row.place.number();
            across.add(&report_row, Where { file: nth, line })?;
        }
        if place.is_none() {
            place = Some(row.place.clone());
        }
        rows = rows.saturating_add(1);
        if rows.is_multiple_of(4096) {
            bar.set_position(rows);
        }
        comparing.add(row, &mut said).map_err(|error| {
            let refusal = Refusal::new(error.to_string());
            failure = Some(error);
            refusal
        })
    });
    bar.finish_and_clear();
    if let Some(failure) = failure {
        return Err(failure);
    }
    if let Err(refusal) = read {
        said.refuse(refusal);
    }
    let found = comparing.finish(&mut said)?;
    one.place = place;
    one.report.refused = said.refused;
    one.report.refusals = said.refusals;
    one.accounts = found.accounts;
    one.compared = is_known.then_some(found.compared);
    one.withdrawals = found.withdrawals;
    one.absent = found.absent;
    Ok(())
}

fn refuse_contradictions(files: &mut [Opened], across: Across) {
    let contradictions = match across.contradictions() {
        Ok(contradictions) => contradictions,
        Err(refusal) => {
            if let Some(first) = files.first_mut() {
                first.report.refuse(refusal);
            }
            return;
        }
    };
    for found in contradictions {
        let first = files
            .get(found.first.file)
            .map(|one| one.named(found.first.line));
        let Some(second) = files.get_mut(found.second.file) else {
            continue;
        };
        let refusal = Refusal::new(format!(
            "{} than {}",
            found.reason,
            first.unwrap_or_default()
        ));
        let refusal = match &second.place {
            Some(place) => refusal.at(place.with_number(found.second.line)),
            None => refusal,
        };
        second.report.refuse(refusal.so(found.remedy));
    }
}
