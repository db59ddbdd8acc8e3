//! Files as they come: plain, packed, or something that is no report at all.
//!
//! What is packed is unpacked to a temporary file within limits, for everything is read more than once: first for what its
//! numbers say together, then row by row.

use std::fs::File;
use std::io::{self, BufReader, Read, Seek as _, SeekFrom, Write as _};
use std::path::Path;

use flate2::read::MultiGzDecoder;
use sha2::{Digest as _, Sha256};
use zip::ZipArchive;

use super::refusal::Refusal;
use super::text::Encoding;

/// How much a file may unpack to, in bytes.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Of one file, and of standard input.
    pub unpacked: u64,
    /// Of an Excel file, whose texts are held in memory.
    pub workbook: u64,
    /// Bytes out of one byte in. Exports pack to a twentieth; a bomb to a thousandth.
    pub ratio: u64,
    /// Up to here the ratio says nothing.
    pub free: u64,
    /// Files in a .zip: all are open at once.
    pub entries: usize,
}

impl Limits {
    /// What the command allows.
    pub const USUAL: Limits = Limits {
        unpacked: 8 << 30,
        workbook: 256 << 20,
        ratio: 250,
        free: 16 << 20,
        entries: 200,
    };
}

/// What kind of reader it needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A table, or lines of JSON.
    Text(Encoding),
    /// .xlsx.
    Workbook,
}

/// A file that can be read as often as it takes.
#[derive(Debug)]
pub struct Source {
    /// As the person named it; of a file in a .zip: `name.zip/file.csv`.
    pub name: String,
    pub kind: Kind,
    /// In bytes, as it is read.
    pub length: u64,
    file: File,
}

impl Source {
    /// The bytes, from the start.
    ///
    /// # Errors
    /// When the file cannot be read any more.
    pub fn bytes(&self) -> Result<File, Refusal> {
        rewound(&self.file).map_err(|error| unreadable(&error))
    }

    /// The SHA-256 of the bytes: what rows are said to be from.
    ///
    /// # Errors
    /// As [`Source::bytes`].
    pub fn sha256(&self) -> Result<[u8; 32], Refusal> {
        let mut file = self.bytes()?;
        let mut hash = Sha256::new();
        let mut buffer = vec![0; 1 << 16];
        loop {
            match file.read(&mut buffer) {
                Ok(0) => return Ok(hash.finalize().into()),
                Ok(length) => hash.update(buffer.get(..length).unwrap_or_default()),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(unreadable(&error)),
            }
        }
    }
}

fn rewound(file: &File) -> io::Result<File> {
    let mut file = file.try_clone()?;
    file.seek(SeekFrom::Start(0))?;
    Ok(file)
}

fn unreadable(error: &io::Error) -> Refusal {
    Refusal::new(format!("cannot be read: {error}"))
}

/// The reports in a file: one, or those of a .zip.
///
/// # Errors
/// Why it is no report, or cannot be read.
pub fn open(path: &Path, limits: Limits) -> Result<Vec<Source>, Refusal> {
    let file = File::open(path).map_err(|error| unreadable(&error))?;
    let is_file = file.metadata().is_ok_and(|m| m.is_file());
    let name = path.display().to_string();
    if is_file {
        expanded(name, file, limits, 0)
    } else if path.is_dir() {
        Err(Refusal::new("a folder").so("name the files in it"))
    } else {
        from_reader(&name, file, limits)
    }
}

/// The reports in what cannot be read twice, such as standard input.
///
/// # Errors
/// As [`open`].
pub fn from_reader(name: &str, reader: impl Read, limits: Limits) -> Result<Vec<Source>, Refusal> {
    let file = kept(reader, None, limits.unpacked, limits)?;
    expanded(name.to_owned(), file, limits, 0)
}

/// A copy in a temporary file that has no name, so that it is gone with the process. `packed`: from so many bytes.
fn kept(
    mut reader: impl Read,
    packed: Option<u64>,
    most: u64,
    limits: Limits,
) -> Result<File, Refusal> {
    let mut file = tempfile::tempfile()
        .map_err(|error| Refusal::new(format!("no temporary file for it: {error}")))?;
    let mut buffer = vec![0; 1 << 16];
    let mut written: u64 = 0;
    loop {
        let length = match reader.read(&mut buffer) {
            Ok(0) => return Ok(file),
            Ok(length) => length,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) if packed.is_some() => {
                return Err(Refusal::new(format!("cannot be unpacked: {error}"))
                    .so("it is cut or broken: download it again"));
            }
            Err(error) => return Err(unreadable(&error)),
        };
        written = written.saturating_add(u64::try_from(length).unwrap_or(u64::MAX));
        bounded(written, packed, most, limits)?;
        let chunk = buffer.get(..length).unwrap_or_default();
        file.write_all(chunk).map_err(|error| {
            Refusal::new(format!("no room for it in a temporary file: {error}"))
        })?;
    }
}

/// Refuses what unpacks to too much.
fn bounded(unpacked: u64, packed: Option<u64>, most: u64, limits: Limits) -> Result<(), Refusal> {
    if unpacked > most {
        let mebibytes = most >> 20;
        return Err(
            Refusal::new(format!("is or unpacks to more than {mebibytes} MiB"))
                .so("export fewer days a file"),
        );
    }
    let allowed = packed.map(|p| p.saturating_mul(limits.ratio).max(limits.free));
    if allowed.is_some_and(|allowed| unpacked > allowed) {
        return Err(Refusal::new(format!(
            "unpacks to more than {} times its size, as no report does",
            limits.ratio
        ))
        .so("if it is one, unpack it yourself first"));
    }
    Ok(())
}

/// What a file is, from how it begins.
enum Start {
    Gzip,
    Zip,
    Other(&'static str, &'static str),
    Empty,
    Text,
}

fn start(head: &[u8]) -> Start {
    const NOT_A_REPORT: &str = "export the report as CSV or XLSX";
    let magic: [(&[u8], &str, &str); 9] = [
        (b"%PDF", "a PDF", NOT_A_REPORT),
        (b"\x89PNG", "a picture (PNG)", NOT_A_REPORT),
        (b"\xff\xd8\xff", "a picture (JPEG)", NOT_A_REPORT),
        (b"GIF8", "a picture (GIF)", NOT_A_REPORT),
        (b"RIFF", "a picture or a sound (RIFF)", NOT_A_REPORT),
        (
            b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1",
            "an Excel file of the old kind (.xls), or one with a password",
            "save it as .xlsx or CSV, without a password",
        ),
        (b"PAR1", "Parquet", NOT_A_REPORT),
        (b"SQLite format 3", "an SQLite database", NOT_A_REPORT),
        (b"Rar!", "packed with RAR", "unpack it first"),
    ];
    if head.is_empty() {
        return Start::Empty;
    }
    if head.starts_with(b"\x1f\x8b") {
        return Start::Gzip;
    }
    if head.starts_with(b"PK\x03\x04") || head.starts_with(b"PK\x05\x06") {
        return Start::Zip;
    }
    for (bytes, what, remedy) in magic {
        if head.starts_with(bytes) {
            return Start::Other(what, remedy);
        }
    }
    let text = String::from_utf8_lossy(head.get(..512).unwrap_or(head)).to_lowercase();
    let text = text.trim_start_matches(|c: char| c.is_whitespace() || c == '\u{feff}');
    if ["<!doctype", "<html", "<head", "<body"]
        .iter()
        .any(|tag| text.starts_with(tag))
    {
        return Start::Other(
            "a web page, such as a sign-in or an error",
            "sign in and export the report again",
        );
    }
    if text.starts_with("<?xml") {
        return Start::Other("XML", NOT_A_REPORT);
    }
    Start::Text
}

/// Reads the beginning, as far as the file has one.
fn head(file: File) -> io::Result<Vec<u8>> {
    let mut head = Vec::new();
    file.take(4096).read_to_end(&mut head)?;
    Ok(head)
}

fn expanded(name: String, file: File, limits: Limits, depth: u32) -> Result<Vec<Source>, Refusal> {
    let error = |error: io::Error| unreadable(&error);
    let beginning = head(rewound(&file).map_err(error)?).map_err(error)?;
    let length = file.metadata().map_err(error)?.len();
    match start(&beginning) {
        Start::Empty => Err(Refusal::new("an empty file").so("export it again")),
        Start::Other(what, remedy) => {
            Err(Refusal::new(format!("not a report but {what}")).so(remedy))
        }
        Start::Text => {
            let encoding = super::text::detect(rewound(&file).map_err(error)?)?;
            let kind = Kind::Text(encoding);
            Ok(vec![Source {
                name,
                kind,
                length,
                file,
            }])
        }
        // A file may hold itself.
        Start::Gzip | Start::Zip if depth == 2 => {
            Err(Refusal::new("packed more than twice").so("unpack it first"))
        }
        Start::Gzip => {
            let packed = rewound(&file).map_err(error)?;
            let unpacked = MultiGzDecoder::new(BufReader::new(packed));
            let unpacked = kept(unpacked, Some(length), limits.unpacked, limits)?;
            expanded(name, unpacked, limits, depth.saturating_add(1))
        }
        Start::Zip => unzipped(name, file, length, limits, depth),
    }
}

fn unzipped(
    name: String,
    file: File,
    length: u64,
    limits: Limits,
    depth: u32,
) -> Result<Vec<Source>, Refusal> {
    let broken = |error: zip::result::ZipError| {
        Refusal::new(format!("cannot be unpacked: {error}"))
            .so("it is cut, broken, or has a password: download it again")
    };
    let packed = rewound(&file).map_err(|error| unreadable(&error))?;
    let mut archive = ZipArchive::new(BufReader::new(packed)).map_err(broken)?;
    if archive.len() > limits.entries {
        return Err(
            Refusal::new(format!("holds more than {} files", limits.entries)).so("unpack it first"),
        );
    }
    let is_workbook = archive
        .file_names()
        .any(|entry| entry.is_ok_and(|name| name == "xl/workbook.xml"));
    let mut sources = Vec::new();
    let mut unpacked: u64 = 0;
    for index in 0..archive.len() {
        let entry = archive.by_index(index).map_err(broken)?;
        let entry_name = entry.name().map_err(broken)?.into_owned();
        // A Mac adds a folder of its own.
        if entry.is_dir() || entry_name.starts_with("__MACOSX/") {
            continue;
        }
        if is_workbook {
            // What is declared may be a lie: count what comes out.
            unpacked = unpacked.saturating_add(counted(entry, limits.workbook)?);
            bounded(unpacked, Some(length), limits.workbook, limits)?;
        } else {
            let size = entry.compressed_size().min(length);
            let left = limits.unpacked.saturating_sub(unpacked);
            let out = kept(entry, Some(size), left, limits)?;
            unpacked = unpacked.saturating_add(out.metadata().map_or(0, |m| m.len()));
            let inner = format!("{name}/{entry_name}");
            let reports = expanded(inner, out, limits, depth.saturating_add(1));
            sources.extend(reports.map_err(|refusal| refusal.about(&entry_name))?);
        }
    }
    if is_workbook {
        return Ok(vec![Source {
            name,
            kind: Kind::Workbook,
            length,
            file,
        }]);
    }
    if sources.is_empty() {
        return Err(Refusal::new("a .zip without a file"));
    }
    Ok(sources)
}

/// How many bytes there are, up to one more than the most.
fn counted(reader: impl Read, most: u64) -> Result<u64, Refusal> {
    io::copy(&mut reader.take(most.saturating_add(1)), &mut io::sink()).map_err(|error| {
        Refusal::new(format!("cannot be unpacked: {error}"))
            .so("it is cut or broken: download it again")
    })
}

#[cfg(test)]
#[allow(clippy::arithmetic_side_effects)]
mod tests {
    use super::*;
    use flate2::Compression;
    use flate2::write::GzEncoder;
    use proptest::prelude::*;
    use zip::write::SimpleFileOptions;

    fn opened(bytes: &[u8]) -> Result<Vec<Source>, Refusal> {
        from_reader("it", bytes, Limits::USUAL)
    }

    fn gz(bytes: &[u8]) -> Vec<u8> {
        let mut out = GzEncoder::new(Vec::new(), Compression::best());
        out.write_all(bytes).expect("memory");
        out.finish().expect("memory")
    }

    fn zipped(files: &[(&str, &[u8])]) -> Vec<u8> {
        let mut out = zip::ZipWriter::new(io::Cursor::new(Vec::new()));
        for (name, bytes) in files {
            out.start_file(*name, SimpleFileOptions::default())
                .expect("memory");
            out.write_all(bytes).expect("memory");
        }
        out.finish().expect("memory").into_inner()
    }

    fn read(source: &Source) -> Vec<u8> {
        let mut bytes = Vec::new();
        let mut file = source.bytes().expect("there");
        file.read_to_end(&mut bytes).expect("there");
        bytes
    }

    #[test]
    fn what_is_packed_is_unpacked() {
        let csv = b"Day,Cost\n2024-06-03,1\n";
        for bytes in [
            csv.to_vec(),
            gz(csv),
            zipped(&[("a.csv", csv)]),
            gz(&zipped(&[("a.csv", csv)])),
        ] {
            let sources = opened(&bytes).expect("a report");
            assert_eq!(sources.len(), 1);
            // Twice, for it is read twice.
            assert_eq!(
                (read(&sources[0]), read(&sources[0])),
                (csv.to_vec(), csv.to_vec())
            );
        }
        let two = opened(&zipped(&[
            ("a.csv", csv),
            ("__MACOSX/a", b"x"),
            ("b.csv", csv),
        ]));
        let names: Vec<_> = two.expect("two").into_iter().map(|s| s.name).collect();
        assert_eq!(names, ["it/a.csv", "it/b.csv"]);
    }

    #[test]
    fn what_is_no_report_is_refused_as_what_it_is() {
        for (bytes, said) in [
            (&b"%PDF-1.7"[..], "a PDF"),
            (b"\x89PNG\r\n", "a picture (PNG)"),
            (b"\n <!DOCTYPE html><html>", "a web page"),
            (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", ".xls"),
            (b"", "an empty file"),
            (b"\x1f\x8bnot gzip", "cannot be unpacked"),
            (b"PK\x03\x04not zip", "cannot be unpacked"),
        ] {
            let refusal = opened(bytes).expect_err("no report").to_string();
            assert!(refusal.contains(said), "{refusal}");
        }
        let in_zip = zipped(&[("a.pdf", b"%PDF-1.7")]);
        let refusal = opened(&in_zip).expect_err("no report").to_string();
        assert!(
            refusal.contains("a.pdf: not a report but a PDF"),
            "{refusal}"
        );
    }

    #[test]
    fn bombs_are_refused() {
        let zeros = vec![b'0'; 32 << 20];
        for bytes in [gz(&zeros), zipped(&[("a.csv", &zeros)])] {
            let refusal = opened(&bytes).expect_err("a bomb").to_string();
            assert!(refusal.contains("times its size"), "{refusal}");
        }
        let sheet = zipped(&[("xl/workbook.xml", b"<a/>"), ("xl/sheet.xml", &zeros)]);
        let refusal = opened(&sheet).expect_err("a bomb").to_string();
        assert!(refusal.contains("times its size"), "{refusal}");
        let small = Limits {
            unpacked: 1 << 20,
            ..Limits::USUAL
        };
        let refusal = from_reader("it", &zeros[..], small).expect_err("too much");
        assert!(refusal.to_string().contains("more than 1 MiB"), "{refusal}");
        let thrice = gz(&gz(&gz(b"a,b\n")));
        let refusal = opened(&thrice).expect_err("too deep").to_string();
        assert!(refusal.contains("packed more than twice"), "{refusal}");
    }

    proptest! {
        #[test]
        fn any_bytes_are_opened_or_refused(start in 0..4_usize, bytes in any::<Vec<u8>>()) {
            let start: &[u8] = [&b""[..], b"\x1f\x8b\x08", b"PK\x03\x04", b"\xff\xfe"][start];
            let _ = opened(&[start, &bytes].concat());
        }
    }
}
