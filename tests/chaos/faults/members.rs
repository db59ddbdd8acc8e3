//! Row 5: a further member joins or leaves every two seconds.

use std::time::{Duration, Instant};

use anyhow::Context as _;
use nix::sys::signal::Signal;

use crate::fleet::Process;
use crate::lab::{HANG, Lab, Positions, has_moved};
use crate::table::Row;
use crate::wait::wait_until;

const INTERVAL: Duration = Duration::from_secs(2);

/// A member that comes and goes; in the background of another row, if that row is run too.
pub struct Members {
    left: usize,
    next: Instant,
    member: Option<Process>,
    /// What the last change may have touched.
    waiting: Option<(Positions, Instant)>,
    row: Row,
}

impl Members {
    /// One that is to come or go so many times.
    pub fn new(times: usize) -> Members {
        Members {
            left: times,
            next: Instant::now(),
            member: None,
            waiting: None,
            row: Row {
                number: 5,
                name: "members join and leave",
                ..Row::default()
            },
        }
    }

    /// Does what is due.
    pub fn go_on(&mut self, lab: &mut Lab) -> anyhow::Result<()> {
        if let Some((then, since)) = &self.waiting {
            let moved = lab.positions().is_some_and(|now| has_moved(then, &now));
            if moved {
                self.row.recoveries.push(since.elapsed());
                self.waiting = None;
            } else if since.elapsed() > HANG {
                self.row
                    .violation(format!("stood still for {HANG:?}: {then:?}"));
                self.waiting = None;
            }
        }
        if self.left == 0 || Instant::now() < self.next {
            return Ok(());
        }
        self.left -= 1;
        self.next = Instant::now() + INTERVAL;
        match self.member.take() {
            None => self.member = Some(lab.fleet.extra("member")?),
            Some(mut member) => leave(&mut member, &mut self.row)?,
        }
        self.row.injected += 1;
        if self.waiting.is_none()
            && let Some(positions) = lab.positions()
        {
            self.waiting = Some((positions, Instant::now()));
        }
        Ok(())
    }
}

fn leave(member: &mut Process, row: &mut Row) -> anyhow::Result<()> {
    if let Some(status) = member.ended()? {
        row.violation(format!("a member ended by itself: {status}"));
        return Ok(());
    }
    member.signal(Signal::SIGTERM)?;
    wait_until(HANG, "a member leaves on SIGTERM", || {
        Ok(member.ended()?.is_some())
    })
}

/// Lets members come and go, as far as they have not done so in the background of an earlier row.
pub fn join_and_leave(lab: &mut Lab, times: usize, row: &mut Row) -> anyhow::Result<()> {
    let mut members = lab.members.take().unwrap_or_else(|| Members::new(times));
    // Nobody has looked after it since that row.
    members.waiting = None;
    lab.members = Some(members);
    wait_until(
        INTERVAL * 3 * (times as u32) + HANG,
        "members come and go",
        || {
            lab.look_after(row)?;
            let members = lab.members.as_ref().context("members")?;
            Ok(members.left == 0 && members.waiting.is_none())
        },
    )?;
    let mut members = lab.members.take().context("members")?;
    if let Some(mut member) = members.member.take() {
        leave(&mut member, &mut members.row)?;
    }
    row.injected += members.row.injected;
    row.recoveries.append(&mut members.row.recoveries);
    row.violations.append(&mut members.row.violations);
    Ok(())
}
