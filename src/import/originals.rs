//! The imported files themselves, kept as they were read: by their SHA-256, compressed, each once.
//!
//! What was packed is kept unpacked, for that is what lines are counted in. A file is written whole before anything of it is
//! sent, and whoever gets it back gets the very bytes, or is told that they are not.

use std::fs::File;
use std::io::{self, BufReader, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context as _, bail};
use data_encoding::HEXLOWER;
use diesel::{Connection as _, PgConnection};
use serde_json::Value;
use sha2::{Digest as _, Sha256};
use zstd::stream::read::{Decoder, Encoder};

use crate::event::Count;
use crate::reports::FileReport;
use crate::store::keep::imports::{self, Import};
use crate::store::read;

mod bucket;
mod signing;

use bucket::Bucket;

/// So much of a file is compressed as one piece: what is held in memory, and what a row of the table holds at most.
const PIECE: usize = 1 << 20;
/// A tenth to a twentieth of a table is left, as fast as it is read.
const LEVEL: i32 = 3;

/// Where imported files are kept.
#[derive(Clone, Debug)]
pub enum Originals {
    /// In the database.
    Postgres,
    /// As files, named by their SHA-256.
    Folder(PathBuf),
    /// The same in a bucket of S3, or of what speaks like it.
    Bucket(Arc<Bucket>),
    /// Nowhere: what they were is known, and not what was in them.
    Off,
}

impl Originals {
    /// What the flag takes.
    pub const PLACES: &str = "postgres | DIR | s3://BUCKET/PREFIX | off";

    /// As the flag says it.
    ///
    /// # Errors
    /// A message for the user.
    pub fn from_flag(text: &str) -> Result<Originals, String> {
        match (text, text.split_once("://")) {
            ("", _) => Err(Originals::PLACES.to_owned()),
            ("postgres", _) => Ok(Originals::Postgres),
            ("off", _) => Ok(Originals::Off),
            (_, Some(("s3", address))) => {
                Bucket::from_address(address).map(|bucket| Originals::Bucket(Arc::new(bucket)))
            }
            (_, Some((scheme, _))) => Err(format!(
                "nothing is kept at {scheme}://: {}",
                Originals::PLACES
            )),
            (_, None) => Ok(Originals::Folder(text.into())),
        }
    }

    /// Keeps a file where that is not in the database.
    ///
    /// # Errors
    /// When there is no room, the bucket does not take it, or the file is not what it was.
    pub fn put(&self, sha256: &[u8; 32], content: &mut File) -> anyhow::Result<()> {
        match self {
            Originals::Folder(folder) => in_folder(folder, sha256, content)
                .with_context(|| format!("keeping it in {}", folder.display()))?,
            Originals::Bucket(bucket) => bucket
                .keep(&name(sha256), Packed::new(content, sha256)?)
                .with_context(|| format!("keeping it in {bucket}"))?,
            Originals::Postgres | Originals::Off => {}
        }
        Ok(())
    }

    /// Removes a file, named by its SHA-256 in hexadecimal, from where it is kept if that is not in the database. It need not be
    /// there.
    ///
    /// # Errors
    /// When the folder or the bucket does not let it go.
    pub fn remove(&self, sha256: &str) -> anyhow::Result<()> {
        let sha256 = HEXLOWER.decode(sha256.as_bytes())?;
        match self {
            Originals::Folder(folder) => {
                let path = folder.join(name(&sha256));
                match std::fs::remove_file(&path) {
                    Err(error) if error.kind() != io::ErrorKind::NotFound => {
                        Err(error).with_context(|| format!("removing {}", path.display()))?;
                    }
                    _ => {}
                }
            }
            Originals::Bucket(bucket) => bucket
                .remove(&name(&sha256))
                .with_context(|| format!("removing it from {bucket}"))?,
            Originals::Postgres | Originals::Off => {}
        }
        Ok(())
    }

    /// Notes as what a file is imported, and keeps it where that is in the database.
    ///
    /// # Errors
    /// When the database does not answer, or the file is not what it was.
    pub fn note(
        &self,
        connection: &mut PgConnection,
        sha256: &[u8; 32],
        content: &mut File,
        import: &Import,
    ) -> anyhow::Result<()> {
        let size = Count::new(i64::try_from(content.metadata()?.len())?);
        let file_id = imports::file_id(connection, sha256)?;
        connection.transaction(|connection| {
            let is_kept = imports::hold(connection, file_id)?;
            if matches!(self, Originals::Postgres) && !is_kept {
                in_database(connection, file_id, sha256, content)?;
            }
            Ok(imports::note(connection, file_id, size, import)?)
        })
    }

    /// Writes a file as it was. In the database it is found wherever new ones are kept.
    ///
    /// # Errors
    /// When it is not kept, or not what it was.
    pub fn copy(
        &self,
        connection: &mut PgConnection,
        file: &read::imports::File,
        out: &mut dyn Write,
    ) -> anyhow::Result<()> {
        let mut out = Hashing::new(out);
        if file.is_kept {
            let mut n = 0;
            while let Some(piece) = imports::chunk(connection, file.file_id, n)? {
                let piece = zstd::bulk::decompress(&piece, PIECE).context("unpacking it")?;
                out.write_all(&piece)?;
                n += 1;
            }
        } else {
            match self {
                Originals::Folder(folder) => {
                    let path = folder.join(name(&file.sha256));
                    File::open(&path)
                        .map_err(Into::into)
                        .and_then(|kept| unpack(kept, &mut out))
                        .with_context(|| format!("{}", path.display()))?;
                }
                Originals::Bucket(bucket) => bucket
                    .read(&name(&file.sha256))
                    .and_then(|kept| unpack(kept, &mut out))
                    .with_context(|| bucket.to_string())?,
                Originals::Postgres | Originals::Off => bail!(
                    "its content is not in the database: name the folder or the bucket with --originals, if it was kept in one"
                ),
            }
        }
        out.flush()?;
        if out.hash.finalize().as_slice() != file.sha256 {
            bail!("what is kept is not the file any more: its SHA-256 is another");
        }
        Ok(())
    }
}

/// What a good file is noted as; none while it is not known of when it is. `options`: how it was to be read and sent.
pub fn noted(report: &FileReport, accounts: Vec<String>, options: &Value) -> Option<Import> {
    let shape = report.shape.as_ref()?;
    let gathered = &report.gathered;
    Some(Import {
        observed_at: shape.observed_at?.into(),
        name: report.name.clone(),
        shape: shape.name.clone(),
        platform: shape.platform,
        accounts,
        rows: Count::new(i64::try_from(gathered.rows).unwrap_or(i64::MAX)),
        first_day: gathered.first_day,
        last_day: gathered.last_day,
        options: options.to_string(),
    })
}

/// The bytes that pass, and their hash.
struct Hashing<T> {
    inner: T,
    hash: Sha256,
}

impl<T> Hashing<T> {
    fn new(inner: T) -> Hashing<T> {
        let hash = Sha256::new();
        Hashing { inner, hash }
    }

    /// Whether it was the file that was checked.
    fn was(&self, sha256: &[u8; 32]) -> anyhow::Result<()> {
        if self.hash.clone().finalize().as_slice() != sha256 {
            bail!("the file is not what it was a moment ago; nothing was sent");
        }
        Ok(())
    }
}

impl<R: Read> Read for Hashing<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let length = self.inner.read(buffer)?;
        self.hash.update(buffer.get(..length).unwrap_or_default());
        Ok(length)
    }
}

impl<W: Write> Write for Hashing<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let length = self.inner.write(bytes)?;
        self.hash.update(bytes.get(..length).unwrap_or_default());
        Ok(length)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

/// A file's bytes as they are kept elsewhere than in the database: as one zstd stream.
struct Packed<'f> {
    encoder: Encoder<'static, BufReader<Hashing<&'f mut File>>>,
    sha256: &'f [u8; 32],
}

impl<'f> Packed<'f> {
    fn new(content: &'f mut File, sha256: &'f [u8; 32]) -> io::Result<Packed<'f>> {
        let encoder = Encoder::new(Hashing::new(content), LEVEL)?;
        Ok(Packed { encoder, sha256 })
    }

    /// Whether it was the file that was checked; asked when all of it is read.
    fn is_the_file(&self) -> anyhow::Result<()> {
        self.encoder.get_ref().get_ref().was(self.sha256)
    }
}

impl Read for Packed<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.encoder.read(buffer)
    }
}

fn unpack(packed: impl Read, out: &mut impl Write) -> anyhow::Result<()> {
    io::copy(&mut Decoder::new(packed)?, out)?;
    Ok(())
}

fn in_database(
    connection: &mut PgConnection,
    file_id: i32,
    sha256: &[u8; 32],
    content: &mut File,
) -> anyhow::Result<()> {
    let mut content = Hashing::new(content);
    let mut piece = Vec::with_capacity(PIECE);
    for n in 0.. {
        piece.clear();
        Read::by_ref(&mut content)
            .take(PIECE as u64)
            .read_to_end(&mut piece)?;
        if piece.is_empty() {
            break;
        }
        let packed = zstd::bulk::compress(&piece, LEVEL)?;
        imports::add_chunk(connection, file_id, n, &packed)?;
    }
    content.was(sha256)
}

/// `ab/abcdef….zst`: no folder has all of them.
fn name(sha256: &[u8]) -> String {
    let name = HEXLOWER.encode(sha256);
    let first = name.get(..2).unwrap_or_default();
    format!("{first}/{name}.zst")
}

/// Written beside its place and moved there, so that a file that is there is whole.
fn in_folder(folder: &Path, sha256: &[u8; 32], content: &mut File) -> anyhow::Result<()> {
    let path = folder.join(name(sha256));
    let (Some(beside), false) = (path.parent(), path.exists()) else {
        return Ok(());
    };
    std::fs::create_dir_all(beside)?;
    let mut out = tempfile::NamedTempFile::new_in(beside)?;
    let mut packed = Packed::new(content, sha256)?;
    io::copy(&mut packed, &mut out)?;
    packed.is_the_file()?;
    out.as_file().sync_all()?;
    out.persist(&path)?;
    File::open(beside)?.sync_all()?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_flag_says_where() {
        let of = |text: &str| Originals::from_flag(text).map(|place| format!("{place:?}"));
        for (text, place) in [
            ("postgres", "Postgres"),
            ("off", "Off"),
            ("/var/reports", "Folder(\"/var/reports\")"),
            ("s3://acme-reports", "Bucket(s3://acme-reports)"),
            ("s3://acme-reports/", "Bucket(s3://acme-reports)"),
            (
                "s3://acme-reports/ad/flux/",
                "Bucket(s3://acme-reports/ad/flux)",
            ),
        ] {
            assert_eq!(of(text).as_deref(), Ok(place));
        }
        for not in [
            "",
            "s3://",
            "s3://Acme",
            "s3:///reports",
            "s3://acme/../x",
            "gs://acme",
        ] {
            assert!(of(not).is_err(), "{not}");
        }
    }

    #[test]
    fn a_folder_has_a_file_once_and_whole() {
        let folder = tempfile::TempDir::new().expect("room");
        let mut content = tempfile::tempfile().expect("room");
        let bytes: Vec<u8> = (0..3 << 20).map(|n: u32| (n % 251) as u8).collect();
        content.write_all(&bytes).expect("room");
        let rewind = |file: &mut File| io::Seek::rewind(file).expect("a file");
        let sha256: [u8; 32] = Sha256::digest(&bytes).into();
        for _ in 0..2 {
            rewind(&mut content);
            in_folder(folder.path(), &sha256, &mut content).expect("kept");
        }
        let kept = File::open(folder.path().join(name(&sha256))).expect("there");
        let back = zstd::decode_all(kept).expect("zstd");
        assert!(back == bytes);
        let originals = Originals::Folder(folder.path().to_owned());
        for _ in 0..2 {
            originals.remove(&HEXLOWER.encode(&sha256)).expect("gone");
            assert!(!folder.path().join(name(&sha256)).exists());
        }
        // What has changed since it was checked leaves nothing.
        let other = [7; 32];
        rewind(&mut content);
        in_folder(folder.path(), &other, &mut content).expect_err("another file");
        let of_other = folder.path().join(name(&other));
        let left = std::fs::read_dir(of_other.parent().expect("a folder"));
        assert_eq!(left.expect("a folder").count(), 0);
    }
}
