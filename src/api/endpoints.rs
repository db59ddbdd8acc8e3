//! Every question that can be asked, with its parameters: what requests are checked against and
//! documents are made from.

use super::params::{Endpoint, Kind, Parameter};
use super::window::{DATE_PRESETS, TIME_INCREMENTS};
use crate::event::{Platform, Reason};
use crate::totals::metric::Metric;

/// The most campaigns that are named in one request.
pub(super) const MAX_IDS: usize = 100;
/// The most filters of one request.
const MAX_FILTERS: usize = 10;

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
    "Answers what was known at this instant, from the event store. A date_preset, or a window without until, is relative to it. Not together with time_increment or compare.",
);
pub(super) static TIME_INCREMENT: Parameter = Parameter::query("time_increment", Kind::OneOf(TIME_INCREMENTS), "A row of data for each minute, hour, day, week (from Monday) or month of the window, in time_zone; at most 4,000. The first and the last may be cut by the window. all: one row for the whole window.").or("all");
pub(super) static PLATFORM: Parameter = Parameter::query(
    "platform",
    Kind::SomeOf(&Platform::NAMES),
    "Only these platforms, separated by commas.",
);
pub(super) static FIELDS: Parameter = Parameter::query(
    "fields",
    Kind::SomeOf(Metric::NAMES),
    "Only these metrics, separated by commas; all of them if it is not given.",
);
pub(super) static COMPARE: Parameter = Parameter::query(
    "compare",
    Kind::OneOf(&["previous_period"]),
    "Adds what the period of the same length before had, and the change since: absolute, and relative to it, which is null where it was zero or had no value.",
);
pub(super) static FORMAT: Parameter = Parameter::query(
    "format",
    Kind::OneOf(&["json", "csv"]),
    "How the answer is written; without it, the Accept header decides: text/csv is CSV, everything else JSON.",
);
pub(super) static CURSOR: Parameter = Parameter::query(
    "cursor",
    Kind::Cursor,
    "paging.next_cursor of the page before, with the same other parameters.",
);

static CAMPAIGN_BREAKDOWN: Parameter = Parameter::query(
    "breakdown",
    Kind::SomeOf(&["platform"]),
    "A row for each platform.",
);
pub(super) static BREAKDOWN: Parameter = Parameter::query(
    "breakdown",
    Kind::SomeOf(&["campaign", "platform"]),
    "A row for each platform, for each of the campaigns that are named, or for both (campaign,platform).",
);
pub(super) static CAMPAIGNS_NAMED: Parameter = Parameter::query(
    "campaigns",
    Kind::CampaignIds { most: MAX_IDS },
    "Only these campaigns, separated by commas, at most 100. Needed with breakdown=campaign; lists of all campaigns come from /campaigns.",
);
pub(super) static ROWS: Parameter = Parameter::query(
    "limit",
    Kind::Integer {
        least: 1,
        most: 10_000,
    },
    "Rows of data in an answer.",
)
.or("10000");

pub(super) static SEARCH: Parameter = Parameter::query(
    "search",
    Kind::Text { most: 64 },
    "Only campaigns whose id has this text in it, whatever the case.",
);
pub(super) static FILTER: Parameter = Parameter::query("filter", Kind::Filter, "Only campaigns for which this holds: a metric, one of < <= > >= = !=, and a number, such as roas<1. May be given up to 10 times; all must hold. A metric without a value meets no condition.").up_to(MAX_FILTERS);
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

pub(super) static REASON: Parameter = Parameter::query(
    "reason",
    Kind::OneOf(Reason::NAMES),
    "Only dead letters with this reason.",
);
pub(super) static TOPIC: Parameter = Parameter::query(
    "topic",
    Kind::Text { most: 249 },
    "Only records of this topic.",
);
pub(super) static PARTITION: Parameter = Parameter::query(
    "partition",
    Kind::Integer {
        least: 0,
        most: i32::MAX as i64,
    },
    "Only records of this partition.",
);
pub(super) static KEY: Parameter = Parameter::query(
    "key",
    Kind::Text { most: 64 },
    "Only records with this key.",
);

pub(super) static STATE: Parameter = Parameter::query(
    "state",
    Kind::OneOf(&["all", "open", "resolved"]),
    "Only alerts that are open, or only those that have resolved.",
)
.or("all");
pub(super) static RULE: Parameter =
    Parameter::query("rule", Kind::Text { most: 64 }, "Only alerts of this rule.");
pub(super) static CAMPAIGN: Parameter = Parameter::query(
    "campaign",
    Kind::CampaignId,
    "Only alerts about this campaign.",
);

/// `GET /alerts`
pub(super) static ALERTS: Endpoint = Endpoint {
    path: "/alerts",
    summary: "Alerts",
    description: "What rules have opened and resolved, the last happening first.",
    parameters: &[STATE, RULE, CAMPAIGN, LIMIT, CURSOR],
    csv: false,
};

/// `GET /alerts/rules`
pub(super) static RULES: Endpoint = Endpoint {
    path: "/alerts/rules",
    summary: "The rules of alerts",
    description: "Every rule, of the file and of the API, with what it is understood as.",
    parameters: &[],
    csv: false,
};

/// `GET /campaign/{id}/insights`
pub(super) static CAMPAIGN_INSIGHTS: Endpoint = Endpoint {
    path: "/campaign/{id}/insights",
    summary: "Insights of a campaign",
    description: "Sums and ratios of one campaign over a window: in all, by time and by platform, and compared with the period before.",
    parameters: &[
        ID,
        SINCE,
        UNTIL,
        DATE_PRESET,
        TIME_ZONE,
        TIME_INCREMENT,
        AS_OF,
        CAMPAIGN_BREAKDOWN,
        PLATFORM,
        FIELDS,
        COMPARE,
        ROWS,
        CURSOR,
        FORMAT,
    ],
    csv: true,
};

/// `GET /insights`
pub(super) static INSIGHTS: Endpoint = Endpoint {
    path: "/insights",
    summary: "Insights of all campaigns together",
    description: "Sums and ratios of all campaigns, or of those named, over a window: in all, by time, by platform and by campaign, and compared with the period before.",
    parameters: &[
        SINCE,
        UNTIL,
        DATE_PRESET,
        TIME_ZONE,
        TIME_INCREMENT,
        BREAKDOWN,
        CAMPAIGNS_NAMED,
        PLATFORM,
        FIELDS,
        COMPARE,
        ROWS,
        CURSOR,
        FORMAT,
    ],
    csv: true,
};

/// `GET /campaigns`
pub(super) static CAMPAIGNS: Endpoint = Endpoint {
    path: "/campaigns",
    summary: "Campaigns, searched, filtered and sorted",
    description: "The campaigns that have events in a window, with their sums and ratios. Pages of one list are of one instant: none skips or repeats a campaign, however the numbers move.",
    parameters: &[
        SEARCH,
        FILTER,
        SORT,
        ORDER,
        LIMIT,
        CURSOR,
        SINCE,
        UNTIL,
        DATE_PRESET,
        TIME_ZONE,
        PLATFORM,
        FIELDS,
        COMPARE,
        FORMAT,
    ],
    csv: true,
};

/// `GET /campaign/{id}/events`
pub(super) static EVENTS: Endpoint = Endpoint {
    path: "/campaign/{id}/events",
    summary: "The newest events of a campaign",
    description: "The events behind the numbers, newest first by when they were counted.",
    parameters: &[
        ID,
        SINCE,
        UNTIL,
        DATE_PRESET,
        TIME_ZONE,
        PLATFORM,
        LIMIT,
        CURSOR,
        FORMAT,
    ],
    csv: true,
};

/// `GET /dead-letters`
pub(super) static DEAD_LETTERS: Endpoint = Endpoint {
    path: "/dead-letters",
    summary: "Records that could not be counted",
    description: "Dead letters, newest first, each whole and with its reason.",
    parameters: &[
        REASON,
        TOPIC,
        PARTITION,
        KEY,
        SINCE,
        UNTIL,
        DATE_PRESET,
        TIME_ZONE,
        LIMIT,
        CURSOR,
        FORMAT,
    ],
    csv: true,
};

/// Every endpoint of this module.
#[allow(dead_code, reason = "read by what documents the API")]
pub(super) static ALL: &[&Endpoint] = &[
    &ALERTS,
    &RULES,
    &CAMPAIGN_INSIGHTS,
    &INSIGHTS,
    &CAMPAIGNS,
    &EVENTS,
    &DEAD_LETTERS,
];
