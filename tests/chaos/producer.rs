//! Sends events throughout, with a share of duplicates, late and malformed ones, and notes in the
//! [`Ledger`] what Kafka acknowledged.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use adflux::codec;
use adflux::event::{AdEvent, CampaignId, Counts, Platform};
use anyhow::{Context as _, bail};
use rand::{RngExt as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{DeliveryResult, Message as _};
use rdkafka::producer::{BaseRecord, Producer as _, ProducerContext, ThreadedProducer};
use rdkafka::{ClientConfig, ClientContext};
use uuid::Uuid;

use crate::ledger::{Event, EventIndex, Fate, Ledger};
use crate::wait::wait_until;

/// Enough that every partition always has some.
pub const CAMPAIGNS: u32 = 60;
/// Of a thousand records: how many are copies, late, or cannot be counted.
const DUPLICATES: u32 = 30;
const LATE: u32 = 30;
const MALFORMED: u32 = 10;
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

/// Notes what Kafka says of each record.
struct Acknowledgements(SharedLedger);

impl ClientContext for Acknowledgements {}

impl ProducerContext for Acknowledgements {
    type DeliveryOpaque = Box<Fate>;

    fn delivery(&self, result: &DeliveryResult<'_>, fate: Box<Fate>) {
        match result {
            Ok(message) => {
                self.0
                    .lock()
                    .acknowledged(message.partition(), message.offset(), *fate);
            }
            // It stays unacknowledged in the ledger, which the checker does not accept.
            Err((error, _)) => eprintln!("a record was not acknowledged: {error}"),
        }
    }
}

#[derive(Default)]
struct Orders {
    /// Records a second; none while it is 0.
    rate: AtomicU64,
    /// Of a thousand records, how many cannot be counted.
    malformed: AtomicU64,
    /// Rises with each round of the loop.
    rounds: AtomicU64,
    stop: AtomicBool,
}

/// See the module.
pub struct Producer {
    ledger: SharedLedger,
    orders: Arc<Orders>,
    thread: Option<JoinHandle<anyhow::Result<()>>>,
}

impl Producer {
    /// Starts to send at `rate` records a second; the same seed makes the same choices.
    pub fn start(brokers: &str, topic: &str, seed: u64, rate: u64) -> anyhow::Result<Producer> {
        let ledger = SharedLedger::default();
        let orders = Arc::new(Orders::default());
        orders.rate.store(rate, Ordering::Relaxed);
        orders.malformed.store(MALFORMED.into(), Ordering::Relaxed);
        let producer = ClientConfig::new()
            .set("bootstrap.servers", brokers)
            .set("partitioner", "murmur2_random")
            .set("enable.idempotence", "true")
            .set("acks", "all")
            .set("linger.ms", "5")
            // Longer than any fault lasts: what is not acknowledged nobody can account for.
            .set("message.timeout.ms", "600000")
            .set("reconnect.backoff.max.ms", "500")
            .create_with_context(Acknowledgements(ledger.clone()))?;
        let sender = Sender {
            producer,
            topic: topic.to_owned(),
            ledger: ledger.clone(),
            chance: ChaCha8Rng::seed_from_u64(seed),
            events: Vec::new(),
        };
        let following = Arc::clone(&orders);
        let thread = std::thread::spawn(move || sender.run(&following));
        Ok(Producer {
            ledger,
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

    /// Sets how many of a thousand records cannot be counted; none: as it began.
    pub fn set_malformed(&self, malformed: Option<u64>) {
        let malformed = malformed.unwrap_or(MALFORMED.into());
        self.orders.malformed.store(malformed, Ordering::Relaxed);
    }

    /// Stops sending, and waits until everything is acknowledged. Returns the rate there was.
    pub fn pause(&self) -> anyhow::Result<u64> {
        let rate = self.orders.rate.swap(0, Ordering::Relaxed);
        let round = self.orders.rounds.load(Ordering::Relaxed);
        let limit = Duration::from_secs(90);
        wait_until(limit, "everything sent is acknowledged", || {
            if self.thread.as_ref().is_none_or(JoinHandle::is_finished) {
                bail!("the producer has ended");
            }
            Ok(self.orders.rounds.load(Ordering::Relaxed) > round + 1
                && self.ledger.lock().unacknowledged() == 0)
        })?;
        Ok(rate)
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

struct Sender {
    producer: ThreadedProducer<Acknowledgements>,
    topic: String,
    ledger: SharedLedger,
    chance: ChaCha8Rng,
    /// All that were sent, to choose copies from.
    events: Vec<EventIndex>,
}

impl Sender {
    fn run(mut self, orders: &Orders) -> anyhow::Result<()> {
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
                let malformed = orders.malformed.load(Ordering::Relaxed);
                self.send_one(u32::try_from(malformed).unwrap_or(u32::MAX))?;
                due -= 1.0;
            }
            orders.rounds.fetch_add(1, Ordering::Relaxed);
            std::thread::sleep(TICK);
        }
        self.producer.flush(Duration::from_secs(5)).ok();
        Ok(())
    }

    fn send_one(&mut self, malformed: u32) -> anyhow::Result<()> {
        let n = self.chance.random_range(0..1_000u32);
        let now = chrono::Utc::now().timestamp_micros();
        if n < malformed && !self.events.is_empty() {
            return self.send_malformed(now);
        }
        if n < malformed + DUPLICATES && !self.events.is_empty() {
            let index = self.earlier();
            let event = *self.ledger.lock().get(index);
            let (key, value) = encode(&event);
            return self.send(key.as_bytes(), Some(&value), Fate::Event(index));
        }
        let late = n >= 1_000 - LATE;
        let time = if late {
            now - self.chance.random_range(1_000_000..7_200_000_000i64)
        } else {
            now
        };
        let event = self.new_event(time);
        let index = self.ledger.lock().event(event);
        self.events.push(index);
        let (key, value) = encode(&event);
        self.send(key.as_bytes(), Some(&value), Fate::Event(index))
    }

    /// An event that was sent before: a recent one, or of any age.
    fn earlier(&mut self) -> EventIndex {
        let len = self.events.len();
        let from = if self.chance.random() {
            0
        } else {
            len.saturating_sub(2_000)
        };
        self.events[self.chance.random_range(from..len)]
    }

    fn new_event(&mut self, time: i64) -> Event {
        let number = self.chance.random_range(0..CAMPAIGNS);
        let campaign = self.ledger.lock().campaign(&campaign_id(number));
        Event {
            id: Uuid::from_u128(self.chance.random()),
            time,
            campaign,
            platform: self.chance.random_range(0..4),
            counts: [
                self.chance.random_range(0..1_000),
                self.chance.random_range(0..100),
                self.chance.random_range(0..10),
                self.chance.random_range(0..5_000_000),
                self.chance.random_range(0..9_000_000),
            ],
        }
    }

    fn send_malformed(&mut self, now: i64) -> anyhow::Result<()> {
        let mut event = self.new_event(now);
        let (key, mut value) = encode(&event);
        let mut key = key.into_bytes();
        let reason = match self.chance.random_range(0..8u32) {
            0 => {
                value[0] = 9;
                "wrong_magic_byte"
            }
            1 => {
                value.truncate(20);
                "truncated"
            }
            2 => {
                value[1..5].copy_from_slice(&77_777u32.to_be_bytes());
                "unknown_schema"
            }
            3 => {
                value.push(0);
                "trailing_bytes"
            }
            4 => {
                event.counts[1] = -1;
                value = encode(&event).1;
                "negative_value"
            }
            5 => {
                event.time = now + 3 * 86_400_000_000;
                value = encode(&event).1;
                "future_event_time"
            }
            6 => {
                key = b"another".to_vec();
                "key_mismatch"
            }
            _ => {
                // One that was counted, with another content.
                let index = self.earlier();
                event = *self.ledger.lock().get(index);
                event.counts[0] += 1;
                let (same, other) = encode(&event);
                (key, value) = (same.into_bytes(), other);
                "conflicting_duplicate"
            }
        };
        self.send(&key, Some(&value), Fate::Dead(reason))
    }

    fn send(&mut self, key: &[u8], value: Option<&[u8]>, fate: Fate) -> anyhow::Result<()> {
        self.ledger.lock().sent();
        let mut record = BaseRecord::with_opaque_to(&self.topic, Box::new(fate)).key(key);
        record.payload = value;
        loop {
            match self.producer.send(record) {
                Ok(()) => return Ok(()),
                Err((KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull), same)) => {
                    record = same;
                    std::thread::sleep(TICK);
                }
                Err((error, _)) => bail!("Kafka refuses a record: {error}"),
            }
        }
    }
}

/// The campaign with this number.
pub fn campaign_id(number: u32) -> String {
    format!("lab-{number}")
}

/// The key and the value of an event.
pub fn encode(event: &Event) -> (String, Vec<u8>) {
    let [
        impressions,
        clicks,
        conversions,
        cost_micros,
        revenue_micros,
    ] = event.counts;
    let mut value = Vec::new();
    let campaign = campaign_id(event.campaign);
    let event = AdEvent {
        event_id: event.id,
        campaign_id: CampaignId::parse(&campaign).expect("a campaign id"),
        platform: Platform::ALL[usize::from(event.platform)],
        event_time: event.time,
        counts: Counts {
            impressions,
            clicks,
            conversions,
            cost_micros,
            revenue_micros,
        },
    };
    codec::encode(&event, codec::SCHEMA_ID, &mut value);
    (campaign, value)
}
