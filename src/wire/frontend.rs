//! Borrowed views of what clients send (PostgreSQL docs, chapter 53.7). Each takes the message's body, which may be cut
//! short when the message is longer than the window: names stand at the front, so they are found all the same.

use memchr::memchr;

/// The text up to the next zero byte, and what follows it.
#[must_use]
pub fn cstr(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let end = memchr(0, bytes)?;
    Some((bytes.get(..end)?, bytes.get(end + 1..)?))
}

/// What a Describe or a Close names.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Named<'a> {
    /// A prepared statement.
    Statement(&'a [u8]),
    /// A portal.
    Portal(&'a [u8]),
}

/// The text of a Query: all of the body but the closing zero.
#[must_use]
pub fn query(body: &[u8]) -> Option<&[u8]> {
    let (text, rest) = cstr(body)?;
    rest.is_empty().then_some(text)
}

/// Name and text of a Parse.
#[must_use]
pub fn parse(body: &[u8]) -> Option<(&[u8], &[u8])> {
    let (name, rest) = cstr(body)?;
    let (text, _types) = cstr(rest)?;
    Some((name, text))
}

/// What follows the text of a Parse: the types of its parameters.
#[must_use]
pub fn parse_tail(body: &[u8]) -> Option<&[u8]> {
    Some(cstr(cstr(body)?.1)?.1)
}

/// The types that a Parse gives its parameters; 0 for those that it leaves to the server.
pub fn parameter_types(body: &[u8]) -> impl Iterator<Item = u32> + '_ {
    let types = cstr(body).and_then(|(_, rest)| Some(cstr(rest)?.1.get(2..)?.as_chunks().0));
    types.into_iter().flatten().map(|oid| u32::from_be_bytes(*oid))
}

/// The name of a Parse, also when its text is cut short.
#[must_use]
pub fn parse_name(body: &[u8]) -> Option<&[u8]> {
    Some(cstr(body)?.0)
}

/// Portal and statement of a Bind.
#[must_use]
pub fn bind(body: &[u8]) -> Option<(&[u8], &[u8])> {
    let (portal, rest) = cstr(body)?;
    let (statement, _values) = cstr(rest)?;
    Some((portal, statement))
}

/// How many values a Bind gives.
#[must_use]
pub fn bind_values(body: &[u8]) -> Option<u16> {
    let (_, rest) = cstr(cstr(body)?.1)?;
    let (formats, rest) = rest.split_first_chunk()?;
    let skipped = rest.get(2 * usize::from(u16::from_be_bytes(*formats))..)?;
    Some(u16::from_be_bytes(*skipped.first_chunk()?))
}

/// A value of a Bind: whether it is in binary form, and its bytes; none for null.
pub type Bound<'a> = (bool, Option<&'a [u8]>);

/// The values of a Bind.
#[must_use]
pub fn bind_parameters(body: &[u8]) -> Option<Vec<Bound<'_>>> {
    let (_, rest) = cstr(cstr(body)?.1)?;
    let (count, rest) = rest.split_first_chunk()?;
    let (formats, rest) = rest.split_at_checked(2 * usize::from(u16::from_be_bytes(*count)))?;
    let formats: Vec<bool> = formats.as_chunks().0.iter().map(|format| *format == [0, 1]).collect();
    let (count, mut rest) = rest.split_first_chunk()?;
    let mut values = Vec::new();
    for nth in 0..usize::from(u16::from_be_bytes(*count)) {
        let (size, after) = rest.split_first_chunk()?;
        let size = usize::try_from(i32::from_be_bytes(*size)).ok();
        let (value, after) = after.split_at_checked(size.unwrap_or(0))?;
        let binary = match formats.as_slice() {
            [] => false,
            [all] => *all,
            each => *each.get(nth)?,
        };
        values.push((binary, size.map(|_| value)));
        rest = after;
    }
    Some(values)
}

/// What a Bind says of the forms of columns, behind its values.
fn column_forms(body: &[u8]) -> Option<&[u8]> {
    let (_, rest) = cstr(cstr(body)?.1)?;
    let (formats, rest) = rest.split_first_chunk()?;
    let rest = rest.get(2 * usize::from(u16::from_be_bytes(*formats))..)?;
    let (count, mut rest) = rest.split_first_chunk()?;
    for _ in 0..u16::from_be_bytes(*count) {
        let (size, after) = rest.split_first_chunk()?;
        rest = after.get(usize::try_from(i32::from_be_bytes(*size)).unwrap_or(0)..)?;
    }
    Some(rest)
}

/// For how many columns a Bind names the form; up to one stands for all that there are.
#[must_use]
pub fn bind_columns(body: &[u8]) -> Option<u16> {
    Some(u16::from_be_bytes(*column_forms(body)?.first_chunk()?))
}

/// Whether a Bind wants the first column in binary form.
#[must_use]
pub fn binds_binary(body: &[u8]) -> bool {
    // Behind how many there are.
    column_forms(body).and_then(|forms| forms.get(2..4)) == Some(&[0, 1])
}

/// Portal of an Execute, and the most rows that it wants; 0: all.
#[must_use]
pub fn execute(body: &[u8]) -> Option<(&[u8], u32)> {
    let (portal, rest) = cstr(body)?;
    Some((portal, u32::from_be_bytes(rest.try_into().ok()?)))
}

/// The number of the function that a FunctionCall names, and its second argument, if that is an integer of four bytes in binary.
#[must_use]
pub fn called(body: &[u8]) -> Option<(u32, Option<u32>)> {
    let (function, rest) = body.split_first_chunk::<4>()?;
    let (count, rest) = rest.split_first_chunk::<2>()?;
    let count = usize::from(u16::from_be_bytes(*count));
    let (formats, rest) = rest.split_at_checked(2 * count)?;
    // One format is that of all arguments; none: text.
    let format = if count == 1 { formats.get(..2) } else { formats.get(2..4) };
    let second = || {
        let (_, rest) = rest.split_first_chunk::<2>()?;
        let (size, rest) = rest.split_first_chunk::<4>()?;
        let rest = rest.get(usize::try_from(u32::from_be_bytes(*size)).ok()?..)?;
        let (size, rest) = rest.split_first_chunk::<4>()?;
        let value = rest.first_chunk::<4>().filter(|_| *size == 4_u32.to_be_bytes())?;
        Some(u32::from_be_bytes(*value))
    };
    Some((u32::from_be_bytes(*function), second().filter(|_| format == Some(&[0, 1]))))
}

/// What a Describe or a Close is about.
#[must_use]
pub fn named(body: &[u8]) -> Option<Named<'_>> {
    let (kind, rest) = body.split_first()?;
    let (name, end) = cstr(rest)?;
    match (kind, end.is_empty()) {
        (b'S', true) => Some(Named::Statement(name)),
        (b'P', true) => Some(Named::Portal(name)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_texts() {
        assert_eq!(query(b"SELECT 1\0"), Some(&b"SELECT 1"[..]));
        assert_eq!(query(b"SELECT 1"), None);
        assert_eq!(query(b"a\0b\0"), None);
        assert_eq!(parse(b"s1\0SELECT $1\0\0\0"), Some((&b"s1"[..], &b"SELECT $1"[..])));
        let types = |body| parameter_types(body).collect::<Vec<_>>();
        assert_eq!(types(b"s1\0SELECT $1\0\0\x02\0\0\0\x17\0\0\x40\0"), [23, 16_384]);
        assert_eq!(types(b"s1\0SELECT $1\0\0\0"), [0u32; 0]);
        assert_eq!(types(b"s1\0SELECT $1\0\0"), [0u32; 0]);
        assert_eq!(parse_name(b"s1\0SELE"), Some(&b"s1"[..]));
        assert_eq!(bind(b"\0s1\0\0\0"), Some((&b""[..], &b"s1"[..])));
        assert_eq!(bind_values(b"\0s1\0\0\x01\0\x01\0\x02\0\0"), Some(2));
        assert_eq!(bind_values(b"\0s1\0\0\x01\0\x01\0"), None);
        assert_eq!(
            bind_columns(b"\0s1\0\0\x01\0\x01\0\x02\xff\xff\xff\xff\0\0\0\x01x\0\x03\0\0\0\0\0\0"),
            Some(3)
        );
        assert_eq!(bind_columns(b"\0s1\0\0\0\0\x01\0\0\0\x05x\0\x03"), None);
        assert_eq!(execute(b"p\0\0\0\x01\0"), Some((&b"p"[..], 256)));
        assert_eq!(execute(b"p\0\0\0"), None);
        assert_eq!(named(b"Ss1\0"), Some(Named::Statement(b"s1")));
        assert_eq!(named(b"P\0"), Some(Named::Portal(b"")));
        assert_eq!(named(b"X\0"), None);
        assert_eq!(named(b""), None);
    }
}
