//! For those who can wait: what a value's schema is, asked for when it is met.

use super::{Answer, Client, Failure, Settings};
use crate::codec::{Decoder, KnownIds};
use crate::event::Reason;

/// A decoder, and the registry that it learns from, if there is one.
pub struct Learner {
    pub decoder: Decoder,
    client: Option<Client>,
}

impl Learner {
    /// One that knows so much from the start.
    ///
    /// # Errors
    /// As [`Decoder::with_writers`] and [`Client::new`].
    pub fn new(
        ids: KnownIds,
        writers: &[(u32, std::path::PathBuf)],
        registry: Option<&Settings>,
    ) -> anyhow::Result<Learner> {
        let decoder = Decoder::with_writers(ids, writers)?;
        let client = registry.map(Client::new).transpose()?;
        Ok(Learner {
            decoder: match client {
                Some(_) => decoder.learning(),
                None => decoder,
            },
            client,
        })
    }

    /// The decoder, which knows the schema of this value, or why it cannot be read.
    ///
    /// # Errors
    /// When the registry does not answer.
    pub fn of(&mut self, payload: Option<&[u8]>) -> Result<&mut Decoder, Failure> {
        let decoder = &mut self.decoder;
        let lacking = payload.and_then(|payload| decoder.lacks(payload));
        if let (Some(client), Some(id)) = (&self.client, lacking) {
            match client.schema(id)? {
                Answer::Schema(schema) => {
                    if let Err(why) = decoder.learn(id, &schema) {
                        log::warn!("{why}");
                        decoder.refuse(id, Reason::IncompatibleSchema);
                    }
                }
                Answer::Unusable(why) => {
                    log::warn!("schema {id}: {why}");
                    decoder.refuse(id, Reason::IncompatibleSchema);
                }
                Answer::Nothing => decoder.refuse(id, Reason::UnknownSchema),
            }
        }
        Ok(decoder)
    }
}
