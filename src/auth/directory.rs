//! The users, and the challenge that each of them gets.

use std::collections::HashMap;
use std::sync::{Arc, OnceLock};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use super::challenge::Challenge;
use super::md5;
use super::options::{AuthType, Options, Secret};
use super::rejection::Rejection;
use super::verifier::{Key, SALT_LENGTH, Verifier, hmac};

/// As many random bytes as PostgreSQL puts into a nonce (`SCRAM_RAW_NONCE_LEN`): 24 characters in base64.
const NONCE_BYTES: usize = 18;

/// Who may come in. Built once from [`Options`], shared by all logins.
pub struct Directory {
    auth_type: AuthType,
    users: HashMap<Arc<str>, Entry>,
    /// From this come the salts of users without a verifier of their own, listed or not: the same at each login, and
    /// nothing tells the one from the other (RFC 5802, section 9; `mock_scram_secret` in PostgreSQL).
    mock_key: Key,
}

struct Entry {
    secret: Secret,
    /// Made or read when first needed: making one costs a millisecond or two, and a login storm must not pay it each time.
    verifier: OnceLock<Result<Arc<Verifier>, Rejection>>,
}

impl Directory {
    /// A directory of these users.
    #[must_use]
    pub fn new(options: Options) -> Self {
        let users = options.users.into_iter().map(|(user, secret)| (user, Entry::new(secret))).collect();
        Self { auth_type: options.auth_type, users, mock_key: rand::random() }
    }

    /// A directory for new options that keeps what this one has worked out, and its salts: for a reload.
    #[must_use]
    pub fn renewed(&self, options: Options) -> Self {
        let keep = |(user, secret): (Arc<str>, Secret)| match self.users.get(&user) {
            Some(entry) if entry.secret == secret => {
                (user, Entry { secret, verifier: entry.verifier.clone() })
            }
            Some(_) | None => (user, Entry::new(secret)),
        };
        let users = options.users.into_iter().map(keep).collect();
        Self { auth_type: options.auth_type, users, mock_key: self.mock_key }
    }

    /// How clients prove who they are.
    #[must_use]
    pub fn auth_type(&self) -> AuthType {
        self.auth_type
    }

    /// What is known of a user's password.
    #[must_use]
    pub fn secret(&self, user: &str) -> Option<&Secret> {
        self.users.get(user).map(|entry| &entry.secret)
    }

    /// A login of this user.
    #[must_use]
    pub fn challenge(&self, user: &str) -> Challenge {
        let entry = self.users.get(user);
        match (self.auth_type, entry.map(|entry| &entry.secret)) {
            (AuthType::Trust, _) => Challenge::trust(),
            (AuthType::Md5, None) => mock_md5(Rejection::UnknownUser),
            (AuthType::Md5, Some(Secret::Plain(password))) if password.is_empty() => {
                mock_md5(Rejection::SecretUnusable)
            }
            (AuthType::Md5, Some(Secret::Plain(password))) => ask_md5(md5::stored(user, password)),
            (AuthType::Md5, Some(Secret::Md5(stored))) if md5::is_stored(stored) => ask_md5(stored.clone()),
            (AuthType::Md5, Some(Secret::Md5(_))) => mock_md5(Rejection::SecretUnusable),
            (AuthType::Md5, Some(Secret::Scram(_))) | (AuthType::ScramSha256, _) => {
                self.ask_scram(user, entry)
            }
        }
    }

    fn ask_scram(&self, user: &str, entry: Option<&Entry>) -> Challenge {
        let nonce = STANDARD.encode(rand::random::<[u8; NONCE_BYTES]>());
        let verifier = match entry {
            Some(entry) => entry.verifier(|| self.salt(user)),
            None => Err(Rejection::UnknownUser),
        };
        match verifier {
            Ok(verifier) => Challenge::scram(verifier, nonce, None),
            Err(doom) => {
                let mock = Verifier::mock(&self.salt(user), &self.mock_key);
                Challenge::scram(Arc::new(mock), nonce, Some(doom))
            }
        }
    }

    fn salt(&self, user: &str) -> [u8; SALT_LENGTH] {
        let mut salt = [0; SALT_LENGTH];
        for (place, byte) in salt.iter_mut().zip(hmac(&self.mock_key, user.as_bytes())) {
            *place = byte;
        }
        salt
    }
}

impl Entry {
    fn new(secret: Secret) -> Self {
        Self { secret, verifier: OnceLock::new() }
    }

    fn verifier(&self, salt: impl Fn() -> [u8; SALT_LENGTH]) -> Result<Arc<Verifier>, Rejection> {
        let make = || match &self.secret {
            Secret::Plain(password) if password.is_empty() => Err(Rejection::SecretUnusable),
            Secret::Plain(password) => Ok(Arc::new(Verifier::derive(password, &salt()))),
            Secret::Scram(text) => Verifier::parse(text).map(Arc::new).ok_or(Rejection::SecretUnusable),
            Secret::Md5(_) => Err(Rejection::SecretIsMd5),
        };
        self.verifier.get_or_init(make).clone()
    }
}

fn ask_md5(stored: String) -> Challenge {
    Challenge::md5(stored, rand::random(), None)
}

fn mock_md5(doom: Rejection) -> Challenge {
    Challenge::md5(String::new(), rand::random(), Some(doom))
}
