//! The frames of authentication (docs, chapter "Message Formats"): `R` requests and `p` answers.

use bytes::{BufMut, BytesMut};

/// The name of the one SASL mechanism spoken here (RFC 7677).
pub(super) const SCRAM_SHA_256: &str = "SCRAM-SHA-256";

/// The longest client answer looked at: `PG_MAX_SASL_MESSAGE_LENGTH` in PostgreSQL.
pub(super) const LONGEST_ANSWER: usize = 1024;

/// The code of an `R` message.
pub(super) mod code {
    pub(crate) const OK: u32 = 0;
    pub(crate) const KERBEROS_V5: u32 = 2;
    pub(crate) const CLEARTEXT: u32 = 3;
    pub(crate) const MD5: u32 = 5;
    pub(crate) const SCM: u32 = 6;
    pub(crate) const GSS: u32 = 7;
    pub(crate) const GSS_CONTINUE: u32 = 8;
    pub(crate) const SSPI: u32 = 9;
    pub(crate) const SASL: u32 = 10;
    pub(crate) const SASL_CONTINUE: u32 = 11;
    pub(crate) const SASL_FINAL: u32 = 12;
}

/// Appends an `R` message.
pub(super) fn request(out: &mut BytesMut, code: u32, data: &[u8]) {
    frame(out, b'R', &[&code.to_be_bytes(), data]);
}

/// Appends a `p` message made of the parts, one after the other.
pub(super) fn answer(out: &mut BytesMut, parts: &[&[u8]]) {
    frame(out, b'p', parts);
}

/// Appends a SASLInitialResponse.
pub(super) fn initial_response(out: &mut BytesMut, mechanism: &str, data: &[u8]) {
    answer(out, &[mechanism.as_bytes(), b"\0", &length(data.len()).to_be_bytes(), data]);
}

/// What a SASLInitialResponse holds: the mechanism, and the data if there is some.
pub(super) fn split_initial_response(body: &[u8]) -> Option<(&[u8], Option<&[u8]>)> {
    let end = body.iter().position(|byte| *byte == 0)?;
    let (mechanism, rest) = body.split_at_checked(end)?;
    let (length, data) = rest.get(1..)?.split_first_chunk::<4>()?;
    match i32::from_be_bytes(*length) {
        -1 if data.is_empty() => Some((mechanism, None)),
        length if usize::try_from(length) == Ok(data.len()) => Some((mechanism, Some(data))),
        _ => None,
    }
}

/// The text before the zero that ends the body, if that is its only zero.
pub(super) fn only_string(body: &[u8]) -> Option<&[u8]> {
    let (last, text) = body.split_last()?;
    (*last == 0 && !text.contains(&0)).then_some(text)
}

fn frame(out: &mut BytesMut, tag: u8, parts: &[&[u8]]) {
    let body: usize = parts.iter().map(|part| part.len()).sum();
    out.reserve(body + 5);
    out.put_u8(tag);
    out.put_u32(length(body + 4));
    for part in parts {
        out.put_slice(part);
    }
}

/// A length on the wire. Everything framed here is a few kilobytes at most, so the cap is never met.
fn length(bytes: usize) -> u32 {
    u32::try_from(bytes).unwrap_or(u32::MAX)
}
