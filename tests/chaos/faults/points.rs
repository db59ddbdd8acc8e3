//! Rows 2 and 4: the processor ends, or is frozen, at a named point (`adflux::crash`).

use std::collections::BTreeMap;
use std::os::unix::process::ExitStatusExt as _;
use std::time::{Duration, Instant};

use adflux::crash::POINTS;
use anyhow::bail;
use nix::sys::signal::Signal;
use rand::RngExt as _;
use rand::seq::SliceRandom as _;

use crate::fleet::PROCESSORS;
use crate::lab::{HANG, Lab, Positions, was_taken_over};
use crate::table::Row;
use crate::wait::{last, wait_until};

const INTERVAL: Duration = Duration::from_millis(20);
/// A processor that has not come to its point after this long is asked to leave the group, which
/// brings it to the last of them; any other is started anew.
const PATIENCE: Duration = Duration::from_secs(15);

/// Partitions that stand still, and since when.
struct Waiting {
    partitions: Positions,
    since: Instant,
}

/// Every processor is to end at some point, in turn, until each point had its share.
pub fn killed(lab: &mut Lab, times: usize, row: &mut Row) -> anyhow::Result<()> {
    let mut queue: Vec<&str> = POINTS.iter().flat_map(|p| vec![*p; times]).collect();
    queue.shuffle(&mut lab.chance);
    let mut armed: [Option<(&str, Instant)>; PROCESSORS] = [None; PROCESSORS];
    let mut passed = BTreeMap::<&str, usize>::new();
    let mut waiting: Vec<Waiting> = Vec::new();
    for slot in 0..PROCESSORS {
        arm(lab, &mut queue, &mut armed, slot)?;
    }
    while armed.iter().any(Option::is_some) || !waiting.is_empty() {
        for slot in 0..PROCESSORS {
            let Some((point, since)) = armed[slot] else {
                continue;
            };
            let process = &mut lab.fleet.slots[slot].process;
            match process.ended()? {
                Some(status) if status.signal() == Some(Signal::SIGKILL as i32) => {
                    row.injected += 1;
                    *passed.entry(point).or_default() += 1;
                    let (pid, since) = (process.pid(), Instant::now());
                    arm(lab, &mut queue, &mut armed, slot)?;
                    let partitions = Lab::owned(&lab.positions_now()?, pid);
                    if !partitions.is_empty() {
                        waiting.push(Waiting { partitions, since });
                    }
                }
                Some(status) if status.success() => {
                    // It left before it came to its point.
                    queue.push(point);
                    arm(lab, &mut queue, &mut armed, slot)?;
                }
                Some(status) => {
                    row.violation(format!("ended by itself ({status}), armed with {point}"));
                    arm(lab, &mut queue, &mut armed, slot)?;
                }
                None if since.elapsed() > PATIENCE => {
                    process.signal(Signal::SIGTERM)?;
                    armed[slot] = Some((point, Instant::now()));
                }
                None => {}
            }
        }
        if let Some(now) = lab.positions() {
            waiting.retain(|waiting| {
                let well = was_taken_over(&waiting.partitions, &now);
                if well {
                    row.recoveries.push(waiting.since.elapsed());
                }
                !well
            });
        }
        if let Some(hung) = waiting.iter().find(|w| w.since.elapsed() > HANG) {
            row.violation(format!("stood still for {HANG:?}: {:?}", hung.partitions));
            break;
        }
        last(INTERVAL)?;
    }
    eprintln!("killed at: {passed:?}");
    Ok(())
}

fn arm(
    lab: &mut Lab,
    queue: &mut Vec<&'static str>,
    armed: &mut [Option<(&'static str, Instant)>; PROCESSORS],
    slot: usize,
) -> anyhow::Result<()> {
    armed[slot] = queue.pop().map(|point| (point, Instant::now()));
    match armed[slot] {
        Some((point, _)) => {
            let most = match point {
                "on-assign" | "on-revoke" => 1,
                "before-kafka-commit" | "after-kafka-commit" => 3,
                _ => 12,
            };
            let nth = lab.chance.random_range(1..=most);
            lab.fleet.arm(slot, &format!("kill:{point}:{nth}"))
        }
        None => lab.fleet.restart(slot, &[]),
    }
}

/// Where a processor is frozen in mid-transaction: before it holds a lock, so that the next owner
/// gets on at once; and behind it, so that PostgreSQL must end the transaction first.
const BEFORE_THE_LOCK: [&str; 2] = ["before-begin", "before-position"];
const BEHIND_THE_LOCK: [&str; 4] = [
    "after-position",
    "after-blocks",
    "after-sums",
    "before-commit",
];
/// Of so many, one is frozen behind the lock.
const BEHIND: u32 = 4;
/// How many may be frozen at once: one processor goes on.
const ZOMBIES: usize = PROCESSORS - 1;

/// What a processor to be frozen is at.
enum Stage {
    /// Coming to its point.
    Armed(Instant),
    /// Frozen; the others are to take its partitions over.
    Frozen(Waiting),
    /// Woken; it is to find that it owns nothing any more, and to be given partitions again.
    Woken(Instant),
    Done,
}

/// Freezes processors in mid-transaction past their sessions' end, and wakes them when others have
/// gone on with their partitions.
pub fn frozen(lab: &mut Lab, times: usize, row: &mut Row) -> anyhow::Result<()> {
    let mut left = times;
    let mut stages: Vec<Stage> = Vec::new();
    for slot in 0..ZOMBIES {
        stages.push(freeze_next(lab, &mut left, slot)?);
    }
    while stages.iter().any(|stage| !matches!(stage, Stage::Done)) {
        let now = lab.positions().unwrap_or_default();
        for (slot, stage) in stages.iter_mut().enumerate() {
            let process = &mut lab.fleet.slots[slot].process;
            if let Some(status) = process.ended()? {
                row.violation(format!("a processor ended by itself ({status})"));
                *stage = freeze_next(lab, &mut left, slot)?;
                continue;
            }
            match stage {
                Stage::Armed(_) if process.is_stopped() => {
                    *stage = Stage::Frozen(Waiting {
                        partitions: Lab::owned(&now, process.pid()),
                        since: Instant::now(),
                    });
                }
                Stage::Armed(since) if since.elapsed() > PATIENCE => {
                    // It has no partition to come to its point with.
                    left += 1;
                    *stage = freeze_next(lab, &mut left, slot)?;
                }
                Stage::Frozen(waiting) => {
                    let took = waiting.since.elapsed();
                    let over = was_taken_over(&waiting.partitions, &now);
                    if over && took > Duration::from_secs(2) || took > HANG {
                        row.recovered(took);
                        if !over {
                            row.violation(format!("stood still: {:?}", waiting.partitions));
                        }
                        process.signal(Signal::SIGCONT)?;
                        *stage = Stage::Woken(Instant::now());
                    }
                }
                Stage::Woken(since) => {
                    let pid = process.pid();
                    let owns = now.values().any(|position| position.owner == pid);
                    if owns {
                        *stage = freeze_next(lab, &mut left, slot)?;
                    } else if since.elapsed() > HANG {
                        row.violation("a woken processor did not come back into the group");
                        *stage = freeze_next(lab, &mut left, slot)?;
                    }
                }
                Stage::Armed(_) | Stage::Done => {}
            }
        }
        last(INTERVAL)?;
    }
    Ok(())
}

fn freeze_next(lab: &mut Lab, left: &mut usize, slot: usize) -> anyhow::Result<Stage> {
    // It leaves the group as it should, so that the next one need not wait for its session to end.
    let process = &mut lab.fleet.slots[slot].process;
    if process.ended()?.is_none() {
        process.signal(Signal::SIGTERM)?;
        let ended = wait_until(HANG, "a processor ends on SIGTERM", || {
            // It may have come to its point just before it was told to end.
            if process.is_stopped() {
                process.signal(Signal::SIGCONT)?;
            }
            Ok(process.ended()?.is_some())
        });
        if let Err(error) = ended {
            bail!("{error}: see {}", process.log.display());
        }
    }
    if *left == 0 {
        lab.fleet.restart(slot, &[])?;
        return Ok(Stage::Done);
    }
    *left -= 1;
    let points: &[&str] = if lab.chance.random_range(0..BEHIND) == 0 {
        &BEHIND_THE_LOCK
    } else {
        &BEFORE_THE_LOCK
    };
    let point = points[lab.chance.random_range(0..points.len())];
    let nth = lab.chance.random_range(1..=12);
    lab.fleet.arm(slot, &format!("stop:{point}:{nth}"))?;
    Ok(Stage::Armed(Instant::now()))
}
