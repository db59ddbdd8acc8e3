//! Holds the rules against what is counted, and opens and resolves alerts.
//!
//! Every processor runs this; the one that gets the advisory lock evaluates, the others wait for it.
//! It looks several times a second which campaigns have changed, whoever counted them, and holds the
//! rules against those; with each new minute that a partition has been counted up to, as windows move on, against all
//! of its campaigns. A round reads the sums, the alerts there are, and writes what follows, with what is to be
//! delivered, in one transaction from one snapshot. So an alert opens once and resolves once, whatever is killed
//! when.
//!
//! What is not known is not decided: the rules are held against what was so up to the [watermark](super::watermark).
//! While that is too long ago, campaigns open nothing, and one alert says so of the pipeline.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use diesel::PgConnection;
use diesel::connection::SimpleConnection;

use super::Settings;
use super::calendar::Calendar;
use super::document::{Document, Measured};
use super::draft::Draft;
use super::evaluate::{Phase, Verdict, end_of_minute};
use super::facts::Facts;
use super::learned::Learned;
use super::overdue;
use super::round::{About, NO_CAMPAIGN, Round, Subject, phase_of, tell_log};
use super::rule::{Minutes, PIPELINE, Rule, Severity};
use super::watermark::{Behind, LATE, Watermarks};
use crate::metrics;
use crate::outage::Outage;
use crate::pause::pause;
use crate::store::keep::alerts::episodes::{self, Episode};
use crate::store::keep::alerts::{counted, deliveries, lead, measure, rules};
use crate::store::read::changes::{self, Positions, Since};
use crate::store::read::insights::Window;
use crate::store::{self, Limits, StoreError, StreamId};
use crate::time::{Length, Timestamp};

/// How often it is looked what has changed.
const INTERVAL: Duration = Duration::from_millis(100);
/// How often somebody who waits for the lock tries.
const TRY_INTERVAL: Duration = Duration::from_secs(1);
/// After a round, as many times its length are left to others: a fifth of one connection at most.
const REST: u32 = 4;
/// No rest is longer, so that the lock is kept.
const LONGEST_REST: Duration = Duration::from_secs(10);
/// Campaigns of one round.
const CHUNK: usize = 1_000;
/// When more have changed, it is simpler to look at all.
const MAX_CHANGED: usize = 5_000;
/// How often the outbox is cleaned.
const CLEAN_INTERVAL: Duration = Duration::from_secs(600);
/// How often it is looked whose reports stay away, which come by the hour at most; and after that, as many times its
/// length are left to others.
const REPORTS_INTERVAL: Duration = Duration::from_secs(1);
const REPORTS_REST: u32 = 50;
/// How long a round may take to learn how the days of accounts grow: the rules of others wait for it.
const LEARNING: Duration = Duration::from_secs(2);
/// So that partitions that change hands, or whose backlog is counted by then, open none.
const PIPELINE_HOLD: Minutes = Minutes(1);

/// What the file of rules brings.
#[derive(Clone, Debug, Default)]
pub struct Given {
    pub rules: Vec<Draft>,
    /// Names of webhooks and, for people, where they are.
    pub webhooks: Vec<(String, String)>,
}

/// Evaluates until `done`. A database that is away is waited for. With no file given, the rules
/// that the last file brought stay.
pub fn run(database_url: &str, settings: &Settings, done: &AtomicBool) {
    let outage = Outage::forgiving();
    while !done.load(Ordering::Relaxed) {
        let led = store::connect(database_url, Limits::PROCESSOR).and_then(|mut connection| {
            let led = lead_until(&mut connection, settings, done, &outage);
            // The processor says when the database is away. What fails while it answers, and not
            // only because another transaction came first, is another matter.
            if let Err(error) = &led
                && connection.batch_execute("SELECT 1").is_ok()
            {
                outage.failed(format_args!(
                    "evaluating alerts fails: {error}; trying again each second"
                ));
            }
            led
        });
        if led.is_err() {
            pause(TRY_INTERVAL, done);
        }
    }
}

/// Waits for its turn and evaluates, until `done`.
fn lead_until(
    connection: &mut PgConnection,
    settings: &Settings,
    done: &AtomicBool,
    outage: &Outage,
) -> Result<(), StoreError> {
    while !lead(connection)? {
        if !pause(TRY_INTERVAL, done) {
            return Ok(());
        }
    }
    log::debug!("this process evaluates the alert rules");
    if let Some(given) = &settings.given {
        rules::take_file(connection, &given.rules, &given.webhooks)?;
    }
    let mut watch = Watch::new(settings);
    let mut clean_at = Instant::now();
    while !done.load(Ordering::Relaxed) {
        let started = Instant::now();
        watch.look(connection, done)?;
        outage.ended(format_args!("alerts are evaluated again"));
        if clean_at <= started {
            deliveries::clean(connection)?;
            clean_at = started + CLEAN_INTERVAL;
        }
        let rest = started.elapsed() * REST;
        pause(rest.clamp(INTERVAL, LONGEST_REST), done);
    }
    Ok(())
}

/// What the evaluating process knows from look to look. All of it can be found out again.
struct Watch<'a> {
    settings: &'a Settings,
    stored: Vec<rules::Stored>,
    rules: Vec<Rule>,
    /// Up to where changes were seen; none: nothing was.
    seen: Option<Positions>,
    watermarks: Watermarks,
    /// The minutes up to which the campaigns of each partition were looked at last.
    minutes: BTreeMap<StreamId, Option<Timestamp>>,
    /// Whether there is nothing to be said of the pipeline.
    is_pipeline_quiet: bool,
    /// When it is looked again whose reports stay away.
    reports_at: Instant,
    learned: Learned,
}

impl<'a> Watch<'a> {
    fn new(settings: &'a Settings) -> Watch<'a> {
        Watch {
            settings,
            stored: Vec::new(),
            rules: Vec::new(),
            seen: None,
            watermarks: Watermarks::default(),
            minutes: BTreeMap::new(),
            is_pipeline_quiet: false,
            reports_at: Instant::now(),
            learned: Learned::within(LEARNING),
        }
    }

    /// Evaluates what may have changed since the last look.
    fn look(&mut self, connection: &mut PgConnection, done: &AtomicBool) -> Result<(), StoreError> {
        let stored = rules::all(connection)?;
        let has_new_rules = stored != self.stored;
        if has_new_rules {
            self.rules = understood(&stored);
            self.stored = stored;
        }
        let partitions = counted::partitions(connection)?;
        self.watermarks
            .advance(&partitions, store::clock(connection)?.into());
        self.look_at_pipeline(connection)?;
        self.look_at_reports(connection)?;
        let minutes = self.watermarks.minutes();
        let changes = match &self.seen {
            Some(seen) => {
                let since = Since::Positions(seen.clone());
                changes::since(connection, &since, MAX_CHANGED)?
            }
            // Where to go on from, before everything is looked at.
            None => changes::since(connection, &Since::Commits(BTreeMap::new()), 0)?,
        };
        match changes.campaigns {
            Some(changed) if self.seen.is_some() && !has_new_rules => {
                let moved = minutes
                    .iter()
                    .filter(|(s, at)| self.minutes.get(s) != Some(at));
                let moved: Vec<StreamId> = moved.map(|(stream, _)| *stream).collect();
                let is_left = |stream: &StreamId| !moved.contains(stream);
                let changed = changed.into_iter().filter(|c| is_left(&c.stream));
                let names: Vec<String> = changed.map(|c| c.sums.campaign_id).collect();
                for chunk in names.chunks(CHUNK) {
                    self.evaluate(connection, chunk)?;
                }
                if !moved.is_empty() {
                    self.evaluate_all(connection, Some(&moved), done)?;
                }
            }
            _ => self.evaluate_all(connection, None, done)?,
        }
        // Only now: after a failure it is all looked at again.
        self.seen = Some(changes.positions);
        self.minutes = minutes;
        Ok(())
    }

    /// Evaluates all campaigns, or those that may come on some partitions.
    fn evaluate_all(
        &mut self,
        connection: &mut PgConnection,
        on: Option<&[StreamId]>,
        done: &AtomicBool,
    ) -> Result<(), StoreError> {
        let mut after = String::new();
        while !done.load(Ordering::Relaxed) {
            let campaigns = counted::campaigns_after(connection, &after, on, CHUNK)?;
            let Some(last) = campaigns.last() else {
                break;
            };
            after = last.clone();
            self.evaluate(connection, &campaigns)?;
        }
        Ok(())
    }

    /// Opens and resolves the one alert of the pipeline.
    fn look_at_pipeline(&mut self, connection: &mut PgConnection) -> Result<(), StoreError> {
        let behind = self.watermarks.behind();
        if behind.is_none() && self.is_pipeline_quiet {
            return Ok(());
        }
        let to = self.all_told();
        let rule = Subject {
            rule: PIPELINE,
            about: About::Pipeline,
            condition: format!("pipeline more than {LATE} behind"),
            severity: Severity::Critical,
            webhooks: &to,
        };
        let (moved, is_quiet) =
            connection
                .build_transaction()
                .repeatable_read()
                .run(|connection| {
                    let now = store::clock(connection)?;
                    let before = episodes::unresolved(connection, &[NO_CAMPAIGN])?.pop();
                    let (phase, transition) = phase_of(before.as_ref()).step(
                        Some(behind.is_some()),
                        PIPELINE_HOLD,
                        now.into(),
                    );
                    let measured = transition.map(|_| vec![behind_by(&rule.condition, behind)]);
                    let mut round = Round::new(now);
                    round.follow(&rule, before, phase, transition, measured, now);
                    let is_muted = rules::muted(connection, PIPELINE)?.is_some();
                    let moved = round.write(connection, |_| is_muted)?;
                    Ok::<_, StoreError>((moved, phase == Phase::Quiet))
                })?;
        self.is_pipeline_quiet = is_quiet;
        moved.iter().for_each(tell_log);
        Ok(())
    }

    /// Opens and resolves the alert of each account whose reports stay away.
    fn look_at_reports(&mut self, connection: &mut PgConnection) -> Result<(), StoreError> {
        let began = Instant::now();
        if began < self.reports_at {
            return Ok(());
        }
        let is_behind = self.watermarks.behind().is_some();
        let (overdue, to) = (self.settings.reports_overdue, self.all_told());
        let told = connection
            .build_transaction()
            .repeatable_read()
            .run(|connection| overdue::round(connection, overdue, is_behind, &to))?;
        told.iter().for_each(tell_log);
        // It is of all campaigns.
        let rest = (began.elapsed() * REPORTS_REST).max(REPORTS_INTERVAL);
        self.reports_at = Instant::now() + rest;
        Ok(())
    }

    /// The webhooks of what is about no rule: all that some rule names.
    fn all_told(&self) -> Vec<String> {
        let all: BTreeSet<&String> = self.rules.iter().flat_map(|rule| &rule.to).collect();
        all.into_iter().cloned().collect()
    }

    /// One round: these campaigns, in one transaction.
    fn evaluate(
        &mut self,
        connection: &mut PgConnection,
        campaigns: &[String],
    ) -> Result<(), StoreError> {
        let _timer = metrics::ALERT_SECONDS.start_timer();
        let told = connection
            .build_transaction()
            .repeatable_read()
            .run(|connection| self.round(connection, campaigns))?;
        told.iter().for_each(tell_log);
        Ok(())
    }

    fn round(
        &mut self,
        connection: &mut PgConnection,
        campaigns: &[String],
    ) -> Result<Vec<Document>, StoreError> {
        let now = store::clock(connection)?;
        let names: Vec<&str> = campaigns.iter().map(String::as_str).collect();
        let mut there: BTreeMap<(String, String), Episode> =
            episodes::unresolved(connection, &names)?
                .into_iter()
                .map(|e| ((e.campaign_id.clone(), e.rule_name.clone()), e))
                .collect();
        let concerned: Vec<&str> = names
            .into_iter()
            .filter(|name| self.rules.iter().any(|r| r.scope.has_campaign(name)))
            .collect();
        let lives = counted::lives(connection, &concerned)?;
        let up_to: HashMap<&str, Option<Timestamp>> = lives
            .iter()
            .map(|(name, life)| (name.as_str(), self.watermarks.of(life)))
            .collect();
        let rules: Vec<&Rule> = self.rules.iter().collect();
        let days = self.settings.provisional_days;
        let first = now.into();
        let learned = &mut self.learned;
        let facts = Facts::read(connection, &concerned, &rules, first, days, learned)?;
        let moments: HashSet<(Timestamp, Calendar)> = up_to
            .iter()
            .filter_map(|(name, at)| Some((end_of_minute((*at)?), facts.calendar(name))))
            .collect();
        let windows: HashSet<Window> = moments
            .iter()
            .flat_map(|(end, calendar)| {
                let last = *end - Length::MICROSECOND;
                self.rules
                    .iter()
                    .flat_map(move |r| r.windows(last, *calendar))
            })
            .collect();
        let windows: Vec<Window> = windows.into_iter().collect();
        let sums = measure::sums(connection, &concerned, &windows)?;
        let mut round = Round::new(now);
        for campaign in concerned {
            let Some(life) = lives.get(campaign) else {
                continue;
            };
            let at = up_to.get(campaign).copied().flatten();
            for rule in &self.rules {
                if !rule.scope.has_campaign(campaign) {
                    continue;
                }
                let of_campaign = facts.of(campaign, life.first_event_time);
                let verdict = at.map(|at| {
                    rule.when.measure(at, &of_campaign, &|window| {
                        sums.of(campaign, window, |p| rule.scope.has_platform(p))
                    })
                });
                let holds = verdict.as_ref().and_then(Verdict::holds);
                let at = at.and_then(Timestamp::datetime).unwrap_or(now);
                let before = there.remove(&(campaign.to_owned(), rule.name.clone()));
                let (phase, transition) =
                    phase_of(before.as_ref()).step(holds, rule.hold, at.into());
                let measured = verdict
                    .filter(|_| transition.is_some())
                    .map(|verdict| Measured::of(&rule.when, &verdict));
                let subject = Subject::of(rule, campaign);
                round.follow(&subject, before, phase, transition, measured, at);
            }
        }
        for orphan in there.into_values() {
            round.resolve_orphan(orphan);
        }
        let muted = self.stored.iter().filter(|s| s.muted_until > Some(now));
        let muted: HashSet<&str> = muted.map(|s| s.draft.name.as_str()).collect();
        round.write(connection, |rule| muted.contains(rule))
    }
}

/// How far the pipeline is behind, in minutes.
fn behind_by(condition: &str, behind: Option<Behind>) -> Measured {
    let by = behind.map_or(Some(Length::new(0)), |behind| behind.by);
    Measured {
        condition: condition.to_owned(),
        value: by.map(|by| (by / Length::SECOND) as f64 / 60.0),
        threshold: Some(f64::from(LATE.0)),
    }
}

/// The stored rules as rules. They were checked before they were stored, by this version or another.
fn understood(stored: &[rules::Stored]) -> Vec<Rule> {
    let mut out = Vec::with_capacity(stored.len());
    for one in stored {
        match one.draft.check(&|_| true) {
            Ok(rule) => out.push(rule),
            Err(refusal) => log::error!(
                "rule '{}' of alerts is left out: {}: {}",
                one.draft.name,
                refusal.part.field(),
                refusal.message
            ),
        }
    }
    out
}
