//! The messages that pgweir itself speaks, to clients and to servers.

use bytes::{BufMut, BytesMut};

use super::frontend::cstr;
use super::{SqlState, TransactionStatus};
use crate::ids::CancelKey;

/// Writes a message: tag, length, and the body that `body` writes.
pub(super) fn message(out: &mut BytesMut, tag: u8, body: impl FnOnce(&mut BytesMut)) {
    out.put_u8(tag);
    untagged(out, body);
}

/// Writes a length that counts itself, and the body that `body` writes.
fn untagged(out: &mut BytesMut, body: impl FnOnce(&mut BytesMut)) {
    let start = out.len();
    out.put_u32(0);
    body(out);
    let length = u32::try_from(out.len() - start).unwrap_or(u32::MAX);
    if let Some(field) = out.get_mut(start..start + 4) {
        field.copy_from_slice(&length.to_be_bytes());
    }
}

/// Writes a text and its closing zero. A zero inside ends it: nothing can be smuggled behind it.
pub(super) fn text(out: &mut BytesMut, text: &str) {
    out.extend_from_slice(text.split('\0').next().unwrap_or_default().as_bytes());
    out.put_u8(0);
}

/// How grave an error is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Severity {
    /// The statement failed; the session goes on.
    Error,
    /// The session ends.
    Fatal,
}

impl Severity {
    fn word(self) -> &'static str {
        match self {
            Self::Error => "ERROR",
            Self::Fatal => "FATAL",
        }
    }
}

/// An ErrorResponse. `detail` and `hint` are left out when empty.
pub fn error_response(
    out: &mut BytesMut,
    severity: Severity,
    code: SqlState,
    what: &str,
    detail: &str,
    hint: &str,
) {
    message(out, b'E', |out| {
        for (field, value) in [
            (b'S', severity.word()),
            (b'V', severity.word()),
            (b'C', code.as_str()),
            (b'M', what),
            (b'D', detail),
            (b'H', hint),
        ] {
            if !value.is_empty() {
                out.put_u8(field);
                text(out, value);
            }
        }
        out.put_u8(0);
    });
}

/// A NoticeResponse that everything is well. `detail` is left out when empty.
pub fn notice(out: &mut BytesMut, code: SqlState, what: &str, detail: &str) {
    message(out, b'N', |out| {
        let fields =
            [(b'S', "NOTICE"), (b'V', "NOTICE"), (b'C', code.as_str()), (b'M', what), (b'D', detail)];
        for (field, value) in fields.into_iter().filter(|(_, value)| !value.is_empty()) {
            out.put_u8(field);
            text(out, value);
        }
        out.put_u8(0);
    });
}

/// NotificationResponse: who has notified, on which channel, and what.
pub fn notification(out: &mut BytesMut, process: i32, channel: &str, payload: &str) {
    message(out, b'A', |out| {
        out.put_i32(process);
        text(out, channel);
        text(out, payload);
    });
}

/// A server's ErrorResponse with another severity: drivers close a connection on which they see FATAL, and it may go on.
pub fn error_repeated(out: &mut BytesMut, severity: Severity, mut body: &[u8]) {
    message(out, b'E', |out| {
        while let Some((kind, rest)) = body.split_first()
            && let Some((value, rest)) = cstr(rest)
        {
            let value = if matches!(kind, b'S' | b'V') { severity.word().as_bytes() } else { value };
            out.put_u8(*kind);
            out.extend_from_slice(value);
            out.put_u8(0);
            body = rest;
        }
        out.put_u8(0);
    });
}

/// A ReadyForQuery.
pub fn ready_for_query(out: &mut BytesMut, status: TransactionStatus) {
    message(out, b'Z', |out| out.put_u8(status.as_byte()));
}

/// An AuthenticationOk.
pub fn authentication_ok(out: &mut BytesMut) {
    message(out, b'R', |out| out.put_u32(0));
}

/// A ParameterStatus.
pub fn parameter_status(out: &mut BytesMut, name: &str, value: &str) {
    message(out, b'S', |out| {
        text(out, name);
        text(out, value);
    });
}

/// A BackendKeyData.
pub fn backend_key_data(out: &mut BytesMut, key: &CancelKey) {
    message(out, b'K', |out| {
        out.put_u32(key.process);
        out.extend_from_slice(&key.secret);
    });
}

/// A NegotiateProtocolVersion: "3 with that minor version, and none of these options".
pub fn negotiate_protocol_version(out: &mut BytesMut, minor: u16, unknown: &[String]) {
    message(out, b'v', |out| {
        out.put_u32(0x0003_0000 | u32::from(minor));
        out.put_u32(u32::try_from(unknown.len()).unwrap_or(u32::MAX));
        for option in unknown {
            text(out, option);
        }
    });
}

/// A startup packet for protocol 3.0.
pub fn startup<'a>(out: &mut BytesMut, parameters: impl Iterator<Item = (&'a str, &'a str)>) {
    untagged(out, |out| {
        out.put_u32(0x0003_0000);
        for (name, value) in parameters {
            text(out, name);
            text(out, value);
        }
        out.put_u8(0);
    });
}

/// A CancelRequest.
pub fn cancel_request(out: &mut BytesMut, key: &CancelKey) {
    untagged(out, |out| {
        out.put_u32(80_877_102);
        out.put_u32(key.process);
        out.extend_from_slice(&key.secret);
    });
}

/// A Query.
pub fn query(out: &mut BytesMut, statement: &str) {
    message(out, b'Q', |out| text(out, statement));
}

/// A Query whose text is not zero-terminated, and may be in any encoding.
pub fn query_bytes(out: &mut BytesMut, statement: &[u8]) {
    message(out, b'Q', |out| {
        out.extend_from_slice(statement);
        out.put_u8(0);
    });
}

/// A Parse of the unnamed statement; `types` is what follows the text.
pub fn parse_bytes(out: &mut BytesMut, name: &[u8], statement: &[u8], types: &[u8]) {
    message(out, b'P', |out| {
        out.extend_from_slice(name);
        out.put_u8(0);
        out.extend_from_slice(statement);
        out.put_u8(0);
        out.extend_from_slice(types);
    });
}

/// A Parse with the types of all parameters.
pub fn parse_typed(out: &mut BytesMut, name: &[u8], text: &[u8], types: &[u32]) {
    message(out, b'P', |out| {
        out.extend_from_slice(name);
        out.put_u8(0);
        out.extend_from_slice(text);
        out.put_u8(0);
        out.put_u16(u16::try_from(types.len()).unwrap_or(u16::MAX));
        types.iter().for_each(|of| out.put_u32(*of));
    });
}

/// A Parse of no statement, with so many parameters, of type text.
pub fn parse_nothing(out: &mut BytesMut, name: &[u8], parameters: u16) {
    message(out, b'P', |out| {
        out.extend_from_slice(name);
        out.extend_from_slice(b"\0\0");
        out.put_u16(parameters);
        for _ in 0..parameters {
            out.put_u32(25);
        }
    });
}

/// A Describe of a prepared statement.
pub fn describe_statement(out: &mut BytesMut, name: &[u8]) {
    named(out, b'D', b'S', name);
}

/// A Flush.
pub fn flush(out: &mut BytesMut) {
    message(out, b'H', |_| {});
}

/// A Close of a prepared statement.
pub fn close_statement(out: &mut BytesMut, name: &[u8]) {
    named(out, b'C', b'S', name);
}

/// A Close of a portal.
pub fn close_portal(out: &mut BytesMut, name: &[u8]) {
    named(out, b'C', b'P', name);
}

/// A Close or a Describe of a statement or a portal.
fn named(out: &mut BytesMut, tag: u8, of: u8, name: &[u8]) {
    message(out, tag, |out| {
        out.put_u8(of);
        out.extend_from_slice(name);
        out.put_u8(0);
    });
}

/// The values of a Bind: see [`bind_binary`].
#[derive(Debug)]
pub struct Values<'o>(&'o mut BytesMut);

impl Values<'_> {
    /// The next one.
    pub fn push(&mut self, value: &[u8]) {
        self.0.put_i32(i32::try_from(value.len()).unwrap_or(i32::MAX));
        self.0.extend_from_slice(value);
    }
}

/// A Bind of a prepared statement to the unnamed portal, with so many values, all of them in binary.
pub fn bind_binary(out: &mut BytesMut, statement: &[u8], count: usize, values: impl FnOnce(&mut Values<'_>)) {
    message(out, b'B', |out| {
        out.put_u8(0);
        out.extend_from_slice(statement);
        out.put_u8(0);
        out.put_u16(1);
        out.put_u16(1);
        out.put_u16(u16::try_from(count).unwrap_or(u16::MAX));
        values(&mut Values(out));
        out.put_u16(0);
    });
}

/// A Bind of a prepared statement without parameters to a portal of that name.
pub fn bind_nothing(out: &mut BytesMut, portal: &[u8], statement: &[u8]) {
    message(out, b'B', |out| {
        out.extend_from_slice(portal);
        out.put_u8(0);
        out.extend_from_slice(statement);
        out.extend_from_slice(&[0; 7]);
    });
}

/// An Execute of a portal, for all of its rows.
pub fn execute(out: &mut BytesMut, portal: &str) {
    message(out, b'E', |out| {
        text(out, portal);
        out.put_u32(0);
    });
}

/// A Sync.
pub fn sync(out: &mut BytesMut) {
    message(out, b'S', |_| {});
}

/// A CopyFail with the reason that the server will repeat.
pub fn copy_fail(out: &mut BytesMut, why: &str) {
    message(out, b'f', |out| text(out, why));
}

/// A Terminate.
pub fn terminate(out: &mut BytesMut) {
    message(out, b'X', |_| {});
}

/// A text as a string constant of SQL, right under either setting of `standard_conforming_strings`.
#[must_use]
pub fn quote_literal(value: &str) -> String {
    let escaped = value.replace('\'', "''").replace('\\', "\\\\");
    if escaped.contains('\\') { format!(" E'{escaped}'") } else { format!("'{escaped}'") }
}

/// A name in double quotes, as SQL wants it.
#[must_use]
pub fn quote_identifier(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::frame::{Side, header};
    use crate::wire::{backend, frontend};

    #[test]
    fn what_is_written_can_be_read() {
        let mut out = BytesMut::new();
        error_response(&mut out, Severity::Fatal, SqlState::TOO_MANY_CONNECTIONS, "full\0x", "", "wait");
        let head = header(&out, Side::Backend).unwrap().unwrap();
        assert_eq!((head.tag, head.size), (b'E', out.len()));
        let fields = backend::fields(&out[5..]);
        assert_eq!(
            (fields.severity, fields.code, fields.message),
            (&b"FATAL"[..], &b"53300"[..], &b"full"[..])
        );

        out.clear();
        query(&mut out, "SELECT 1");
        assert_eq!(frontend::query(&out[5..]), Some(&b"SELECT 1"[..]));

        out.clear();
        ready_for_query(&mut out, TransactionStatus::Failed);
        assert_eq!(backend::ready_for_query(&out[5..]), Ok(TransactionStatus::Failed));
    }

    #[test]
    fn quoting() {
        assert_eq!(quote_literal("it's"), "'it''s'");
        assert_eq!(quote_literal(r"a\b"), r" E'a\\b'");
    }
}
