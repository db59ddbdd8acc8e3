//! Sends events and report rows throughout, with a share of duplicates, late and malformed ones.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use rand::SeedableRng as _;
use rand_chacha::ChaCha8Rng;

use crate::ledger::Ledger;
use crate::sender::Sender;
use crate::traffic::{Shares, Traffic};
use crate::wait::wait_until;

/// Enough that every partition always has some.
const CAMPAIGNS: usize = 60;
/// For what brokers that are up do.
const PATIENCE: Duration = Duration::from_secs(90);
/// How often a few records are sent.
const TICK: Duration = Duration::from_millis(10);

/// The ledger, shared with the thread that hears of acknowledgements.
#[derive(Clone, Default)]
pub struct SharedLedger(Arc<Mutex<Ledger>>);

impl SharedLedger {
    pub fn lock(&self) -> MutexGuard<'_, Ledger> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[derive(Default)]
struct Orders {
    /// Records a second; none while it is 0.
    rate: AtomicU64,
    /// Rises with each round of the loop.
    rounds: AtomicU64,
    stop: AtomicBool,
}

/// See the module.
pub struct Producer {
    ledger: SharedLedger,
    sender: Arc<Sender>,
    orders: Arc<Orders>,
    thread: Option<JoinHandle<anyhow::Result<()>>>,
}

impl Producer {
    /// Starts to send at `rate` records a second; the same seed makes the same choices.
    pub fn start(brokers: &str, topic: &str, seed: u64, rate: u64) -> anyhow::Result<Producer> {
        let ledger = SharedLedger::default();
        let orders = Arc::new(Orders::default());
        orders.rate.store(rate, Ordering::Relaxed);
        let sender = Arc::new(Sender::new(brokers, topic, &ledger)?);
        let traffic = Traffic::new(ChaCha8Rng::seed_from_u64(seed), CAMPAIGNS, Shares::USUAL);
        let (sends, following) = (Arc::clone(&sender), Arc::clone(&orders));
        let thread = std::thread::spawn(move || send(&sends, traffic, &following));
        Ok(Producer {
            ledger,
            sender,
            orders,
            thread: Some(thread),
        })
    }

    /// What was sent and acknowledged.
    pub fn ledger(&self) -> &SharedLedger {
        &self.ledger
    }

    /// Sets how many records are sent a second.
    pub fn set_rate(&self, rate: u64) {
        self.orders.rate.store(rate, Ordering::Relaxed);
    }

    /// Stops sending, and waits until everything is acknowledged. Returns the rate there was.
    pub fn pause(&self) -> anyhow::Result<u64> {
        let rate = self.orders.rate.swap(0, Ordering::Relaxed);
        let round = self.orders.rounds.load(Ordering::Relaxed);
        wait_until(PATIENCE, "everything sent is acknowledged", || {
            if self.thread.as_ref().is_none_or(JoinHandle::is_finished) {
                bail!("the producer has ended");
            }
            Ok(self.orders.rounds.load(Ordering::Relaxed) > round + 1
                && self.ledger.lock().unacknowledged() == 0)
        })?;
        Ok(rate)
    }

    /// Waits until it sends to so many partitions.
    pub fn wait_for_partitions(&self, partitions: usize) -> anyhow::Result<()> {
        wait_until(
            PATIENCE,
            "it sends to the partitions that were added",
            || Ok(self.sender.partitions()? == partitions),
        )
    }

    /// Stops for good.
    pub fn stop(&mut self) -> anyhow::Result<()> {
        self.orders.stop.store(true, Ordering::Relaxed);
        match self.thread.take().map(JoinHandle::join) {
            Some(Ok(result)) => result.context("the producer"),
            Some(Err(_)) => bail!("the producer panicked"),
            None => Ok(()),
        }
    }
}

impl Drop for Producer {
    fn drop(&mut self) {
        if let Err(error) = self.stop() {
            eprintln!("{error:#}");
        }
    }
}

fn send(sender: &Sender, mut traffic: Traffic, orders: &Orders) -> anyhow::Result<()> {
    let mut due = 0.0;
    let mut last = Instant::now();
    while !orders.stop.load(Ordering::Relaxed) {
        let rate = orders.rate.load(Ordering::Relaxed);
        // A machine that was busy does not make a burst.
        due += rate as f64 * last.elapsed().min(TICK * 10).as_secs_f64();
        last = Instant::now();
        if rate == 0 {
            due = 0.0;
        }
        while due >= 1.0 {
            let now = chrono::Utc::now().timestamp_micros();
            sender.send_next(&mut traffic, now)?;
            due -= 1.0;
        }
        orders.rounds.fetch_add(1, Ordering::Relaxed);
        std::thread::sleep(TICK);
    }
    sender.flush()
}
