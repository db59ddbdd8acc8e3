//! Files and answers of platforms as they are sent to us, read as `adflux import` reads them.

use std::collections::BTreeSet;
use std::fs::File;

use bytes::Bytes;
use serde_json::json;

use super::checked::{Checking, MOST, Records};
use crate::api::parameters::{Parameter, ParameterType};
use crate::api::problem::Problem;
use crate::api::request::Arguments;
use crate::codec;
use crate::currency::Currency;
use crate::event::Platform;
use crate::import::originals;
use crate::reports::facts::{Options, Remembered};
use crate::reports::number::Decimal;
use crate::reports::refusal::Refusal;
use crate::reports::source::{self, Limits};
use crate::reports::{self, map};
use crate::store::keep::imports::Import;
use crate::time::{Timestamp, instant};

/// What a file that is sent may be: less than on a machine of one's own.
const LIMITS: Limits = Limits {
    unpacked: 256 << 20,
    workbook: 64 << 20,
    ratio: 250,
    free: 16 << 20,
    // One, and what a Mac or Excel puts beside it.
    entries: 100,
};

const NAME: ParameterType = ParameterType::Text { most: 200 };

/// What files may not say of themselves.
pub static PARAMETERS: &[Parameter] = &[
    ACCOUNT,
    TIME_ZONE,
    CURRENCY,
    OBSERVED_AT,
    CONVERSIONS,
    REVENUE,
    DECIMAL,
    ID_FROM_NAME,
];
static ACCOUNT: Parameter = Parameter::query(
    "account",
    ParameterType::Text { most: 64 },
    "The platform's id of the account, where the file does not say it.",
);
static TIME_ZONE: Parameter = Parameter::query(
    "time_zone",
    ParameterType::TimeZone,
    "The account's IANA time zone, in which its days are, where the file does not say it.",
);
static CURRENCY: Parameter = Parameter::query(
    "currency",
    ParameterType::Text { most: 3 },
    "The account's currency by ISO 4217, such as EUR, where the file does not say it.",
);
static OBSERVED_AT: Parameter = Parameter::query(
    "observed_at",
    ParameterType::Text { most: 40 },
    "When the platform was asked, as an RFC 3339 time, where the file does not say it.",
);
static CONVERSIONS: Parameter = Parameter::query(
    "conversions",
    NAME,
    "The platform's own name of the column or action that counts as a conversion.",
);
static REVENUE: Parameter = Parameter::query(
    "revenue",
    NAME,
    "The platform's own name of the column or action whose value is revenue.",
);
static DECIMAL: Parameter = Parameter::query(
    "decimal",
    ParameterType::OneOf(&[".", ","]),
    "What stands before the fraction of numbers, where they do not show it.",
);
static ID_FROM_NAME: Parameter = Parameter::query(
    "id_from_name",
    ParameterType::OneOf(&["true", "false"]),
    "true: campaigns are told by their names where the file has no ids; another name is another campaign then.",
);

/// What the parameters say, and the first that was given.
///
/// # Errors
/// A [`Problem`] that names the parameter which is not as it must be.
pub fn options(given: &Arguments) -> Result<(Options, Option<&'static str>), Problem> {
    fn read<T>(
        given: &Arguments,
        parameter: &'static Parameter,
        read: impl Fn(&str) -> Result<T, String>,
    ) -> Result<Option<T>, Problem> {
        let read = |text| read(text).map_err(|why| Problem::parameter(parameter.name, why));
        given.get(parameter).map(read).transpose()
    }
    let text = |parameter: &'static Parameter| given.get(parameter).map(str::to_owned);
    let options = Options {
        account: text(&ACCOUNT),
        zone: read(given, &TIME_ZONE, map::zone)?,
        currency: read(given, &CURRENCY, Currency::from_flag)?,
        observed_at: read(given, &OBSERVED_AT, instant)?,
        id_from_name: given.get(&ID_FROM_NAME) == Some("true"),
        decimal: read(given, &DECIMAL, Decimal::from_flag)?,
        conversions: text(&CONVERSIONS),
        revenue: text(&REVENUE),
        map: None,
        remembered: None,
    };
    let first = PARAMETERS.iter().find(|parameter| given.has(parameter));
    Ok((options, first.map(|parameter| parameter.name)))
}

/// What a file is called that has no name.
const BODY: &str = "the body";

/// The rows of a file, encoded, if all of them could be counted at `now`. `remembered`: what an account's earlier reports have
/// said. `keep` is given a good file, and as what it is noted.
///
/// # Errors
/// A [`Problem`] that says what is refused.
pub fn check(
    body: &Bytes,
    options: &Options,
    remembered: impl Fn(Platform, String) -> Result<Option<Remembered>, Problem>,
    keep: impl FnOnce([u8; 32], File, Import) -> Result<(), Problem>,
    schema_id: u32,
    now: Timestamp,
) -> Result<Records, Problem> {
    let refused = |refusal: Refusal| Problem::refused_records(1, &[by_parameter(refusal)]);
    let sources = source::from_reader(BODY, body.as_ref(), LIMITS).map_err(refused)?;
    let [source] = sources.as_slice() else {
        let several = Refusal::new(format!("holds {} files", sources.len()));
        return Err(refused(several.so("send each by itself")));
    };
    let mut options = options.clone();
    if let Some((platform, account)) = reports::account_of(source, &options).map_err(refused)? {
        options.remembered = remembered(platform, account)?;
    }
    let options = &options;
    let mut report = reports::check(source, options, &mut |_| ());
    if !report.is_good() {
        let refusals = report.refusals.into_iter().map(by_parameter);
        let refusals: Vec<Refusal> = refusals.collect();
        return Err(Problem::refused_records(report.refused, &refusals));
    }
    if usize::try_from(report.gathered.rows).map_or(true, |rows| rows > MOST) {
        return Err(Problem::too_many_records());
    }
    let Some(shape) = &report.shape else {
        return Err(refused(Refusal::new("it was not recognised")));
    };
    let file = source.sha256().map_err(refused)?;
    let mut checking = Checking::default();
    let mut accounts = BTreeSet::new();
    reports::rows(source, options, &report, &mut |row| {
        let told = shape.report_row(&row, file);
        // What a file does not say was refused above, as were ids that are none.
        let Some(told) = told else {
            return Err(Refusal::new("its campaign or its time is not known").at(row.place));
        };
        match told.validate(now) {
            Ok(()) => {
                let mut payload = Vec::new();
                codec::report::encode(&told, schema_id, &mut payload);
                checking.add(told.campaign_id, payload, &row.place);
                if !accounts.contains(&row.account) {
                    accounts.insert(row.account.clone());
                }
            }
            Err(reason) => {
                checking.refuse(Refusal::new(reason.to_string()).at(row.place.clone()));
            }
        }
        Ok(())
    })
    .map_err(refused)?;
    let records = checking.finish()?;
    let content = source.bytes().map_err(refused)?;
    report.name = report.name.replacen(BODY, "POST /reports", 1);
    let how = json!({ "complete": false, "replace": false, "id_from_name": options.id_from_name });
    if let Some(import) = originals::noted(&report, accounts.into_iter().collect(), &how) {
        keep(file, content, import)?;
    }
    Ok(records)
}

/// What is said of flags of the command, said of parameters.
fn by_parameter(refusal: Refusal) -> Refusal {
    refusal.in_words(|text| {
        let text = PARAMETERS.iter().fold(text.to_owned(), |text, parameter| {
            let flag = format!("--{}", parameter.name.replace('_', "-"));
            text.replace(&flag, &format!("the parameter {}", parameter.name))
        });
        // What only the command can do.
        let text = text.replace("--replace", "`adflux import --replace`");
        text.replace("--map", "`adflux import --map`")
    })
}
