//! A record's headers, whatever they hold.

use std::ffi::CStr;
use std::ptr;

use rdkafka::bindings::{
    rd_kafka_header_get_all, rd_kafka_header_get_last, rd_kafka_message_headers,
};
use rdkafka::message::{BorrowedMessage, Header, OwnedHeaders};
use rdkafka::types::RDKafkaRespErr::RD_KAFKA_RESP_ERR_NO_ERROR;

/// Copies the name and value of each header.
///
/// Nothing makes a producer write UTF-8 into a name, and rdkafka's own reader panics where it is
/// not: one such record would stop every processor that meets it. What is not UTF-8 becomes U+FFFD
/// here.
pub fn read_headers(message: &BorrowedMessage<'_>) -> Vec<(String, Option<Vec<u8>>)> {
    let mut headers = ptr::null_mut();
    let mut copied = Vec::new();
    #[expect(unsafe_code, reason = "the safe reader panics")]
    // SAFETY: librdkafka owns the headers and what they point to, and keeps them for as long as the
    // message, which is borrowed here. Names end with a NUL. Of a value that is there, `size` bytes
    // can be read.
    unsafe {
        if rd_kafka_message_headers(message.ptr(), &raw mut headers) != RD_KAFKA_RESP_ERR_NO_ERROR {
            return copied;
        }
        let (mut name, mut value, mut size) = (ptr::null(), ptr::null(), 0);
        while rd_kafka_header_get_all(
            headers,
            copied.len(),
            &raw mut name,
            &raw mut value,
            &raw mut size,
        ) == RD_KAFKA_RESP_ERR_NO_ERROR
        {
            let name = CStr::from_ptr(name).to_string_lossy().into_owned();
            let value = (!value.is_null())
                .then(|| std::slice::from_raw_parts(value.cast::<u8>(), size).to_vec());
            copied.push((name, value));
        }
    }
    copied
}

/// The value of the last header of this name. Nothing is copied.
pub fn last_header<'a>(message: &'a BorrowedMessage<'_>, name: &CStr) -> Option<&'a [u8]> {
    let mut headers = ptr::null_mut();
    let (mut value, mut size) = (ptr::null(), 0);
    #[expect(unsafe_code, reason = "the safe reader panics")]
    // SAFETY: as above; what is lent ends with the message.
    unsafe {
        if rd_kafka_message_headers(message.ptr(), &raw mut headers) != RD_KAFKA_RESP_ERR_NO_ERROR
            || rd_kafka_header_get_last(headers, name.as_ptr(), &raw mut value, &raw mut size)
                != RD_KAFKA_RESP_ERR_NO_ERROR
            || value.is_null()
        {
            return None;
        }
        Some(std::slice::from_raw_parts(value.cast::<u8>(), size))
    }
}

/// Headers as a producer takes them.
pub fn to_send(headers: &[(String, Option<Vec<u8>>)]) -> OwnedHeaders {
    let empty = OwnedHeaders::new_with_capacity(headers.len());
    headers.iter().fold(empty, |others, (key, value)| {
        let value = value.as_ref();
        others.insert(Header { key, value })
    })
}
