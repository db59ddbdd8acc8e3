//! Brokers that keep a producer waiting: said with the reason, and once that they take records again.
//!
//! librdkafka sends again for as long as it may, and says nothing. The cluster is asked on a thread of its own, so that
//! whoever sends can go on, and can be stopped.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::logs::Log;
use super::refused::Why;
use super::{Cluster, replicas, topic};

/// How long brokers may take before it is said, and before it is asked again.
pub const PATIENCE: Duration = Duration::from_secs(10);

/// Since when nothing came, and what of it was said.
struct Stuck {
    since: Instant,
    said: Option<Why>,
}

/// See the module.
pub struct Waiting {
    cluster: Cluster,
    topic: String,
    stuck: Arc<Mutex<Option<Stuck>>>,
}

fn lock(stuck: &Mutex<Option<Stuck>>) -> MutexGuard<'_, Option<Stuck>> {
    stuck.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Waiting {
    pub fn new(cluster: &Cluster, topic: &str) -> Waiting {
        Waiting {
            cluster: cluster.clone(),
            topic: topic.to_owned(),
            stuck: Arc::default(),
        }
    }

    /// Nothing was acknowledged for a while. Finds out why, and says it.
    pub fn stuck(&self) {
        let since = Instant::now();
        {
            let mut stuck = lock(&self.stuck);
            if stuck.is_some() {
                return;
            }
            *stuck = Some(Stuck { since, said: None });
        }
        let (cluster, topic) = (self.cluster.clone(), self.topic.clone());
        let stuck = Arc::clone(&self.stuck);
        let asking = std::thread::Builder::new().name("kafka-waiting".to_owned());
        let asked = asking.spawn(move || {
            loop {
                let why = hindrance(&cluster, &topic);
                if !say(&stuck, since, &cluster, why) {
                    return;
                }
                std::thread::sleep(PATIENCE);
            }
        });
        if let Err(error) = asked {
            log::warn!("Kafka acknowledges nothing, and why was not asked: {error}");
        }
    }

    /// Something was acknowledged.
    pub fn moved(&self) {
        if let Some(stuck) = lock(&self.stuck).take()
            && stuck.said.is_some()
        {
            let seconds = stuck.since.elapsed().as_secs_f64();
            log::info!("Kafka acknowledges again after {seconds:.1} s");
        }
    }

    /// Why nothing is acknowledged, as far as it can be found out. That takes a few seconds at most.
    pub fn why(&self) -> Why {
        hindrance(&self.cluster, &self.topic)
    }
}

/// `false` if it is over.
fn say(stuck: &Mutex<Option<Stuck>>, since: Instant, cluster: &Cluster, why: Why) -> bool {
    let mut stuck = lock(stuck);
    let Some(stuck) = stuck.as_mut().filter(|stuck| stuck.since == since) else {
        return false;
    };
    // How brokers cannot be reached is said in other words each time.
    let news = match &stuck.said {
        None => true,
        Some(said) => said.wrong_with_topic() != why.wrong_with_topic(),
    };
    if news {
        log::warn!(
            "Kafka at {} acknowledges nothing: {why}. It is sent until it does",
            cluster.brokers
        );
        stuck.said = Some(why);
    }
    true
}

fn hindrance(cluster: &Cluster, topic: &str) -> Why {
    let log = match Log::of(cluster, topic) {
        Ok(log) => log,
        Err(error) => return error.to_string().into(),
    };
    if let Err(error) = topic::partitions(log.client(), topic) {
        return topic::why(&error, topic, cluster, log.complaint());
    }
    replicas::wanting(log.client(), cluster, topic, topic::TIMEOUT).unwrap_or_else(|| {
        "it answers, and nothing is known to be in the way"
            .to_owned()
            .into()
    })
}

impl Drop for Waiting {
    fn drop(&mut self) {
        // Who asks finds that it is over.
        lock(&self.stuck).take();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_said_anew_is_another_reason_and_nothing_once_it_is_over() {
        let cluster = Cluster {
            brokers: "none".into(),
            properties: Vec::new(),
        };
        let since = Instant::now();
        let stuck = Mutex::new(Some(Stuck { since, said: None }));
        let say = |why: Why| say(&stuck, since, &cluster, why);
        let said = || lock(&stuck).as_ref().and_then(|stuck| stuck.said.clone());
        let away = |ms| Why::from(format!("refused after {ms} ms"));
        assert!(say(away(3)) && say(away(5)));
        assert_eq!(said(), Some(away(3)));
        let few = Why::of_topic("too few".to_owned(), "bring them back");
        assert!(say(few.clone()));
        assert_eq!(said(), Some(few.clone()));
        lock(&stuck).take();
        assert!(!say(few), "it is over");
    }
}
