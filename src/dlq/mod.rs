//! Dead letters, once they are stored: shown to the person who asks why an event was not counted,
//! sent back to be counted after all, published for other tools.
//!
//! | module | what it is |
//! |---|---|
//! | `list`, `show` | `adflux dlq list`, `adflux dlq show` |
//! | [`redrive`] | `adflux dlq redrive`: those that can be counted by now go back to the topic |
//! | `verdict` | can this one be counted, and if not, why not |
//! | [`publish`] | the thread that copies every dead letter to `<topic>.dlq` |

use crate::event::Reason;
use crate::offset::Offset;
use crate::store::read::dead_letters::Filter;
use crate::terminal;
use data_encoding::HEXLOWER;

mod list;
pub mod publish;
pub mod redrive;
mod show;
mod verdict;

pub use list::list;
pub use show::{Viewed, show};

/// Parses `TOPIC:PARTITION:OFFSET`, which names one record.
///
/// # Errors
/// A message for the user.
pub fn place(text: &str) -> Result<Filter, String> {
    let mut parts = text.rsplitn(3, ':');
    let numbers = (
        parts.next().map(str::parse),
        parts.next().map(str::parse),
        parts.next(),
    );
    let (Some(Ok(offset)), Some(Ok(partition)), Some(topic)) = numbers else {
        return Err(format!(
            "'{text}' is not of the form TOPIC:PARTITION:OFFSET, such as ad-events:0:1234"
        ));
    };
    Ok(Filter {
        topic: Some(topic.to_owned()),
        partition: Some(partition),
        offset: Some(Offset::new(offset)),
        ..Filter::default()
    })
}

/// Checks that `text` is the name of a reason.
///
/// # Errors
/// A message for the user.
pub fn reason(text: &str) -> Result<String, String> {
    if known(text).is_some() {
        return Ok(text.to_owned());
    }
    let names: Vec<&str> = Reason::ALL.iter().map(|r| r.as_str()).collect();
    Err(format!(
        "there is no such reason; one of {}",
        names.join(", ")
    ))
}

/// The reason with this name.
fn known(name: &str) -> Option<Reason> {
    Reason::ALL.iter().copied().find(|r| r.as_str() == name)
}

fn explain(reason: &str) -> &'static str {
    known(reason).map_or("a reason this version does not know", |r| r.explain())
}

/// Bytes as text where they are, else in hexadecimal.
fn printable(bytes: &[u8]) -> String {
    match std::str::from_utf8(bytes) {
        Ok(text) if terminal::is_plain(text) => text.to_owned(),
        _ => format!("0x{}", HEXLOWER.encode(bytes)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places() {
        let filter = place("a:b:3:1234").expect("a place");
        assert_eq!(filter.topic.as_deref(), Some("a:b"));
        assert_eq!(
            (filter.partition, filter.offset),
            (Some(3), Some(Offset::new(1234)))
        );
        for bad in [
            "",
            "ad-events",
            "ad-events:0",
            "ad-events:x:1",
            "ad-events:0:",
        ] {
            assert!(place(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn reasons_are_checked() {
        assert!(reason("truncated").is_ok());
        assert!(reason("Truncated").unwrap_err().contains("truncated"));
    }
}
