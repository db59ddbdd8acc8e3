//! Any bytes as a record's value: through the reader of version 1, and through `apache_avro` for another
//! writer's schema. What decodes must encode, and decode to the same again.
#![no_main]

use std::cell::RefCell;

use adflux::codec::{Decoder, SchemaIds, encode};
use libfuzzer_sys::fuzz_target;

/// Another writer's event: nullable fields, nested types and fixed bytes that version 1 does not have.
const OTHER: &str = include_str!("../other_writer.avsc");

thread_local! {
    static DECODER: RefCell<Decoder> = RefCell::new({
        let mut decoder = Decoder::new(SchemaIds::OWN).expect("the schema is the layout");
        decoder.add_writer_schema(2, OTHER).expect("it can be read");
        decoder
    });
}

fuzz_target!(|value: &[u8]| {
    DECODER.with_borrow_mut(|decoder| {
        let mut again = Vec::new();
        let Ok(event) = decoder.decode(value) else {
            return;
        };
        encode(&event, SchemaIds::OWN.event, &mut again);
        let shown = format!("{event:?}");
        let event = decoder.decode(&again).expect("what was encoded");
        assert_eq!(format!("{event:?}"), shown);
    });
});
