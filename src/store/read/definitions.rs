//! What the numbers of reports mean, as `report_definitions` says.

use diesel::prelude::*;
use diesel::sql_types::{SmallInt, Text};

use crate::currency::Currency;
use crate::event::Platform;
use crate::report_row::Definition;

/// A definition as it is stored, by whichever version.
#[derive(Clone, Debug, PartialEq, Eq, QueryableByName)]
pub struct DefinitionRow {
    #[diesel(sql_type = SmallInt)]
    pub platform: i16,
    #[diesel(sql_type = Text)]
    pub account: String,
    #[diesel(sql_type = Text)]
    pub time_zone: String,
    #[diesel(sql_type = Text)]
    pub currency: String,
    #[diesel(sql_type = Text)]
    pub conversions: String,
    #[diesel(sql_type = Text)]
    pub revenue: String,
}

impl DefinitionRow {
    /// What it says; none where a newer version wrote what this one doesn't know.
    pub fn known(&self) -> Option<Definition<'_>> {
        Some(Definition {
            platform: Platform::from_index(self.platform.into())?,
            account: &self.account,
            time_zone: self.time_zone.parse().ok()?,
            currency: Currency::from_code(&self.currency)?,
            conversions: &self.conversions,
            revenue: &self.revenue,
        })
    }
}
