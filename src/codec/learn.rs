//! Schemas that are learned while values come, from a registry.

use apache_avro::Schema;

use super::writer::{self, WriterSchema};
use super::{Decoder, SchemaError, Writer, event, report, schema_id};
use crate::event::Reason;

impl Decoder {
    /// From now on [`Decoder::lacks`] names schemas that are not known, so that they can be learned.
    pub fn learning(mut self) -> Decoder {
        self.learns = true;
        self
    }

    /// Of a value that is of no schema known here: the id of the schema, if it may be learned.
    pub fn lacks(&self, payload: &[u8]) -> Option<u32> {
        schema_id(payload).filter(|id| self.learns && !self.others.contains_key(id))
    }

    /// Makes values readable that are framed with `id`, which a registry says is the schema `text`: one of ours, which then are
    /// read as fast as if their id had been known from the start, or another writer's.
    ///
    /// # Errors
    /// As [`Decoder::add_writer_schema`].
    pub fn learn(&mut self, id: u32, text: &str) -> Result<(), SchemaError> {
        let schema = writer::parse(id, text)?;
        let writer = if has_layout_of(&schema, event::schema()?, event::LAYOUT) {
            self.ids.event.get_or_insert(id);
            Writer::Event
        } else if has_layout_of(&schema, report::schema()?, report::LAYOUT) {
            self.ids.report.get_or_insert(id);
            Writer::Report
        } else {
            Writer::Other(WriterSchema::of(id, schema)?)
        };
        self.others.insert(id, writer);
        Ok(())
    }

    /// Until it is learned or forgotten, values framed with `id` have this reason.
    pub fn refuse(&mut self, id: u32, reason: Reason) {
        self.others.insert(id, Writer::Refused(reason));
    }

    /// Whatever was refused of `id` may be learned again.
    pub fn forget(&mut self, id: u32) {
        self.others.remove(&id);
    }
}

/// Whether values of a schema are, byte by byte and in what they mean, those of one of ours.
fn has_layout_of(found: &Schema, own: &Schema, layout: &str) -> bool {
    let (Schema::Record(record), Schema::Record(ours)) = (found, own) else {
        return false;
    };
    // The canonical form knows no logical types, and milliseconds must not pass for microseconds.
    let mut fields = record.fields.iter().zip(&ours.fields);
    found.canonical_form() == layout && fields.all(|(found, own)| found.schema == own.schema)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::{KnownIds, Message, SCHEMA_JSON, encode};
    use crate::event::{AdEvent, CampaignId, Counts, Platform};
    use crate::time::Timestamp;
    use uuid::Uuid;

    const TIME: Timestamp = Timestamp::new(1_769_860_800_000);

    fn event() -> AdEvent<'static> {
        AdEvent {
            event_id: Uuid::from_u128(7),
            campaign_id: CampaignId::parse("cmp-1").expect("valid"),
            platform: Platform::Meta,
            event_time: TIME,
            counts: Counts::of([5, 4, 3_000_000, 2, 1]),
        }
    }

    fn framed(id: u32) -> Vec<u8> {
        let mut payload = Vec::new();
        encode(&event(), id, &mut payload);
        payload
    }

    fn decoder() -> Decoder {
        let decoder = Decoder::new(KnownIds::default());
        decoder.expect("the schemas are the layouts").learning()
    }

    #[test]
    fn our_schema_is_read_under_every_id_that_a_registry_gave_it() {
        let mut decoder = decoder();
        for (id, text) in [
            (5, SCHEMA_JSON.to_owned()),
            (9, SCHEMA_JSON.replacen("Version 1.", "In other words.", 1)),
        ] {
            let payload = framed(id);
            assert_eq!(decoder.decode(&payload), Err(Reason::UnknownSchema));
            assert_eq!(decoder.lacks(&payload), Some(id));
            decoder.learn(id, &text).expect("it is ours");
            assert_eq!(decoder.lacks(&payload), None);
            assert_eq!(decoder.decode(&payload), Ok(Message::Event(event())));
            assert_eq!(decoder.fields(&payload).len(), 9);
        }
        assert_eq!(decoder.ids.event, Some(5));
        assert!(matches!(decoder.others.get(&9), Some(Writer::Event)));
        decoder.learn(6, report::SCHEMA_JSON).expect("it is ours");
        assert_eq!(decoder.ids.report, Some(6));
    }

    #[test]
    fn another_unit_in_the_same_bytes_is_another_schema() {
        let mut decoder = decoder();
        let millis = SCHEMA_JSON.replacen("timestamp-micros", "timestamp-millis", 1);
        decoder.learn(5, &millis).expect("it is a writer's");
        let payload = framed(5);
        let read = decoder.decode(&payload).expect("an event").event();
        let micros = Timestamp::new(TIME.get() * 1_000);
        assert_eq!(read.expect("an event").event_time, micros);
        assert_eq!(decoder.ids.event, None);
    }

    #[test]
    fn what_is_refused_is_not_lacked_until_it_is_forgotten() {
        let mut decoder = decoder();
        let payload = framed(5);
        decoder.refuse(5, Reason::IncompatibleSchema);
        assert_eq!(decoder.decode(&payload), Err(Reason::IncompatibleSchema));
        assert_eq!(decoder.lacks(&payload), None);
        decoder.forget(5);
        assert_eq!(decoder.lacks(&payload), Some(5));
        assert!(decoder.learn(5, "[]").is_err());
        assert_eq!(decoder.lacks(&payload), Some(5));
        assert_eq!(decoder.lacks(b""), None);
        // Without a registry nothing can be learned.
        let closed = Decoder::new(KnownIds::default()).expect("the schemas are the layouts");
        assert_eq!(closed.lacks(&payload), None);
    }
}
