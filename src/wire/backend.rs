//! Borrowed views of what servers send (PostgreSQL docs, chapter 53.7).

use std::ops::Range;

use super::frontend::cstr;
use super::startup::SECRET;
use super::{ProtocolError, TransactionStatus};
use crate::ids::CancelKey;

/// The fields of an ErrorResponse or a NoticeResponse that pgweir looks at. Empty where the server sent none.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Fields<'a> {
    /// `V`, or the translated `S` of servers before 9.6.
    pub severity: &'a [u8],
    /// `C`: the SQLSTATE.
    pub code: &'a [u8],
    /// `M`: the primary message.
    pub message: &'a [u8],
    /// `W`: where in functions it happened, outermost last.
    pub context: &'a [u8],
    /// `R`: the function of the server that raised it.
    pub routine: &'a [u8],
}

/// Where the field with the position in the text (`P`) stands in an ErrorResponse, and what it says.
#[must_use]
pub fn position(body: &[u8]) -> Option<(Range<usize>, usize)> {
    let mut at = 0;
    loop {
        let (kind, rest) = body.get(at..)?.split_first()?;
        let (value, _) = cstr(rest)?;
        let place = at + 1..at + 1 + value.len();
        if *kind == b'P' {
            return Some((place, str::from_utf8(value).ok()?.parse().ok()?));
        }
        at = place.end + 1;
    }
}

/// Reads the fields; what is cut short is left out.
#[must_use]
pub fn fields(mut body: &[u8]) -> Fields<'_> {
    let mut fields = Fields::default();
    while let Some((kind, rest)) = body.split_first() {
        let Some((value, rest)) = cstr(rest) else { break };
        match kind {
            b'S' if fields.severity.is_empty() => fields.severity = value,
            b'V' => fields.severity = value,
            b'C' => fields.code = value,
            b'M' => fields.message = value,
            b'W' => fields.context = value,
            b'R' => fields.routine = value,
            _ => {}
        }
        body = rest;
    }
    fields
}

/// The values of a DataRow in text form; what is cut short or no text is null.
#[must_use]
pub fn row(body: &[u8]) -> Vec<Option<String>> {
    let mut values = Vec::new();
    let mut rest = body.get(2..).unwrap_or_default();
    while let Some((size, after)) = rest.split_first_chunk() {
        let size = usize::try_from(i32::from_be_bytes(*size)).ok();
        let Some((value, after)) = after.split_at_checked(size.unwrap_or(0)) else { break };
        values.push(size.and_then(|_| str::from_utf8(value).ok()).map(str::to_owned));
        rest = after;
    }
    values
}

/// The status of a ReadyForQuery.
///
/// # Errors
/// A body that is not one known status byte.
pub fn ready_for_query(body: &[u8]) -> Result<TransactionStatus, ProtocolError> {
    match body {
        [byte] => TransactionStatus::from_byte(*byte).ok_or(ProtocolError::Body(b'Z')),
        _ => Err(ProtocolError::Body(b'Z')),
    }
}

/// Name and value of a ParameterStatus.
///
/// # Errors
/// A body that is not two texts.
pub fn parameter_status(body: &[u8]) -> Result<(&[u8], &[u8]), ProtocolError> {
    let pair = cstr(body).and_then(|(name, rest)| Some((name, cstr(rest)?.0)));
    pair.ok_or(ProtocolError::Body(b'S'))
}

/// The first column of a DataRow, as it was sent; none: there is none, or it is null.
#[must_use]
pub fn first_column(body: &[u8]) -> Option<&[u8]> {
    let length = body.get(2..)?.first_chunk().copied().map(u32::from_be_bytes)?;
    body.get(6..)?.get(..usize::try_from(length).ok()?)
}

/// The first three columns of a DataRow, as they were sent; none: there is none, or it is null.
#[must_use]
pub fn three_columns(body: &[u8]) -> [Option<&[u8]>; 3] {
    let mut rest = body.get(2..).unwrap_or_default();
    [(); 3].map(|()| {
        let (length, after) = rest.split_first_chunk()?;
        // Null is -1: no bytes follow.
        let length = usize::try_from(i32::from_be_bytes(*length)).ok();
        let (column, next) = after.split_at_checked(length.unwrap_or(0))?;
        rest = next;
        length.map(|_| column)
    })
}

/// The key of a BackendKeyData.
///
/// # Errors
/// A secret that is not of 4 to 256 bytes, the lengths of protocol 3.2; 3.0 has 4.
pub fn backend_key_data(body: &[u8]) -> Result<CancelKey, ProtocolError> {
    let (process, secret) = body.split_first_chunk::<4>().ok_or(ProtocolError::Body(b'K'))?;
    if !SECRET.contains(&secret.len()) {
        return Err(ProtocolError::Body(b'K'));
    }
    Ok(CancelKey { process: u32::from_be_bytes(*process), secret: secret.into() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn error_fields() {
        let fields = fields(b"SFEHLER\0VERROR\0C42601\0Msyntax error\0P8\0\0");
        assert_eq!(
            fields,
            Fields {
                severity: b"ERROR",
                code: b"42601",
                message: b"syntax error",
                context: b"",
                routine: b""
            }
        );
        assert_eq!(super::fields(b"C25"), Fields::default());
    }

    #[test]
    fn small_bodies() {
        assert_eq!(ready_for_query(b"T"), Ok(TransactionStatus::Open));
        assert!(ready_for_query(b"X").is_err());
        assert!(ready_for_query(b"").is_err());
        assert_eq!(parameter_status(b"a\0b\0"), Ok((&b"a"[..], &b"b"[..])));
        assert!(parameter_status(b"a\0b").is_err());
        assert_eq!(backend_key_data(&[0, 0, 0, 1, 0, 0, 0, 2]).unwrap().process, 1);
        let row = b"\0\x03\0\0\0\x01a\xff\xff\xff\xff\0\0\0\0";
        assert_eq!(three_columns(row), [Some(&b"a"[..]), None, Some(&b""[..])]);
        assert_eq!(backend_key_data(&[0; 260]).unwrap().secret.len(), 256);
        assert!(backend_key_data(&[0; 7]).is_err() && backend_key_data(&[0; 261]).is_err());
        assert_eq!(first_column(b"\0\x01\0\0\0\x02ab"), Some(&b"ab"[..]));
        for bad in [&b""[..], b"\0\x01\xff\xff\xff\xff", b"\0\x01\0\0\0\x03ab"] {
            assert_eq!(first_column(bad), None);
        }
    }
}
