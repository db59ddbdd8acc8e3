//! Money that is read in one currency and answered in another: kept by campaign, platform and piece of time until all of it is
//! read, for only then is a day whole and can be converted. And the sums of all campaigns, which are read so.

use std::collections::HashMap;

use chrono::NaiveDate;
use diesel::PgConnection;
use serde::Serialize;

use crate::currency::Currency;
use crate::event::{Counts, Platform};
use crate::rates::conversion::{Amounts, ByPiece, Conversion, Converter, Unconverted};
use crate::store::StoreError;
use crate::store::read::cells::{self, Of};
use crate::store::read::descriptions::Descriptions;
use crate::store::sums::plan::Plan;
use crate::totals::{Overflow, Totals};

/// Money of a campaign on a platform that could not be converted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Left {
    pub campaign_id: Box<str>,
    pub platform: Platform,
    pub why: Unconverted,
}

impl Left {
    fn of(&self) -> (&str, Platform) {
        (&self.campaign_id, self.platform)
    }
}

/// The rates that money was converted by.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Used {
    pub source: String,
    pub base: Currency,
    /// The first and the last day that they were published for.
    pub first_day: NaiveDate,
    pub last_day: NaiveDate,
}

impl Used {
    /// Those of both.
    pub fn and(self, more: Used) -> Used {
        Used {
            first_day: self.first_day.min(more.first_day),
            last_day: self.last_day.max(more.last_day),
            ..self
        }
    }
}

/// By which rates money was converted, and what could not be.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Converted {
    /// None where no money was of another currency.
    pub used: Option<Used>,
    /// What could not be, by campaign and platform. Sums are without it.
    pub left: Vec<Left>,
}

impl Converted {
    /// With those of another share.
    fn add(&mut self, more: Converted) {
        self.used = match (self.used.take(), more.used) {
            (Some(used), Some(more)) => Some(used.and(more)),
            (used, more) => used.or(more),
        };
        // By campaign, as shares are.
        self.left.extend(more.left);
    }

    /// That of two databases together.
    pub fn and(mut self, other: Converted) -> Converted {
        self.add(other);
        self.left.sort_by(|a, b| a.of().cmp(&b.of()));
        self
    }

    /// About how many bytes it takes.
    pub fn weight(&self) -> usize {
        let ids: usize = self.left.iter().map(|one| one.campaign_id.len()).sum();
        ids + self.left.len() * size_of::<Left>()
    }
}

/// The money of one campaign.
pub(in crate::store::read) struct Purse<'a> {
    amounts: &'a mut ByPiece,
    /// Whether it is known of what currency it is. If not, it is of increments, which are never below zero: it is refused if there
    /// is any, whenever that was.
    is_known: bool,
}

impl Purse<'_> {
    /// Takes the money out of counts, so many times.
    pub fn take(&mut self, platform: u8, piece: u32, counts: &mut Counts, times: i8) {
        let piece = if self.is_known { piece } else { 0 };
        let amounts = self.amounts.entry((platform, piece)).or_default();
        amounts.add(Amounts::take(counts), times);
    }
}

/// What is to be added to the sum of a campaign on a platform in a window, so many times.
#[derive(Clone, Copy)]
pub(super) struct Addend {
    pub platform: u8,
    /// The number of the plan's window.
    pub window: u32,
    pub totals: Totals,
    pub times: i8,
}

/// Gives `add` what all campaigns' sums over the plan's windows are made of, some of a campaign at a time and in no order, with the
/// currency of its money: the campaign's own, none where none is known, or that into which it was converted.
///
/// # Errors
/// When the database does not answer, or an amount does not fit.
pub(super) fn for_each_campaign(
    connection: &mut PgConnection,
    plan: &Plan,
    conversion: Option<&Conversion>,
    descriptions: &Descriptions,
    is_chosen: impl Fn(u8) -> bool,
    mut add: impl FnMut(&str, Option<Currency>, &[Addend]),
) -> Result<Converted, StoreError> {
    let mut converted = Converted::default();
    let mut addends = Vec::new();
    for share in shares(conversion, descriptions) {
        let mut awaiting = Awaiting::new(conversion);
        cells::for_each(
            connection,
            share.cells(),
            plan,
            |_, campaign, range, cells| {
                if !share.has(campaign) {
                    return Ok(());
                }
                addends.clear();
                for cell in cells.iter().filter(|cell| is_chosen(cell.platform)) {
                    addends.extend(range.effects(cell).iter().map(|(window, times)| Addend {
                        platform: cell.platform,
                        window: *window,
                        totals: cell.totals,
                        times: *times,
                    }));
                }
                if addends.is_empty() {
                    return Ok(());
                }
                let own = descriptions.currency(campaign);
                if let Some(mut purse) = awaiting.of(campaign, || own) {
                    for addend in &mut addends {
                        let Addend {
                            platform,
                            window,
                            totals,
                            times,
                        } = addend;
                        purse.take(*platform, *window, &mut totals.counts, *times);
                    }
                }
                add(campaign, awaiting.shown(own), &addends);
                Ok(())
            },
        )?;
        converted.add(awaiting.convert(
            descriptions,
            |into, campaign, platform, window, amounts| {
                let amount = Addend {
                    platform,
                    window,
                    totals: amounts.totals(),
                    times: 1,
                };
                add(campaign, Some(into), &[amount]);
            },
        )?);
    }
    Ok(converted)
}

/// Campaigns that are read at a time: those after the one up to and with the other, in byte order.
struct Share<'a> {
    after: &'a str,
    until: Option<&'a str>,
}

/// So many amounts await at a time, of 40 bytes each.
const MOST_AWAITING: usize = 1 << 20;

/// All campaigns, in as many shares as it takes that few amounts await at a time; without a conversion, in one.
fn shares<'a>(conversion: Option<&Conversion>, descriptions: &'a Descriptions) -> Vec<Share<'a>> {
    let pieces = conversion.map_or(0, |conversion| conversion.days.len());
    let most = MOST_AWAITING.checked_div(pieces);
    in_shares(descriptions, most.map_or(usize::MAX, |most| most.max(1)))
}

/// The same, of so many campaigns that are described.
fn in_shares(descriptions: &Descriptions, most: usize) -> Vec<Share<'_>> {
    let mut after = "";
    let mut shares = Vec::new();
    if descriptions.len() > most {
        let mut ids: Vec<&str> = descriptions.ids().collect();
        ids.sort_unstable();
        for until in ids.chunks(most).filter_map(|share| share.last()) {
            shares.push(Share {
                after,
                until: Some(until),
            });
            after = until;
        }
    }
    shares.push(Share { after, until: None });
    shares
}

impl Share<'_> {
    /// Whose cells are to be read.
    pub fn cells(&self) -> Of<'_> {
        match (self.after, self.until) {
            ("", None) => Of::All,
            (after, until) => Of::Between(after, until.unwrap_or(cells::LAST_CAMPAIGN)),
        }
    }

    /// Whether a campaign is one of them.
    pub fn has(&self, campaign: &str) -> bool {
        campaign > self.after
    }
}

/// See the module. Where nothing is to be converted, nothing awaits it.
pub(in crate::store::read) struct Awaiting<'a> {
    conversion: Option<&'a Conversion>,
    campaigns: HashMap<Box<str>, ByPiece, foldhash::fast::RandomState>,
}

impl<'a> Awaiting<'a> {
    /// Nothing yet.
    pub fn new(conversion: Option<&'a Conversion>) -> Awaiting<'a> {
        Awaiting {
            conversion,
            campaigns: HashMap::default(),
        }
    }

    /// The currency in which money is answered that is of this one.
    pub fn shown(&self, own: Option<Currency>) -> Option<Currency> {
        self.conversion
            .map_or(own, |conversion| Some(conversion.into))
    }

    /// Where money of a campaign awaits that it is converted; none if it stays as it is.
    pub fn of(
        &mut self,
        campaign: &str,
        own: impl FnOnce() -> Option<Currency>,
    ) -> Option<Purse<'_>> {
        let conversion = self.conversion?;
        let own = own();
        if own == Some(conversion.into) {
            return None;
        }
        // Most are there already.
        if !self.campaigns.contains_key(campaign) {
            self.campaigns.insert(campaign.into(), ByPiece::new());
        }
        Some(Purse {
            amounts: self.campaigns.get_mut(campaign)?,
            is_known: own.is_some(),
        })
    }

    /// Converts all of it, and gives it to `each` in the currency that was asked for, with campaign, platform and piece.
    ///
    /// # Errors
    /// [`Overflow`] if an amount does not fit.
    pub fn convert(
        self,
        descriptions: &Descriptions,
        mut each: impl FnMut(Currency, &str, u8, u32, Amounts),
    ) -> Result<Converted, Overflow> {
        let Some(conversion) = self.conversion else {
            return Ok(Converted::default());
        };
        let into = conversion.into;
        let mut converter = Converter::new(conversion);
        let mut left = Vec::new();
        for (campaign, amounts) in &self.campaigns {
            let own = descriptions.currency(campaign);
            let each = |platform, piece, amounts| each(into, campaign, platform, piece, amounts);
            let unconverted = converter.convert(own, amounts, each)?;
            left.extend(unconverted.into_iter().map(|(platform, why)| Left {
                campaign_id: campaign.clone(),
                platform,
                why,
            }));
        }
        left.sort_unstable_by(|a, b| a.of().cmp(&b.of()));
        Ok(Converted {
            used: converter.used.map(|(first_day, last_day)| Used {
                source: conversion.rates.source.clone(),
                base: conversion.rates.base,
                first_day,
                last_day,
            }),
            left,
        })
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use proptest::prelude::*;

    use super::*;
    use crate::store::read::descriptions::{Account, Description};

    fn descriptions(ids: &[String]) -> Descriptions {
        let account = Arc::new(Account {
            platform: Platform::Meta,
            id: "1".to_owned(),
            time_zone: "UTC".to_owned(),
            currency: Currency::from_code("EUR").expect("a currency"),
        });
        let describe = |id: &String| {
            let account = Arc::clone(&account);
            (
                id.as_str().into(),
                Description {
                    name: None,
                    account,
                },
            )
        };
        ids.iter().map(describe).collect()
    }

    proptest! {
        #[test]
        fn each_campaign_is_in_one_share_also_one_that_nobody_describes(
            ids in prop::collection::vec("[a-c:.-]{1,3}", 0..20),
            campaign in "[a-d:.-]{1,4}",
            most in 1usize..6,
        ) {
            let descriptions = descriptions(&ids);
            let shares = in_shares(&descriptions, most);
            let reads = |share: &&Share<'_>| match share.cells() {
                Of::All => true,
                Of::Campaign(_) => false,
                Of::Between(first, last) => (first..=last).contains(&campaign.as_str()),
            };
            let read = shares.iter().filter(reads).filter(|share| share.has(&campaign));
            prop_assert_eq!(read.count(), 1);
            for share in &shares {
                let until = |id: &&str| share.until.is_none_or(|until| *id <= until);
                let of_share = descriptions.ids().filter(until).filter(|id| share.has(id));
                prop_assert!(of_share.count() <= most);
            }
        }
    }
}
