//! The MD5 challenge (docs, chapter "Message Formats", AuthenticationMD5Password), and the hash that `pg_authid` holds.

use md5::{Digest, Md5};
use subtle::ConstantTimeEq;

/// The hash that stands for a user's password: `md5` and the hex of MD5(password, user).
pub(super) fn stored(user: &str, password: &str) -> String {
    hex(Md5::new().chain_update(password).chain_update(user))
}

/// Whether the text is such a hash, as PostgreSQL's `get_password_type` decides it.
pub(super) fn is_stored(text: &str) -> bool {
    text.strip_prefix("md5").is_some_and(|hex| {
        hex.len() == 32 && hex.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
    })
}

/// The answer to a challenge: `md5` and the hex of MD5(hex of the stored hash, salt).
pub(super) fn response(stored: &str, salt: [u8; 4]) -> String {
    let hash = stored.strip_prefix("md5").unwrap_or(stored);
    hex(Md5::new().chain_update(hash).chain_update(salt))
}

/// Whether the answer is the right one, in a time that says nothing about how far it is right.
pub(super) fn answers(stored: &str, salt: [u8; 4], answer: &[u8]) -> bool {
    response(stored, salt).as_bytes().ct_eq(answer).into()
}

fn hex(hash: Md5) -> String {
    use std::fmt::Write;
    hash.finalize().iter().fold(String::from("md5"), |mut text, byte| {
        // Writing to a String cannot fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn agrees_with_postgres_protocol() {
        let stored = stored("md5_user", "password");
        assert_eq!(stored, postgres_protocol::password::md5(b"password", "md5_user"));
        assert!(is_stored(&stored));
        let salt = [0x2a, 0x3d, 0x8f, 0xe0];
        assert_eq!(response(&stored, salt), "md562af4dd09bbb41884907a838a3233294");
        assert!(answers(&stored, salt, b"md562af4dd09bbb41884907a838a3233294"));
        assert!(!answers(&stored, salt, b"md562af4dd09bbb41884907a838a3233295"));
        assert!(!answers(&stored, salt, b""));
    }

    #[test]
    fn tells_a_hash_from_a_password() {
        assert!(!is_stored("md5"));
        assert!(!is_stored("md5secret"));
        assert!(!is_stored("md562AF4DD09BBB41884907A838A3233294"));
    }
}
