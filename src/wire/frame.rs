//! Finding messages in a window of bytes: a tag, and a length that counts itself but not the tag.

use super::ProtocolError;

/// Tag and length field.
pub const HEADER: usize = 5;

/// PostgreSQL's `PQ_LARGE_MESSAGE_LIMIT`: one byte less than the largest allocation (`MaxAllocSize`).
const LARGE: u32 = 0x3fff_fffe;
/// PostgreSQL's `PQ_SMALL_MESSAGE_LIMIT`, for messages that hold a name or nothing.
const SMALL: u32 = 10_000;

/// Which way a message goes: the caps differ.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Side {
    /// From a client.
    Frontend,
    /// From a server.
    Backend,
}

/// The head of a message, found in a window.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Header {
    /// What kind of message.
    pub tag: u8,
    /// The whole message in bytes: tag, length field and body.
    pub size: usize,
}

/// The largest length field that PostgreSQL accepts from a client (`SocketBackend`, backend/tcop/postgres.c); `None`
/// for tags that a client must not send.
fn frontend_limit(tag: u8) -> Option<u32> {
    match tag {
        b'Q' | b'P' | b'B' | b'F' | b'd' => Some(LARGE),
        b'C' | b'D' | b'E' | b'H' | b'S' | b'X' | b'c' | b'f' | b'p' => Some(SMALL),
        _ => None,
    }
}

/// The head of the message at the start of `bytes`; `None` while it is not whole.
///
/// # Errors
/// A tag that this side must not send, or a length that PostgreSQL would not accept. Nothing is reserved for a length
/// before it was checked here.
#[inline]
pub fn header(bytes: &[u8], side: Side) -> Result<Option<Header>, ProtocolError> {
    let Some(&[tag, a, b, c, d]) = bytes.first_chunk::<HEADER>() else {
        return match bytes.first() {
            Some(&tag) if side == Side::Frontend && frontend_limit(tag).is_none() => {
                Err(ProtocolError::Tag(tag))
            }
            _ => Ok(None),
        };
    };
    let length = u32::from_be_bytes([a, b, c, d]);
    let limit = match side {
        Side::Frontend => frontend_limit(tag).ok_or(ProtocolError::Tag(tag))?,
        Side::Backend => i32::MAX as u32,
    };
    if length < 4 {
        return Err(ProtocolError::Length { tag, length });
    }
    if length > limit {
        return Err(ProtocolError::TooLong { tag, length, limit });
    }
    Ok(Some(Header { tag, size: length as usize + 1 }))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn reads_a_head() {
        assert_eq!(header(b"Q\0\0\0\x05\0", Side::Frontend), Ok(Some(Header { tag: b'Q', size: 6 })));
        assert_eq!(header(b"Q\0\0\0", Side::Frontend), Ok(None));
        assert_eq!(header(b"", Side::Backend), Ok(None));
    }

    #[test]
    fn refuses_lengths_that_postgresql_refuses() {
        assert_eq!(
            header(b"Q\0\0\0\x03", Side::Frontend),
            Err(ProtocolError::Length { tag: b'Q', length: 3 })
        );
        assert!(matches!(header(b"S\0\0\x30\0", Side::Frontend), Err(ProtocolError::TooLong { .. })));
        assert!(matches!(header(b"Q\x40\0\0\0", Side::Frontend), Err(ProtocolError::TooLong { .. })));
        assert_eq!(header(b"!", Side::Frontend), Err(ProtocolError::Tag(b'!')));
    }

    proptest! {
        #[test]
        fn never_panics_and_never_goes_below_a_header(bytes: Vec<u8>) {
            for side in [Side::Frontend, Side::Backend] {
                if let Ok(Some(head)) = header(&bytes, side) {
                    prop_assert!(head.size >= HEADER);
                }
            }
        }
    }
}
