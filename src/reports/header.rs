//! Which line of a table is its header, whose it is, and what each column means: by the names of the columns, never by the
//! name of the file.

use std::collections::HashMap;
use std::sync::LazyLock;

use serde::Deserialize;

use crate::currency::Currency;
use crate::event::Platform;

use super::refusal::Refusal;

/// What a column can mean, besides a slice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Field {
    Day,
    DayEnd,
    CampaignId,
    CampaignName,
    AccountId,
    Currency,
    Impressions,
    Clicks,
    Cost,
    Conversions,
    Revenue,
    /// Of what kind Meta's `Results` are.
    ResultKind,
    Attribution,
}

/// A column of a table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Column {
    pub index: usize,
    /// As the header names it.
    pub name: String,
}

/// What the columns of a table mean.
#[derive(Clone, Debug)]
pub struct Layout {
    pub platform: Platform,
    fields: Vec<(Field, Column)>,
    /// The name of each slice, and its column.
    pub slices: Vec<(String, Column)>,
    /// From a name such as `Amount spent (EUR)`.
    pub currency: Option<Currency>,
    /// The header's zone: `(in UTC)`.
    pub is_utc: bool,
    /// How a row begins that sums up others, in lower case.
    pub totals: Vec<String>,
    /// All names of the header.
    pub names: Vec<String>,
}

impl Layout {
    /// The column of a field, if there is one.
    pub fn column(&self, field: Field) -> Option<&Column> {
        self.fields
            .iter()
            .find(|(of, _)| *of == field)
            .map(|(_, column)| column)
    }

    /// Gives a field the column of this name, or the one that counts what is [called] so.
    ///
    /// # Errors
    /// When there is none.
    pub fn choose(&mut self, field: Field, name: &str, flag: &str) -> Result<(), Refusal> {
        let wanted = canonical(name).0;
        let mut names = self.names.iter();
        let index = names
            .position(|there| canonical(there).0 == wanted)
            .or_else(|| self.counting(field, name));
        let Some(index) = index else {
            return Err(
                Refusal::new(format!("no column is named '{name}', as {flag} says"))
                    .so(format!("the columns are: {}", self.names.join(", "))),
            );
        };
        self.give(field, index);
        Ok(())
    }

    /// Gives a field the column that counts what is [called] so. `false` if there is none.
    pub fn choose_called(&mut self, field: Field, called: &str) -> bool {
        let index = self.counting(field, called);
        if let Some(index) = index {
            self.give(field, index);
        }
        index.is_some()
    }

    fn counting(&self, field: Field, wanted: &str) -> Option<usize> {
        let mut names = self.names.iter();
        names.position(|there| !there.is_empty() && called(self.platform, field, there) == wanted)
    }

    fn give(&mut self, field: Field, index: usize) {
        let name = self.names.get(index).cloned().unwrap_or_default();
        self.forget(field);
        self.fields.push((field, Column { index, name }));
    }

    /// What the column of a field counts.
    pub fn called(&self, field: Field) -> Option<String> {
        let column = self.column(field)?;
        Some(called(self.platform, field, &column.name))
    }

    /// Gives up a field.
    pub fn forget(&mut self, field: Field) {
        self.fields.retain(|(of, _)| *of != field);
    }

    /// A layout of known columns, such as a person's own map.
    pub fn of(
        platform: Platform,
        fields: Vec<(Field, Column)>,
        slices: Vec<(String, Column)>,
        names: Vec<String>,
    ) -> Layout {
        Layout {
            platform,
            fields,
            slices,
            currency: None,
            is_utc: false,
            totals: Vec::new(),
            names,
        }
    }
}

/// A platform's part of `headers.toml`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Names {
    day: Vec<String>,
    #[serde(default)]
    day_end: Vec<String>,
    campaign_id: Vec<String>,
    campaign_name: Vec<String>,
    account_id: Vec<String>,
    currency: Vec<String>,
    impressions: Vec<String>,
    clicks: Vec<String>,
    cost: Vec<String>,
    conversions: Vec<Measure>,
    revenue: Vec<Measure>,
    #[serde(default)]
    result_kind: Vec<String>,
    #[serde(default)]
    attribution: Vec<String>,
    #[serde(default)]
    total: Vec<String>,
    slices: std::collections::BTreeMap<String, Vec<String>>,
}

/// Names of columns that count the same.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Measure {
    /// What the platform's API calls it.
    of: String,
    names: Vec<String>,
}

#[derive(Clone, PartialEq, Eq)]
enum Meaning {
    Field(Field),
    Slice(String),
}

/// The names of one platform.
struct Known {
    platform: Platform,
    /// By canonical name: what it means, and how far behind in its list it stands.
    names: HashMap<String, (Meaning, usize)>,
    totals: Vec<String>,
    /// What the platform's API calls what columns count, by their canonical names. Conversions and their value may be called the same.
    called: HashMap<(Field, String), String>,
    /// The conversions and the revenue that are taken where nobody says which.
    usual: [String; 2],
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    google: Names,
    meta: Names,
    tiktok: Names,
    linkedin: Names,
}

static KNOWN: LazyLock<Vec<Known>> = LazyLock::new(|| {
    // The file is a part of the program, and a test reads it.
    let Ok(file) = toml::from_str::<File>(include_str!("headers.toml")) else {
        return Vec::new();
    };
    vec![
        known(Platform::Google, file.google),
        known(Platform::Meta, file.meta),
        known(Platform::TikTok, file.tiktok),
        known(Platform::LinkedIn, file.linkedin),
    ]
});

fn known(platform: Platform, of: Names) -> Known {
    let mut names = HashMap::new();
    let measures = [&of.conversions, &of.revenue];
    let usual = measures.map(|list| list.first().map_or_else(String::new, |m| m.of.clone()));
    let mut called = HashMap::new();
    for (field, list) in [Field::Conversions, Field::Revenue]
        .into_iter()
        .zip(measures)
    {
        for measure in list {
            for name in &measure.names {
                called.insert((field, canonical(name).0), measure.of.clone());
            }
        }
    }
    let all = |list: Vec<Measure>| list.into_iter().flat_map(|m| m.names).collect();
    let fields = [
        (Field::Day, of.day),
        (Field::DayEnd, of.day_end),
        (Field::CampaignId, of.campaign_id),
        (Field::CampaignName, of.campaign_name),
        (Field::AccountId, of.account_id),
        (Field::Currency, of.currency),
        (Field::Impressions, of.impressions),
        (Field::Clicks, of.clicks),
        (Field::Cost, of.cost),
        (Field::Conversions, all(of.conversions)),
        (Field::Revenue, all(of.revenue)),
        (Field::ResultKind, of.result_kind),
        (Field::Attribution, of.attribution),
    ];
    let fields = fields
        .into_iter()
        .map(|(field, list)| (Meaning::Field(field), list));
    let slices = of
        .slices
        .into_iter()
        .map(|(slice, list)| (Meaning::Slice(slice), list));
    for (meaning, list) in fields.chain(slices) {
        for (rank, name) in list.into_iter().enumerate() {
            names
                .entry(canonical(&name).0)
                .or_insert((meaning.clone(), rank));
        }
    }
    let totals = of.total.iter().map(|text| text.to_lowercase()).collect();
    Known {
        platform,
        names,
        totals,
        called,
        usual,
    }
}

fn of_platform(platform: Platform) -> Option<&'static Known> {
    KNOWN.iter().find(|known| known.platform == platform)
}

/// What a column of conversions or revenue counts: as the platform's API calls it, or as the column is named if that is not known.
pub fn called(platform: Platform, field: Field, column: &str) -> String {
    let key = (field, canonical(column).0);
    let known = of_platform(platform).and_then(|known| known.called.get(&key));
    known.cloned().unwrap_or(key.1)
}

/// The conversions and the revenue that are taken of a platform where nobody says which.
pub fn usual(platform: Platform) -> [&'static str; 2] {
    of_platform(platform).map_or(["", ""], |known| known.usual.each_ref().map(String::as_str))
}

/// A name without capitals, odd spaces and apostrophes, and without the currency in parentheses behind it, which is the other
/// part. That is in capitals: `Clicks (all)` are not in Albanian lek.
fn canonical(name: &str) -> (String, Option<Currency>) {
    let name = super::number::bare(name);
    let behind = name
        .strip_suffix(')')
        .and_then(|rest| rest.rsplit_once('('));
    let (name, currency) = match behind {
        Some((before, code)) if code.bytes().all(|b| b.is_ascii_uppercase()) => {
            match Currency::from_code(code) {
                Some(currency) => (before, Some(currency)),
                None => (name, None),
            }
        }
        _ => (name, None),
    };
    let name = name.to_lowercase().replace('’', "'");
    let name = name.split_whitespace().collect::<Vec<_>>().join(" ");
    (name, currency)
}

/// Whether a record could be a header, and whose. `Ok(None)`: it is none.
///
/// # Errors
/// When it could be of two platforms.
pub fn recognised(cells: &[&str]) -> Result<Option<Layout>, Refusal> {
    let canonical: Vec<_> = cells.iter().map(|cell| canonical(cell)).collect();
    let mut best: Vec<(usize, Layout)> = Vec::new();
    for known in KNOWN.iter() {
        let Some((score, layout)) = layout(known, cells, &canonical) else {
            continue;
        };
        match best.first().map(|(best, _)| score.cmp(best)) {
            Some(std::cmp::Ordering::Less) => {}
            Some(std::cmp::Ordering::Equal) => best.push((score, layout)),
            _ => best = vec![(score, layout)],
        }
    }
    if best.len() > 1 {
        let names: Vec<_> = best.iter().map(|(_, l)| l.platform.name()).collect();
        return Err(Refusal::new(format!(
            "its columns could be those of {}",
            names.join(" or ")
        ))
        .so("say what each column is with --map FILE"));
    }
    Ok(best.pop().map(|(_, layout)| layout))
}

/// What the columns mean if the header is this platform's, and how many of them have a meaning.
fn layout(
    known: &Known,
    cells: &[&str],
    canonical: &[(String, Option<Currency>)],
) -> Option<(usize, Layout)> {
    let mut found: Vec<(Meaning, usize, usize)> = Vec::new();
    let mut currency = None;
    let mut score = 0_usize;
    for (index, (name, of)) in canonical.iter().enumerate() {
        let Some((meaning, rank)) = known.names.get(name) else {
            continue;
        };
        score = score.saturating_add(1);
        currency = currency.or(*of);
        match found.iter_mut().find(|(there, ..)| there == meaning) {
            Some((_, best, column)) if rank < best => (*best, *column) = (*rank, index),
            Some(_) => {}
            None => found.push((meaning.clone(), *rank, index)),
        }
    }
    let has = |fields: &[Field]| {
        found
            .iter()
            .any(|(meaning, ..)| matches!(meaning, Meaning::Field(f) if fields.contains(f)))
    };
    let is_header = has(&[Field::CampaignId, Field::CampaignName])
        && has(&[
            Field::Impressions,
            Field::Clicks,
            Field::Cost,
            Field::Conversions,
            Field::Revenue,
        ]);
    if !is_header {
        return None;
    }
    let (mut fields, mut slices) = (Vec::new(), Vec::new());
    for (meaning, _, index) in found {
        let name = cells.get(index).map_or("", |cell| cell.trim()).to_owned();
        let column = Column { index, name };
        match meaning {
            Meaning::Field(field) => fields.push((field, column)),
            Meaning::Slice(slice) => slices.push((slice, column)),
        }
    }
    slices.sort_by(|a, b| a.0.cmp(&b.0));
    let is_utc = fields
        .iter()
        .any(|(field, column)| *field == Field::Day && column.name.contains("UTC"));
    let names = cells.iter().map(|cell| cell.trim().to_owned()).collect();
    let layout = Layout {
        currency,
        is_utc,
        totals: known.totals.clone(),
        ..Layout::of(known.platform, fields, slices, names)
    };
    Some((score, layout))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn platform(names: &str) -> Option<Platform> {
        let cells: Vec<_> = names.split(';').collect();
        let layout = recognised(&cells).expect("one platform at most");
        layout.map(|layout| layout.platform)
    }

    #[test]
    fn the_names_are_readable_and_each_means_one_thing() {
        toml::from_str::<File>(include_str!("headers.toml")).expect("it is as the types say");
        assert_eq!(KNOWN.len(), 4);
    }

    #[test]
    fn only_capitals_in_parentheses_are_a_currency() {
        let header = [
            "Reporting starts",
            "Reporting ends",
            "Campaign name",
            "Clicks (all)",
            "Amount spent (EUR)",
        ];
        let layout = recognised(&header).expect("one platform").expect("Meta's");
        assert_eq!(
            layout.currency.map(|c| c.code().to_owned()).as_deref(),
            Some("EUR")
        );
        let clicks = layout.column(Field::Clicks).expect("clicks");
        assert_eq!(clicks.index, 3);
    }

    #[test]
    fn headers_are_recognised_in_any_of_the_languages() {
        for (names, whose) in [
            (
                "Day;Campaign;Campaign ID;Currency code;Impr.;Clicks;Cost;Conversions;Conv. value",
                Platform::Google,
            ),
            (
                "Tag;Kampagne;Kampagnen-ID;Währungscode;Impr.;Klicks;Kosten;Conversions",
                Platform::Google,
            ),
            (
                "Jour;Campagne;Code de devise;Impr.;Clics;Coût",
                Platform::Google,
            ),
            (
                "Día;Campaña;Código de moneda;Impr.;Clics;Coste",
                Platform::Google,
            ),
            (
                "Dia;Campanha;Código da moeda;Impr.;Cliques;Custo",
                Platform::Google,
            ),
            (
                "Reporting starts;Reporting ends;Campaign name;Amount spent (EUR);Impressions",
                Platform::Meta,
            ),
            (
                "Name der Kampagne;Tag;Ausgegebener Betrag (EUR);Impressionen;Berichtsstart;Berichtsende",
                Platform::Meta,
            ),
            (
                "Nom de la campagne;Jour;Montant dépensé (EUR);Impressions;Début des rapports",
                Platform::Meta,
            ),
            (
                "Nombre de la campaña;Día;Importe gastado (EUR);Impresiones",
                Platform::Meta,
            ),
            (
                "Nome da campanha;Dia;Valor usado (BRL);Impressões",
                Platform::Meta,
            ),
            (
                "Campaign name;Campaign ID;Date;Cost;Impression(s);Clicks (Destination);Currency",
                Platform::TikTok,
            ),
            (
                "Start Date (in UTC);Account Name;Currency;Campaign Name;Campaign ID;Total Spent;Impressions;Clicks",
                Platform::LinkedIn,
            ),
        ] {
            assert_eq!(platform(names), Some(whose), "{names}");
        }
        for names in [
            "",
            "Campaign report",
            "a;b;c",
            "Day;Cost;Clicks",
            "2024-06-03;1;2",
        ] {
            assert_eq!(platform(names), None, "{names}");
        }
    }

    #[test]
    fn columns_are_found_by_preference_and_by_name() {
        let names = [
            "Campaign name",
            "Day",
            "Results",
            "Purchases",
            "Amount spent (EUR)",
        ];
        let mut layout = recognised(&names).expect("one").expect("Meta's");
        let index = |layout: &Layout| layout.column(Field::Conversions).map(|c| c.index);
        assert_eq!(index(&layout), Some(3));
        assert_eq!(layout.currency, Currency::from_code("EUR"));
        layout
            .choose(Field::Conversions, "results", "--conversions")
            .expect("there");
        assert_eq!(index(&layout), Some(2));
        let missing = layout.choose(Field::Conversions, "Leads", "--conversions");
        assert!(
            missing
                .expect_err("not there")
                .to_string()
                .contains("Leads")
        );
    }
}
