//! What an advertising platform reports: the [`AdEvent`], and when one is not acceptable.
//!
//! Pure and without I/O: the clock is passed in. Nothing here knows of Avro, Kafka or PostgreSQL.

// Bytes from outside come through here.
#![deny(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

use std::fmt;

use uuid::Uuid;

use crate::time::{Length, Timestamp};

/// How far ahead of the counting clock an `event_time` may be.
pub const MAX_AHEAD: Length = Length::DAY;

/// The largest sum of any field for one campaign and platform, and so the largest value of one
/// event: 2^60 - 1. For money and conversions, which are in millionths, it is about 1.15 trillion: 70 million dollars, in rupiah.
/// So a campaign's sums over all platforms fit an `i64`.
pub const MAX_SUM: i64 = (1 << 60) - 1;

/// The longest campaign id, in bytes (all its characters are ASCII).
pub const MAX_CAMPAIGN_ID_LEN: usize = 64;

/// The advertising platform that sent a report. The discriminants are the indexes of the Avro
/// enum and what the store keeps.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, serde::Serialize)]
#[repr(u8)]
pub enum Platform {
    Meta = 0,
    Google = 1,
    LinkedIn = 2,
    TikTok = 3,
}

impl Platform {
    /// Every platform, by index.
    pub const ALL: [Platform; 4] = [
        Platform::Meta,
        Platform::Google,
        Platform::LinkedIn,
        Platform::TikTok,
    ];

    /// Their names, in the same order.
    pub const NAMES: [&'static str; 4] = ["Meta", "Google", "LinkedIn", "TikTok"];

    /// The platform of this name.
    pub fn from_name(name: &str) -> Option<Platform> {
        Self::ALL.into_iter().find(|p| p.name() == name)
    }

    /// The platform with this Avro enum index.
    pub fn from_index(index: i64) -> Option<Platform> {
        usize::try_from(index)
            .ok()
            .and_then(|i| Self::ALL.get(i).copied())
    }

    /// The index in the Avro enum.
    pub fn index(self) -> u8 {
        self as u8
    }

    /// The name as the Avro enum, SQL and JSON spell it.
    pub fn name(self) -> &'static str {
        let [meta, google, linkedin, tiktok] = Self::NAMES;
        match self {
            Platform::Meta => meta,
            Platform::Google => google,
            Platform::LinkedIn => linkedin,
            Platform::TikTok => tiktok,
        }
    }
}

impl fmt::Display for Platform {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A campaign id that was checked: 1 to 64 characters of `A-Z a-z 0-9 _ . : -`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct CampaignId<'a>(&'a str);

impl<'a> CampaignId<'a> {
    /// Checks `id`.
    ///
    /// # Errors
    /// [`Reason::NulByte`] if it holds a NUL, which PostgreSQL cannot store as text;
    /// [`Reason::InvalidCampaignId`] for any other character or length that is not allowed.
    pub fn parse(id: &'a str) -> Result<CampaignId<'a>, Reason> {
        let allowed = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.' | b':' | b'-');
        if !id.is_empty() && id.len() <= MAX_CAMPAIGN_ID_LEN && id.bytes().all(allowed) {
            Ok(CampaignId(id))
        } else if id.bytes().any(|b| b == 0) {
            Err(Reason::NulByte)
        } else {
            Err(Reason::InvalidCampaignId)
        }
    }

    /// The id as text.
    pub fn as_str(self) -> &'a str {
        self.0
    }
}

impl fmt::Display for CampaignId<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

crate::unit::unit! {
    /// Whole things that were counted.
    Count
}

crate::unit::unit! {
    /// Conversions, in millionths: platforms report fractions of them. Printed as the number they are.
    Conversions, without Display
}

crate::unit::unit! {
    /// An amount in millionths of the currency unit.
    Money
}

/// Units that are added up.
macro_rules! sums {
    ($($unit:ident),*) => {$(
        impl $unit {
            /// Nothing.
            pub const ZERO: $unit = $unit(0);

            /// The sum, if it fits.
            pub fn checked_add(self, more: $unit) -> Option<$unit> {
                self.0.checked_add(more.0).map($unit)
            }

            /// The sum, or the largest number.
            pub const fn saturating_add(self, more: $unit) -> $unit {
                $unit(self.0.saturating_add(more.0))
            }

            /// The difference, or the smallest number.
            pub const fn saturating_sub(self, less: $unit) -> $unit {
                $unit(self.0.saturating_sub(less.0))
            }

            /// The number alone, for a ratio.
            pub const fn as_f64(self) -> f64 {
                self.0 as f64
            }
        }
    )*};
}

sums!(Count, Conversions, Money);

impl Count {
    /// The length of a collection, which always fits.
    pub const fn of(len: usize) -> Count {
        Count(len as i64)
    }

    /// For a counter or a progress bar; a count of things is never below zero.
    pub const fn as_u64(self) -> u64 {
        self.0.unsigned_abs()
    }
}

// Nobody counts as far as the largest number, one by one or in batches.
impl std::ops::AddAssign for Count {
    fn add_assign(&mut self, more: Count) {
        *self = self.saturating_add(more);
    }
}

impl std::iter::Sum for Count {
    fn sum<I: Iterator<Item = Count>>(counts: I) -> Count {
        counts.fold(Count::ZERO, Count::saturating_add)
    }
}

/// So many millionths are one.
pub const MILLION: i64 = 1_000_000;

impl Conversions {
    /// So many whole ones, if they fit.
    pub const fn whole(number: i64) -> Option<Conversions> {
        match number.checked_mul(MILLION) {
            Some(millionths) => Some(Conversions(millionths)),
            None => None,
        }
    }

    /// As they are stored: the largest whole number that is not larger, and what there is beyond it, 0 to 999,999 millionths.
    /// So -1.5 is -2 and 500,000.
    pub const fn parts(self) -> (i64, i32) {
        (
            self.0.div_euclid(MILLION),
            self.0.rem_euclid(MILLION) as i32,
        )
    }

    /// Of what [`Conversions::parts`] gives; none of anything else.
    pub fn of_parts(whole: i64, beyond: i64) -> Option<Conversions> {
        if !(0..MILLION).contains(&beyond) {
            return None;
        }
        if let Some(millionths) = whole.checked_mul(MILLION) {
            return millionths.checked_add(beyond).map(Conversions);
        }
        // The parts of the smallest numbers fit only together.
        let next = whole.checked_add(1)?.checked_mul(MILLION)?;
        next.checked_sub(MILLION.saturating_sub(beyond))
            .map(Conversions)
    }

    /// Whether nothing is beyond whole ones.
    pub const fn is_whole(self) -> bool {
        self.0 % MILLION == 0
    }

    /// How many they are.
    pub const fn in_units(self) -> f64 {
        self.0 as f64 / 1e6
    }
}

impl fmt::Display for Conversions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&Millionths(self.0.into()), f)
    }
}

/// Prints a number of millionths as the number it is, exactly, and without what says nothing: `12`, `1.5`, `-0.000001`.
#[derive(Clone, Copy, Debug)]
pub struct Millionths(pub i128);

impl fmt::Display for Millionths {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const MILLION: u128 = 1_000_000;
        let size = self.0.unsigned_abs();
        let (whole, mut beyond) = (size / MILLION, size % MILLION);
        let sign = if self.0 < 0 { "-" } else { "" };
        if beyond == 0 {
            return write!(f, "{sign}{whole}");
        }
        let mut digits = 6_usize;
        while beyond % 10 == 0 {
            beyond /= 10;
            digits = digits.saturating_sub(1);
        }
        write!(f, "{sign}{whole}.{beyond:0digits$}")
    }
}

impl Money {
    /// In units of the currency.
    pub const fn in_units(self) -> f64 {
        self.0 as f64 / 1e6
    }
}

/// The five sums an event adds to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Counts {
    pub impressions: Count,
    pub clicks: Count,
    pub conversions: Conversions,
    pub cost_micros: Money,
    pub revenue_micros: Money,
}

impl Counts {
    /// From the numbers of its fields, in their order; of conversions, the millionths.
    pub const fn of([impressions, clicks, conversions, cost, revenue]: [i64; 5]) -> Counts {
        Counts {
            impressions: Count(impressions),
            clicks: Count(clicks),
            conversions: Conversions(conversions),
            cost_micros: Money(cost),
            revenue_micros: Money(revenue),
        }
    }

    /// The numbers of its fields, in their order; of conversions, the millionths.
    pub const fn numbers(&self) -> [i64; 5] {
        [
            self.impressions.0,
            self.clicks.0,
            self.conversions.0,
            self.cost_micros.0,
            self.revenue_micros.0,
        ]
    }
}

/// One report: at `event_time`, the campaign had so many more of everything on `platform`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AdEvent<'a> {
    /// Identity, together with `event_time`.
    pub event_id: Uuid,
    pub campaign_id: CampaignId<'a>,
    pub platform: Platform,
    pub event_time: Timestamp,
    pub counts: Counts,
}

impl AdEvent<'_> {
    /// Whether the numbers are acceptable at `now`.
    ///
    /// # Errors
    /// The [`Reason`] the event cannot be counted.
    pub fn validate(&self, now: Timestamp) -> Result<(), Reason> {
        let all = self.counts.numbers();
        if all.iter().any(|&v| v < 0) {
            return Err(Reason::NegativeValue);
        }
        if all.iter().any(|&v| v > MAX_SUM) {
            return Err(Reason::SumOverflow);
        }
        if self.event_time < Timestamp::EPOCH {
            return Err(Reason::InvalidEventTime);
        }
        if self.event_time > now + MAX_AHEAD {
            return Err(Reason::FutureEventTime);
        }
        Ok(())
    }
}

macro_rules! reasons {
    ($($(#[$doc:meta])* $name:ident => $text:literal, $explain:literal;)*) => {
        /// Why a record could not be counted. Stored with the dead letter under its `as_str`.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum Reason { $($(#[$doc])* $name,)* }

        impl Reason {
            /// Every reason.
            pub const ALL: &'static [Reason] = &[$(Reason::$name,)*];

            /// The stable name of each, in the same order.
            pub const NAMES: &'static [&'static str] = &[$($text,)*];

            /// The stable name: a column value, a metric label.
            pub fn as_str(self) -> &'static str {
                match self { $(Reason::$name => $text,)* }
            }

            /// What is wrong and what to do about it, for a person.
            pub fn explain(self) -> &'static str {
                match self { $(Reason::$name => $explain,)* }
            }
        }
    };
}

reasons! {
    /// A record without a value (a tombstone).
    NoPayload => "no_payload",
        "the record has no value; tombstones mean nothing on this topic";
    /// The first byte is not 0.
    WrongMagicByte => "wrong_magic_byte",
        "the value does not start with byte 0: it is not in Confluent framing (0, four bytes of schema id, Avro)";
    /// Framed with a schema id nobody told us about.
    UnknownSchema => "unknown_schema",
        "the schema id is not known here: give its writer's schema with --writer-schema ID=FILE, or the registry that has it with --schema-registry, and later \
         events are counted";
    /// What the registry has under the id is no event and no report row.
    IncompatibleSchema => "incompatible_schema",
        "the schema that the registry has under the id cannot be read as an event or a report row (another record, JSON, Protobuf, \
         one with references): send it to another topic, or register a schema as docs/events.md says";
    /// The value ends before what it says does.
    Truncated => "truncated",
        "the value ends in the middle of a field";
    /// Bytes are left over after the last field.
    TrailingBytes => "trailing_bytes",
        "bytes follow the last field";
    /// Not the Avro encoding of an event or a report row.
    MalformedAvro => "malformed_avro",
        "the bytes are not the Avro encoding of the writer's schema (an over-long number, a negative length, text that is not UTF-8)";
    /// A field is null, which another writer's schema may allow.
    NullValue => "null_value",
        "a field is null that must have a value";
    /// `event_id` is not a UUID.
    InvalidEventId => "invalid_event_id",
        "event_id is not a hyphenated UUID";
    /// The id does not match `[A-Za-z0-9_.:-]{1,64}`.
    InvalidCampaignId => "invalid_campaign_id",
        "campaign_id does not match [A-Za-z0-9_.:-]{1,64}";
    /// A NUL byte in a text.
    NulByte => "nul_byte",
        "a text holds a NUL byte, which PostgreSQL cannot store";
    /// The enum index is none of the platforms.
    UnknownPlatform => "unknown_platform",
        "platform is none of Meta, Google, LinkedIn, TikTok";
    /// The record's key differs from the campaign id.
    KeyMismatch => "key_mismatch",
        "the record's key is not its campaign_id: what one campaign has would be spread over partitions";
    /// The key leads to another partition than the record's, and databases are divided by partitions.
    WrongPartition => "wrong_partition",
        "the record is on another partition than its key leads to (murmur2, as Kafka's own partitioner chooses), and databases are \
         divided by partitions: send it again with `adflux dlq redrive`";
    /// A count or an amount below zero.
    NegativeValue => "negative_value",
        "a count or an amount is negative, or in a report further below zero than something taken back can be; events are increments";
    /// Adding it would pass [`MAX_SUM`].
    SumOverflow => "sum_overflow",
        "with this event a sum of its campaign and platform would pass 2^60 - 1";
    /// Before 1970.
    InvalidEventTime => "invalid_event_time",
        "event_time, or a report's observed_at, is before 1970";
    /// More than 24 hours ahead.
    FutureEventTime => "future_event_time",
        "event_time, or a report's observed_at, is more than 24 hours ahead of the processor's clock";
    /// The same `event_id` was counted with another payload or time.
    ConflictingDuplicate => "conflicting_duplicate",
        "an event with this event_id was counted with another content; the first one stands";
    /// It happened when events did that were dropped, and is not among those that are kept.
    TooOld => "too_old",
        "it happened up to the time of events that adflux retain has dropped, and whether it was counted cannot be looked up any more";
    /// The id of a report's account.
    InvalidAccount => "invalid_account",
        "account is empty, longer than 64 bytes, or has other than visible ASCII characters";
    /// No zone of the IANA database.
    InvalidTimeZone => "invalid_time_zone",
        "time_zone is not a zone of the IANA database, such as Europe/Berlin";
    /// No code of ISO 4217.
    InvalidCurrency => "invalid_currency",
        "currency is not a code of ISO 4217, such as EUR";
    /// A day that had not begun, or of another century.
    InvalidDay => "invalid_day",
        "day is not between 1990 and 2199, or had not begun when the platform was asked (observed_at)";
    /// A name or a slice.
    TextTooLong => "text_too_long",
        "a name, a slice, or what is counted as conversions or revenue, is longer than 1024 bytes";
    /// The platform said something else at the same instant.
    ConflictingReport => "conflicting_report",
        "a report of the same day, slice and observed_at was counted with other numbers; the first one stands";
    /// The day's other rows mean something else.
    MixedReport => "mixed_report",
        "the campaign's day is counted from reports of another platform, account, time zone, currency, grain, or definition of \
         conversions or revenue; numbers of two kinds are not added up: move the day over with `adflux import --replace`";
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.as_str(), self.explain())
    }
}

impl std::error::Error for Reason {}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn event(counts: Counts, event_time: Timestamp) -> AdEvent<'static> {
        AdEvent {
            event_id: Uuid::nil(),
            campaign_id: CampaignId::parse("cmp-1").expect("valid"),
            platform: Platform::Meta,
            event_time,
            counts,
        }
    }

    #[test]
    fn campaign_ids_are_checked() {
        for good in ["a", "cmp-42", "A.b:c_d-9", &"x".repeat(64)] {
            assert_eq!(CampaignId::parse(good).map(CampaignId::as_str), Ok(good));
        }
        for bad in ["", " ", "a b", "ü", "a/b", "a\n", &"x".repeat(65)] {
            assert_eq!(
                CampaignId::parse(bad),
                Err(Reason::InvalidCampaignId),
                "{bad:?}"
            );
        }
        assert_eq!(CampaignId::parse("a\0b"), Err(Reason::NulByte));
    }

    #[test]
    fn numbers_are_checked() {
        let now = Timestamp::EPOCH + Length::DAY.times(1_000);
        assert_eq!(event(Counts::default(), now).validate(now), Ok(()));
        assert_eq!(
            event(Counts::default(), now + MAX_AHEAD).validate(now),
            Ok(())
        );
        assert_eq!(
            event(Counts::default(), now + MAX_AHEAD + Length::MICROSECOND).validate(now),
            Err(Reason::FutureEventTime)
        );
        assert_eq!(
            event(Counts::default(), Timestamp::new(-1)).validate(now),
            Err(Reason::InvalidEventTime)
        );
        let with = |clicks| Counts::of([0, clicks, 0, 0, 0]);
        assert_eq!(
            event(with(-1), now).validate(now),
            Err(Reason::NegativeValue)
        );
        assert_eq!(
            event(with(i64::MIN), now).validate(now),
            Err(Reason::NegativeValue)
        );
        assert_eq!(event(with(MAX_SUM), now).validate(now), Ok(()));
        assert_eq!(
            event(with(MAX_SUM + 1), now).validate(now),
            Err(Reason::SumOverflow)
        );
    }

    proptest! {
        #[test]
        fn conversions_are_split_and_put_together(millionths in prop_oneof![
            any::<i64>(), -3 * MILLION..3 * MILLION, Just(i64::MIN), Just(i64::MAX)
        ]) {
            let conversions = Conversions::new(millionths);
            let (whole, beyond) = conversions.parts();
            prop_assert!((0..1_000_000).contains(&beyond));
            prop_assert_eq!(Conversions::of_parts(whole, beyond.into()), Some(conversions));
            prop_assert_eq!(conversions.is_whole(), beyond == 0);
            prop_assert_eq!(Conversions::whole(whole).is_some_and(|c| c == conversions), beyond == 0);
        }

        #[test]
        fn conversions_are_printed_exactly_and_shortly(millionths in prop_oneof![any::<i64>(), -3 * MILLION..3 * MILLION]) {
            let text = Conversions::new(millionths).to_string();
            let (whole, beyond) = text.split_once('.').unwrap_or((&text, ""));
            prop_assert!(beyond.len() <= 6 && !beyond.ends_with('0') && !text.ends_with('.'), "{}", text);
            let read: i128 = format!("{whole}{beyond:0<6}").parse().expect("digits");
            prop_assert_eq!(read, i128::from(millionths));
        }
    }

    #[test]
    fn conversions_by_hand() {
        for (millionths, text, parts) in [
            (0, "0", (0, 0)),
            (12 * MILLION, "12", (12, 0)),
            (1_500_000, "1.5", (1, 500_000)),
            (-1_500_000, "-1.5", (-2, 500_000)),
            (-1, "-0.000001", (-1, 999_999)),
            (1, "0.000001", (0, 1)),
            (10 * MILLION + 10, "10.00001", (10, 10)),
            (
                MAX_SUM,
                "1152921504606.846975",
                (1_152_921_504_606, 846_975),
            ),
        ] {
            let conversions = Conversions::new(millionths);
            assert_eq!(conversions.to_string(), text);
            assert_eq!(conversions.parts(), parts);
        }
        assert_eq!(Conversions::whole(i64::MAX / MILLION + 1), None);
        assert_eq!(Conversions::of_parts(i64::MAX / MILLION, 999_999), None);
        for beyond in [-1, MILLION] {
            assert_eq!(Conversions::of_parts(1, beyond), None);
        }
    }

    #[test]
    fn reasons_have_names_of_their_own() {
        let mut names: Vec<_> = Reason::ALL.iter().map(|r| r.as_str()).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), Reason::ALL.len());
    }
}
