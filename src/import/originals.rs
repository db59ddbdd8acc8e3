//! The imported files themselves, kept as they were read: by their SHA-256, compressed, each once.
//!
//! What was packed is kept unpacked, for that is what lines are counted in. A file is written whole before anything of it is
//! sent, and whoever gets it back gets the very bytes, or is told that they are not.

use std::fs::File;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use data_encoding::HEXLOWER;
use diesel::{Connection as _, PgConnection};
use sha2::{Digest as _, Sha256};
use zstd::stream::read::{Decoder, Encoder};

use crate::event::Count;
use crate::store::keep::imports::{self, Import};
use crate::store::read;

/// So much of a file is compressed as one piece: what is held in memory, and what a row of the table holds at most.
const PIECE: usize = 1 << 20;
/// A tenth to a twentieth of a table is left, as fast as it is read.
const LEVEL: i32 = 3;

/// Where imported files are kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Originals {
    /// In the database.
    Postgres,
    /// As files, named by their SHA-256.
    Folder(PathBuf),
    /// Nowhere: what they were is known, and not what was in them.
    Off,
}

impl Originals {
    /// As the flag says it.
    ///
    /// # Errors
    /// A message for the user.
    pub fn from_flag(text: &str) -> Result<Originals, String> {
        match text {
            "" => Err("postgres, a folder, or off".to_owned()),
            "postgres" => Ok(Originals::Postgres),
            "off" => Ok(Originals::Off),
            _ if text.contains("://") => {
                Err("buckets are not written to yet: postgres, a folder, or off".to_owned())
            }
            _ => Ok(Originals::Folder(text.into())),
        }
    }

    /// Keeps a file, and notes as what it is imported.
    ///
    /// # Errors
    /// When there is no room, the database does not answer, or the file is not what it was.
    pub fn keep(
        &self,
        connection: &mut PgConnection,
        sha256: &[u8; 32],
        mut content: File,
        import: &Import,
    ) -> anyhow::Result<()> {
        let size = Count::new(i64::try_from(content.metadata()?.len())?);
        if let Originals::Folder(folder) = self {
            in_folder(folder, sha256, &mut content)
                .with_context(|| format!("keeping it in {}", folder.display()))?;
        }
        let file_id = imports::file_id(connection, sha256)?;
        connection.transaction(|connection| {
            let is_kept = imports::hold(connection, file_id)?;
            if *self == Originals::Postgres && !is_kept {
                in_database(connection, file_id, sha256, &mut content)?;
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
        } else if let Originals::Folder(folder) = self {
            let path = path(folder, &file.sha256);
            let kept = File::open(&path).with_context(|| format!("{}", path.display()))?;
            io::copy(&mut Decoder::new(kept)?, &mut out)
                .with_context(|| format!("{}", path.display()))?;
        } else {
            bail!(
                "its content is not in the database: name the folder with --originals, if it was kept in one"
            );
        }
        out.flush()?;
        if out.hash.finalize().as_slice() != file.sha256 {
            bail!("what is kept is not the file any more: its SHA-256 is another");
        }
        Ok(())
    }
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
    fn was(self, sha256: &[u8; 32]) -> anyhow::Result<()> {
        if self.hash.finalize().as_slice() != sha256 {
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
fn path(folder: &Path, sha256: &[u8]) -> PathBuf {
    let name = HEXLOWER.encode(sha256);
    let first = name.get(..2).unwrap_or_default();
    folder.join(first).join(format!("{name}.zst"))
}

/// Written beside its place and moved there, so that a file that is there is whole.
fn in_folder(folder: &Path, sha256: &[u8; 32], content: &mut File) -> anyhow::Result<()> {
    let path = path(folder, sha256);
    let (Some(beside), false) = (path.parent(), path.exists()) else {
        return Ok(());
    };
    std::fs::create_dir_all(beside)?;
    let mut out = tempfile::NamedTempFile::new_in(beside)?;
    let mut content = Hashing::new(content);
    io::copy(&mut Encoder::new(&mut content, LEVEL)?, &mut out)?;
    content.was(sha256)?;
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
        assert_eq!(Originals::from_flag("postgres"), Ok(Originals::Postgres));
        assert_eq!(Originals::from_flag("off"), Ok(Originals::Off));
        let folder = Originals::from_flag("/var/reports");
        assert_eq!(folder, Ok(Originals::Folder("/var/reports".into())));
        for not in ["", "s3://bucket/reports"] {
            assert!(Originals::from_flag(not).is_err(), "{not}");
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
        let kept = File::open(path(folder.path(), &sha256)).expect("there");
        let back = zstd::decode_all(kept).expect("zstd");
        assert!(back == bytes);
        // What has changed since it was checked leaves nothing.
        let other = [7; 32];
        rewind(&mut content);
        in_folder(folder.path(), &other, &mut content).expect_err("another file");
        let of_other = path(folder.path(), &other);
        let left = std::fs::read_dir(of_other.parent().expect("a folder"));
        assert_eq!(left.expect("a folder").count(), 0);
    }
}
