//! The messages with which pgweir answers a statement itself: its console, its own settings.

use bytes::{BufMut, BytesMut};

use super::write::{message, text};

/// The number of the type `text` in `pg_type`: its binary form is its text form.
const TEXT: u32 = 25;

/// The number of the type `bool`.
const BOOL: u32 = 16;

/// The number of the type `int4`.
pub const INT4: u32 = 23;

/// A ParseComplete.
pub fn parse_complete(out: &mut BytesMut) {
    message(out, b'1', |_| {});
}

/// A BindComplete.
pub fn bind_complete(out: &mut BytesMut) {
    message(out, b'2', |_| {});
}

/// A CloseComplete.
pub fn close_complete(out: &mut BytesMut) {
    message(out, b'3', |_| {});
}

/// A NoData.
pub fn no_data(out: &mut BytesMut) {
    message(out, b'n', |_| {});
}

/// A ParameterDescription.
pub fn parameter_description(types: &[u32], out: &mut Vec<u8>) {
    let count = u16::try_from(types.len()).unwrap_or(u16::MAX);
    out.push(b't');
    out.extend((6 + 4 * u32::from(count)).to_be_bytes());
    out.extend(count.to_be_bytes());
    types.iter().take(usize::from(count)).for_each(|of| out.extend(of.to_be_bytes()));
}

/// An EmptyQueryResponse.
pub fn empty_query(out: &mut BytesMut) {
    message(out, b'I', |_| {});
}

/// A PortalSuspended.
pub fn portal_suspended(out: &mut BytesMut) {
    message(out, b's', |_| {});
}

/// A ParameterDescription of a statement without parameters.
pub fn no_parameters(out: &mut BytesMut) {
    message(out, b't', |out| out.put_u16(0));
}

/// A RowDescription; all columns are text.
pub fn row_description(out: &mut BytesMut, columns: &[&str]) {
    message(out, b'T', |out| {
        out.put_u16(u16::try_from(columns.len()).unwrap_or(u16::MAX));
        for column in columns {
            // Of varying size.
            described(out, column, (TEXT, -1), false);
        }
    });
}

/// A RowDescription of one column of type `bool`.
pub fn truth_description(out: &mut BytesMut, column: &str, binary: bool) {
    message(out, b'T', |out| {
        out.put_u16(1);
        described(out, column, (BOOL, 1), binary);
    });
}

/// The RowDescription of one column of an `int4`.
pub fn number_description(out: &mut BytesMut, column: &str, binary: bool) {
    message(out, b'T', |out| {
        out.put_u16(1);
        described(out, column, (INT4, 4), binary);
    });
}

/// A DataRow of an `int4`.
pub fn number(out: &mut BytesMut, value: i32, binary: bool) {
    if !binary {
        return data_row(out, &[Some(value.to_string())]);
    }
    message(out, b'D', |out| {
        out.put_u16(1);
        out.put_i32(4);
        out.put_i32(value);
    });
}

/// A column of that type and size.
fn described(out: &mut BytesMut, column: &str, (of, size): (u32, i16), binary: bool) {
    text(out, column);
    // No table and no column of one; a type without a modifier.
    out.put_u32(0);
    out.put_u16(0);
    out.put_u32(of);
    out.put_i16(size);
    out.put_i32(-1);
    out.put_u16(u16::from(binary));
}

/// A DataRow that says true.
pub fn truth(out: &mut BytesMut, binary: bool) {
    message(out, b'D', |out| {
        out.put_u16(1);
        out.put_i32(1);
        out.put_u8(if binary { 1 } else { b't' });
    });
}

/// A DataRow of texts; none is null.
pub fn data_row(out: &mut BytesMut, values: &[Option<String>]) {
    message(out, b'D', |out| {
        out.put_u16(u16::try_from(values.len()).unwrap_or(u16::MAX));
        for value in values {
            match value.as_ref().map(|value| (value, i32::try_from(value.len()))) {
                Some((value, Ok(length))) => {
                    out.put_i32(length);
                    out.extend_from_slice(value.as_bytes());
                }
                Some((_, Err(_))) | None => out.put_i32(-1),
            }
        }
    });
}

/// A CommandComplete.
pub fn command_complete(out: &mut BytesMut, tag: &str) {
    message(out, b'C', |out| text(out, tag));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::backend;
    use crate::wire::frame::{HEADER, Side, header};

    #[test]
    fn a_row_is_as_long_as_it_says() {
        let mut out = BytesMut::new();
        row_description(&mut out, &["a", "b"]);
        let head = header(&out, Side::Backend).unwrap().unwrap();
        assert_eq!((head.tag, head.size, out.len()), (b'T', 5 + 2 + 2 * 20, 47));
        out.clear();
        data_row(&mut out, &[Some("xy".to_owned()), None]);
        let head = header(&out, Side::Backend).unwrap().unwrap();
        assert_eq!((head.tag, head.size), (b'D', out.len()));
        assert_eq!(backend::first_column(&out[HEADER..]), Some(&b"xy"[..]));
    }
}
