//! What a server keeps of a password for SCRAM-SHA-256 (RFC 5802, section 3), and the arithmetic around it.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit, Mac};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

/// PostgreSQL's default of `scram_iterations`.
pub(super) const ITERATIONS: u32 = 4096;

/// The length of the salts made here: `SCRAM_DEFAULT_SALT_LEN` in PostgreSQL.
pub(super) const SALT_LENGTH: usize = 16;

/// A SHA-256 hash or key.
pub(super) type Key = [u8; 32];

/// The verifier of one password: enough to check a client's proof and to sign as the server, not enough to log in.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Verifier {
    /// Rounds of PBKDF2.
    pub(super) iterations: u32,
    /// The salt in base64, as it goes over the wire.
    pub(super) salt: String,
    stored_key: Key,
    server_key: Key,
}

impl Verifier {
    /// Reads `SCRAM-SHA-256$<iterations>:<salt>$<StoredKey>:<ServerKey>` (docs, catalog `pg_authid`).
    pub(super) fn parse(text: &str) -> Option<Self> {
        let (rounds, keys) = text.strip_prefix("SCRAM-SHA-256$")?.split_once('$')?;
        let (iterations, salt) = rounds.split_once(':')?;
        let (stored_key, server_key) = keys.split_once(':')?;
        if salt.is_empty() || !iterations.bytes().all(|byte| byte.is_ascii_digit()) {
            return None;
        }
        STANDARD.decode(salt).ok()?;
        Some(Self {
            iterations: iterations.parse().ok().filter(|rounds| *rounds > 0)?,
            salt: salt.to_owned(),
            stored_key: decode_key(stored_key.as_bytes())?,
            server_key: decode_key(server_key.as_bytes())?,
        })
    }

    /// Makes the verifier of a password. This is the costly step: a millisecond or two.
    pub(super) fn derive(password: &str, salt: &[u8]) -> Self {
        let salted = salted_password(&prepare(password), salt, ITERATIONS);
        Self {
            iterations: ITERATIONS,
            salt: STANDARD.encode(salt),
            stored_key: Sha256::digest(hmac(&salted, b"Client Key")).into(),
            server_key: hmac(&salted, b"Server Key"),
        }
    }

    /// The verifier of nobody, for the exchange with a user who cannot log in: no proof is known to fit it.
    pub(super) fn mock(salt: &[u8], secret: &Key) -> Self {
        let stored_key = hmac(secret, b"mock stored key");
        let server_key = hmac(secret, b"mock server key");
        Self { iterations: ITERATIONS, salt: STANDARD.encode(salt), stored_key, server_key }
    }

    /// Whether the proof was made by one who knows the password: `H(ClientProof XOR ClientSignature) == StoredKey`.
    pub(super) fn proves(&self, message: &[u8], proof: &Key) -> bool {
        let mut client_key = hmac(&self.stored_key, message);
        for (byte, mask) in client_key.iter_mut().zip(proof) {
            *byte ^= mask;
        }
        let stored_key: Key = Sha256::digest(client_key).into();
        stored_key.ct_eq(&self.stored_key).into()
    }

    /// The server's own proof, which a client should check.
    pub(super) fn signature(&self, message: &[u8]) -> Key {
        hmac(&self.server_key, message)
    }
}

/// Reads a key or a proof in base64.
pub(super) fn decode_key(text: &[u8]) -> Option<Key> {
    STANDARD.decode(text).ok()?.try_into().ok()
}

/// HMAC-SHA-256 of one message.
pub(super) fn hmac(key: &[u8], message: &[u8]) -> Key {
    keyed(key).chain_update(message).finalize().into_bytes().into()
}

/// SASLprep where the password allows it, else its bytes as they are: as PostgreSQL and libpq do.
fn prepare(password: &str) -> Vec<u8> {
    match stringprep::saslprep(password) {
        Ok(prepared) => prepared.into_owned().into_bytes(),
        Err(_) => password.as_bytes().to_vec(),
    }
}

/// `Hi` of RFC 5802: PBKDF2 with HMAC-SHA-256 and one block of output.
fn salted_password(password: &[u8], salt: &[u8], iterations: u32) -> Key {
    // Keyed once: hashing the two pads anew in each round would double the cost.
    let keyed = keyed(password);
    let mut last: Key =
        keyed.clone().chain_update(salt).chain_update([0, 0, 0, 1]).finalize().into_bytes().into();
    let mut sum = last;
    for _ in 1..iterations {
        last = keyed.clone().chain_update(last).finalize().into_bytes().into();
        for (byte, mask) in sum.iter_mut().zip(last) {
            *byte ^= mask;
        }
    }
    sum
}

/// An HMAC under a key of any length (RFC 2104: longer than a block is hashed first, shorter is filled with zeros).
fn keyed(key: &[u8]) -> Hmac<Sha256> {
    let mut block = [0; 64];
    let hashed: Key;
    let key = if key.len() > block.len() {
        hashed = Sha256::digest(key).into();
        &hashed
    } else {
        key
    };
    for (place, byte) in block.iter_mut().zip(key) {
        *place = *byte;
    }
    Hmac::new(&block.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 7677, section 3.
    #[test]
    fn the_example_of_the_rfc() {
        let salt = STANDARD.decode("W22ZaJ0SNY7soEsUEjb6gQ==").unwrap();
        let verifier = Verifier::derive("pencil", &salt);
        let message = b"n=user,r=rOprNGfwEbeRWgbNEkqO,\
            r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096,\
            c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0";
        let mut proof = decode_key(b"dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=").unwrap();
        assert!(verifier.proves(message, &proof));
        let signature = STANDARD.encode(verifier.signature(message));
        assert_eq!(signature, "6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=");
        proof[31] ^= 1;
        assert!(!verifier.proves(message, &proof));
    }

    #[test]
    fn reads_what_postgresql_writes() {
        let long = "x".repeat(100);
        for password in ["pencil", "", "\u{1680}IX \u{2168}", "control \u{7}", long.as_str()] {
            let text = postgres_protocol::password::scram_sha_256(password.as_bytes());
            let read = Verifier::parse(&text).unwrap();
            let salt = STANDARD.decode(&read.salt).unwrap();
            assert!(read == Verifier::derive(password, &salt), "{password:?}");
        }
    }

    #[test]
    fn refuses_what_is_no_verifier() {
        let key = STANDARD.encode([7; 32]);
        assert!(Verifier::parse(&format!("SCRAM-SHA-256$4096:c2FsdA==${key}:{key}")).is_some());
        for text in [
            String::new(),
            "SCRAM-SHA-256$".to_owned(),
            format!("SCRAM-SHA-256$0:c2FsdA==${key}:{key}"),
            format!("SCRAM-SHA-256$+1:c2FsdA==${key}:{key}"),
            format!("SCRAM-SHA-256$99999999999:c2FsdA==${key}:{key}"),
            format!("SCRAM-SHA-256$4096:salt!${key}:{key}"),
            format!("SCRAM-SHA-256$4096:${key}:{key}"),
            format!("SCRAM-SHA-256$4096:c2FsdA==${key}:c2hvcnQ="),
            format!("SCRAM-SHA-1$4096:c2FsdA==${key}:{key}"),
        ] {
            assert!(Verifier::parse(&text).is_none(), "{text}");
        }
    }
}
