//! With `until_end`: whether everybody, this process or another, has come to where the logs ended at the start.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::bail;

use super::Pump;
use crate::offset::{LogRange, Offset};
use crate::processor::writer::Request;
use crate::progress::Cause;

/// How often it is asked how far everybody has come.
const ASKED: Duration = Duration::from_millis(20);

impl Pump<'_> {
    /// Asks from time to time how far everybody has come.
    pub(super) fn watch_end(&mut self) {
        if self.settings.until_end
            && self.batches.are_empty()
            && self.writers.are_idle()
            && self.positions_asked.elapsed() >= ASKED
        {
            self.positions_asked = Instant::now();
            self.writers.send(0, Request::Positions);
        }
    }

    /// Whether everybody has come to the ends.
    pub(super) fn compare_ends(&mut self, positions: BTreeMap<i32, Offset>) -> anyhow::Result<()> {
        // Nothing is waiting, so what this process has read is committed. A claim may yet find that
        // a position is not of this log; one beyond its end says so already.
        let is_quiet =
            self.batches.are_empty() && self.writers.are_idle() && !self.claims.pending();
        if !is_quiet {
            return Ok(());
        }
        let mut by_others = BTreeMap::new();
        for (partition, end) in &self.ends {
            if self.read_to_end.contains(partition) || self.halted.contains_key(partition) {
                continue;
            }
            match positions.get(partition) {
                Some(next) if next >= end => by_others.insert(*partition, *next),
                _ => return Ok(()),
            };
        }
        if by_others.is_empty() {
            return self.all_at_end();
        }
        if self.checked.is_none() {
            self.scout.ask_ranges(by_others.keys().copied().collect());
            self.checked = Some(by_others);
        }
        Ok(())
    }

    /// What others have counted must be of this log too.
    pub(super) fn check_end(
        &mut self,
        ranges: &BTreeMap<i32, Result<LogRange, Cause>>,
    ) -> anyhow::Result<()> {
        let Some(positions) = self.checked.take_if(|p| p.keys().eq(ranges.keys())) else {
            return Ok(());
        };
        let is_within = |(partition, next): (&i32, &Offset)| {
            let range = ranges.get(partition).and_then(|r| r.as_ref().ok());
            range.is_some_and(|range| *next <= range.end)
        };
        if positions.iter().all(is_within) {
            return self.all_at_end();
        }
        Ok(())
    }

    fn all_at_end(&mut self) -> anyhow::Result<()> {
        if let Some(halted) = self.halted.values().next() {
            bail!("all else is counted, but {}", halted.message);
        }
        self.reached_end = true;
        Ok(())
    }
}
