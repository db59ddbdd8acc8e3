//! Bytes to text: encodings, and the bounds within which a reader of lines stays.

use std::cell::Cell;
use std::fmt;
use std::fs::File;
use std::io::{self, Read};
use std::rc::Rc;

use chardetng::{EncodingDetector, Iso2022JpDetection, Utf8Detection};
use encoding_rs::{CoderResult, Decoder, UTF_8, UTF_16BE, UTF_16LE};

use super::refusal::Refusal;
use super::row::Place;

/// The longest record, in bytes of UTF-8: quotes that nobody closed would else take a file for one cell.
pub const LONGEST_RECORD: usize = 1 << 20;

/// How text is encoded.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Encoding {
    encoding: &'static encoding_rs::Encoding,
    has_mark: bool,
}

impl fmt::Display for Encoding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.encoding.name())?;
        if self.has_mark && self.encoding == UTF_8 {
            f.write_str(" with BOM")?;
        }
        Ok(())
    }
}

impl fmt::Debug for Encoding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

fn unreadable(error: &io::Error) -> Refusal {
    Refusal::new(format!("cannot be read: {error}"))
}

/// Reads until the buffer is full or the file ends.
fn fill(file: &mut File, buffer: &mut [u8]) -> Result<usize, Refusal> {
    let mut filled = 0_usize;
    while let Some(rest) = buffer.get_mut(filled..) {
        match file.read(rest) {
            Ok(0) => break,
            Ok(length) => filled = filled.saturating_add(length),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(unreadable(&error)),
        }
    }
    Ok(filled)
}

/// How a file is encoded: as its mark says; else UTF-8 if all of it is; else what its bytes look like.
///
/// # Errors
/// When it cannot be read.
pub fn detect(mut file: File) -> Result<Encoding, Refusal> {
    /// So much of what is not UTF-8 is looked at.
    const LOOKED_AT: usize = 4 << 20;
    let mut buffer = vec![0; 1 << 16];
    let length = fill(&mut file, &mut buffer)?;
    let mut chunk = buffer.get(..length).unwrap_or_default();
    if let Some((encoding, _)) = encoding_rs::Encoding::for_bom(chunk) {
        let has_mark = true;
        return Ok(Encoding { encoding, has_mark });
    }
    let has_mark = false;
    if let Some(encoding) = unmarked_utf16(chunk) {
        return Ok(Encoding { encoding, has_mark });
    }
    // The beginning of a character that a chunk cut.
    let mut cut: Vec<u8> = Vec::new();
    let mut detector: Option<(EncodingDetector, usize)> = None;
    let mut whole: Vec<u8>;
    while !chunk.is_empty() {
        if let Some((detector, left)) = &mut detector {
            detector.feed(chunk, false);
            *left = left.saturating_sub(chunk.len());
            if *left == 0 {
                break;
            }
        } else {
            whole = std::mem::take(&mut cut);
            whole.extend_from_slice(chunk);
            match std::str::from_utf8(&whole) {
                Ok(_) => {}
                Err(error) if error.error_len().is_none() => {
                    cut.extend_from_slice(whole.get(error.valid_up_to()..).unwrap_or_default());
                }
                Err(_) => {
                    let mut new = EncodingDetector::new(Iso2022JpDetection::Deny);
                    new.feed(&whole, false);
                    detector = Some((new, LOOKED_AT));
                }
            }
        }
        let length = fill(&mut file, &mut buffer)?;
        chunk = buffer.get(..length).unwrap_or_default();
    }
    if detector.is_none() && !cut.is_empty() {
        let mut new = EncodingDetector::new(Iso2022JpDetection::Deny);
        new.feed(&cut, false);
        detector = Some((new, 0));
    }
    let encoding = detector.map_or(UTF_8, |(mut detector, _)| {
        detector.feed(&[], true);
        detector.guess(None, Utf8Detection::Deny)
    });
    Ok(Encoding { encoding, has_mark })
}

/// UTF-16 without a mark: of Latin text every other byte is zero.
fn unmarked_utf16(head: &[u8]) -> Option<&'static encoding_rs::Encoding> {
    let head = head.get(..head.len().min(512))?;
    let zeros = |offset: usize| {
        let bytes = head.iter().skip(offset).step_by(2);
        bytes.filter(|b| **b == 0).count()
    };
    let (even, odd) = (zeros(0), zeros(1));
    let most = head.len().checked_div(3)?;
    if even == 0 && odd > 0 && odd >= most {
        Some(UTF_16LE)
    } else if odd == 0 && even > 0 && even >= most {
        Some(UTF_16BE)
    } else {
        None
    }
}

/// A file as UTF-8, some at a time. Refuses a NUL, what is not text in its encoding, and records without an end.
pub struct Text {
    file: File,
    /// None: it is UTF-8, and goes through as it is.
    decoder: Option<Decoder>,
    raw: Vec<u8>,
    /// Which of `raw` was not decoded yet.
    pending: std::ops::Range<usize>,
    ended: bool,
    /// The decoder has given all it has, and must not be asked again.
    finished: bool,
    /// Lines that ended so far, and characters of the one that did not.
    lines: u64,
    column: u64,
    /// The last byte that was handed over, and how many were.
    last: Option<u8>,
    handed: u64,
    /// Whether the first line ended with a carriage return and a line feed.
    ends_with_return: Option<bool>,
    /// Decoded, for a reader whose buffer was too small for it.
    stash: Vec<u8>,
    budget: Budget,
    encoding: Encoding,
}

/// What a reader may still take for its record, besides what it reads ahead.
#[derive(Clone, Debug)]
pub struct Budget(Rc<Cell<usize>>);

impl Budget {
    /// Begins a record.
    pub fn begin_record(&self) {
        self.0.set(LONGEST_RECORD);
    }
}

impl Text {
    /// Reads `file` from where it stands, its start.
    pub fn new(file: File, encoding: Encoding) -> Text {
        let decoder = encoding.encoding.new_decoder_with_bom_removal();
        let is_plain = encoding.encoding == UTF_8 && !encoding.has_mark;
        Text {
            file,
            decoder: (!is_plain).then_some(decoder),
            raw: vec![0; 1 << 16],
            pending: 0..0,
            ended: false,
            finished: false,
            ends_with_return: None,
            lines: 0,
            column: 0,
            last: None,
            handed: 0,
            stash: Vec::new(),
            budget: Budget(Rc::new(Cell::new(usize::MAX))),
            encoding,
        }
    }

    /// The bound on records, for who reads them.
    pub fn budget(&self) -> Budget {
        self.budget.clone()
    }

    /// Whether the line feed of a record that ends after so many bytes is among them: not where a carriage return ended the
    /// record before it, nor where the file ends without one.
    pub fn counts_its_end(&self, bytes: u64) -> bool {
        let is_cut = self.handed == bytes && self.last.is_some_and(|last| last != b'\n');
        self.ends_with_return != Some(true) && !is_cut
    }

    fn line(&self) -> Place {
        Place::Line(self.lines.saturating_add(1))
    }

    fn decoded(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let Some(decoder) = &mut self.decoder else {
            return self.file.read(out);
        };
        loop {
            if self.finished {
                return Ok(0);
            }
            if self.pending.is_empty() && !self.ended {
                let length = self.file.read(&mut self.raw)?;
                self.pending = 0..length;
                self.ended = length == 0;
            }
            let raw = self.raw.get(self.pending.clone()).unwrap_or_default();
            let (result, read, written, had_errors) = decoder.decode_to_utf8(raw, out, self.ended);
            self.pending.start = self.pending.start.saturating_add(read);
            if had_errors {
                let refusal = Refusal::new(format!("not valid {}", self.encoding))
                    .at(self.line())
                    .so("it is cut or broken: export it again");
                return Err(io::Error::other(refusal));
            }
            self.finished = self.ended && matches!(result, CoderResult::InputEmpty);
            if written > 0 {
                return Ok(written);
            }
        }
    }
}

impl Read for Text {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        if self.budget.0.get() == 0 {
            let refusal = Refusal::new(
                "a record or line of more than 1 MiB, or quotes without an end before here",
            )
            .at(self.line())
            .so("close the quotes, or export it again");
            return Err(io::Error::other(refusal));
        }
        let length = self.fitted(out)?;
        let text = out.get(..length).unwrap_or_default();
        self.budget
            .0
            .set(self.budget.0.get().saturating_sub(length));
        if self.ends_with_return.is_none()
            && let Some(end) = text.iter().position(|b| *b == b'\n')
        {
            let before = end.checked_sub(1).and_then(|before| text.get(before));
            self.ends_with_return = Some(before.copied().or(self.last) == Some(b'\r'));
        }
        self.last = text.last().copied().or(self.last);
        self.handed = self
            .handed
            .saturating_add(u64::try_from(length).unwrap_or(u64::MAX));
        if let Some(nul) = text.iter().position(|b| *b == 0) {
            let before = text.get(..nul).unwrap_or_default();
            self.advance(before);
            let column = self.column.saturating_add(1);
            let refusal = Refusal::new(format!("a NUL character, the line's character {column}"))
                .at(self.line())
                .so("export it again, as text");
            return Err(io::Error::other(refusal));
        }
        self.advance(text);
        Ok(length)
    }
}

impl Text {
    /// Decodes into a buffer of any length.
    fn fitted(&mut self, out: &mut [u8]) -> io::Result<usize> {
        // A character takes up to four bytes, and a decoder must have room for one.
        const ROOM: usize = 64;
        if self.stash.is_empty() && out.len() >= ROOM {
            return self.decoded(out);
        }
        if self.stash.is_empty() && !out.is_empty() {
            let mut small = [0; ROOM];
            let length = self.decoded(&mut small)?;
            self.stash
                .extend_from_slice(small.get(..length).unwrap_or_default());
        }
        let length = self.stash.len().min(out.len());
        for (to, from) in out.iter_mut().zip(self.stash.drain(..length)) {
            *to = from;
        }
        Ok(length)
    }

    /// Counts lines, and the characters of the last one.
    fn advance(&mut self, text: &[u8]) {
        let ends = text.iter().filter(|b| **b == b'\n').count();
        self.lines = self
            .lines
            .saturating_add(u64::try_from(ends).unwrap_or(u64::MAX));
        let last = match text.iter().rposition(|b| *b == b'\n') {
            Some(end) => {
                self.column = 0;
                text.get(end.saturating_add(1)..).unwrap_or_default()
            }
            None => text,
        };
        // All bytes but those that continue a character.
        let characters = last.iter().filter(|b| **b & 0xc0 != 0x80).count();
        self.column = self
            .column
            .saturating_add(u64::try_from(characters).unwrap_or(u64::MAX));
    }
}

/// The refusal that a reader met below, if it was one.
pub fn refusal_of(error: &io::Error) -> Refusal {
    let refusal = error.get_ref().and_then(|inner| inner.downcast_ref());
    refusal.cloned().unwrap_or_else(|| unreadable(error))
}

#[cfg(test)]
#[allow(clippy::arithmetic_side_effects)]
mod tests {
    use super::*;
    use std::io::{Seek as _, Write as _};

    fn file(bytes: &[u8]) -> File {
        let mut file = tempfile::tempfile().expect("a file");
        file.write_all(bytes).expect("room");
        file.rewind().expect("a file");
        file
    }

    fn read(bytes: &[u8]) -> (String, Result<String, Refusal>) {
        let encoding = detect(file(bytes)).expect("readable");
        let mut text = String::new();
        let end = Text::new(file(bytes), encoding).read_to_string(&mut text);
        let end = end.map(|_| text).map_err(|error| refusal_of(&error));
        (encoding.to_string(), end)
    }

    fn utf16(text: &str, big: bool, mark: bool) -> Vec<u8> {
        let mark = mark.then_some('\u{feff}');
        let units: Vec<u16> = mark
            .into_iter()
            .chain(text.chars())
            .flat_map(|c| c.encode_utf16(&mut [0; 2]).to_vec())
            .collect();
        let bytes = |unit: &u16| {
            if big {
                unit.to_be_bytes()
            } else {
                unit.to_le_bytes()
            }
        };
        units.iter().flat_map(bytes).collect()
    }

    #[test]
    fn encodings_are_told_apart() {
        let text = "Day\tCampaign\n2024-06-03\tÉté 🚀\n";
        let latin = b"Day,Campaign\n2024-06-03,\xc9t\xe9 \x80\n";
        assert_eq!(
            read(text.as_bytes()),
            ("UTF-8".to_owned(), Ok(text.to_owned()))
        );
        let marked = ["\u{feff}", text].concat();
        assert_eq!(
            read(marked.as_bytes()),
            ("UTF-8 with BOM".to_owned(), Ok(text.to_owned()))
        );
        for (big, name) in [(false, "UTF-16LE"), (true, "UTF-16BE")] {
            for mark in [true, false] {
                let bytes = utf16(text, big, mark);
                assert_eq!(read(&bytes), (name.to_owned(), Ok(text.to_owned())));
            }
        }
        assert_eq!(
            read(latin),
            (
                "windows-1252".to_owned(),
                Ok("Day,Campaign\n2024-06-03,Été €\n".to_owned())
            )
        );
    }

    #[test]
    fn characters_across_chunks_are_whole() {
        let text = format!("{}é🚀{}", "a".repeat((1 << 16) - 1), "ü".repeat(100_000));
        assert_eq!(read(text.as_bytes()).1, Ok(text.clone()));
        for big in [false, true] {
            assert_eq!(read(&utf16(&text, big, true)).1, Ok(text.clone()));
        }
    }

    #[test]
    fn what_is_not_text_is_refused_where_it_is() {
        let nul = read("a,b\né\u{0}c".as_bytes()).1.expect_err("a NUL");
        assert_eq!(
            nul.to_string(),
            "line 2, a NUL character, the line's character 2; export it again, as text"
        );
        let mut cut = utf16("a\nb🚀", false, true);
        cut.truncate(cut.len() - 2);
        let cut = read(&cut).1.expect_err("half a character");
        assert!(cut.to_string().contains("not valid UTF-16LE"), "{cut}");
    }

    #[test]
    fn a_record_without_an_end_is_refused() {
        let encoding = detect(file(b"a")).expect("readable");
        let mut text = Text::new(file(&vec![b'a'; 3 << 20]), encoding);
        text.budget().begin_record();
        let error = text.read_to_end(&mut Vec::new()).expect_err("no end");
        assert!(refusal_of(&error).reason.contains("1 MiB"));
    }
}
