//! Avro's binary encoding of what our schemas are made of: texts and whole numbers.

// Bytes from outside come through here.
#![deny(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

use crate::event::Reason;

pub(super) fn write_text(text: &str, out: &mut Vec<u8>) {
    write_long(text.len() as i64, out);
    out.extend_from_slice(text.as_bytes());
}

/// Zig-zag, then seven bits a byte, lowest first.
pub(super) fn write_long(value: i64, out: &mut Vec<u8>) {
    let mut rest = ((value << 1) ^ (value >> 63)) as u64;
    while rest >= 0x80 {
        out.push(rest as u8 | 0x80);
        rest >>= 7;
    }
    out.push(rest as u8);
}

#[inline]
pub(super) fn read_long(rest: &mut &[u8]) -> Result<i64, Reason> {
    let mut value = 0u64;
    for shift in (0..=63).step_by(7) {
        let (&byte, tail) = rest.split_first().ok_or(Reason::Truncated)?;
        *rest = tail;
        // The tenth byte holds the 64th bit alone.
        if shift == 63 && byte > 1 {
            break;
        }
        value |= u64::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            return Ok((value >> 1) as i64 ^ ((value & 1) as i64).wrapping_neg());
        }
    }
    Err(Reason::MalformedAvro)
}

#[inline]
pub(super) fn read_text<'a>(rest: &mut &'a [u8]) -> Result<&'a [u8], Reason> {
    let len = usize::try_from(read_long(rest)?).map_err(|_| Reason::MalformedAvro)?;
    let (text, tail) = rest.split_at_checked(len).ok_or(Reason::Truncated)?;
    *rest = tail;
    Ok(text)
}

pub(super) fn utf8(bytes: &[u8]) -> Result<&str, Reason> {
    std::str::from_utf8(bytes).map_err(|_| Reason::MalformedAvro)
}
