//! Texts to values: durations, addresses, secrets, log levels. Pure; no complaint repeats a secret.

use std::net::SocketAddr;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;

use super::complaint::Wrong;
use crate::auth::Secret;
use crate::net::{Address, AddressError};

/// pgweir's own port, used in `listen` where none is given.
const LISTEN_PORT: u16 = 6432;

/// The units of a duration, as they are written, in milliseconds. `ms` before `s` and `m`: the longest ending counts.
const UNITS: [(&str, u64); 4] = [("ms", 1), ("s", 1000), ("m", 60_000), ("h", 3_600_000)];

/// `250ms`, `1s`, `5m`, `1h`.
pub(super) fn duration(text: &str) -> Result<Duration, Wrong> {
    let wrong = || {
        Wrong::new("is not a duration")
            .hint("write a whole number and a unit: \"250ms\", \"1s\", \"5m\" or \"1h\"")
    };
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let unit = text.get(digits.len()..).unwrap_or_default();
    let (_, millis) = UNITS.iter().find(|(name, _)| *name == unit).ok_or_else(wrong)?;
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(wrong());
    }
    let total = digits.parse::<u64>().ok().and_then(|number| number.checked_mul(*millis));
    total.map(Duration::from_millis).ok_or_else(|| Wrong::new("is too long a time"))
}

/// A duration as it would be written, in the largest unit that keeps it whole.
pub(super) fn written(duration: Duration) -> String {
    let total = u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
    if total == 0 {
        return "0s".to_owned();
    }
    let largest = UNITS.iter().rev().find(|(_, millis)| total.is_multiple_of(*millis));
    largest.map_or_else(|| format!("{total}ms"), |(name, millis)| format!("{}{name}", total / millis))
}

/// Where a server is.
pub(super) fn server(text: &str) -> Result<Address, Wrong> {
    address(text, "10.0.0.1:5432")
}

/// Where to listen: as [`server`], but the port is 6432 where none is given.
pub(super) fn listen(text: &str) -> Result<Address, Wrong> {
    // Port 0: any free one, which the log names.
    let (typed, free) = match text.strip_suffix(":0") {
        Some(host) => (format!("{host}:1"), true),
        None => (text.to_owned(), false),
    };
    let mut found =
        address(&typed, "127.0.0.1:6432").map_err(|wrong| match text.strip_prefix([':', '*']) {
            Some(_) => {
                Wrong { hint: Some("every interface is 0.0.0.0:6432 or [::]:6432".to_owned()), ..wrong }
            }
            None => wrong,
        })?;
    let (Address::Tcp { port, .. } | Address::Unix { port, .. }) = &mut found;
    if free {
        *port = 0;
    } else if !text.ends_with(&format!(":{port}")) {
        *port = LISTEN_PORT;
    }
    Ok(found)
}

/// What was typed is not repeated: people paste URLs, connection strings and lines of `.pgpass`, passwords and all.
fn address(text: &str, example: &str) -> Result<Address, Wrong> {
    let hint = format!("write host and port, as in {example}");
    if text.contains("://") || text.contains('@') {
        return Err(Wrong::new("is a URL, not an address").hint(hint));
    }
    if text.contains('=') {
        return Err(Wrong::new("is a connection string, not an address").hint(hint));
    }
    let fault = match text.parse() {
        Ok(Address::Tcp { host, .. }) if !is_host(&host) => "the host is neither a name nor an IP address",
        Ok(address) => return Ok(address),
        Err(AddressError::NoHost) => "the host is empty",
        Err(AddressError::Port(_)) => "the port is not a number from 1 to 65535",
        Err(AddressError::Bracket) => {
            let fault = "is not an address: its brackets are wrong";
            return Err(Wrong::new(fault).hint("an IPv6 address with a port is written [::1]:5432"));
        }
    };
    Err(Wrong::new(format!("is not an address: {fault}")).hint(hint))
}

/// Whether a text can be the name or the IP address of a host. An IPv6 address may name its interface (`fe80::1%eth0`).
fn is_host(text: &str) -> bool {
    let of_a_name = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_');
    if text.contains(':') {
        let ip = text.split_once('%').map_or(text, |(ip, _)| ip);
        return ip.parse::<std::net::Ipv6Addr>().is_ok();
    }
    // Only digits and dots: an IPv4 address or a slip.
    if text.chars().all(|c| c.is_ascii_digit() || c == '.') {
        return text.parse::<std::net::Ipv4Addr>().is_ok();
    }
    !text.is_empty() && text.chars().all(of_a_name)
}

/// Where metrics are served: an IP address and a port, or `off`.
pub(super) fn metrics(text: &str) -> Result<Option<SocketAddr>, Wrong> {
    if text == "off" {
        return Ok(None);
    }
    let wrong = || {
        Wrong::new("is not an IP address and a port")
            .hint("write one as in \"127.0.0.1:9432\", or \"off\" for no metrics")
    };
    text.parse::<SocketAddr>().map(Some).map_err(|_| wrong())
}

/// A level, or comma-separated `level` and `module=level`, as `tracing` reads them. A word that is no level would be a
/// module to `tracing`; here it is a mistake.
pub(super) fn level(text: &str) -> Result<(), Wrong> {
    const LEVELS: [&str; 6] = ["error", "warn", "info", "debug", "trace", "off"];
    for part in text.split(',') {
        let level = part.rsplit_once('=').map_or(part, |(_, level)| level);
        if part.starts_with('=') || !LEVELS.contains(&level) {
            let list = LEVELS.join(", ");
            let hint = format!("levels are {list}; one module's is written pgweir::route=debug");
            return Err(Wrong::new(format!("`{level}` is not a level")).hint(hint));
        }
    }
    Ok(())
}

/// The name of a function, with its schema or without.
pub(super) fn function(text: &str) -> Result<(), Wrong> {
    let hint = "write the bare name, with its schema if you like: \"app.visits\"";
    if text.is_empty() || text.contains(|c: char| c.is_whitespace() || matches!(c, '(' | ')' | ',' | ';')) {
        return Err(Wrong::new("is not the name of a function").hint(hint));
    }
    Ok(())
}

/// A password, or what `pg_authid` has in its place, told apart as PostgreSQL does (`get_password_type`): by its
/// beginning. What begins like a verifier or a hash and is none is a mistake, not a password.
pub(super) fn secret(text: String) -> Result<Secret, Wrong> {
    if text.is_empty() {
        return Err(Wrong::new("is empty"));
    }
    if let Some(rest) = text.strip_prefix("SCRAM-SHA-256$") {
        return scram_fault(rest).map_or(Ok(Secret::Scram(text)), |fault| {
            Err(Wrong::new(format!("is not a SCRAM verifier: {fault}"))
                .hint("the form is SCRAM-SHA-256$<iterations>:<salt>$<StoredKey>:<ServerKey>"))
        });
    }
    if let Some(rest) = text.strip_prefix("md5") {
        let hex = rest.bytes().all(|byte| byte.is_ascii_hexdigit());
        if rest.len() == 32 && hex {
            return Ok(Secret::Md5(text));
        }
        // A hash that lost a digit, or has a wrong one. Shorter texts are passwords that happen to begin with md5.
        if rest.len() == 32 || (hex && rest.len() > 20) {
            return Err(Wrong::new("is not an md5 hash").hint("the form is md5 and 32 hexadecimal digits"));
        }
    }
    Ok(Secret::Plain(text))
}

/// What is wrong with a SCRAM verifier, after its prefix.
fn scram_fault(rest: &str) -> Option<&'static str> {
    let is_key = |text: &str| BASE64.decode(text).is_ok_and(|key| key.len() == 32);
    let Some((head, keys)) = rest.split_once('$') else { return Some("it has no keys") };
    let Some((iterations, salt)) = head.split_once(':') else { return Some("it has no salt") };
    let Some((stored, server)) = keys.split_once(':') else { return Some("it has one key, not two") };
    if !iterations.parse::<u32>().is_ok_and(|number| number > 0) {
        return Some("the iterations are not a number above 0");
    }
    if !BASE64.decode(salt).is_ok_and(|salt| !salt.is_empty()) {
        return Some("the salt is not base64");
    }
    if !is_key(stored) {
        return Some("the StoredKey is not 32 bytes in base64");
    }
    (!is_key(server)).then_some("the ServerKey is not 32 bytes in base64")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations() {
        for (text, millis) in
            [("250ms", 250), ("1s", 1000), ("5m", 300_000), ("1h", 3_600_000), ("0s", 0), ("007s", 7000)]
        {
            assert_eq!(duration(text), Ok(Duration::from_millis(millis)), "{text}");
        }
        for text in ["", "5", "s", "1.5s", "-1s", "+1s", "1 s", "1S", "1min", "5m ", "1h30m", "٣s", "1d"] {
            assert_eq!(
                duration(text).map_err(|wrong| wrong.message),
                Err("is not a duration".into()),
                "{text}"
            );
        }
        for text in ["99999999999999999999s", "18446744073709551615h"] {
            assert_eq!(duration(text).map_err(|w| w.message), Err("is too long a time".into()), "{text}");
        }
    }

    #[test]
    fn durations_are_written_as_they_are_read() {
        for text in ["250ms", "1s", "90s", "5m", "1h", "36h", "0s"] {
            assert_eq!(duration(text).map(written), Ok(text.to_owned()));
        }
    }

    #[test]
    fn addresses() {
        for (text, meant) in [
            ("10.0.0.1", "10.0.0.1:5432"),
            ("[::1]:1", "[::1]:1"),
            ("db_1.local:1", "db_1.local:1"),
            ("/tmp", "/tmp:5432"),
        ] {
            assert_eq!(server(text).map(|address| address.to_string()), Ok(meant.to_owned()));
        }
        for text in ["", ":1", "a b:1", "10.0.0:1", "10.0.0.256", "a:b:c", "postgres://u:p@h", "h:99999"] {
            assert!(server(text).is_err(), "{text}");
        }
        assert_eq!(listen("::").map(|address| address.to_string()), Ok("[::]:6432".to_owned()));
        assert_eq!(
            listen("/run/pgweir").map(|address| address.to_string()),
            Ok("/run/pgweir:6432".to_owned())
        );
        assert_eq!(
            listen("localhost:5432").map(|address| address.to_string()),
            Ok("localhost:5432".to_owned())
        );
    }

    #[test]
    fn secrets_are_told_apart() {
        let scram = "SCRAM-SHA-256$4096:YWJjZA==$AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=:\
                     AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=";
        let md5 = "md50123456789abcdef0123456789ABCDEF";
        assert_eq!(secret(scram.into()), Ok(Secret::Scram(scram.into())));
        assert_eq!(secret(md5.into()), Ok(Secret::Md5(md5.into())));
        for plain in ["x", "md5", "md5 is weak", "md5abc", "SCRAM-SHA-256", "scram-sha-256$"] {
            assert_eq!(secret(plain.into()), Ok(Secret::Plain(plain.into())));
        }
        for bad in
            ["", "SCRAM-SHA-256$x", &scram[..90], &md5[..34], &format!("{md5}0"), &md5.replace('7', "g")]
        {
            let wrong = secret(bad.to_owned()).map_err(|wrong| format!("{} {:?}", wrong.message, wrong.hint));
            assert!(wrong.is_err_and(|said| bad.is_empty() || !said.contains(bad)), "{bad}");
        }
    }

    #[test]
    fn levels() {
        for good in ["info", "off", "info,pgweir::route=debug", "pgweir=trace"] {
            assert_eq!(level(good), Ok(()), "{good}");
        }
        for bad in ["", "inof", "info,", "=info", "pgweir=", "INFO", "info,pgweir=loud"] {
            assert!(level(bad).is_err(), "{bad}");
        }
    }
}
