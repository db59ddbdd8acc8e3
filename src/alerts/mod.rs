//! Alerts: rules over what campaigns earn, each of which opens once and resolves once.
//!
//! ```text
//! file, draft ─▶ parse ─▶ rule                  what somebody wrote, refused with the place of the fault
//!                          │
//! sums after a commit ─▶ evaluate: does it hold, what follows?        past: the same over yesterday
//! partitions ─▶ watermark: up to when is all counted?                 facts: whose days (calendar), and how those will
//!                          │                                                 still grow (growth, of what is learned)
//!     watch ─▶ round, ONE transaction: alerts · outbox ─▶ deliver ─▶ webhooks
//!     overdue: whose reports stay away
//!                          ▼
//!              the log · GET /alerts · the live feed                  command: `adflux alerts`
//!                            ▲
//!                         current: what is it measured at now?
//! ```

pub mod calendar;
pub mod command;
pub mod current;
pub mod deliver;
pub mod document;
pub mod draft;
pub mod evaluate;
pub mod facts;
pub mod file;
pub mod growth;
pub mod learned;
pub mod overdue;
pub mod parse;
pub mod past;
pub mod round;
pub mod rule;
pub mod watch;
pub mod watermark;

use std::path::Path;

use self::overdue::Overdue;
use crate::expected::provisional::ProvisionalDays;

/// What a processor brings to alerts: the file of rules, if it was given one, and what there is to know beside.
#[derive(Clone, Default)]
pub struct Settings {
    pub given: Option<watch::Given>,
    pub webhooks: Vec<deliver::Webhook>,
    /// Whether the name of a webhook may lead to an address of the inside.
    pub private_webhooks: bool,
    /// For how long platforms restate a day.
    pub provisional_days: ProvisionalDays,
    /// When the reports of an account stay away.
    pub reports_overdue: Overdue,
}

impl Settings {
    /// Reads the file of rules, and the environment for the secrets of its webhooks.
    ///
    /// # Errors
    /// When the file is not as it must be, or a variable is not set.
    pub fn read(file: Option<&Path>) -> anyhow::Result<Settings> {
        let Some(path) = file else {
            return Ok(Settings::default());
        };
        let file = file::read(path)?;
        let webhooks: Vec<deliver::Webhook> = file
            .webhooks
            .iter()
            .map(deliver::Webhook::of)
            .collect::<anyhow::Result<_>>()?;
        let given = watch::Given {
            rules: file.rules.into_iter().map(|(draft, _)| draft).collect(),
            webhooks: webhooks
                .iter()
                .map(|w| (w.name().to_owned(), w.receiver()))
                .collect(),
        };
        Ok(Settings {
            given: Some(given),
            webhooks,
            ..Settings::default()
        })
    }
}
