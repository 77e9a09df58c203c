//! A name as PostgreSQL compares it.

use super::lex::{Kind, Token};

/// The longest name that PostgreSQL keeps whole (NAMEDATALEN - 1).
const NAME_LIMIT: usize = 63;

/// A name folded to lower case, or taken out of its quotes, in a buffer on the stack.
pub(super) struct Folded {
    bytes: [u8; NAME_LIMIT],
    length: usize,
}

impl Folded {
    /// Empty for what is longer than any name PostgreSQL keeps.
    pub(super) fn new(text: &[u8], token: Token) -> Folded {
        let mut folded = Folded { bytes: [0; NAME_LIMIT], length: 0 };
        let raw = text.get(token.start..token.end).unwrap_or_default();
        match token.kind {
            Kind::Word => {
                if let Some(place) = folded.bytes.get_mut(..raw.len()) {
                    place.copy_from_slice(raw);
                    place.make_ascii_lowercase();
                    folded.length = raw.len();
                }
            }
            Kind::Quoted => {
                let inside = raw.get(1..raw.len().saturating_sub(1)).unwrap_or_default();
                let mut quote = false;
                for &byte in inside {
                    quote = byte == b'"' && !quote;
                    if quote {
                        continue;
                    }
                    let Some(place) = folded.bytes.get_mut(folded.length) else {
                        folded.length = 0;
                        break;
                    };
                    *place = byte;
                    folded.length += 1;
                }
            }
            _ => {}
        }
        folded
    }

    /// A comma, which no name is.
    pub(super) fn comma() -> Folded {
        Folded { bytes: [b','; NAME_LIMIT], length: 1 }
    }

    #[inline]
    pub(super) fn as_bytes(&self) -> &[u8] {
        self.bytes.get(..self.length).unwrap_or_default()
    }
}

impl PartialEq for Folded {
    /// Names that are too long are equal to nothing.
    fn eq(&self, other: &Folded) -> bool {
        self.length > 0 && self.as_bytes() == other.as_bytes()
    }
}
