//! A name for a shape that is the same in every process, to be written into a configuration.

use super::lex::{Kind, Lexer};

/// 64 bits of FNV-1a over the tokens, words folded, literals and parameters as `?`, comments and blanks left out. Not for
/// security: anybody can make two texts of one fingerprint.
#[must_use]
pub fn fingerprint(text: &[u8]) -> u64 {
    let mut hash = Fnv(0xcbf2_9ce4_8422_2325);
    for token in Lexer::new(text) {
        let raw = text.get(token.start..token.end).unwrap_or_default();
        match token.kind {
            Kind::Space | Kind::Comment | Kind::Semicolon => continue,
            Kind::String | Kind::Number | Kind::Param => hash.add(b"?"),
            Kind::Word => raw.iter().for_each(|byte| hash.add(&[byte.to_ascii_lowercase()])),
            _ => hash.add(raw),
        }
        hash.add(b" ");
    }
    hash.0
}

struct Fnv(u64);

impl Fnv {
    fn add(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = (self.0 ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::fingerprint;

    #[test]
    fn literals_comments_blanks_and_case_do_not_matter() {
        let one = fingerprint(b"SELECT a FROM t WHERE id = 1 AND b = 'x'");
        assert_eq!(one, fingerprint(b"select  a -- c\n from T where ID=$1 and b = E'y' ;"));
        assert_ne!(one, fingerprint(b"SELECT a FROM u WHERE id = 1 AND b = 'x'"));
        // Written into configurations: it must stay what it is.
        assert_eq!(format!("{:016x}", fingerprint(b"SELECT 1")), "6beb5f1ac7f479e8");
    }
}
