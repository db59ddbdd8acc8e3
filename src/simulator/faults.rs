//! What goes wrong on the way: events that come twice or late, and records nobody can count.

use super::Report;
use super::chance::Chance;
use crate::event::{Count, MAX_SUM, Money, Reason};
use crate::time::{Length, Timestamp};

/// How often something goes wrong, as shares (0 to 1) of all records.
///
/// A record has one fault at most. If the shares add up to more than 1, malformed records get
/// theirs first, then duplicates, then late events. A share that is not a number is 0.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Faults {
    /// One of the last 1,024 events again, byte for byte, as when a producer retries.
    pub duplicates: f64,
    /// An event that happened 1 s to 2 h before it is sent; half of them less than 15 minutes.
    pub late: f64,
    /// A record that must end as a dead letter; all the kinds there are, in turn.
    pub malformed: f64,
}

/// What becomes of a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    Event,
    Late,
    Duplicate,
    Malformed,
}

/// [`Faults`] as thresholds for 32 random bits.
#[derive(Clone, Copy, Debug)]
pub(super) struct Odds {
    malformed: u64,
    duplicate: u64,
    late: u64,
}

impl Odds {
    pub(super) fn of(faults: &Faults) -> Odds {
        // The cast turns NaN into 0, and what is out of range into the nearest bound.
        let of_all = |share: f64| (share.clamp(0.0, 1.0) * (1u64 << 32) as f64) as u64;
        let malformed = of_all(faults.malformed);
        let duplicate = malformed + of_all(faults.duplicates);
        Odds {
            malformed,
            duplicate,
            late: duplicate + of_all(faults.late),
        }
    }

    #[inline]
    pub(super) fn fate(&self, bits: u32) -> Fate {
        match u64::from(bits) {
            // The usual case first.
            n if n >= self.late => Fate::Event,
            n if n < self.malformed => Fate::Malformed,
            n if n < self.duplicate => Fate::Duplicate,
            _ => Fate::Late,
        }
    }
}

const SHORTEST_DELAY: Length = Length::SECOND;
const LONGEST_DELAY: Length = Length::HOUR.times(2);

/// By how much an event is late. Cubing an even draw makes it short mostly: half of all are less
/// than 15 minutes, one in ten more than 87.
pub(super) fn delay(bits: u64) -> Length {
    let even = bits >> 44;
    let cubed = (even * even * even) >> 40;
    let range = LONGEST_DELAY.get() - SHORTEST_DELAY.get();
    Length::new(SHORTEST_DELAY.get() + ((range * cubed as i64) >> 20))
}

/// How far ahead an impossible `event_time` is. A hundred years, because a simulated history can
/// lie far in the past and must not reach the processor's present.
const FAR_AHEAD: Length = Length::DAY.times(36_525);

/// Where the campaign id starts in a value: after the header (5 bytes), and the UUID (36) and the
/// id itself, each with a length of one byte before it.
const CAMPAIGN_AT: usize = 5 + 1 + 36 + 1;

macro_rules! damages {
    ($($(#[$doc:meta])* $name:ident => $reason:ident;)*) => {
        /// The ways a record can be uncountable.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub(super) enum Damage { $($(#[$doc])* $name,)* }

        impl Damage {
            const ALL: &'static [Damage] = &[$(Damage::$name,)*];

            /// Why the pipeline must refuse it.
            pub(super) fn reason(self) -> Reason {
                match self { $(Damage::$name => Reason::$reason,)* }
            }
        }
    };
}

damages! {
    /// Not Confluent framing.
    MagicByte => WrongMagicByte;
    /// A schema id nobody has registered.
    Schema => UnknownSchema;
    /// Cut off somewhere.
    CutOff => Truncated;
    /// One to eight bytes too many.
    Surplus => TrailingBytes;
    /// Random bytes in the right framing.
    Noise => MalformedAvro;
    /// A letter in the UUID that is no hexadecimal digit.
    EventId => InvalidEventId;
    /// A character that is not allowed in a campaign id.
    CampaignId => InvalidCampaignId;
    /// A NUL byte in the campaign id.
    Nul => NulByte;
    /// A fifth platform.
    Platform => UnknownPlatform;
    /// The key of another campaign.
    Key => KeyMismatch;
    /// A number below zero.
    Negative => NegativeValue;
    /// An amount above the limit of any sum.
    Excess => SumOverflow;
    /// Before 1970.
    Past => InvalidEventTime;
    /// A hundred years ahead.
    Future => FutureEventTime;
    /// An event that was sent, with other numbers. Every byte of it is in order.
    Conflict => ConflictingDuplicate;
}

impl Damage {
    pub(super) const FIRST: Damage = Damage::MagicByte;

    /// The next in turn, and after the last the first.
    pub(super) fn next(self) -> Damage {
        let after = Self::ALL.iter().skip_while(|&&d| d != self).nth(1);
        after.copied().unwrap_or(Self::FIRST)
    }

    /// Damages what the record says.
    pub(super) fn to_report(self, report: &mut Report) {
        let counts = &mut report.counts;
        match self {
            Damage::Negative => counts.clicks = Count::new(-1 - counts.clicks.get()),
            Damage::Excess => counts.revenue_micros = Money::new(MAX_SUM + 1),
            Damage::Past => report.event_time = Timestamp::new(-1 - report.event_time.get().max(0)),
            Damage::Future => report.event_time = report.event_time + FAR_AHEAD,
            Damage::Conflict => counts.impressions += Count::new(1),
            _ => {}
        }
    }

    /// Damages how the record of `campaign` is written.
    pub(super) fn to_bytes(
        self,
        campaign: u32,
        key: &mut String,
        value: &mut Vec<u8>,
        chance: &mut Chance,
    ) {
        let bits = chance.bits();
        let below = |bound: usize| (bits % bound as u64) as usize;
        // The byte after the campaign id, and the last of the id itself.
        let platform_at = CAMPAIGN_AT + key.len();
        let character_at = platform_at - 1;
        match self {
            Damage::MagicByte => value[0] = 1,
            Damage::Schema => value[1..5].iter_mut().for_each(|b| *b = !*b),
            Damage::CutOff => value.truncate(1 + below(value.len() - 1)),
            Damage::Surplus => {
                let surplus = 1 + below(8);
                value.extend_from_slice(&chance.bits().to_le_bytes()[..surplus]);
            }
            Damage::Noise => {
                value.truncate(5);
                for _ in 0..4 + below(4) {
                    // With every highest bit set, not even the first length ever ends.
                    let noise = chance.bits() | 0x8080_8080_8080_8080;
                    value.extend_from_slice(&noise.to_le_bytes());
                }
            }
            Damage::EventId => value[6] = b'x',
            Damage::CampaignId => value[character_at] = b'/',
            Damage::Nul => value[character_at] = 0,
            // Zig-zag for 4, one past the last index.
            Damage::Platform => value[platform_at] = 8,
            Damage::Key => super::write_campaign_id(campaign.wrapping_add(1), key),
            Damage::Negative
            | Damage::Excess
            | Damage::Past
            | Damage::Future
            | Damage::Conflict => {}
        }
    }
}

/// What is never wrong with a record of ours: a tombstone is no value at all, only another schema has nulls, each is on its
/// partition, nothing of it was dropped, and reports are no events.
#[cfg(test)]
pub(super) const NOT_OURS: [Reason; 12] = [
    Reason::IncompatibleSchema,
    Reason::NoPayload,
    Reason::NullValue,
    Reason::WrongPartition,
    Reason::TooOld,
    Reason::InvalidAccount,
    Reason::InvalidTimeZone,
    Reason::InvalidCurrency,
    Reason::InvalidDay,
    Reason::TextTooLong,
    Reason::ConflictingReport,
    Reason::MixedReport,
];

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn every_damage_has_its_turn_and_every_reason_its_damage() {
        let mut damage = Damage::FIRST;
        let mut reasons = vec![];
        for _ in Damage::ALL {
            reasons.push(damage.reason());
            damage = damage.next();
        }
        assert_eq!(damage, Damage::FIRST);
        for reason in Reason::ALL.iter().filter(|r| !NOT_OURS.contains(r)) {
            assert!(reasons.contains(reason), "{reason}");
        }
    }

    #[test]
    fn delays_are_one_second_to_two_hours_and_mostly_short() {
        assert_eq!(delay(0), SHORTEST_DELAY);
        let longest = delay(u64::MAX);
        assert!(longest < LONGEST_DELAY && longest.get() > LONGEST_DELAY.get() - 3_600_000);
        let minutes = |delay| delay / Length::MINUTE;
        assert_eq!(minutes(delay(1 << 63)), 15);
        assert_eq!(minutes(delay(u64::MAX / 10 * 9)), 87);
    }

    #[test]
    fn shares_beyond_all_and_nonsense_are_bounded() {
        let odds = |duplicates, late, malformed| {
            Odds::of(&Faults {
                duplicates,
                late,
                malformed,
            })
        };
        assert_eq!(odds(0.0, 0.0, 0.0).fate(0), Fate::Event);
        assert_eq!(odds(f64::NAN, -1.0, -0.0).fate(0), Fate::Event);
        assert_eq!(odds(0.0, 0.0, 1.0).fate(u32::MAX), Fate::Malformed);
        assert_eq!(
            odds(1.0, 1.0, f64::INFINITY).fate(u32::MAX),
            Fate::Malformed
        );
        assert_eq!(odds(1.0, 1.0, 0.5).fate(u32::MAX), Fate::Duplicate);
        assert_eq!(odds(0.25, 1.0, 0.25).fate(u32::MAX), Fate::Late);
    }

    proptest! {
        #[test]
        fn later_bits_mean_longer_delays(a: u64, b: u64) {
            prop_assert!(delay(a.min(b)) <= delay(a.max(b)));
        }
    }
}
