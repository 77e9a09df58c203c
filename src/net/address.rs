//! Where a server or a listener is: `host:port`, `[::1]:port`, or the folder of a Unix socket.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

/// PostgreSQL's port, used where none is given.
const DEFAULT_PORT: u16 = 5432;

/// A place to connect to or to listen on.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum Address {
    /// A host name or an IP address, and a port. A name is resolved again for each connection.
    Tcp {
        /// Host name or address, without brackets.
        host: String,
        /// TCP port.
        port: u16,
    },
    /// A Unix socket in `folder`, named `.s.PGSQL.<port>` as PostgreSQL names it.
    Unix {
        /// The folder that holds the socket.
        folder: PathBuf,
        /// The number in the socket's name.
        port: u16,
    },
}

/// Why a text is not an [`Address`].
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum AddressError {
    /// There is nothing before the port.
    #[error("the host is empty")]
    NoHost,
    /// What follows the last colon is not 1 to 65535.
    #[error("`{0}` is not a port (1 to 65535)")]
    Port(String),
    /// An opening bracket without its closing one, or text after it that is no port.
    #[error("an IPv6 address with a port is written [::1]:5432")]
    Bracket,
}

impl Address {
    /// The path of the Unix socket, if it is one.
    #[must_use]
    pub fn socket_path(&self) -> Option<PathBuf> {
        match self {
            Self::Tcp { .. } => None,
            Self::Unix { folder, port } => Some(folder.join(format!(".s.PGSQL.{port}"))),
        }
    }

    /// Whether only this machine can reach it: a Unix socket, `localhost`, or a loopback address.
    #[must_use]
    pub fn is_local(&self) -> bool {
        match self {
            Self::Unix { .. } => true,
            Self::Tcp { host, .. } => {
                host == "localhost" || host.parse::<std::net::IpAddr>().is_ok_and(|ip| ip.is_loopback())
            }
        }
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp { host, port } if host.contains(':') => write!(f, "[{host}]:{port}"),
            Self::Tcp { host, port } => write!(f, "{host}:{port}"),
            Self::Unix { folder, port } => write!(f, "{}:{port}", folder.display()),
        }
    }
}

fn port_of(text: &str) -> Result<u16, AddressError> {
    text.parse().ok().filter(|port| *port != 0).ok_or_else(|| AddressError::Port(text.to_owned()))
}

impl FromStr for Address {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, AddressError> {
        if text.starts_with('/') {
            return Ok(match text.rsplit_once(':') {
                Some((folder, port)) => Self::Unix { folder: folder.into(), port: port_of(port)? },
                None => Self::Unix { folder: text.into(), port: DEFAULT_PORT },
            });
        }
        let (host, port) = if let Some(rest) = text.strip_prefix('[') {
            let (host, rest) = rest.split_once(']').ok_or(AddressError::Bracket)?;
            match rest.strip_prefix(':') {
                Some(port) => (host, port_of(port)?),
                None if rest.is_empty() => (host, DEFAULT_PORT),
                None => return Err(AddressError::Bracket),
            }
        } else {
            match text.split_once(':') {
                // More than one colon and no brackets: a bare IPv6 address.
                Some((_, rest)) if rest.contains(':') => (text, DEFAULT_PORT),
                Some((host, port)) => (host, port_of(port)?),
                None => (text, DEFAULT_PORT),
            }
        };
        if host.is_empty() {
            return Err(AddressError::NoHost);
        }
        Ok(Self::Tcp { host: host.to_owned(), port })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_it_prints() {
        for text in ["10.0.0.1:5432", "[::1]:6432", "db.example:1", "/run/postgresql:5433"] {
            assert_eq!(text.parse::<Address>().unwrap().to_string(), text);
        }
        assert_eq!("::1".parse::<Address>().unwrap().to_string(), "[::1]:5432");
        assert_eq!(
            "/tmp".parse::<Address>().unwrap().socket_path().unwrap().to_str(),
            Some("/tmp/.s.PGSQL.5432")
        );
    }

    #[test]
    fn says_what_is_wrong() {
        assert_eq!(":1".parse::<Address>(), Err(AddressError::NoHost));
        assert_eq!("a:b".parse::<Address>(), Err(AddressError::Port("b".into())));
        assert_eq!("a:0".parse::<Address>(), Err(AddressError::Port("0".into())));
        assert_eq!("[::1".parse::<Address>(), Err(AddressError::Bracket));
    }
}
