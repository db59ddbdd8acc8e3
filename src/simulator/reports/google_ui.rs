//! Google Ads, as downloaded from a table of campaigns by day: .csv, or "Excel .csv" (UTF-16 with tabs).
//!
//! A title and the range of dates stand before the header, rows of totals at the end. ` --` is no value. Numbers and
//! words are those of the account's language.

use std::io::{self, Write};

use chrono::{Datelike as _, NaiveDate};

use super::ledger::Sums;
use super::sheet::{Dialect, Numbers, Sheet};
use super::{About, FileWriter, NotSaid, Row};

/// No value.
const NONE: &str = " --";

/// The words of a language.
struct Words {
    title: &'static str,
    header: [&'static str; 12],
    enabled: &'static str,
    totals: [&'static str; 3],
    months: [&'static str; 12],
    numbers: Numbers,
}

const ENGLISH: Words = Words {
    title: "Campaign report",
    header: [
        "Day",
        "Campaign",
        "Campaign ID",
        "Campaign state",
        "Currency code",
        "Clicks",
        "Impr.",
        "CTR",
        "Avg. CPC",
        "Cost",
        "Conversions",
        "Conv. value",
    ],
    enabled: "Enabled",
    totals: ["Total: Campaigns", "Total: Search", "Total: Account"],
    months: [
        "January",
        "February",
        "March",
        "April",
        "May",
        "June",
        "July",
        "August",
        "September",
        "October",
        "November",
        "December",
    ],
    numbers: Numbers::ENGLISH,
};

const GERMAN: Words = Words {
    title: "Kampagnenbericht",
    header: [
        "Tag",
        "Kampagne",
        "Kampagnen-ID",
        "Kampagnenstatus",
        "Währungscode",
        "Klicks",
        "Impr.",
        "CTR",
        "Durchschn. CPC",
        "Kosten",
        "Conversions",
        "Conv.-Wert",
    ],
    enabled: "Aktiviert",
    totals: ["Gesamt: Kampagnen", "Gesamt: Suche", "Gesamt: Konto"],
    months: [
        "Januar",
        "Februar",
        "März",
        "April",
        "Mai",
        "Juni",
        "Juli",
        "August",
        "September",
        "Oktober",
        "November",
        "Dezember",
    ],
    numbers: Numbers::GERMAN,
};

/// One file.
pub(super) struct File<'a> {
    about: About<'a>,
    sheet: Sheet<'a>,
    words: &'static Words,
}

/// The last cells of a line, from clicks on.
struct Measures {
    cells: [String; 7],
}

impl<'a> File<'a> {
    pub(super) fn csv(about: About<'a>, out: &'a mut dyn Write) -> File<'a> {
        let dialect = Dialect {
            separator: ',',
            utf16: false,
            mark: false,
            line_end: "\n",
        };
        Self::new(about, out, dialect)
    }

    pub(super) fn excel(about: About<'a>, out: &'a mut dyn Write) -> File<'a> {
        let dialect = Dialect {
            separator: '\t',
            utf16: true,
            mark: true,
            line_end: "\n",
        };
        Self::new(about, out, dialect)
    }

    fn new(about: About<'a>, out: &'a mut dyn Write, dialect: Dialect) -> File<'a> {
        File {
            about,
            sheet: Sheet::new(out, dialect),
            words: if about.account.german {
                &GERMAN
            } else {
                &ENGLISH
            },
        }
    }

    fn date(&self, day: NaiveDate) -> String {
        let month = self.words.months.get(day.month0() as usize);
        let month = month.copied().unwrap_or_default();
        let (number, year) = (day.day(), day.year());
        if self.about.account.german {
            format!("{number}. {month} {year}")
        } else {
            format!("{month} {number}, {year}")
        }
    }

    fn measures(
        &self,
        [impressions, clicks, conversions, cost]: [i128; 4],
        revenue: Option<i128>,
    ) -> Measures {
        let (n, decimals) = (self.words.numbers, self.about.account.currency.decimals);
        let cpc = cost.checked_div(clicks).map(|cpc| n.decimal(cpc, decimals));
        Measures {
            cells: [
                n.whole(clicks),
                n.whole(impressions),
                n.percent(clicks, impressions)
                    .unwrap_or_else(|| NONE.to_owned()),
                cpc.unwrap_or_else(|| NONE.to_owned()),
                n.decimal(cost, decimals),
                n.decimal(conversions, 2),
                revenue.map_or_else(String::new, |revenue| n.decimal(revenue, 2)),
            ],
        }
    }

    /// A line with these cells before the measures. The column of values is there only if the account has them.
    fn line(&mut self, first: [&str; 5], measures: &Measures) -> io::Result<()> {
        let measures = measures.cells.iter().map(String::as_str);
        let mut cells: Vec<&str> = first.into_iter().chain(measures).collect();
        self.cut(&mut cells);
        self.sheet.line(&cells)
    }

    fn cut(&self, cells: &mut Vec<&str>) {
        if !self.about.account.reports_revenue {
            cells.pop();
        }
    }
}

impl FileWriter for File<'_> {
    fn begin(&mut self, _: &Sums) -> io::Result<()> {
        let export = self.about.export;
        let range = format!("{} - {}", self.date(export.first), self.date(export.last()));
        self.sheet.line(&[self.words.title])?;
        self.sheet.line(&[&range])?;
        let mut header = self.words.header.to_vec();
        self.cut(&mut header);
        self.sheet.line(&header)
    }

    fn row(&mut self, row: &Row) -> io::Result<NotSaid> {
        let [impressions, clicks, conversions, cost, revenue] =
            row.counts.numbers().map(i128::from);
        let measures = self.measures([impressions, clicks, conversions, cost], Some(revenue));
        let (day, id) = (row.day.to_string(), row.campaign_id.to_string());
        let currency = self.about.account.currency.code;
        let first = [&day, &*row.campaign_name, &id, self.words.enabled, currency];
        self.line(first, &measures)?;
        Ok(NotSaid::default())
    }

    fn end(&mut self, sums: &Sums) -> io::Result<()> {
        let counts = [sums.impressions, sums.clicks, sums.conversions, sums.cost];
        let measures = self.measures(counts, Some(sums.revenue));
        let currency = self.about.account.currency.code;
        for total in self.words.totals {
            self.line([total, NONE, NONE, NONE, currency], &measures)?;
        }
        Ok(())
    }
}
