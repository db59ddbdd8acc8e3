//! What somebody has seen of several databases: the last commit of each partition, whose numbers tell of which database it is.

use std::collections::BTreeMap;

use crate::shard::Shard;
use crate::store::read::changes::Commits;

/// What of it each database has told, in their order. What is of none of them is left with the first, which then does not
/// have it: who has seen it is ahead.
pub fn cut(shards: &[Option<Shard>], seen: &Commits) -> Vec<Commits> {
    let mut parts = vec![Commits::new(); shards.len()];
    for (stream, commit) in seen {
        let has = |shard: &Option<Shard>| shard.is_some_and(|shard| shard.has_stream(stream.0));
        let place = shards.iter().position(has).unwrap_or_default();
        if let Some(part) = parts.get_mut(place) {
            part.insert(*stream, *commit);
        }
    }
    parts
}

/// What all of them have seen.
pub fn oldest<'a>(commits: impl Iterator<Item = &'a Commits>) -> Commits {
    commits
        .cloned()
        .reduce(|a, b| {
            a.into_iter()
                .filter_map(|(stream, commit)| Some((stream, commit.min(*b.get(&stream)?))))
                .collect::<BTreeMap<_, _>>()
        })
        .unwrap_or_default()
}

/// Whether somebody has seen more than there is: of another database, or one that went back.
pub fn is_ahead(seen: &Commits, now: &Commits) -> bool {
    seen.iter()
        .any(|(stream, commit)| now.get(stream).is_none_or(|now| now < commit))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    use crate::store::{CommitId, StreamId};

    fn halves(at: i32) -> [Option<Shard>; 2] {
        [Shard::new(0, at - 1, 6), Shard::new(at, 5, 6)]
    }

    /// Streams of each of six partitions.
    fn commits() -> impl Strategy<Value = Commits> {
        let streams = (0i32..6, 1i32..4).prop_map(|(partition, n)| partition * 100_000 + n);
        prop::collection::btree_map(
            streams.prop_map(StreamId),
            (1i64..9).prop_map(CommitId::new),
            0..12,
        )
    }

    proptest! {
        /// Nothing is lost by cutting, nothing is in two parts, and one database has all of it.
        #[test]
        fn parts_make_up_the_whole(seen in commits(), at in 1i32..6) {
            let shards = halves(at);
            let parts = cut(&shards, &seen);
            for (part, shard) in parts.iter().zip(shards) {
                let shard = shard.expect("a shard");
                prop_assert!(part.keys().all(|stream| shard.has_stream(stream.0)));
            }
            let whole: Commits = parts.into_iter().flatten().collect();
            prop_assert_eq!(&whole, &seen);
            prop_assert_eq!(cut(&[None], &seen), vec![seen]);
        }

        /// Asking each database about its part is asking about the whole.
        #[test]
        fn the_oldest_is_cut_as_its_parts_are_compared(
            tokens in prop::collection::vec(commits(), 1..4), now in commits(), at in 1i32..6,
        ) {
            let shards = halves(at);
            let cuts: Vec<Vec<Commits>> = tokens.iter().map(|token| cut(&shards, token)).collect();
            let of_each: Vec<Commits> = (0..2).map(|n| oldest(cuts.iter().map(|parts| &parts[n]))).collect();
            prop_assert_eq!(cut(&shards, &oldest(tokens.iter())), of_each);
            for (token, parts) in tokens.iter().zip(&cuts) {
                let ahead = parts.iter().zip(cut(&shards, &now)).any(|(part, now)| is_ahead(part, &now));
                prop_assert_eq!(ahead, is_ahead(token, &now));
            }
        }
    }

    #[test]
    fn what_no_database_has_is_ahead() {
        let elsewhere = Commits::from([(StreamId(700_001), CommitId::new(1))]);
        let parts = cut(&halves(3), &elsewhere);
        assert!(is_ahead(&parts[0], &Commits::new()));
        assert!(parts[1].is_empty());
    }
}
