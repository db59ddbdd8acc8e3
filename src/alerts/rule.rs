//! What a rule says. Pure: [`parse`](super::parse) makes it from text, its `Display` is that text
//! again, [`evaluate`](super::evaluate) holds it against sums.

use std::fmt;

use crate::event::{Millionths, Platform};
use crate::time::Length;
use crate::totals::metric::Metric;

/// The name under which an alert of the pipeline stands.
pub const PIPELINE: &str = "pipeline";
/// That of one about an account whose reports stay away.
pub const REPORTS: &str = "reports";
/// What no rule may be called.
pub const RESERVED: [&str; 2] = [PIPELINE, REPORTS];

/// A rule: a condition, the campaigns it is held against, and who is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    /// Its identity: 1 to 64 characters of `A-Z a-z 0-9 _ . -`.
    pub name: String,
    pub when: When,
    pub scope: Scope,
    /// How long the condition must hold before an alert opens, and not hold before it resolves.
    pub hold: Minutes,
    pub severity: Severity,
    /// The webhooks that are told, by name.
    pub to: Vec<String>,
}

/// How grave it is when a rule holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Severity {
    Critical,
    #[default]
    Warning,
    Info,
}

impl Severity {
    /// Every severity, the gravest first.
    pub const ALL: [Severity; 3] = [Severity::Critical, Severity::Warning, Severity::Info];
    /// Their names.
    pub const NAMES: [&str; 3] = ["critical", "warning", "info"];

    /// As a rule writes it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Severity::Critical => "critical",
            Severity::Warning => "warning",
            Severity::Info => "info",
        }
    }
}

/// All of these at once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct When(pub Vec<Condition>);

/// One condition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Condition {
    /// `roas < 1 over 1h`
    Number {
        metric: Metric,
        over: Over,
        operator: Operator,
        number: Decimal,
    },
    /// `ctr over 1d < 80% of mean over 7d`
    Mean {
        metric: Metric,
        over: Over,
        operator: Operator,
        percent: Decimal,
        mean_over: Minutes,
    },
    /// `cost pace > 110% of budget 500 per day`
    Pace {
        operator: Operator,
        percent: Decimal,
        budget: Decimal,
        period: Period,
    },
    /// `no data for 30m`
    NoData { minutes: Minutes },
}

/// The window of a condition.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Over {
    pub length: Minutes,
    pub basis: Basis,
}

/// What of a campaign a window holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Basis {
    /// What is known, up to now.
    #[default]
    Known,
    /// `over 7d settled`: whole days that are final, up to those that platforms still restate.
    Settled,
    /// `expected roas`: whole days up to today's, those that are not final with what they will come to.
    Expected,
}

impl Basis {
    /// Whether its windows are of whole days.
    pub fn has_days(self) -> bool {
        self != Basis::Known
    }

    /// What stands before a metric.
    fn before(self) -> &'static str {
        match self {
            Basis::Expected => "expected ",
            Basis::Known | Basis::Settled => "",
        }
    }
}

impl fmt::Display for Over {
    /// `7d settled`
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let after = match self.basis {
            Basis::Settled => " settled",
            Basis::Known | Basis::Expected => "",
        };
        write!(f, "{}{after}", self.length)
    }
}

/// Which campaigns, and which of their platforms.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Scope {
    /// Any of these; none: all campaigns.
    pub campaigns: Vec<CampaignPattern>,
    /// Sums are over these platforms; none: over all.
    pub platforms: Vec<Platform>,
}

impl Scope {
    /// Whether a campaign is in it.
    pub fn has_campaign(&self, campaign_id: &str) -> bool {
        self.campaigns.is_empty() || self.campaigns.iter().any(|p| p.matches(campaign_id))
    }

    /// Whether a platform's sums are in it.
    pub fn has_platform(&self, platform: Platform) -> bool {
        self.platforms.is_empty() || self.platforms.contains(&platform)
    }
}

/// A campaign id, or with a `*` at its end the beginning of one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CampaignPattern {
    Id(String),
    Prefix(String),
}

impl CampaignPattern {
    fn matches(&self, campaign_id: &str) -> bool {
        match self {
            CampaignPattern::Id(id) => id == campaign_id,
            CampaignPattern::Prefix(prefix) => campaign_id.starts_with(prefix.as_str()),
        }
    }
}

impl fmt::Display for CampaignPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            CampaignPattern::Id(id) => f.write_str(id),
            CampaignPattern::Prefix(prefix) => write!(f, "{prefix}*"),
        }
    }
}

/// How two numbers are compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operator {
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
    Equal,
    NotEqual,
}

impl Operator {
    /// Every operator.
    pub const ALL: [Operator; 6] = [
        Operator::Less,
        Operator::LessOrEqual,
        Operator::Greater,
        Operator::GreaterOrEqual,
        Operator::Equal,
        Operator::NotEqual,
    ];

    /// As a rule writes it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Operator::Less => "<",
            Operator::LessOrEqual => "<=",
            Operator::Greater => ">",
            Operator::GreaterOrEqual => ">=",
            Operator::Equal => "=",
            Operator::NotEqual => "!=",
        }
    }

    /// Whether it holds between two numbers.
    pub fn holds(self, a: f64, b: f64) -> bool {
        match self {
            Operator::Less => a < b,
            Operator::LessOrEqual => a <= b,
            Operator::Greater => a > b,
            Operator::GreaterOrEqual => a >= b,
            Operator::Equal => a == b,
            Operator::NotEqual => a != b,
        }
    }
}

/// The spans a budget is for, in UTC.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Period {
    Hour,
    Day,
    /// From Monday.
    Week,
    Month,
}

impl Period {
    /// Every period.
    pub const ALL: [Period; 4] = [Period::Hour, Period::Day, Period::Week, Period::Month];

    /// As a rule writes it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Period::Hour => "hour",
            Period::Day => "day",
            Period::Week => "week",
            Period::Month => "month",
        }
    }
}

/// The minutes of a day.
const DAY: u32 = 1_440;

/// A length of time in whole minutes, the finest grain of a projection.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Minutes(pub u32);

impl Minutes {
    /// The longest: 400 days.
    pub const MOST: Minutes = Minutes(400 * DAY);

    /// The same length.
    pub fn length(self) -> Length {
        Length::MINUTE.times(self.0.into())
    }

    /// As days, where it is whole ones.
    pub fn days(self) -> Option<u32> {
        self.0.is_multiple_of(DAY).then_some(self.0 / DAY)
    }
}

impl fmt::Display for Minutes {
    /// `1d2h30m`; nothing is `0m`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (days, hours, minutes) = (self.0 / DAY, self.0 % DAY / 60, self.0 % 60);
        for (number, unit) in [(days, 'd'), (hours, 'h')] {
            if number > 0 {
                write!(f, "{number}{unit}")?;
            }
        }
        if minutes > 0 || self.0 == 0 {
            write!(f, "{minutes}m")?;
        }
        Ok(())
    }
}

/// A number as it was written: exact, in millionths.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Decimal(pub i64);

impl Decimal {
    /// The nearest floating-point number: the one that a value that is equal to it has as well.
    pub fn to_f64(self) -> f64 {
        self.0 as f64 / 1e6
    }
}

impl fmt::Display for Decimal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&Millionths(self.0.into()), f)
    }
}

impl fmt::Display for Condition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Condition::Number {
                metric,
                over,
                operator,
                number,
            } => {
                let (before, metric) = (over.basis.before(), metric.name());
                let operator = operator.as_str();
                write!(f, "{before}{metric} {operator} {number} over {over}")
            }
            Condition::Mean {
                metric,
                over,
                operator,
                percent,
                mean_over,
            } => {
                let (before, metric) = (over.basis.before(), metric.name());
                let operator = operator.as_str();
                write!(
                    f,
                    "{before}{metric} over {over} {operator} {percent}% of mean over {mean_over}"
                )
            }
            Condition::Pace {
                operator,
                percent,
                budget,
                period,
            } => {
                let (operator, period) = (operator.as_str(), period.as_str());
                write!(
                    f,
                    "cost pace {operator} {percent}% of budget {budget} per {period}"
                )
            }
            Condition::NoData { minutes } => write!(f, "no data for {minutes}"),
        }
    }
}

impl fmt::Display for When {
    /// With every window said, also where it was left to the others.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (n, condition) in self.0.iter().enumerate() {
            if n > 0 {
                f.write_str(" and ")?;
            }
            write!(f, "{condition}")?;
        }
        Ok(())
    }
}
