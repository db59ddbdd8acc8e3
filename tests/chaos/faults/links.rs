//! Row 8: the connections to Kafka, PostgreSQL or Redis are black-holed, reset, slowed, half-open.

use std::time::{Duration, Instant};

use rand::RngExt as _;

use crate::fleet::PROCESSORS;
use crate::lab::Lab;
use crate::proxy::{Link, Proxy};
use crate::table::Row;
use crate::wait::{last, limit};

/// No hang is longer than this after the link is healed.
const LIMIT: Duration = limit(Duration::from_secs(10));

/// What is done to a link.
#[derive(Clone, Copy, Debug)]
enum Trouble {
    BlackHole,
    Reset,
    Slow,
    HalfOpen,
}

const TROUBLES: [Trouble; 4] = [
    Trouble::BlackHole,
    Trouble::Reset,
    Trouble::Slow,
    Trouble::HalfOpen,
];

/// Troubles links, one service after the other, each with every trouble in turn.
pub fn troubled(lab: &mut Lab, times: usize, row: &mut Row) -> anyhow::Result<()> {
    for n in 0..times {
        let trouble = TROUBLES[n / 3 % TROUBLES.len()];
        let slots = if lab.chance.random() {
            0..PROCESSORS
        } else {
            let slot = lab.chance.random_range(0..PROCESSORS);
            slot..slot + 1
        };
        let lasts = Duration::from_millis(lab.chance.random_range(500..4_000));
        let links: Vec<&Proxy> = match n % 3 {
            0 => vec![&lab.services.kafka_proxy],
            1 => lab.fleet.slots[slots]
                .iter()
                .map(|slot| &slot.proxy)
                .collect(),
            _ => vec![&lab.services.redis_proxy],
        };
        for link in &links {
            match trouble {
                Trouble::BlackHole => link.set_link(Link::BlackHole),
                Trouble::Reset => link.reset(),
                Trouble::Slow => link.set_link(Link::Slow(Duration::from_millis(50))),
                Trouble::HalfOpen => link.set_link(Link::HalfOpen),
            }
        }
        if !matches!(trouble, Trouble::Reset) {
            last(lasts)?;
        }
        for link in &links {
            link.set_link(Link::Through);
        }
        let healed = Instant::now();
        let positions = lab.positions_now()?;
        lab.moved(&positions, healed, LIMIT, row)?;
    }
    Ok(())
}
