//! Columns of numbers as bytes: what a chunk is made of.
//!
//! A column is a width (one byte, 0 to 8), the smallest of its numbers (eight bytes) and, for each number, by how much it is
//! larger, in so many bytes; all big-endian. The SQL functions `sum_base` and `sum_above` read the same.

// Bytes that could be anybody's come through here.
#![deny(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

/// Appends the column of these numbers.
pub(super) fn pack(numbers: impl Iterator<Item = i64> + Clone, out: &mut Vec<u8>) {
    let base = numbers.clone().min().unwrap_or_default();
    // As distances they fit 64 bits, whatever the numbers are.
    let above = |number: i64| number.wrapping_sub(base).cast_unsigned();
    let bits = numbers.clone().map(above).fold(0, |all, one| all | one);
    let width =
        usize::try_from(u64::BITS.saturating_sub(bits.leading_zeros()).div_ceil(8)).unwrap_or(8);
    out.push(width as u8);
    out.extend_from_slice(&base.to_be_bytes());
    for number in numbers {
        let bytes = above(number).to_be_bytes();
        out.extend_from_slice(
            bytes
                .get(bytes.len().saturating_sub(width)..)
                .unwrap_or_default(),
        );
    }
}

/// The numbers of a column; none if it is not one of so many numbers.
pub(super) fn unpack(bytes: &[u8], len: usize) -> Option<impl Iterator<Item = i64>> {
    let (&width, rest) = bytes.split_first()?;
    let (base, rest) = rest.split_first_chunk::<8>()?;
    let (base, width) = (i64::from_be_bytes(*base), usize::from(width));
    if width > 8 || rest.len() != width.checked_mul(len)? {
        return None;
    }
    let number = move |n: usize| {
        let start = n.saturating_mul(width);
        let above = rest
            .get(start..start.saturating_add(width))
            .unwrap_or_default();
        let above = above
            .iter()
            .fold(0_u64, |number, byte| number << 8 | u64::from(*byte));
        base.wrapping_add(above.cast_signed())
    };
    Some((0..len).map(number))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn what_was_packed_is_unpacked(numbers in prop_oneof![
            prop::collection::vec(any::<i64>(), 0..40),
            prop::collection::vec(0i64..100_000, 0..40),
        ]) {
            let mut bytes = Vec::new();
            pack(numbers.iter().copied(), &mut bytes);
            let found: Vec<i64> = unpack(&bytes, numbers.len()).expect("a column").collect();
            prop_assert_eq!(&found, &numbers);
            let one_more = numbers.len().saturating_add(1);
            prop_assert!(unpack(&bytes, one_more).is_none() || bytes[0] == 0);
        }

        #[test]
        fn any_bytes_are_read_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..40), len in 0usize..40) {
            if let Some(numbers) = unpack(&bytes, len) {
                prop_assert_eq!(numbers.count(), len);
            }
        }
    }

    #[test]
    fn a_column_is_as_wide_as_its_range() {
        for (numbers, width) in [
            (vec![], 0),
            (vec![7, 7, 7], 0),
            (vec![-1, 254], 1),
            (vec![0, 256], 2),
            (vec![i64::MIN, i64::MAX], 8),
        ] {
            let mut bytes = Vec::new();
            pack(numbers.iter().copied(), &mut bytes);
            assert_eq!(
                (usize::from(bytes[0]), bytes.len()),
                (width, 9 + width * numbers.len())
            );
        }
    }
}
