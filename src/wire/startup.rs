//! The first packet of a client, which has no tag (PostgreSQL docs, chapter 53.2.1).

use std::ops::RangeInclusive;

use super::ProtocolError;
use super::frontend::cstr;
use crate::ids::CancelKey;

/// PostgreSQL's `MAX_STARTUP_PACKET_LENGTH`.
pub const MAX_STARTUP: usize = 10_000;

/// The newest minor version that pgweir speaks with clients. 3.1 was never used; 3.2 has longer secrets in its keys.
pub const NEWEST_MINOR: u16 = 2;

/// How long the secret of a cancel key may be.
pub const SECRET: RangeInclusive<usize> = 4..=256;

const CANCEL: u32 = 80_877_102;
const SSL: u32 = 80_877_103;
const GSSENC: u32 = 80_877_104;

/// What a client opens with.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum First {
    /// "May we speak TLS?"
    Ssl,
    /// "May we encrypt by GSSAPI?"
    Gssenc,
    /// "Cancel what that session is doing."
    Cancel(CancelKey),
    /// "Let me in."
    Startup(Startup),
}

/// A startup packet.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Startup {
    /// The minor version asked for: the major one is 3.
    pub minor: u16,
    /// The parameters in the order they came, without those that begin with `_pq_.`.
    pub parameters: Vec<(String, String)>,
    /// The names of the protocol options (`_pq_.`) asked for: pgweir knows none, and says so.
    pub protocol_options: Vec<String>,
}

impl Startup {
    /// The value of a parameter; of one that was given twice, the last, as PostgreSQL does.
    #[must_use]
    pub fn value(&self, name: &str) -> Option<&str> {
        self.parameters.iter().rev().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }
}

/// The length of the packet at the start of `bytes`; `None` while its length field is not whole.
///
/// # Errors
/// A length that PostgreSQL would refuse.
pub fn size(bytes: &[u8]) -> Result<Option<usize>, ProtocolError> {
    let Some(length) = bytes.first_chunk::<4>() else { return Ok(None) };
    let length = u32::from_be_bytes(*length) as usize;
    if (8..=MAX_STARTUP).contains(&length) {
        Ok(Some(length))
    } else {
        Err(ProtocolError::Startup("its length is impossible"))
    }
}

/// Whether a client that has not opened yet leaves: with a Terminate, as some drivers do that are closed at once.
#[must_use]
pub fn leaves(bytes: &[u8]) -> bool {
    bytes.starts_with(b"X\0\0\0")
}

/// Reads a whole packet, of [`size`] bytes.
///
/// # Errors
/// Bytes that are none of the four packets.
pub fn read(packet: &[u8]) -> Result<First, ProtocolError> {
    let cut = ProtocolError::Startup("it is cut short");
    let word = |at: usize| -> Result<u32, ProtocolError> {
        let bytes = packet.get(at..at + 4).and_then(<[u8]>::first_chunk::<4>).ok_or(cut)?;
        Ok(u32::from_be_bytes(*bytes))
    };
    let code = word(4)?;
    match code {
        SSL | GSSENC if packet.len() != 8 => Err(ProtocolError::Startup("an encryption request has no body")),
        SSL => Ok(First::Ssl),
        GSSENC => Ok(First::Gssenc),
        CANCEL => {
            let secret = packet.get(12..).filter(|secret| SECRET.contains(&secret.len()));
            let secret =
                secret.ok_or(ProtocolError::Startup("a cancel request has a secret of 4 to 256 bytes"))?;
            Ok(First::Cancel(CancelKey { process: word(8)?, secret: secret.into() }))
        }
        _ => startup(code, packet.get(8..).ok_or(cut)?).map(First::Startup),
    }
}

fn startup(version: u32, mut rest: &[u8]) -> Result<Startup, ProtocolError> {
    let (major, minor) = ((version >> 16) as u16, (version & 0xffff) as u16);
    if major != 3 {
        return Err(ProtocolError::Version { major, minor });
    }
    let mut startup = Startup { minor, ..Startup::default() };
    loop {
        let (name, after) = cstr(rest).ok_or(ProtocolError::Startup("it does not end with a zero byte"))?;
        if name.is_empty() {
            return if after.is_empty() {
                Ok(startup)
            } else {
                Err(ProtocolError::Startup("bytes after its end"))
            };
        }
        let (value, after) = cstr(after).ok_or(ProtocolError::Startup("a parameter without a value"))?;
        let text = |bytes: &[u8]| {
            String::from_utf8(bytes.to_vec())
                .map_err(|_| ProtocolError::Startup("a parameter that is not UTF-8"))
        };
        let name = text(name)?;
        if let Some(option) = name.strip_prefix("_pq_.") {
            startup.protocol_options.push(format!("_pq_.{option}"));
        } else {
            startup.parameters.push((name, text(value)?));
        }
        rest = after;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn packet(code: u32, body: &[u8]) -> Vec<u8> {
        let mut packet = ((body.len() + 8) as u32).to_be_bytes().to_vec();
        packet.extend(code.to_be_bytes());
        packet.extend(body);
        packet
    }

    #[test]
    fn the_four_packets() {
        assert_eq!(read(&packet(SSL, b"")), Ok(First::Ssl));
        assert_eq!(read(&packet(GSSENC, b"")), Ok(First::Gssenc));
        for length in [4, 32, 256] {
            let key = CancelKey { process: 7, secret: vec![9; length].into() };
            let body = [&[0, 0, 0, 7][..], &vec![9; length]].concat();
            assert_eq!(read(&packet(CANCEL, &body)), Ok(First::Cancel(key)));
        }
        let startup = packet(0x0003_0002, b"user\0ann\0_pq_.x\x001\0database\0a\0database\0b\0\0");
        let Ok(First::Startup(startup)) = read(&startup) else { panic!("no startup") };
        assert_eq!(
            (startup.minor, startup.value("user"), startup.value("database")),
            (2, Some("ann"), Some("b"))
        );
        assert_eq!(startup.protocol_options, ["_pq_.x"]);
    }

    #[test]
    fn what_is_refused() {
        assert_eq!(read(&packet(0x0002_0000, b"\0")), Err(ProtocolError::Version { major: 2, minor: 0 }));
        assert!(read(&packet(0x0003_0000, b"user\0ann\0")).is_err());
        assert!(read(&packet(0x0003_0000, b"user\0ann\0\0x")).is_err());
        assert!(read(&packet(SSL, b"x")).is_err());
        assert!(read(&packet(CANCEL, &[0; 7])).is_err());
        assert!(read(&packet(CANCEL, &[0; 4 + 257])).is_err());
        assert!(size(&[0, 0, 0, 7]).is_err());
        assert!(size(&[0x7f, 0, 0, 7]).is_err());
    }

    proptest! {
        #[test]
        fn any_bytes(bytes: Vec<u8>) {
            let _ = size(&bytes);
            let _ = read(&bytes);
            let _ = read(&packet(0x0003_0000, &bytes));
        }
    }
}
