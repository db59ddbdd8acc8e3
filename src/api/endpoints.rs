//! Every question that can be asked, with its parameters: what requests are checked against and
//! documents are made from.

use super::params::{Endpoint, Kind, Parameter};
use super::window::DATE_PRESETS;
use crate::totals::metric::Metric;

pub(super) static ID: Parameter = Parameter::path(
    "id",
    Kind::CampaignId,
    "The campaign: 1 to 64 characters of A-Z a-z 0-9 _ . : -",
);
pub(super) static SINCE: Parameter = Parameter::query(
    "since",
    Kind::Time,
    "Start of the window, included: an RFC 3339 time, or a date, which is midnight in time_zone. Rounded down to the minute.",
);
pub(super) static UNTIL: Parameter = Parameter::query(
    "until",
    Kind::Time,
    "End of the window, not included; now if it is not given. Rounded up to the minute. At most 3,660 days after since.",
);
pub(super) static DATE_PRESET: Parameter = Parameter::query(
    "date_preset",
    Kind::OneOf(DATE_PRESETS),
    "A window by name instead of since and until, in days of time_zone. last_7d and its like are whole days without today; maximum is all time, as is no window at all.",
);
pub(super) static TIME_ZONE: Parameter = Parameter::query(
    "time_zone",
    Kind::TimeZone,
    "The IANA time zone whose days, weeks and months are meant, such as Europe/Berlin.",
)
.or("UTC");
pub(super) static AS_OF: Parameter = Parameter::query(
    "as_of",
    Kind::Time,
    "Answers what was known at this instant, from the event store. A date_preset, or a window without until, is relative to it.",
);
pub(super) static CURSOR: Parameter = Parameter::query(
    "cursor",
    Kind::Cursor,
    "paging.next_cursor of the page before, with the same other parameters.",
);

pub(super) static SORT: Parameter = Parameter::query(
    "sort",
    Kind::OneOf(Metric::NAMES),
    "The metric by which campaigns are sorted; those without a value come last.",
)
.or("revenue");
pub(super) static ORDER: Parameter = Parameter::query(
    "order",
    Kind::OneOf(&["desc", "asc"]),
    "Largest or smallest first.",
)
.or("desc");
pub(super) static LIMIT: Parameter = Parameter::query(
    "limit",
    Kind::Integer {
        least: 1,
        most: 500,
    },
    "Rows of data in an answer.",
)
.or("50");

/// `GET /campaign/{id}/insights`
pub(super) static CAMPAIGN_INSIGHTS: Endpoint = Endpoint {
    path: "/campaign/{id}/insights",
    summary: "Insights of a campaign",
    description: "Sums and ratios of one campaign over a window.",
    parameters: &[ID, SINCE, UNTIL, DATE_PRESET, TIME_ZONE, AS_OF],
    csv: false,
};

/// `GET /campaigns`
pub(super) static CAMPAIGNS: Endpoint = Endpoint {
    path: "/campaigns",
    summary: "Campaigns, sorted",
    description: "The campaigns that have events in a window, with their sums and ratios, sorted and in pages.",
    parameters: &[
        SORT,
        ORDER,
        LIMIT,
        CURSOR,
        SINCE,
        UNTIL,
        DATE_PRESET,
        TIME_ZONE,
    ],
    csv: false,
};
