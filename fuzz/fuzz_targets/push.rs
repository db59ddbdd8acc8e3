//! Any records, with any keys and headers, through all that happens between a poll and a batch.
//!
//! The input is cut into records: a byte of flags, the length of the key, the length of the value, then both. Flags
//! make the value a framed event or report row, so that more than refusals is reached.
#![no_main]

use adflux::codec::{Decoder, SchemaIds};
use adflux::event::Count;
use adflux::offset::Offset;
use adflux::processor::assigned::{Assigned, Record, Taken};
use adflux::processor::recent::Recent;
use adflux::store::{Epoch, StreamId};
use adflux::store::events::Fingerprinter;
use adflux::store::write::batch::{Fence, Reading};
use adflux::store::write::positions::Claim;
use adflux::time::Timestamp;
use libfuzzer_sys::fuzz_target;

const NOW: Timestamp = Timestamp::new(1_769_860_800_000_000);

fuzz_target!(|input: &[u8]| {
    let claim = Claim {
        stream: StreamId(1),
        fence: Fence { epoch: Epoch::new(1), next_offset: Offset::default(), campaigns_moved: Count::ZERO },
        last_record: None,
    };
    // A small memory, so that events leave it.
    let mut assigned = Assigned::new(&claim, Recent::new(4), Reading::Usual, 4);
    let mut decoder = Decoder::new(SchemaIds::OWN).expect("the schema is the layout");
    let prints = Fingerprinter::default();
    let mut rest = input;
    let (mut offset, mut records, mut dead) = (0, 0, 0);
    while let [flags, key_len, value_len, tail @ ..] = rest {
        let (key, tail) = tail.split_at(tail.len().min(usize::from(*key_len)));
        let (value, tail) = tail.split_at(tail.len().min(usize::from(*value_len)));
        rest = tail;
        let schema_id = if flags & 8 == 0 { SchemaIds::OWN.event } else { SchemaIds::OWN.report };
        let framed = [&[0][..], &schema_id.to_be_bytes(), value].concat();
        let value = if flags & 1 == 0 { &framed } else { value };
        let record = Record {
            offset: Offset::new(offset),
            record_time: None,
            key: (flags & 2 == 0).then_some(key),
            payload: (flags & 4 == 0).then_some(value),
            headers: &|| vec![(String::from_utf8_lossy(key).into_owned(), Some(value.to_vec()))],
        };
        let taken = assigned.push(&record, &mut decoder, &prints, NOW);
        dead += usize::from(matches!(taken, Taken::Dead(_)));
        records += 1;
        offset += 1 + i64::from(flags >> 5);
    }
    let Some(share) = assigned.take_share() else {
        assert_eq!(records, 0);
        return;
    };
    // Every record is accounted for, and nothing is kept that was not sent.
    assert_eq!(share.records, Count::new(records));
    assert_eq!(share.dead.len(), dead);
    assert_eq!(share.records.get(), share.duplicates.get() + (share.events.len() + dead) as i64);
    let kept: usize = share.dead.iter().map(|d| d.record.payload.as_ref().map_or(0, Vec::len)).sum();
    assert!(kept <= input.len() + 5 * records as usize);
});
