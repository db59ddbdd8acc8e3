//! Why a topic takes nothing though brokers answer: a partition has no leader, or fewer replicas in sync than the topic
//! insists on (`min.insync.replicas`).
//!
//! The broker says so to who sends; librdkafka sends again for as long as it may, and tells nobody. To its user it looks
//! like brokers that are away. So it is the cluster that is asked.

use std::fmt::{self, Display, Formatter};
use std::time::Duration;

use rdkafka::client::{Client, ClientContext};

use super::logs::Log;
use super::refused::Why;
use super::{Cluster, topic};

/// The topic's setting.
const WANTED: &str = "min.insync.replicas";
/// So many partitions are named.
const NAMED: usize = 10;

const BRING_BACK: &str = "Bring back the brokers that hold the others: once they have caught up, sending goes on by itself";
const MORE_REPLICAS: &str =
    "Give the topic more replicas (kafka-reassign-partitions.sh), or lower its min.insync.replicas";
const NO_LEADER: &str = "Bring back a broker that holds them: sending goes on by itself, and to the others it goes on meanwhile";

/// How a partition is kept.
#[derive(Clone, Copy, Debug)]
struct Kept {
    partition: i32,
    led: bool,
    replicas: usize,
    in_sync: usize,
}

/// Why the topic does not take what is sent to it, if that is for want of replicas. `patience`: brokers that are there answer
/// within this time.
pub fn wanting<C: ClientContext>(
    client: &Client<C>,
    cluster: &Cluster,
    topic: &str,
    patience: Duration,
) -> Option<Why> {
    judge(
        topic,
        &kept(client, topic, patience)?,
        wanted(cluster, topic),
    )
}

/// The same for who has not tried to send: newer brokers are content with all replicas, where a topic has fewer than it wants.
pub fn missing(cluster: &Cluster, topic: &str) -> Option<Why> {
    let log = Log::of(cluster, topic).ok()?;
    let mut kept = kept(log.client(), topic, topic::TIMEOUT)?;
    kept.retain(|one| !one.led || one.in_sync < one.replicas);
    judge(topic, &kept, wanted(cluster, topic))
}

fn kept<C: ClientContext>(
    client: &Client<C>,
    topic: &str,
    patience: Duration,
) -> Option<Vec<Kept>> {
    let metadata = client.fetch_metadata(Some(topic), patience).ok()?;
    let described = metadata.topics().iter().find(|t| t.name() == topic)?;
    let partitions = described.partitions().iter();
    let kept = partitions.map(|p| Kept {
        partition: p.id(),
        led: p.leader() >= 0,
        replicas: p.replicas().len(),
        in_sync: p.isr().len(),
    });
    Some(kept.collect())
}

/// None where that is not known: the user may not ask.
fn wanted(cluster: &Cluster, topic: &str) -> Option<usize> {
    match topic::setting(cluster, topic, WANTED).ok()? {
        Some(wanted) => wanted.parse().ok(),
        // Redpanda has no such setting, and wants a majority, without which there is no leader.
        None => Some(0),
    }
}

fn judge(topic: &str, kept: &[Kept], wanted: Option<usize>) -> Option<Why> {
    let are = |is: &dyn Fn(&Kept) -> bool| -> Vec<Kept> {
        kept.iter().copied().filter(|one| is(one)).collect()
    };
    let leaderless = are(&|one| !one.led);
    if !leaderless.is_empty() {
        let said = format!("topic '{topic}': no leader for {}", Named(&leaderless));
        return Some(Why::of_topic(said, NO_LEADER));
    }
    let (few, rule) = match wanted {
        Some(wanted) => (
            are(&|one| one.in_sync < wanted),
            format!("{WANTED}={wanted}"),
        ),
        None => (
            are(&|one| one.in_sync < one.replicas),
            format!("a {WANTED} that the user may not read (DESCRIBE_CONFIGS)"),
        ),
    };
    let fewest = few.iter().min_by_key(|one| one.in_sync)?;
    let said = format!(
        "topic '{topic}' has {rule}, but only {} of {} replicas are in sync: {}",
        fewest.in_sync,
        fewest.replicas,
        Named(&few)
    );
    let all_there = few.iter().all(|one| one.in_sync == one.replicas);
    let advice = if all_there { MORE_REPLICAS } else { BRING_BACK };
    Some(Why::of_topic(said, advice))
}

/// Partitions, by their numbers.
struct Named<'a>(&'a [Kept]);

impl Display for Named<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let numbers = self.0.iter().take(NAMED);
        let numbers: Vec<String> = numbers.map(|one| one.partition.to_string()).collect();
        let partitions = if self.0.len() == 1 {
            "partition"
        } else {
            "partitions"
        };
        write!(f, "{partitions} {}", numbers.join(", "))?;
        match self.0.len().saturating_sub(NAMED) {
            0 => Ok(()),
            more => write!(f, " and {more} more"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kept(partition: i32, replicas: usize, in_sync: usize) -> Kept {
        Kept {
            partition,
            led: in_sync > 0,
            replicas,
            in_sync,
        }
    }

    fn said(kept: &[Kept], wanted: Option<usize>) -> String {
        judge("t", kept, wanted).map_or_else(String::new, |why| why.to_string())
    }

    #[test]
    fn too_few_replicas_are_named_with_the_setting() {
        let two_of_three = [kept(0, 3, 3), kept(1, 3, 2)];
        assert_eq!(said(&two_of_three, Some(2)), "");
        assert_eq!(
            said(&two_of_three, Some(3)),
            format!(
                "topic 't' has min.insync.replicas=3, but only 2 of 3 replicas are in sync: partition 1. {BRING_BACK}"
            )
        );
        assert_eq!(
            said(&[kept(0, 1, 1)], Some(2)),
            format!(
                "topic 't' has min.insync.replicas=2, but only 1 of 1 replicas are in sync: partition 0. {MORE_REPLICAS}"
            )
        );
        assert_eq!(said(&[kept(0, 3, 3)], None), "");
        assert!(said(&two_of_three, None).contains("DESCRIBE_CONFIGS"));
    }

    #[test]
    fn partitions_without_a_leader_come_first_and_not_all_are_named() {
        let kept: Vec<Kept> = (0..120).map(|n| kept(n, 3, usize::from(n > 11))).collect();
        assert_eq!(
            said(&kept, Some(2)),
            format!(
                "topic 't': no leader for partitions 0, 1, 2, 3, 4, 5, 6, 7, 8, 9 and 2 more. {NO_LEADER}"
            )
        );
    }
}
