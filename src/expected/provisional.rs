//! How long platforms restate a day: until then what is known of it is provisional.

use std::fmt;
use std::str::FromStr;

use chrono::{Days, NaiveDate};
use chrono_tz::Tz;

use crate::event::Platform;
use crate::store::read::report_days::ReportDay;
use crate::time::{Timestamp, midnight};

/// By platform, for how many days after a day it is restated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProvisionalDays([u8; Platform::ALL.len()]);

impl Default for ProvisionalDays {
    fn default() -> ProvisionalDays {
        ProvisionalDays([30; Platform::ALL.len()])
    }
}

/// Reads `meta=28,google=30`; platforms that are not named have the default.
impl FromStr for ProvisionalDays {
    type Err = String;

    fn from_str(text: &str) -> Result<ProvisionalDays, String> {
        let mut all = ProvisionalDays::default();
        let mut seen = Vec::new();
        for part in text.split(',') {
            let (name, days) = part
                .split_once('=')
                .ok_or_else(|| format!("'{part}' is not PLATFORM=DAYS, such as meta=28"))?;
            let named = |platform: &Platform| platform.name().eq_ignore_ascii_case(name.trim());
            let platform = Platform::ALL.into_iter().find(named).ok_or_else(|| {
                let names = Platform::NAMES.join(", ").to_ascii_lowercase();
                format!("'{name}' is no platform; there are {names}")
            })?;
            if seen.contains(&platform) {
                return Err(format!("'{name}' stands there twice"));
            }
            seen.push(platform);
            let number = days.trim().parse().ok();
            let number = number
                .filter(|days| (1..=90).contains(days))
                .ok_or_else(|| format!("'{days}' is not a number of days from 1 to 90"))?;
            if let Some(of_platform) = all.0.get_mut(usize::from(platform.index())) {
                *of_platform = number;
            }
        }
        Ok(all)
    }
}

impl fmt::Display for ProvisionalDays {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (n, (platform, days)) in Platform::ALL.iter().zip(self.0).enumerate() {
            let comma = if n == 0 { "" } else { "," };
            write!(f, "{comma}{}={days}", platform.name().to_ascii_lowercase())?;
        }
        Ok(())
    }
}

impl ProvisionalDays {
    /// How many days after a day a platform restates it.
    pub fn of(self, platform: Platform) -> u8 {
        let days = self.0.get(usize::from(platform.index()));
        days.copied().unwrap_or_default()
    }

    /// The most of any platform.
    pub fn most(self) -> u8 {
        self.0.into_iter().max().unwrap_or_default()
    }

    /// Whether what is known of a day is provisional: its platform was last asked before it had settled. None where the calendar
    /// ends, or the zone is none that is known.
    pub fn is_provisional(self, known: &ReportDay) -> Option<bool> {
        let zone: Tz = known.time_zone.parse().ok()?;
        let settled = self.settled_at(known.platform, zone, known.day)?;
        Some(known.observed_at < settled)
    }

    /// So many days, as calendars of the zone show them, after the end of a day.
    pub fn settled_at(self, platform: Platform, zone: Tz, day: NaiveDate) -> Option<Timestamp> {
        let after = day
            .succ_opt()?
            .checked_add_days(Days::new(self.of(platform).into()))?;
        midnight(zone, after).map(Timestamp::from)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::totals::metric::Sums;

    #[test]
    fn days_are_read_by_platform_and_written_the_same_way() {
        let read = |text: &str| text.parse::<ProvisionalDays>();
        let all = "meta=30,google=30,linkedin=30,tiktok=30";
        assert_eq!(ProvisionalDays::default().to_string(), all);
        let some = read("Google=90, meta=1").expect("valid");
        assert_eq!(some.to_string(), "meta=1,google=90,linkedin=30,tiktok=30");
        assert_eq!(read(&some.to_string()), Ok(some));
        for (wrong, why) in [
            ("", "PLATFORM=DAYS"),
            ("30", "PLATFORM=DAYS"),
            ("meta=0", "from 1 to 90"),
            ("meta=91", "from 1 to 90"),
            ("meta=x", "from 1 to 90"),
            ("bing=7", "'bing' is no platform"),
            ("meta=7,meta=8", "twice"),
        ] {
            let said = read(wrong).expect_err(wrong);
            assert!(said.contains(why), "{wrong}: {said}");
        }
    }

    #[test]
    fn a_day_settles_so_many_days_after_its_end_in_its_zone() {
        let days: ProvisionalDays = "google=2".parse().expect("valid");
        let known = |observed_at: &str| ReportDay {
            platform: Platform::Google,
            time_zone: "America/New_York".to_owned(),
            day: "2024-03-09".parse().expect("a date"),
            observed_at: chrono::DateTime::parse_from_rfc3339(observed_at)
                .expect("an instant")
                .to_utc()
                .into(),
            partial: Sums::default(),
            unknown: Sums::default(),
        };
        // Clocks go forward on the 10th.
        for (observed_at, is_provisional) in [
            ("2024-03-09T12:00:00Z", true),
            ("2024-03-12T03:59:59Z", true),
            ("2024-03-12T04:00:00Z", false),
        ] {
            assert_eq!(
                days.is_provisional(&known(observed_at)),
                Some(is_provisional)
            );
        }
    }
}
