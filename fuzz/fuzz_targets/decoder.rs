//! Any bytes as a record's value: through the readers of our own schemas, and through `apache_avro` for other
//! writers'. What decodes must encode, and decode to the same again.
#![no_main]

use std::cell::RefCell;

use adflux::codec::{Decoder, Message, SchemaIds, encode, report};
use adflux::time::Timestamp;
use libfuzzer_sys::fuzz_target;

/// Another writer's event: nullable fields, nested types and fixed bytes that version 1 does not have.
const OTHER: &str = include_str!("../other_writer.avsc");

/// Another writer's report row, in another order and in other types.
const OTHER_REPORT: &str = include_str!("../other_report.avsc");

const NOW: Timestamp = Timestamp::new(1_769_860_800_000_000);

thread_local! {
    static DECODER: RefCell<Decoder> = RefCell::new({
        let mut decoder = Decoder::new(SchemaIds::OWN).expect("the schemas are the layouts");
        decoder.add_writer_schema(7, OTHER).expect("it can be read");
        decoder.add_writer_schema(8, OTHER_REPORT).expect("it can be read");
        decoder
    });
}

fuzz_target!(|value: &[u8]| {
    DECODER.with_borrow_mut(|decoder| {
        decoder.fields(value);
        let mut again = Vec::new();
        let Ok(message) = decoder.decode(value) else {
            return;
        };
        match &message {
            Message::Event(event) => encode(event, SchemaIds::OWN.event, &mut again),
            Message::Report(row) => {
                report::encode(row, SchemaIds::OWN.report, &mut again);
                if row.validate(NOW).is_ok() {
                    let _ = (row.key(), row.grain(), row.event_time());
                }
            }
        }
        let shown = format!("{message:?}");
        let message = decoder.decode(&again).expect("what was encoded");
        assert_eq!(format!("{message:?}"), shown);
    });
});
