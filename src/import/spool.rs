//! Records that are made while files are compared, and wait in a temporary file until all files are found good.

use std::fs::File;
use std::io::{self, BufReader, BufWriter, Read, Seek as _, Write as _};

/// What takes a record: its key and its value.
pub type Put<'a> = dyn FnMut(&[u8], &[u8]) -> anyhow::Result<()> + 'a;

/// See the module. There is no file until there is a record.
#[derive(Debug, Default)]
pub struct Spool {
    out: Option<BufWriter<File>>,
    pub records: u64,
}

impl Spool {
    /// Appends a record.
    ///
    /// # Errors
    /// When there is no room for temporary files.
    pub fn push(&mut self, key: &[u8], value: &[u8]) -> io::Result<()> {
        let out = match &mut self.out {
            Some(out) => out,
            none => none.insert(BufWriter::new(tempfile::tempfile()?)),
        };
        for part in [key, value] {
            let length = u32::try_from(part.len()).map_err(io::Error::other)?;
            out.write_all(&length.to_le_bytes())?;
            out.write_all(part)?;
        }
        self.records = self.records.saturating_add(1);
        Ok(())
    }

    /// Appends the records of another.
    ///
    /// # Errors
    /// When there is no room for temporary files.
    pub fn append(&mut self, mut other: Spool) -> io::Result<()> {
        if self.records == 0 {
            *self = other;
            return Ok(());
        }
        let put = other.each(&mut |key, value| Ok(self.push(key, value)?));
        put.map_err(io::Error::other)
    }

    /// Hands over all records, in order.
    ///
    /// # Errors
    /// When the temporary file cannot be read, or what `put` says.
    pub fn each(&mut self, put: &mut Put<'_>) -> anyhow::Result<()> {
        let Some(out) = &mut self.out else {
            return Ok(());
        };
        out.flush()?;
        out.get_mut().rewind()?;
        let mut from = BufReader::new(out.get_ref());
        let (mut key, mut value) = (Vec::new(), Vec::new());
        for _ in 0..self.records {
            part(&mut from, &mut key)?;
            part(&mut from, &mut value)?;
            put(&key, &value)?;
        }
        Ok(())
    }
}

fn part(from: &mut impl Read, part: &mut Vec<u8>) -> io::Result<()> {
    let mut length = [0; 4];
    from.read_exact(&mut length)?;
    let length = u64::from(u32::from_le_bytes(length));
    part.clear();
    from.take(length).read_to_end(part)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn records_come_back_in_order(records in prop::collection::vec(any::<(Vec<u8>, Vec<u8>)>(), 0..20)) {
            let mut spool = Spool::default();
            for (key, value) in &records {
                spool.push(key, value).expect("room");
            }
            for _ in 0..2 {
                let mut again = Vec::new();
                spool
                    .each(&mut |key, value| {
                        again.push((key.to_vec(), value.to_vec()));
                        Ok(())
                    })
                    .expect("it is there");
                prop_assert_eq!(&again, &records);
            }
        }
    }
}
