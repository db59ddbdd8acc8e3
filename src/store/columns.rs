//! PostgreSQL arrays in their binary form, written in one go.
//!
//! diesel can bind a `Vec`, through a buffer per element; a batch has a million of them. These
//! write the same bytes (`array_recv` in PostgreSQL's `arrayfuncs.c`: dimensions, null flag,
//! element type, length, lower bound, then each element behind its length) in one pass.

use std::io::Write;

use diesel::deserialize::{self, FromSql, FromSqlRow, Queryable};
use diesel::pg::{Pg, PgValue};
use diesel::serialize::{self, IsNull, Output, ToSql};
use diesel::sql_types::{
    Array, BigInt, Bytea, Integer, SmallInt, Text, Timestamptz, Uuid as SqlUuid,
};
use uuid::Uuid;

use super::{CommitId, Epoch, TransitionId};
use crate::event::{Conversions, Count, Money};
use crate::offset::Offset;
use crate::time::Timestamp;

/// 2000-01-01, PostgreSQL's epoch, in microseconds since 1970-01-01.
const PG_EPOCH_MICROS: i64 = 946_684_800_000_000;

/// A `timestamptz` of this instant. Saturates; validated times are far from the ends.
fn to_pg(time: Timestamp) -> [u8; 8] {
    time.get().saturating_sub(PG_EPOCH_MICROS).to_be_bytes()
}

/// The instant of a `timestamptz`, whose smallest number is `-infinity`.
fn from_pg(bytes: [u8; 8]) -> Timestamp {
    match i64::from_be_bytes(bytes) {
        i64::MIN => Timestamp::MIN,
        micros => Timestamp::new(micros.saturating_add(PG_EPOCH_MICROS)),
    }
}

/// Object ids of the element types, fixed since PostgreSQL 6 (`pg_type.dat`).
mod oid {
    pub const BYTEA: u32 = 17;
    pub const INT8: u32 = 20;
    pub const INT2: u32 = 21;
    pub const INT4: u32 = 23;
    pub const TEXT: u32 = 25;
    pub const TIMESTAMPTZ: u32 = 1184;
    pub const UUID: u32 = 2950;
}

fn header(element: u32, len: usize) -> Result<Vec<u8>, std::num::TryFromIntError> {
    let mut bytes = Vec::with_capacity(20);
    bytes.extend_from_slice(&1i32.to_be_bytes());
    bytes.extend_from_slice(&0i32.to_be_bytes());
    bytes.extend_from_slice(&element.to_be_bytes());
    bytes.extend_from_slice(&i32::try_from(len)?.to_be_bytes());
    bytes.extend_from_slice(&1i32.to_be_bytes());
    Ok(bytes)
}

fn write_fixed<const N: usize>(
    element: u32,
    values: impl ExactSizeIterator<Item = [u8; N]>,
    out: &mut Output<'_, '_, Pg>,
) -> serialize::Result {
    let mut bytes = header(element, values.len())?;
    bytes.reserve(values.len() * (4 + N));
    for value in values {
        bytes.extend_from_slice(&(N as i32).to_be_bytes());
        bytes.extend_from_slice(&value);
    }
    out.write_all(&bytes)?;
    Ok(IsNull::No)
}

/// A number, with a unit or without one, that is stored as `bigint`.
pub trait Bigint: Copy {
    /// The number as it was stored.
    fn of(number: i64) -> Self;

    /// The number as it is stored.
    fn number(self) -> i64;
}

impl Bigint for i64 {
    fn of(number: i64) -> i64 {
        number
    }

    fn number(self) -> i64 {
        self
    }
}

/// Binds as `bigint[]`.
#[derive(Debug)]
pub struct Bigints<'a, T>(pub &'a [T]);

impl<T: Bigint + std::fmt::Debug> ToSql<Array<BigInt>, Pg> for Bigints<'_, T> {
    fn to_sql<'b>(&'b self, out: &mut Output<'b, '_, Pg>) -> serialize::Result {
        write_fixed(
            oid::INT8,
            self.0.iter().map(|v| v.number().to_be_bytes()),
            out,
        )
    }
}

/// Binds as `integer[]`.
#[derive(Debug)]
pub struct Integers<'a>(pub &'a [i32]);

impl ToSql<Array<Integer>, Pg> for Integers<'_> {
    fn to_sql<'b>(&'b self, out: &mut Output<'b, '_, Pg>) -> serialize::Result {
        write_fixed(oid::INT4, self.0.iter().map(|v| v.to_be_bytes()), out)
    }
}

/// How many whole ones conversions are, bound as `bigint[]`.
#[derive(Debug)]
pub struct WholeConversions<'a>(pub &'a [Conversions]);

impl ToSql<Array<BigInt>, Pg> for WholeConversions<'_> {
    fn to_sql<'b>(&'b self, out: &mut Output<'b, '_, Pg>) -> serialize::Result {
        write_fixed(
            oid::INT8,
            self.0.iter().map(|v| v.parts().0.to_be_bytes()),
            out,
        )
    }
}

/// What conversions are beyond whole ones, in millionths, bound as `integer[]`.
#[derive(Debug)]
pub struct ConversionMillionths<'a>(pub &'a [Conversions]);

impl<'a> ConversionMillionths<'a> {
    /// None where all are whole.
    pub fn of(conversions: &'a [Conversions]) -> Option<ConversionMillionths<'a>> {
        let is_whole = conversions.iter().all(|one| one.is_whole());
        (!is_whole).then_some(ConversionMillionths(conversions))
    }
}

impl ToSql<Array<Integer>, Pg> for ConversionMillionths<'_> {
    fn to_sql<'b>(&'b self, out: &mut Output<'b, '_, Pg>) -> serialize::Result {
        write_fixed(
            oid::INT4,
            self.0.iter().map(|v| v.parts().1.to_be_bytes()),
            out,
        )
    }
}

/// Binds as `smallint[]`.
#[derive(Debug)]
pub struct Shorts<'a>(pub &'a [i16]);

impl ToSql<Array<SmallInt>, Pg> for Shorts<'_> {
    fn to_sql<'b>(&'b self, out: &mut Output<'b, '_, Pg>) -> serialize::Result {
        write_fixed(oid::INT2, self.0.iter().map(|v| v.to_be_bytes()), out)
    }
}

/// Bytes that bind as `smallint[]`.
#[derive(Debug)]
pub struct Smallints<'a>(pub &'a [u8]);

impl ToSql<Array<SmallInt>, Pg> for Smallints<'_> {
    fn to_sql<'b>(&'b self, out: &mut Output<'b, '_, Pg>) -> serialize::Result {
        write_fixed(
            oid::INT2,
            self.0.iter().map(|&v| i16::from(v).to_be_bytes()),
            out,
        )
    }
}

/// Binds as `timestamptz[]`.
#[derive(Debug)]
pub struct Timestamps<'a>(pub &'a [Timestamp]);

impl ToSql<Array<Timestamptz>, Pg> for Timestamps<'_> {
    fn to_sql<'b>(&'b self, out: &mut Output<'b, '_, Pg>) -> serialize::Result {
        write_fixed(oid::TIMESTAMPTZ, self.0.iter().map(|&v| to_pg(v)), out)
    }
}

/// Binds as `uuid[]`.
#[derive(Debug)]
pub struct Uuids<'a>(pub &'a [Uuid]);

impl ToSql<Array<SqlUuid>, Pg> for Uuids<'_> {
    fn to_sql<'b>(&'b self, out: &mut Output<'b, '_, Pg>) -> serialize::Result {
        write_fixed(oid::UUID, self.0.iter().map(|v| v.into_bytes()), out)
    }
}

/// Texts by their index in a dictionary, bound as `text[]`.
#[derive(Debug)]
pub struct Texts<'a, S> {
    pub dictionary: &'a [S],
    pub index: &'a [u32],
}

impl<S: AsRef<str> + std::fmt::Debug> ToSql<Array<Text>, Pg> for Texts<'_, S> {
    fn to_sql<'b>(&'b self, out: &mut Output<'b, '_, Pg>) -> serialize::Result {
        let mut bytes = header(oid::TEXT, self.index.len())?;
        bytes.reserve(self.index.len() * 16);
        for &index in self.index {
            let text = self
                .dictionary
                .get(index as usize)
                .ok_or("a campaign index points past the dictionary")?
                .as_ref();
            bytes.extend_from_slice(&i32::try_from(text.len())?.to_be_bytes());
            bytes.extend_from_slice(text.as_bytes());
        }
        out.write_all(&bytes)?;
        Ok(IsNull::No)
    }
}

/// Texts or byte strings, appended one by one, that bind as `text[]` or `bytea[]`.
#[derive(Debug, Default)]
pub struct Strings {
    len: usize,
    /// As elements of an array.
    bytes: Vec<u8>,
}

impl Strings {
    /// Appends what `write` does.
    pub fn push(&mut self, write: impl FnOnce(&mut Vec<u8>)) {
        let at = self.bytes.len();
        self.bytes.extend_from_slice(&[0; 4]);
        write(&mut self.bytes);
        let len = (self.bytes.len() - at - 4) as i32;
        self.bytes[at..at + 4].copy_from_slice(&len.to_be_bytes());
        self.len += 1;
    }

    /// Appends a null.
    pub fn push_null(&mut self) {
        self.bytes.extend_from_slice(&(-1_i32).to_be_bytes());
        self.len += 1;
    }

    /// How many bytes there are.
    pub fn size(&self) -> usize {
        self.bytes.len()
    }

    fn write(&self, element: u32, out: &mut Output<'_, '_, Pg>) -> serialize::Result {
        out.write_all(&header(element, self.len)?)?;
        out.write_all(&self.bytes)?;
        Ok(IsNull::No)
    }
}

impl ToSql<Array<Text>, Pg> for Strings {
    fn to_sql<'b>(&'b self, out: &mut Output<'b, '_, Pg>) -> serialize::Result {
        self.write(oid::TEXT, out)
    }
}

impl ToSql<Array<Bytea>, Pg> for Strings {
    fn to_sql<'b>(&'b self, out: &mut Output<'b, '_, Pg>) -> serialize::Result {
        self.write(oid::BYTEA, out)
    }
}

/// A `text[]` column as read: each distinct text once, and an index per element.
#[derive(Debug, Default, FromSqlRow)]
pub struct TextColumn {
    pub dictionary: Vec<String>,
    pub index: Vec<u32>,
}

impl FromSql<Array<Text>, Pg> for TextColumn {
    fn from_sql(value: PgValue<'_>) -> deserialize::Result<Self> {
        let mut column = TextColumn::default();
        let mut known =
            std::collections::HashMap::<&[u8], u32, foldhash::fast::RandomState>::default();
        for element in elements(value.as_bytes())? {
            let element = element?;
            let index = match known.get(element) {
                Some(&index) => index,
                None => {
                    let index = u32::try_from(column.dictionary.len())?;
                    column
                        .dictionary
                        .push(std::str::from_utf8(element)?.to_owned());
                    known.insert(element, index);
                    index
                }
            };
            column.index.push(index);
        }
        Ok(column)
    }
}

/// A `bigint[]` column as read.
#[derive(Debug, Default, FromSqlRow)]
pub struct LongColumn<T = i64>(pub Vec<T>);

impl<T: Bigint> FromSql<Array<BigInt>, Pg> for LongColumn<T> {
    fn from_sql(value: PgValue<'_>) -> deserialize::Result<Self> {
        fixed(value.as_bytes(), |b| T::of(i64::from_be_bytes(b))).map(LongColumn)
    }
}

/// A `timestamptz[]` column as read.
#[derive(Debug, Default, FromSqlRow)]
pub struct TimestampColumn(pub Vec<Timestamp>);

impl FromSql<Array<Timestamptz>, Pg> for TimestampColumn {
    fn from_sql(value: PgValue<'_>) -> deserialize::Result<Self> {
        fixed(value.as_bytes(), from_pg).map(TimestampColumn)
    }
}

/// A `timestamptz[]` with nulls, written and read.
#[derive(Debug, Default, FromSqlRow)]
pub struct OptionalTimestamps(pub Vec<Option<Timestamp>>);

impl FromSql<Array<Timestamptz>, Pg> for OptionalTimestamps {
    fn from_sql(value: PgValue<'_>) -> deserialize::Result<Self> {
        optional_elements(value.as_bytes())?
            .map(|element| match element? {
                Some(bytes) => Ok(Some(from_pg(bytes.try_into()?))),
                None => Ok(None),
            })
            .collect::<deserialize::Result<_>>()
            .map(OptionalTimestamps)
    }
}

/// Binds as `timestamptz[]`, with nulls.
#[derive(Debug)]
pub struct Instants<'a>(pub &'a [Option<Timestamp>]);

impl ToSql<Array<Timestamptz>, Pg> for Instants<'_> {
    fn to_sql<'b>(&'b self, out: &mut Output<'b, '_, Pg>) -> serialize::Result {
        let mut bytes = header(oid::TIMESTAMPTZ, self.0.len())?;
        // That there are nulls.
        bytes[4..8].copy_from_slice(&1i32.to_be_bytes());
        for value in self.0 {
            match value {
                Some(time) => {
                    bytes.extend_from_slice(&8i32.to_be_bytes());
                    bytes.extend_from_slice(&to_pg(*time));
                }
                None => bytes.extend_from_slice(&(-1i32).to_be_bytes()),
            }
        }
        out.write_all(&bytes)?;
        Ok(IsNull::No)
    }
}

/// A `uuid[]` column as read.
#[derive(Debug, Default, FromSqlRow)]
pub struct UuidColumn(pub Vec<Uuid>);

impl FromSql<Array<SqlUuid>, Pg> for UuidColumn {
    fn from_sql(value: PgValue<'_>) -> deserialize::Result<Self> {
        fixed(value.as_bytes(), Uuid::from_bytes).map(UuidColumn)
    }
}

/// A `smallint[]` column of byte-sized values as read.
#[derive(Debug, Default, FromSqlRow)]
pub struct SmallintColumn(pub Vec<u8>);

impl FromSql<Array<SmallInt>, Pg> for SmallintColumn {
    fn from_sql(value: PgValue<'_>) -> deserialize::Result<Self> {
        fixed(value.as_bytes(), |[_, low]| low).map(SmallintColumn)
    }
}

/// An `integer[]` column as read.
#[derive(Debug, Default, FromSqlRow)]
pub struct IntegerColumn(pub Vec<i32>);

impl FromSql<Array<Integer>, Pg> for IntegerColumn {
    fn from_sql(value: PgValue<'_>) -> deserialize::Result<Self> {
        fixed(value.as_bytes(), i32::from_be_bytes).map(IntegerColumn)
    }
}

fn fixed<const N: usize, T>(
    bytes: &[u8],
    convert: impl Fn([u8; N]) -> T,
) -> deserialize::Result<Vec<T>> {
    elements(bytes)?
        .map(|element| Ok(convert(element?.try_into()?)))
        .collect()
}

/// The elements of a one-dimensional array without nulls.
fn elements(bytes: &[u8]) -> deserialize::Result<impl Iterator<Item = deserialize::Result<&[u8]>>> {
    Ok(
        optional_elements(bytes)?
            .map(|element| element?.ok_or_else(|| "array holds a null".into())),
    )
}

/// The elements of a one-dimensional array.
fn optional_elements(
    bytes: &[u8],
) -> deserialize::Result<impl Iterator<Item = deserialize::Result<Option<&[u8]>>>> {
    let int = |at: usize| -> deserialize::Result<i32> {
        let bytes = bytes.get(at..at + 4).ok_or("array header is too short")?;
        Ok(i32::from_be_bytes(bytes.try_into()?))
    };
    let (len, mut rest) = match int(0)? {
        0 => (0, &bytes[..0]),
        1 => (
            int(12)?,
            bytes.get(20..).ok_or("array header is too short")?,
        ),
        _ => return Err("array has more than one dimension".into()),
    };
    Ok((0..len).map(move |_| {
        let (size, tail) = rest.split_at_checked(4).ok_or("array ends too early")?;
        // Less than nothing is a null.
        let Ok(size) = usize::try_from(i32::from_be_bytes(size.try_into()?)) else {
            rest = tail;
            return Ok(None);
        };
        let (element, tail) = tail.split_at_checked(size).ok_or("array ends too early")?;
        rest = tail;
        Ok(Some(element))
    }))
}

impl ToSql<Timestamptz, Pg> for Timestamp {
    fn to_sql<'b>(&'b self, out: &mut Output<'b, '_, Pg>) -> serialize::Result {
        out.write_all(&to_pg(*self))?;
        Ok(IsNull::No)
    }
}

impl FromSql<Timestamptz, Pg> for Timestamp {
    fn from_sql(value: PgValue<'_>) -> deserialize::Result<Self> {
        Ok(from_pg(value.as_bytes().try_into()?))
    }
}

impl Queryable<Timestamptz, Pg> for Timestamp {
    type Row = Self;

    fn build(row: Self) -> deserialize::Result<Self> {
        Ok(row)
    }
}

/// Binds and reads a number with a unit as `bigint`.
macro_rules! bigint {
    ($($unit:ty),*) => {$(
        impl Bigint for $unit {
            fn of(number: i64) -> $unit {
                <$unit>::new(number)
            }

            fn number(self) -> i64 {
                self.get()
            }
        }

        impl ToSql<BigInt, Pg> for $unit {
            fn to_sql<'b>(&'b self, out: &mut Output<'b, '_, Pg>) -> serialize::Result {
                out.write_all(&self.get().to_be_bytes())?;
                Ok(IsNull::No)
            }
        }

        impl FromSql<BigInt, Pg> for $unit {
            fn from_sql(value: PgValue<'_>) -> deserialize::Result<Self> {
                <i64 as FromSql<BigInt, Pg>>::from_sql(value).map(<$unit>::new)
            }
        }

        impl Queryable<BigInt, Pg> for $unit {
            type Row = Self;

            fn build(row: Self) -> deserialize::Result<Self> {
                Ok(row)
            }
        }
    )*};
}

bigint!(
    Offset,
    Count,
    Conversions,
    Money,
    Epoch,
    CommitId,
    TransitionId,
    Timestamp
);
