//! Event ids of `/live`: the last commit seen of each partition, as `1.115-2.117`.

// Bytes from outside come through here.
#![deny(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

use crate::api::problem::{Problem, shorten};
use crate::store::read::changes::Commits;
use crate::store::{CommitId, StreamId};

/// What stands for no partition at all.
const NONE: &str = "0";

/// An event id.
pub fn write(commits: &Commits) -> String {
    let parts: Vec<String> = commits
        .iter()
        .map(|(stream, commit)| format!("{stream}.{commit}"))
        .collect();
    if parts.is_empty() {
        NONE.to_owned()
    } else {
        parts.join("-")
    }
}

/// Reads an event id back. A bare number, such as the ids of a campaign's own feed, names no
/// partition.
///
/// # Errors
/// A [`Problem`] when it is not one of ours.
pub fn read(text: &str) -> Result<Commits, Problem> {
    if text.bytes().all(|b| b.is_ascii_digit()) {
        return Ok(Commits::new());
    }
    text.split('-')
        .map(|part| {
            let (stream, commit) = part.split_once('.')?;
            let digits = |text: &str| text.bytes().all(|b| b.is_ascii_digit());
            let ids = (
                StreamId(stream.parse().ok()?),
                CommitId::new(commit.parse().ok()?),
            );
            Some(ids).filter(|_| digits(stream) && digits(commit))
        })
        .collect::<Option<Commits>>()
        .ok_or_else(|| {
            let detail = format!(
                "'{}' is not an id that this API gave; leave the header out to start anew",
                shorten(text)
            );
            Problem::parameter("Last-Event-ID", detail)
        })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn round_trip(commits in prop::collection::btree_map(0i32..5_000, 0i64.., 0..50)) {
            let commits: Commits = commits.into_iter().map(|(s, c)| (StreamId(s), CommitId::new(c))).collect();
            prop_assert_eq!(read(&write(&commits)), Ok(commits));
        }

        #[test]
        fn nothing_panics(text in "\\PC{0,100}") {
            let _ = read(&text);
        }
    }

    #[test]
    fn what_is_not_ours_is_refused() {
        for bad in ["x", "1.2-", "1.-2", "1.2.3", "-", "1.99999999999999999999"] {
            assert!(read(bad).is_err(), "{bad}");
        }
        assert_eq!(read(""), Ok(Commits::new()));
    }
}
